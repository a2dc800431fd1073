// How much of one client's work the server holds at once: requests and payload bytes, from the moment a request's header
// was read until its reply was handed to the operating system. A client that does not take its replies therefore stops
// being read. How many bytes that may be can change with the number of clients. Owns two counters, no buffers.

export class InFlightBudget {
  readonly #maxRequests: number
  readonly #maxBytes: () => number
  #requests = 0
  #bytes = 0

  constructor(maxRequests: number, maxBytes: () => number) {
    this.#maxRequests = maxRequests
    this.#maxBytes = maxBytes
  }

  get requests(): number {
    return this.#requests
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Counts one more request of `bytes`, or returns false where it must wait. One request alone is always let in. */
  tryTake(bytes: number): boolean {
    if (this.#requests > 0 && (this.#requests >= this.#maxRequests || this.#bytes + bytes > this.#maxBytes()))
      return false
    this.#requests++
    this.#bytes += bytes
    return true
  }

  /** Gives back what `tryTake` counted. */
  give(requests: number, bytes: number): void {
    this.#requests -= requests
    this.#bytes -= bytes
  }
}
