// What both providers must agree on about the NIST curves (SEC 2, FIPS 186-5): sizes, group orders, which encodings of a
// point are taken, and how a private scalar is drawn from a RandomSource. The arithmetic is in node-keys.ts and noble-keys.ts.

import { UsageError } from '../errors.ts'
import { padMagnitude } from './big-integer.ts'
import type { CurveName, RandomSource } from './provider.ts'

interface Curve {
  /** Bytes of a coordinate and of a scalar. */
  readonly fieldBytes: number
  /** Bits by which the top byte of a scalar exceeds the order's bit length. */
  readonly spareBits: number
  /** Order of the base point. */
  readonly order: bigint
}

const curves = {
  nistp256: {
    fieldBytes: 32,
    spareBits: 0,
    order: 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n,
  },
  nistp384: {
    fieldBytes: 48,
    spareBits: 0,
    order:
      0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973n,
  },
  nistp521: {
    fieldBytes: 66,
    spareBits: 7,
    order:
      0x01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409n,
  },
} as const satisfies Record<CurveName, Curve>

/** Bytes of a coordinate, and of a scalar, on this curve. */
export function fieldBytes(curve: CurveName): number {
  return curves[curve].fieldBytes
}

/** Order of the base point, as a number. */
export function curveOrder(curve: CurveName): bigint {
  return curves[curve].order
}

/**
 * Whether these bytes have the form of an uncompressed point: 04 || X || Y (SEC 1 s2.3.3). Whether the point is on the
 * curve is for the provider's arithmetic. Infinity, compressed and hybrid forms are refused: RFC 5656 s4 lets a peer
 * refuse compression, and no SSH peer sends it.
 */
export function looksUncompressed(curve: CurveName, point: Uint8Array): boolean {
  return point.length === 1 + 2 * curves[curve].fieldBytes && point[0] === 4
}

/** Draws beyond which the random source is taken to be broken: a sound one needs a second draw once in 2^32 (P-256). */
const maxDraws = 64

/**
 * A private scalar, uniform in 1..n-1, by testing candidates (FIPS 186-5 A.2.2); big-endian, field-sized, a new array.
 * Both providers draw alike, so a recorded RandomSource replays on either. UsageError where the source is plainly broken.
 */
export function drawScalar(curve: CurveName, random: RandomSource): Uint8Array {
  const { fieldBytes, spareBits, order } = curves[curve]
  const scalar = new Uint8Array(fieldBytes)
  for (let draw = 0; draw < maxDraws; draw++) {
    random(scalar)
    scalar[0]! &= 0xff >>> spareBits
    if (isInRange(scalar, order)) return scalar
  }
  throw new UsageError('the random source gives the same unusable bytes again and again')
}

/** 1 <= scalar < order, compared as bytes so that a secret never becomes a BigInt. `scalar` is field-sized. */
function isInRange(scalar: Uint8Array, order: bigint): boolean {
  const size = scalar.length
  let nonZero = 0
  let borrow = 0
  let rest = order
  for (let i = size - 1; i >= 0; i--) {
    const digit = scalar[i]!
    nonZero |= digit
    borrow = (digit - Number(rest & 0xffn) - borrow) >>> 31
    rest >>= 8n
  }
  return nonZero !== 0 && borrow === 1
}

/**
 * The scalar of a private key as key files have it, field-sized; a new array, to be wiped by the caller. UsageError where it
 * is 0 or not below the order: OpenSSL would sign with it.
 */
export function checkedScalar(curve: CurveName, magnitude: Uint8Array): Uint8Array {
  const { fieldBytes, order } = curves[curve]
  const scalar = padMagnitude(magnitude, fieldBytes)
  if (scalar === undefined || !isInRange(scalar, order)) {
    throw new UsageError(`the private key is not a scalar of ${curve}`)
  }
  return scalar
}
