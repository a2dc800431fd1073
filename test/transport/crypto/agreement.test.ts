import { p256, p384, p521 } from '@noble/curves/nist.js'
import { shake128 } from '@noble/hashes/sha3.js'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { toBigInt } from '../../../packages/transport/src/crypto/big-integer.ts'
import { curveOrder, drawScalar, fieldBytes } from '../../../packages/transport/src/crypto/elliptic-curves.ts'
import { nodeCrypto } from '../../../packages/transport/src/crypto/node.ts'
import type { CurveName } from '../../../packages/transport/src/crypto/provider.ts'
import { UsageError } from '../../../packages/transport/src/errors.ts'
import { concat, toHex } from '../../../packages/transport/src/wire/bytes.ts'
import { crossed, flipped, hex, providers, seeded, seededBytes } from './providers.ts'

const curveNames: CurveName[] = ['nistp256', 'nistp384', 'nistp521']

/** u coordinates that give zero with every secret: orders 1, 2, 4 and 8, also unreduced and with the top bit set. */
const lowOrderPoints = [
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
  '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
].flatMap((point) => [hex(point), flipped(hex(point), 31, 7)])

/** RFC 5903 s8.1 to s8.3: two private keys, the point of the first where printed here, and the secret. */
const ecdhCases: [CurveName, string, string, string, string][] = [
  [
    'nistp256',
    'c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433',
    'c6ef9c5d78ae012a011164acb397ce2088685d8f06bf9be0b283ab46476bee53',
    `04 dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c3772581180
     5271a0461cdb8252d61f1c456fa3e59ab1f45b33accf5f58389e0577b8990bb3`,
    'd6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de',
  ],
  [
    'nistp384',
    '099f3c7034d4a2c699884d73a375a67f7624ef7c6b3c0f160647b67414dce655e35b538041e649ee3faef896783ab194',
    '41cb0779b4bdb85d47846725fbec3c9430fab46cc8dc5060855cc9bda0aa2942e0308312916b8ed2960e4bd55a7448fc',
    `04 667842d7d180ac2cde6f74f37551f55755c7645c20ef73e31634fe72b4c55ee6de3ac808acb4bdb4c88732aee95f41aa
     9482ed1fc0eeb9cafc4984625ccfc23f65032149e0e144ada024181535a0f38eeb9fcff3c2c947dae69b4c634573a81c`,
    '11187331c279962d93d604243fd592cb9d0a926f422e47187521287e7156c5c4d603135569b9e9d09cf5d4a270f59746',
  ],
  [
    'nistp521',
    `0037ade9319a89f4dabdb3ef411aaccca5123c61acab57b5393dce47608172a0
     95aa85a30fe1c2952c6771d937ba9777f5957b2639bab072462f68c27a57382d4a52`,
    `0145ba99a847af43793fdd0e872e7cdfa16be30fdc780f97bccc3f078380201e
     9c677d600b343757a3bdbf2a3163e4c2f869cca7458aa4a4effc311f5cb151685eb9`,
    '',
    `01144c7d79ae6956bc8edb8e7c787c4521cb086fa64407f97894e5e6b2d79b04
     d1427e73ca4baa240a34786859810c06b3c715a3a8cc3151f2bee417996d19f3ddea`,
  ],
]

/** A RandomSource that has these bytes and no others. */
const fixed = (bytes: Uint8Array) => (into: Uint8Array) => into.set(bytes)

