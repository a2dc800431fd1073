// Buffers for payloads and replies, used again instead of allocated anew: a fresh buffer of 1 MiB costs more in page
// faults than its copy. Sizes are powers of two plus room for reply headers. A buffer that comes back still holds
// another request's bytes: `take` promises nothing about contents, `takeZeroed` does, and replies are made from that.

import { maxPooledBytes } from './limits.ts'

/** Room beside the payload for reply headers. */
const slackBytes = 64
const minClassBytes = 4096
const maxClassBytes = 2_097_152

export class BufferPool {
  readonly #free = new Map<number, Uint8Array[]>()
  readonly #maxFreeBytes: number
  #freeBytes = 0

  constructor(maxFreeBytes: number = maxPooledBytes) {
    this.#maxFreeBytes = maxFreeBytes
  }

  /** Bytes held for later. */
  get freeBytes(): number {
    return this.#freeBytes
  }

  /**
   * A buffer of at least `length` bytes whose contents are undefined: to be overwritten before anything reads it.
   * @throws RangeError where memory is short
   */
  take(length: number): Uint8Array {
    return this.#reuse(length) ?? new Uint8Array(classOf(length) ?? length)
  }

  /**
   * A buffer of at least `length` bytes, of which the first `length` are zero. A device that fills less than it was asked
   * for then shows zeros to a client, never another client's data.
   * @throws RangeError where memory is short
   */
  takeZeroed(length: number): Uint8Array {
    return this.#reuse(length)?.fill(0, 0, length) ?? new Uint8Array(classOf(length) ?? length)
  }

  /** Takes a buffer back; nobody may use it afterwards. */
  give(buffer: Uint8Array): void {
    const size = buffer.length
    if (size > maxClassBytes + slackBytes || this.#freeBytes + size > this.#maxFreeBytes) return
    const list = this.#free.get(size)
    if (list === undefined) this.#free.set(size, [buffer])
    else list.push(buffer)
    this.#freeBytes += size
  }

  #reuse(length: number): Uint8Array | undefined {
    const size = classOf(length)
    const buffer = size === undefined ? undefined : this.#free.get(size)?.pop()
    if (buffer !== undefined) this.#freeBytes -= buffer.length
    return buffer
  }

  /** Lets go of everything held for later. */
  clear(): void {
    this.#free.clear()
    this.#freeBytes = 0
  }
}

/** Size of the buffers that serve `length`; undefined where such buffers are not kept. */
function classOf(length: number): number | undefined {
  let size = minClassBytes
  while (size + slackBytes < length) {
    size *= 2
    if (size > maxClassBytes) return undefined
  }
  return size + slackBytes
}
