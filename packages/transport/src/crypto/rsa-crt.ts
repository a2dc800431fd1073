// The two exponents of RSA's CRT form that SSH's key format leaves out and every library wants (RFC 8017 s3.2).

import { UsageError } from '../errors.ts'
import { fromBigInt, toBigInt } from './big-integer.ts'

/** d mod (p-1) and d mod (q-1), each as long as its prime. UsageError where a prime is below 2. */
export function crtExponents(key: { d: Uint8Array; p: Uint8Array; q: Uint8Array }): {
  dp: Uint8Array
  dq: Uint8Array
} {
  const d = toBigInt(key.d)
  return { dp: reduce(d, key.p), dq: reduce(d, key.q) }
}

function reduce(d: bigint, prime: Uint8Array): Uint8Array {
  const order = toBigInt(prime) - 1n
  if (order < 1n) throw new UsageError('an RSA private key has a prime below 2')
  return fromBigInt(d % order, prime.length)
}
