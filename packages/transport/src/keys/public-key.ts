// Public key blobs: RFC 4253 s6.6 (ssh-rsa), RFC 5656 s3.1 (ecdsa-sha2-*), RFC 8709 s4 (ssh-ed25519) and OpenSSH
// PROTOCOL.u2f (sk-*). A parsed key owns its bytes (copied once). Parsing checks lengths, sizes and that names agree;
// whether a point lies on its curve is the verifier's business. Certificates are refused here: see certificate.ts.

import type { VerifyKey } from '../crypto/provider.ts'
import { KeyFormatError, quote } from '../errors.ts'
import { maxRsaBits, minRsaBits } from '../limits.ts'
import { toBase64, utf8Text } from '../wire/bytes.ts'
import { Reader } from '../wire/reader.ts'
import { WireError } from '../wire/wire-error.ts'
import { Writer } from '../wire/writer.ts'
import { curveByKeyType } from './curves.ts'
import { keyErrorCodes, parsing } from './key-format.ts'
import { splitKeyText } from './key-text.ts'
import { bitLength } from './magnitude.ts'

export type EcdsaKeyType = 'ecdsa-sha2-nistp256' | 'ecdsa-sha2-nistp384' | 'ecdsa-sha2-nistp521'
export type PlainKeyType = 'ssh-ed25519' | EcdsaKeyType | 'ssh-rsa'
export type SecurityKeyType = 'sk-ssh-ed25519@openssh.com' | 'sk-ecdsa-sha2-nistp256@openssh.com'
export type KeyType = PlainKeyType | SecurityKeyType

/** Key types in the order in which we prefer them. */
export const keyTypes: readonly KeyType[] = [
  'ssh-ed25519',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'sk-ssh-ed25519@openssh.com',
  'sk-ecdsa-sha2-nistp256@openssh.com',
  'ssh-rsa',
]

export interface PlainPublicKey {
  readonly type: PlainKeyType
  /** The blob as it goes over the wire. */
  readonly blob: Uint8Array
  readonly verifyKey: VerifyKey
}

export interface SecurityPublicKey {
  readonly type: SecurityKeyType
  readonly blob: Uint8Array
  readonly verifyKey: VerifyKey
  /** FIDO application or relying party id, usually 'ssh:' (PROTOCOL.u2f). */
  readonly application: string
}

export type PublicKey = PlainPublicKey | SecurityPublicKey

export interface PublicKeyLimits {
  /** Smallest RSA modulus accepted, in bits; 2048. */
  minRsaBits?: number
}

const certificateSuffix = '-cert-v01@openssh.com'

/** Whether a key type or algorithm name is one of an OpenSSH certificate. */
export function isCertificateType(name: string): boolean {
  return name.endsWith(certificateSuffix)
}

/** The certificate type of a plain key type: 'ssh-rsa' gives 'ssh-rsa-cert-v01@openssh.com' (PROTOCOL.certkeys, PROTOCOL.u2f). */
export function certificateTypeOf(keyType: KeyType): string {
  return keyType.replace(/@openssh\.com$/, '') + certificateSuffix
}

/** The key type that a blob says it is, without reading more of it. Throws KeyFormatError. */
export function peekKeyType(blob: Uint8Array): string {
  return parsing('a key blob', () => utf8Text(new Reader(blob).string()))
}

/**
 * Parses a public key blob.
 * @throws KeyFormatError: malformed; 'ERR_SSH_KEY_UNSUPPORTED' for a type not known here (certificates too);
 *   'ERR_SSH_KEY_SIZE' for RSA outside 2048 to 16384 bits or with an exponent that is even, 1, or above 2^24 - 1.
 */
export function parsePublicKey(blob: Uint8Array, limits: PublicKeyLimits = {}): PublicKey {
  return parsing('a public key', () => {
    const own = blob.slice()
    const reader = new Reader(own)
    const type = utf8Text(reader.string())
    const known = keyTypes.find((name) => name === type)
    if (known === undefined) {
      const hint = isCertificateType(type)
        ? 'a certificate stands where a plain key is expected'
        : 'not a supported key type'
      throw new KeyFormatError(`${quote(type, 80)}: ${hint}`, { code: keyErrorCodes.unsupported })
    }
    const body = readKeyBody(known, reader, limits)
    reader.expectEnd()
    return makePublicKey(known, own, body)
  })
}

/** What follows the type name in a key blob (and the nonce in a certificate). */
export interface KeyBody {
  verifyKey: VerifyKey
  application: string | undefined
}

/** Reads the type-specific fields of a public key; views of the reader's bytes. */
export function readKeyBody(type: KeyType, reader: Reader, limits: PublicKeyLimits = {}): KeyBody {
  switch (type) {
    case 'ssh-ed25519':
      return { verifyKey: readEd25519(reader), application: undefined }
    case 'sk-ssh-ed25519@openssh.com': {
      const verifyKey = readEd25519(reader)
      return { verifyKey, application: readApplication(reader) }
    }
    case 'ssh-rsa':
      return { verifyKey: readRsa(reader, limits), application: undefined }
    case 'sk-ecdsa-sha2-nistp256@openssh.com': {
      const verifyKey = readEcdsa('ecdsa-sha2-nistp256', reader)
      return { verifyKey, application: readApplication(reader) }
    }
    default:
      return { verifyKey: readEcdsa(type, reader), application: undefined }
  }
}

