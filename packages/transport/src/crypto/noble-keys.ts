// Public-key primitives on noble: X25519, ECDH and ECDSA on the NIST curves, Ed25519, modular exponentiation.
// Verification never throws: whatever noble objects to (lengths, points off the curve, S >= L, r or s out of range) is false.
// RSA is not here: it needs WebCrypto (web.ts). Arithmetic is on BigInt, so constant time is not promised.

import { pow } from '@noble/curves/abstract/modular.js'
import { ed25519, x25519 as nobleX25519 } from '@noble/curves/ed25519.js'
import { p256, p384, p521 } from '@noble/curves/nist.js'
import { UsageError } from '../errors.ts'
import { fromBigInt, toBigInt } from './big-integer.ts'
import { isAcceptableEd25519Key } from './ed25519-rules.ts'
import { checkedScalar, drawScalar, fieldBytes, looksUncompressed } from './elliptic-curves.ts'
import { digest } from './noble-hashes.ts'
import type {
  AgreementKeyPair,
  CurveName,
  HashName,
  RandomSource,
  SigningKey,
  VerifyKey,
} from './provider.ts'
import { randomBytes } from './random.ts'

const curves = { nistp256: p256, nistp384: p384, nistp521: p521 }

export function x25519KeyPair(random: RandomSource): AgreementKeyPair {
  const secret = randomBytes(random, 32)
  return { publicKey: nobleX25519.getPublicKey(secret), secret }
}

export function x25519(secret: Uint8Array, publicKey: Uint8Array): Uint8Array | undefined {
  if (publicKey.length !== 32) return undefined
  try {
    return nobleX25519.getSharedSecret(secret, publicKey)
  } catch {
    return undefined
  }
}

export function ecdhKeyPair(curve: CurveName, random: RandomSource): AgreementKeyPair {
  const secret = drawScalar(curve, random)
  return { publicKey: curves[curve].getPublicKey(secret, false), secret }
}

export function ecdh(curve: CurveName, secret: Uint8Array, point: Uint8Array): Uint8Array | undefined {
  if (!looksUncompressed(curve, point)) return undefined
  try {
    return curves[curve].getSharedSecret(secret, point, false).slice(1, 1 + fieldBytes(curve))
  } catch {
    return undefined
  }
}

export function modPow(base: Uint8Array, exponent: Uint8Array, modulus: Uint8Array): Uint8Array {
  return fromBigInt(pow(toBigInt(base), toBigInt(exponent), toBigInt(modulus)), modulus.length)
}

/** Ed25519 (RFC 8032 s5.1.7, strict) and ECDSA (FIPS 186-5 s6.4.2). False for RSA keys. */
export function verify(key: VerifyKey, hash: HashName, data: Uint8Array, signature: Uint8Array): boolean {
  try {
    switch (key.type) {
      case 'ed25519':
        return (
          isAcceptableEd25519Key(key.publicKey) &&
          ed25519.verify(signature, data, key.publicKey, { zip215: false })
        )
      case 'ecdsa':
        return (
          looksUncompressed(key.curve, key.point) &&
          signature.length === 2 * fieldBytes(key.curve) &&
          curves[key.curve].verify(signature, digest(hash, data), key.point, ecdsaOptions)
        )
      case 'rsa':
        return false
    }
  } catch {
    return false
  }
}

/** Ed25519 (RFC 8032 s5.1.6). */
export function signEd25519(seed: Uint8Array, data: Uint8Array): Uint8Array {
  // noble derives the public key from the seed: one taken from a damaged key file would leak the secret scalar.
  return ed25519.sign(data, seed)
}

/** Ed25519 (RFC 8032 s5.1.6) and ECDSA with RFC 6979's deterministic nonces. UsageError for a key that cannot sign here. */
export function sign(key: SigningKey, hash: HashName, data: Uint8Array): Uint8Array {
  switch (key.type) {
    case 'ed25519':
      return signEd25519(key.seed, data)
    case 'ecdsa': {
      const scalar = checkedScalar(key.curve, key.scalar)
      try {
        return curves[key.curve].sign(digest(hash, data), scalar, ecdsaOptions)
      } finally {
        scalar.fill(0)
      }
    }
    case 'rsa':
      throw new UsageError(
        'RSA keys need WebCrypto, which is absent here (in a browser: on pages without https)',
      )
  }
}

/** We hash ourselves (the algorithm name fixes the hash, not the curve alone); SSH does not ask for the lower S. */
const ecdsaOptions = { prehash: false, lowS: false, format: 'compact' } as const
