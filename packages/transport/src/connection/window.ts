// Flow control arithmetic of one channel direction each (RFC 4254 s5.2). Pure state, no messages.
// The receiving window promises bytes; memory follows what is unread, not what is promised. It starts at 2 MiB and grows
// while the peer delivers a window's worth per round trip, that is, while the window and not the link is the limit.

import { ProtocolError } from '../errors.ts'
import { maxWindowBytes } from '../limits.ts'

export interface WindowLimits {
  /** What is promised at first, in bytes. */
  initialBytes: number
  /** What may be promised at most, in bytes. */
  maxBytes: number
}

export const defaultWindowLimits: WindowLimits = { initialBytes: 2 * 1024 * 1024, maxBytes: 64 * 1024 * 1024 }

/** What we let the peer send. */
export class ReceiveWindow {
  /** Bytes the peer may still send. */
  available: number
  /** Bytes received and not consumed yet. */
  unconsumed = 0
  /** Bytes we are willing to have promised and unread together. */
  target: number
  readonly #maxBytes: number
  #sinceAdjust = 0
  #adjustedAt: number | undefined
  /** Bytes of the burst that is coming in, when it began and when its last bytes were taken. */
  #burst = 0
  #burstFrom = 0
  #lastAt = Number.NEGATIVE_INFINITY

  constructor(limits: WindowLimits) {
    this.target = Math.min(limits.initialBytes, maxWindowBytes)
    this.available = this.target
    this.#maxBytes = Math.min(limits.maxBytes, maxWindowBytes)
  }

  /** Counts bytes that came. Throws ProtocolError where the peer sent more than it was promised. */
  receive(count: number): void {
    if (count > this.available)
      throw new ProtocolError(`the peer sent ${count} bytes into a window of ${this.available}`, {
        phase: 'connection',
      })
    this.available -= count
    this.unconsumed += count
  }

  /**
   * Counts bytes that the application took. Returns how many bytes to promise anew: 0, or at least half the target, so
   * that adjusts are rare.
   */
  consume(count: number, nowMs: number, roundTripMs: number | undefined): number {
    this.unconsumed -= count
    this.#sinceAdjust += count
    if (roundTripMs === undefined || nowMs - this.#lastAt > roundTripMs / 2) {
      this.#burst = 0
      this.#burstFrom = nowMs
    } else this.#burst += count
    this.#lastAt = nowMs
    const held = this.available + this.unconsumed
    if (held > this.target / 2) return 0
    this.#grow(nowMs, roundTripMs)
    const adjust = this.target - held
    this.available += adjust
    this.#sinceAdjust = 0
    this.#adjustedAt = nowMs
    return adjust
  }

  /**
   * Doubles the target while bandwidth x delay comes near it: measured since the last adjust, or in one burst without a
   * pause, which shows what the link carries before a window has come in every round trip.
   */
  #grow(nowMs: number, roundTripMs: number | undefined): void {
    if (roundTripMs === undefined || this.unconsumed > this.target / 4) return
    const since = this.#adjustedAt
    const steady = since === undefined ? 0 : this.#sinceAdjust / Math.max(nowMs - since, 0.01)
    const inBurst = this.#burst / Math.max(nowMs - this.#burstFrom, 0.01)
    const bandwidthDelay = Math.max(steady, this.#burst < this.target / 8 ? 0 : inBurst) * roundTripMs
    while (this.target < 4 * bandwidthDelay && this.target < this.#maxBytes)
      this.target = Math.min(2 * this.target, this.#maxBytes)
  }
}

/** What the peer lets us send. */
export class SendWindow {
  available: number

  constructor(initialBytes: number) {
    this.available = initialBytes
  }

  /** Throws ProtocolError where the sum leaves 32 bits (RFC 4254 s5.2). */
  adjust(count: number): void {
    if (this.available + count > maxWindowBytes)
      throw new ProtocolError(`window adjust of ${count} on ${this.available} leaves 32 bits`, {
        phase: 'connection',
      })
    this.available += count
  }
}
