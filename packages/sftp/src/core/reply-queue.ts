// Replies leave in the order of their requests, whatever order they are settled in. Several clients rely on it.
// A settled reply is a whole packet; the queue owns it until it is sent, and gives pooled ones back to the pool.

import type { BufferPool } from './buffer-pool.ts'

/** The place of one reply in the order. */
export interface ReplySlot {
  /** The packet, once it is settled; it ends at `replyEnd`. */
  reply: Uint8Array | undefined
  replyEnd: number
  /** The packet lies in a pooled buffer. */
  replyPooled: boolean
}

/** Replies shorter than this are copied together into one piece of output. */
const smallBytes = 4096
const scratchBytes = 16_384

export class ReplyQueue {
  readonly #pool: BufferPool
  readonly #scratch = new Uint8Array(scratchBytes)
  #slots: ReplySlot[] = []
  #first = 0
  /** Bytes of the first slot's reply that are already out. */
  #sent = 0
  /** Pooled buffer whose last piece is out, until the caller is done with it. */
  #lent: Uint8Array | undefined
  #queuedBytes = 0

  constructor(pool: BufferPool) {
    this.#pool = pool
  }

  /** Bytes of settled replies that are not out yet, those behind an unsettled one included. */
  get queuedBytes(): number {
    return this.#queuedBytes
  }

  /** Requests without a complete answer. */
  get unanswered(): number {
    return this.#slots.length - this.#first
  }

  /** Takes the next place in the order. */
  expect(slot: ReplySlot): void {
    this.#slots.push(slot)
  }

  /** Settles a reply; `packet` now belongs to the queue. */
  settle(slot: ReplySlot, packet: Uint8Array, end: number, pooled: boolean): void {
    slot.reply = packet
    slot.replyEnd = end
    slot.replyPooled = pooled
    this.#queuedBytes += end
  }

  #pop(slot: ReplySlot): void {
    if (slot.replyPooled) this.#lent = slot.reply
    slot.reply = undefined
    this.#sent = 0
    this.#first++
    if (this.#first === this.#slots.length) {
      this.#slots.length = this.#first = 0
    } else if (this.#first >= 1024 && this.#first * 2 >= this.#slots.length) {
      this.#slots = this.#slots.slice(this.#first)
      this.#first = 0
    }
  }

  /** The next piece of output, at most `max` bytes; undefined where there is none. A view valid until the next call. */
  takeOutput(max: number): Uint8Array | undefined {
    if (this.#lent !== undefined) {
      this.#pool.give(this.#lent)
      this.#lent = undefined
    }
    let slot = this.#slots[this.#first]
    if (slot?.reply === undefined || max <= 0) return undefined
    const follower = this.#slots[this.#first + 1]
    if (slot.replyEnd - this.#sent >= smallBytes || follower?.reply === undefined)
      return this.#piece(slot, max)
    const room = Math.min(max, scratchBytes)
    let length = 0
    while (length < room && slot?.reply !== undefined && slot.replyEnd - this.#sent < smallBytes) {
      const piece = this.#piece(slot, room - length)
      this.#scratch.set(piece, length)
      length += piece.length
      if (this.#lent !== undefined) {
        this.#pool.give(this.#lent)
        this.#lent = undefined
      }
      slot = this.#slots[this.#first]
    }
    return this.#scratch.subarray(0, length)
  }

  #piece(slot: ReplySlot, max: number): Uint8Array {
    const start = this.#sent
    const end = Math.min(slot.replyEnd, start + max)
    const piece = slot.reply!.subarray(start, end)
    this.#queuedBytes -= end - start
    if (end === slot.replyEnd) this.#pop(slot)
    else this.#sent = end
    return piece
  }

  clear(): void {
    this.#slots.length = this.#first = this.#sent = this.#queuedBytes = 0
    this.#lent = undefined
  }
}