describe.each(providers)('%s', (_name, crypto) => {
  test('agrees on the X25519 keys and secret of RFC 7748 s6.1', async () => {
    const alice = await crypto.x25519KeyPair(
      fixed(hex('77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a')),
    )
    const bob = await crypto.x25519KeyPair(
      fixed(hex('5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb')),
    )
    expect(toHex(alice.publicKey)).toBe('8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a')
    expect(toHex(bob.publicKey)).toBe('de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f')
    const shared = (await crypto.x25519(alice.secret, bob.publicKey))!
    expect(toHex(shared)).toBe('4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742')
    expect(await crypto.x25519(bob.secret, alice.publicKey)).toEqual(shared)
  })

  test('ignores the top bit of an X25519 point and takes unreduced ones (RFC 7748 s5)', async () => {
    const { secret } = await crypto.x25519KeyPair(seeded('top bit'))
    const { publicKey } = await crypto.x25519KeyPair(seeded('their key'))
    expect(await crypto.x25519(secret, flipped(publicKey, 31, 7))).toEqual(
      await crypto.x25519(secret, publicKey),
    )
    // 2^255 - 19 + 9 is the base point.
    const unreduced = hex('f6ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f')
    expect(await crypto.x25519(secret, unreduced)).toEqual(
      (await crypto.x25519KeyPair(fixed(secret))).publicKey,
    )
  })

  test.each(lowOrderPoints.map((point) => [toHex(point), point] as const))(
    'finds no X25519 secret with the low-order point %s',
    async (_text, point) => {
      const { secret } = await crypto.x25519KeyPair(seeded('low order'))
      expect(await crypto.x25519(secret, point)).toBeUndefined()
    },
  )

  test('finds no X25519 secret with keys of 31 or 33 bytes', async () => {
    const { secret, publicKey } = await crypto.x25519KeyPair(seeded('lengths'))
    expect(await crypto.x25519(secret, publicKey.subarray(1))).toBeUndefined()
    expect(await crypto.x25519(secret, concat(publicKey, new Uint8Array(1)))).toBeUndefined()
  })

  test.each(ecdhCases)(
    'agrees on the secret of RFC 5903 for %s',
    async (curve, one, other, onePoint, secret) => {
      const ours = await crypto.ecdhKeyPair(curve, fixed(hex(one)))
      const theirs = await crypto.ecdhKeyPair(curve, fixed(hex(other)))
      if (onePoint !== '') expect(ours.publicKey).toEqual(hex(onePoint))
      expect(await crypto.ecdh(curve, ours.secret, theirs.publicKey)).toEqual(hex(secret))
      expect(await crypto.ecdh(curve, theirs.secret, ours.publicKey)).toEqual(hex(secret))
    },
  )

  test.each(curveNames)('refuses what is not an uncompressed point on %s', async (curve) => {
    const { secret, publicKey: point } = await crypto.ecdhKeyPair(curve, seeded('points'))
    const size = fieldBytes(curve)
    const parity = point[point.length - 1]! & 1
    const withForm = (form: number, rest: Uint8Array) => concat(Uint8Array.of(form), rest)
    const refused: [string, Uint8Array][] = [
      ['empty', new Uint8Array(0)],
      ['infinity, one byte', Uint8Array.of(0)],
      ['infinity, full length', new Uint8Array(1 + 2 * size)],
      ['compressed', withForm(2 | parity, point.subarray(1, 1 + size))],
      ['hybrid', withForm(6 | parity, point.subarray(1))],
      ['off the curve in y', flipped(point, point.length - 1)],
      ['off the curve in x', flipped(point, size)],
      ['zeros', withForm(4, new Uint8Array(2 * size))],
      ['coordinates not below p', withForm(4, new Uint8Array(2 * size).fill(0xff))],
      ['a byte short', point.subarray(0, -1)],
      ['a byte long', concat(point, Uint8Array.of(0))],
    ]
    for (const [what, bytes] of refused) expect(await crypto.ecdh(curve, secret, bytes), what).toBeUndefined()
    expect(await crypto.ecdh(curve, secret, point)).toHaveLength(size)
  })

  test('encapsulates to no ML-KEM key of another length or with a coefficient that is not below q', async () => {
    const { publicKey } = await crypto.mlkem768KeyPair(seeded('modulus'))
    const random = seeded('encapsulation')
    expect(await crypto.mlkem768Encapsulate(publicKey.subarray(1), random)).toBeUndefined()
    expect(await crypto.mlkem768Encapsulate(concat(publicKey, new Uint8Array(1)), random)).toBeUndefined()
    // Two 12-bit coefficients in three bytes, little-endian: the first, one in the middle and the last become q = 3329 = d01.
    for (const at of [0, 3 * 191, 3 * 383]) {
      const low = publicKey.slice()
      low[at] = 0x01
      low[at + 1] = (low[at + 1]! & 0xf0) | 0x0d
      expect(await crypto.mlkem768Encapsulate(low, random), `coefficient at byte ${at}`).toBeUndefined()
      const high = publicKey.slice()
      high[at + 1] = (high[at + 1]! & 0x0f) | 0x10
      high[at + 2] = 0xd0
      expect(
        await crypto.mlkem768Encapsulate(high, random),
        `second coefficient at byte ${at}`,
      ).toBeUndefined()
      low[at] = 0x00
      expect(await crypto.mlkem768Encapsulate(low, random), 'q - 1 is allowed').toBeDefined()
    }
  })

  test('decapsulates nothing of another length', async () => {
    const { secret } = await crypto.mlkem768KeyPair(seeded('lengths'))
    await expect(
      (async () => await crypto.mlkem768Decapsulate(secret, new Uint8Array(1087)))(),
    ).rejects.toThrow(UsageError)
    await expect(
      (async () => await crypto.mlkem768Decapsulate(secret.subarray(1), new Uint8Array(1088)))(),
    ).rejects.toThrow(UsageError)
  })

  test('raises to a power modulo small, even, prime and composite numbers', async () => {
    const cases: [number, number, number, number][] = [
      [3, 5, 7, 5],
      [5, 100, 15, 10],
      [0, 5, 7, 0],
      [1, 5, 7, 1],
      [6, 3, 7, 6],
      [7, 3, 10, 3],
      [3, 5, 101, 41],
    ]
    for (const [base, exponent, modulus, expected] of cases) {
      expect(
        await crypto.modPow(Uint8Array.of(base), Uint8Array.of(exponent), Uint8Array.of(modulus)),
      ).toEqual(Uint8Array.of(expected))
    }
  })
})

