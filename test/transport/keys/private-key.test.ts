import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { nodeCrypto } from '../../../packages/transport/src/crypto/node.ts'
import type { CryptoProvider } from '../../../packages/transport/src/crypto/provider.ts'
import { systemRandom } from '../../../packages/transport/src/crypto/random.ts'
import { KeyFormatError, UsageError } from '../../../packages/transport/src/errors.ts'
import { ecdsaCurves } from '../../../packages/transport/src/keys/curves.ts'
import { DerReader } from '../../../packages/transport/src/keys/der.ts'
import { generateKeyPair } from '../../../packages/transport/src/keys/generate.ts'
import { generateRsaKeyPair } from '../../../packages/transport/src/keys/node-generate.ts'
import { formatPrivateKey } from '../../../packages/transport/src/keys/openssh-key-file.ts'
import { formatPem, readPem } from '../../../packages/transport/src/keys/pem.ts'
import {
  type PrivateKey,
  parsePrivateKey,
  wipePrivateKey,
} from '../../../packages/transport/src/keys/private-key.ts'
import {
  readPrivateKeyFields,
  writePrivateKeyFields,
} from '../../../packages/transport/src/keys/private-key-fields.ts'
import { formatPublicKey } from '../../../packages/transport/src/keys/public-key.ts'
import { signWith } from '../../../packages/transport/src/keys/signature.ts'
import { signatureAlgorithmsFor } from '../../../packages/transport/src/keys/signature-algorithms.ts'
import { toBase64, toHex, utf8Bytes } from '../../../packages/transport/src/wire/bytes.ts'
import { Reader } from '../../../packages/transport/src/wire/reader.ts'
import { WireError } from '../../../packages/transport/src/wire/wire-error.ts'
import { Writer } from '../../../packages/transport/src/wire/writer.ts'
import { ALL_KEY_TYPES, clientKey } from '../../support/keys.ts'
import { findProgram, runOrThrow } from '../../support/program.ts'
import { describeWith, needsPrograms } from '../../support/requirements.ts'
import { tempDir } from '../../support/temp-dir.ts'
import { providers } from '../crypto/providers.ts'
import { softwareToken } from './sk-key.ts'

const needsKeygen = needsPrograms('ssh-keygen', ['ssh-keygen'], 'openssh-client')
const needsOpenssl = needsPrograms('openssl', ['openssl'], 'openssl')
const passphrase = 'pass pøhrase'
const label = 'OPENSSH PRIVATE KEY'

/** Opening key files with a passphrase: more rounds would only make the tests slow. */
const rounds = 1

async function code(action: () => unknown): Promise<string> {
  try {
    await action()
  } catch (error) {
    if (error instanceof KeyFormatError) return error.code
    throw error
  }
  return 'accepted'
}

/** bcrypt is slow by design, and the same in all providers: each derivation is computed once. */
const derived = new Map<string, Uint8Array>()
function rememberingKdf(crypto: CryptoProvider): CryptoProvider {
  return {
    ...crypto,
    bcryptPbkdf: async (secret, salt, length, count) => {
      const inputs = [toHex(secret), toHex(salt), length, count].join()
      const known = derived.get(inputs) ?? (await crypto.bcryptPbkdf(secret, salt, length, count))
      derived.set(inputs, known.slice())
      return known.slice()
    },
  }
}

const crypto = rememberingKdf(nodeCrypto)
const parse = (file: string | Uint8Array, options = {}) => parsePrivateKey(crypto, file, options)
const rsaKey = generateRsaKeyPair(2048, 'mine')

/** That the key is whole: it can sign, and its signature verifies (signWith checks that). */
async function expectUsable(key: PrivateKey): Promise<void> {
  for (const algorithm of signatureAlgorithmsFor(key.type))
    await signWith(nodeCrypto, key, algorithm, utf8Bytes('data'))
}

