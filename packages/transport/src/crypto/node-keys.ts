// Public-key primitives on node:crypto (OpenSSL): X25519, ECDH and ECDSA on the NIST curves, Ed25519, RSA, modular
// exponentiation. Verification never throws: what OpenSSL objects to is false, and what it lets pass but noble does not
// (small-order Ed25519 keys, compressed points) is refused before.
// Private curve25519 keys enter as DER, which can be wiped; the others as JSON Web Keys, whose strings cannot.

import {
  createDiffieHellman,
  createECDH,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  type JsonWebKey,
  type KeyObject,
  sign as signWith,
  verify as verifyWith,
} from 'node:crypto'
import { UsageError } from '../errors.ts'
import { concat, fromHex } from '../wire/bytes.ts'
import { padMagnitude, stripLeadingZeros } from './big-integer.ts'
import { isAcceptableEd25519Key } from './ed25519-rules.ts'
import { checkedScalar, drawScalar, fieldBytes, looksUncompressed } from './elliptic-curves.ts'
import { fetched } from './fetched.ts'
import { plain } from './node-ciphers.ts'
import type {
  AgreementKeyPair,
  CurveName,
  HashName,
  MaybePromise,
  RandomSource,
  SigningKey,
  VerifyKey,
} from './provider.ts'
import { randomBytes } from './random.ts'
import { crtExponents } from './rsa-crt.ts'

const openSslCurves = { nistp256: 'prime256v1', nistp384: 'secp384r1', nistp521: 'secp521r1' }
const jwkCurves = { nistp256: 'P-256', nistp384: 'P-384', nistp521: 'P-521' }

export function x25519KeyPair(random: RandomSource): AgreementKeyPair {
  const secret = randomBytes(random, 32)
  const { x } = createPublicKey(curve25519Private('X25519', secret)).export({ format: 'jwk' })
  return { publicKey: Uint8Array.from(Buffer.from(x!, 'base64url')), secret }
}

export function x25519(secret: Uint8Array, publicKey: Uint8Array): Uint8Array | undefined {
  if (publicKey.length !== 32) return undefined
  const ours = curve25519Private('X25519', secret)
  const theirs = publicFromJwk({ kty: 'OKP', crv: 'X25519', x: base64Url(publicKey) })
  try {
    return plain(diffieHellman({ privateKey: ours, publicKey: theirs }))
  } catch {
    // OpenSSL refuses the all-zero result of a low-order point, the one way for two well-formed keys to fail.
    return undefined
  }
}

export function ecdhKeyPair(curve: CurveName, random: RandomSource): AgreementKeyPair {
  const secret = drawScalar(curve, random)
  const pair = createECDH(openSslCurves[curve])
  pair.setPrivateKey(secret)
  return { publicKey: plain(pair.getPublicKey(null, 'uncompressed')), secret }
}

export function ecdh(curve: CurveName, secret: Uint8Array, point: Uint8Array): Uint8Array | undefined {
  if (!looksUncompressed(curve, point)) return undefined
  const ours = createECDH(openSslCurves[curve])
  ours.setPrivateKey(secret)
  try {
    return plain(ours.computeSecret(point))
  } catch {
    return undefined
  }
}

const nobleKeys = fetched(() => import('./noble-keys.ts'))

/**
 * OpenSSL's exponentiation is reachable as finite-field Diffie-Hellman only: odd moduli of 512 to 10 000 bits, 1 < base <
 * modulus - 1. It is constant time in the exponent and 8 times faster than BigInt; the rest goes to noble, which is fetched
 * then.
 */
export function modPow(
  base: Uint8Array,
  exponent: Uint8Array,
  modulus: Uint8Array,
): MaybePromise<Uint8Array> {
  if ((modulus[modulus.length - 1]! & 1) === 1) {
    try {
      const group = createDiffieHellman(modulus, 2)
      group.setPrivateKey(exponent)
      const power = padMagnitude(plain(group.computeSecret(base)), modulus.length)
      // For a modulus of a size that it does not take, OpenSSL says zeros and no error.
      if (power?.some((byte) => byte !== 0)) return power
    } catch {
      // base is 0, 1 or beyond modulus - 2
    }
  }
  return nobleKeys((noble) => noble.modPow(base, exponent, modulus))
}

