import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { nodeCrypto } from '../../../packages/transport/src/crypto/node.ts'
import { systemRandom } from '../../../packages/transport/src/crypto/random.ts'
import { KeyFormatError } from '../../../packages/transport/src/errors.ts'
import {
  type Certificate,
  type CertificateUse,
  certificateFromText,
  checkCertificate,
  parseCertificate,
  verifyCertificateSignature,
} from '../../../packages/transport/src/keys/certificate.ts'
import { generateKeyPair } from '../../../packages/transport/src/keys/generate.ts'
import type { PrivateKey } from '../../../packages/transport/src/keys/private-key.ts'
import { certificateTypeOf, formatPublicKey } from '../../../packages/transport/src/keys/public-key.ts'
import { signWith } from '../../../packages/transport/src/keys/signature.ts'
import { signatureAlgorithmsFor } from '../../../packages/transport/src/keys/signature-algorithms.ts'
import { concat, toHex, utf8Bytes } from '../../../packages/transport/src/wire/bytes.ts'
import { Reader } from '../../../packages/transport/src/wire/reader.ts'
import { Writer } from '../../../packages/transport/src/wire/writer.ts'
import { ALL_KEY_TYPES, clientKey, hostKey } from '../../support/keys.ts'
import { runOrThrow } from '../../support/program.ts'
import { describeWith, needsPrograms } from '../../support/requirements.ts'
import { tempDir } from '../../support/temp-dir.ts'
import { flipped, providers } from '../crypto/providers.ts'
import { certify } from './certificates.ts'
import { softwareToken } from './sk-key.ts'

const now = Date.parse('2026-01-15T12:00:00Z')
/** Around `now`. */
const valid = ['-V', '20260101000000Z:20260201000000Z']
const hostUse: CertificateUse = { role: 'host', principal: 'host.example.org', now }

async function problem(certificate: Certificate, use: CertificateUse = hostUse): Promise<string | undefined> {
  return (await checkCertificate(nodeCrypto, certificate, use))?.problem
}

