/** What pages fetch when they need it, and what they do where WebCrypto lacks a curve. */
import { webcrypto } from 'node:crypto'
import { describe, expect, test, vi } from 'vitest'
import { fetched } from '../../../packages/transport/src/crypto/fetched.ts'
import { nodeCrypto } from '../../../packages/transport/src/crypto/node.ts'
import { webCrypto } from '../../../packages/transport/src/crypto/web.ts'
import { subtleCurve25519 } from '../../../packages/transport/src/crypto/web-curve25519.ts'
import { verifyEcdsa } from '../../../packages/transport/src/crypto/web-ecdsa.ts'
import { flipped, seeded, seededBytes } from './providers.ts'

const { subtle } = webcrypto as unknown as Crypto
const noble = webCrypto({ nobleOnly: true })
const fallback = {
  x25519KeyPair: vi.fn(noble.x25519KeyPair),
  x25519: vi.fn(noble.x25519),
  signEd25519: vi.fn((seed: Uint8Array, data: Uint8Array) =>
    noble.sign({ type: 'ed25519', seed, publicKey: new Uint8Array(32) }, 'sha512', data),
  ),
  verifyEd25519: vi.fn((publicKey: Uint8Array, data: Uint8Array, signature: Uint8Array) =>
    noble.verify({ type: 'ed25519', publicKey }, 'sha512', data, signature),
  ),
}
const uses = () => Object.values(fallback).reduce((sum, { mock }) => sum + mock.calls.length, 0)

/** A WebCrypto whose importKey fails in this way. */
function failing(name: string): { subtle: SubtleCrypto; imports: () => number } {
  let imports = 0
  return {
    imports: () => imports,
    subtle: {
      importKey: async () => {
        imports++
        throw new DOMException('no', name)
      },
    } as unknown as SubtleCrypto,
  }
}

const seed = seededBytes('seed', 32)
const data = seededBytes('data', 100)

describe('X25519 and Ed25519', () => {
  test('are those of noble where WebCrypto says that it lacks them, which is asked once for each', async () => {
    const lacking = failing('NotSupportedError')
    const curves = subtleCurve25519(lacking.subtle, fallback)
    const before = uses()
    for (let i = 1; i <= 2; i++) {
      const pair = await curves.x25519KeyPair(seeded('pair'))
      expect(pair).toEqual(nodeCrypto.x25519KeyPair(seeded('pair')))
      const theirs = nodeCrypto.x25519KeyPair(seeded('theirs')) as { publicKey: Uint8Array }
      expect(await curves.x25519(pair.secret, theirs.publicKey)).toEqual(
        nodeCrypto.x25519(pair.secret, theirs.publicKey),
      )
      const key = { type: 'ed25519', seed, publicKey: new Uint8Array(32) } as const
      const signature = await curves.signEd25519(seed, data)
      expect(signature).toEqual(nodeCrypto.sign(key, 'sha512', data))
    }
    expect(uses() - before).toBe(6)
    // An agreement imports two keys, a signature one.
    expect(lacking.imports()).toBe(2 + 1)
  })

  test('are those of WebCrypto where it has them', async () => {
    const curves = subtleCurve25519(subtle, fallback)
    const before = uses()
    const pair = await curves.x25519KeyPair(seeded('pair'))
    expect(pair).toEqual(nodeCrypto.x25519KeyPair(seeded('pair')))
    expect(await curves.x25519(pair.secret, new Uint8Array(32))).toBeUndefined()
    expect(await curves.x25519(pair.secret, new Uint8Array(31))).toBeUndefined()
    expect(uses()).toBe(before)
  })

  test('of WebCrypto that fail in any other way fail, and do not pass for a bad point or a missing curve', async () => {
    const curves = subtleCurve25519(failing('InvalidAccessError').subtle, fallback)
    const before = uses()
    await expect(curves.x25519KeyPair(seeded('pair'))).rejects.toThrow('no')
    await expect(curves.x25519(seed, seededBytes('point', 32))).rejects.toThrow('no')
    await expect(curves.signEd25519(seed, data)).rejects.toThrow('no')
    expect(uses()).toBe(before)
  })

  test('refuse a signature that is not of 64 bytes before anything is imported', async () => {
    const lacking = failing('NotSupportedError')
    const curves = subtleCurve25519(lacking.subtle, fallback)
    expect(await curves.verifyEd25519(seededBytes('key', 32), data, new Uint8Array(63))).toBe(false)
    expect(lacking.imports()).toBe(0)
  })

  test('leave no private value behind in the bytes that they handed to importKey', async () => {
    const handed: Uint8Array[] = []
    const watched = {
      importKey: (
        format: 'pkcs8',
        bytes: Uint8Array<ArrayBuffer>,
        ...rest: [string, boolean, KeyUsage[]]
      ) => {
        if (format === 'pkcs8') handed.push(bytes)
        return subtle.importKey(format, bytes, ...rest)
      },
      deriveBits: subtle.deriveBits.bind(subtle),
      sign: subtle.sign.bind(subtle),
    } as unknown as SubtleCrypto
    const curves = subtleCurve25519(watched, fallback)
    await curves.x25519KeyPair(seeded('pair'))
    await curves.signEd25519(seed, data)
    expect(handed).toHaveLength(2)
    for (const bytes of handed) expect(bytes.every((byte) => byte === 0)).toBe(true)
  })
})

