import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { nodeCrypto } from '../../../packages/transport/src/crypto/node.ts'
import type { CryptoProvider } from '../../../packages/transport/src/crypto/provider.ts'
import { webCrypto } from '../../../packages/transport/src/crypto/web.ts'
import { IntegrityError, SshError, UsageError } from '../../../packages/transport/src/errors.ts'
import type { DirectionKeys } from '../../../packages/transport/src/packet/cipher.ts'
import {
  cipherSuite,
  isAead,
  knownCiphers,
  knownMacs,
} from '../../../packages/transport/src/packet/suites.ts'
import { concat, toHex } from '../../../packages/transport/src/wire/bytes.ts'
import { flipped, hex, misaligned, providers, seededBytes } from '../crypto/providers.ts'
import { knownPackets, knownPayload } from './known-packets.ts'
import { encryptedSuites, frame, keysOf, modes, opened, sealed } from './suite-cases.ts'

const counting = (from: number, length: number) => Uint8Array.from({ length }, (_, i) => from + i)
const sequences = [0xffff_fffe, 0xffff_ffff, 0]

describe.each(providers)('%s', (_name, crypto) => {
  test.each(
    knownPackets.map((known) => [`${known.cipher} ${known.mac ?? ''} ${known.iv ?? ''}`, known] as const),
  )('seals as asyncssh does and opens what it sealed: %s', async (_title, known) => {
    const suite = cipherSuite(crypto, known.cipher, known.mac)
    const keys: DirectionKeys = {
      key: counting(1, suite.keyLength),
      iv: known.iv === undefined ? counting(101, suite.ivLength) : hex(known.iv),
      macKey: counting(151, suite.macKeyLength),
    }
    const sealer = suite.sealer(keys)
    const opener = suite.opener(keys)
    for (const [i, packet] of known.packets.entries()) {
      const ours = await sealed(sealer, hex(knownPayload), sequences[i]!, { paddingByte: (at) => 200 + at })
      expect(toHex(ours)).toBe(packet)
      expect(toHex(await opened(opener, hex(packet), sequences[i]!))).toBe(knownPayload)
    }
  })

  test.each([...encryptedSuites, ...modes])(
    '%s opens what any provider sealed, packet after packet',
    async (name, suiteOf) => {
      for (const [, other] of providers) {
        const suite = suiteOf(crypto)
        const keys = keysOf(suite, name)
        const sealer = suiteOf(other).sealer(keys)
        const opener = suite.opener(keys)
        for (const [sequence, length] of [1, 2, 7, 8, 11, 12, 13, 27, 28, 29, 300].entries()) {
          const payload = seededBytes(`${name} ${length}`, length)
          const packet = await sealed(sealer, payload, sequence)
          expect(await opened(opener, packet, sequence)).toEqual(payload)
        }
      }
    },
  )

  test.each(encryptedSuites)('%s opens packets wherever they lie in memory', async (name, suiteOf) => {
    const suite = suiteOf(crypto)
    const keys = keysOf(suite, name)
    const sealer = suite.sealer(keys)
    const opener = suite.opener(keys)
    for (let offset = 0; offset < 8; offset++) {
      const payload = seededBytes(`${name} ${offset}`, 40)
      const packet = misaligned(frame(sealer, payload), offset)
      await sealer.seal(packet, offset)
      const stream = misaligned(concat(new Uint8Array(10), packet, new Uint8Array(10).fill(0xee)), offset)
      const length = opener.sealedLength(stream, 10, offset)
      expect(length).toBe(packet.length)
      expect(await opener.open(stream.subarray(10, 10 + length), offset)).toEqual(payload)
      expect(stream.subarray(10 + length)).toEqual(new Uint8Array(10).fill(0xee))
    }
  })

  test.each(encryptedSuites)('%s rejects a packet with any one byte altered', async (name, suiteOf) => {
    const suite = suiteOf(crypto)
    const keys = keysOf(suite, name)
    const packet = await sealed(suite.sealer(keys), seededBytes(name, 20), 5)
    for (let at = 0; at < packet.length; at++) {
      const opener = suite.opener(keys)
      const altered = flipped(packet, at, at % 8)
      const error = await Promise.resolve()
        .then(async () => {
          const length = opener.sealedLength(altered, 0, 5)
          // An altered length may ask for more than there is: then the packet layer waits, and gets other bytes.
          const bytes =
            length <= altered.length
              ? altered.subarray(0, length)
              : concat(altered, new Uint8Array(length - altered.length))
          return await opener.open(bytes, 5)
        })
        .then(
          (payload) => new Error(`byte ${at} altered, yet ${toHex(payload)} came out`),
          (reason: unknown) => reason,
        )
      expect(error, `byte ${at}`).toBeInstanceOf(SshError)
      if (at >= 4 && !(name.includes('ctr+hmac') && !name.includes('etm'))) {
        expect(error, `byte ${at}`).toBeInstanceOf(IntegrityError)
        expect((error as IntegrityError).sequence).toBe(5)
      }
    }
  })

  test.each(encryptedSuites)(
    '%s rejects a packet that is out of order, repeated, or under other keys',
    async (name, suiteOf) => {
      const suite = suiteOf(crypto)
      const keys = keysOf(suite, name)
      const sealer = suite.sealer(keys)
      const first = await sealed(sealer, seededBytes('first', 20), 0)
      const second = await sealed(sealer, seededBytes('second', 20), 1)

      const reordered = suite.opener(keys)
      await expect((async () => opened(reordered, second.slice(), 0))()).rejects.toThrow(SshError)

      const repeated = suite.opener(keys)
      await opened(repeated, first.slice(), 0)
      await expect((async () => opened(repeated, first.slice(), 1))()).rejects.toThrow(SshError)

      const others = suite.opener(keysOf(suite, 'others'))
      await expect((async () => opened(others, first.slice(), 0))()).rejects.toThrow(SshError)
    },
  )

  test.each(encryptedSuites)('%s keeps no reference to the keys it was given', async (name, suiteOf) => {
    const suite = suiteOf(crypto)
    const keys = keysOf(suite, name)
    const sealer = suite.sealer(keys)
    const opener = suite.opener(keys)
    const expected = await sealed(suite.sealer(keys), seededBytes(name, 9), 0)
    for (const part of [keys.iv, keys.key, keys.macKey]) part.fill(0)
    const packet = await sealed(sealer, seededBytes(name, 9), 0)
    expect(packet).toEqual(expected)
    expect(await opened(opener, packet, 0)).toEqual(seededBytes(name, 9))
  })

  test.each(encryptedSuites)('%s seals and opens nothing once destroyed', async (name, suiteOf) => {
    const suite = suiteOf(crypto)
    const keys = keysOf(suite, name)
    const sealer = suite.sealer(keys)
    const opener = suite.opener(keys)
    const packet = await sealed(sealer, seededBytes(name, 9), 0)
    sealer.destroy()
    opener.destroy()
    expect(() => sealer.seal(frame(sealer, seededBytes(name, 9)), 1)).toThrow(UsageError)
    expect(() => opener.open(packet.slice(), 0)).toThrow(UsageError)
  })

  test.each(['aes128-gcm@openssh.com', 'aes256-gcm@openssh.com'])(
    '%s can have several packets under way',
    async (cipher) => {
      const suite = cipherSuite(crypto, cipher, undefined)
      const keys = keysOf(suite)
      const sealer = suite.sealer(keys)
      const opener = suite.opener(keys)
      const payloads = Array.from({ length: opener.lookahead }, (_, i) => seededBytes(i, 50 + 400 * (i % 3)))
      const packets = payloads.map((payload) => frame(sealer, payload))
      await Promise.all(packets.map((packet, sequence) => sealer.seal(packet, sequence)))
      const openings = packets.map((packet, sequence) => {
        const copy = packet.slice()
        opener.sealedLength(copy, 0, sequence)
        const opening = opener.open(copy, sequence)
        if (opener.lookahead > 1) copy.fill(0)
        return opening
      })
      expect(await Promise.all(openings)).toEqual(payloads)
    },
  )
})