describeWith(
  [needsPrograms('ssh-keygen', ['ssh-keygen'], 'openssh-client')],
  'certificates made by ssh-keygen -s',
  () => {
    // Each type of subject once, and each type of CA once.
    const couples = [
      ...ALL_KEY_TYPES.map((type) => [type, 'ed25519'] as const),
      ...ALL_KEY_TYPES.slice(1).map((caType) => ['ed25519', caType] as const),
    ]
    test.each(couples)('%s certified by %s: fields and signature', async (type, caType) => {
      const [subject, ca] = [await hostKey(type), await clientKey(caType)]
      const certificate = await certify(ca, subject, [
        '-h',
        '-n',
        'host.example.org,other',
        '-z',
        '77',
        ...valid,
      ])
      expect(certificate).toMatchObject({
        type: certificateTypeOf(certificate.publicKey.type),
        role: 'host',
        keyId: 'the id',
        serial: 77n,
        principals: ['host.example.org', 'other'],
        validAfter: BigInt(Date.parse('2026-01-01T00:00:00Z') / 1000),
        validBefore: BigInt(Date.parse('2026-02-01T00:00:00Z') / 1000),
      })
      expect(toHex(certificate.publicKey.blob)).toBe(toHex(subject.blob))
      expect(toHex(certificate.signatureKey.blob)).toBe(toHex(ca.blob))
      for (const [, crypto] of providers) {
        const supported = crypto.supportsKey(certificate.signatureKey.verifyKey.type)
        expect(await verifyCertificateSignature(crypto, certificate)).toBe(supported)
      }
    })

    test('user certificates of security keys', async () => {
      for (const type of ['sk-ssh-ed25519@openssh.com', 'sk-ecdsa-sha2-nistp256@openssh.com'] as const) {
        const token = softwareToken(type)
        const publicFile = join(tempDir('token'), 'token.pub')
        writeFileSync(publicFile, formatPublicKey(token.publicKey, 'token'))
        const certificate = await certify(await clientKey('ed25519'), { publicFile }, ['-n', 'somebody'])
        expect(certificate.publicKey).toEqual(token.publicKey)
        expect(certificate.application).toBe('ssh:')
        expect([...certificate.extensions.keys()]).toContain('permit-pty')
        expect(await problem(certificate, { role: 'user', principal: 'somebody', now })).toBeUndefined()
      }
    })

    const matrix: [string, string[], Partial<CertificateUse>, string | undefined][] = [
      ['a good one', ['-h', '-n', 'host.example.org'], {}, undefined],
      ['the second of several names', ['-h', '-n', 'a,host.example.org'], {}, undefined],
      ['a user certificate as a host certificate', ['-n', 'host.example.org'], {}, 'role'],
      [
        'a host certificate as a user certificate',
        ['-h', '-n', 'somebody'],
        { role: 'user', principal: 'somebody' },
        'role',
      ],
      ['another host', ['-h', '-n', 'other.example.org'], {}, 'principal'],
      ['no name at all, for a host', ['-h'], {}, 'principal'],
      ['no name at all, for a user', [], { role: 'user', principal: 'somebody' }, 'principal'],
      ['a wildcard for a host', ['-h', '-n', '*.example.org'], {}, undefined],
      ['a wildcard for a single character', ['-h', '-n', 'h?st.example.org'], {}, undefined],
      ['a wildcard that does not match', ['-h', '-n', '*.example.com'], {}, 'principal'],
      ['a wildcard for a user', ['-n', '*'], { role: 'user', principal: 'somebody' }, 'principal'],
      ['the wildcard as the name of a user', ['-n', '*'], { role: 'user', principal: '*' }, undefined],
      ['a negation is a name like any other', ['-h', '-n', '*,!host.example.org'], {}, undefined],
      ['a prefix of the name', ['-h', '-n', 'host.example'], {}, 'principal'],
      [
        'the first second',
        ['-h', '-n', 'host.example.org'],
        { now: Date.parse('2026-01-01T00:00:00Z') },
        undefined,
      ],
      [
        'a millisecond before it',
        ['-h', '-n', 'host.example.org'],
        { now: Date.parse('2026-01-01T00:00:00Z') - 1 },
        'not-yet-valid',
      ],
      [
        'the last millisecond',
        ['-h', '-n', 'host.example.org'],
        { now: Date.parse('2026-02-01T00:00:00Z') - 1 },
        undefined,
      ],
      ['the end', ['-h', '-n', 'host.example.org'], { now: Date.parse('2026-02-01T00:00:00Z') }, 'expired'],
      [
        'a critical option on a host',
        ['-h', '-n', 'host.example.org', '-O', 'critical:x@example.org=1'],
        {},
        'critical-option',
      ],
      [
        'a critical option for users that nobody handles',
        ['-n', 'u', '-O', 'force-command=true'],
        { role: 'user', principal: 'u' },
        'critical-option',
      ],
      [
        'a critical option that the caller enforces',
        ['-n', 'u', '-O', 'force-command=true'],
        { role: 'user', principal: 'u', criticalOptions: ['force-command'] },
        undefined,
      ],
      [
        'an extension that is not known',
        ['-h', '-n', 'host.example.org', '-O', 'extension:x@example.org'],
        {},
        undefined,
      ],
      [
        'a CA algorithm that is not allowed',
        ['-h', '-n', 'host.example.org'],
        { caAlgorithms: ['rsa-sha2-512'] },
        'ca-algorithm',
      ],
    ]
    test.each(matrix)('%s', async (_, args, use, expected) => {
      const certificate = await certify(await clientKey('ed25519'), await hostKey('ed25519'), [
        ...args,
        ...valid,
      ])
      expect(await problem(certificate, { ...hostUse, ...use })).toBe(expected)
    })

    test('an RSA CA counts with SHA-2 only', async () => {
      const ca = await clientKey('rsa-2048')
      for (const [algorithm, expected] of [
        ['rsa-sha2-256', undefined],
        ['rsa-sha2-512', undefined],
        ['ssh-rsa', 'ca-algorithm'],
      ] as const) {
        const certificate = await certify(ca, await hostKey('ed25519'), [
          '-h',
          '-n',
          'host.example.org',
          '-t',
          algorithm,
          ...valid,
        ])
        expect(await problem(certificate)).toBe(expected)
        expect(
          await problem(certificate, {
            ...hostUse,
            caAlgorithms: ['ssh-rsa', 'rsa-sha2-256', 'rsa-sha2-512'],
          }),
        ).toBe(expected)
      }
    })

    test('"always" and "forever" are taken as such', async () => {
      const certificate = await certify(await clientKey('ed25519'), await hostKey('ed25519'), [
        '-h',
        '-n',
        'host.example.org',
      ])
      expect(certificate.validBefore).toBe(2n ** 64n - 1n)
      expect(await problem(certificate)).toBeUndefined()
    })

    test('each bit of the signed part counts', async () => {
      const certificate = await certify(await clientKey('ed25519'), await hostKey('ed25519'), [
        '-h',
        '-n',
        'host.example.org',
        ...valid,
      ])
      let parsed = 0
      for (let at = 0; at < certificate.blob.length; at++) {
        let altered: Certificate
        try {
          altered = parseCertificate(flipped(certificate.blob, at, at % 8))
        } catch (error) {
          expect(error).toBeInstanceOf(KeyFormatError)
          continue
        }
        parsed++
        expect(await verifyCertificateSignature(nodeCrypto, altered)).toBe(false)
        expect(await problem(altered)).not.toBeUndefined()
      }
      expect(parsed).toBeGreaterThan(100)
    })

    test('every truncation, and a byte too many, is a KeyFormatError', async () => {
      for (const type of ['ed25519', 'ecdsa-256', 'rsa-2048'] as const) {
        const { blob } = await certify(await clientKey('ed25519'), await hostKey(type), ['-h', '-n', 'a'])
        for (let length = 0; length < blob.length; length++) {
          expect(() => parseCertificate(blob.subarray(0, length))).toThrow(KeyFormatError)
        }
        expect(() => parseCertificate(concat(blob, Uint8Array.of(0)))).toThrow(KeyFormatError)
      }
    })

    test('the text of a -cert.pub file: type and blob must agree', async () => {
      const certificate = await certify(await clientKey('ed25519'), await hostKey('ecdsa-256'), [
        '-h',
        '-n',
        'a',
      ])
      const text = formatPublicKey(certificate, 'comment')
      expect(certificateFromText(text)).toEqual({ certificate, comment: 'comment' })
      expect(() => certificateFromText(text.replace('nistp256-cert', 'nistp384-cert'))).toThrow(
        KeyFormatError,
      )
      const plain = readFileSync((await hostKey('ed25519')).publicFile, 'utf8')
      expect(() => certificateFromText(plain)).toThrow(KeyFormatError)
    })

    test('ssh-keygen -L reads the certificates of our own maker, so the tests below are about certificates', async () => {
      const path = join(tempDir('own'), 'own-cert.pub')
      writeFileSync(path, formatPublicKey(await own({})))
      const { stdout } = await runOrThrow('ssh-keygen', ['-L', '-f', path])
      expect(stdout).toContain('Type: ssh-ed25519-cert-v01@openssh.com host certificate')
    })
  },
)

