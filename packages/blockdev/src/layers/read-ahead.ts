// The seek rule. Reads that continue an earlier one form a stream, of which there may be several; a stream's next bytes
// are fetched before they are asked for, in growing windows.
//   - A lone read elsewhere (no other read under way) is a seek: the stream read last drops what it had fetched ahead.
//     Reads in parallel with others disturb no stream.
//   - A write that touches a stream's region, or continues it (reading turns to writing), drops its read-ahead.
//   - A forced seek drops everything.
// Never stale: fetched bytes are read under a hold of the range lock, a writer makes that hold give up, and the writer
// drops finished ones before its first byte leaves. Buffers are this layer's own, and used again; callers get copies.
// What callers have under way counts in the window: who keeps many reads in flight gets the bytes straight into his
// buffers, without a copy.
// Deliberately not a cache: bytes are handed out once, in order, and forgotten.

import { untilAborted } from './abort.ts'
import type { Hold } from './range-lock.ts'

export interface ReadAheadOptions {
  /** First window of a stream, in bytes. Default 128 KiB. */
  initialBytes?: number
  /** Largest window of a stream, in bytes: what is asked for and not there yet. Default 16 MiB. 0 turns read-ahead off. */
  maxBytes?: number
  /** Smallest piece that is fetched at once, in bytes. Default 128 KiB. */
  pieceBytes?: number
  /** Streams that read ahead at the same time. Default 8. */
  maxStreams?: number
  /** Fetched ahead and not yet asked for, all streams together, in bytes. Default 32 MiB. */
  totalBytes?: number
  /** Monotonic clock in milliseconds, for tests. */
  now?: () => number
}

/** Counters since open, for people and tests. */
export interface ReadAheadStats {
  /** Reads that continued a stream, and those that did not. */
  sequentialReads: number
  otherReads: number
  /** Bytes fetched ahead, and of these the bytes that a read then got. */
  fetchedBytes: number
  servedBytes: number
  /** Streams whose read-ahead was dropped, by cause. */
  droppedBySeek: number
  droppedByWrite: number
  droppedByForce: number
}

export interface ReadAheadSource {
  /** Fills `into` or rejects. */
  fetch(offset: number, into: Uint8Array, signal: AbortSignal | undefined): Promise<void>
  /** A weak hold of the range lock. */
  tryHold(offset: number, length: number, onConflict: () => void): Hold | undefined
  /** End of what may be fetched, in bytes. */
  end(): number
  /** What the way to the storage and back costs when nothing waits, in milliseconds, where that is known. */
  roundTripMs?(): number | undefined
}

/** Bytes fetched, or being fetched, ahead. */
interface Block {
  readonly offset: number
  readonly end: number
  readonly bytes: Uint8Array
  readonly abort: AbortController
  /** Resolves to whether `bytes` may be used; never rejects. */
  readonly ready: Promise<boolean>
  /** `ready` has resolved: nothing fills `bytes` any more. */
  settled: boolean
  /** In no stream any more. */
  left: boolean
  /** Reads that copy from it, or will. */
  readers: number
}

interface Stream {
  /** Where the last read began, and where the next one is expected. */
  last: number
  next: number
  /** Bytes to keep fetched beyond `next`; 0 until a second read continued the first, and again after a drop. */
  window: number
  /** Bytes of reads of this stream that are under way. */
  reading: number
  /** How many fetches had been answered when the window last changed. */
  grownAt: number
  /** Contiguous, in order; the first one covers `next` or begins there. */
  blocks: Block[]
}

const defaultPieceBytes = 128 * 1024
const defaultMaxBytes = 16 * 1024 * 1024
const largestFetch = 1024 * 1024
/**
 * A fetch that took this many times the fastest one has waited in a queue: windows hold about as much as the storage gives
 * in that time, and larger ones would only fill memory.
 */
const queuedFactor = 2
/** One that took this many times as long, near by, met a queue that only costs memory and copies: windows become smaller. */
const crowdedFactor = 4
/** Fetches below this say nothing of queues, in milliseconds; where the round trip is known, less is needed to say that. */
const unhurriedMs = { unknown: 10, known: 4 } as const
/** Fetches that take this long at least come from afar, in milliseconds. */
const farMs = 20
/** A window that grew is worth it where bytes come faster by this factor, queue or not. */
const worthIt = 1.2
/** Buffers kept for the next blocks, in bytes. */
const maxSpareBytes = 8 * 1024 * 1024
/** How long what was read before the first read of all may be served, in milliseconds. */
const primedMs = 1000
/** Reads remembered as possible beginnings of a stream. */
const maxCandidates = 32

