import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { HashName } from '../../../packages/transport/src/crypto/provider.ts'
import { toHex } from '../../../packages/transport/src/wire/bytes.ts'
import { ascii, hex, misaligned, providers } from './providers.ts'

const hashNames: HashName[] = ['md5', 'sha1', 'sha256', 'sha384', 'sha512']

describe.each(providers)('%s', (_name, crypto) => {
  test.each([
    ['md5', '900150983cd24fb0d6963f7d28e17f72'],
    ['sha1', 'a9993e364706816aba3e25717850c26c9cd0d89d'],
    ['sha256', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'],
    [
      'sha384',
      'cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7',
    ],
    [
      'sha512',
      'ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f',
    ],
  ] as const)('hashes "abc" with %s as RFC 1321 and FIPS 180-4 say', (hash, expected) => {
    expect(toHex(crypto.digest(hash, ascii('abc')))).toBe(expected)
    expect(toHex(crypto.digest(hash, ascii('a'), new Uint8Array(0), ascii('bc')))).toBe(expected)
  })

  test.each([
    // RFC 2202 s3, cases 1 and 2
    ['sha1', hex('0b'.repeat(20)), ascii('Hi There'), 'b617318655057264e28bc0b6fb378c8ef146be00'],
    [
      'sha1',
      ascii('Jefe'),
      ascii('what do ya want for nothing?'),
      'effcdf6ae5eb2fa2d27416d5f184df9c259a7c79',
    ],
    // RFC 4231 s4, cases 1, 2 and 6 (a key longer than a block)
    [
      'sha256',
      hex('0b'.repeat(20)),
      ascii('Hi There'),
      'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7',
    ],
    [
      'sha512',
      hex('0b'.repeat(20)),
      ascii('Hi There'),
      '87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854',
    ],
    [
      'sha256',
      ascii('Jefe'),
      ascii('what do ya want for nothing?'),
      '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843',
    ],
    [
      'sha256',
      hex('aa'.repeat(131)),
      ascii('Test Using Larger Than Block-Size Key - Hash Key First'),
      '60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54',
    ],
  ] as const)('computes HMAC-%s as RFC 2202 and RFC 4231 say', (hash, key, message, expected) => {
    const mac = crypto.hmac(hash, key)
    expect(toHex(mac.compute(message))).toBe(expected)
    expect(mac.length).toBe(expected.length / 2)
    expect(toHex(mac.compute(message.subarray(0, 3), message.subarray(3)))).toBe(expected)
  })

  test('gives arrays whose slice is a copy, not Buffers', () => {
    for (const bytes of [crypto.digest('sha256'), crypto.hmac('sha256', new Uint8Array(32)).compute()]) {
      expect(Object.getPrototypeOf(bytes)).toBe(Uint8Array.prototype)
    }
  })
})

test('all providers agree on every hash and HMAC, however the message is split and wherever it lies', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...hashNames),
      fc.uint8Array({ minLength: 1, maxLength: 200 }),
      fc.uint8Array({ maxLength: 300 }),
      fc.nat(300),
      (hash, key, message, split) => {
        const parts = [misaligned(message.subarray(0, split)), message.subarray(split)]
        const digests = providers.map(([, crypto]) => toHex(crypto.digest(hash, ...parts)))
        const macs = providers.map(([, crypto]) => toHex(crypto.hmac(hash, key).compute(...parts)))
        expect(new Set(digests).size).toBe(1)
        expect(new Set(macs).size).toBe(1)
      },
    ),
    { numRuns: 60 },
  )
})
