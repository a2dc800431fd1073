// diffie-hellman-group14-sha256, group16-sha512 and group18-sha512 (RFC 8268, RFC 4253 s8): Diffie-Hellman in the groups of
// RFC 3526. For servers that have nothing better; client only, since an answer costs a server far more than a question
// costs the client (CVE-2002-20001). e, f and K are mpints; values here are the mpints' contents.

import { fromBigInt, stripLeadingZeros, toBigInt } from '../crypto/big-integer.ts'
import type { HashName } from '../crypto/provider.ts'
import { randomBytes } from '../crypto/random.ts'
import { Reader } from '../wire/reader.ts'
import { WireError } from '../wire/wire-error.ts'
import { Writer } from '../wire/writer.ts'
import type { KexMethod } from './method.ts'
import { group14Prime, group16Prime, group18Prime } from './modp-groups.ts'
import { badPublicValue, mpintSecret, usedOnce } from './shared-secret.ts'

const generator = Uint8Array.of(2)

/**
 * `exponentBytes`: twice the strength that the group is estimated to have at most, and no less than the hash
 * (RFC 3526 s8 has 320, 480 and 620 bits as the larger estimates).
 */
function diffieHellman(name: string, hash: HashName, prime: Uint8Array, exponentBytes: number): KexMethod {
  const largest = fromBigInt(toBigInt(prime) - 1n, prime.length)

  /** 1 < value < p - 1 (RFC 8268 s4). `value` is a magnitude without leading zeros. */
  const isInRange = (value: Uint8Array): boolean =>
    value.length > 1 || (value[0] ?? 0) > 1 ? isBelow(value, largest) : false

  return {
    name,
    hash,
    client(crypto, random) {
      const exponent = randomBytes(random, exponentBytes)
      // The top bit set: x has its full length and is never 0 or 1.
      exponent[0]! |= 0x80
      const e = crypto.modPow(generator, exponent, prime)
      return {
        publicValue: mpintContent(e),
        finish: usedOnce(exponent, (x, serverValue) => {
          const f = positiveMpint(name, serverValue)
          if (!isInRange(f)) throw badPublicValue(name, 'is not above 1 and below p - 1')
          const secret = crypto.modPow(f, x, prime)
          // RFC 8268 s4: K in the same range, which shuts out the subgroup of order 2.
          if (!isInRange(stripLeadingZeros(secret))) throw badPublicValue(name, 'gives a trivial secret')
          return mpintSecret(secret)
        }),
      }
    },
  }
}

/** Whether a < b, as big-endian magnitudes; `a` without leading zeros, `b` with a first byte that is not zero. */
function isBelow(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return a.length < b.length
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i]! < b[i]!
  return false
}

/** The content of an mpint for a magnitude: minimal two's complement (RFC 4251 s5). */
function mpintContent(magnitude: Uint8Array): Uint8Array {
  return new Writer(magnitude.length + 5).unsignedMpint(magnitude).bytes().slice(4)
}

/** The magnitude of an mpint's content. ProtocolError where it is negative or not minimal. */
function positiveMpint(name: string, content: Uint8Array): Uint8Array {
  try {
    return new Reader(new Writer(content.length + 4).string(content).bytes()).unsignedMpint()
  } catch (error) {
    if (error instanceof WireError) throw badPublicValue(name, `is no positive mpint: ${error.reason}`)
    throw error
  }
}

export const diffieHellmanMethods: readonly KexMethod[] = [
  diffieHellman('diffie-hellman-group16-sha512', 'sha512', group16Prime, 64),
  diffieHellman('diffie-hellman-group18-sha512', 'sha512', group18Prime, 80),
  diffieHellman('diffie-hellman-group14-sha256', 'sha256', group14Prime, 64),
]
