import { readFileSync } from 'node:fs'
import { ED25519_TORSION_SUBGROUP, ed25519 } from '@noble/curves/ed25519.js'
import { describe, expect, test } from 'vitest'
import { nodeCrypto } from '../../../packages/transport/src/crypto/node.ts'
import type { CryptoProvider } from '../../../packages/transport/src/crypto/provider.ts'
import { systemRandom } from '../../../packages/transport/src/crypto/random.ts'
import { KeyFormatError } from '../../../packages/transport/src/errors.ts'
import { curveByKeyType, ecdsaCurves } from '../../../packages/transport/src/keys/curves.ts'
import { generateKeyPair } from '../../../packages/transport/src/keys/generate.ts'
import { padTo, toBigInt } from '../../../packages/transport/src/keys/magnitude.ts'
import { generateRsaKeyPair } from '../../../packages/transport/src/keys/node-generate.ts'
import { type PrivateKey, parsePrivateKey } from '../../../packages/transport/src/keys/private-key.ts'
import { parsePublicKey } from '../../../packages/transport/src/keys/public-key.ts'
import * as signatureModule from '../../../packages/transport/src/keys/signature.ts'
import { parseSignature, signWith, verifySignature } from '../../../packages/transport/src/keys/signature.ts'
import {
  algorithmForBlob,
  signatureAlgorithmNames,
  signatureAlgorithmsFor,
} from '../../../packages/transport/src/keys/signature-algorithms.ts'
import { concat, fromHex, utf8Bytes } from '../../../packages/transport/src/wire/bytes.ts'
import { Reader } from '../../../packages/transport/src/wire/reader.ts'
import { Writer } from '../../../packages/transport/src/wire/writer.ts'
import { ALL_KEY_TYPES, clientKey } from '../../support/keys.ts'
import { describeWith, needsPrograms } from '../../support/requirements.ts'
import { flipped, providers } from '../crypto/providers.ts'
import { softwareToken } from './sk-key.ts'
import { opensshSigns, opensshVerifies, signedData } from './sshsig.ts'

const message = utf8Bytes('what was agreed')
const rsa = generateRsaKeyPair(2048)
const software: Promise<PrivateKey[]> = (async () => [
  generateKeyPair(nodeCrypto, 'ed25519', systemRandom),
  ...ecdsaCurves.map((curve) => generateKeyPair(nodeCrypto, curve.keyType, systemRandom)),
  await rsa,
])()
const tokens = [
  softwareToken('sk-ssh-ed25519@openssh.com'),
  softwareToken('sk-ecdsa-sha2-nistp256@openssh.com'),
] as const
const pairs: [string, CryptoProvider, CryptoProvider][] = providers.flatMap(([name, provider]) => [
  [`made by node:crypto, verified by ${name}`, nodeCrypto, provider],
  [`made by ${name}, verified by node:crypto`, provider, nodeCrypto],
])

describe.each(pairs)('signatures (%s)', (_, signer, verifier) => {
  test('every algorithm of every key verifies, and only over what was signed', async () => {
    for (const key of await software) {
      for (const algorithm of signatureAlgorithmsFor(key.type)) {
        if (
          !signer.supportsKey(key.publicKey.verifyKey.type) ||
          !verifier.supportsKey(key.publicKey.verifyKey.type)
        )
          continue
        const signature = await signWith(signer, key, algorithm, message)
        expect(await verifySignature(verifier, key.publicKey, algorithm, message, signature)).toBe(true)
        expect(
          await verifySignature(verifier, key.publicKey, algorithm, flipped(message, 0), signature),
        ).toBe(false)
      }
    }
  })
})

