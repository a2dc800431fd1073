import { createDiffieHellmanGroup } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { fromBigInt, toBigInt } from '../../../packages/transport/src/crypto/big-integer.ts'
import { nodeCrypto } from '../../../packages/transport/src/crypto/node.ts'
import type { CryptoProvider } from '../../../packages/transport/src/crypto/provider.ts'
import { ProtocolError, UsageError } from '../../../packages/transport/src/errors.ts'
import type { KexMethod } from '../../../packages/transport/src/kex/method.ts'
import { kexMethod, knownKexMethods } from '../../../packages/transport/src/kex/methods.ts'
import { group14Prime, group16Prime, group18Prime } from '../../../packages/transport/src/kex/modp-groups.ts'
import { mpintSecret, stringSecret } from '../../../packages/transport/src/kex/shared-secret.ts'
import { whenReady } from '../../../packages/transport/src/keys/maybe-promise.ts'
import { concat, toHex } from '../../../packages/transport/src/wire/bytes.ts'
import { Reader } from '../../../packages/transport/src/wire/reader.ts'
import { Writer } from '../../../packages/transport/src/wire/writer.ts'
import { flipped, hex, providers, seeded } from '../crypto/providers.ts'

const methods = knownKexMethods.map((name) => [name, kexMethod(name)!] as const)
const twoSided = methods.filter(([, method]) => method.server !== undefined)
const hybrid = kexMethod('mlkem768x25519-sha256')!
const groups = [
  ['diffie-hellman-group14-sha256', group14Prime, 'modp14'],
  ['diffie-hellman-group16-sha512', group16Prime, 'modp16'],
  ['diffie-hellman-group18-sha512', group18Prime, 'modp18'],
] as const

/** The content of an mpint (RFC 4251 s5), from a number of either sign; written out here on its own. */
function mpint(value: bigint): Uint8Array {
  if (value === 0n) return new Uint8Array(0)
  let length = 1
  while (value >= 1n << BigInt(8 * length - 1) || value < -(1n << BigInt(8 * length - 1))) length++
  return fromBigInt(BigInt.asUintN(8 * length, value), length)
}

const exchange = async (
  method: KexMethod,
  clientCrypto: CryptoProvider,
  serverCrypto: CryptoProvider,
  seed: string,
) => {
  const client = await method.client(clientCrypto, seeded(`client ${seed}`))
  const server = await method.server!(serverCrypto, seeded(`server ${seed}`), client.publicValue)
  return { client, server, clientSecret: await client.finish(server.publicValue) }
}

/** A provider that shows every private value it makes. */
function watched(crypto: CryptoProvider): { crypto: CryptoProvider; secrets: Uint8Array[] } {
  const secrets: Uint8Array[] = []
  const keep = <T extends { secret: Uint8Array }>(pair: T): T => {
    secrets.push(pair.secret)
    return pair
  }
  const shown = <T extends Uint8Array | undefined>(secret: T): T => {
    if (secret !== undefined) secrets.push(secret)
    return secret
  }
  return {
    secrets,
    crypto: {
      ...crypto,
      x25519KeyPair: (random) => whenReady(crypto.x25519KeyPair(random), keep),
      ecdhKeyPair: (curve, random) => whenReady(crypto.ecdhKeyPair(curve, random), keep),
      mlkem768KeyPair: (random) => whenReady(crypto.mlkem768KeyPair(random), keep),
      x25519: (secret, publicKey) => whenReady(crypto.x25519(secret, publicKey), shown),
      ecdh: (curve, secret, point) => whenReady(crypto.ecdh(curve, secret, point), shown),
      mlkem768Decapsulate: (secret, ciphertext) =>
        whenReady(crypto.mlkem768Decapsulate(secret, ciphertext), shown),
      mlkem768Encapsulate: (publicKey, random) =>
        whenReady(crypto.mlkem768Encapsulate(publicKey, random), (result) => {
          shown(result?.sharedSecret)
          return result
        }),
      modPow: (base, exponent, modulus) => {
        secrets.push(exponent)
        return crypto.modPow(base, exponent, modulus)
      },
    },
  }
}