/** Puts a key together from its parts; `blob` becomes the key's own. */
export function makePublicKey(type: KeyType, blob: Uint8Array, body: KeyBody): PublicKey {
  const { verifyKey, application } = body
  if (type === 'sk-ssh-ed25519@openssh.com' || type === 'sk-ecdsa-sha2-nistp256@openssh.com') {
    return { type, blob, verifyKey, application: application ?? '' }
  }
  return { type, blob, verifyKey }
}

/** Builds a public key (and its blob) from numbers: the inverse of parsePublicKey, with the same checks. */
export function publicKeyFromNumbers(verifyKey: VerifyKey, limits: PublicKeyLimits = {}): PlainPublicKey {
  const writer = new Writer()
  if (verifyKey.type === 'ed25519') writer.text('ssh-ed25519').string(verifyKey.publicKey)
  else if (verifyKey.type === 'rsa')
    writer.text('ssh-rsa').unsignedMpint(verifyKey.e).unsignedMpint(verifyKey.n)
  else writer.text(`ecdsa-sha2-${verifyKey.curve}`).text(verifyKey.curve).string(verifyKey.point)
  // The names written above are those of plain keys.
  return parsePublicKey(writer.bytes(), limits) as PlainPublicKey
}

/**
 * Parses one public key in text: 'ssh-ed25519 AAAA... comment' (as in .pub files), or an RFC 4716 file.
 * @throws KeyFormatError as parsePublicKey, or where the text is neither.
 */
export function publicKeyFromText(
  text: string,
  limits: PublicKeyLimits = {},
): { publicKey: PublicKey; comment: string } {
  const { type, blob, comment } = splitKeyText(text)
  const publicKey = parsePublicKey(blob, limits)
  if (type !== undefined && type !== publicKey.type) {
    throw new KeyFormatError(`the line says ${quote(type, 80)}, but the key in it is ${publicKey.type}`)
  }
  return { publicKey, comment }
}

/** The one-line form 'type base64 comment', without a line end. */
export function formatPublicKey(key: { type: string; blob: Uint8Array }, comment = ''): string {
  const line = `${key.type} ${toBase64(key.blob)}`
  return comment === '' ? line : `${line} ${comment.replace(/[\r\n]+/g, ' ')}`
}

/** RFC 8709 s4: the key is exactly 32 bytes. */
function readEd25519(reader: Reader): VerifyKey {
  const start = reader.at
  const publicKey = reader.string()
  if (publicKey.length !== 32)
    throw new WireError(`an Ed25519 key has 32 bytes, not ${publicKey.length}`, start)
  return { type: 'ed25519', publicKey }
}

/** RFC 5656 s3.1: the curve's name stands in the type and again in the blob; we take uncompressed points only, as OpenSSH. */
function readEcdsa(type: EcdsaKeyType, reader: Reader): VerifyKey {
  const curve = curveByKeyType(type)!
  const nameAt = reader.at
  const name = utf8Text(reader.string())
  if (name !== curve.name) throw new WireError(`curve ${quote(name, 40)} in a key of type ${type}`, nameAt)
  const pointAt = reader.at
  const point = reader.string()
  if (point.length !== 1 + 2 * curve.fieldBytes || point[0] !== 4) {
    throw new WireError(`expected an uncompressed point of ${1 + 2 * curve.fieldBytes} bytes`, pointAt)
  }
  return { type: 'ecdsa', curve: curve.name, point }
}

/** RFC 4253 s6.6: e, then n. */
function readRsa(reader: Reader, limits: PublicKeyLimits): VerifyKey {
  const e = reader.unsignedMpint()
  const n = reader.unsignedMpint()
  checkRsaSize(n, e, limits.minRsaBits ?? minRsaBits)
  return { type: 'rsa', n, e }
}

function checkRsaSize(n: Uint8Array, e: Uint8Array, minBits: number): void {
  const bits = bitLength(n)
  if (bits < minBits || bits > maxRsaBits) {
    throw new KeyFormatError(`an RSA key of ${bits} bits; accepted are ${minBits} to ${maxRsaBits}`, {
      code: keyErrorCodes.size,
    })
  }
  if (n[n.length - 1]! % 2 === 0) throw new KeyFormatError('an RSA modulus that is even')
  // 3 <= e < 2^24: all keys in use have 3, 17, 35, 37 or 65537; a huge exponent makes each verification a burden.
  const exponentBits = bitLength(e)
  if (exponentBits < 2 || exponentBits > 24 || e[e.length - 1]! % 2 === 0) {
    throw new KeyFormatError('an RSA public exponent that is not an odd number from 3 to 2^24 - 1', {
      code: keyErrorCodes.size,
    })
  }
}

function readApplication(reader: Reader): string {
  const start = reader.at
  const application = utf8Text(reader.string())
  if (application.includes('\0')) throw new WireError('a NUL in the application', start)
  return application
}
