// One upload over several SFTP channels. A server lets a channel send so many bytes at a time (2 MiB with OpenSSH), so over
// distance one channel carries a window a round trip, however fast the link. Channels are added while the window is what
// limits, twice as many each time, and a server that gives no more (MaxSessions) is no error: those that are there go on.
// Every lane has the same file open; writes carry their offset, so it does not matter which one takes them. What is asked
// for once (truncation, attributes, fsync, the name) stays with the first. Knows SFTP clients, not how they are connected.

import type { CallOptions } from './client-session.ts'
import type { RemoteFile, StartedWrite } from './file.ts'

/** What a lane needs of an SFTP client. */
export interface LaneClient {
  open(path: string, flags: { write: true }, options: CallOptions): Promise<RemoteFile>
  close(): Promise<void>
}

/** What the one who asks for a channel can do with. */
export interface ChannelWish {
  /** The client may be given out before the server has answered (`SftpClient.begin`): files will only be opened and written. */
  readonly mayBeUnopened?: boolean
}

export interface LaneOptions {
  /**
   * Opens one more SFTP channel to the same server as the same user; see `sftpChannels`. With it an upload over distance
   * uses several at once. What it gives is closed by whoever asked for it; where it rejects there are no more.
   */
  openChannel?: ((wanted?: ChannelWish) => Promise<LaneClient>) | undefined
  /** Channels of one upload at most, the first included. Default 8. */
  maxChannels?: number | undefined
}

interface Lane {
  readonly file: RemoteFile
  /** Undefined for the first, which belongs to the caller. */
  readonly client: LaneClient | undefined
  unacknowledgedBytes: number
}

export const defaultMaxChannels = 8
/** Below this round trip a window is refilled faster than anybody can use it up, in milliseconds. */
const farMs = 4
/** From this round trip on opening takes so long that all lanes are opened at once, in milliseconds. */
export const veryFarMs = 20

export class UploadLanes {
  readonly #lanes: Lane[]
  readonly #options: LaneOptions & CallOptions
  readonly #maxLanes: number
  /** Lanes being opened; never rejects. */
  #opening: Promise<void> | undefined
  #refused = false
  #ended: Promise<void> = Promise.resolve()

  constructor(first: RemoteFile, options: LaneOptions & CallOptions) {
    this.#lanes = [{ file: first, client: undefined, unacknowledgedBytes: 0 }]
    this.#options = options
    this.#maxLanes = options.openChannel === undefined ? 1 : (options.maxChannels ?? defaultMaxChannels)
  }

  /** Lanes in use. */
  get count(): number {
    return this.#lanes.length
  }

  /** As RemoteFile.startWrite, on the lane that has least to do. */
  startWrite(offset: number, from: Uint8Array, options: CallOptions): StartedWrite {
    let lane = this.#lanes[0]!
    for (const other of this.#lanes) if (other.unacknowledgedBytes < lane.unacknowledgedBytes) lane = other
    // Where the idlest lane cannot take it at once, all are limited.
    if ((lane.file.peerWindowBytes ?? from.length) < from.length) this.#addLanes()
    lane.unacknowledgedBytes += from.length
    const started = lane.file.startWrite(offset, from, options)
    const done = (): void => {
      lane.unacknowledgedBytes -= from.length
    }
    started.acknowledged.then(done, done)
    return started
  }

  #addLanes(): void {
    const { file } = this.#lanes[0]!
    if (this.#opening !== undefined || this.#refused || this.#lanes.length >= this.#maxLanes) return
    if (file.append || (file.roundTripMs ?? 0) < farMs) return
    const wanted = (file.roundTripMs ?? 0) < veryFarMs ? this.#lanes.length : this.#maxLanes
    const count = Math.min(wanted, this.#maxLanes - this.#lanes.length)
    this.#opening = Promise.all(Array.from({ length: count }, () => this.#add(file.path))).then(() => {
      this.#opening = undefined
    })
  }

  async #add(path: string): Promise<void> {
    const { openChannel, signal } = this.#options
    let client: LaneClient | undefined
    try {
      client = await openChannel!({ mayBeUnopened: true })
      const file = await client.open(path, { write: true }, { signal })
      this.#lanes.push({ client, file, unacknowledgedBytes: 0 })
    } catch {
      this.#refused = true
      await client?.close().catch(() => {})
    }
  }

  /**
   * Closes the files that were opened, after the last write was answered. Rejects with the first error of that, which may mean
   * that data was lost. `ended` tells when the channels are given back.
   */
  async close(): Promise<void> {
    this.#refused = true
    await this.#opening
    const added = this.#lanes.splice(1)
    const results = await Promise.allSettled(added.map(({ file }) => file.close()))
    const ended = [this.#ended, ...added.map(({ client }) => client?.close())]
    this.#ended = Promise.allSettled(ended).then(() => {})
    for (const result of results) if (result.status === 'rejected') throw result.reason
  }

  /** Resolves when the channels of the lanes that `close` closed are gone; never rejects. */
  get ended(): Promise<void> {
    return this.#ended
  }
}
