// How bytes and names enter WebCrypto.

import type { HashName } from './provider.ts'

/** WebCrypto's types exclude shared memory, which no buffer of ours is. */
export type Bytes = Uint8Array<ArrayBuffer>

/** WebCrypto's names of the hashes that it has. */
export const subtleHashes: ReadonlyMap<HashName, string> = new Map<HashName, string>([
  ['sha1', 'SHA-1'],
  ['sha256', 'SHA-256'],
  ['sha384', 'SHA-384'],
  ['sha512', 'SHA-512'],
])

/** The algorithm is not one that this runtime has. */
export function isUnsupported(error: unknown): boolean {
  return error instanceof Error && error.name === 'NotSupportedError'
}
