// ECDSA verification on WebCrypto, so that a host key on a NIST curve costs a page no code of noble's.

import { fieldBytes, looksUncompressed } from './elliptic-curves.ts'
import type { HashName, VerifyKey } from './provider.ts'
import { type Bytes, isUnsupported, subtleHashes } from './web-bytes.ts'

const namedCurves = { nistp256: 'P-256', nistp384: 'P-384', nistp521: 'P-521' }

/**
 * Whether the signature (r || s) fits (FIPS 186-5 s6.4.2); undefined where this runtime lacks the curve or the hash. Never
 * throws for bad input.
 */
export async function verifyEcdsa(
  subtle: SubtleCrypto,
  key: Extract<VerifyKey, { type: 'ecdsa' }>,
  hash: HashName,
  data: Uint8Array,
  signature: Uint8Array,
): Promise<boolean | undefined> {
  if (!looksUncompressed(key.curve, key.point) || signature.length !== 2 * fieldBytes(key.curve)) return false
  const hashName = subtleHashes.get(hash)
  if (hashName === undefined) return undefined
  try {
    const curve = { name: 'ECDSA', namedCurve: namedCurves[key.curve] }
    const imported = await subtle.importKey('raw', key.point as Bytes, curve, false, ['verify'])
    const algorithm = { name: 'ECDSA', hash: hashName }
    return await subtle.verify(algorithm, imported, signature as Bytes, data as Bytes)
  } catch (error) {
    return isUnsupported(error) ? undefined : false
  }
}
