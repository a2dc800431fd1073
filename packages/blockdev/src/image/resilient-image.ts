// An image that outlives its connections: one random-access file on as many lanes as help, with a journal of what is not
// durable yet and a way back after a loss. The device above keeps overlapping requests apart, so any lane may take any
// request. docs/lost-connections.md has the rules.
// Puts the parts together: lane-requests.ts sends, recovery.ts comes back, image-sync.ts makes durable.

import { BlockDeviceError } from '../errors.ts'
import type {
  AccessOptions,
  FileKind,
  FileStatus,
  FileSystemSpace,
  RandomAccessFile,
  WriteAccessOptions,
} from '../random-access-file.ts'
import { ContentSamples, type Outcome } from './content-samples.ts'
import { systemClock } from './deadline.ts'
import type { ImageConnection, ImageHost, Lane } from './host.ts'
import { ImageSize } from './image-size.ts'
import { ImageSync } from './image-sync.ts'
import { Journal } from './journal.ts'
import { LaneRequests } from './lane-requests.ts'
import { LaneSet } from './lane-set.ts'
import { type ConnectionBehaviour, type ConnectionInfo, defaultMaxChannels } from './options.ts'
import { Recovery } from './recovery.ts'
import type { Rule } from './rules.ts'
import type { Copy } from './write-copies.ts'
import { slabBytes } from './write-copies.ts'

export interface ResilientImageOptions extends ConnectionBehaviour {
  readonly host: ImageHost
  /** The connection and lane that the image was opened with. */
  readonly connection: ImageConnection
  readonly lane: Lane
  readonly writable: boolean
  readonly kind: FileKind
  /** Bytes; undefined where the storage does not tell. */
  readonly size: number | undefined
  /** The first bytes of the file, where they were read already: by which it is known again. */
  readonly head?: Uint8Array
  readonly onWarning?: (message: string) => void
  /** Rules to be switched off, for tests that prove that they matter. */
  readonly without?: ReadonlySet<Rule>
}

/** A read is split over lanes where each part has at least this many bytes. */
const splitReadBytes = 512 * 1024
const splitAlignment = 128 * 1024

const firstSamples = 16
const firstSampleBytes = 512
/** How often samples are taken again because too few are left. */
const maxReplacements = 16

/** A share of the device's time to end in order, in milliseconds. */
const closeWithinMs = 5000

export class ResilientImage implements RandomAccessFile {
  readonly canSync: boolean
  readonly #lanes: LaneSet
  readonly #recovery: Recovery
  readonly #requests: LaneRequests
  readonly #sync: ImageSync
  readonly #journal: Journal
  readonly #samples: ContentSamples
  readonly #writable: boolean
  readonly #size: ImageSize
  readonly #fence: 'auto' | 'none'
  /**
   * The file is looked at, so that it can be told from others: at once where it may be written to, and before the first write is
   * sent; else beside the first read, which shall not wait behind that.
   */
  #firstSamples: Promise<void> | undefined
  #hasFirstSamples = false
  #replacements = 0
  #closing: Promise<void> | undefined