describeWith([needsKeygen], 'key files written by ssh-keygen', () => {
  test.each(ALL_KEY_TYPES)('%s: plain files are read', async (type) => {
    const pair = await clientKey(type)
    const key = await parse(readFileSync(pair.privateFile))
    expect(formatPublicKey(key.publicKey, key.comment)).toBe(pair.publicLine)
    await expectUsable(key)
    // A passphrase for a file that has none is not asked for, and does no harm.
    expect(await parse(readFileSync(pair.privateFile, 'utf8'), { passphrase })).toEqual(key)
  })

  test.each(ALL_KEY_TYPES)(
    '%s: files encrypted as by default are read, with the right passphrase only',
    async (type) => {
      const pair = await clientKey(type, { passphrase, rounds })
      const file = readFileSync(pair.privateFile)
      expect(await code(() => parse(file))).toBe('ERR_SSH_KEY_PASSPHRASE_REQUIRED')
      expect(await code(() => parse(file, { passphrase: '' }))).toBe('ERR_SSH_KEY_PASSPHRASE_REQUIRED')
      if (type === 'ed25519') {
        expect(await code(() => parse(file, { passphrase: 'wrong' }))).toBe('ERR_SSH_KEY_PASSPHRASE_WRONG')
      }
      const key = await parse(file, { passphrase })
      expect(key).toEqual(await parse(readFileSync((await clientKey(type)).privateFile)))
      if (type === 'ed25519') expect(await parse(file, { passphrase: utf8Bytes(passphrase) })).toEqual(key)
    },
  )

  const ciphers = [
    'aes256-ctr',
    'aes192-ctr',
    'aes128-ctr',
    'aes256-cbc',
    'aes192-cbc',
    'aes128-cbc',
    'aes256-gcm@openssh.com',
    'aes128-gcm@openssh.com',
    'chacha20-poly1305@openssh.com',
  ]
  describe.each(providers)('with %s', (_, provider) => {
    const crypto = rememberingKdf(provider)

    test.each(ciphers)('%s', async (cipher) => {
      const pair = await clientKey('ed25519', { passphrase, rounds, cipher })
      const file = readFileSync(pair.privateFile)
      const key = await parsePrivateKey(crypto, file, { passphrase })
      expect(formatPublicKey(key.publicKey, key.comment)).toBe(pair.publicLine)
      if (provider !== nodeCrypto) return
      expect(await code(() => parsePrivateKey(crypto, file, { passphrase: 'wrong' }))).toBe(
        'ERR_SSH_KEY_PASSPHRASE_WRONG',
      )
    })
  })

  test('a cipher that is not supported is named, and is not a wrong passphrase', async () => {
    const pair = await clientKey('ed25519', { passphrase, rounds, cipher: '3des-cbc' })
    const opened = parse(readFileSync(pair.privateFile), { passphrase })
    await expect(opened).rejects.toMatchObject({
      code: 'ERR_SSH_KEY_CIPHER_UNSUPPORTED',
      message: expect.stringContaining('3des-cbc'),
    })
  })

  test.each(ALL_KEY_TYPES)('%s: ssh-keygen reads what we write, plain and encrypted', async (type) => {
    const pair = await clientKey(type)
    const key = await parse(readFileSync(pair.privateFile))
    const dir = tempDir('written')
    for (const given of ['', passphrase]) {
      const path = join(dir, `key${given.length}`)
      const file = await formatPrivateKey(nodeCrypto, key, systemRandom, { passphrase: given, rounds })
      writeFileSync(path, file, { mode: 0o600 })
      const { stdout } = await runOrThrow('ssh-keygen', ['-y', '-P', given, '-f', path])
      expect(stdout.trim()).toBe(pair.publicLine)
      expect(await parse(readFileSync(path), { passphrase: given })).toEqual(key)
    }
  })

  test('security key handles are written and read as OpenSSH does', async () => {
    for (const type of ['sk-ssh-ed25519@openssh.com', 'sk-ecdsa-sha2-nistp256@openssh.com'] as const) {
      const { privateKey } = softwareToken(type)
      const path = join(tempDir('sk'), 'key')
      writeFileSync(path, formatPrivateKey(nodeCrypto, privateKey, systemRandom), { mode: 0o600 })
      const { stdout } = await runOrThrow('ssh-keygen', ['-y', '-f', path])
      expect(stdout.trim()).toContain(formatPublicKey(privateKey.publicKey))
      // ssh-keygen itself rewrites the file (new comment), so that what we read next is OpenSSH's own writing.
      await runOrThrow('ssh-keygen', ['-q', '-c', '-C', 'by ssh-keygen', '-P', '', '-f', path])
      expect(await parse(readFileSync(path))).toEqual({ ...privateKey, comment: 'by ssh-keygen' })
    }
  })

  test('the 16384-bit RSA key that ssh-keygen wrote loads and signs', async () => {
    const key = await parse(readFileSync(join(import.meta.dirname, 'fixtures', 'rsa-16384')))
    await signWith(nodeCrypto, key, 'rsa-sha2-256', utf8Bytes('data'))
    expect(key.type).toBe('ssh-rsa')
  })

  test('a 1024-bit RSA key is refused by its size', async () => {
    const path = join(tempDir('short'), 'key')
    await runOrThrow('ssh-keygen', ['-q', '-t', 'rsa', '-b', '1024', '-N', '', '-f', path])
    expect(await code(() => parse(readFileSync(path)))).toBe('ERR_SSH_KEY_SIZE')
    expect(await code(() => parse(readFileSync(path), { minRsaBits: 1024 }))).toBe('accepted')
  })

  test.each(['rsa-2048', 'ecdsa-256', 'ecdsa-384', 'ecdsa-521'] as const)(
    '%s: PKCS#1, SEC1 and PKCS#8 files hold the same key',
    async (type) => {
      const plain = await parse(readFileSync((await clientKey(type)).privateFile))
      for (const format of ['PEM', 'PKCS8'] as const) {
        const file = readFileSync((await clientKey(type, { format })).privateFile, 'utf8')
        expect(await parse(file)).toEqual({ ...plain, comment: '' })
        expect(await parse(file.replaceAll('\n', '\r\n'))).toEqual({ ...plain, comment: '' })
        const locked = readFileSync((await clientKey(type, { format, passphrase })).privateFile, 'utf8')
        expect(await code(() => parse(locked, { passphrase }))).toBe('ERR_SSH_KEY_CIPHER_UNSUPPORTED')
      }
    },
  )
})

