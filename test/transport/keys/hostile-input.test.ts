// Length fields with every kind of wrong value, at every place, and random bytes: a value or a typed error, quickly.

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { AgentFrameReader } from '../../../packages/transport/src/agent/framing.ts'
import * as messages from '../../../packages/transport/src/agent/messages.ts'
import { nodeCrypto } from '../../../packages/transport/src/crypto/node.ts'
import { systemRandom } from '../../../packages/transport/src/crypto/random.ts'
import { SshError } from '../../../packages/transport/src/errors.ts'
import { parseCertificate } from '../../../packages/transport/src/keys/certificate.ts'
import { DerReader } from '../../../packages/transport/src/keys/der.ts'
import { readRsa } from '../../../packages/transport/src/keys/der-private-key.ts'
import { parseFingerprint } from '../../../packages/transport/src/keys/fingerprint.ts'
import { generateKeyPair } from '../../../packages/transport/src/keys/generate.ts'
import { KnownHosts } from '../../../packages/transport/src/keys/known-hosts.ts'
import { formatPrivateKey } from '../../../packages/transport/src/keys/openssh-key-file.ts'
import { formatPem, readPem } from '../../../packages/transport/src/keys/pem.ts'
import { parsePrivateKey } from '../../../packages/transport/src/keys/private-key.ts'
import { parsePublicKey, publicKeyFromText } from '../../../packages/transport/src/keys/public-key.ts'
import { parseSignature, signWith, verifySignature } from '../../../packages/transport/src/keys/signature.ts'
import { concat, toBase64, utf8Bytes, writeU32 } from '../../../packages/transport/src/wire/bytes.ts'
import { WireError } from '../../../packages/transport/src/wire/wire-error.ts'
import { softwareToken } from './sk-key.ts'

const key = generateKeyPair(nodeCrypto, 'ecdsa-sha2-nistp256', systemRandom)
const signature = (await signWith(nodeCrypto, key, 'ecdsa-sha2-nistp256', utf8Bytes('data'))) as Uint8Array
const token = softwareToken('sk-ecdsa-sha2-nistp256@openssh.com')
const file = readPem(formatPrivateKey(nodeCrypto, key, systemRandom)).body
const parseFile = (body: Uint8Array) =>
  parsePrivateKey(nodeCrypto, formatPem('OPENSSH PRIVATE KEY', toBase64(body)))
const webauthn = token.sign(utf8Bytes('data'), { webauthn: { origin: 'https://example.org' } })

/** The parsers, each with something it accepts. */
const parsers: [string, Uint8Array, (bytes: Uint8Array) => unknown][] = [
  ['a public key', key.publicKey.blob, parsePublicKey],
  ['a security key', token.publicKey.blob, parsePublicKey],
  ['a signature', signature, parseSignature],
  ['a webauthn signature', webauthn, parseSignature],
  [
    'a signature being verified',
    signature,
    (bytes) => verifySignature(nodeCrypto, key.publicKey, 'ecdsa-sha2-nistp256', utf8Bytes('x'), bytes),
  ],
  ['a key file', file, parseFile],
  [
    'a list of identities',
    messages.identitiesAnswer.bytes({ identities: [{ keyBlob: key.publicKey.blob, comment: 'c' }] }),
    messages.identitiesAnswer.decode,
  ],
]

async function outcome(parse: (bytes: Uint8Array) => unknown, bytes: Uint8Array): Promise<void> {
  try {
    await parse(bytes)
  } catch (error) {
    if (!(error instanceof SshError || error instanceof WireError)) throw error
  }
}

test.each(parsers)(
  '%s: every four bytes replaced by 0, 1, 2^31 - 1, 2^31, 2^32 - 1, or off by one',
  async (_, golden, parse) => {
    await parse(golden)
    for (let at = 0; at + 4 <= golden.length; at++) {
      const was = new DataView(golden.buffer, golden.byteOffset).getUint32(at)
      for (const value of [0, 1, was - 1, was + 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]) {
        const bytes = golden.slice()
        writeU32(bytes, at, value >>> 0)
        await outcome(parse, bytes)
      }
    }
  },
)

test('random bytes, alone and behind a type name, are a typed error in every parser', async () => {
  const all: ((bytes: Uint8Array) => unknown)[] = [
    ...parsers.map(([, , parse]) => parse),
    parseCertificate,
    (bytes) => readRsa(new DerReader(bytes), {}),
    (bytes) => new DerReader(bytes).sequence().objectIdentifier(),
    (bytes) => messages.extension.decode(bytes),
    (bytes) => {
      const frames = new AgentFrameReader()
      frames.push(bytes)
      return frames.next()
    },
  ]
  const heads = [
    '',
    'ssh-ed25519',
    'ssh-rsa',
    'ssh-rsa-cert-v01@openssh.com',
    'sk-ssh-ed25519@openssh.com',
    'rsa-sha2-512',
  ]
  const bytes = fc.tuple(fc.constantFrom(...heads), fc.uint8Array({ maxLength: 200 })).map(([head, tail]) => {
    const prefix = new Uint8Array(4)
    writeU32(prefix, 0, head.length)
    return head === '' ? tail : concat(prefix, utf8Bytes(head), tail)
  })
  await fc.assert(
    fc.asyncProperty(bytes, async (input) => {
      for (const parse of all) await outcome(parse, input)
    }),
    { numRuns: 300 },
  )
})

test('random text is a typed error, or lines that are skipped', async () => {
  const words = fc.constantFrom(
    'ssh-ed25519',
    'AAAAC3NzaC1lZDI1NTE5',
    '@revoked',
    '|1|',
    '*',
    '!',
    ',',
    '#',
    '\0',
    '-----BEGIN PRIVATE KEY-----\n',
    '---- BEGIN SSH2 PUBLIC KEY ----\n',
    '\r\n',
    '\n',
    ' ',
    '\t',
    'SHA256:',
    ':',
    '\\',
    '=',
  )
  const text = fc
    .array(fc.oneof(words, fc.string({ maxLength: 8 })), { maxLength: 20 })
    .map((parts) => parts.join(''))
  await fc.assert(
    fc.asyncProperty(text, async (input) => {
      await outcome(() => publicKeyFromText(input), new Uint8Array(0))
      await outcome(() => parsePrivateKey(nodeCrypto, input), new Uint8Array(0))
      parseFingerprint(input)
      const knownHosts = KnownHosts.parse(input)
      expect(knownHosts.bytes()).toEqual(utf8Bytes(input))
      knownHosts.lookup(nodeCrypto, { host: 'h', port: 22 }, key.publicKey)
    }),
    { numRuns: 500 },
  )
})
