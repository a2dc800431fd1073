// Replies of the transmission phase ("Simple reply message", "Structured reply chunk message", "Structured reply types").
// Each function writes one header at a position of a buffer that the caller has reserved; READ data is read by the device
// straight behind it. Nothing allocates, nothing is sent.

import { writeU32 } from '@sshblock/transport/wire'
import { magic, replyType } from './protocol.ts'

/** What a reply echoes. */
export interface Cookie {
  readonly cookieHigh: number
  readonly cookieLow: number
}

export const simpleReplyBytes = 16
export const chunkHeaderBytes = 20
/** Chunk header and offset; the data follows. */
export const dataChunkHeaderBytes = chunkHeaderBytes + 8
export const holeChunkBytes = chunkHeaderBytes + 12

function writeU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8
  bytes[at + 1] = value
}

function writeU64(bytes: Uint8Array, at: number, value: number): void {
  writeU32(bytes, at, Math.floor(value / 0x1_0000_0000))
  writeU32(bytes, at + 4, value % 0x1_0000_0000)
}

/** NBD_SIMPLE_REPLY_MAGIC; READ data follows where `error` is 0. */
export function writeSimpleReply(bytes: Uint8Array, at: number, cookie: Cookie, error: number): void {
  writeU32(bytes, at, magic.simpleReply)
  writeU32(bytes, at + 4, error)
  writeU32(bytes, at + 8, cookie.cookieHigh)
  writeU32(bytes, at + 12, cookie.cookieLow)
}

/** NBD_STRUCTURED_REPLY_MAGIC, with the length of the payload that follows. */
export function writeChunkHeader(
  bytes: Uint8Array,
  at: number,
  cookie: Cookie,
  chunk: { flags: number; type: number; length: number },
): void {
  writeU32(bytes, at, magic.structuredReply)
  writeU16(bytes, at + 4, chunk.flags)
  writeU16(bytes, at + 6, chunk.type)
  writeU32(bytes, at + 8, cookie.cookieHigh)
  writeU32(bytes, at + 12, cookie.cookieLow)
  writeU32(bytes, at + 16, chunk.length)
}

/** NBD_REPLY_TYPE_NONE. */
export function writeNoneChunk(bytes: Uint8Array, at: number, cookie: Cookie, flags: number): void {
  writeChunkHeader(bytes, at, cookie, { flags, type: replyType.none, length: 0 })
}

/** NBD_REPLY_TYPE_OFFSET_DATA; `dataBytes` of data follow. */
export function writeDataChunkHeader(
  bytes: Uint8Array,
  at: number,
  cookie: Cookie,
  flags: number,
  offset: number,
  dataBytes: number,
): void {
  writeChunkHeader(bytes, at, cookie, { flags, type: replyType.offsetData, length: 8 + dataBytes })
  writeU64(bytes, at + chunkHeaderBytes, offset)
}

/** NBD_REPLY_TYPE_OFFSET_HOLE. */
export function writeHoleChunk(
  bytes: Uint8Array,
  at: number,
  cookie: Cookie,
  flags: number,
  offset: number,
  holeBytes: number,
): void {
  writeChunkHeader(bytes, at, cookie, { flags, type: replyType.offsetHole, length: 12 })
  writeU64(bytes, at + chunkHeaderBytes, offset)
  writeU32(bytes, at + chunkHeaderBytes + 8, holeBytes)
}

/** Size of what `writeErrorChunk` writes. */
export function errorChunkBytes(text: Uint8Array, offset: number | undefined): number {
  return chunkHeaderBytes + 6 + text.length + (offset === undefined ? 0 : 8)
}

/** NBD_REPLY_TYPE_ERROR, or NBD_REPLY_TYPE_ERROR_OFFSET where an offset is given. */
export function writeErrorChunk(
  bytes: Uint8Array,
  at: number,
  cookie: Cookie,
  chunk: { flags: number; error: number; text: Uint8Array; offset: number | undefined },
): void {
  const type = chunk.offset === undefined ? replyType.error : replyType.errorOffset
  const length = errorChunkBytes(chunk.text, chunk.offset) - chunkHeaderBytes
  writeChunkHeader(bytes, at, cookie, { flags: chunk.flags, type, length })
  writeU32(bytes, at + chunkHeaderBytes, chunk.error)
  writeU16(bytes, at + chunkHeaderBytes + 4, chunk.text.length)
  bytes.set(chunk.text, at + chunkHeaderBytes + 6)
  if (chunk.offset !== undefined) writeU64(bytes, at + chunkHeaderBytes + 6 + chunk.text.length, chunk.offset)
}

/** Size of what `writeStatusChunk` writes for so many descriptors. */
export function statusChunkBytes(descriptors: number): number {
  return chunkHeaderBytes + 4 + 8 * descriptors
}

/**
 * NBD_REPLY_TYPE_BLOCK_STATUS.
 * @param extents pairs: length in bytes, then status flags
 */
export function writeStatusChunk(
  bytes: Uint8Array,
  at: number,
  cookie: Cookie,
  chunk: { flags: number; contextId: number; extents: readonly number[] },
): void {
  const length = 4 + 4 * chunk.extents.length
  writeChunkHeader(bytes, at, cookie, { flags: chunk.flags, type: replyType.blockStatus, length })
  writeU32(bytes, at + chunkHeaderBytes, chunk.contextId)
  let next = at + chunkHeaderBytes + 4
  for (const value of chunk.extents) {
    writeU32(bytes, next, value)
    next += 4
  }
}
