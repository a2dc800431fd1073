// Packets as a test wants them: framed, padded and sealed like any other, or with one thing wrong in them.
// Works on the same sealers as the packet layer (RFC 4253 s6), but writes what it is told: any length field, any padding,
// another sequence number, bytes changed after sealing. Returned packets are new arrays, the caller's.

import type { MaybePromise, RandomSource } from '../crypto/provider.ts'
import { minPadding } from '../limits.ts'
import type { Sealer } from '../packet/cipher.ts'
import { writeU32 } from '../wire/bytes.ts'

const headerBytes = 5

/** What is wrong with a packet, on purpose. Everything left out is as RFC 4253 s6 wants it. */
export interface PacketEdit {
  /** Bytes of padding that are really there, 0 to 255; the fewest that are allowed where left out. */
  readonly paddingBytes?: number
  /** What padding_length says instead of the truth. */
  readonly paddingLength?: number
  /** What packet_length says instead of the truth, before the packet is sealed. */
  readonly packetLength?: number
  /** Sealed as the packet of that number; the count of packets goes on as ever. */
  readonly sequence?: number
  /** Flips one bit after sealing: in the length field, in the sealed payload, in the first or the last byte of MAC or tag. */
  readonly corrupt?: 'length' | 'body' | 'tag start' | 'tag end'
  /** Changes the sealed packet in any other way: what is returned is what leaves. */
  readonly sealed?: (packet: Uint8Array) => Uint8Array
}

/** The sending direction of a scripted peer: its sealer and its sequence number. */
export class PacketWriter {
  readonly #random: RandomSource
  #sealer: Sealer
  /** Sequence number of the next packet. A test may set it. */
  sequence = 0

  constructor(sealer: Sealer, random: RandomSource) {
    this.#sealer = sealer
    this.#random = random
  }

  /** Bytes of MAC or tag behind each packet. */
  get tagLength(): number {
    return this.#sealer.tagLength
  }

  /** The multiple to which packets are padded. */
  get blockSize(): number {
    return this.#sealer.blockSize
  }

  /** The padding that a payload of this length needs (RFC 4253 s6). */
  paddingFor(payloadLength: number): number {
    const { blockSize, lengthInBlock } = this.#sealer
    const counted = (lengthInBlock ? 4 : 0) + 1 + payloadLength
    const padding = blockSize - (counted % blockSize)
    return padding < minPadding ? padding + blockSize : padding
  }

  /** One packet, sealed; a promise where the cipher is asynchronous. */
  write(payload: Uint8Array, edit: PacketEdit = {}): MaybePromise<Uint8Array> {
    const padding = edit.paddingBytes ?? this.paddingFor(payload.length)
    const end = headerBytes + payload.length + padding
    const packet = new Uint8Array(end + this.#sealer.tagLength)
    writeU32(packet, 0, edit.packetLength ?? end - 4)
    packet[4] = edit.paddingLength ?? padding
    packet.set(payload, headerBytes)
    this.#random(packet.subarray(headerBytes + payload.length, end))
    const sequence = this.sequence
    this.sequence = (sequence + 1) >>> 0
    const sealing = this.#sealer.seal(packet, edit.sequence ?? sequence)
    return sealing === undefined ? this.#edited(packet, edit) : sealing.then(() => this.#edited(packet, edit))
  }

  #edited(packet: Uint8Array, edit: PacketEdit): Uint8Array {
    if (edit.corrupt !== undefined) {
      const tag = packet.length - this.#sealer.tagLength
      const at = { length: 3, body: headerBytes, 'tag start': tag, 'tag end': packet.length - 1 }[
        edit.corrupt
      ]
      packet[at] = packet[at]! ^ 1
    }
    return edit.sealed === undefined ? packet : edit.sealed(packet)
  }

  /** Puts new keys in force behind NEWKEYS. */
  activate(sealer: Sealer, resetSequence: boolean): void {
    this.#sealer.destroy()
    this.#sealer = sealer
    if (resetSequence) this.sequence = 0
  }

  destroy(): void {
    this.#sealer.destroy()
  }
}
