// READ, WRITE, DATA and STATUS OK by hand, for the path that moves the data; the declarations in messages/ stay the
// reference, and a test holds both to the same bytes. No decoded object, no view but the payload.

import { readU32, utf8Bytes, writeU32 } from '@sshblock/transport/wire'
import { packetType } from '../messages/numbers.ts'
import { statusCode } from '../messages/status.ts'

/** Where the handle's length stands in READ and WRITE: behind type and id. */
export const handleAt = 5

/** The fields of a READ or WRITE behind the handle. */
export interface Range {
  offset: number
  /** Bytes asked for, or bytes of payload. */
  length: number
  /** WRITE: where the payload starts in the request. */
  payloadAt: number
}

/** Offset and length of READ (draft s6.4), type byte first; undefined where the request is malformed. */
export function readRange(request: Uint8Array): Range | undefined {
  return rangeOf(request, false)
}

/** Offset and payload of WRITE (draft s6.4); what follows the payload is ignored. */
export function writeRange(request: Uint8Array): Range | undefined {
  return rangeOf(request, true)
}

function rangeOf(request: Uint8Array, hasPayload: boolean): Range | undefined {
  if (request.length < handleAt + 4) return undefined
  const handleLength = readU32(request, handleAt)
  const at = handleAt + 4 + handleLength
  if (at + 12 > request.length) return undefined
  const high = readU32(request, at)
  // 2^53 and above: no file is that long, and no number here holds it.
  if (high > 0x1f_ffff) return undefined
  const length = readU32(request, at + 8)
  if (hasPayload && length > request.length - at - 12) return undefined
  return { offset: high * 0x1_0000_0000 + readU32(request, at + 4), length, payloadAt: at + 12 }
}

/** Length, type, id and length of the data: DATA's payload starts here in its packet. */
export const dataHeaderBytes = 13

/** Writes the header of a DATA packet whose payload of `length` bytes is in place already. Returns the packet's length. */
export function writeDataHeader(packet: Uint8Array, id: number, length: number): number {
  writeU32(packet, 0, length + dataHeaderBytes - 4)
  packet[4] = packetType.data
  writeU32(packet, 5, id)
  writeU32(packet, 9, length)
  return dataHeaderBytes + length
}

const okText = utf8Bytes('Success')
const okPacket = new Uint8Array(4 + 1 + 4 + 4 + 4 + okText.length + 4)
writeU32(okPacket, 0, okPacket.length - 4)
okPacket[4] = packetType.status
writeU32(okPacket, 9, statusCode.ok)
writeU32(okPacket, 13, okText.length)
okPacket.set(okText, 17)

/** A new STATUS packet that says OK, "Success". */
export function okStatusPacket(id: number): Uint8Array {
  const packet = okPacket.slice()
  writeU32(packet, 5, id)
  return packet
}
