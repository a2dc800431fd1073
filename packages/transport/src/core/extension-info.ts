import type { ProtocolError } from '../errors.ts'
import { extInfo } from '../messages/transport.ts'
import { utf8Text } from '../wire/bytes.ts'
import { Reader } from '../wire/reader.ts'
import { WireError } from '../wire/wire-error.ts'
import { Writer } from '../wire/writer.ts'

/** What the peer said in EXT_INFO (RFC 8308), by name; values are raw because some are binary. */
export type Extensions = Map<string, Uint8Array>

/**
 * Reads EXT_INFO. The count is bounded by the bytes that are there (an entry takes 8 at least).
 * @throws WireError; see also {@link ProtocolError}.
 */
export function readExtensions(payload: Uint8Array): Extensions {
  const { count, extensions } = extInfo.decode(payload)
  if (count > extensions.length / 8)
    throw new WireError(`${count} extensions in ${extensions.length} bytes`, 1).within('EXT_INFO', 'count')
  const reader = new Reader(extensions)
  const found: Extensions = new Map()
  try {
    for (let i = 0; i < count; i++) found.set(reader.text(), reader.string().slice())
    reader.expectEnd()
  } catch (error) {
    if (error instanceof WireError) throw error.within('EXT_INFO', 'extensions')
    throw error
  }
  return found
}

export function writeExtensions(extensions: ReadonlyMap<string, string>): Uint8Array {
  const body = new Writer()
  for (const [name, value] of extensions) body.text(name).text(value)
  return extInfo.bytes({ count: extensions.size, extensions: body.bytes() })
}

/**
 * The list in 'server-sig-algs' (RFC 8308 s3.1). Peers exist that misspell it, so unknown and malformed names are kept out
 * rather than refused.
 */
export function serverSignatureAlgorithms(extensions: Extensions): string[] | undefined {
  const value = extensions.get('server-sig-algs')
  if (value === undefined) return undefined
  return utf8Text(value)
    .split(',')
    .filter((name) => /^[\x21-\x7e]{1,64}$/.test(name))
    .slice(0, 64)
}