interface OwnFields {
  ca?: PrivateKey
  caBlob?: Uint8Array
  role?: number
  principals?: string[]
  options?: [string, string][]
  keyId?: string
}

/** A certificate of our own making, so that fields can be wrong. */
async function own(fields: OwnFields): Promise<{ type: string; blob: Uint8Array }> {
  const ca = fields.ca ?? generateKeyPair(nodeCrypto, 'ed25519', systemRandom)
  const subject = generateKeyPair(nodeCrypto, 'ed25519', systemRandom)
  if (subject.kind !== 'software' || subject.signingKey.type !== 'ed25519') throw new Error('unreachable')
  const type = 'ssh-ed25519-cert-v01@openssh.com'
  const principals = new Writer()
  for (const name of fields.principals ?? ['host.example.org']) principals.text(name)
  const options = new Writer()
  for (const [name, value] of fields.options ?? []) options.text(name).text(value)
  const body = new Writer()
    .text(type)
    .string(new Uint8Array(32))
    .string(subject.signingKey.publicKey)
    .u64(1n)
    .u32(fields.role ?? 2)
    .text(fields.keyId ?? 'own')
    .string(principals.bytes())
    .u64(0n)
    .u64(2n ** 64n - 1n)
    .string(options.bytes())
    .text('')
    .text('')
    .string(fields.caBlob ?? ca.publicKey.blob)
    .copy()
  const signature = await signWith(nodeCrypto, ca, signatureAlgorithmsFor(ca.type)[0]!, body)
  return { type, blob: new Writer().raw(body).string(signature).copy() }
}