describe.each(twoSided)('%s', (_name, method) => {
  for (const [one, clientCrypto] of providers) {
    for (const [other, serverCrypto] of providers) {
      test(`gives client (${one}) and server (${other}) the same K, another one each time`, async () => {
        const seen = new Set<string>()
        for (const seed of ['1', '2']) {
          const { server, clientSecret } = await exchange(method, clientCrypto, serverCrypto, seed)
          expect(clientSecret).toEqual(server.encodedSecret)
          seen.add(toHex(clientSecret))
        }
        expect(seen.size).toBe(2)
      })
    }
  }

  test('finishes once', async () => {
    const { client, server } = await exchange(method, nodeCrypto, nodeCrypto, 'once')
    await expect((async () => await client.finish(server.publicValue))()).rejects.toThrow(UsageError)
  })

  test('wipes every private value and unencoded secret, on both sides, also where the peer errs', async () => {
    const { crypto, secrets } = watched(nodeCrypto)
    const { client } = await exchange(method, crypto, crypto, 'wiped')
    expect(client.publicValue.some((byte) => byte !== 0)).toBe(true)
    const failing = await method.client(crypto, seeded('failing'))
    await expect((async () => await failing.finish(new Uint8Array(7)))()).rejects.toThrow(ProtocolError)
    await expect(
      (async () => await method.server!(crypto, seeded('failing'), new Uint8Array(7)))(),
    ).rejects.toThrow(ProtocolError)
    expect(secrets.length).toBeGreaterThanOrEqual(5)
    for (const secret of secrets) expect(secret.every((byte) => byte === 0)).toBe(true)
  })

  test('refuses values a byte short, a byte long, or empty, in both roles', async () => {
    const { client, server } = await exchange(method, nodeCrypto, nodeCrypto, 'lengths')
    const wrong = (value: Uint8Array) => [
      value.subarray(1),
      value.subarray(0, -1),
      concat(value, new Uint8Array(1)),
      new Uint8Array(0),
    ]
    for (const value of wrong(server.publicValue)) {
      await expect(
        (async () => await (await method.client(nodeCrypto, seeded('c'))).finish(value))(),
      ).rejects.toThrow(ProtocolError)
    }
    for (const value of wrong(client.publicValue)) {
      await expect((async () => await method.server!(nodeCrypto, seeded('s'), value))()).rejects.toThrow(
        ProtocolError,
      )
    }
  })
})

