// A set of byte ranges: what is dirty, what is lost, what is known to be zero. Bounded: when there are too many ranges it
// either grows (neighbours are joined over the smallest gaps: for facts that may be overstated, such as "dirty") or
// shrinks (the smallest ranges are forgotten: for facts that may be understated, such as "zero").
// Ranges are half open, in bytes; sorted, disjoint, never adjacent.

export type OverflowRule = 'join' | 'forget'

export class IntervalSet {
  readonly #maxIntervals: number
  readonly #overflow: OverflowRule
  #starts: number[] = []
  #ends: number[] = []

  constructor(overflow: OverflowRule, maxIntervals = 16_384) {
    this.#overflow = overflow
    this.#maxIntervals = maxIntervals
  }

  get isEmpty(): boolean {
    return this.#starts.length === 0
  }

  get count(): number {
    return this.#starts.length
  }

  /** Bytes in all ranges. */
  get bytes(): number {
    let sum = 0
    for (let i = 0; i < this.#starts.length; i++) sum += this.#ends[i]! - this.#starts[i]!
    return sum
  }

  add(start: number, end: number): void {
    if (start >= end) return
    const first = this.#firstEndingAtOrAfter(start)
    const last = this.#firstStartingAfter(end)
    if (first < last) {
      start = Math.min(start, this.#starts[first]!)
      end = Math.max(end, this.#ends[last - 1]!)
    }
    this.#starts.splice(first, last - first, start)
    this.#ends.splice(first, last - first, end)
    if (this.#starts.length > this.#maxIntervals) this.#shrinkCount()
  }

  addAll(other: IntervalSet): void {
    for (let i = 0; i < other.#starts.length; i++) this.add(other.#starts[i]!, other.#ends[i]!)
  }

  remove(start: number, end: number): void {
    if (start >= end) return
    const first = this.#firstEndingAtOrAfter(start + 1)
    const last = this.#firstStartingAfter(end - 1)
    if (first >= last) return
    const starts: number[] = []
    const ends: number[] = []
    const head = this.#starts[first]!
    const tail = this.#ends[last - 1]!
    if (head < start) {
      starts.push(head)
      ends.push(start)
    }
    if (tail > end) {
      starts.push(end)
      ends.push(tail)
    }
    this.#starts.splice(first, last - first, ...starts)
    this.#ends.splice(first, last - first, ...ends)
    if (this.#starts.length > this.#maxIntervals) this.#shrinkCount()
  }

  clear(): void {
    this.#starts = []
    this.#ends = []
  }

  /** Whether the whole range is in the set. */
  covers(start: number, end: number): boolean {
    if (start >= end) return true
    const at = this.#firstEndingAtOrAfter(end)
    return at < this.#starts.length && this.#starts[at]! <= start
  }

  /** Whether any byte of the range is in the set. */
  overlaps(start: number, end: number): boolean {
    if (start >= end) return false
    const at = this.#firstEndingAtOrAfter(start + 1)
    return at < this.#starts.length && this.#starts[at]! < end
  }

  /** The ranges, clipped to [start, end), in order. */
  *within(start = 0, end = Number.POSITIVE_INFINITY): Generator<{ start: number; end: number }> {
    if (start >= end) return
    for (
      let i = this.#firstEndingAtOrAfter(start + 1);
      i < this.#starts.length && this.#starts[i]! < end;
      i++
    ) {
      yield { start: Math.max(start, this.#starts[i]!), end: Math.min(end, this.#ends[i]!) }
    }
  }

  #firstEndingAtOrAfter(position: number): number {
    let low = 0
    let high = this.#ends.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#ends[middle]! >= position) high = middle
      else low = middle + 1
    }
    return low
  }

  #firstStartingAfter(position: number): number {
    let low = 0
    let high = this.#starts.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#starts[middle]! > position) high = middle
      else low = middle + 1
    }
    return low
  }

  // Halves the count, so that the cost is shared by as many later calls.
  #shrinkCount(): void {
    const keep = Math.max(1, this.#maxIntervals >>> 1)
    const starts = this.#starts
    const ends = this.#ends
    this.clear()
    if (this.#overflow === 'forget') {
      const sizes = starts.map((start, i) => ends[i]! - start).sort((a, b) => b - a)
      const smallest = sizes[keep - 1]!
      for (let i = 0; i < starts.length && this.#starts.length < keep; i++) {
        if (ends[i]! - starts[i]! >= smallest) this.#push(starts[i]!, ends[i]!)
      }
      return
    }
    const gaps = ends.slice(0, -1).map((end, i) => starts[i + 1]! - end)
    const widest = [...gaps].sort((a, b) => b - a)[keep - 2] ?? Number.POSITIVE_INFINITY
    let start = starts[0]!
    for (let i = 0; i < gaps.length; i++) {
      if (gaps[i]! < widest) continue
      this.#push(start, ends[i]!)
      start = starts[i + 1]!
    }
    this.#push(start, ends[ends.length - 1]!)
  }

  #push(start: number, end: number): void {
    this.#starts.push(start)
    this.#ends.push(end)
  }
}
