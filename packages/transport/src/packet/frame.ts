// The two numbers every packet carries about itself, packet_length and padding_length (RFC 4253 s6), and what they may be.
// All cipher suites read them here. A length is checked as soon as it is known, before anything waits for that many bytes
// or allocates them; most suites know it before the packet is authenticated, so it may be anything.

import { ProtocolError } from '../errors.ts'
import { maxPacketLength, minPacketLength, minPadding } from '../limits.ts'

/** Bytes of the packet_length field. */
export const lengthFieldBytes = 4

/**
 * Throws ProtocolError unless packet_length is from 5 to 262144 and a whole number of cipher blocks, counted with its own
 * 4 bytes where `lengthInBlock` (RFC 4253 s6: "the concatenation of packet_length, padding_length, payload, and random
 * padding MUST be a multiple of the cipher block size or 8"; AEAD and encrypt-then-MAC leave packet_length out).
 */
export function checkPacketLength(packetLength: number, blockSize: number, lengthInBlock: boolean): void {
  if (packetLength < minPacketLength || packetLength > maxPacketLength) {
    throw new ProtocolError(
      `packet_length is ${packetLength}, not from ${minPacketLength} to ${maxPacketLength}`,
      {
        field: 'packet_length',
      },
    )
  }
  const counted = lengthInBlock ? packetLength + lengthFieldBytes : packetLength
  if (counted % blockSize !== 0) {
    throw new ProtocolError(`packet_length ${packetLength} does not fill blocks of ${blockSize} bytes`, {
      field: 'packet_length',
    })
  }
}

/**
 * The payload in `body`, which is padding_length || payload || padding; a view. Throws ProtocolError for padding below 4
 * bytes (RFC 4253 s6) and for padding that leaves no payload: a message has at least its number.
 */
export function payloadOf(body: Uint8Array): Uint8Array {
  const padding = body[0]!
  const payloadEnd = body.length - padding
  if (padding < minPadding || payloadEnd < 2) {
    throw new ProtocolError(
      `padding_length is ${padding}, not from ${minPadding} to ${body.length - 2} in a packet of length ${body.length}`,
      { field: 'padding_length' },
    )
  }
  return body.subarray(1, payloadEnd)
}
