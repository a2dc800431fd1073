// Bytes that came before somebody takes them. A peer may cut a window's worth of data into packets of one byte each: kept
// one by one they would cost a hundred times their size, so small pieces share a buffer here.
// What `drain` hands out belongs to the taker.

const firstChunkBytes = 512
const maxChunkBytes = 64 * 1024

export class Backlog {
  #chunks: Uint8Array[] = []
  /** Bytes used of the last chunk; every other chunk is full. */
  #used = 0
  /** Bytes held. */
  length = 0

  /** Copies `view` to the end. */
  append(view: Uint8Array): void {
    this.length += view.length
    let rest = view
    const last = this.#chunks.at(-1)
    if (last !== undefined && this.#used < last.length) {
      const count = Math.min(rest.length, last.length - this.#used)
      last.set(count === rest.length ? rest : rest.subarray(0, count), this.#used)
      this.#used += count
      rest = rest.subarray(count)
    }
    if (rest.length === 0) return
    const chunk = new Uint8Array(
      Math.max(rest.length, Math.min(maxChunkBytes, last === undefined ? firstChunkBytes : 2 * last.length)),
    )
    chunk.set(rest)
    this.#chunks.push(chunk)
    this.#used = rest.length
  }

  /** Gives everything held to `take`, in order, and forgets it. */
  drain(take: (bytes: Uint8Array) => void): void {
    const chunks = this.#chunks
    const used = this.#used
    this.#chunks = []
    this.#used = 0
    this.length = 0
    chunks.forEach((chunk, i) => {
      take(i === chunks.length - 1 ? chunk.subarray(0, used) : chunk)
    })
  }
}
