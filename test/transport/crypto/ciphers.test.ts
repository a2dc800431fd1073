import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { webCrypto } from '../../../packages/transport/src/crypto/web.ts'
import { UsageError } from '../../../packages/transport/src/errors.ts'
import { concat, toHex } from '../../../packages/transport/src/wire/bytes.ts'
import { ascii, crossed, flipped, hex, misaligned, providers, seededBytes } from './providers.ts'

/** The first four blocks of NIST SP 800-38A's examples. */
const blocks = hex(`6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51
  30c81c46a35ce411e5fbc1191a0a52ef f69f2445df4f9b17ad2b417be66c3710`)
const counter = hex('f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff')

/** Cases 4 and 16 of "The Galois/Counter Mode of Operation" (McGrew, Viega), appendix B. */
const gcmText = hex(`d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
  1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39`)
const gcmAad = hex('feedfacedeadbeeffeedfacedeadbeefabaddad2')
const gcmNonce = hex('cafebabefacedbaddecaf888')
const gcmKey = hex('feffe9928665731c6d6a8f9467308308')
const gcmCases: [string, Uint8Array, Uint8Array, string][] = [
  [
    'AES-128-GCM',
    gcmKey,
    hex(`42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e
      21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091`),
    '5bc94fbc3221a5db94fae95ae7121a47',
  ],
  [
    'AES-256-GCM',
    concat(gcmKey, gcmKey),
    hex(`522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
      8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662`),
    '76fc6ece0f4e1768cddf8853bb2d551b',
  ],
]

