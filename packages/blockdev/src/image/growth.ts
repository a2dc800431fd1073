// Whether one more lane would help. A lane is worth opening while the bytes in flight are bounded by what one lane carries:
// the peer's window per channel (2 MiB for ever with OpenSSH) over a round trip that matters. Whether it helped is measured:
// where throughput did not rise, nothing more is opened.
// Arithmetic on values that it is told; knows no lanes and no clock.

import { isFar } from './distance.ts'

/** Round trips shorter than this make no window too small, in milliseconds. */
const shortestRoundTripMs = 1
/**
 * Round trips longer than this are the network's own. What is between may be a busy server: then a lane counts as bound only
 * where so many bytes are answered in one round trip that a window of 2 MiB comes near.
 */
const certainRoundTripMs = 5
const carriedBytes = 512 * 1024
/**
 * Over a long way, bytes answered in one round trip and lane, from which on what a lane carries is the limit, and not the link or
 * a CPU: three quarters of OpenSSH's window, and of what we ask for at a time. A first lane that is full of writes needs no proof.
 */
const carriedFarBytes = { write: 1.5 * 1024 * 1024, read: 12 * 1024 * 1024 } as const
/** Bytes asked for and not answered per lane, beyond which the lane is what limits. */
const boundBytes = { write: 2.5 * 1024 * 1024, read: 16 * 1024 * 1024 } as const
/** The same where the lane says that it takes nothing more. */
const boundWhenFullBytes = 256 * 1024
/** How much throughput has to rise by a round of opening, as a factor. */
const worthIt = 1.1
const leastMs = 50

export type Direction = 'read' | 'write'

export interface LaneLoad {
  readonly bytesInFlight: number
  readonly writableBytes: number
}

export class Growth {
  #direction: Direction = 'read'
  #boundSince: number | undefined
  #doneThen = 0
  #done = 0
  #lastRate: number | undefined
  #opening = false
  #stopped = false

  /** Whether nothing more will be opened, because it did not help or is not possible. */
  get isOver(): boolean {
    return this.#stopped
  }

  /** Bytes of a read or write were answered. */
  finished(bytes: number): void {
    this.#done += bytes
  }

  /** Whether a lane should be opened now. After 'yes' it says no until `opened` is called. */
  wants(
    direction: Direction,
    lanes: Iterable<LaneLoad>,
    now: number,
    roundTripMs: number | undefined,
  ): boolean {
    if (this.#stopped || this.#opening || (roundTripMs ?? 0) < shortestRoundTripMs) return false
    let count = 0
    for (const lane of lanes) {
      count++
      if (Growth.isBound(direction, lane)) continue
      this.#boundSince = undefined
      return false
    }
    if (this.#boundSince === undefined || direction !== this.#direction) {
      this.#direction = direction
      this.#boundSince = now
      this.#doneThen = this.#done
      return false
    }
    const spanMs = now - this.#boundSince
    // A first lane that is full over a long way is bound without doubt: what comes of more is measured after.
    const far = isFar(roundTripMs!)
    const isCertain = this.#lastRate === undefined && far
    if (spanMs < Math.max(leastMs, (isCertain ? 1 : 3) * roundTripMs!)) return false
    const rate = (this.#done - this.#doneThen) / spanMs
    const proof = far ? carriedFarBytes[direction] : roundTripMs! < certainRoundTripMs ? carriedBytes : 0
    const needsProof = !far || direction === 'read' || count > 1
    if (needsProof && (rate * roundTripMs!) / count < proof) {
      this.#boundSince = undefined
      return false
    }
    if (this.#lastRate !== undefined && rate < this.#lastRate * worthIt) {
      this.#stopped = true
      return false
    }
    this.#lastRate = rate
    this.#opening = true
    return true
  }

  /**
   * How many lanes to open at once where `count` are there: as many again, and over a long way, where each round of
   * opening takes ten round trips, three times as many.
   */
  static step(count: number, roundTripMs: number | undefined): number {
    return isFar(roundTripMs ?? 0) ? 3 * count : count
  }

  /** Whether a lane is what limits the requests in it. */
  static isBound(direction: Direction, { bytesInFlight, writableBytes }: LaneLoad): boolean {
    const isFull = direction === 'write' && writableBytes === 0 && bytesInFlight >= boundWhenFullBytes
    return isFull || bytesInFlight >= boundBytes[direction]
  }

  /** What was wanted is open, or could not be: `more` tells whether there can be any more. */
  opened(more: boolean): void {
    this.#opening = false
    this.#boundSince = undefined
    if (!more) this.#stopped = true
  }

  /** Everything was lost; what was measured means nothing any more. */
  reset(): void {
    this.#boundSince = undefined
    this.#lastRate = undefined
  }
}
