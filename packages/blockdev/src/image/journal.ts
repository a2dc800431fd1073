// What was acknowledged and is not durable yet: the latest bytes of every such range, so that they can be written again
// after a loss or a failed fsync. Ranges are disjoint; a later write cuts away what it covers of earlier ones. Durability
// is told by numbers: a sync that began when the number was n makes everything up to n durable.
// Bounded by bytes kept. Where it may not keep bytes (or has no room and may forget), it still knows the ranges.
// Owns the copies. Knows nothing of lanes and time.

import { IntervalSet } from '../layers/interval-set.ts'
import { type Copy, slabBytes, WriteCopies } from './write-copies.ts'

interface Entry {
  readonly start: number
  readonly end: number
  /** Number of the write that it came from. */
  readonly number: number
  /** Undefined: zeros, which need no copy. */
  readonly copy: Copy | undefined
}

/** A range that is not durable: its bytes, or undefined for zeros. */
export interface KeptRange {
  readonly offset: number
  readonly length: number
  readonly bytes: Uint8Array | undefined
}

export interface JournalOptions {
  /** Bytes kept at most, those of writes under way included; 0: none. */
  maxBytes: number
  /** Where there is no room: forget the oldest, because no flush will ever make room. */
  mayForget: boolean
}

export class Journal {
  readonly #maxBytes: number
  readonly #mayForget: boolean
  readonly #copies: WriteCopies
  /** Sorted by start, disjoint. */
  #entries: Entry[] = []
  /** Acknowledged, not durable, and no copy is kept. */
  readonly #unkept = new IntervalSet('join')
  #unkeptNumber = 0
  #bytes = 0
  #reserved = 0
  #number = 0

  constructor(options: JournalOptions) {
    this.#maxBytes = options.maxBytes
    this.#mayForget = options.mayForget
    this.#copies = new WriteCopies(options.maxBytes)
  }

  /** Whether bytes are kept at all. */
  get keeps(): boolean {
    return this.#maxBytes > 0
  }

  /** Bytes kept, without writes under way. */
  get bytes(): number {
    return this.#bytes
  }

  /** Number of the latest acknowledged write. */
  get number(): number {
    return this.#number
  }

  get isEmpty(): boolean {
    return this.#entries.length === 0 && this.#unkept.isEmpty
  }

  /** Whether everything that is not durable is kept. */
  get isComplete(): boolean {
    return this.#unkept.isEmpty
  }

  /** Ranges that are not durable and not kept. */
  get unkept(): Iterable<{ start: number; end: number }> {
    return this.#unkept.within()
  }

  /** Whether there is room for one more write of this many bytes; one is always admitted where nothing is kept. */
  hasRoom(length: number): boolean {
    const used = this.#bytes + this.#reserved
    return used === 0 || (used + length <= this.#maxBytes && !this.#isScattered)
  }

  /** Whether copies are held of writes that are under way. */
  get hasUnderWay(): boolean {
    return this.#reserved > 0
  }

  /**
   * Whether it is so full that a sync should begin: half of it waits for one, or, where much is under way too, a quarter. So there is
   * room for the writes that come while a sync is answered, which over a long way is behind those under way.
   */
  get isFilling(): boolean {
    const isTight =
      this.#bytes * 4 > this.#maxBytes && (this.#bytes + this.#reserved) * 4 > this.#maxBytes * 3
    return isTight || this.#bytes * 2 > this.#maxBytes || this.#isScattered
  }

  // Few bytes in many slabs hold more memory than they are worth: what was written beside them was written again since.
  get #isScattered(): boolean {
    return this.#copies.heldBytes > this.#maxBytes + 8 * slabBytes && this.#bytes > 0
  }

