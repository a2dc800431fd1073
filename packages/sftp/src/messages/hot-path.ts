// READ, WRITE, DATA and STATUS written by hand: the messages of which a transfer has thousands. Each function does what
// the declaration in requests.ts or replies.ts does, without an object per message; a test holds both equal.
// Encoders write the packet's length field too, because nothing is known later than here.

import { readU32, type Writer, writeU32 } from '@sshblock/transport/wire'
import { packetType } from './numbers.ts'

/** Bytes of a READ besides its handle: length, type, id, handle length, offset, len. */
const readBytes = 4 + 1 + 4 + 4 + 8 + 4
/** Bytes of a WRITE besides its handle and data: length, type, id, handle length, offset, data length. */
const writeBytes = 4 + 1 + 4 + 4 + 8 + 4

/** Type, id, code. */
export const statusHeaderBytes = 9

/** Writes type, id and handle behind a length field and returns the position of the next field, the offset. */
function begin(
  writer: Writer,
  type: number,
  total: number,
  bodyBytes: number,
  id: number,
  handle: Uint8Array,
): number {
  const at = writer.reserve(total)
  const { buffer } = writer
  writeU32(buffer, at, bodyBytes)
  buffer[at + 4] = type
  writeU32(buffer, at + 5, id)
  writeU32(buffer, at + 9, handle.length)
  buffer.set(handle, at + 13)
  return at + 13 + handle.length
}

function putOffset(buffer: Uint8Array, at: number, offset: number): void {
  writeU32(buffer, at, Math.floor(offset / 0x1_0000_0000))
  writeU32(buffer, at + 4, offset % 0x1_0000_0000)
}

/** A whole READ packet. `offset` is a non-negative safe integer. */
export function encodeRead(
  writer: Writer,
  id: number,
  handle: Uint8Array,
  offset: number,
  length: number,
): void {
  const total = readBytes + handle.length
  const at = begin(writer, packetType.read, total, total - 4, id, handle)
  putOffset(writer.buffer, at, offset)
  writeU32(writer.buffer, at + 8, length)
}

/** A WRITE packet up to its data, of which `dataLength` bytes must follow. `offset` is a non-negative safe integer. */
export function encodeWriteHeader(
  writer: Writer,
  id: number,
  handle: Uint8Array,
  offset: number,
  dataLength: number,
): void {
  const total = writeBytes + handle.length
  const at = begin(writer, packetType.write, total, total - 4 + dataLength, id, handle)
  putOffset(writer.buffer, at, offset)
  writeU32(writer.buffer, at + 8, dataLength)
}

/** The code of a STATUS packet (from its type byte on), or undefined where it is too short to have one. */
export function peekStatusCode(packet: Uint8Array): number | undefined {
  return packet.length < statusHeaderBytes ? undefined : readU32(packet, 5)
}
