import { generateKeyPairSync } from 'node:crypto'
import { ED25519_TORSION_SUBGROUP } from '@noble/curves/ed25519.js'
import { describe, expect, test } from 'vitest'
import { fromBigInt, toBigInt } from '../../../packages/transport/src/crypto/big-integer.ts'
import { isAcceptableEd25519Key } from '../../../packages/transport/src/crypto/ed25519-rules.ts'
import { curveOrder, fieldBytes } from '../../../packages/transport/src/crypto/elliptic-curves.ts'
import { nodeCrypto } from '../../../packages/transport/src/crypto/node.ts'
import type {
  CryptoProvider,
  CurveName,
  HashName,
  SigningKey,
  VerifyKey,
} from '../../../packages/transport/src/crypto/provider.ts'
import { webCrypto } from '../../../packages/transport/src/crypto/web.ts'
import { UsageError } from '../../../packages/transport/src/errors.ts'
import { concat, toHex } from '../../../packages/transport/src/wire/bytes.ts'
import { ascii, crossed, flipped, hex, providers, seededBytes } from './providers.ts'

type Ed25519Key = Extract<SigningKey, { type: 'ed25519' }>
type EcdsaKey = Extract<SigningKey, { type: 'ecdsa' }>
type RsaKey = Extract<SigningKey, { type: 'rsa' }>

/** RFC 8032 s7.1, tests 1 to 3. */
const ed25519Cases: [string, Ed25519Key, Uint8Array, string][] = [
  [
    'TEST 1',
    {
      type: 'ed25519',
      seed: hex('9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60'),
      publicKey: hex('d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a'),
    },
    new Uint8Array(0),
    'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b',
  ],
  [
    'TEST 2',
    {
      type: 'ed25519',
      seed: hex('4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb'),
      publicKey: hex('3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c'),
    },
    hex('72'),
    '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
  ],
  [
    'TEST 3',
    {
      type: 'ed25519',
      seed: hex('c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7'),
      publicKey: hex('fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025'),
    },
    hex('af82'),
    '6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a',
  ],
]

/** RFC 6979 A.2.5 to A.2.7, message "sample". */
const ecdsaCases: [CurveName, HashName, string, string, string, string, string][] = [
  [
    'nistp256',
    'sha256',
    'c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721',
    '60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6',
    '7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299',
    'efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716',
    'f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8',
  ],
  [
    'nistp384',
    'sha384',
    '6b9d3dad2e1b8c1c05b19875b6659f4de23c3b667bf297ba9aa47740787137d896d5724e4c70a825f872c9ea60d2edf5',
    'ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64def8f0ea9055866064a254515480bc13',
    '8015d9b72d7d57244ea8ef9ac0c621896708a59367f9dfb9f54ca84b3f1c9db1288b231c3ae0d4fe7344fd2533264720',
    '94edbb92a5ecb8aad4736e56c691916b3f88140666ce9fa73d64c4ea95ad133c81a648152e44acf96e36dd1e80fabe46',
    '99ef4aeb15f178cea1fe40db2603138f130e740a19624526203b6351d0a3a94fa329c145786e679e7b82c71a38628ac8',
  ],
  [
    'nistp521',
    'sha512',
    '00fad06daa62ba3b25d2fb40133da757205de67f5bb0018fee8c86e1b68c7e75caa896eb32f1f47c70855836a6d16fcc1466f6d8fbec67db89ec0c08b0e996b83538',
    '01894550d0785932e00eaa23b694f213f8c3121f86dc97a04e5a7167db4e5bcd371123d46e45db6b5d5370a7f20fb633155d38ffa16d2bd761dcac474b9a2f5023a4',
    '00493101c962cd4d2fddf782285e64584139c2f91b47f87ff82354d6630f746a28a0db25741b5b34a828008b22acc23f924faafbd4d33f81ea66956dfeaa2bfdfcf5',
    '00c328fafcbd79dd77850370c46325d987cb525569fb63c5d3bc53950e6d4c5f174e25a1ee9017b5d450606add152b534931d7d4e8455cc91f9b15bf05ec36e377fa',
    '00617cce7cf5064806c467f678d3b4080d6f1cc50af26ca209417308281b68af282623eaa63e5b5c0723d8b8c37ff0777b1a20f8ccb1dccc43997f1ee0e44da4a67a',
  ],
]

