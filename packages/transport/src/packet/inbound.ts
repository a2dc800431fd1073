// The receiving direction: cuts packets from the receive buffer, opens them in order, counts them.
// Owns the opener, the sequence number and the rekey counters of its direction. Payloads it returns are valid until the
// next call. Where opening is asynchronous it keeps an ordered window of packets being opened; `onOpened` says that the
// first of them is ready.

import { ProtocolError } from '../errors.ts'
import { maxSequence } from '../limits.ts'
import type { Opener } from './cipher.ts'
import type { ReceiveBuffer } from './receive-buffer.ts'

interface OpeningPacket {
  payload: Uint8Array | undefined
  error: unknown
  settled: boolean
}

export class Inbound {
  readonly #buffer: ReceiveBuffer
  readonly #onOpened: () => void
  #opener: Opener
  /** Length of the packet at the front, once its header was read (a header may be decrypted only once). */
  #sealedLength = 0
  #opening: OpeningPacket[] = []
  /** Sequence number of the next packet to be cut. */
  #nextSequence = 0
  /** Sequence number of the last packet returned by `next`. */
  sequence = -1
  /** Packets are opened one at a time while keys may change under way. */
  singleFile = false
  bytesUnderKey = 0
  packetsUnderKey = 0

  constructor(buffer: ReceiveBuffer, opener: Opener, onOpened: () => void) {
    this.#buffer = buffer
    this.#opener = opener
    this.#onOpened = onOpened
  }

  /** The next payload, or undefined while there is none. Throws ProtocolError or IntegrityError. */
  next(): Uint8Array | undefined {
    this.#fill()
    const first = this.#opening[0]
    if (first !== undefined) {
      if (!first.settled) return undefined
      this.#opening.shift()
      if (first.error !== undefined) throw first.error
      this.sequence = (this.sequence + 1) >>> 0
      return first.payload
    }
    const sealed = this.#cut()
    if (sealed === undefined) return undefined
    const payload = this.#opener.open(sealed, this.#countPacket(sealed.length))
    if (payload instanceof Uint8Array) {
      this.sequence = (this.sequence + 1) >>> 0
      return payload
    }
    this.#await(payload)
    return undefined
  }

  /** Starts opening further packets, as far as the cipher wants several at once. */
  #fill(): void {
    const lookahead = this.singleFile ? 1 : this.#opener.lookahead
    if (lookahead === 1) return
    while (this.#opening.length < lookahead) {
      const sealed = this.#cut()
      if (sealed === undefined) return
      const payload = this.#opener.open(sealed, this.#countPacket(sealed.length))
      if (payload instanceof Uint8Array) this.#opening.push({ payload, error: undefined, settled: true })
      else this.#await(payload)
    }
  }

  #await(promise: Promise<Uint8Array>): void {
    const packet: OpeningPacket = { payload: undefined, error: undefined, settled: false }
    this.#opening.push(packet)
    const settle = (): void => {
      packet.settled = true
      if (this.#opening[0] === packet) this.#onOpened()
    }
    promise.then(
      (payload) => {
        packet.payload = payload
        settle()
      },
      (error) => {
        packet.error = error
        settle()
      },
    )
  }

  /** Whether a packet is being opened asynchronously. */
  get busy(): boolean {
    return this.#opening.length > 0
  }

  /** The whole sealed packet at the front, or undefined while it has not come whole. */
  #cut(): Uint8Array | undefined {
    const buffer = this.#buffer
    if (this.#sealedLength === 0) {
      if (buffer.length < this.#opener.headerLength) return undefined
      this.#sealedLength = this.#opener.sealedLength(buffer.bytes, buffer.start, this.#nextSequence)
    }
    if (buffer.length < this.#sealedLength) return undefined
    const sealed = buffer.take(this.#sealedLength)
    this.#sealedLength = 0
    return sealed
  }

  #countPacket(bytes: number): number {
    const sequence = this.#nextSequence
    // Never reuse a nonce: a peer that lets the number come round without new keys is cut off (RFC 4344 s3.1).
    if (this.packetsUnderKey >= maxSequence)
      throw new ProtocolError('the peer sent 2^32 packets under one key', { phase: 'rekeying' })
    this.bytesUnderKey += bytes
    this.packetsUnderKey++
    this.#nextSequence = (sequence + 1) >>> 0
    return sequence
  }

  /** Bytes still missing of the packet at the front, at least 1: how much to wait for. */
  get missing(): number {
    return this.#sealedLength === 0 ? 1 : Math.max(1, this.#sealedLength - this.#buffer.length)
  }

  /** Puts the peer's new keys in force: NEWKEYS was the last packet under the old ones. */
  activate(opener: Opener, resetSequence: boolean): void {
    if (this.#opening.length > 0)
      throw new ProtocolError('a packet after NEWKEYS was opened with the old keys', {
        phase: 'key exchange',
      })
    this.#opener.destroy()
    this.#opener = opener
    this.bytesUnderKey = 0
    this.packetsUnderKey = 0
    if (resetSequence) {
      this.#nextSequence = 0
      this.sequence = -1
    }
  }

  destroy(): void {
    this.#opener.destroy()
    this.#opening = []
  }

  /** For tests of the wrap-around. */
  setSequenceForTest(sequence: number): void {
    this.#nextSequence = sequence
    this.sequence = sequence - 1
    this.packetsUnderKey = sequence
  }
}
