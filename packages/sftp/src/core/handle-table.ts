// The open handles of one channel. A handle is 16 bytes: its slot, and 14 random bytes that must match exactly, so that
// a handle of another channel, a closed one, or one made up opens nothing.

import { readU32 } from '@sshblock/transport/wire'

const handleBytes = 16

/** Fills an array with random bytes; injected so that transcripts can be replayed. */
export type RandomFill = (into: Uint8Array) => void

interface Slot<T> {
  readonly handle: Uint8Array
  readonly value: T
}

export class HandleTable<T> {
  readonly #slots: (Slot<T> | undefined)[] = []
  readonly #max: number
  readonly #random: RandomFill
  #size = 0

  /** @param max at most 65 536 */
  constructor(max: number, random: RandomFill) {
    this.#max = max
    this.#random = random
  }

  /** Open handles. */
  get size(): number {
    return this.#size
  }

  get isFull(): boolean {
    return this.#size >= this.#max
  }

  /** A handle for `value`; the bytes are a copy that the caller owns. Throws RangeError when full. */
  add(value: T): Uint8Array {
    if (this.isFull) throw new RangeError(`more than ${this.#max} handles`)
    let index = this.#slots.indexOf(undefined)
    if (index === -1) index = this.#slots.length
    const handle = new Uint8Array(handleBytes)
    this.#random(handle)
    handle[0] = index >>> 8
    handle[1] = index
    this.#slots[index] = { handle, value }
    this.#size++
    return handle.slice()
  }

  #slot(bytes: Uint8Array, at: number, length: number): number {
    if (length !== handleBytes || at + length > bytes.length) return -1
    const index = (bytes[at]! << 8) | bytes[at + 1]!
    const handle = this.#slots[index]?.handle
    if (handle === undefined) return -1
    for (let i = 2; i < handleBytes; i++) if (handle[i] !== bytes[at + i]) return -1
    return index
  }

  /** What the handle at `at` stands for, undefined where it is not an open handle of this table. */
  find(bytes: Uint8Array, at = 0, length: number = bytes.length - at): T | undefined {
    return this.#slots[this.#slot(bytes, at, length)]?.value
  }

  /** Like `find`, for a handle with its length in front, as it stands in a message. */
  findString(message: Uint8Array, at: number): T | undefined {
    return this.find(message, at + 4, readU32(message, at))
  }

  /** Forgets a handle and returns what it stood for. */
  remove(bytes: Uint8Array): T | undefined {
    const index = this.#slot(bytes, 0, bytes.length)
    const value = this.#slots[index]?.value
    if (value !== undefined) {
      this.#slots[index] = undefined
      this.#size--
    }
    return value
  }

  /** Forgets all handles and returns what they stood for. */
  clear(): T[] {
    const values = this.#slots.flatMap((slot) => (slot === undefined ? [] : [slot.value]))
    this.#slots.length = 0
    this.#size = 0
    return values
  }
}