  constructor(options: ResilientImageOptions) {
    const { writable, host, lane, connection, size, kind, onWarning = () => {} } = options
    const {
      reconnectDelayMs = 30_000,
      onLoss = 'fail',
      fence = 'auto',
      journalBytes = 64 * 1024 * 1024,
      maxChannels = defaultMaxChannels,
      maxConnections = 3,
      minChannels = 1,
      minConnections = 1,
      onState = () => {},
      firstRetryMs = 100,
      maxRetryMs = 5000,
      attemptTimeoutMs = 15_000,
      orderlyEndMs = 5000,
      clock = systemClock,
      random = randomNumber,
      without = new Set<Rule>(),
    } = options
    this.canSync = lane.canSync
    this.#writable = writable
    this.#size = new ImageSize(kind, size)
    this.#fence = fence
    this.#samples = new ContentSamples(random)
    if (options.head !== undefined) this.#samples.seen(0, options.head)
    this.#journal = new Journal({ maxBytes: writable ? journalBytes : 0, mayForget: !lane.canSync })
    this.#lanes = new LaneSet({
      host,
      clock,
      random,
      writable,
      mayExec: writable && fence === 'auto',
      maxChannels,
      maxConnections,
      minChannels,
      minConnections,
      attemptTimeoutMs,
      onLost: (open) => this.#recovery.lost(open),
      onWarning,
    })
    this.#recovery = new Recovery({
      lanes: this.#lanes,
      journal: this.#journal,
      samples: this.#samples,
      size: this.#size,
      clock,
      random,
      writable,
      reconnectDelayMs,
      onLoss,
      fence,
      firstRetryMs,
      maxRetryMs,
      attemptTimeoutMs,
      orderlyEndMs,
      onState,
      onWarning,
      without,
    })
    this.#requests = new LaneRequests(this.#lanes, this.#recovery, this.#samples)
    this.#sync = new ImageSync({
      lanes: this.#lanes,
      recovery: this.#recovery,
      journal: this.#journal,
      samples: this.#samples,
      size: this.#size,
      canSync: this.canSync,
      without,
      onSynced: () => this.#replaceSamples(),
    })
    this.#lanes.adopt(connection, lane)
    onState({ type: 'connected' })
    if (writable) this.#lookFirst()
  }

  #lookFirst(): void {
    this.#firstSamples ??= this.#takeFirstSamples().finally(() => {
      this.#hasFirstSamples = true
    })
  }

  get roundTripMs(): number | undefined {
    return this.#lanes.lanes[0]?.lane.roundTripMs
  }

  get info(): ConnectionInfo {
    const { state, losses, restored, outage, error } = this.#recovery
    return {
      state,
      connections: this.#lanes.owners.size,
      channels: this.#lanes.lanes.length,
      losses,
      restored,
      outage,
      journalBytes: this.#journal.bytes,
      fence: this.#fenceAtHand(),
      error,
    }
  }

  async read(offset: number, into: Uint8Array, options: AccessOptions = {}): Promise<number> {
    const { signal } = options
    this.#lookFirst()
    const parts = Math.min(this.#lanes.lanes.length, Math.floor(into.length / splitReadBytes))
    if (parts < 2) return this.#requests.read(offset, into, signal)
    const partBytes = Math.ceil(into.length / parts / splitAlignment) * splitAlignment
    const reads: Promise<number>[] = []
    for (let at = 0; at < into.length; at += partBytes)
      reads.push(this.#requests.read(offset + at, into.subarray(at, at + partBytes), signal))
    // All of them, whatever happens: `into` goes back to the caller only when nothing fills it any more.
    let filled = 0
    let isWhole = true
    for (const [i, result] of (await Promise.allSettled(reads)).entries()) {
      if (result.status === 'rejected') throw result.reason
      if (isWhole) filled += result.value
      if (result.value < Math.min(partBytes, into.length - i * partBytes)) isWhole = false
    }
    return filled
  }

  async write(offset: number, from: Uint8Array, options: WriteAccessOptions = {}): Promise<number> {
    if (!this.#hasFirstSamples) await this.#firstSamples
    this.#lanes.wantSecond()
    const touch = this.#samples.begin(offset, from.length, from)
    let outcome: Outcome = 'unsent'
    try {
      const sent = () => {
        outcome = 'failed'
      }
      if (this.#journal.keeps) await this.#writeCopied(offset, from, sent, options)
      else await this.#writePart(offset, from, undefined, sent, options.signal)
      outcome = 'acknowledged'
      return from.length
    } finally {
      this.#samples.ended(touch, outcome)
    }
  }

  // In parts, of which copies are kept for as long as they may be needed again.
  async #writeCopied(
    offset: number,
    from: Uint8Array,
    sent: () => void,
    { signal, onSent }: WriteAccessOptions,
  ): Promise<void> {
    const parts: Promise<void>[] = []
    let firstError: unknown
    for (let at = 0; at < from.length && firstError === undefined; at += slabBytes) {
      const part = from.subarray(at, at + slabBytes)
      try {
        signal?.throwIfAborted()
        if (!this.#journal.hasRoom(part.length)) await this.#sync.room(part.length, signal)
      } catch (error) {
        firstError ??= error
        break
      }
      const one = this.#writePart(offset + at, undefined, this.#journal.copy(part), sent, signal)
      parts.push(
        one.catch((error: unknown) => {
          firstError ??= error
        }),
      )
    }
    // Copied: the caller's bytes are not needed any more.
    onSent?.()
    await Promise.all(parts)
    if (firstError !== undefined) throw firstError
  }

  /**
   * Makes a range read as zeros without sending them. Resolves to false where the server cannot; then any part of it may have
   * been.
   */
  async zero(offset: number, length: number, signal: AbortSignal | undefined): Promise<boolean> {
    if (!this.#hasFirstSamples) await this.#firstSamples
    const end = offset + length
    const touch = this.#samples.begin(offset, length, undefined)
    let outcome: Outcome = 'unsent'
    let isDone = false
    try {
      await this.#requests.change({ start: offset, end }, signal, async (lane) => {
        outcome = 'failed'
        isDone = (await lane.zero?.(offset, length)) ?? false
        if (!isDone) return
        this.#journal.acknowledgedZeros(offset, length)
        this.#size.reaches(end)
      })
      outcome = isDone ? 'acknowledged' : 'unfinished'
      return isDone
    } finally {
      this.#samples.ended(touch, outcome)
    }
  }

  status(): Promise<FileStatus> {
    return this.#requests.ask((lane) => lane.status())
  }

  space(): Promise<FileSystemSpace | undefined> {
    return this.#requests.ask((lane) => lane.space())
  }

  async setSize(size: number): Promise<void> {
    if (!this.#hasFirstSamples) await this.#firstSamples
    this.#samples.forget(Math.min(size, this.#size.bytes ?? size), Number.POSITIVE_INFINITY)
    const range = { start: size, end: Number.POSITIVE_INFINITY }
    await this.#requests.change(range, undefined, async (lane) => {
      await lane.setSize(size)
      this.#journal.cutOff(size)
      this.#size.setTo(size)
    })
  }

  /**
   * Everything acknowledged before this call is on stable storage when it resolves.
   * @throws NotSyncedYetError where it could not be done now, and all that is needed for another try is kept; else EIO.
   */
  sync(): Promise<void> {
    return this.#sync.sync()
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    await this.#recovery.close()
    await this.#lanes.close(closeWithinMs)
  }

  #fenceAtHand(): ConnectionInfo['fence'] {
    if (this.#fence === 'none' || !this.#writable) return 'none'
    if (this.#lanes.lanes[0]?.lane.endedOlder !== undefined) return 'session-epoch'
    const { tellsProcesses } = this.#lanes
    if (tellsProcesses === undefined) return 'unknown'
    return tellsProcesses ? 'processes' : 'none'
  }

  // One of `from` and `copy`. The copy is owned here, and given to the journal or back.
  async #writePart(
    offset: number,
    from: Uint8Array | undefined,
    copy: Copy | undefined,
    sent: () => void,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const bytes = copy?.bytes ?? from!
    const end = offset + bytes.length
    try {
      await this.#requests.change({ start: offset, end }, signal, async (lane) => {
        sent()
        for (let done = 0; done < bytes.length; ) {
          const taken = await lane.write(offset + done, done === 0 ? bytes : bytes.subarray(done))
          if (taken <= 0)
            throw new BlockDeviceError('EIO', 'the storage took nothing of a write', {
              offset,
              length: bytes.length,
            })
          done += taken
        }
        if (copy === undefined) this.#journal.acknowledgedUnkept(offset, bytes.length)
        else this.#journal.acknowledged(offset, copy)
        copy = undefined
        this.#size.reaches(end)
        this.#lanes.finished(bytes.length)
        this.#sync.acknowledged()
      })
    } finally {
      if (copy !== undefined) {
        this.#journal.dropped(copy)
        this.#sync.roomMade()
      }
    }
  }

  // --- who we are ---

  // Writes that failed took away what was known.
  #replaceSamples(): void {
    if (this.#replacements >= maxReplacements || !this.#samples.isScarce) return
    this.#replacements++
    void this.#takeFirstSamples()
  }

  // Before anything is written: places all over it. Never rejects.
  async #takeFirstSamples(): Promise<void> {
    const { kind, bytes: size } = this.#size
    if (kind !== 'file' || size === undefined || size === 0) return
    const length = Math.min(firstSampleBytes, size)
    const places = new Set<number>()
    for (let i = 0; i < firstSamples; i++) places.add(Math.floor(((size - length) * i) / (firstSamples - 1)))
    const take = (offset: number) => this.#requests.read(offset, new Uint8Array(length), undefined)
    await Promise.allSettled([...places].map(take))
  }
}

// Drawn in stock: each read takes two.
const words = new Uint32Array(256)
let wordsLeft = 0

function randomNumber(): number {
  if (wordsLeft === 0) {
    crypto.getRandomValues(words)
    wordsLeft = words.length
  }
  return words[--wordsLeft]! / 2 ** 32
}
