// The shortest time that any request of a channel took: what the way to the server and back costs when nothing waits.

export class RoundTrip {
  readonly #now: () => number
  /** In milliseconds; Infinity until something was answered. */
  leastMs = Number.POSITIVE_INFINITY

  /** `now` is a monotonic clock in milliseconds. */
  constructor(now: () => number) {
    this.#now = now
  }

  now(): number {
    return this.#now()
  }

  /** A request that left at `sentAt` was answered. Returns how long that took. */
  measured(sentAt: number): number {
    const elapsedMs = this.#now() - sentAt
    if (elapsedMs < this.leastMs) this.leastMs = elapsedMs
    return elapsedMs
  }
}
