// The CryptoProvider of browsers, workers and other runtimes: noble for what must be synchronous, WebCrypto for AES-GCM
// (20 times noble's speed, at the price of a promise per packet) and for RSA, where `crypto.subtle` is there. On pages
// without https it is not: then everything is noble, ChaCha20-Poly1305 is preferred and RSA keys cannot be used.
// The only file that touches `crypto.subtle`.

import { UsageError } from '../errors.ts'
import { toBase64 } from '../wire/bytes.ts'
import { stripLeadingZeros } from './big-integer.ts'
import { mlkem768Decapsulate, mlkem768Encapsulate, mlkem768KeyPair } from './mlkem768.ts'
import {
  aesCbcDecrypt,
  aesCtr,
  aesGcm,
  chacha20InPlace,
  digest,
  hmac,
  poly1305,
  timingSafeEqual,
} from './noble-ciphers.ts'
import { ecdh, ecdhKeyPair, modPow, sign, verify, x25519, x25519KeyPair } from './noble-keys.ts'
import type { AesGcm, CryptoProvider, HashName, SigningKey, VerifyKey } from './provider.ts'
import { crtExponents } from './rsa-crt.ts'

export interface WebCryptoOptions {
  /** Leave WebCrypto alone even where it is there: everything synchronous, no RSA. Default false. */
  nobleOnly?: boolean
}

/** Makes the provider on noble and, where it is there and wanted, WebCrypto. */
export function webCrypto(options: WebCryptoOptions = {}): CryptoProvider {
  // Typed as always there; on insecure origins it is not.
  const subtle = globalThis.crypto?.subtle as SubtleCrypto | undefined
  return subtle === undefined || options.nobleOnly === true ? nobleCrypto : withSubtle(subtle)
}

const nobleCrypto: CryptoProvider = {
  name: 'web',
  fastestCiphers: ['chacha20-poly1305@openssh.com', 'aes128-gcm@openssh.com', 'aes256-gcm@openssh.com'],
  cipherOrderReason:
    'no WebCrypto here (or not wanted): in plain JavaScript ChaCha20-Poly1305 is three times as fast as AES-GCM',
  digest,
  hmac,
  aesGcm,
  aesCtr,
  aesCbcDecrypt,
  chacha20InPlace,
  poly1305,
  timingSafeEqual,
  x25519KeyPair,
  x25519,
  ecdhKeyPair,
  ecdh,
  mlkem768KeyPair,
  mlkem768Encapsulate,
  mlkem768Decapsulate,
  modPow,
  supportsKey: (type) => type !== 'rsa',
  verify,
  sign,
  // A sixth of a page's bytes for what most pages never do: a chunk of its own.
  bcryptPbkdf: async (...derivation) => (await import('./bcrypt-pbkdf.ts')).bcryptPbkdf(...derivation),
}

function withSubtle(subtle: SubtleCrypto): CryptoProvider {
  return {
    ...nobleCrypto,
    fastestCiphers: ['aes256-gcm@openssh.com', 'aes128-gcm@openssh.com', 'chacha20-poly1305@openssh.com'],
    cipherOrderReason:
      "AES-GCM is WebCrypto's, several packets at once; ChaCha20-Poly1305 is plain JavaScript",
    aesGcm: (key) => subtleAesGcm(subtle, key),
    supportsKey: () => true,
    verify: (key, hash, data, signature) =>
      key.type === 'rsa' ? verifyRsa(subtle, key, hash, data, signature) : verify(key, hash, data, signature),
    sign: (key, hash, data) =>
      key.type === 'rsa' ? signRsa(subtle, key, hash, data) : sign(key, hash, data),
  }
}

/** WebCrypto's types exclude shared memory, which no buffer of ours is. */
type Bytes = Uint8Array<ArrayBuffer>

/**
 * AES-GCM on WebCrypto, which copies what it is given at the call (Web Cryptography API, "encrypt method", step 2) but
 * imports keys asynchronously: calls made before the key is there work on copies of their own.
 */
function subtleAesGcm(subtle: SubtleCrypto, rawKey: Uint8Array): AesGcm {
  let key: CryptoKey | undefined
  const importing = subtle.importKey('raw', rawKey as Bytes, 'AES-GCM', false, ['encrypt', 'decrypt'])
  const ready = importing.then((imported) => (key = imported))
  // Without a call there is nobody to tell; with one, the call's own promise carries the error.
  ready.catch(() => {})

  const algorithm = (nonce: Uint8Array, aad: Uint8Array) => ({
    name: 'AES-GCM',
    iv: nonce as Bytes,
    additionalData: aad as Bytes,
    tagLength: 128,
  })

  const decrypt = (nonce: Uint8Array, aad: Uint8Array, sealed: Uint8Array) =>
    subtle.decrypt(algorithm(nonce, aad), key!, sealed as Bytes).then(asBytes, whereTagIsWrong)

  const encrypt = (nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array) =>
    subtle.encrypt(algorithm(nonce, aad), key!, plaintext as Bytes)

  return {
    async: true,
    open(nonce, aad, sealed) {
      if (key !== undefined) return decrypt(nonce, aad, sealed)
      const copies = [nonce.slice(), aad.slice(), sealed.slice()] as const
      return ready.then(() => decrypt(...copies))
    },
    sealInPlace(nonce, aad, into) {
      const plaintext = into.subarray(0, into.length - 16)
      if (key !== undefined) return encrypt(nonce, aad, plaintext).then((sealed) => into.set(asBytes(sealed)))
      const copies = [nonce.slice(), aad.slice(), plaintext.slice()] as const
      return ready.then(() => encrypt(...copies)).then((sealed) => into.set(asBytes(sealed)))
    },
  }
}

function asBytes(buffer: ArrayBuffer): Uint8Array {
  return new Uint8Array(buffer)
}

/** OperationError is what WebCrypto names a wrong tag; all else is a failure and must not pass for one. */
function whereTagIsWrong(error: unknown): undefined {
  if (error instanceof Error && error.name === 'OperationError') return undefined
  throw error
}

const subtleHashes = new Map<HashName, string>([
  ['sha1', 'SHA-1'],
  ['sha256', 'SHA-256'],
  ['sha384', 'SHA-384'],
  ['sha512', 'SHA-512'],
])

async function verifyRsa(
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

async function signRsa(
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