function ecdsaKey(curve: CurveName): EcdsaKey {
  const [, , d, x, y] = ecdsaCases.find(([name]) => name === curve)!
  return { type: 'ecdsa', curve, scalar: hex(d), point: concat(Uint8Array.of(4), hex(x), hex(y)) }
}

function fromJwk(value: string | undefined): Uint8Array {
  return Uint8Array.from(Buffer.from(value!, 'base64url'))
}

function newRsaKey(bits: number): { key: RsaKey; pem: string } {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: bits })
  const jwk = privateKey.export({ format: 'jwk' })
  return {
    pem: privateKey.export({ format: 'pem', type: 'pkcs8' }) as string,
    key: {
      type: 'rsa',
      n: fromJwk(jwk.n),
      e: fromJwk(jwk.e),
      d: fromJwk(jwk.d),
      p: fromJwk(jwk.p),
      q: fromJwk(jwk.q),
      iqmp: fromJwk(jwk.qi),
    },
  }
}

const rsa = newRsaKey(2048)

const message = ascii('sample')

describe.each(providers)('%s', (_name, crypto) => {
  const accepts = async (key: VerifyKey, signature: Uint8Array, hash: HashName = 'sha256', data = message) =>
    await crypto.verify(key, hash, data, signature)

  describe('Ed25519', () => {
    test.each(ed25519Cases)('signs and verifies RFC 8032 s7.1 %s', async (_test, key, data, signature) => {
      expect(toHex(await crypto.sign(key, 'sha512', data))).toBe(signature)
      expect(await accepts(key, hex(signature), 'sha512', data)).toBe(true)
      expect(await accepts(key, hex(signature), 'sha512', concat(data, Uint8Array.of(0)))).toBe(false)
    })

    const [, key, data, text] = ed25519Cases[1]!
    const signature = hex(text)

    test('rejects a signature whose S has the group order added', async () => {
      // RFC 8032 s5.1.7: S "in the range 0 <= s < L".
      const order = 2n ** 252n + 27742317777372353535851937790883648493n
      const s = toBigInt(signature.slice(32).reverse()) + order
      const malleable = concat(signature.subarray(0, 32), fromBigInt(s, 32).reverse())
      expect(await accepts(key, malleable, 'sha512', data)).toBe(false)
    })

    test('rejects a signature or key with any byte changed, or of another length', async () => {
      for (let at = 0; at < 64; at += 9) {
        expect(await accepts(key, flipped(signature, at), 'sha512', data)).toBe(false)
      }
      for (const publicKey of [
        flipped(key.publicKey, 3),
        key.publicKey.subarray(1),
        new Uint8Array(33),
        new Uint8Array(0),
      ]) {
        expect(await accepts({ type: 'ed25519', publicKey }, signature, 'sha512', data)).toBe(false)
      }
      for (const wrong of [
        signature.subarray(0, 63),
        concat(signature, Uint8Array.of(0)),
        new Uint8Array(0),
      ]) {
        expect(await accepts(key, wrong, 'sha512', data)).toBe(false)
      }
    })

    test.each(ED25519_TORSION_SUBGROUP)(
      'rejects the small-order key %s, which signs anything',
      async (point) => {
        // With S = 0 and R = -kA, of order 8 at most, one of the eight R makes the equation hold: try them all.
        for (const r of ED25519_TORSION_SUBGROUP) {
          const forged = concat(hex(r), new Uint8Array(32))
          expect(await accepts({ type: 'ed25519', publicKey: hex(point) }, forged, 'sha512', data)).toBe(
            false,
          )
        }
      },
    )

    test('derives the public key from the seed, so a wrong one in a key file cannot leak the scalar', async () => {
      const mismatched: SigningKey = { ...key, publicKey: ed25519Cases[0]![1].publicKey }
      expect(toHex(await crypto.sign(mismatched, 'sha512', data))).toBe(text)
    })
  })

  describe('ECDSA', () => {
    test.each(ecdsaCases)(
      'verifies the signature of RFC 6979 A.2 on %s',
      async (curve, hash, _d, _x, _y, r, s) => {
        const signature = hex(r + s)
        expect(await accepts(ecdsaKey(curve), signature, hash)).toBe(true)
        expect(await accepts(ecdsaKey(curve), signature, hash, ascii('test'))).toBe(false)
        expect(await accepts(ecdsaKey(curve), signature, hash === 'sha256' ? 'sha512' : 'sha256')).toBe(false)
      },
    )

    test.each(ecdsaCases)('signs on %s with a field-sized r and s that it verifies', async (curve, hash) => {
      const key = ecdsaKey(curve)
      const signature = await crypto.sign(key, hash, message)
      expect(signature).toHaveLength(2 * fieldBytes(curve))
      expect(await accepts(key, signature, hash)).toBe(true)
      // A scalar as a key file may have it: leading zeros dropped or added.
      const longer = { ...key, scalar: concat(new Uint8Array(2), key.scalar) }
      expect(await accepts(key, await crypto.sign(longer, hash, message), hash)).toBe(true)
    })

    test.each(ecdsaCases)(
      'rejects r or s of 0, of the order of %s and above',
      async (curve, hash, _d, _x, _y, r, s) => {
        const size = fieldBytes(curve)
        const order = curveOrder(curve)
        const good = { r: hex(r), s: hex(s) }
        const bad = [0n, order, order + 1n].map((value) => fromBigInt(value, size))
        bad.push(new Uint8Array(size).fill(0xff))
        for (const value of bad) {
          expect(await accepts(ecdsaKey(curve), concat(value, good.s), hash)).toBe(false)
          expect(await accepts(ecdsaKey(curve), concat(good.r, value), hash)).toBe(false)
        }
        expect(await accepts(ecdsaKey(curve), new Uint8Array(2 * size), hash)).toBe(false)
      },
    )

    test('rejects signatures of another length and changed bytes', async () => {
      const [curve, hash, , , , r, s] = ecdsaCases[0]!
      const signature = hex(r + s)
      for (const wrong of [
        signature.subarray(1),
        signature.subarray(0, 63),
        concat(signature, Uint8Array.of(0)),
        new Uint8Array(0),
      ]) {
        expect(await accepts(ecdsaKey(curve), wrong, hash)).toBe(false)
      }
      for (let at = 0; at < 64; at += 7) {
        expect(await accepts(ecdsaKey(curve), flipped(signature, at), hash)).toBe(false)
      }
    })

    test('rejects keys that are infinity, compressed, off the curve or on another one', async () => {
      const [curve, hash, , , , r, s] = ecdsaCases[0]!
      const { point } = ecdsaKey(curve)
      const compressed = concat(Uint8Array.of(2 | (point[64]! & 1)), point.subarray(1, 33))
      const hybrid = concat(Uint8Array.of(6 | (point[64]! & 1)), point.subarray(1))
      const points = [
        Uint8Array.of(0),
        new Uint8Array(65),
        compressed,
        hybrid,
        flipped(point, 64),
        ecdsaKey('nistp384').point,
      ]
      for (const wrong of points) {
        expect(await accepts({ type: 'ecdsa', curve, point: wrong }, hex(r + s), hash)).toBe(false)
      }
    })

    test('signs with no scalar of 0, of the order or longer than the field', async () => {
      for (const scalar of [
        Uint8Array.of(0),
        fromBigInt(curveOrder('nistp256'), 32),
        new Uint8Array(33).fill(1),
      ]) {
        await expect(
          (async () => crypto.sign({ ...ecdsaKey('nistp256'), scalar }, 'sha256', message))(),
        ).rejects.toThrow(UsageError)
      }
    })
  })

  describe('RSA', () => {
    test('verifies and makes PKCS#1 v1.5 signatures where it says so, and nowhere else', async () => {
      const expected = await rsaSignature(rsa.key, 'sha512', message)
      if (!crypto.supportsKey('rsa')) {
        expect(await accepts(rsa.key, expected, 'sha512')).toBe(false)
        expect(() => crypto.sign(rsa.key, 'sha512', message)).toThrow(UsageError)
        return
      }
      for (const hash of ['sha1', 'sha256', 'sha512'] as const) {
        const signature = await crypto.sign(rsa.key, hash, message)
        // The scheme is deterministic, so RFC 8017 s8.2.1 written out gives the same bytes.
        expect(signature).toEqual(await rsaSignature(rsa.key, hash, message))
        expect(await accepts(rsa.key, signature, hash)).toBe(true)
        expect(await accepts(rsa.key, signature, hash, ascii('test'))).toBe(false)
      }
    })

    test('rejects empty, shorter, longer and unreduced signatures and other keys', async () => {
      const signature = await rsaSignature(rsa.key, 'sha256', message)
      const unreduced = toBigInt(signature) + toBigInt(rsa.key.n)
      const wrong = [
        new Uint8Array(0),
        signature.subarray(1),
        signature.subarray(0, 255),
        concat(Uint8Array.of(0), signature),
        concat(signature, Uint8Array.of(0)),
        flipped(signature, 100),
        new Uint8Array(256),
        fromBigInt(1n, 256),
        fromBigInt(unreduced, 257),
      ]
      for (const bytes of wrong) expect(await accepts(rsa.key, bytes)).toBe(false)
      expect(await accepts({ ...rsa.key, n: flipped(rsa.key.n, 128) }, signature)).toBe(false)
      expect(await accepts({ ...rsa.key, n: new Uint8Array(0) }, signature)).toBe(false)
      expect(await accepts({ ...rsa.key, e: new Uint8Array(0) }, signature)).toBe(false)
      expect(await accepts(rsa.key, signature, 'sha512')).toBe(false)
    })

    test.each([
      [
        'a digest under another hash name',
        (good: Uint8Array) => emsa(good.length, 'sha1', nodeCrypto.digest('sha256', message)),
      ],
      [
        'short padding with the rest behind the digest',
        (good: Uint8Array) => {
          const info = digestInfo('sha256', nodeCrypto.digest('sha256', message))
          const garbage = good.length - 3 - 8 - info.length
          return concat(
            Uint8Array.of(0, 1),
            new Uint8Array(8).fill(0xff),
            Uint8Array.of(0),
            info,
            new Uint8Array(garbage),
          )
        },
      ],
      [
        'encryption padding',
        (good: Uint8Array) => {
          const em = good.slice()
          em[1] = 2
          return em
        },
      ],
      [
        'no parameters in the digest info',
        (good: Uint8Array) => {
          const info = hex('302f300b0609608648016503040201 0420')
          const tail = concat(info, nodeCrypto.digest('sha256', message))
          return concat(
            Uint8Array.of(0, 1),
            new Uint8Array(good.length - 3 - tail.length).fill(0xff),
            Uint8Array.of(0),
            tail,
          )
        },
      ],
      ['a padding byte that is not ff', (good: Uint8Array) => flipped(good, 10)],
    ])('rejects a signature over an encoded message with %s', async (_what, forge) => {
      const good = emsa(rsa.key.n.length, 'sha256', nodeCrypto.digest('sha256', message))
      const sign = async (em: Uint8Array) => nodeCrypto.modPow(em, rsa.key.d, rsa.key.n)
      expect(await accepts(rsa.key, await sign(good))).toBe(crypto.supportsKey('rsa'))
      expect(await accepts(rsa.key, await sign(forge(good)))).toBe(false)
    })
  })

  test('gives signatures whose slice is a copy, not Buffers', async () => {
    const keys: SigningKey[] = [ed25519Cases[0]![1], ecdsaKey('nistp256')]
    if (crypto.supportsKey('rsa')) keys.push(rsa.key)
    for (const key of keys) {
      expect(Object.getPrototypeOf(await crypto.sign(key, 'sha256', message))).toBe(Uint8Array.prototype)
    }
  })
})