describeWith(
  [needsPrograms('ssh-keygen', ['ssh-keygen'], 'openssh-client')],
  'signatures and ssh-keygen -Y',
  () => {
    test.each(ALL_KEY_TYPES)('%s: each side verifies what the other signed', async (type) => {
      const pair = await clientKey(type)
      const key = await parsePrivateKey(nodeCrypto, readFileSync(pair.privateFile))
      const theirs = await opensshSigns(pair.privateFile, message)
      const { name } = parseSignature(theirs)
      expect(await verifySignature(nodeCrypto, key.publicKey, name, signedData(message), theirs)).toBe(true)
      for (const algorithm of signatureAlgorithmsFor(key.type)) {
        const ours = await signWith(nodeCrypto, key, algorithm, signedData(message))
        expect(await opensshVerifies(key.publicKey, message, ours)).toBe(true)
      }
    })

    test.each(tokens.map((token) => [token.type, token] as const))(
      '%s: both agree on what is a signature',
      async (_, token) => {
        const good = token.sign(signedData(message))
        expect(
          await verifySignature(nodeCrypto, token.publicKey, token.type, signedData(message), good),
        ).toBe(true)
        expect(await opensshVerifies(token.publicKey, message, good)).toBe(true)
        const other = token.sign(signedData(utf8Bytes('something else')))
        expect(
          await verifySignature(nodeCrypto, token.publicKey, token.type, signedData(message), other),
        ).toBe(false)
        expect(await opensshVerifies(token.publicKey, message, other)).toBe(false)
      },
    )

    test('a webauthn signature is one for OpenSSH and for us', async () => {
      const [, token] = tokens
      const signature = token.sign(signedData(message), { webauthn: { origin: 'https://example.org' } })
      const name = 'webauthn-sk-ecdsa-sha2-nistp256@openssh.com'
      expect(await verifySignature(nodeCrypto, token.publicKey, name, signedData(message), signature)).toBe(
        true,
      )
      expect(await opensshVerifies(token.publicKey, message, signature)).toBe(true)
    })
  },
)

/** A signature blob from a name and its value. */
const blob = (name: string, value: Uint8Array) => new Writer().text(name).string(value).copy()
const innerValue = (signature: Uint8Array) => parseSignature(signature).value
const keyOf = async (type: string) => (await software).find((key) => key.type === type)!

describe('names: algorithm, key and signature blob have to agree', () => {
  test('only the consistent cells of algorithm x key x signature blob x allow-list are accepted', async () => {
    const signatures = new Map<string, Uint8Array>()
    const keys = [...(await software).map((key) => key.publicKey), ...tokens.map((token) => token.publicKey)]
    for (const key of await software) {
      for (const name of signatureAlgorithmsFor(key.type))
        signatures.set(name, await signWith(nodeCrypto, key, name, message))
    }
    for (const token of tokens) signatures.set(token.type, token.sign(message))
    const algorithms = [...signatureAlgorithmNames, 'ssh-rsa', 'ssh-dss', '', '__proto__']
    let accepted = 0
    for (const algorithm of algorithms) {
      for (const key of keys) {
        for (const [name, signature] of signatures) {
          for (const allowed of [[algorithm], ['ssh-ed448'], undefined]) {
            const options = allowed === undefined ? {} : { allowed }
            const good = await verifySignature(nodeCrypto, key, algorithm, message, signature, options)
            const consistent =
              algorithm === name &&
              signatureAlgorithmsFor(key.type).includes(algorithm) &&
              allowed?.[0] !== 'ssh-ed448'
            expect(good, `${algorithm} ${key.type} ${name}`).toBe(consistent)
            if (good) accepted++
          }
        }
      }
    }
    expect(accepted).toBe(2 * signatures.size)
  })

  test('an RSA signature with SHA-1 is refused under every name', async () => {
    const key = await keyOf('ssh-rsa')
    if (key.kind !== 'software') throw new Error('unreachable')
    const sha1 = nodeCrypto.sign(key.signingKey, 'sha1', message) as Uint8Array
    for (const algorithm of ['ssh-rsa', 'rsa-sha2-256', 'rsa-sha2-512']) {
      for (const name of ['ssh-rsa', 'rsa-sha2-256', 'rsa-sha2-512']) {
        expect(await verifySignature(nodeCrypto, key.publicKey, algorithm, message, blob(name, sha1))).toBe(
          false,
        )
      }
    }
    expect(() => signWith(nodeCrypto, key, 'ssh-rsa', message)).toThrow(KeyFormatError)
    expect(signatureAlgorithmsFor('ssh-rsa')).toEqual(['rsa-sha2-512', 'rsa-sha2-256'])
  })

  test('a disallowed or inconsistent algorithm is refused before the key is looked into', () => {
    // Neither blob would parse as a key: the refusal has to come from the names.
    const ed25519Blob = new Writer().text('ssh-ed25519').copy()
    const error = (name: string, keyBlob: Uint8Array, allowed: string[]) => {
      try {
        algorithmForBlob(name, keyBlob, allowed)
      } catch (thrown) {
        return (thrown as KeyFormatError).code
      }
      return 'accepted'
    }
    expect(error('ssh-ed25519', ed25519Blob, ['ssh-ed25519'])).toBe('accepted')
    expect(error('ssh-ed25519', ed25519Blob, ['ecdsa-sha2-nistp256'])).toBe('ERR_SSH_KEY_UNSUPPORTED')
    expect(error('ssh-ed25519', new Uint8Array(0), [])).toBe('ERR_SSH_KEY_UNSUPPORTED')
    expect(error('ssh-rsa', new Writer().text('ssh-rsa').copy(), ['ssh-rsa'])).toBe('ERR_SSH_KEY_UNSUPPORTED')
    expect(error('ecdsa-sha2-nistp256', ed25519Blob, ['ecdsa-sha2-nistp256'])).toBe('ERR_SSH_KEY_FORMAT')
    expect(
      error('rsa-sha2-512-cert-v01@openssh.com', new Writer().text('ssh-rsa').copy(), [
        'rsa-sha2-512-cert-v01@openssh.com',
      ]),
    ).toBe('ERR_SSH_KEY_FORMAT')
  })

  test('there is no entry that takes a digest', () => {
    for (const name of Object.keys(signatureModule)) expect(name).not.toMatch(/hash|digest/i)
  })
})

