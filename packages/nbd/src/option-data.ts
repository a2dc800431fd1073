// What the data of each option says ("Option types" in the NBD protocol document).
// Pure decoding: every length is checked against the bytes present by Reader; strings against "Conventions" (UTF-8,
// no NUL, at most 4096 bytes). Everything returned is a copy. What is malformed is a WireError, answered ERR_INVALID.

import { Reader, strictUtf8Text, utf8Bytes, WireError } from '@sshblock/transport/wire'
import { maxStringBytes } from './limits.ts'

/** Text of a protocol string, or a WireError. */
function protocolString(bytes: Uint8Array, what: string): string {
  if (bytes.length > maxStringBytes)
    throw new WireError(`${what} of ${bytes.length} bytes, at most ${maxStringBytes}`, 0)
  const text = strictUtf8Text(bytes)
  if (text === undefined) throw new WireError(`${what} is not UTF-8`, 0)
  if (text.includes('\0')) throw new WireError(`${what} contains NUL`, 0)
  return text
}

/** NBD_OPT_EXPORT_NAME: the whole data is the name. */
export function decodeExportName(data: Uint8Array): string {
  return protocolString(data, 'export name')
}

export interface InfoRequest {
  readonly name: string
  /** Information types asked for, duplicates and unknown ones included. */
  readonly types: readonly number[]
}

/** NBD_OPT_INFO and NBD_OPT_GO. */
export function decodeInfoRequest(data: Uint8Array): InfoRequest {
  const reader = new Reader(data)
  const name = protocolString(reader.string(), 'export name')
  const count = reader.u8() * 256 + reader.u8()
  if (count * 2 !== reader.remaining) {
    throw new WireError(`${count} information requests, but ${reader.remaining} bytes for them`, reader.at)
  }
  const types: number[] = []
  for (let i = 0; i < count; i++) types.push(reader.u8() * 256 + reader.u8())
  return { name, types }
}

export interface MetaContextRequest {
  readonly name: string
  readonly queries: readonly string[]
}

/** NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. */
export function decodeMetaContextRequest(data: Uint8Array): MetaContextRequest {
  const reader = new Reader(data)
  const name = protocolString(reader.string(), 'export name')
  const count = reader.u32()
  // Each query takes at least its length field: a count beyond that is refused before anything loops over it.
  if (count * 4 > reader.remaining)
    throw new WireError(`${count} queries in ${reader.remaining} bytes`, reader.at)
  const queries: string[] = []
  for (let i = 0; i < count; i++) {
    const query = protocolString(reader.string(), 'metadata query')
    // Section "Metadata querying": a namespace, which is not empty, then a colon.
    if (query.indexOf(':') < 1) throw new WireError('metadata query without a namespace', reader.at)
    queries.push(query)
  }
  reader.expectEnd()
  return { name, queries }
}

/** Whether a text can be sent as a protocol string: well-formed, no NUL, at most 4096 bytes of UTF-8. */
export function isProtocolString(text: string): boolean {
  return !/[\0\p{Cs}]/u.test(text) && utf8Bytes(text).length <= maxStringBytes
}
