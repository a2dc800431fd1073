// How a private key is written out in OpenSSH's key files and in the agent's "add identity": PROTOCOL.key section 3 ("encoded
// using the same rules as used for SSH agent"), RFC 9987 "Adding Keys to the Agent", PROTOCOL.u2f for security keys.
// With a certificate type, the certificate stands in place of the public numbers that it holds.

import type { SigningKey } from '../crypto/provider.ts'
import { KeyFormatError, quote } from '../errors.ts'
import { equalBytes, utf8Text } from '../wire/bytes.ts'
import type { Reader } from '../wire/reader.ts'
import { WireError } from '../wire/wire-error.ts'
import { Writer } from '../wire/writer.ts'
import { type Certificate, parseCertificate } from './certificate.ts'
import { curveByName } from './curves.ts'
import { keyErrorCodes } from './key-format.ts'
import { isInRange, padTo, toBigInt } from './magnitude.ts'
import type { PrivateKey } from './private-key.ts'
import {
  isCertificateType,
  keyTypes,
  type PlainPublicKey,
  type PublicKey,
  type PublicKeyLimits,
  parsePublicKey,
  type SecurityPublicKey,
} from './public-key.ts'

export interface PrivateKeyFields {
  /** Without its comment, which follows the fields and is the caller's to read. */
  key: PrivateKey
  certificate: Certificate | undefined
}

/**
 * Reads type and fields of a private key. Everything in the result is copied.
 * @throws WireError, KeyFormatError where the fields do not fit each other or the key is not supported.
 */
export function readPrivateKeyFields(reader: Reader, limits: PublicKeyLimits = {}): PrivateKeyFields {
  const type = utf8Text(reader.string())
  if (isCertificateType(type)) {
    const certificate = parseCertificate(reader.string(), limits)
    if (certificate.type !== type)
      throw new KeyFormatError(`a certificate of type ${certificate.type} under the name ${quote(type, 80)}`)
    return { key: readSecretFields(certificate.publicKey, reader), certificate }
  }
  const known = keyTypes.find((name) => name === type)
  if (known === undefined) {
    throw new KeyFormatError(`${quote(type, 80)} is not a supported private key type`, {
      code: keyErrorCodes.unsupported,
    })
  }
  return { key: readSecretFields(readPublicFields(known, reader, limits), reader), certificate: undefined }
}

/** Writes type and fields, not the comment. With a certificate it must be one of this key. */
export function writePrivateKeyFields(writer: Writer, key: PrivateKey, certificate?: Certificate): void {
  if (certificate !== undefined) writer.text(certificate.type).string(certificate.blob)
  else writer.text(key.type)
  const bare = certificate === undefined
  if (key.kind === 'security-key') {
    const { verifyKey, application } = key.publicKey
    if (bare && verifyKey.type === 'ecdsa') writer.text(verifyKey.curve).string(verifyKey.point)
    if (verifyKey.type === 'ed25519') writer.string(verifyKey.publicKey)
    writer.text(application).u8(key.flags).string(key.keyHandle).string(key.reserved)
    return
  }
  const { signingKey } = key
  switch (signingKey.type) {
    case 'ed25519': {
      // The public key, then seed and public key as one 64-byte string: also with a certificate.
      writer.string(signingKey.publicKey).u32(64).raw(signingKey.seed).raw(signingKey.publicKey)
      break
    }
    case 'ecdsa':
      if (bare) writer.text(signingKey.curve).string(signingKey.point)
      writer.unsignedMpint(signingKey.scalar)
      break
    case 'rsa':
      if (bare) writer.unsignedMpint(signingKey.n).unsignedMpint(signingKey.e)
      writer.unsignedMpint(signingKey.d).unsignedMpint(signingKey.iqmp)
      writer.unsignedMpint(signingKey.p).unsignedMpint(signingKey.q)
  }
}

/**
 * Puts a software key together and checks that its halves fit: RSA n = p * q, ECDSA 1 <= d < n, Ed25519 lengths.
 * (That the public half belongs to the secret is shown by the self-check of each signature.)
 */
