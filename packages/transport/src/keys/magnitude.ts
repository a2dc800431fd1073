// Arithmetic on big-endian magnitudes of keys and signatures: lengths and comparisons, never secrets-dependent work beyond
// what a parser does. Leading zero bytes are allowed unless said otherwise.

/** Number of significant bits. */
export function bitLength(magnitude: Uint8Array): number {
  const at = firstNonZero(magnitude)
  if (at === magnitude.length) return 0
  return (magnitude.length - at - 1) * 8 + (32 - Math.clz32(magnitude[at]!))
}

/** The magnitude without leading zero bytes, as a view. */
export function trimZeros(magnitude: Uint8Array): Uint8Array {
  return magnitude.subarray(firstNonZero(magnitude))
}

/** The magnitude in exactly `length` bytes (a new array), or undefined where it does not fit. */
export function padTo(magnitude: Uint8Array, length: number): Uint8Array | undefined {
  const body = trimZeros(magnitude)
  if (body.length > length) return undefined
  const out = new Uint8Array(length)
  out.set(body, length - body.length)
  return out
}

/** Whether `a < b` as numbers. */
export function isBelow(a: Uint8Array, b: Uint8Array): boolean {
  const left = trimZeros(a)
  const right = trimZeros(b)
  if (left.length !== right.length) return left.length < right.length
  for (let i = 0; i < left.length; i++) if (left[i] !== right[i]) return left[i]! < right[i]!
  return false
}

/** Whether `1 <= value < order`. */
export function isInRange(value: Uint8Array, order: Uint8Array): boolean {
  return bitLength(value) > 0 && isBelow(value, order)
}

/** The number as a bigint, for the few checks that multiply. */
export function toBigInt(magnitude: Uint8Array): bigint {
  let hex = '0x0'
  for (const byte of magnitude) hex += byte.toString(16).padStart(2, '0')
  return BigInt(hex)
}

function firstNonZero(magnitude: Uint8Array): number {
  let at = 0
  while (at < magnitude.length && magnitude[at] === 0) at++
  return at
}