/** DER prefixes of DigestInfo (RFC 8017 s9.2, note 1). */
const digestInfoPrefixes = new Map<HashName, Uint8Array>([
  ['sha1', hex('3021300906052b0e03021a05000414')],
  ['sha256', hex('3031300d060960864801650304020105000420')],
  ['sha512', hex('3051300d060960864801650304020305000440')],
])

function digestInfo(hash: HashName, digest: Uint8Array): Uint8Array {
  return concat(digestInfoPrefixes.get(hash)!, digest)
}

/** EMSA-PKCS1-v1_5 (RFC 8017 s9.2). */
function emsa(length: number, hash: HashName, digest: Uint8Array): Uint8Array {
  const info = digestInfo(hash, digest)
  return concat(
    Uint8Array.of(0, 1),
    new Uint8Array(length - info.length - 3).fill(0xff),
    Uint8Array.of(0),
    info,
  )
}

async function rsaSignature(key: RsaKey, hash: HashName, data: Uint8Array): Promise<Uint8Array> {
  return nodeCrypto.modPow(emsa(key.n.length, hash, nodeCrypto.digest(hash, data)), key.d, key.n)
}

describe.each(crossed)('%s', (_name, one, other) => {
  test('verify each other', async () => {
    const keys: [SigningKey, HashName][] = [
      [ed25519Cases[2]![1], 'sha512'],
      ...ecdsaCases.map(([curve, hash]): [SigningKey, HashName] => [ecdsaKey(curve), hash]),
    ]
    if (one.supportsKey('rsa') && other.supportsKey('rsa'))
      keys.push([rsa.key, 'sha256'], [rsa.key, 'sha512'])
    for (const [key, hash] of keys) {
      const data = seededBytes(`${key.type} ${hash}`, 500)
      expect(await other.verify(key, hash, data, await one.sign(key, hash, data))).toBe(true)
    }
  })
})

