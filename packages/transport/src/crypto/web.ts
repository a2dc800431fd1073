// The CryptoProvider of browsers, workers and other runtimes. WebCrypto does what it can where `crypto.subtle` is there:
// AES-GCM, X25519, ML-KEM, Ed25519, RSA, ECDSA verification. noble does the rest; all of it but the hashes is fetched when a
// connection needs it, as chunks of their own. On pages without https there is no WebCrypto: then everything is noble,
// ChaCha20-Poly1305 is preferred and RSA keys cannot be used.
// `crypto.subtle` is touched here and in the files web-*.ts.

import { UsageError } from '../errors.ts'
import { fetched } from './fetched.ts'
import { mlkem768Decapsulate, mlkem768Encapsulate, mlkem768KeyPair } from './mlkem768.ts'
import { digest, hmac, timingSafeEqual } from './noble-hashes.ts'
import type { CryptoProvider, MaybePromise } from './provider.ts'
import { subtleAesGcm } from './web-aes-gcm.ts'
import { subtleCurve25519 } from './web-curve25519.ts'
import { subtleMlkem768 } from './web-mlkem768.ts'

export interface WebCryptoOptions {
  /** Leave WebCrypto alone even where it is there: no RSA. Default false. */
  nobleOnly?: boolean
}

/** Makes the provider on noble and, where it is there and wanted, WebCrypto. */
export function webCrypto(options: WebCryptoOptions = {}): CryptoProvider {
  // Typed as always there; on insecure origins it is not.
  const subtle = globalThis.crypto?.subtle as SubtleCrypto | undefined
  return subtle === undefined || options.nobleOnly === true ? nobleCrypto : withSubtle(subtle)
}

const nobleKeys = fetched(() => import('./noble-keys.ts'))
const ecdsa = fetched(() => import('./web-ecdsa.ts'))
const rsa = fetched(() => import('./web-rsa.ts'))
const fetchCiphers = fetched(() => import('./noble-ciphers.ts'))
let fetchedCiphers: typeof import('./noble-ciphers.ts') | undefined

function prepareCiphers(): MaybePromise<void> {
  return fetchCiphers((module) => {
    fetchedCiphers = module
  })
}

function ciphers(): typeof import('./noble-ciphers.ts') {
  if (fetchedCiphers === undefined) throw new UsageError('prepareCipher was not awaited')
  return fetchedCiphers
}

const nobleCrypto: CryptoProvider = {
  name: 'web',
  fastestCiphers: ['chacha20-poly1305@openssh.com', 'aes128-gcm@openssh.com', 'aes256-gcm@openssh.com'],
  cipherOrderReason:
    'no WebCrypto here (or not wanted): in plain JavaScript ChaCha20-Poly1305 is three times as fast as AES-GCM',
  digest,
  hmac,
  prepareCipher: prepareCiphers,
  aesGcm: (key) => ciphers().aesGcm(key),
  aesCtr: (key, iv) => ciphers().aesCtr(key, iv),
  aesCbcDecrypt: (key, iv, bytes) => ciphers().aesCbcDecrypt(key, iv, bytes),
  chacha20InPlace: (key, nonce, counter, bytes) => ciphers().chacha20InPlace(key, nonce, counter, bytes),
  poly1305: (key, bytes) => ciphers().poly1305(key, bytes),
  timingSafeEqual,
  x25519KeyPair: (random) => nobleKeys((noble) => noble.x25519KeyPair(random)),
  x25519: (secret, publicKey) => nobleKeys((noble) => noble.x25519(secret, publicKey)),
  ecdhKeyPair: (curve, random) => nobleKeys((noble) => noble.ecdhKeyPair(curve, random)),
  ecdh: (curve, secret, point) => nobleKeys((noble) => noble.ecdh(curve, secret, point)),
  mlkem768KeyPair,
  mlkem768Encapsulate,
  mlkem768Decapsulate,
  modPow: (base, exponent, modulus) => nobleKeys((noble) => noble.modPow(base, exponent, modulus)),
  supportsKey: (type) => type !== 'rsa',
  verify: (key, hash, data, signature) => nobleKeys((noble) => noble.verify(key, hash, data, signature)),
  sign: (key, hash, data) => nobleKeys((noble) => noble.sign(key, hash, data)),
  // A sixth of a page's bytes for what most pages never do.
  bcryptPbkdf: async (...derivation) => (await import('./bcrypt-pbkdf.ts')).bcryptPbkdf(...derivation),
}

function withSubtle(subtle: SubtleCrypto): CryptoProvider {
  const { x25519KeyPair, x25519, signEd25519, verifyEd25519 } = subtleCurve25519(subtle, {
    x25519KeyPair: nobleCrypto.x25519KeyPair,
    x25519: nobleCrypto.x25519,
    signEd25519: (seed, data) => nobleKeys((noble) => noble.signEd25519(seed, data)),
    verifyEd25519: (publicKey, data, signature) =>
      nobleCrypto.verify({ type: 'ed25519', publicKey }, 'sha512', data, signature),
  })
  return {
    ...nobleCrypto,
    fastestCiphers: ['aes256-gcm@openssh.com', 'aes128-gcm@openssh.com', 'chacha20-poly1305@openssh.com'],
    cipherOrderReason:
      "AES-GCM is WebCrypto's, several packets at once; ChaCha20-Poly1305 is plain JavaScript",
    prepareCipher: (name) => (name.includes('gcm') ? undefined : prepareCiphers()),
    aesGcm: (key) => subtleAesGcm(subtle, key),
    x25519KeyPair,
    x25519,
    ...subtleMlkem768(subtle),
    supportsKey: () => true,
    verify(key, hash, data, signature) {
      switch (key.type) {
        case 'ed25519':
          return verifyEd25519(key.publicKey, data, signature)
        case 'rsa':
          return rsa((web) => web.verifyRsa(subtle, key, hash, data, signature))
        case 'ecdsa':
          return ecdsa(async (web) => {
            const verdict = await web.verifyEcdsa(subtle, key, hash, data, signature)
            return verdict ?? nobleCrypto.verify(key, hash, data, signature)
          })
      }
    },
    sign(key, hash, data) {
      switch (key.type) {
        case 'ed25519':
          return signEd25519(key.seed, data)
        case 'rsa':
          return rsa((web) => web.signRsa(subtle, key, hash, data))
        case 'ecdsa':
          return nobleCrypto.sign(key, hash, data)
      }
    },
  }
}
