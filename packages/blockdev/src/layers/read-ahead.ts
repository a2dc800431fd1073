// The seek rule. Reads that continue an earlier one form a stream, of which there may be several; a stream's next bytes
// are fetched before they are asked for, in growing windows.
//   - A lone read elsewhere (no other read under way) is a seek: the stream read last drops what it had fetched ahead.
//     Reads in parallel with others disturb no stream.
//   - A write that touches a stream's region, or continues it (reading turns to writing), drops its read-ahead.
//   - A forced seek drops everything.
// Never stale: fetched bytes are read under a hold of the range lock, a writer makes that hold give up, and the writer
// drops finished ones before its first byte leaves. Buffers are this layer's own; callers get copies.
// Deliberately not a cache: bytes are handed out once, in order, and forgotten.

import { untilAborted } from './abort.ts'
import type { Hold } from './range-lock.ts'

export interface ReadAheadOptions {
  /** First window of a stream, in bytes. Default 128 KiB. */
  initialBytes?: number
  /** Largest window of a stream, in bytes. Default 8 MiB. 0 turns read-ahead off. */
  maxBytes?: number
  /** Smallest piece that is fetched at once, in bytes. Default 128 KiB. */
  pieceBytes?: number
  /** Streams that read ahead at the same time. Default 8. */
  maxStreams?: number
  /** Fetched ahead and not yet asked for, all streams together, in bytes. Default 32 MiB. */
  totalBytes?: number
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
}

/** Bytes fetched, or being fetched, ahead. */
interface Block {
  readonly offset: number
  readonly end: number
  readonly bytes: Uint8Array
  readonly abort: AbortController
  /** Resolves to whether `bytes` may be used; never rejects. */
  readonly ready: Promise<boolean>
}

interface Stream {
  /** Where the last read began, and where the next one is expected. */
  last: number
  next: number
  /** Bytes to keep fetched beyond `next`; 0 until a second read continued the first, and again after a drop. */
  window: number
  /** Contiguous, in order; the first one covers `next` or begins there. */
  blocks: Block[]
}

const defaultPieceBytes = 128 * 1024
const largestFetch = 1024 * 1024
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
  /** Streams that read ahead, the most recently read first. */
  #active: Stream[] = []
  /** Reads that a stream may begin with, and streams that were dropped, by where they would go on; the oldest first. */
  readonly #candidates = new Map<number, Stream>()
  /** The stream read last, where that was an active one. */
  #lastRead: Stream | undefined
  readonly #underWay = new Set<Block>()
  #aheadBytes = 0
  #reads = 0
  #stopped = false

  constructor(source: ReadAheadSource, options: ReadAheadOptions = {}) {
    this.#source = source
    this.#maxBytes = options.maxBytes ?? 8 * 1024 * 1024
    this.#initialBytes = Math.min(options.initialBytes ?? defaultPieceBytes, this.#maxBytes)
    this.#pieceBytes = options.pieceBytes ?? defaultPieceBytes
    this.#maxStreams = options.maxStreams ?? 8
    this.#totalBytes = options.totalBytes ?? 32 * 1024 * 1024
  }

  /** Fetched ahead (or being fetched) and not yet asked for, in bytes. */
  get aheadBytes(): number {
    return this.#aheadBytes
  }

  /** Reads under the caller's hold of the range. The order of calls is what makes a stream. */
  read(offset: number, into: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    if (this.#maxBytes === 0) return this.#source.fetch(offset, into, signal)
    const end = offset + into.length
    let blocks: Block[] = []
    let at = offset
    let stream = this.#continued(offset)
    if (stream === undefined) {
      this.stats.otherReads++
      if (this.#reads === 0) this.#seek()
      stream = { last: offset, next: end, window: 0, blocks: [] }
      this.#remember(stream)
    } else {
      this.stats.sequentialReads++
      blocks = this.#take(stream, end)
      at = Math.min(end, blocks.at(-1)?.end ?? offset)
      stream.last = offset
      stream.next = end
      stream.window = Math.min(
        this.#maxBytes,
        stream.window === 0 ? Math.max(this.#initialBytes, 2 * into.length) : stream.window * 2,
      )
      this.#activate(stream)
    }
    this.#reads++
    const direct =
      at < end ? this.#source.fetch(at, at === offset ? into : into.subarray(at - offset), signal) : undefined
    if (stream.window > 0) this.#fetchAhead(stream, into.length)
    const whole = blocks.length === 0 ? direct! : this.#assemble(offset, into, blocks, direct, signal)
    return whole.finally(() => this.#reads--)
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
      this.#aheadBytes -= Math.min(end, block.end) - Math.max(stream.next, block.offset)
      if (block.end > end) break
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
    const usable = await untilAborted(block.ready, signal)
    if (!usable) return this.#source.fetch(from, into, signal)
    into.set(block.bytes.subarray(from - block.offset, from - block.offset + into.length))
    this.stats.servedBytes += into.length
  }

  #fetchAhead(stream: Stream, readLength: number): void {
    const target = Math.min(stream.next + stream.window, this.#source.end())
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
    const bytes = new Uint8Array(length)
    this.#aheadBytes += length
    this.stats.fetchedBytes += length
    const settle = (usable: boolean): boolean => {
      this.#underWay.delete(block)
      hold.release()
      return usable
    }
    // A failed fetch is no error yet: whoever needs these bytes asks again and gets the error of that.
    const ready = this.#source.fetch(offset, bytes, abort.signal).then(
      () => settle(true),
      () => settle(false),
    )
    const block: Block = { offset, end: offset + length, bytes, abort, ready }
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
      block.abort.abort()
    }
    stream.blocks = []
    this.#remember(stream)
    return blocks.length > 0
  }
}