test('deterministic ECDSA nonces give the signatures of RFC 6979 where noble signs', async () => {
  const noble: CryptoProvider = webCrypto({ nobleOnly: true })
  for (const [curve, hash, , , , r, s] of ecdsaCases) {
    expect(toHex(await noble.sign(ecdsaKey(curve), hash, message))).toBe(r + s)
  }
})

test('Ed25519 keys that are not canonical are refused, reduced ones are not', () => {
  const withLast = (first: number, last: number) => {
    const key = new Uint8Array(32).fill(0xff)
    key[0] = first
    key[31] = last
    return key
  }
  // p - 2 (first byte eb) is the largest reduced y that is not of small order.
  expect(isAcceptableEd25519Key(withLast(0xeb, 0x7f))).toBe(true)
  expect(isAcceptableEd25519Key(withLast(0xeb, 0xff))).toBe(true)
  for (let first = 0xed; first <= 0xff; first++) {
    expect(isAcceptableEd25519Key(withLast(first, 0x7f))).toBe(false)
    expect(isAcceptableEd25519Key(withLast(first, 0xff))).toBe(false)
  }
  for (const point of ED25519_TORSION_SUBGROUP) expect(isAcceptableEd25519Key(hex(point))).toBe(false)
  for (const [, key] of ed25519Cases) expect(isAcceptableEd25519Key(key.publicKey)).toBe(true)
})
