// Outgoing bytes: packets are encoded, padded and sealed where they lie, in slabs that leave whole.
// A slab is ours until `take()` hands it to the duplex, and comes back by `release()`. Only the packet being written may
// move (to the front of a fresh slab when the current one is full), so a sealer that finishes later still finds its bytes.

import { Writer } from '../wire/writer.ts'

const firstSlabBytes = 8 * 1024
const slabBytes = 256 * 1024
const maxSpareSlabs = 4

interface Slab {
  buffer: Uint8Array
  length: number
  /** Packets in it that an asynchronous sealer has not finished. */
  sealing: number
}

export class Outbox extends Writer {
  /** Where the packet being written begins in `buffer`. */
  packetStart = 0
  #full: Slab[] = []
  #spare: Uint8Array[] = []
  #fullBytes = 0
  /** Packets of the current slab that are being sealed. */
  #tickets = new Set<{ slab: Slab | undefined }>()

  constructor() {
    super(firstSlabBytes)
  }

  /** Bytes not yet taken. */
  get pendingBytes(): number {
    return this.#fullBytes + this.length
  }

  /** Starts a packet; positions of earlier ones are settled. */
  beginPacket(): void {
    this.packetStart = this.length
  }

  /** Forgets the packet being written. */
  dropPacket(): void {
    this.length = this.packetStart
  }

  /** Moves the packet being written to a fresh slab. */
  protected override grow(count: number): void {
    const held = this.length - this.packetStart
    const fresh = this.#freshSlab(held + count)
    fresh.set(this.buffer.subarray(this.packetStart, this.length))
    if (this.packetStart > 0) this.#retire(this.packetStart)
    this.buffer = fresh
    this.packetStart = 0
    this.length = held
  }

  #freshSlab(min: number): Uint8Array {
    const spare = min <= slabBytes ? this.#spare.pop() : undefined
    return spare ?? new Uint8Array(Math.max(min, slabBytes))
  }

  #retire(length: number): void {
    const slab: Slab = { buffer: this.buffer, length, sealing: this.#tickets.size }
    this.#full.push(slab)
    this.#fullBytes += length
    // What is still being sealed goes on counting in the slab.
    for (const ticket of this.#tickets) ticket.slab = slab
    this.#tickets.clear()
  }

  /** Notes that a packet of the current slab is being sealed; the returned function says that it is done. */
  sealStarted(): () => void {
    const ticket: { slab: Slab | undefined } = { slab: undefined }
    this.#tickets.add(ticket)
    return () => {
      if (ticket.slab !== undefined) {
        ticket.slab.sealing--
        return
      }
      this.#tickets.delete(ticket)
    }
  }

  /** The next finished bytes in order, or undefined while there are none. They are the caller's until `release`. */
  take(): Uint8Array | undefined {
    const full = this.#full[0]
    if (full !== undefined) {
      if (full.sealing > 0) return undefined
      this.#full.shift()
      this.#fullBytes -= full.length
      return full.buffer.subarray(0, full.length)
    }
    if (this.length === 0 || this.#tickets.size > 0) return undefined
    const taken = this.buffer.subarray(0, this.length)
    this.buffer = this.#spare.pop() ?? new Uint8Array(firstSlabBytes)
    this.length = 0
    this.packetStart = 0
    return taken
  }

  /** Gives back what `take()` returned, for reuse. */
  release(taken: Uint8Array): void {
    if (taken.buffer.byteLength === slabBytes && this.#spare.length < maxSpareSlabs)
      this.#spare.push(new Uint8Array(taken.buffer))
  }
}
