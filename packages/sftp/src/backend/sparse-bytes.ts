// The bytes of a file in memory, of which only what was written costs memory: a 4 GiB image full of nothing is a map
// without entries. Chunks of 64 KiB by index; a chunk's array may be shorter than that, the missing rest reads as zeros.
// Reads and writes copy; nothing here hands out its arrays.

import { BackendError } from '../backend.ts'

const chunkBytes = 65_536
/** Smallest array of a chunk; then it doubles. */
const minChunkBytes = 256

/** Told before `bytes` more (or fewer) are held; throws to refuse. */
export type MemoryAccount = (bytes: number) => void

export class SparseBytes {
  readonly #chunks = new Map<number, Uint8Array>()
  readonly #account: MemoryAccount
  #size = 0

  constructor(account: MemoryAccount) {
    this.#account = account
  }

  /** Bytes, holes included. */
  get size(): number {
    return this.#size
  }

  /** Fills `into` from `offset` on and returns how many bytes the file had there. */
  read(offset: number, into: Uint8Array): number {
    const count = Math.min(into.length, this.#size - offset)
    if (count <= 0) return 0
    for (let done = 0; done < count; ) {
      const position = offset + done
      const within = position % chunkBytes
      const length = Math.min(count - done, chunkBytes - within)
      const chunk = this.#chunks.get(Math.floor(position / chunkBytes))
      const there = chunk === undefined ? 0 : Math.max(0, Math.min(length, chunk.length - within))
      if (there > 0) into.set(chunk!.subarray(within, within + there), done)
      if (there < length) into.fill(0, done + there, done + length)
      done += length
    }
    return count
  }

  /** @throws BackendError EFBIG above 2^53 - 1 bytes, and what the account throws; earlier chunks stay written then. */
  write(offset: number, from: Uint8Array): void {
    if (offset + from.length > Number.MAX_SAFE_INTEGER) throw new BackendError('EFBIG')
    for (let done = 0; done < from.length; ) {
      const position = offset + done
      const within = position % chunkBytes
      const length = Math.min(from.length - done, chunkBytes - within)
      const chunk = this.#chunkFor(Math.floor(position / chunkBytes), within + length)
      chunk.set(from.subarray(done, done + length), within)
      done += length
      if (position + length > this.#size) this.#size = position + length
    }
  }

  #chunkFor(index: number, length: number): Uint8Array {
    const chunk = this.#chunks.get(index)
    if (chunk !== undefined && chunk.length >= length) return chunk
    let capacity = chunk?.length ?? minChunkBytes
    while (capacity < length) capacity *= 2
    this.#account(capacity - (chunk?.length ?? 0))
    const grown = new Uint8Array(capacity)
    if (chunk !== undefined) grown.set(chunk)
    this.#chunks.set(index, grown)
    return grown
  }

  /** Cuts or extends with zeros. @throws BackendError EFBIG */
  truncate(size: number): void {
    if (size > Number.MAX_SAFE_INTEGER) throw new BackendError('EFBIG')
    if (size < this.#size) {
      const whole = Math.floor(size / chunkBytes)
      const within = size % chunkBytes
      for (const [index, chunk] of this.#chunks) {
        if (index > whole || (index === whole && within === 0)) {
          this.#chunks.delete(index)
          this.#account(-chunk.length)
        } else if (index === whole) {
          chunk.fill(0, Math.min(within, chunk.length))
        }
      }
    }
    this.#size = size
  }
}