test('ECDSA is left to noble where WebCrypto lacks the curve or the hash, and false for all else', async () => {
  const scalar = seededBytes('scalar', 32)
  const { publicKey: point } = nodeCrypto.ecdhKeyPair('nistp256', (into) => into.set(scalar))
  const signing = { type: 'ecdsa', curve: 'nistp256', point, scalar } as const
  const signature = (await nodeCrypto.sign(signing, 'sha256', data)) as Uint8Array
  expect(await verifyEcdsa(subtle, signing, 'sha256', data, signature)).toBe(true)
  expect(await verifyEcdsa(subtle, signing, 'sha256', data, flipped(signature, 3))).toBe(false)
  const offCurve = { ...signing, point: flipped(point, 40) }
  expect(await verifyEcdsa(subtle, offCurve, 'sha256', data, signature)).toBe(false)
  expect(await verifyEcdsa(failing('NotSupportedError').subtle, signing, 'sha256', data, signature)).toBe(
    undefined,
  )
  expect(await verifyEcdsa(subtle, signing, 'md5', data, signature)).toBe(undefined)
})

describe('code that is fetched when it is needed', () => {
  test('is a promise at first, and there at once afterwards', async () => {
    const load = vi.fn(async () => ({ answer: 42 }))
    const module = fetched(load)
    const first = module(({ answer }) => answer)
    expect(first).toBeInstanceOf(Promise)
    expect(await first).toBe(42)
    expect(module(({ answer }) => answer)).toBe(42)
    expect(load).toHaveBeenCalledTimes(1)
  })

  test('is asked for again after it could not be had', async () => {
    let attempts = 0
    const module = fetched(async () => {
      if (++attempts === 1) throw new TypeError('Failed to fetch dynamically imported module')
      return { answer: 42 }
    })
    await expect(module(({ answer }) => answer)).rejects.toThrow('Failed to fetch')
    expect(await module(({ answer }) => answer)).toBe(42)
  })
})

test('a cipher of noble that was not prepared says so', async () => {
  vi.resetModules()
  const { webCrypto: fresh } = await import('../../../packages/transport/src/crypto/web.ts')
  const crypto = fresh({ nobleOnly: true })
  expect(() => crypto.aesCtr(new Uint8Array(32), new Uint8Array(16))).toThrow('prepareCipher')
  await crypto.prepareCipher?.('aes256-ctr')
  expect(() => crypto.aesCtr(new Uint8Array(32), new Uint8Array(16))).not.toThrow()
})
