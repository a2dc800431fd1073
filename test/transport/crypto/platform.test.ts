import { describe, expect, test, vi } from 'vitest'
import {
  fromBigInt,
  padMagnitude,
  stripLeadingZeros,
  toBigInt,
} from '../../../packages/transport/src/crypto/big-integer.ts'
import { randomBytes, randomSourceOf, systemRandom } from '../../../packages/transport/src/crypto/random.ts'
import { UsageError } from '../../../packages/transport/src/errors.ts'
import { toHex } from '../../../packages/transport/src/wire/bytes.ts'
import { ascii, hex, providers, seededBytes } from './providers.ts'

describe('random bytes', () => {
  test('come in calls of at most 65536 bytes and fill exactly the view', () => {
    const calls: number[] = []
    const random = randomSourceOf({
      getRandomValues: <T extends ArrayBufferView | null>(into: T): T => {
        calls.push(into!.byteLength)
        ;(into as unknown as Uint8Array).fill(7)
        return into
      },
    })
    const memory = new Uint8Array(150_002)
    random(memory.subarray(1, 150_001))
    expect(calls).toEqual([65_536, 65_536, 18_928])
    expect(memory[0]).toBe(0)
    expect(memory[150_001]).toBe(0)
    expect(memory.subarray(1, 150_001).every((byte) => byte === 7)).toBe(true)
    calls.length = 0
    random(new Uint8Array(0))
    expect(calls).toEqual([])
  })

  test('of the platform fill large arrays and do not repeat', () => {
    const large = randomBytes(systemRandom, 200_000)
    // 200 000 bytes have about 781 of each value; none is missing but with a probability below 10^-300.
    expect(new Set(large).size).toBe(256)
    expect(large.subarray(131_072, 131_104)).not.toEqual(large.subarray(0, 32))
    const seen = new Set(Array.from({ length: 1000 }, () => toHex(randomBytes(systemRandom, 16))))
    expect(seen.size).toBe(1000)
  })

  test('have no fallback: a platform that throws is an error', () => {
    vi.stubGlobal('crypto', {
      getRandomValues: () => {
        throw new Error('no entropy')
      },
    })
    try {
      expect(() => randomBytes(systemRandom, 16)).toThrow('no entropy')
    } finally {
      vi.unstubAllGlobals()
    }
  })
})

describe.each(providers)('%s', (_name, crypto) => {
  test('derives keys as OpenBSD bcrypt_pbkdf does', async () => {
    // From OpenBSD's regress/lib/libutil/bcrypt_pbkdf.
    const key = await crypto.bcryptPbkdf(ascii('password'), ascii('salt'), 32, 4)
    expect(toHex(key)).toBe('5bbf0cc293587f1c3635555c27796598d47e579071bf427e9d8fbe842aba34d9')
    expect(toHex(await crypto.bcryptPbkdf(ascii('password'), Uint8Array.of(0), 16, 4))).toBe(
      'c12b566235eee04c212598970a579a67',
    )
  })

  test('derives no keys from nothing or without rounds', async () => {
    const some = seededBytes('some', 16)
    for (const [passphrase, salt, length, rounds] of [
      [new Uint8Array(0), some, 32, 4],
      [some, new Uint8Array(0), 32, 4],
      [some, some, 32, 0],
      [some, some, 0, 4],
      [some, some, 1025, 4],
    ] as const) {
      const derive = async (): Promise<Uint8Array> => crypto.bcryptPbkdf(passphrase, salt, length, rounds)
      await expect(derive()).rejects.toThrow(UsageError)
    }
  })
})

describe('big-endian magnitudes', () => {
  test('are numbers and back', () => {
    expect(toBigInt(new Uint8Array(0))).toBe(0n)
    expect(toBigInt(hex('00ff00'))).toBe(0xff00n)
    expect(fromBigInt(0xff00n, 3)).toEqual(hex('00ff00'))
    expect(fromBigInt(0n, 0)).toEqual(new Uint8Array(0))
    expect(() => fromBigInt(0x1_0000n, 2)).toThrow(RangeError)
  })

  test('lose or gain leading zeros alone', () => {
    expect(stripLeadingZeros(hex('000001ff00'))).toEqual(hex('01ff00'))
    expect(stripLeadingZeros(hex('0000'))).toEqual(new Uint8Array(0))
    expect(padMagnitude(hex('0001ff'), 4)).toEqual(hex('000001ff'))
    expect(padMagnitude(hex('0001ff'), 2)).toEqual(hex('01ff'))
    expect(padMagnitude(hex('0001ff'), 1)).toBeUndefined()
  })
})