export function makeSoftwareKey(publicKey: PlainPublicKey, signingKey: SigningKey, comment = ''): PrivateKey {
  if (signingKey.type === 'ecdsa' && !isInRange(signingKey.scalar, curveByName(signingKey.curve)!.order)) {
    throw new KeyFormatError('the ECDSA private number is not between 1 and the order of the curve')
  }
  if (
    signingKey.type === 'ed25519' &&
    (signingKey.seed.length !== 32 || signingKey.publicKey.length !== 32)
  ) {
    throw new KeyFormatError('an Ed25519 key has a seed and a public key of 32 bytes each')
  }
  if (signingKey.type === 'rsa') {
    // A product, once per key: cheap, and a file in which it does not hold would make signatures that leak the key.
    const { n, p, q } = signingKey
    const half = Math.ceil(n.length / 2) + 64
    if (p.length > half || q.length > half || toBigInt(p) * toBigInt(q) !== toBigInt(n)) {
      throw new KeyFormatError('the RSA primes are not those of the modulus')
    }
  }
  return { kind: 'software', type: publicKey.type, publicKey, signingKey, comment }
}

function readPublicFields(type: PublicKey['type'], reader: Reader, limits: PublicKeyLimits): PublicKey {
  const writer = new Writer().text(type)
  switch (type) {
    case 'ssh-ed25519':
      // Not consumed: readSecretFields reads it again and compares.
      writer.string(peek(reader, () => reader.string()))
      break
    case 'ssh-rsa': {
      // Private keys have n before e, public keys e before n (RFC 4253 s6.6).
      const n = reader.unsignedMpint()
      writer.unsignedMpint(reader.unsignedMpint()).unsignedMpint(n)
      break
    }
    case 'sk-ssh-ed25519@openssh.com':
      peek(reader, () => writer.string(reader.string()).string(reader.string()))
      break
    case 'sk-ecdsa-sha2-nistp256@openssh.com':
      writer.string(reader.string()).string(reader.string())
      peek(reader, () => writer.string(reader.string()))
      break
    default:
      writer.string(reader.string()).string(reader.string())
  }
  return parsePublicKey(writer.bytes(), limits)
}

function readSecretFields(publicKey: PublicKey, reader: Reader): PrivateKey {
  const { verifyKey } = publicKey
  if (isSecurityKey(publicKey)) {
    if (verifyKey.type === 'ed25519') expectSame(reader, verifyKey.publicKey, 'public key')
    const start = reader.at
    if (utf8Text(reader.string()) !== publicKey.application)
      throw new WireError('another application than in the public key', start)
    const flags = reader.u8()
    const keyHandle = reader.string().slice()
    const reserved = reader.string().slice()
    return { kind: 'security-key', type: publicKey.type, publicKey, flags, keyHandle, reserved, comment: '' }
  }
  switch (verifyKey.type) {
    case 'ed25519': {
      expectSame(reader, verifyKey.publicKey, 'public key')
      const start = reader.at
      const secret = reader.string()
      if (secret.length !== 64 || !equalBytes(secret.subarray(32), verifyKey.publicKey)) {
        throw new WireError('expected 64 bytes, seed and public key', start)
      }
      return makeSoftwareKey(publicKey, {
        type: 'ed25519',
        publicKey: verifyKey.publicKey,
        seed: secret.slice(0, 32),
      })
    }
    case 'ecdsa': {
      const start = reader.at
      const scalar = padTo(reader.unsignedMpint(), curveByName(verifyKey.curve)!.fieldBytes)
      if (scalar === undefined) throw new WireError('a private number longer than the curve allows', start)
      return makeSoftwareKey(publicKey, {
        type: 'ecdsa',
        curve: verifyKey.curve,
        point: verifyKey.point,
        scalar,
      })
    }
    case 'rsa': {
      const d = reader.unsignedMpint().slice()
      const iqmp = reader.unsignedMpint().slice()
      const p = reader.unsignedMpint().slice()
      const q = reader.unsignedMpint().slice()
      return makeSoftwareKey(publicKey, { type: 'rsa', n: verifyKey.n, e: verifyKey.e, d, p, q, iqmp })
    }
  }
}

function isSecurityKey(key: PublicKey): key is SecurityPublicKey {
  return 'application' in key
}

function expectSame(reader: Reader, expected: Uint8Array, what: string): void {
  const start = reader.at
  if (!equalBytes(reader.string(), expected)) throw new WireError(`another ${what} than before`, start)
}

/** Reads ahead: afterwards the reader stands where it stood. */
function peek<T>(reader: Reader, read: () => T): T {
  const { at } = reader
  const value = read()
  reader.at = at
  return value
}
