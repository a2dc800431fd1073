// The client's half of Diffie-Hellman in the groups of RFC 3526 (RFC 4253 s8, RFC 8268). Fetched when a server has nothing
// better. e, f and K are mpints; values here are the mpints' contents.

import { fromBigInt, stripLeadingZeros, toBigInt } from '../crypto/big-integer.ts'
import type { CryptoProvider, MaybePromise, RandomSource } from '../crypto/provider.ts'
import { randomBytes } from '../crypto/random.ts'
import { whenReady } from '../keys/maybe-promise.ts'
import { Reader } from '../wire/reader.ts'
import { WireError } from '../wire/wire-error.ts'
import { Writer } from '../wire/writer.ts'
import type { KexClient } from './method.ts'
import { group14Prime, group16Prime, group18Prime } from './modp-groups.ts'
import { badPublicValue, mpintSecret, usedOnce } from './shared-secret.ts'

const generator = Uint8Array.of(2)
const primes = { group14: group14Prime, group16: group16Prime, group18: group18Prime }

export type ModpGroup = keyof typeof primes

/**
 * @param name of the method, for errors
 * @param exponentBytes twice the strength that the group is estimated to have at most, and no less than the hash
 *   (RFC 3526 s8 has 320, 480 and 620 bits as the larger estimates)
 */
export function finiteFieldClient(
  name: string,
  group: ModpGroup,
  exponentBytes: number,
  crypto: CryptoProvider,
  random: RandomSource,
): MaybePromise<KexClient> {
  const prime = primes[group]
  const largest = fromBigInt(toBigInt(prime) - 1n, prime.length)

  /** 1 < value < p - 1 (RFC 8268 s4). `value` is a magnitude without leading zeros. */
  const isInRange = (value: Uint8Array): boolean =>
    value.length > 1 || (value[0] ?? 0) > 1 ? isBelow(value, largest) : false

  const exponent = randomBytes(random, exponentBytes)
  // The top bit set: x has its full length and is never 0 or 1.
  exponent[0]! |= 0x80
  return whenReady(crypto.modPow(generator, exponent, prime), (e) => ({
    publicValue: mpintContent(e),
    finish: usedOnce(exponent, (x, serverValue) => {
      const f = positiveMpint(name, serverValue)
      if (!isInRange(f)) throw badPublicValue(name, 'is not above 1 and below p - 1')
      return whenReady(crypto.modPow(f, x, prime), (secret) => {
        // RFC 8268 s4: K in the same range, which shuts out the subgroup of order 2.
        if (!isInRange(stripLeadingZeros(secret))) throw badPublicValue(name, 'gives a trivial secret')
        return mpintSecret(secret)
      })
    }),
  }))
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