describe.each(providers)('%s', (_name, crypto) => {
  const lowOrder = [
    '0000000000000000000000000000000000000000000000000000000000000000',
    '0100000000000000000000000000000000000000000000000000000000000000',
    'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
    '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
    'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  ].map(hex)

  test.each(['curve25519-sha256', 'curve25519-sha256@libssh.org'])(
    '%s ends at low-order points, in both roles',
    async (name) => {
      const method = kexMethod(name)!
      await expect(
        (async () => await (await method.client(crypto, seeded('c'))).finish(new Uint8Array(31)))(),
      ).rejects.toThrow('31 bytes long, not 32')
      for (const point of lowOrder) {
        await expect(
          (async () => await (await method.client(crypto, seeded('c'))).finish(point))(),
        ).rejects.toThrow('low order')
        await expect((async () => await method.server!(crypto, seeded('s'), point))()).rejects.toThrow(
          ProtocolError,
        )
      }
    },
  )

  test('mlkem768x25519-sha256 ends at low-order points, in both roles', async () => {
    const client = await hybrid.client(crypto, seeded('client'))
    const server = await hybrid.server!(crypto, seeded('server'), client.publicValue)
    for (const point of lowOrder.slice(0, 3)) {
      const reply = concat(server.publicValue.subarray(0, 1088), point)
      await expect(
        (async () => await (await hybrid.client(crypto, seeded('client'))).finish(reply))(),
      ).rejects.toThrow(ProtocolError)
      const init = concat(client.publicValue.subarray(0, 1184), point)
      await expect((async () => await hybrid.server!(crypto, seeded('server'), init))()).rejects.toThrow(
        ProtocolError,
      )
    }
  })

  test('mlkem768x25519-sha256 ends at an ML-KEM key with a coefficient that is not below q', async () => {
    const { publicValue } = await hybrid.client(crypto, seeded('client'))
    const init = publicValue.slice()
    init[0] = 0xff
    init[1] = init[1]! | 0x0f
    await expect((async () => await hybrid.server!(crypto, seeded('server'), init))()).rejects.toThrow(
      'not below q',
    )
  })

  test('mlkem768x25519-sha256 gives unequal K, and no error, for an altered ciphertext (implicit rejection)', async () => {
    const client = await hybrid.client(crypto, seeded('client'))
    const server = await hybrid.server!(crypto, seeded('server'), client.publicValue)
    expect(await client.finish(flipped(server.publicValue, 500))).not.toEqual(server.encodedSecret)
  })

  test.each(['nistp256', 'nistp384', 'nistp521'] as const)(
    'ecdh-sha2-%s ends at what is no uncompressed point, in both roles',
    async (curve) => {
      const method = kexMethod(`ecdh-sha2-${curve}`)!
      const { publicKey: point } = await crypto.ecdhKeyPair(curve, seeded('point'))
      const size = (point.length - 1) / 2
      const parity = point[point.length - 1]! & 1
      const wrong = [
        Uint8Array.of(0),
        new Uint8Array(point.length),
        concat(Uint8Array.of(2 | parity), point.subarray(1, 1 + size)),
        concat(Uint8Array.of(6 | parity), point.subarray(1)),
        flipped(point, point.length - 1),
        flipped(point, 5),
      ]
      for (const value of wrong) {
        await expect(
          (async () => await (await method.client(crypto, seeded('c'))).finish(value))(),
        ).rejects.toThrow('not an uncompressed point')
        await expect((async () => await method.server!(crypto, seeded('s'), value))()).rejects.toThrow(
          ProtocolError,
        )
      }
    },
  )

  test.each(groups.slice(0, crypto.name === 'node' ? 3 : 1))(
    '%s agrees with another implementation',
    async (name, _prime, group) => {
      const theirs = createDiffieHellmanGroup(group)
      theirs.generateKeys()
      const client = await kexMethod(name)!.client(crypto, seeded(name))
      const e = new Reader(new Writer().string(client.publicValue).bytes()).unsignedMpint()
      const secret = await client.finish(mpint(toBigInt(theirs.getPublicKey())))
      expect(secret).toEqual(new Writer().string(mpint(toBigInt(theirs.computeSecret(e)))).copy())
    },
  )
})

describe.each(groups)('%s', (name, prime) => {
  const method = kexMethod(name)!
  const p = toBigInt(prime)

  test('is for clients only', () => {
    expect(method.server).toBeUndefined()
  })

  test('refuses f of 0, 1, p - 1, p, p + 1, beyond, and below zero (RFC 8268 s4)', async () => {
    for (const f of [0n, 1n, p - 1n, p, p + 1n, p + 5n, p * 2n, p * p + 5n, -1n, -2n, -p, 1n - p]) {
      await expect(
        (async () => await (await method.client(nodeCrypto, seeded(name))).finish(mpint(f)))(),
        String(f).slice(0, 9),
      ).rejects.toThrow(ProtocolError)
    }
  })

  test('refuses an f whose mpint is not minimal', async () => {
    const f = mpint(4n)
    expect(f).toEqual(Uint8Array.of(4))
    await expect(
      (async () =>
        await (await method.client(nodeCrypto, seeded(name))).finish(concat(Uint8Array.of(0), f)))(),
    ).rejects.toThrow('no positive mpint')
    await expect(
      (async () => await (await method.client(nodeCrypto, seeded(name))).finish(Uint8Array.of(0xff, 0xff)))(),
    ).rejects.toThrow('no positive mpint')
  })

  test('takes f of 2 and p - 2, and sends an e in the same range', async () => {
    for (const f of [2n, p - 2n]) {
      const client = await method.client(nodeCrypto, seeded(name))
      const e = toBigInt(client.publicValue)
      expect(e > 1n && e < p - 1n).toBe(true)
      expect(client.publicValue).toEqual(mpint(e))
      const secret = await client.finish(mpint(f))
      expect(toBigInt(secret.subarray(4))).toBeLessThan(p)
      // f = 2 is our own e: the secret is g^x.
      if (f === 2n) expect(toBigInt(secret.subarray(4))).toBe(e)
    }
  })

  test('wipes its exponent, and draws one that is never small', async () => {
    const { crypto, secrets } = watched(nodeCrypto)
    const client = await method.client(crypto, (into) => into.fill(0))
    expect(secrets[0]![0]).toBe(0x80)
    await client.finish(mpint(5n))
    expect(secrets).toHaveLength(2)
    for (const secret of secrets) expect(secret.every((byte) => byte === 0)).toBe(true)
  })

  test('refuses a trivial K', async () => {
    for (const trivial of [0n, 1n, p - 1n]) {
      let calls = 0
      const crypto: CryptoProvider = {
        ...nodeCrypto,
        modPow: (base, exponent, modulus) =>
          calls++ === 0 ? nodeCrypto.modPow(base, exponent, modulus) : fromBigInt(trivial, prime.length),
      }
      await expect(
        (async () => await (await method.client(crypto, seeded(name))).finish(mpint(5n)))(),
      ).rejects.toThrow('trivial secret')
    }
  })
})

test('the groups are those of RFC 3526: 2^n - 2^(n-64) - 1 + 2^64 * ([2^(n-130) pi] + c)', () => {
  const digits = 8192n
  /** arctan(1/x) scaled by 2^(digits + 64). */
  const arctanInverse = (x: bigint): bigint => {
    let term = (1n << (digits + 64n)) / x
    let sum = term
    for (let k = 3n, sign = -1n; term !== 0n; k += 2n, sign = -sign) {
      term /= x * x
      sum += sign * (term / k)
    }
    return sum
  }
  // Machin: pi = 16 arctan(1/5) - 4 arctan(1/239).
  const pi = 16n * arctanInverse(5n) - 4n * arctanInverse(239n)
  for (const [prime, n, c] of [
    [group14Prime, 2048n, 124_476n],
    [group16Prime, 4096n, 240_904n],
    [group18Prime, 8192n, 4_743_158n],
  ] as const) {
    const expected = 2n ** n - 2n ** (n - 64n) - 1n + 2n ** 64n * ((pi >> (digits + 64n - (n - 130n))) + c)
    expect(toBigInt(prime)).toBe(expected)
  }
})

test('mlkem768x25519-sha256 lays its values out as the draft says, and hashes ML-KEM before X25519 into a string', async () => {
  const client = await hybrid.client(nodeCrypto, seeded('client layout'))
  expect(client.publicValue).toHaveLength(1184 + 32)
  const kem = await nodeCrypto.mlkem768KeyPair(seeded('kem'))
  const pair = await nodeCrypto.x25519KeyPair(seeded('pair'))
  const server = await hybrid.server!(
    nodeCrypto,
    seeded('server layout'),
    concat(kem.publicKey, pair.publicKey),
  )
  expect(server.publicValue).toHaveLength(1088 + 32)
  const kemSecret = await nodeCrypto.mlkem768Decapsulate(kem.secret, server.publicValue.subarray(0, 1088))
  const pointSecret = (await nodeCrypto.x25519(pair.secret, server.publicValue.subarray(1088)))!
  const expected = nodeCrypto.digest('sha256', kemSecret, pointSecret)
  expect(server.encodedSecret).toEqual(concat(hex('00000020'), expected))
})

test('K of the hybrid keeps leading zeros and high bits as they are; K of the others is a minimal mpint', () => {
  for (const bytes of ['0000ff', '80ff00', '7fffff', '000001', '00', '']) {
    expect(stringSecret(hex(bytes))).toEqual(new Writer().string(hex(bytes)).copy())
    expect(mpintSecret(hex(bytes))).toEqual(new Writer().string(mpint(toBigInt(hex(bytes)))).copy())
  }
  // Every pattern of zero and high bits in the first three bytes.
  for (let first = 0; first < 256; first += 3) {
    for (let second = 0; second < 256; second += 51) {
      for (const zeros of [0, 1, 2, 3]) {
        const secret = concat(new Uint8Array(zeros), Uint8Array.of(first, second), new Uint8Array(4).fill(7))
        expect(mpintSecret(secret.slice())).toEqual(new Writer().string(mpint(toBigInt(secret))).copy())
        const spent = secret.slice()
        mpintSecret(spent)
        expect(spent.every((byte) => byte === 0)).toBe(true)
      }
    }
  }
})

test('the hash of each method is the one its definition names', () => {
  expect(Object.fromEntries(methods.map(([name, method]) => [name, method.hash]))).toEqual({
    'mlkem768x25519-sha256': 'sha256',
    'curve25519-sha256': 'sha256',
    'curve25519-sha256@libssh.org': 'sha256',
    'ecdh-sha2-nistp256': 'sha256',
    'ecdh-sha2-nistp384': 'sha384',
    'ecdh-sha2-nistp521': 'sha512',
    'diffie-hellman-group16-sha512': 'sha512',
    'diffie-hellman-group18-sha512': 'sha512',
    'diffie-hellman-group14-sha256': 'sha256',
  })
  for (const [name, method] of methods) expect(method.name).toBe(name)
  for (const name of ['diffie-hellman-group1-sha1', 'diffie-hellman-group14-sha1', '__proto__', '']) {
    expect(kexMethod(name)).toBeUndefined()
  }
})
