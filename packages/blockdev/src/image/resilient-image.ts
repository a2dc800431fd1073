// An image that outlives its connections: one random-access file on as many lanes as help, with a journal of what is not
// durable yet and a way back after a loss. The device above keeps overlapping requests apart, so any lane may take any
// request. docs/lost-connections.md has the rules.
// A request that got no answer goes on when recovery.ts says so; it never fails for that alone, and never goes on after its
// caller cancelled it.

import { BlockDeviceError } from '../errors.ts'
import {
  type AccessOptions,
  type FileKind,
  type FileStatus,
  type FileSystemSpace,
  NotSyncedYetError,
  type RandomAccessFile,
  type WriteAccessOptions,
} from '../random-access-file.ts'
import { ContentSamples, type Outcome } from './content-samples.ts'
import { systemClock } from './deadline.ts'
import { type ImageConnection, type ImageHost, type Lane, LaneLost } from './host.ts'
import { Journal } from './journal.ts'
import { LaneSet, type OpenLane } from './lane-set.ts'
import type { ConnectionBehaviour, ConnectionInfo } from './options.ts'
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
  readonly #journal: Journal
  readonly #samples: ContentSamples
  readonly #writable: boolean
  readonly #kind: FileKind
  readonly #without: ReadonlySet<Rule>
  readonly #fence: 'auto' | 'none'
  #size: number | undefined
  #durableSize: number
  #isSizeSet = false
  /** Before the first write the file is looked at, so that it can be told from others. */
  readonly #firstSamples: Promise<void>
  #hasFirstSamples = false
  #replacements = 0
  /** Who waits for room in the journal. */
  #roomWaiters: (() => void)[] = []
  #syncForRoom: Promise<void> | undefined
  #roomError: unknown
  /** An fsync failed, and everything must go through new handles before the next one. */
  #syncFailed: Error | undefined
  #syncing: Promise<void> = Promise.resolve()
  #closing: Promise<void> | undefined

  constructor(options: ResilientImageOptions) {
    const { writable, host, lane, connection, size, kind, onWarning = () => {} } = options
    const {
      reconnectDelayMs = 30_000,
      onLoss = 'fail',
      fence = 'auto',
      journalBytes = 64 * 1024 * 1024,
      maxChannels = 8,
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
    this.#kind = kind
    this.#size = size
    this.#durableSize = size ?? 0
    this.#without = without
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
      size: () => ({
        kind,
        bytes: this.#size,
        durableBytes: this.#durableSize,
        isSetUnsynced: this.#isSizeSet,
      }),
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
    this.#lanes.adopt(connection, lane)
    onState({ type: 'connected' })
    this.#firstSamples = this.#takeFirstSamples().finally(() => {
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
      connections: this.#lanes.connections,
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
    const parts = Math.min(this.#lanes.lanes.length, Math.floor(into.length / splitReadBytes))
    if (parts < 2) return this.#readPart(offset, into, signal)
    const partBytes = Math.ceil(into.length / parts / splitAlignment) * splitAlignment
    const reads: Promise<number>[] = []
    for (let at = 0; at < into.length; at += partBytes)
      reads.push(this.#readPart(offset + at, into.subarray(at, at + partBytes), signal))
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
        if (!this.#journal.hasRoom(part.length)) await this.#room(part.length, signal)
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
      await this.#onWriter({ start: offset, end }, signal, async (lane) => {
        outcome = 'failed'
        isDone = (await lane.zero?.(offset, length)) ?? false
        if (!isDone) return
        this.#journal.acknowledgedZeros(offset, length)
        if (this.#size !== undefined && end > this.#size) this.#size = end
      })
      outcome = isDone ? 'acknowledged' : 'unfinished'
      return isDone
    } finally {
      this.#samples.ended(touch, outcome)
    }
  }

  status(): Promise<FileStatus> {
    return this.#retried((lane) => lane.status())
  }

  space(): Promise<FileSystemSpace | undefined> {
    return this.#retried((lane) => lane.space())
  }

  async setSize(size: number): Promise<void> {
    if (!this.#hasFirstSamples) await this.#firstSamples
    this.#samples.forget(Math.min(size, this.#size ?? size), Number.POSITIVE_INFINITY)
    await this.#onWriter({ start: size, end: Number.POSITIVE_INFINITY }, undefined, async (lane) => {
      await lane.setSize(size)
      this.#journal.cutOff(size)
      this.#size = size
      this.#isSizeSet = true
    })
  }

  /**
   * Everything acknowledged before this call is on stable storage when it resolves.
   * @throws NotSyncedYetError where it could not be done now, and all that is needed for another try is kept; else EIO.
   */
  sync(): Promise<void> {
    // One after another: what a failed one leaves behind is the next one's business.
    const next = this.#syncing.then(() => this.#sync())
    this.#syncing = next.catch(() => {})
    return next
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

  async #readPart(offset: number, into: Uint8Array, signal: AbortSignal | undefined): Promise<number> {
    for (;;) {
      const open = this.#recovery.isOpen('read') ? this.#lanes.reader() : undefined
      if (open === undefined) {
        await this.#recovery.wait('read', signal)
        continue
      }
      const began = this.#samples.readBegins()
      open.bytesInFlight += into.length
      this.#lanes.considerGrowth('read')
      try {
        const count = await open.lane.read(offset, into, { signal })
        this.#lanes.finished(into.length)
        // What is durable tells this file from others later.
        if (count > 0 && this.#recovery.state === 'connected')
          this.#samples.seen(offset, count === into.length ? into : into.subarray(0, count), began)
        return count
      } catch (error) {
        if (!(error instanceof LaneLost)) throw error
        this.#lanes.lose(open, error)
        signal?.throwIfAborted()
      } finally {
        open.bytesInFlight -= into.length
      }
    }
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
      await this.#onWriter({ start: offset, end }, signal, async (lane) => {
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
        if (this.#size !== undefined && end > this.#size) this.#size = end
        this.#lanes.finished(bytes.length)
        if (this.canSync && this.#journal.keeps && this.#journal.isFilling) this.#makeRoom()
        if (this.#roomWaiters.length > 0) this.#roomMade()
      })
    } finally {
      if (copy !== undefined) {
        this.#journal.dropped(copy)
        this.#roomMade()
      }
    }
  }

  // Runs a change of a range on a lane, and again on another one after each loss, when that is allowed.
  async #onWriter(
    range: { start: number; end: number },
    signal: AbortSignal | undefined,
    work: (lane: Lane) => Promise<void>,
  ): Promise<void> {
    const length = range.end === Number.POSITIVE_INFINITY ? 0 : range.end - range.start
    let wasSent = false
    for (;;) {
      const open = this.#recovery.isOpen('write') ? this.#lanes.writer() : undefined
      if (open === undefined) {
        try {
          await this.#recovery.wait('write', signal)
        } catch (error) {
          // It was among those that the device failed over.
          throw wasSent && error instanceof BlockDeviceError && error.code === 'ESHUTDOWN'
            ? error.cause
            : error
        }
        continue
      }
      wasSent = true
      open.bytesInFlight += length
      open.writes.add(range)
      open.unsynced = true
      this.#lanes.considerGrowth('write')
      try {
        await work(open.lane)
        open.unsynced = true
        return
      } catch (error) {
        if (!(error instanceof LaneLost)) throw error
        this.#lanes.lose(open, error)
        // Cancelled meanwhile: not sent again, whatever became of it.
        signal?.throwIfAborted()
      } finally {
        open.writes.delete(range)
        open.bytesInFlight -= length
        this.#recovery.writeEnded()
      }
    }
  }

  async #retried<T>(work: (lane: Lane) => Promise<T>): Promise<T> {
    for (;;) {
      const open = this.#recovery.isOpen('read') ? this.#lanes.reader() : undefined
      if (open === undefined) {
        await this.#recovery.wait('read', undefined)
        continue
      }
      try {
        return await work(open.lane)
      } catch (error) {
        if (!(error instanceof LaneLost)) throw error
        this.#lanes.lose(open, error)
      }
    }
  }

  async #sync(): Promise<void> {
    let renewed = false
    for (;;) {
      try {
        if (this.#syncFailed !== undefined && !renewed) {
          renewed = true
          await this.#recovery.renewHandles(this.#syncFailed)
        }
        await this.#recovery.pass(undefined)
      } catch (error) {
        throw this.#notSynced(error)
      }
      // Lost in the very turn in which it might go on: nothing is there that could be synced.
      if (!this.#recovery.isOpen('write')) continue
      if (this.#recovery.takeLostUnkept()) {
        this.#journal.forgetUnkept()
        throw new BlockDeviceError(
          'EIO',
          'the connection was lost, and what was written since the last flush may be lost on the server: no copy of it was kept',
        )
      }
      const { generation } = this.#recovery
      const { number } = this.#journal
      const changes = this.#samples.syncBegins()
      const size = this.#size
      const open = this.#lanes.lanes.filter((lane) => lane.unsynced)
      const results = await Promise.allSettled(open.map(syncLane))
      let refused: unknown
      for (const [i, result] of results.entries()) {
        if (result.status === 'fulfilled') continue
        if (result.reason instanceof LaneLost) this.#lanes.lose(open[i]!, result.reason)
        else refused ??= result.reason
      }
      if (refused !== undefined) {
        this.#syncFailed = refused instanceof Error ? refused : new Error(String(refused))
        if (this.#without.has('failed-sync')) this.#syncFailed = undefined
        // Everything since the last good one is written again, through new handles, and synced once.
        if (!renewed && this.#journal.keeps && this.#journal.isComplete) continue
        throw this.#notSynced(this.#syncFailed ?? refused)
      }
      // A lane was lost meanwhile: what went through it was, or will be, written again, and is not synced.
      if (generation !== this.#recovery.generation) continue
      this.#syncFailed = undefined
      this.#samples.durable(changes)
      this.#isDurable(number, size)
      this.#replaceSamples()
      return
    }
  }

  #isDurable(number: number, size: number | undefined): void {
    // A few of the bytes that are durable now tell this file from others later.
    if (number === this.#journal.number) {
      let taken = 0
      for (const { offset, bytes } of this.#journal.entries()) {
        if (taken++ >= 4) break
        if (bytes !== undefined) this.#samples.seen(offset, bytes)
      }
    }
    this.#journal.durable(number)
    if (size !== undefined) this.#durableSize = size
    if (size === this.#size) this.#isSizeSet = false
    this.#roomMade()
  }

  // While all that is not durable is kept, nothing is lost by a sync that could not be done.
  #notSynced(cause: unknown): Error {
    const isKept = this.#journal.isComplete && this.#recovery.error === undefined
    if (isKept) return new NotSyncedYetError(cause)
    if (!this.#journal.isComplete) this.#journal.forgetUnkept()
    this.#syncFailed = undefined
    this.#samples.syncFailed()
    return cause instanceof Error ? cause : new Error(String(cause))
  }

  // --- room in the journal ---

  async #room(length: number, signal: AbortSignal | undefined): Promise<void> {
    while (this.canSync && !this.#journal.hasRoom(length)) {
      signal?.throwIfAborted()
      // Else there is enough under way whose answers make room for a sync to be worth while.
      if (this.#journal.isFilling || !this.#journal.hasUnderWay) this.#makeRoom()
      await new Promise<void>((resolve) => this.#roomWaiters.push(resolve))
      if (this.#roomError === undefined || this.#journal.hasRoom(length)) continue
      const cause = this.#roomError
      const reason = cause instanceof Error ? cause.message : String(cause)
      throw new BlockDeviceError(
        'EIO',
        `no room to keep a copy of the write, because a flush failed: ${reason}`,
        {
          cause,
        },
      )
    }
  }

  #makeRoom(): void {
    if (this.#syncForRoom !== undefined) return
    this.#roomError = undefined
    this.#syncForRoom = this.sync()
      .catch((error: unknown) => {
        this.#roomError = error
      })
      .then(() => {
        this.#syncForRoom = undefined
        this.#roomMade()
      })
  }

  #roomMade(): void {
    for (const wake of this.#roomWaiters.splice(0)) wake()
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
    const size = this.#size
    if (this.#kind !== 'file' || size === undefined || size === 0) return
    const length = Math.min(firstSampleBytes, size)
    const places = new Set<number>()
    for (let i = 0; i < firstSamples; i++) places.add(Math.floor(((size - length) * i) / (firstSamples - 1)))
    const take = (offset: number) => this.#readPart(offset, new Uint8Array(length), undefined)
    await Promise.allSettled([...places].map(take))
  }
}

async function syncLane(open: OpenLane): Promise<void> {
  open.syncing = true
  open.unsynced = false
  try {
    await open.lane.sync()
  } catch (error) {
    open.unsynced = true
    throw error
  } finally {
    open.syncing = false
  }
}

function randomNumber(): number {
  const [word = 0] = crypto.getRandomValues(new Uint32Array(1))
  return word / 2 ** 32
}
