// The sending direction: frames, pads and seals packets in the outbox, counts them.
// Owns the sealer, the sequence number and the rekey counters of its direction. One packet at a time is being written;
// one (CHANNEL_DATA) may be left open to be filled further, and is finished before anything follows it.

import type { RandomSource } from '../crypto/provider.ts'
import { ProtocolError, UsageError } from '../errors.ts'
import { maxSequence, minPadding } from '../limits.ts'
import { writeU32 } from '../wire/bytes.ts'
import type { Writer } from '../wire/writer.ts'
import type { Sealer } from './cipher.ts'
import { Outbox } from './outbox.ts'

const headerBytes = 5
const paddingPoolBytes = 4096

export class Outbound {
  readonly outbox: Outbox = new Outbox()
  readonly #random: RandomSource
  readonly #onSealed: (error?: unknown) => void
  #sealer: Sealer
  /** Sequence number of the next packet. */
  sequence = 0
  bytesUnderKey = 0
  packetsUnderKey = 0
  #finishOpen: (() => void) | undefined
  #padding = new Uint8Array(paddingPoolBytes)
  #paddingAt = paddingPoolBytes

  constructor(sealer: Sealer, random: RandomSource, onSealed: (error?: unknown) => void) {
    this.#sealer = sealer
    this.#random = random
    this.#onSealed = onSealed
  }

  /** Bytes encoded and not yet taken by the duplex. */
  get pendingBytes(): number {
    return this.outbox.pendingBytes
  }

  /** Bytes outside packets: the identification line. */
  raw(bytes: Uint8Array): void {
    this.outbox.beginPacket()
    this.outbox.raw(bytes)
  }

  /** Starts a packet whose payload the caller writes; `room` bytes of payload are made contiguous at once. */
  begin(room = 0): Writer {
    this.finishOpenPacket()
    const outbox = this.outbox
    outbox.beginPacket()
    outbox.reserve(headerBytes)
    if (room > 0) {
      outbox.reserve(room)
      outbox.length -= room
    }
    return outbox
  }

  /** Leaves the packet begun last open; `finish` completes its payload when something else is to be sent or taken. */
  leaveOpen(finish: () => void): void {
    this.#finishOpen = finish
  }

  /** Completes a packet that was left open. */
  finishOpenPacket(): void {
    const finish = this.#finishOpen
    if (finish === undefined) return
    this.#finishOpen = undefined
    finish()
    this.end()
  }

  /** Ends the packet begun last: pads (RFC 4253 s6) and seals it. */
  end(): void {
    const { outbox } = this
    const sealer = this.#sealer
    if (this.packetsUnderKey >= maxSequence)
      throw new ProtocolError('2^32 packets under one key', { phase: 'rekeying' })
    const payloadLength = outbox.length - outbox.packetStart - headerBytes
    if (payloadLength < 1) throw new UsageError('a packet needs a payload')
    const counted = (sealer.lengthInBlock ? 4 : 0) + 1 + payloadLength
    let padding = sealer.blockSize - (counted % sealer.blockSize)
    if (padding < minPadding) padding += sealer.blockSize
    this.#pad(padding)
    outbox.reserve(sealer.tagLength)
    const start = outbox.packetStart
    writeU32(outbox.buffer, start, 1 + payloadLength + padding)
    outbox.buffer[start + 4] = padding
    const packet = outbox.buffer.subarray(start, outbox.length)
    const sequence = this.sequence
    this.sequence = (sequence + 1) >>> 0
    this.packetsUnderKey++
    this.bytesUnderKey += packet.length
    outbox.beginPacket()
    const sealed = sealer.seal(packet, sequence)
    if (sealed !== undefined) {
      const done = outbox.sealStarted()
      sealed.then(
        () => {
          done()
          this.#onSealed()
        },
        (error) => this.#onSealed(error),
      )
    }
  }

  #pad(length: number): void {
    if (this.#paddingAt + length > paddingPoolBytes) {
      this.#random(this.#padding)
      this.#paddingAt = 0
    }
    this.outbox.raw(this.#padding.subarray(this.#paddingAt, this.#paddingAt + length))
    this.#paddingAt += length
  }

  /** Puts our new keys in force: NEWKEYS was the last packet under the old ones. */
  activate(sealer: Sealer, resetSequence: boolean): void {
    this.finishOpenPacket()
    this.#sealer.destroy()
    this.#sealer = sealer
    this.bytesUnderKey = 0
    this.packetsUnderKey = 0
    if (resetSequence) this.sequence = 0
  }

  /** The next slab to be written, or undefined while there is none. */
  take(): Uint8Array | undefined {
    this.finishOpenPacket()
    return this.outbox.take()
  }

  destroy(): void {
    this.#sealer.destroy()
    this.#finishOpen = undefined
  }

  /** For tests of the wrap-around. */
  setSequenceForTest(sequence: number): void {
    this.sequence = sequence
    this.packetsUnderKey = sequence
  }
}