test('ML-KEM-768 makes the keys, ciphertexts and secrets of 100 accumulated vectors', async () => {
  // Published with Go's crypto/mlkem: all inputs from one SHAKE128 stream, all outputs into another.
  const stream = shake128.create({ dkLen: 32 })
  const outputs = shake128.create({ dkLen: 32 })
  const random = (into: Uint8Array) => into.set(stream.xof(into.length))
  for (let i = 0; i < 100; i++) {
    const { publicKey, secret } = await nodeCrypto.mlkem768KeyPair(random)
    outputs.update(publicKey)
    const { ciphertext, sharedSecret } = (await nodeCrypto.mlkem768Encapsulate(publicKey, random))!
    outputs.update(ciphertext)
    outputs.update(sharedSecret)
    if (i % 20 === 0) expect(await nodeCrypto.mlkem768Decapsulate(secret, ciphertext)).toEqual(sharedSecret)
    const unrelated = new Uint8Array(1088)
    random(unrelated)
    outputs.update(await nodeCrypto.mlkem768Decapsulate(secret, unrelated))
  }
  expect(toHex(outputs.digest())).toBe('1114b1b6699ed191734fa339376afa7e285c9e6acf6ff0177d346696ce564415')
})

describe.each(crossed)('%s', (_name, one, other) => {
  test.each(curveNames)(
    'draw the same key on %s from the same random bytes and agree with each other',
    async (curve) => {
      const ours = await one.ecdhKeyPair(curve, seeded(`ours ${curve}`))
      const theirs = await other.ecdhKeyPair(curve, seeded(`theirs ${curve}`))
      expect(await other.ecdhKeyPair(curve, seeded(`ours ${curve}`))).toEqual(ours)
      expect(await one.ecdh(curve, ours.secret, theirs.publicKey)).toEqual(
        await other.ecdh(curve, theirs.secret, ours.publicKey),
      )
    },
  )

  test('agree on X25519', async () => {
    for (let i = 0; i < 5; i++) {
      const ours = await one.x25519KeyPair(seeded(`x ${i}`))
      expect(await other.x25519KeyPair(seeded(`x ${i}`))).toEqual(ours)
      const point = seededBytes(`any point ${i}`, 32)
      expect(await other.x25519(ours.secret, point)).toEqual(await one.x25519(ours.secret, point))
    }
  })

  test('agree on modular powers, also with bases that OpenSSL does not take', async () => {
    const modulus = seededBytes('modulus', 80)
    modulus[0]! |= 0x80
    modulus[79]! |= 1
    const exponent = seededBytes('exponent', 40)
    const minusOne = modulus.slice()
    minusOne[79]! -= 1
    const bases = [
      Uint8Array.of(0),
      Uint8Array.of(1),
      Uint8Array.of(2),
      minusOne,
      modulus,
      seededBytes('base', 79),
      seededBytes('long', 90),
    ]
    for (const base of bases) {
      const power = await one.modPow(base, exponent, modulus)
      expect(power).toHaveLength(80)
      expect(await other.modPow(base, exponent, modulus)).toEqual(power)
    }
    expect(await one.modPow(minusOne, Uint8Array.of(3), modulus)).toEqual(minusOne)
  })
})

describe('a private scalar', () => {
  test('is held to the orders that FIPS 186-5 and SEC 2 give', () => {
    expect(curveOrder('nistp256')).toBe(p256.Point.Fn.ORDER)
    expect(curveOrder('nistp384')).toBe(p384.Point.Fn.ORDER)
    expect(curveOrder('nistp521')).toBe(p521.Point.Fn.ORDER)
  })

  test.each(curveNames)('is field-sized, above zero and below the order of %s', (curve) => {
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        const scalar = drawScalar(curve, seeded(seed))
        expect(scalar).toHaveLength(fieldBytes(curve))
        const value = toBigInt(scalar)
        expect(value > 0n && value < curveOrder(curve)).toBe(true)
      }),
      { numRuns: 100 },
    )
  })

  test.each(curveNames)('takes 1 and n - 1 and draws again for 0, n and beyond, on %s', (curve) => {
    const order = curveOrder(curve)
    const size = fieldBytes(curve)
    const bytesOf = (value: bigint) => hex(value.toString(16).padStart(2 * size, '0'))
    const draws = (...values: bigint[]) => {
      let next = 0
      return drawScalar(curve, (into) => into.set(bytesOf(values[next++]!)))
    }
    expect(draws(1n)).toEqual(bytesOf(1n))
    expect(draws(order - 1n)).toEqual(bytesOf(order - 1n))
    expect(draws(0n, order, order + 1n, 5n)).toEqual(bytesOf(5n))
  })

  test('is not drawn for ever from a broken source', () => {
    expect(() => drawScalar('nistp256', (into) => into.fill(0))).toThrow(UsageError)
    expect(() => drawScalar('nistp384', (into) => into.fill(0xff))).toThrow(UsageError)
  })
})