describe.each(providers)('%s', (_name, crypto) => {
  test.each(gcmCases)('seals and opens the published %s case', async (_cipher, key, ciphertext, tag) => {
    const gcm = crypto.aesGcm(key)
    const bytes = concat(gcmText, new Uint8Array(16))
    await gcm.sealInPlace(gcmNonce, gcmAad, bytes)
    expect(toHex(bytes)).toBe(toHex(ciphertext) + tag)
    expect(await gcm.open(gcmNonce, gcmAad, bytes)).toEqual(gcmText)
    // Also later, when an asynchronous key import is over.
    expect(await gcm.open(gcmNonce, gcmAad, bytes)).toEqual(gcmText)
  })

  test('opens nothing whose tag, text, nonce or additional data was altered, or that is shorter than a tag', async () => {
    const gcm = crypto.aesGcm(gcmKey)
    const sealed = concat(gcmText, new Uint8Array(16))
    await gcm.sealInPlace(gcmNonce, gcmAad, sealed)
    for (let at = 0; at < sealed.length; at += 5) {
      expect(await gcm.open(gcmNonce, gcmAad, flipped(sealed, at, at % 8))).toBeUndefined()
    }
    expect(await gcm.open(gcmNonce, gcmAad, flipped(sealed, sealed.length - 1, 7))).toBeUndefined()
    expect(await gcm.open(flipped(gcmNonce, 11), gcmAad, sealed)).toBeUndefined()
    expect(await gcm.open(gcmNonce, flipped(gcmAad, 0), sealed)).toBeUndefined()
    expect(await gcm.open(gcmNonce, gcmAad, sealed.subarray(1))).toBeUndefined()
    expect(await gcm.open(gcmNonce, gcmAad, sealed.subarray(0, 15))).toBeUndefined()
    expect(await gcm.open(gcmNonce, gcmAad, sealed)).toEqual(gcmText)
  })

  test('is done with its arguments when a GCM call returns, before and after the key is imported', async () => {
    const key = gcmKey.slice()
    const gcm = crypto.aesGcm(key)
    for (const round of ['first call', 'later call']) {
      const nonce = gcmNonce.slice()
      const aad = gcmAad.slice()
      const bytes = concat(gcmText, new Uint8Array(16))
      const sealing = gcm.sealInPlace(nonce, aad, bytes)
      nonce.fill(1)
      aad.fill(1)
      await sealing
      expect(toHex(bytes.subarray(gcmText.length)), round).toBe('5bc94fbc3221a5db94fae95ae7121a47')
    }
    const fresh = crypto.aesGcm(key)
    for (const round of ['first call', 'later call']) {
      const sealed = concat(gcmCases[0]![2], hex(gcmCases[0]![3]))
      const opening = fresh.open(gcmNonce, gcmAad, sealed)
      sealed.fill(0)
      expect(await opening, round).toEqual(gcmText)
    }
  })

  test.each([
    [
      'AES-128-CTR (F.5.1)',
      '2b7e151628aed2a6abf7158809cf4f3c',
      `874d6191b620e3261bef6864990db6ce 9806f66b7970fdff8617187bb9fffdff
       5ae4df3edbd5d35e5b4f09020db03eab 1e031dda2fbe03d1792170a0f3009cee`,
    ],
    [
      'AES-192-CTR (F.5.3)',
      '8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b',
      `1abc932417521ca24f2b0459fe7e6e0b 090339ec0aa6faefd5ccc2c6f4ce8e94
       1e36b26bd1ebc670d1bd1d665620abf7 4f78a7f6d29809585a97daec58c6b050`,
    ],
    [
      'AES-256-CTR (F.5.5)',
      '603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4',
      `601ec313775789a5b7a7f504bbf3d228 f443e3ca4d62b59aca84e990cacaf5c5
       2b0930daa23de94ce87017ba2d84988d dfc9c58db67aada613c2dd08457941a6`,
    ],
  ])('encrypts the example of %s in NIST SP 800-38A', (_cipher, key, expected) => {
    const bytes = blocks.slice()
    crypto.aesCtr(hex(key), counter).applyInPlace(bytes)
    expect(bytes).toEqual(hex(expected))
  })

  test('carries the CTR counter through all 128 bits', () => {
    const key = seededBytes('carry', 16)
    const stream = new Uint8Array(32)
    crypto.aesCtr(key, new Uint8Array(16).fill(0xff)).applyInPlace(stream)
    const second = new Uint8Array(16)
    crypto.aesCtr(key, new Uint8Array(16)).applyInPlace(second)
    expect(stream.subarray(16)).toEqual(second)
  })

  test.each([
    [
      'CBC-AES128 (F.2.2)',
      '2b7e151628aed2a6abf7158809cf4f3c',
      `7649abac8119b246cee98e9b12e9197d 5086cb9b507219ee95db113a917678b2
       73bed6b8e3c1743b7116e69e22229516 3ff1caa1681fac09120eca307586e1a7`,
    ],
    [
      'CBC-AES256 (F.2.6)',
      '603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4',
      `f58c4c04d6e5f1ba779eabfb5f7bfbd6 9cfc4e967edb808d679f777bc6702c7d
       39f23369a9d9bacfa530e26304231461 b2eb05e2c39be9fcda6c19078c6a9d1b`,
    ],
  ])('decrypts the example of %s in NIST SP 800-38A', (_cipher, key, ciphertext) => {
    const iv = hex('000102030405060708090a0b0c0d0e0f')
    expect(crypto.aesCbcDecrypt(hex(key), iv, hex(ciphertext))).toEqual(blocks)
    expect(crypto.aesCbcDecrypt(hex(key), iv, new Uint8Array(0))).toEqual(new Uint8Array(0))
    expect(() => crypto.aesCbcDecrypt(hex(key), iv, new Uint8Array(17))).toThrow(UsageError)
  })

  test('makes the ChaCha20 key stream of RFC 8439 A.1 and of the original 64-bit nonce', () => {
    const stream = new Uint8Array(64)
    crypto.chacha20InPlace(new Uint8Array(32), new Uint8Array(8), 0, stream)
    expect(toHex(stream)).toBe(
      '76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586',
    )
    const next = new Uint8Array(64)
    crypto.chacha20InPlace(new Uint8Array(32), new Uint8Array(8), 1, next)
    expect(toHex(next)).toBe(
      '9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f',
    )
    // draft-agl-tls-chacha20poly1305 s7, fourth vector: the nonce's place.
    const nonce = new Uint8Array(64)
    crypto.chacha20InPlace(new Uint8Array(32), hex('0000000000000001'), 0, nonce)
    expect(toHex(nonce.subarray(0, 60))).toBe(
      'de9cba7bf3d69ef5e786dc63973f653a0b49e015adbff7134fcb7df137821031e85a050278a7084527214f73efc7fa5b5277062eb7a0433e445f41e3',
    )
  })

  test('computes the Poly1305 tag of RFC 8439 s2.5.2', () => {
    const key = hex('85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b')
    expect(toHex(crypto.poly1305(key, ascii('Cryptographic Forum Research Group')))).toBe(
      'a8061dc1305136c6c22b8baf0c0127a9',
    )
  })

  test('compares secrets by every byte and by length', () => {
    const secret = seededBytes('secret', 32)
    expect(crypto.timingSafeEqual(secret, secret.slice())).toBe(true)
    expect(crypto.timingSafeEqual(secret, flipped(secret, 0))).toBe(false)
    expect(crypto.timingSafeEqual(secret, flipped(secret, 31, 7))).toBe(false)
    expect(crypto.timingSafeEqual(secret, secret.subarray(1))).toBe(false)
    expect(crypto.timingSafeEqual(new Uint8Array(0), new Uint8Array(0))).toBe(true)
  })

  test('opens to arrays whose slice is a copy, not Buffers', async () => {
    const sealed = concat(gcmText, new Uint8Array(16))
    const gcm = crypto.aesGcm(gcmKey)
    await gcm.sealInPlace(gcmNonce, gcmAad, sealed)
    const opened = (await gcm.open(gcmNonce, gcmAad, sealed))!
    expect(Object.getPrototypeOf(opened)).toBe(Uint8Array.prototype)
    expect(Object.getPrototypeOf(crypto.aesCbcDecrypt(gcmKey, counter, blocks))).toBe(Uint8Array.prototype)
  })
})

