// How long the device is, and which of its bytes are certain to be zero: those of a fresh file, those by which it grew, and
// those that were zeroed, until something is written there. "Certain" is meant: a range that a failed or unfinished write
// may have reached is never called zero.

import type { Extent } from '../device.ts'
import { IntervalSet } from './interval-set.ts'

/** A change of a range that has begun. */
export interface Change {
  /** No request of it is under way any more, whatever became of it. Called once. */
  ended(): void
  /** It succeeded: after `ended`. */
  succeeded(): void
}

export class ZeroMap {
  readonly #zeros = new IntervalSet('forget')
  #size: number
  /** End of the highest write ever attempted: beyond it, what a grown file gains is zero. */
  #highestWrite: number
  #growthsUnderWay = 0
  #growthsBegun = 0

  /** @param fresh whether all `size` bytes are certain to be zero. */
  constructor(size: number, fresh: boolean) {
    this.#size = size
    this.#highestWrite = size
    if (fresh) this.#zeros.add(0, size)
  }

  /** Size of the device in bytes. */
  get size(): number {
    return this.#size
  }

  /** End of what may hold anything but zeros, also behind the end of the device. */
  get writtenEnd(): number {
    return Math.max(this.#size, this.#highestWrite)
  }

  /** A write of this range is about to be sent. Where it ends behind the device and succeeds, the device grows. */
  begin(offset: number, length: number): Change {
    const end = offset + length
    this.#zeros.remove(offset, end)
    if (end <= this.#size) return unremarkable
    const gapStart = this.writtenEnd
    let alone = this.#growthsUnderWay === 0
    const begun = ++this.#growthsBegun
    this.#growthsUnderWay++
    this.#highestWrite = Math.max(this.#highestWrite, end)
    return {
      ended: () => {
        this.#growthsUnderWay--
        // Another write beyond the end since: it may lie in the gap that this one leaves.
        alone &&= begun === this.#growthsBegun
      },
      succeeded: () => {
        if (alone) this.#zeros.add(gapStart, offset)
        this.#size = Math.max(this.#size, end)
      },
    }
  }

  /** The range reads as zeros. */
  zeroed(offset: number, length: number): void {
    this.#zeros.add(offset, offset + length)
  }

  /** What was written to [start, end) may not be there. */
  inDoubt(start: number, end: number): void {
    this.#zeros.remove(start, end)
  }

  /** The size was set, with nothing else under way. */
  resized(size: number): void {
    if (size > this.#size) this.#zeros.add(this.writtenEnd, size)
    else this.#zeros.remove(size, Number.POSITIVE_INFINITY)
    this.#size = size
    this.#highestWrite = size
  }

  /** What is known of the range, in order, covering it. */
  extents(offset: number, length: number): Extent[] {
    const end = offset + length
    const extents: Extent[] = []
    let at = offset
    for (const zero of this.#zeros.within(offset, end)) {
      if (zero.start > at) extents.push({ offset: at, length: zero.start - at, zero: false })
      extents.push({ offset: zero.start, length: zero.end - zero.start, zero: true })
      at = zero.end
    }
    if (at < end) extents.push({ offset: at, length: end - at, zero: false })
    return extents
  }
}

const unremarkable: Change = { ended: () => {}, succeeded: () => {} }
