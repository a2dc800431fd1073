// A lane of the resilient image on an SFTP channel: the open file, and what the channel tells of the server's end of it.
// What it adds to SftpFile is knowing which errors are answers, and which mean that none will come.

import { type RemoteFile, SftpClient, SftpStatusError, takesRequestsBehindInit } from '@sshblock/sftp'
import { AbortedError, TimeoutError, UsageError } from '@sshblock/transport/errors'
import { BlockDeviceError } from './errors.ts'
import { type Lane, type LaneAttributes, LaneLost } from './image/host.ts'
import type { Clock } from './image/options.ts'
import { LingeringChannel } from './lingering-channel.ts'
import {
  type AccessOptions,
  type FileStatus,
  type FileSystemSpace,
  OutcomeUnknownError,
} from './random-access-file.ts'
import type { SftpChannel, SftpConnection } from './sftp-connector.ts'
import type { SftpFile } from './sftp-file.ts'
import { copyZeros, scratchFile } from './sftp-zero-copier.ts'

export interface SftpLaneOptions {
  readonly requestTimeoutMs?: number | undefined
  readonly clock?: Clock | undefined
  readonly trace?: NonNullable<Parameters<typeof SftpClient.open>[1]>['trace'] | undefined
}

/** A channel with SFTP started on it. */
export interface SftpSession {
  readonly channel: SftpChannel
  readonly sftp: SftpClient
}

/**
 * Opens a channel and starts SFTP on it. With a server that takes that, requests may be made before it has answered; `sftp.opened`
 * tells when it has.
 */
export async function openSftpSession(
  connection: SftpConnection,
  { requestTimeoutMs, clock, trace }: SftpLaneOptions,
  signal: AbortSignal | undefined,
): Promise<SftpSession> {
  const channel = await connection.openChannel(signal)
  const { serverIdentification } = connection
  const isPipelined = takesRequestsBehindInit(serverIdentification)
  const options = {
    signal,
    ...(serverIdentification === undefined ? {} : { serverIdentification }),
    ...(requestTimeoutMs === undefined ? {} : { requestTimeoutMs }),
    ...(clock === undefined ? {} : { clock }),
    ...(trace === undefined ? {} : { trace }),
  }
  const lingering = new LingeringChannel(channel)
  const sftp = isPipelined ? SftpClient.begin(lingering, options) : await SftpClient.open(lingering, options)
  return { channel, sftp }
}

export class SftpLane implements Lane {
  readonly canSync: boolean
  readonly lost: Promise<LaneLost>
  readonly exited: Promise<boolean>
  readonly endedOlder: ReadonlySet<number> | undefined
  readonly sftp: SftpClient
  readonly #channel: SftpChannel
  readonly #file: SftpFile

  readonly #onWarning: (message: string) => void
  /** For zeros that are copied on the server; undefined in it where the server cannot. */
  #scratch: Promise<RemoteFile | undefined> | undefined

  constructor(
    { channel, sftp }: SftpSession,
    file: SftpFile,
    endedOlder: ReadonlySet<number> | undefined,
    onWarning: (message: string) => void,
  ) {
    this.#onWarning = onWarning
    this.#channel = channel
    this.sftp = sftp
    this.#file = file
    this.canSync = file.canSync
    this.endedOlder = endedOlder
    this.lost = sftp.closed.then(
      () => new LaneLost('gone', new Error('the SFTP channel was closed')),
      (error: Error) => new LaneLost('gone', error),
    )
    const gone = this.lost.then(() => false)
    this.exited =
      channel.exit === undefined
        ? gone
        : channel.exit.then(
            ({ type }) => type !== 'none',
            () => false,
          )
  }

  get writableBytes(): number {
    return this.#channel.writableBytes
  }

  get roundTripMs(): number | undefined {
    return this.#file.roundTripMs
  }

  read(offset: number, into: Uint8Array, options: AccessOptions = {}): Promise<number> {
    return this.#file.read(offset, into, options).catch(rethrow)
  }

  write(offset: number, from: Uint8Array): Promise<number> {
    return this.#file.write(offset, from).catch(rethrow)
  }

  status(): Promise<FileStatus> {
    return this.#file.status().catch(rethrow)
  }

  setSize(size: number): Promise<void> {
    return this.#file.setSize(size).catch(rethrow)
  }

  sync(): Promise<void> {
    return this.#file.sync().catch(rethrow)
  }

  space(): Promise<FileSystemSpace | undefined> {
    return this.#file.space().catch(rethrow)
  }

  async zero(offset: number, length: number): Promise<boolean> {
    if (!this.sftp.supports('copy-data', '1')) return false
    try {
      this.#scratch ??= scratchFile(this.sftp, this.#remote.path, this.#onWarning)
      const source = await this.#scratch
      if (source === undefined) return false
      await copyZeros(this.sftp, source, this.#remote, offset, length, undefined)
      return true
    } catch (error) {
      if (error instanceof SftpStatusError || error instanceof BlockDeviceError) {
        // Not tried again on this lane: zeros on the wire always work.
        this.#scratch = Promise.resolve(undefined)
        return false
      }
      return rethrow(error)
    }
  }

  async attributes(): Promise<LaneAttributes> {
    const { size, atime, mtime, uid, gid, permissions } = await this.#remote.stat().catch(rethrow)
    return { size, accessed: atime, changed: mtime, ownership: `${uid} ${gid} ${permissions}` }
  }

  setTimes(accessed: number, changed: number): Promise<void> {
    return this.#remote.setstat({ atime: accessed, mtime: changed }).catch(rethrow)
  }

  end(): void {
    this.#channel.end()
  }

  abandon(): void {
    this.#channel.close()
    void this.sftp.close()
  }

  async close(): Promise<void> {
    try {
      await this.#file.close().catch(rethrow)
    } finally {
      // What matters is answered: nobody has to wait for the channel's end.
      this.sftp.close().catch(() => {})
    }
  }

  get #remote(): RemoteFile {
    return this.#file.remote
  }
}

// Refusals, cancellations and misuse are answers; all else means that none will come.
function rethrow(error: unknown): never {
  const cause = error instanceof OutcomeUnknownError ? error.cause : error
  if (
    cause instanceof SftpStatusError ||
    cause instanceof UsageError ||
    cause instanceof AbortedError ||
    cause instanceof BlockDeviceError
  )
    throw cause
  const reason = cause instanceof TimeoutError ? 'silence' : 'gone'
  throw new LaneLost(reason, cause instanceof Error ? cause : new Error(String(cause)))
}
