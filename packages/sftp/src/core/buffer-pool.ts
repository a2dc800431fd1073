// Buffers for payloads, used again instead of allocated and zeroed each time. One pool serves one session, so what an old
// payload left in a buffer never reaches another user; only bytes that were filled are ever sent.

const granularity = 8192
/** Kept while nothing is under way. */
const idleBytes = 512 * 1024

export class BufferPool {
  readonly #free = new Map<number, Uint8Array[]>()
  readonly #maxBytes: number
  #bytes = 0

  /** @param maxBytes kept for later use at most */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /** Bytes kept for later use. */
  get freeBytes(): number {
    return this.#bytes
  }

  /** A buffer of at least `size` bytes with any content. The caller owns it until `give`. */
  take(size: number): Uint8Array {
    const capacity = Math.ceil(size / granularity) * granularity
    const buffer = this.#free.get(capacity)?.pop()
    if (buffer === undefined) return new Uint8Array(capacity)
    this.#bytes -= capacity
    return buffer
  }

  /** Gives a buffer from `take` back; nobody else may hold a view of it. */
  give(buffer: Uint8Array): void {
    if (this.#bytes + buffer.length > this.#maxBytes) return
    this.#bytes += buffer.length
    const list = this.#free.get(buffer.length)
    if (list === undefined) this.#free.set(buffer.length, [buffer])
    else list.push(buffer)
  }

  /** Lets go of most of what is kept: the session rests. */
  trim(): void {
    for (const [capacity, list] of this.#free) {
      while (this.#bytes > idleBytes && list.pop() !== undefined) this.#bytes -= capacity
      if (list.length === 0) this.#free.delete(capacity)
    }
  }

  clear(): void {
    this.#free.clear()
    this.#bytes = 0
  }
}