describe.each(providers)('values out of range (%s)', (_, crypto) => {
  test.skipIf(!crypto.supportsKey('rsa'))(
    'RSA: empty, one byte short, one byte long, and as text that is not the signature',
    async () => {
      const key = await keyOf('ssh-rsa')
      // One that begins with 0 may lose that (see below), so it shows nothing about a missing byte.
      let data = message
      let value = innerValue(await signWith(nodeCrypto, key, 'rsa-sha2-256', data))
      for (let i = 0; value[0] === 0; i++) {
        data = utf8Bytes(`${i}`)
        value = innerValue(await signWith(nodeCrypto, key, 'rsa-sha2-256', data))
      }
      const verify = (bytes: Uint8Array) =>
        verifySignature(crypto, key.publicKey, 'rsa-sha2-256', data, blob('rsa-sha2-256', bytes))
      expect(await verify(value)).toBe(true)
      expect(await verify(new Uint8Array(0))).toBe(false)
      expect(await verify(value.subarray(1))).toBe(false)
      expect(await verify(value.subarray(0, value.length - 1))).toBe(false)
      expect(await verify(concat(Uint8Array.of(0), value))).toBe(false)
      expect(await verify(concat(value, Uint8Array.of(0)))).toBe(false)
      if (key.publicKey.verifyKey.type !== 'rsa') throw new Error('unreachable')
      // S + n is the same number modulo n.
      const sum = toBigInt(value) + toBigInt(key.publicKey.verifyKey.n)
      const bytes = fromHex(sum.toString(16).padStart(514, '0'))!
      expect(await verify(bytes)).toBe(false)
      expect(await verify(bytes.subarray(1))).toBe(false)
    },
  )

  test.skipIf(!crypto.supportsKey('rsa'))(
    'RSA: a signature that lost its leading zero is accepted (RFC 8332 s3)',
    async () => {
      const key = await keyOf('ssh-rsa')
      for (let i = 0; ; i++) {
        const data = utf8Bytes(`${i}`)
        const value = innerValue(await signWith(nodeCrypto, key, 'rsa-sha2-512', data))
        if (value[0] !== 0) continue
        const short = blob('rsa-sha2-512', value.subarray(1))
        expect(await verifySignature(crypto, key.publicKey, 'rsa-sha2-512', data, short)).toBe(true)
        break
      }
    },
  )

  test.each(ecdsaCurves.map((curve) => curve.keyType))(
    'ECDSA %s: r and s of 0, n, beyond, negative, padded, trailing',
    async (type) => {
      const curve = curveByKeyType(type)!
      const key = await keyOf(type)
      const inner = new Reader(innerValue(await signWith(nodeCrypto, key, type, message)))
      const r = inner.unsignedMpint()
      const s = inner.unsignedMpint()
      const verify = (writer: Writer) =>
        verifySignature(crypto, key.publicKey, type, message, blob(type, writer.copy()))
      const number = (value: bigint) =>
        padTo(fromHex(value.toString(16).padStart(2 * curve.fieldBytes + 2, '0'))!, curve.fieldBytes + 1)!
      const n = toBigInt(curve.order)
      expect(await verify(new Writer().unsignedMpint(r).unsignedMpint(s))).toBe(true)
      for (const bad of [0n, n, n + 1n, toBigInt(r) + n, 2n ** BigInt(8 * curve.fieldBytes)]) {
        expect(await verify(new Writer().unsignedMpint(number(bad)).unsignedMpint(s))).toBe(false)
        expect(await verify(new Writer().unsignedMpint(r).unsignedMpint(number(bad)))).toBe(false)
      }
      // A magnitude whose top bit is set, without the zero in front: a negative number.
      const high = Uint8Array.from(r)
      high[0] = high[0]! | 0x80
      expect(await verify(new Writer().string(high).unsignedMpint(s))).toBe(false)
      expect(await verify(new Writer().string(concat(new Uint8Array(2), r)).unsignedMpint(s))).toBe(false)
      expect(await verify(new Writer().unsignedMpint(r).unsignedMpint(s).u8(0))).toBe(false)
      expect(await verify(new Writer().unsignedMpint(r))).toBe(false)
    },
  )

  test('Ed25519: S + L, wrong lengths and keys of small order', async () => {
    const key = await keyOf('ssh-ed25519')
    const value = innerValue(await signWith(nodeCrypto, key, 'ssh-ed25519', message))
    const verify = (bytes: Uint8Array) =>
      verifySignature(crypto, key.publicKey, 'ssh-ed25519', message, blob('ssh-ed25519', bytes))
    expect(await verify(value)).toBe(true)
    const order = 2n ** 252n + 27742317777372353535851937790883648493n
    const s = toBigInt(Uint8Array.from(value.subarray(32)).reverse()) + order
    const malleable = concat(value.subarray(0, 32), fromHex(s.toString(16).padStart(64, '0'))!.reverse())
    expect(await verify(malleable)).toBe(false)
    expect(await verify(value.subarray(0, 63))).toBe(false)
    expect(await verify(concat(value, Uint8Array.of(0)))).toBe(false)
    for (const encoded of ED25519_TORSION_SUBGROUP) {
      const weak = parsePublicKey(new Writer().text('ssh-ed25519').string(fromHex(encoded)!).copy())
      // For a key of small order, R = S * B verifies for every eighth message or so when nobody looks at the key.
      for (let i = 0; i < 8; i++) {
        const forged = concat(ed25519.Point.BASE.toBytes(), fromHex('01'.padEnd(64, '0'))!)
        const data = utf8Bytes(`${i}`)
        expect(await verifySignature(crypto, weak, 'ssh-ed25519', data, blob('ssh-ed25519', forged))).toBe(
          false,
        )
      }
    }
  })

  test('every truncation and every flipped bit of a signature blob is no signature', async () => {
    for (const key of [await keyOf('ssh-ed25519'), await keyOf('ecdsa-sha2-nistp256')]) {
      const [algorithm] = signatureAlgorithmsFor(key.type)
      const signature = await signWith(nodeCrypto, key, algorithm!, message)
      const verify = (bytes: Uint8Array) => verifySignature(crypto, key.publicKey, algorithm!, message, bytes)
      for (let at = 0; at < signature.length; at++) {
        expect(await verify(signature.subarray(0, at))).toBe(false)
        expect(await verify(flipped(signature, at, at % 8))).toBe(false)
      }
      expect(await verify(concat(signature, Uint8Array.of(0)))).toBe(false)
    }
  })
})