export class ReadAhead {
  readonly stats: ReadAheadStats = {
    sequentialReads: 0,
    otherReads: 0,
    fetchedBytes: 0,
    servedBytes: 0,
    droppedBySeek: 0,
    droppedByWrite: 0,
    droppedByForce: 0,
  }
  readonly #source: ReadAheadSource
  readonly #initialBytes: number
  readonly #maxBytes: number
  readonly #pieceBytes: number
  readonly #maxStreams: number
  readonly #totalBytes: number
  readonly #now: () => number
  /** How long the fastest fetch of this layer took, and the latest one. */
  #leastMs = Number.POSITIVE_INFINITY
  #latestMs = 0
  /** Bytes a millisecond in the span before this one, whether they were more than in the one before that, and this span. */
  #rate = 0
  #isFaster = false
  #rateFrom = 0
  #rateBytes = 0
  /** Fetches that succeeded. */
  #answers = 0
  /** Streams that read ahead, the most recently read first. */
  #active: Stream[] = []
  /** Reads that a stream may begin with, and streams that were dropped, by where they would go on; the oldest first. */
  readonly #candidates = new Map<number, Stream>()
  /** The stream read last, where that was an active one. */
  #lastRead: Stream | undefined
  readonly #underWay = new Set<Block>()
  /** Buffers of blocks that were used up, of one length. */
  #spare: Uint8Array[] = []
  #aheadBytes = 0
  /** What was read before anybody asked, and until when it may be served. */
  #primed: { stream: Stream; until: number } | undefined
  #reads = 0
  #stopped = false

  constructor(source: ReadAheadSource, options: ReadAheadOptions = {}) {
    this.#source = source
    this.#maxBytes = options.maxBytes ?? defaultMaxBytes
    this.#initialBytes = Math.min(options.initialBytes ?? defaultPieceBytes, this.#maxBytes)
    this.#pieceBytes = options.pieceBytes ?? defaultPieceBytes
    this.#maxStreams = options.maxStreams ?? 8
    this.#totalBytes = options.totalBytes ?? 32 * 1024 * 1024
    this.#now = options.now ?? (() => performance.now())
  }

  /** Fetched ahead (or being fetched) and not yet asked for, in bytes. */
  get aheadBytes(): number {
    return this.#aheadBytes
  }

