// RSA signatures on WebCrypto (RSASSA-PKCS1-v1_5, RFC 8017 s8.2), which takes keys as JSON Web Keys.

import { UsageError } from '../errors.ts'
import { toBase64 } from '../wire/bytes.ts'
import { stripLeadingZeros } from './big-integer.ts'
import type { HashName, SigningKey, VerifyKey } from './provider.ts'
import { crtExponents } from './rsa-crt.ts'
import { type Bytes, subtleHashes } from './web-bytes.ts'

/** Whether the signature fits. Never throws for bad input. */
export async function verifyRsa(
  subtle: SubtleCrypto,
  key: Extract<VerifyKey, { type: 'rsa' }>,
  hash: HashName,
  data: Uint8Array,
  signature: Uint8Array,
): Promise<boolean> {
  try {
    const algorithm = pkcs1(hash)
    const jwk = { kty: 'RSA', n: base64Url(key.n), e: base64Url(key.e), ext: true }
    const imported = await subtle.importKey('jwk', jwk, algorithm, false, ['verify'])
    return await subtle.verify(algorithm, imported, signature as Bytes, data as Bytes)
  } catch {
    return false
  }
}

/** UsageError for a private key that cannot sign. */
export async function signRsa(
  subtle: SubtleCrypto,
  key: Extract<SigningKey, { type: 'rsa' }>,
  hash: HashName,
  data: Uint8Array,
): Promise<Uint8Array> {
  const algorithm = pkcs1(hash)
  const { dp, dq } = crtExponents(key)
  const jwk = {
    kty: 'RSA',
    ext: true,
    n: base64Url(key.n),
    e: base64Url(key.e),
    d: base64Url(key.d),
    p: base64Url(key.p),
    q: base64Url(key.q),
    dp: base64Url(dp),
    dq: base64Url(dq),
    qi: base64Url(key.iqmp),
  }
  try {
    const imported = await subtle.importKey('jwk', jwk, algorithm, false, ['sign'])
    return new Uint8Array(await subtle.sign(algorithm, imported, data as Bytes))
  } catch (cause) {
    throw new UsageError('the RSA private key cannot sign', { cause })
  }
}

/** RSASSA-PKCS1-v1_5 (RFC 8017 s8.2). UsageError for a hash WebCrypto does not have. */
function pkcs1(hash: HashName): { name: string; hash: string } {
  const name = subtleHashes.get(hash)
  if (name === undefined) throw new UsageError(`WebCrypto has no RSA signatures with ${hash}`)
  return { name: 'RSASSA-PKCS1-v1_5', hash: name }
}

/** A magnitude as JSON Web Keys have it (RFC 7518 s2: base64url, no padding; s6.3.1: no leading zero bytes). */
function base64Url(magnitude: Uint8Array): string {
  return toBase64(stripLeadingZeros(magnitude)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')
}