describe.each(providers)('security keys (%s)', (_, crypto) => {
  test.each(tokens.map((token) => [token.type, token] as const))(
    '%s: the user must have touched it, unless told otherwise',
    async (_, token) => {
      const verify = (flags: number, options = {}) =>
        verifySignature(crypto, token.publicKey, token.type, message, token.sign(message, { flags }), options)
      expect(await verify(0x01)).toBe(true)
      expect(await verify(0x00)).toBe(false)
      expect(await verify(0x04)).toBe(false)
      expect(await verify(0x00, { requireUserPresence: false })).toBe(true)
      expect(await verify(0x01, { requireUserVerification: true })).toBe(false)
      expect(await verify(0x05, { requireUserVerification: true })).toBe(true)
    },
  )

  test.each(tokens.map((token) => [token.type, token] as const))(
    '%s: flags, counter and application are bound by the signature',
    async (_, token) => {
      const signature = token.sign(message, { flags: 1, counter: 7 })
      const verify = (bytes: Uint8Array, key = token.publicKey) =>
        verifySignature(crypto, key, token.type, message, bytes)
      expect(await verify(signature)).toBe(true)
      for (let back = 1; back <= 5; back++)
        expect(await verify(flipped(signature, signature.length - back, 3))).toBe(false)
      expect(await verify(signature, { ...token.publicKey, application: 'ssh:other' })).toBe(false)
      for (let length = 0; length < signature.length; length++)
        expect(await verify(signature.subarray(0, length))).toBe(false)
    },
  )

  test('webauthn: challenge, origin, type and extension flag have to fit', async () => {
    const [, token] = tokens
    const name = 'webauthn-sk-ecdsa-sha2-nistp256@openssh.com'
    const origin = 'https://example.org'
    const challenge = Buffer.from(message).toString('base64url')
    const verify = (webauthn: { origin: string; clientData?: string; extensions?: Uint8Array }, flags = 1) =>
      verifySignature(crypto, token.publicKey, name, message, token.sign(message, { flags, webauthn }))
    expect(await verify({ origin })).toBe(true)
    const clientData = (type: string, said: string, from: string) =>
      `{"type":"${type}","challenge":"${said}","origin":"${from}"}`
    expect(await verify({ origin, clientData: clientData('webauthn.get', challenge, origin) })).toBe(true)
    expect(await verify({ origin, clientData: clientData('webauthn.create', challenge, origin) })).toBe(false)
    expect(await verify({ origin, clientData: clientData('webauthn.get', `${challenge}A`, origin) })).toBe(
      false,
    )
    expect(
      await verify({ origin, clientData: clientData('webauthn.get', challenge, 'https://evil.example') }),
    ).toBe(false)
    expect(await verify({ origin, clientData: '' })).toBe(false)
    expect(
      await verify({ origin: `${origin}","x":"`, clientData: clientData('webauthn.get', challenge, origin) }),
    ).toBe(false)
    const extensions = Uint8Array.of(1, 2, 3)
    expect(await verify({ origin, extensions }, 0x81)).toBe(true)
    expect(await verify({ origin, extensions }, 0x01)).toBe(false)
    expect(await verify({ origin }, 0x81)).toBe(false)
    expect(await verify({ origin }, 0x41)).toBe(false)
    // A webauthn signature is not one under the plain name.
    expect(
      await verifySignature(
        crypto,
        token.publicKey,
        token.type,
        message,
        token.sign(message, { webauthn: { origin } }),
      ),
    ).toBe(false)
  })
})

describe('self-check', () => {
  test('a signature with one flipped bit is never given out', async () => {
    for (const key of await software) {
      const faulty: CryptoProvider = {
        ...nodeCrypto,
        sign: (...args) => flipped(nodeCrypto.sign(...args) as Uint8Array, 20),
      }
      const algorithm = signatureAlgorithmsFor(key.type)[0]!
      await expect((async () => await signWith(faulty, key, algorithm, message))()).rejects.toMatchObject({
        code: 'ERR_SSH_SIGNATURE_SELF_CHECK',
      })
    }
  })

  test('a key does not sign with an algorithm of another key, and a security key does not sign here', async () => {
    const key = await keyOf('ssh-ed25519')
    for (const algorithm of [
      'ecdsa-sha2-nistp256',
      'rsa-sha2-512',
      'sk-ssh-ed25519@openssh.com',
      'nothing',
    ]) {
      expect(() => signWith(nodeCrypto, key, algorithm, message)).toThrow(KeyFormatError)
    }
    expect(() => signWith(nodeCrypto, tokens[0].privateKey, tokens[0].type, message)).toThrow(/agent/)
  })
})