  /**
   * Takes the storage's first bytes, which were read a moment ago, before anybody could write: a first read that comes soon and
   * begins at 0 gets them. `bytes` is this layer's own from now on.
   */
  prime(bytes: Uint8Array): void {
    if (this.#maxBytes === 0 || bytes.length === 0) return
    const { length } = bytes
    const whole = { abort: new AbortController(), ready: Promise.resolve(true), settled: true }
    const block: Block = { ...whole, offset: 0, end: length, bytes, left: false, readers: 0 }
    const stream: Stream = { last: 0, next: 0, window: 0, reading: 0, grownAt: 0, blocks: [block] }
    this.#aheadBytes += length
    this.#active.push(stream)
    this.#primed = { stream, until: this.#now() + primedMs }
  }

  /** Reads under the caller's hold of the range. The order of calls is what makes a stream. */
  read(offset: number, into: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    if (this.#maxBytes === 0) return this.#source.fetch(offset, into, signal)
    const end = offset + into.length
    let blocks: Block[] = []
    let at = offset
    const isFirst = this.#primed !== undefined
    if (isFirst) this.#unprime(offset)
    let stream = this.#continued(offset)
    if (stream === undefined) {
      this.stats.otherReads++
      if (this.#reads === 0) this.#seek()
      stream = { last: offset, next: end, window: 0, reading: 0, grownAt: 0, blocks: [] }
      this.#remember(stream)
    } else {
      this.stats.sequentialReads++
      blocks = this.#take(stream, end)
      at = Math.min(end, blocks.at(-1)?.end ?? offset)
      stream.last = offset
      stream.next = end
      // A first read makes no stream yet, wherever its bytes come from.
      if (!isFirst) this.#grow(stream, into.length)
      this.#activate(stream)
    }
    this.#reads++
    stream.reading += into.length
    const direct =
      at < end ? this.#fetch(at, at === offset ? into : into.subarray(at - offset), signal) : undefined
    if (stream.window > 0) this.#fetchAhead(stream, into.length)
    const whole = blocks.length === 0 ? direct! : this.#assemble(offset, into, blocks, direct, signal)
    return whole.finally(() => {
      this.#reads--
      stream.reading -= into.length
    })
  }

  /**
   * A writer holds this range and is about to send, or the range changed its meaning (resize): what was fetched from any
   * stream around it must not be served any more.
   */
  invalidate(offset: number, length: number): void {
    const end = offset + length
    for (const stream of [...this.#active]) {
      const regionEnd = stream.blocks.at(-1)?.end ?? stream.next
      if (offset < regionEnd && end > stream.last && this.#drop(stream)) this.stats.droppedByWrite++
    }
    // Blocks that readers still wait for belong to no stream any more; their holds of the range lock keep writers out.
  }

  /** Forced seek: every stream drops its read-ahead and has to prove itself again. */
  forceSeek(): void {
    for (const stream of [...this.#active]) if (this.#drop(stream)) this.stats.droppedByForce++
    this.#candidates.clear()
  }

  /** Gives up everything and fetches nothing any more; resolves when no request of this layer is under way. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.forceSeek()
    await Promise.all([...this.#underWay].map((block) => block.ready))
  }

  // The first read of all: what was read before it is served now, or never.
  #unprime(offset: number): void {
    const { stream, until } = this.#primed!
    this.#primed = undefined
    if ((offset !== 0 || this.#now() > until) && this.#active.includes(stream)) this.#drop(stream)
    // Nobody has read it: what begins there continues nothing.
    if (this.#candidates.get(0) === stream) this.#candidates.delete(0)
  }

  // Doubles the window, unless answers wait in a queue already. Reads that alone fill the window prove nothing until one of
  // them is answered.
  #grow(stream: Stream, readLength: number): void {
    const { window } = stream
    if (window === 0) {
      stream.window = Math.min(this.#maxBytes, Math.max(this.#initialBytes, 2 * readLength))
    } else {
      const roundTripMs = this.#source.roundTripMs?.()
      const leastMs = Math.min(this.#leastMs, roundTripMs ?? this.#leastMs)
      const floorMs = roundTripMs === undefined ? unhurriedMs.unknown : unhurriedMs.known
      const queued = this.#latestMs > Math.max(queuedFactor * leastMs, floorMs) && !this.#faster()
      if (queued) {
        if (leastMs < farMs && this.#latestMs > crowdedFactor * Math.max(leastMs, floorMs / 2))
          this.#shrink(stream)
        return
      }
      const isUnproved = stream.reading >= window && stream.grownAt === this.#answers
      // From afar the first answer comes late: until then as much is fetched ahead as the caller asks for himself.
      if (isUnproved && (roundTripMs ?? 0) < farMs) return
      const most = isUnproved ? Math.max(window, 2 * (stream.reading + readLength)) : this.#maxBytes
      stream.window = Math.min(this.#maxBytes, 2 * window, most)
    }
    stream.grownAt = this.#answers
  }

  // Quarters a window that grew before the queue was seen, once for all fetches that were under way then. Where the reads
  // alone fill what is left, they get their bytes without a copy.
  #shrink(stream: Stream): void {
    if (this.#answers - stream.grownAt <= stream.blocks.length) return
    stream.window = Math.max(this.#initialBytes, stream.window >>> 2)
    stream.grownAt = this.#answers
  }

  // Whether bytes come faster and faster over a long way: what waits there waits for limits below that are still growing.
  #faster(): boolean {
    const spanMs = this.#now() - this.#rateFrom
    if (this.#leastMs < farMs || spanMs < this.#leastMs) return this.#isFaster
    const rate = this.#rateBytes / spanMs
    this.#isFaster = rate > worthIt * this.#rate
    this.#rate = rate
    this.#rateFrom = this.#now()
    this.#rateBytes = 0
    return this.#isFaster
  }

  #answered(begunAt: number, bytes: number): void {
    this.#answers++
    this.#rateBytes += bytes
    this.#latestMs = this.#now() - begunAt
    if (this.#latestMs < this.#leastMs) this.#leastMs = this.#latestMs
  }

  // The stream that a read at this offset continues.
  #continued(offset: number): Stream | undefined {
    for (const stream of this.#active) if (stream.next === offset) return stream
    const candidate = this.#candidates.get(offset)
    if (candidate !== undefined) this.#candidates.delete(offset)
    return candidate
  }

  #seek(): void {
    if (this.#lastRead !== undefined && this.#drop(this.#lastRead)) this.stats.droppedBySeek++
  }

  #remember(stream: Stream): void {
    this.#lastRead = undefined
    this.#candidates.set(stream.next, stream)
    if (this.#candidates.size <= maxCandidates) return
    const [oldest] = this.#candidates.keys()
    this.#candidates.delete(oldest!)
  }

  #activate(stream: Stream): void {
    this.#lastRead = stream
    if (this.#active[0] === stream) return
    const at = this.#active.indexOf(stream)
    if (at > 0) this.#active.splice(at, 1)
    this.#active.unshift(stream)
    if (this.#active.length > this.#maxStreams) this.#drop(this.#active.at(-1)!)
  }

  // Blocks that cover [stream.next, end) from its start; those used up leave the stream.
  #take(stream: Stream, end: number): Block[] {
    const taken: Block[] = []
    for (let block = stream.blocks[0]; block !== undefined && block.offset < end; block = stream.blocks[0]) {
      taken.push(block)
      block.readers++
      this.#aheadBytes -= Math.min(end, block.end) - Math.max(stream.next, block.offset)
      if (block.end > end) break
      block.left = true
      stream.blocks.shift()
    }
    return taken
  }

  async #assemble(
    offset: number,
    into: Uint8Array,
    blocks: readonly Block[],
    direct: Promise<void> | undefined,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const end = offset + into.length
    const parts: Promise<void>[] = direct === undefined ? [] : [direct]
    for (const block of blocks) {
      const from = Math.max(offset, block.offset)
      parts.push(
        this.#serve(block, from, into.subarray(from - offset, Math.min(end, block.end) - offset), signal),
      )
    }
    // All of them, whatever happens: `into` goes back to the caller only when nothing fills it any more.
    for (const result of await Promise.allSettled(parts))
      if (result.status === 'rejected') throw result.reason
  }

  async #serve(block: Block, from: number, into: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    let usable = false
    try {
      usable = await untilAborted(block.ready, signal)
      if (usable) {
        into.set(block.bytes.subarray(from - block.offset, from - block.offset + into.length))
        this.stats.servedBytes += into.length
      }
    } finally {
      block.readers--
      this.#recycle(block)
    }
    if (!usable) await this.#source.fetch(from, into, signal)
  }

  async #fetch(offset: number, into: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    const begunAt = this.#now()
    await this.#source.fetch(offset, into, signal)
    this.#answered(begunAt, into.length)
  }

  // A buffer goes on to another block when nobody reads it, nothing fills it, and no stream would serve it.
  #recycle(block: Block): void {
    if (!block.left || !block.settled || block.readers > 0 || this.#stopped) return
    const { length } = block.bytes
    if (this.#spare[0]?.length !== length) this.#spare = []
    if ((this.#spare.length + 1) * length <= maxSpareBytes) this.#spare.push(block.bytes)
  }

  #buffer(length: number): Uint8Array {
    const spare = this.#spare[0]?.length === length ? this.#spare.pop() : undefined
    return spare ?? new Uint8Array(length)
  }

  #fetchAhead(stream: Stream, readLength: number): void {
    const wanted = Math.max(0, stream.window - stream.reading)
    const target = Math.min(stream.next + wanted, this.#source.end())
    const piece = Math.min(largestFetch, Math.max(this.#pieceBytes, readLength, stream.window >>> 2))
    let from = stream.blocks.at(-1)?.end ?? stream.next
    while (!this.#stopped && from < target) {
      const length = Math.min(piece, this.#source.end() - from)
      // A last piece that is small would cost a request of its own: wait until it has grown.
      if (from + length > target && from > stream.next && target < this.#source.end()) return
      if (this.#aheadBytes + length > this.#totalBytes) return
      const block = this.#startBlock(from, length)
      if (block === undefined) return
      stream.blocks.push(block)
      from = block.end
    }
  }

  #startBlock(offset: number, length: number): Block | undefined {
    const abort = new AbortController()
    const hold = this.#source.tryHold(offset, length, () => abort.abort())
    if (hold === undefined) return undefined
    const bytes = this.#buffer(length)
    this.#aheadBytes += length
    this.stats.fetchedBytes += length
    const begunAt = this.#now()
    const settle = (usable: boolean): boolean => {
      if (usable) this.#answered(begunAt, length)
      this.#underWay.delete(block)
      block.settled = true
      this.#recycle(block)
      hold.release()
      return usable
    }
    // A failed fetch is no error yet: whoever needs these bytes asks again and gets the error of that.
    const ready = this.#source.fetch(offset, bytes, abort.signal).then(
      () => settle(true),
      () => settle(false),
    )
    const state = { settled: false, left: false, readers: 0 }
    const block: Block = { offset, end: offset + length, bytes, abort, ready, ...state }
    this.#underWay.add(block)
    return block
  }

  // The stream may be continued, but fetches nothing ahead until it is. True where there was something to drop.
  #drop(stream: Stream): boolean {
    const at = this.#active.indexOf(stream)
    if (at >= 0) this.#active.splice(at, 1)
    stream.window = 0
    const { blocks } = stream
    for (const block of blocks) {
      this.#aheadBytes -= block.end - Math.max(stream.next, block.offset)
      block.left = true
      block.abort.abort()
      this.#recycle(block)
    }
    stream.blocks = []
    if (this.#active.length === 0) this.#spare = []
    this.#remember(stream)
    return blocks.length > 0
  }
}