describeWith([needsOpenssl], 'key files written by openssl', () => {
  const openssl = (args: string[]) => execFileSync(findProgram('openssl')!, args, { encoding: 'utf8' })

  test('Ed25519 in PKCS#8 holds the seed only: the public key is computed', async () => {
    const file = openssl(['genpkey', '-algorithm', 'ed25519'])
    const key = await parse(file)
    await expectUsable(key)
    const spki = execFileSync('openssl', ['pkey', '-pubout', '-outform', 'DER'], { input: file })
    expect(key.kind === 'software' && toHex((key.signingKey as { publicKey: Uint8Array }).publicKey)).toBe(
      spki.subarray(-32).toString('hex'),
    )
  })

  test('other algorithms and curves are refused by name', async () => {
    for (const args of [
      ['-algorithm', 'ed448'],
      ['-algorithm', 'X25519'],
      ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:secp256k1'],
    ]) {
      expect(await code(() => parse(openssl(['genpkey', ...args])))).toBe('ERR_SSH_KEY_UNSUPPORTED')
    }
  })

  test('every truncation of the DER, and every length field grown, is a KeyFormatError', async () => {
    const files = [
      openssl(['genpkey', '-algorithm', 'ed25519']),
      openssl(['ecparam', '-name', 'prime256v1', '-genkey', '-noout']),
      openssl(['genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-384']),
    ]
    for (const file of files) {
      const { label, body } = readPem(file)
      for (let length = 1; length < body.length; length++) {
        expect(await code(() => parse(formatPem(label, toBase64(body.subarray(0, length)))))).not.toBe(
          'accepted',
        )
      }
      expect(await code(() => parse(formatPem(label, toBase64(Uint8Array.from([...body, 0])))))).toBe(
        'ERR_SSH_KEY_FORMAT',
      )
      for (const lead of [
        [0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        [0x30, 0x80],
        [0x30, 0xff],
        [0x30, 0x83, 0xff, 0xff, 0xff],
        [0x30, 0x81, 0x01],
      ]) {
        expect(
          await code(() =>
            parse(formatPem(label, toBase64(Uint8Array.from([...lead, ...body.subarray(2)])))),
          ),
        ).toBe('ERR_SSH_KEY_FORMAT')
      }
    }
  })
})

test.each([
  ['longer than the bytes there', [0x04, 5, 1, 2]],
  ['of another tag', [0x05, 0]],
  ['without its length', [0x04]],
  ['without the second byte of its length', [0x04, 0x82, 1]],
  ['of indefinite length', [0x04, 0x80, 0, 0]],
  ['with a length that is not minimal', [0x04, 0x81, 1, 1]],
])('a DER element %s is a KeyFormatError', (_, bytes) => {
  expect(() => new DerReader(Uint8Array.from(bytes)).octetString()).toThrow(KeyFormatError)
})

test('DER integers are minimal and not negative', () => {
  const unsigned = (...bytes: number[]) =>
    new DerReader(Uint8Array.from([2, bytes.length, ...bytes])).unsigned()
  expect(unsigned(0x7f)).toEqual(Uint8Array.of(0x7f))
  expect(unsigned(0, 0x80)).toEqual(Uint8Array.of(0x80))
  for (const bad of [[], [0x80], [0, 0x7f], [0, 0]]) expect(() => unsigned(...bad)).toThrow(KeyFormatError)
})

describe('generated keys', () => {
  test('each type signs, and ssh-keygen agrees with its public half', async () => {
    const keys: PrivateKey[] = [
      generateKeyPair(nodeCrypto, 'ed25519', systemRandom, 'mine'),
      ...ecdsaCurves.map((curve) => generateKeyPair(nodeCrypto, curve.keyType, systemRandom, 'mine')),
      await rsaKey,
    ]
    for (const key of keys) {
      await expectUsable(key)
      const again = await parse(formatPrivateKey(nodeCrypto, key, systemRandom))
      expect(again).toEqual(key)
      if (findProgram('ssh-keygen') === undefined) continue
      const path = join(tempDir('generated'), 'key')
      writeFileSync(path, formatPrivateKey(nodeCrypto, key, systemRandom), { mode: 0o600 })
      const { stdout } = await runOrThrow('ssh-keygen', ['-y', '-f', path])
      expect(stdout.trim()).toBe(formatPublicKey(key.publicKey, 'mine'))
    }
  })

  test('RSA sizes out of range are a UsageError', async () => {
    for (const bits of [1024, 16_385, 2048.5, Number.NaN])
      await expect(generateRsaKeyPair(bits)).rejects.toThrow(UsageError)
  })

  test('wiping leaves no secret bytes', async () => {
    for (const key of [
      generateKeyPair(nodeCrypto, 'ed25519', systemRandom),
      generateKeyPair(nodeCrypto, 'ecdsa-sha2-nistp256', systemRandom),
      await generateRsaKeyPair(2048),
    ]) {
      wipePrivateKey(key)
      if (key.kind !== 'software') throw new Error('unreachable')
      const { signingKey } = key
      const secrets =
        signingKey.type === 'ed25519'
          ? [signingKey.seed]
          : signingKey.type === 'ecdsa'
            ? [signingKey.scalar]
            : [signingKey.d, signingKey.p, signingKey.q, signingKey.iqmp]
      for (const secret of secrets) expect(secret.every((byte) => byte === 0)).toBe(true)
    }
  })
})

interface Parts {
  magic: string
  cipher: string
  kdf: string
  kdfOptions: Uint8Array
  count: number
  publicKey: Uint8Array
  secret: Uint8Array
  trailer: Uint8Array
}

/** An OpenSSH v1 file from its parts; by default a sound one. */
function fileOf(
  changes: Partial<Parts> = {},
  key: PrivateKey = generateKeyPair(nodeCrypto, 'ed25519', systemRandom),
): string {
  const parts: Parts = {
    magic: 'openssh-key-v1\0',
    cipher: 'none',
    kdf: 'none',
    kdfOptions: new Uint8Array(0),
    count: 1,
    publicKey: key.publicKey.blob,
    secret: secretOf(key),
    trailer: new Uint8Array(0),
    ...changes,
  }
  const writer = new Writer()
    .raw(utf8Bytes(parts.magic))
    .text(parts.cipher)
    .text(parts.kdf)
    .string(parts.kdfOptions)
  writer.u32(parts.count).string(parts.publicKey).string(parts.secret).raw(parts.trailer)
  return formatPem(label, toBase64(writer.bytes()))
}

function secretOf(
  key: PrivateKey,
  change: { checks?: [number, number]; padding?: (index: number) => number } = {},
): Uint8Array {
  const [first, second] = change.checks ?? [5, 5]
  const writer = new Writer().u32(first).u32(second)
  writePrivateKeyFields(writer, key)
  writer.text('')
  for (let pad = 1; writer.length % 8 !== 0 || pad === 1; pad++)
    writer.u8((change.padding ?? ((index) => index))(pad))
  return writer.copy()
}

const bcrypt = (salt: Uint8Array, count: number) => new Writer().string(salt).u32(count).copy()

describe('the OpenSSH format', () => {
  const key = generateKeyPair(nodeCrypto, 'ed25519', systemRandom)

  test('a sound file is accepted', async () => {
    expect(await code(() => parse(fileOf({}, key)))).toBe('accepted')
  })

  test.each<[string, Partial<Parts>, RegExp]>([
    ['another magic', { magic: 'openssh-key-v2\0' }, /openssh-key-v1/],
    ['no key', { count: 0 }, /holds 0 keys/],
    ['two keys', { count: 2 }, /holds 2 keys/],
    ['4 billion keys', { count: 0xffff_ffff }, /keys/],
    [
      'a derivation without cipher',
      { kdf: 'bcrypt', kdfOptions: bcrypt(new Uint8Array(16), 16) },
      /not encrypted/,
    ],
    ['check numbers that differ', { secret: secretOf(key, { checks: [1, 2] }) }, /damaged/],
    ['padding that is not 1, 2, 3', { secret: secretOf(key, { padding: () => 1 }) }, /padding/],
    ['padding from 0', { secret: secretOf(key, { padding: (index) => index - 1 }) }, /padding/],
    ['a length off the block size', { secret: secretOf(key).subarray(0, -1) }, /multiple of 8/],
    ['no private part', { secret: new Uint8Array(0) }, /multiple of 8/],
    [
      'the public key of another',
      { publicKey: generateKeyPair(nodeCrypto, 'ed25519', systemRandom).publicKey.blob },
      /not of one key/,
    ],
    ['bytes behind the end', { trailer: Uint8Array.of(0) }, /after the last field/],
  ])('%s is refused', async (_, changes, message) => {
    await expect(parse(fileOf(changes, key))).rejects.toMatchObject({
      code: 'ERR_SSH_KEY_FORMAT',
      message: expect.stringMatching(message),
    })
  })

  test.each<[string, Partial<Parts>, string]>([
    [
      'cipher',
      { cipher: 'rot13', kdf: 'bcrypt', kdfOptions: bcrypt(new Uint8Array(16), 16) },
      'ERR_SSH_KEY_CIPHER_UNSUPPORTED',
    ],
    [
      'derivation',
      { cipher: 'aes256-ctr', kdf: 'scrypt', kdfOptions: bcrypt(new Uint8Array(16), 16) },
      'ERR_SSH_KEY_CIPHER_UNSUPPORTED',
    ],
    ['derivation none', { cipher: 'aes256-ctr' }, 'ERR_SSH_KEY_CIPHER_UNSUPPORTED'],
    [
      'salt',
      { cipher: 'aes256-ctr', kdf: 'bcrypt', kdfOptions: bcrypt(new Uint8Array(0), 16) },
      'ERR_SSH_KEY_FORMAT',
    ],
    ['options', { cipher: 'aes256-ctr', kdf: 'bcrypt', kdfOptions: new Uint8Array(3) }, 'ERR_SSH_KEY_FORMAT'],
    [
      'tag',
      {
        cipher: 'aes256-gcm@openssh.com',
        kdf: 'bcrypt',
        kdfOptions: bcrypt(new Uint8Array(16), 1),
        secret: new Uint8Array(64),
      },
      'ERR_SSH_KEY_FORMAT',
    ],
  ])(
    'an encrypted file with a wrong %s is refused before the passphrase is used',
    async (_, changes, expected) => {
      expect(await code(() => parse(fileOf(changes, key), { passphrase }))).toBe(expected)
    },
  )

  test.each([
    [0, 'ERR_SSH_KEY_FORMAT'],
    [1, 'ERR_SSH_KEY_PASSPHRASE_WRONG'],
    [2049, 'ERR_SSH_KEY_FORMAT'],
    [0xffff_ffff, 'ERR_SSH_KEY_FORMAT'],
  ])('%i rounds of bcrypt: %s, without computing more than is asked for', async (count, expected) => {
    const file = fileOf(
      {
        cipher: 'aes256-ctr',
        kdf: 'bcrypt',
        kdfOptions: bcrypt(new Uint8Array(16), count),
        secret: new Uint8Array(64),
      },
      key,
    )
    const start = performance.now()
    expect(await code(() => parse(file, { passphrase }))).toBe(expected)
    if (expected === 'ERR_SSH_KEY_FORMAT') expect(performance.now() - start).toBeLessThan(50)
  })

  test('2048 rounds are within the limit, and the limit can be set', async () => {
    const computed: number[] = []
    const counting = {
      ...nodeCrypto,
      bcryptPbkdf: (_p: Uint8Array, _s: Uint8Array, length: number, count: number) => {
        computed.push(count)
        return new Uint8Array(length)
      },
    }
    const file = (count: number) =>
      fileOf(
        {
          cipher: 'aes256-ctr',
          kdf: 'bcrypt',
          kdfOptions: bcrypt(new Uint8Array(16), count),
          secret: new Uint8Array(64),
        },
        key,
      )
    const attempt = (count: number, options = {}) =>
      code(() => parsePrivateKey(counting, file(count), { passphrase, ...options }))
    expect(await attempt(2048)).toBe('ERR_SSH_KEY_PASSPHRASE_WRONG')
    expect(await attempt(2049)).toBe('ERR_SSH_KEY_FORMAT')
    expect(await attempt(5000, { maxBcryptRounds: 5000 })).toBe('ERR_SSH_KEY_PASSPHRASE_WRONG')
    expect(computed).toEqual([2048, 5000])
  })

  test('a file of 1 MiB is looked at, one byte more is not', async () => {
    const padded = (length: number) => fileOf({}, key) + ' '.repeat(length - fileOf({}, key).length)
    expect(await code(() => parse(padded(1024 * 1024)))).toBe('accepted')
    expect(await code(() => parse(padded(1024 * 1024 + 1)))).toBe('ERR_SSH_KEY_FILE_TOO_LARGE')
  })

  test('every truncation of the body, for every kind of key, is a KeyFormatError', async () => {
    const keys = [
      key,
      generateKeyPair(nodeCrypto, 'ecdsa-sha2-nistp256', systemRandom),
      softwareToken('sk-ecdsa-sha2-nistp256@openssh.com').privateKey,
      softwareToken('sk-ssh-ed25519@openssh.com').privateKey,
    ]
    for (const each of keys) {
      const { body } = readPem(fileOf({}, each))
      for (let length = 1; length < body.length; length++) {
        expect(await code(() => parse(formatPem(label, toBase64(body.subarray(0, length)))))).toBe(
          'ERR_SSH_KEY_FORMAT',
        )
      }
    }
  })

  test('every truncation and flipped byte of the private fields is a typed error or another sound key', async () => {
    const rsa = await rsaKey
    for (const each of [
      key,
      generateKeyPair(nodeCrypto, 'ecdsa-sha2-nistp521', systemRandom),
      rsa,
      softwareToken('sk-ssh-ed25519@openssh.com').privateKey,
    ]) {
      const writer = new Writer()
      writePrivateKeyFields(writer, each)
      const bytes = writer.copy()
      for (let at = 0; at < bytes.length; at++) {
        const changed = bytes.slice()
        changed[at]! ^= 0x80
        try {
          readPrivateKeyFields(new Reader(changed))
        } catch (error) {
          expect(error instanceof WireError || error instanceof KeyFormatError).toBe(true)
        }
      }
      for (let length = 0; length < bytes.length; length++) {
        try {
          readPrivateKeyFields(new Reader(bytes.subarray(0, length)))
          expect.unreachable()
        } catch (error) {
          expect(error instanceof WireError || error instanceof KeyFormatError).toBe(true)
        }
      }
    }
  })

  test('an RSA file whose primes are not those of the modulus is refused', async () => {
    const rsa = await rsaKey
    if (rsa.kind !== 'software' || rsa.signingKey.type !== 'rsa') throw new Error('unreachable')
    const p = rsa.signingKey.p.slice()
    p[40]! ^= 4
    await expect(parse(fileOf({}, { ...rsa, signingKey: { ...rsa.signingKey, p } }))).rejects.toThrow(
      /primes/,
    )
  })

  test('an ECDSA file with a private number of 0 or of the order is refused', async () => {
    const [curve] = ecdsaCurves
    const ec = generateKeyPair(nodeCrypto, 'ecdsa-sha2-nistp256', systemRandom)
    if (ec.kind !== 'software' || ec.signingKey.type !== 'ecdsa') throw new Error('unreachable')
    for (const scalar of [new Uint8Array(32), curve!.order]) {
      await expect(parse(fileOf({}, { ...ec, signingKey: { ...ec.signingKey, scalar } }))).rejects.toThrow(
        /order/,
      )
    }
  })

  test('text that is no private key says what it is', async () => {
    const pub = formatPublicKey(key.publicKey)
    await expect(parse(pub)).rejects.toThrow(/public key/)
    await expect(parse('PuTTY-User-Key-File-3: ssh-ed25519\r\n')).rejects.toThrow(/puttygen/)
    await expect(parse('hello')).rejects.toThrow(/expected a private key file/)
    await expect(parse('')).rejects.toThrow(/expected a private key file/)
    await expect(parse(formatPem('CERTIFICATE', 'AAAA'))).rejects.toThrow(/"CERTIFICATE"/)
    await expect(parse(fileOf({}, key).replace(/-----END[\s\S]*/, ''))).rejects.toThrow(/cut off/)
    await expect(parse(formatPem(label, '!!!!'))).rejects.toThrow(/base64/)
    await expect(parse(`-----BEGIN ${label}-----\n-----END ${label}-----\n`)).rejects.toThrow(/base64/)
  })
})