  /** Copies the bytes of a write that is about to be sent. To be given to `acknowledged` or `dropped`. */
  copy(from: Uint8Array): Copy {
    while (this.#mayForget && !this.hasRoom(from.length) && this.#entries.length > 0) this.#forgetOldest()
    this.#reserved += from.length
    return this.#copies.copy(from)
  }

  /** The write will not be sent (again), or failed. */
  dropped(copy: Copy): void {
    this.#reserved -= copy.bytes.length
    this.#copies.release(copy)
  }

  /** The write was acknowledged. */
  acknowledged(offset: number, copy: Copy): void {
    const length = copy.bytes.length
    this.#reserved -= length
    this.#bytes += length
    const number = ++this.#number
    this.#unkept.remove(offset, offset + length)
    this.#put({ start: offset, end: offset + length, number, copy })
  }

  /** A range was made to read as zeros, and that was acknowledged. */
  acknowledgedZeros(offset: number, length: number): void {
    if (!this.keeps) return this.acknowledgedUnkept(offset, length)
    const number = ++this.#number
    this.#unkept.remove(offset, offset + length)
    this.#put({ start: offset, end: offset + length, number, copy: undefined })
  }

  /** A write was acknowledged of which no copy is kept. */
  acknowledgedUnkept(offset: number, length: number): void {
    this.#cut(offset, offset + length)
    this.#unkept.add(offset, offset + length)
    this.#unkeptNumber = ++this.#number
  }

  /** What lies at `size` and behind is of no interest any more: the file was cut there. */
  cutOff(size: number): void {
    this.#cut(size, Number.POSITIVE_INFINITY)
    this.#unkept.remove(size, Number.POSITIVE_INFINITY)
  }

  /** Everything up to this number is durable. */
  durable(number: number): void {
    const left: Entry[] = []
    for (const entry of this.#entries) {
      if (entry.number > number) left.push(entry)
      else this.#letGo(entry)
    }
    this.#entries = left
    // Ranges without copies carry no numbers of their own: they stay until a sync covers the last of them.
    if (this.#unkeptNumber <= number) this.#unkept.clear()
  }

  /** What was lost without a copy was told to whoever has to know. */
  forgetUnkept(): void {
    this.#unkept.clear()
  }

  /** Whether any byte of the range is not durable. */
  overlaps(start: number, end: number): boolean {
    const entry = this.#entries[this.#firstEndingAfter(start)]
    if (entry !== undefined && entry.start < end) return true
    for (const _ of this.#unkept.within(start, end)) return true
    return false
  }

  /** What is kept, in order. The bytes are views that are valid while nothing else is called. */
  *entries(): Generator<KeptRange> {
    for (const { start, end, copy } of [...this.#entries])
      yield { offset: start, length: end - start, bytes: copy?.bytes }
  }

  #put(entry: Entry): void {
    const at = this.#cut(entry.start, entry.end)
    this.#entries.splice(at, 0, entry)
  }

  // Removes [start, end) from all entries; returns where an entry for it belongs.
  #cut(start: number, end: number): number {
    const first = this.#firstEndingAfter(start)
    let last = first
    const left: Entry[] = []
    let before = 0
    for (let entry = this.#entries[last]; entry !== undefined && entry.start < end; ) {
      if (entry.start < start) {
        left.push(this.#part(entry, entry.start, start))
        before++
      }
      if (entry.end > end) left.push(this.#part(entry, end, entry.end))
      this.#letGo(entry)
      entry = this.#entries[++last]
    }
    if (last > first) this.#entries.splice(first, last - first, ...left)
    return first + before
  }

  #part({ number, copy, start: from }: Entry, start: number, end: number): Entry {
    if (copy === undefined) return { start, end, number, copy }
    this.#bytes += end - start
    return { start, end, number, copy: this.#copies.part(copy, start - from, end - from) }
  }

  #letGo({ start, end, copy }: Entry): void {
    if (copy === undefined) return
    this.#bytes -= end - start
    this.#copies.release(copy)
  }

  #forgetOldest(): void {
    let oldest = 0
    for (let i = 1; i < this.#entries.length; i++) {
      if (this.#entries[i]!.number < this.#entries[oldest]!.number) oldest = i
    }
    const [entry] = this.#entries.splice(oldest, 1)
    this.#unkept.add(entry!.start, entry!.end)
    this.#letGo(entry!)
  }

  #firstEndingAfter(position: number): number {
    let low = 0
    let high = this.#entries.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#entries[middle]!.end > position) high = middle
      else low = middle + 1
    }
    return low
  }
}