describe('certificates that no CA should make', () => {
  test('our own maker makes good ones', async () => {
    expect(await problem(parseCertificate((await own({})).blob))).toBeUndefined()
  })

  test('a CA that is itself a certificate is refused by its type', async () => {
    const ca = generateKeyPair(nodeCrypto, 'ed25519', systemRandom)
    const inner = await own({ ca })
    const outer = await own({ ca, caBlob: inner.blob })
    expect(() => parseCertificate(outer.blob)).toThrow(/a certificate stands where a plain key is expected/)
  })

  test('certificates nested 10 000 deep are an error of form, not of the stack', async () => {
    // Each level is the CA key of the next: fields in front, the level inside, a signature behind.
    const { blob } = await own({})
    const reader = new Reader(blob)
    for (let i = 0; i < 3; i++) reader.string()
    reader.u64()
    reader.u32()
    for (let i = 0; i < 2; i++) reader.string()
    reader.u64()
    reader.u64()
    for (let i = 0; i < 3; i++) reader.string()
    const front = blob.subarray(0, reader.at)
    reader.string()
    const behind = blob.subarray(reader.at)
    const writer = new Writer()
    const depth = 10_000
    for (let level = depth; level > 0; level--) {
      writer.raw(front).u32(blob.length + (level - 1) * (front.length + 4 + behind.length))
    }
    writer.raw(blob)
    for (let level = 0; level < depth; level++) writer.raw(behind)
    expect(() => parseCertificate(writer.bytes())).toThrow(
      /a certificate stands where a plain key is expected/,
    )
  })

  test('a comma does not separate names', async () => {
    const certificate = parseCertificate((await own({ principals: ['a,host.example.org'] })).blob)
    expect(await problem(certificate)).toBe('principal')
    expect(await problem(certificate, { ...hostUse, principal: 'a,host.example.org' })).toBeUndefined()
  })

  test('an empty name is not everybody', async () => {
    expect(await problem(parseCertificate((await own({ principals: [''] })).blob))).toBe('principal')
  })

  test.each<[string, OwnFields]>([
    ['a role that is neither user nor host', { role: 3 }],
    ['role 0', { role: 0 }],
    ['a NUL in a name', { principals: ['host.example.org\0.evil'] }],
    ['a NUL in the key id', { keyId: 'a\0b' }],
    [
      'options out of order',
      {
        options: [
          ['b', ''],
          ['a', ''],
        ],
      },
    ],
    [
      'an option twice',
      {
        options: [
          ['a', ''],
          ['a', ''],
        ],
      },
    ],
    ['257 names', { principals: Array.from({ length: 257 }, (_, i) => `${i}`) }],
  ])('%s is refused', async (_, fields) => {
    const { blob } = await own(fields)
    expect(() => parseCertificate(blob)).toThrow(KeyFormatError)
  })

  test('256 names are accepted', async () => {
    const principals = Array.from({ length: 256 }, (_, i) => `${i}`)
    expect(parseCertificate((await own({ principals })).blob).principals).toEqual(principals)
  })

  test('a signature by another key than the CA is wrong', async () => {
    const other = generateKeyPair(nodeCrypto, 'ed25519', systemRandom)
    const { blob } = await own({ caBlob: other.publicKey.blob })
    expect(await problem(parseCertificate(blob))).toBe('signature')
  })

  test('a certificate without names says so, instead of an empty list', async () => {
    const refusal = await checkCertificate(
      nodeCrypto,
      parseCertificate((await own({ principals: [] })).blob),
      hostUse,
    )
    expect(refusal).toMatchObject({
      problem: 'principal',
      message: expect.stringContaining('names no host at all'),
    })
  })

  test('what a refusal says is safe to show', async () => {
    const certificate = parseCertificate((await own({ keyId: '\u001b[31m', principals: ['\u202egro'] })).blob)
    const refusal = await checkCertificate(nodeCrypto, certificate, hostUse)
    expect(refusal!.message).not.toMatch(/[\p{Cc}\u202e]/u)
    expect(utf8Bytes(refusal!.message).length).toBeLessThan(1024)
  })
})