test('WebCrypto seals asynchronously where it is there, and noble synchronously where it is not', async () => {
  expect(webCrypto().aesGcm(gcmKey).async).toBe(true)
  expect(webCrypto({ nobleOnly: true }).aesGcm(gcmKey).async).toBe(false)
  expect(webCrypto().fastestCiphers[0]).toBe('aes256-gcm@openssh.com')
  expect(webCrypto({ nobleOnly: true }).fastestCiphers[0]).toBe('chacha20-poly1305@openssh.com')
})

test('WebCrypto keeps its own copy of a key that is wiped right after', async () => {
  const key = gcmKey.slice()
  const gcm = webCrypto().aesGcm(key)
  key.fill(0)
  const bytes = concat(gcmText, new Uint8Array(16))
  await gcm.sealInPlace(gcmNonce, gcmAad, bytes)
  expect(toHex(bytes.subarray(gcmText.length))).toBe('5bc94fbc3221a5db94fae95ae7121a47')
})

describe.each(crossed)('%s', (_name, one, other) => {
  test('agree on AES-GCM of any length', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(16, 32),
        fc.nat(300),
        fc.nat(3),
        fc.nat(1000),
        async (keyLength, length, offset, seed) => {
          const key = seededBytes(`gcm key ${seed}`, keyLength)
          const nonce = seededBytes(`gcm nonce ${seed}`, 12)
          const aad = seededBytes(`gcm aad ${seed}`, 4)
          const text = seededBytes(`gcm text ${seed}`, length)
          const sealed = misaligned(concat(text, new Uint8Array(16)), offset)
          await one.aesGcm(key).sealInPlace(nonce, aad, sealed)
          expect(await other.aesGcm(key).open(nonce, aad, sealed)).toEqual(text)
        },
      ),
      { numRuns: 15 },
    )
  })

  test('agree on AES-CTR however the calls are split and aligned', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(16, 24, 32),
        fc.array(fc.nat(70), { maxLength: 6 }),
        fc.nat(3),
        fc.nat(1000),
        (keyLength, lengths, offset, seed) => {
          const key = seededBytes(`ctr key ${seed}`, keyLength)
          const iv = seededBytes(`ctr iv ${seed}`, 16)
          const text = seededBytes(
            `ctr ${seed}`,
            lengths.reduce((sum, length) => sum + length, 0),
          )
          const whole = text.slice()
          one.aesCtr(key, iv).applyInPlace(whole)
          const pieces = misaligned(text, offset)
          const cipher = other.aesCtr(key, iv)
          let at = 0
          for (const length of lengths) {
            cipher.applyInPlace(pieces.subarray(at, at + length))
            at += length
          }
          expect(pieces).toEqual(whole)
        },
      ),
      { numRuns: 40 },
    )
  })

  test('agree on ChaCha20 and Poly1305 of any length and alignment', () => {
    fc.assert(
      fc.property(fc.nat(400), fc.nat(3), fc.nat(5), fc.nat(1000), (length, offset, block, seed) => {
        const key = seededBytes(`chacha key ${seed}`, 32)
        const nonce = seededBytes(`chacha nonce ${seed}`, 8)
        const text = seededBytes(`chacha ${seed}`, length)
        const aligned = text.slice()
        one.chacha20InPlace(key, nonce, block, aligned)
        const shifted = misaligned(text, offset)
        other.chacha20InPlace(key, misaligned(nonce, offset), block, shifted)
        expect(shifted).toEqual(aligned)
        expect(one.poly1305(key, aligned)).toEqual(other.poly1305(key, shifted))
      }),
      { numRuns: 40 },
    )
  })

  test('agree on AES-CBC decryption', () => {
    const iv = seededBytes('cbc iv', 16)
    for (const keyLength of [16, 24, 32]) {
      const key = seededBytes('cbc key', keyLength)
      const text = seededBytes('cbc', 96)
      expect(one.aesCbcDecrypt(key, iv, text)).toEqual(other.aesCbcDecrypt(key, iv, misaligned(text)))
    }
  })
})