test('AES-GCM looks ahead where WebCrypto opens it, and nowhere else', () => {
  const lookahead = (crypto: CryptoProvider = nodeCrypto, cipher = 'aes256-gcm@openssh.com') => {
    const suite = cipherSuite(crypto, cipher, 'hmac-sha2-256')
    return suite.opener(keysOf(suite)).lookahead
  }
  expect(lookahead()).toBe(1)
  expect(lookahead(webCrypto())).toBe(8)
  expect(lookahead(webCrypto({ nobleOnly: true }))).toBe(1)
  expect(lookahead(webCrypto(), 'chacha20-poly1305@openssh.com')).toBe(1)
  expect(lookahead(webCrypto(), 'aes256-ctr')).toBe(1)
})

test('the invocation counter of AES-GCM goes up by one per packet and never into the fixed field', () => {
  const nonces: string[] = []
  const watching = {
    ...nodeCrypto,
    aesGcm: () => ({
      async: false as const,
      open: (nonce: Uint8Array) => {
        nonces.push(toHex(nonce))
        return Uint8Array.of(10, 1, ...new Uint8Array(14))
      },
      sealInPlace: (nonce: Uint8Array) => {
        nonces.push(toHex(nonce))
      },
    }),
  }
  const suite = cipherSuite(watching, 'aes128-gcm@openssh.com', undefined)
  const keys = { key: new Uint8Array(16), macKey: new Uint8Array(0), iv: hex('aabbccdd fffffffffffffffe') }
  const expected = [
    'aabbccddfffffffffffffffe',
    'aabbccddffffffffffffffff',
    'aabbccdd0000000000000000',
    'aabbccdd0000000000000001',
  ]
  const sealer = suite.sealer(keys)
  const opener = suite.opener(keys)
  for (let i = 0; i < 4; i++) sealer.seal(frame(sealer, Uint8Array.of(1)), i)
  expect(nonces.splice(0)).toEqual(expected)
  for (let i = 0; i < 4; i++) opener.open(frame(sealer, Uint8Array.of(1)), i)
  expect(nonces).toEqual(expected)
})

