// Big-endian magnitudes as BigInt and back. For set-up arithmetic only (finite-field groups, RSA's CRT exponents):
// BigInt arithmetic is not constant time, so nothing here runs per packet.

import { fromHex, toHex } from '../wire/bytes.ts'

/** The number a big-endian magnitude stands for; 0 for no bytes. */
export function toBigInt(magnitude: Uint8Array): bigint {
  return magnitude.length === 0 ? 0n : BigInt(`0x${toHex(magnitude)}`)
}

/** Big-endian bytes of a non-negative number, left-padded with zeros to `length`. The caller knows that it fits. */
export function fromBigInt(value: bigint, length: number): Uint8Array {
  const bytes =
    length === 0 && value === 0n ? new Uint8Array(0) : fromHex(value.toString(16).padStart(2 * length, '0'))
  if (bytes === undefined || bytes.length !== length)
    throw new RangeError(`the number does not fit in ${length} bytes`)
  return bytes
}

/** A view without leading zero bytes. */
export function stripLeadingZeros(magnitude: Uint8Array): Uint8Array {
  let skip = 0
  while (skip < magnitude.length && magnitude[skip] === 0) skip++
  return magnitude.subarray(skip)
}

/**
 * A magnitude padded with leading zeros, or shortened of them, to exactly `length` bytes; a new array.
 * Undefined where the number needs more.
 */
export function padMagnitude(magnitude: Uint8Array, length: number): Uint8Array | undefined {
  const digits = stripLeadingZeros(magnitude)
  if (digits.length > length) return undefined
  const padded = new Uint8Array(length)
  padded.set(digits, length - digits.length)
  return padded
}
