// Replies of one client that wait to be sent. Small ones are written next to each other into a slab, so that many leave as one
// piece; a READ's buffer is a piece of its own and goes back to the pool once it is sent. One take() is one write.
// With the pieces travels what they free: requests and bytes of the client's budget.

import type { BufferPool } from './buffer-pool.ts'

const slabBytes = 16_384

/** What one write sends, and what is free when it was sent. */
export interface Batch {
  readonly pieces: readonly Uint8Array[]
  /** Buffers of the pool. */
  readonly buffers: readonly Uint8Array[]
  readonly requests: number
  readonly costBytes: number
}

export class Outbox {
  /** Where `reserve` put its bytes. */
  slab = new Uint8Array(0)

  readonly #pool: BufferPool
  #start = 0
  #end = 0
  #pieces: Uint8Array[] = []
  #buffers: Uint8Array[] = []
  #requests = 0
  #costBytes = 0
  #bytes = 0
  #closed = false

  constructor(pool: BufferPool) {
    this.#pool = pool
  }

  /** Bytes that wait. */
  get bytes(): number {
    return this.#bytes
  }

  /** Nothing waits, neither bytes nor the end of a request. */
  get isEmpty(): boolean {
    return this.#bytes === 0 && this.#requests === 0
  }

  /** Room for `count` bytes of a small reply: writes them to `slab` at the returned position before anything else is called. */
  reserve(count: number): number {
    if (this.slab.length - this.#end < count) {
      this.#endPiece()
      this.slab = new Uint8Array(Math.max(slabBytes, count))
      this.#start = 0
      this.#end = 0
    }
    const at = this.#end
    this.#end += count
    this.#bytes += count
    return at
  }

  /** Adds bytes that nobody else changes. */
  add(bytes: Uint8Array): void {
    this.#endPiece()
    if (this.#closed) return
    this.#pieces.push(bytes)
    this.#bytes += bytes.length
  }

  /** Adds the first `length` bytes of a buffer of the pool, which is given back when they were sent. */
  lend(buffer: Uint8Array, length: number): void {
    if (this.#closed) {
      this.#pool.give(buffer)
      return
    }
    this.add(buffer.subarray(0, length))
    this.#buffers.push(buffer)
  }

  /** A request has its whole reply in here. */
  endRequest(costBytes: number): void {
    this.#requests++
    this.#costBytes += costBytes
  }

  /** Everything that waits. */
  take(): Batch {
    this.#endPiece()
    const batch = {
      pieces: this.#pieces,
      buffers: this.#buffers,
      requests: this.#requests,
      costBytes: this.#costBytes,
    }
    this.#pieces = []
    this.#buffers = []
    this.#requests = 0
    this.#costBytes = 0
    this.#bytes = 0
    return batch
  }

  /** Drops what waits and whatever comes; buffers go back to the pool. */
  close(): void {
    this.#closed = true
    for (const buffer of this.take().buffers) this.#pool.give(buffer)
    this.slab = new Uint8Array(0)
    this.#start = 0
    this.#end = 0
  }

  #endPiece(): void {
    if (this.#end > this.#start) {
      if (!this.#closed) this.#pieces.push(this.slab.subarray(this.#start, this.#end))
      this.#start = this.#end
    }
  }
}