test('ChaCha20-Poly1305 decrypts no byte of a packet whose tag is wrong, and leaves its length field as it came', async () => {
  const decrypted: number[] = []
  const watching = {
    ...nodeCrypto,
    chacha20InPlace: (key: Uint8Array, nonce: Uint8Array, counter: number, bytes: Uint8Array) => {
      decrypted.push(bytes.length)
      nodeCrypto.chacha20InPlace(key, nonce, counter, bytes)
    },
  }
  const suite = cipherSuite(watching, 'chacha20-poly1305@openssh.com', undefined)
  const keys = keysOf(suite)
  const packet = await sealed(suite.sealer(keys), seededBytes('text', 100), 3)
  const bad = flipped(packet, packet.length - 1)
  const before = bad.slice()
  decrypted.length = 0
  await expect(opened(suite.opener(keys), bad, 3)).rejects.toThrow(IntegrityError)
  expect(bad).toEqual(before)
  expect(decrypted).toEqual([4, 32])
})

test('encrypt-then-MAC decrypts no byte of a packet whose MAC is wrong', async () => {
  const suite = cipherSuite(nodeCrypto, 'aes256-ctr', 'hmac-sha2-256-etm@openssh.com')
  const keys = keysOf(suite)
  const packet = await sealed(suite.sealer(keys), seededBytes('text', 100), 3)
  const bad = flipped(packet, packet.length - 1)
  const before = bad.slice()
  await expect(opened(suite.opener(keys), bad, 3)).rejects.toThrow(IntegrityError)
  expect(bad).toEqual(before)
})