/** Ed25519 (RFC 8032 s5.1.7), ECDSA (FIPS 186-5 s6.4.2), RSASSA-PKCS1-v1_5 (RFC 8017 s8.2.2). */
export function verify(key: VerifyKey, hash: HashName, data: Uint8Array, signature: Uint8Array): boolean {
  try {
    switch (key.type) {
      case 'ed25519': {
        if (!isAcceptableEd25519Key(key.publicKey)) return false
        const imported = publicFromJwk({ kty: 'OKP', crv: 'Ed25519', x: base64Url(key.publicKey) })
        return verifyWith(null, data, imported, signature)
      }
      case 'ecdsa': {
        if (!looksUncompressed(key.curve, key.point)) return false
        const imported = publicFromJwk(ecJwk(key.curve, key.point))
        return verifyWith(hash, data, { key: imported, dsaEncoding: 'ieee-p1363' }, signature)
      }
      case 'rsa':
        return verifyWith(
          hash,
          data,
          publicFromJwk({ kty: 'RSA', n: magnitude(key.n), e: magnitude(key.e) }),
          signature,
        )
    }
  } catch {
    return false
  }
}

/** Same algorithms as `verify`. UsageError for a private key OpenSSL cannot use. */
export function sign(key: SigningKey, hash: HashName, data: Uint8Array): Uint8Array {
  try {
    switch (key.type) {
      case 'ed25519':
        // OpenSSL derives the public key from the seed: one taken from a damaged key file would leak the secret scalar.
        return plain(signWith(null, data, curve25519Private('Ed25519', key.seed)))
      case 'ecdsa':
        return plain(signWith(hash, data, { key: ecdsaPrivate(key), dsaEncoding: 'ieee-p1363' }))
      case 'rsa':
        return plain(signWith(hash, data, rsaPrivate(key)))
    }
  } catch (cause) {
    if (cause instanceof UsageError) throw cause
    throw new UsageError(`the ${key.type} private key cannot sign`, { cause })
  }
}

/** PKCS#8 around a 32-byte curve25519 secret: version 0, algorithm 1.3.101.110 or .112 (RFC 8410 s7). */
const pkcs8Prefixes = {
  X25519: fromHex('302e020100300506032b656e04220420')!,
  Ed25519: fromHex('302e020100300506032b657004220420')!,
}

function curve25519Private(algorithm: keyof typeof pkcs8Prefixes, secret: Uint8Array): KeyObject {
  const der = concat(pkcs8Prefixes[algorithm], secret)
  try {
    return createPrivateKey({ key: Buffer.from(der.buffer), format: 'der', type: 'pkcs8' })
  } finally {
    der.fill(0)
  }
}

function ecdsaPrivate(key: Extract<SigningKey, { type: 'ecdsa' }>): KeyObject {
  const scalar = checkedScalar(key.curve, key.scalar)
  try {
    return createPrivateKey({ key: { ...ecJwk(key.curve, key.point), d: base64Url(scalar) }, format: 'jwk' })
  } finally {
    scalar.fill(0)
  }
}

function rsaPrivate(key: Extract<SigningKey, { type: 'rsa' }>): KeyObject {
  const { dp, dq } = crtExponents(key)
  const jwk = {
    kty: 'RSA',
    n: magnitude(key.n),
    e: magnitude(key.e),
    d: magnitude(key.d),
    p: magnitude(key.p),
    q: magnitude(key.q),
    dp: magnitude(dp),
    dq: magnitude(dq),
    qi: magnitude(key.iqmp),
  }
  return createPrivateKey({ key: jwk, format: 'jwk' })
}

/** `point` has been seen to be 04 || X || Y; OpenSSL checks that it is on the curve. */
function ecJwk(curve: CurveName, point: Uint8Array): JsonWebKey {
  const size = fieldBytes(curve)
  return {
    kty: 'EC',
    crv: jwkCurves[curve],
    x: base64Url(point.subarray(1, 1 + size)),
    y: base64Url(point.subarray(1 + size)),
  }
}

function publicFromJwk(key: JsonWebKey): KeyObject {
  return createPublicKey({ key, format: 'jwk' })
}

function magnitude(bytes: Uint8Array): string {
  return base64Url(stripLeadingZeros(bytes))
}

function base64Url(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64url')
}