test('MACs and tags are compared by the provider, in constant time', async () => {
  for (const [name, suiteOf] of encryptedSuites) {
    if (name.includes('gcm')) continue
    let compared = 0
    const watching = {
      ...nodeCrypto,
      timingSafeEqual: (a: Uint8Array, b: Uint8Array) => {
        compared++
        expect(a.length).toBe(b.length)
        return nodeCrypto.timingSafeEqual(a, b)
      },
    }
    const suite = suiteOf(watching)
    const keys = keysOf(suite)
    await opened(suite.opener(keys), await sealed(suite.sealer(keys), Uint8Array.of(1), 0), 0)
    expect(compared, name).toBe(1)
  }
})

test('any sequence of payloads survives any suite on any two providers', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...encryptedSuites),
      fc.constantFrom(...providers),
      fc.constantFrom(...providers),
      fc.array(fc.uint8Array({ minLength: 1, maxLength: 120 }), { minLength: 1, maxLength: 5 }),
      fc.nat(0xffff_ffff),
      async ([, suiteOf], [, one], [, other], payloads, start) => {
        const keys = keysOf(suiteOf(one), String(start))
        const sealer = suiteOf(one).sealer(keys)
        const opener = suiteOf(other).opener(keys)
        for (const [i, payload] of payloads.entries()) {
          const sequence = (start + i) >>> 0
          expect(await opened(opener, await sealed(sealer, payload, sequence), sequence)).toEqual(payload)
        }
      },
    ),
    { numRuns: 60 },
  )
})

describe('the table of suites', () => {
  test('has the lengths that RFC 4253 s7.2 derives keys for', () => {
    const lengths = (cipher: string, mac?: string) => {
      const { ivLength, keyLength, macKeyLength, name } = cipherSuite(nodeCrypto, cipher, mac)
      return [name, ivLength, keyLength, macKeyLength]
    }
    expect(lengths('aes128-gcm@openssh.com')).toEqual(['aes128-gcm@openssh.com', 12, 16, 0])
    expect(lengths('aes256-gcm@openssh.com', 'hmac-sha2-256')).toEqual(['aes256-gcm@openssh.com', 12, 32, 0])
    expect(lengths('chacha20-poly1305@openssh.com')).toEqual(['chacha20-poly1305@openssh.com', 0, 64, 0])
    expect(lengths('aes128-ctr', 'hmac-sha1')).toEqual(['aes128-ctr+hmac-sha1', 16, 16, 20])
    expect(lengths('aes192-ctr', 'hmac-sha2-256')).toEqual(['aes192-ctr+hmac-sha2-256', 16, 24, 32])
    expect(lengths('aes256-ctr', 'hmac-sha2-512-etm@openssh.com')).toEqual([
      'aes256-ctr+hmac-sha2-512-etm@openssh.com',
      16,
      32,
      64,
    ])
  })

  test('knows no CBC, RC4, 3DES, MD5, truncated MAC or "none"', () => {
    const names = [...knownCiphers, ...knownMacs]
    expect(names.filter((name) => /cbc|arcfour|3des|md5|-96|^none$/.test(name))).toEqual([])
    expect(knownCiphers.filter(isAead)).toEqual([
      'aes256-gcm@openssh.com',
      'aes128-gcm@openssh.com',
      'chacha20-poly1305@openssh.com',
    ])
    expect(isAead('toString')).toBe(false)
  })

  test('refuses names it does not have, and a cipher that is left without a MAC', () => {
    for (const [cipher, mac] of [
      ['aes256-cbc', 'hmac-sha2-256'],
      ['__proto__', undefined],
      ['aes256-ctr', undefined],
      ['aes256-ctr', 'hmac-md5'],
      ['aes256-ctr', 'constructor'],
    ] as const) {
      expect(() => cipherSuite(nodeCrypto, cipher, mac)).toThrow(UsageError)
    }
  })
})

test('every provider names suites it has as its fastest', () => {
  for (const [, crypto] of providers) {
    expect(crypto.fastestCiphers.filter((name) => !isAead(name))).toEqual([])
    expect(new Set(crypto.fastestCiphers).size).toBe(3)
  }
})
