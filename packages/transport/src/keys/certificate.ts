// OpenSSH certificates, PROTOCOL.certkeys and PROTOCOL.u2f: parsing, and the one check that decides whether a certificate
// is good for a host or a user. Parsing never recurses: the CA's key must be a plain key, and is looked at by its type first.
// A certificate that parses proves nothing yet; `checkCertificate` does, once its CA is one the caller trusts.

import type { CryptoProvider, MaybePromise, VerifyKey } from '../crypto/provider.ts'
import { KeyFormatError, quote } from '../errors.ts'
import { equalBytes, utf8Text } from '../wire/bytes.ts'
import { Reader } from '../wire/reader.ts'
import { WireError } from '../wire/wire-error.ts'
import { Writer } from '../wire/writer.ts'
import { matchesWildcard } from './host-pattern.ts'
import { keyErrorCodes, parsing } from './key-format.ts'
import { splitKeyText } from './key-text.ts'
import { whenReady } from './maybe-promise.ts'
import {
  certificateTypeOf,
  keyTypes,
  makePublicKey,
  type PublicKey,
  type PublicKeyLimits,
  parsePublicKey,
  readKeyBody,
} from './public-key.ts'
import { parseSignature, verifySignature } from './signature.ts'
import { defaultCaAlgorithms } from './signature-algorithms.ts'

export interface Certificate {
  /** Blob type, e.g. 'ssh-ed25519-cert-v01@openssh.com'. */
  readonly type: string
  /** The whole certificate as it goes over the wire. */
  readonly blob: Uint8Array
  /** The certified key on its own. */
  readonly publicKey: PublicKey
  readonly verifyKey: VerifyKey
  readonly application?: string
  readonly serial: bigint
  readonly role: 'user' | 'host'
  /** Free text by the CA, raw. */
  readonly keyId: string
  /** Host or user names it is valid for. */
  readonly principals: readonly string[]
  /** Seconds since 1970; valid while validAfter <= now < validBefore. */
  readonly validAfter: bigint
  readonly validBefore: bigint
  readonly criticalOptions: ReadonlyMap<string, Uint8Array>
  readonly extensions: ReadonlyMap<string, Uint8Array>
  /** The CA's key. */
  readonly signatureKey: PublicKey
  /** The CA's signature blob, and what it is over; views of `blob`. */
  readonly signature: Uint8Array
  readonly signedBytes: Uint8Array
}

/** As OpenSSH's SSHKEY_CERT_MAX_PRINCIPALS. */
const maxPrincipals = 256
const userCertificate = 1
const hostCertificate = 2

/**
 * Parses a certificate blob. Its signature is not verified here.
 * @throws KeyFormatError: malformed, an unsupported type, a CA key that is itself a certificate, keys outside the accepted sizes.
 */
export function parseCertificate(blob: Uint8Array, limits: PublicKeyLimits = {}): Certificate {
  return parsing('a certificate', () => {
    const own = blob.slice()
    const reader = new Reader(own)
    const type = utf8Text(reader.string())
    const keyType = keyTypes.find((name) => certificateTypeOf(name) === type)
    if (keyType === undefined) {
      throw new KeyFormatError(`${quote(type, 80)} is not a supported certificate type`, {
        code: keyErrorCodes.unsupported,
      })
    }
    reader.string() // nonce
    const bodyAt = reader.at
    const body = readKeyBody(keyType, reader, limits)
    const plainBlob = new Writer().text(keyType).raw(own.subarray(bodyAt, reader.at)).copy()
    const serial = reader.u64()
    const role = readRole(reader)
    const keyId = readCString(reader)
    const principals = readPrincipals(reader)
    const validAfter = reader.u64()
    const validBefore = reader.u64()
    const criticalOptions = readOptions(reader)
    const extensions = readOptions(reader)
    reader.string() // reserved: "currently unused and is ignored"
    const signatureKey = parsePublicKey(reader.string(), limits)
    const signedBytes = own.subarray(0, reader.at)
    const signature = reader.string()
    reader.expectEnd()
    return {
      type,
      blob: own,
      publicKey: makePublicKey(keyType, plainBlob, body),
      verifyKey: body.verifyKey,
      ...(body.application === undefined ? {} : { application: body.application }),
      serial,
      role,
      keyId,
      principals,
      validAfter,
      validBefore,
      criticalOptions,
      extensions,
      signatureKey,
      signature,
      signedBytes,
    }
  })
}

/** Parses the text of a '-cert.pub' file. Throws KeyFormatError. */
export function certificateFromText(
  text: string,
  limits: PublicKeyLimits = {},
): { certificate: Certificate; comment: string } {
  const { type, blob, comment } = splitKeyText(text)
  const certificate = parseCertificate(blob, limits)
  if (type !== undefined && type !== certificate.type) {
    throw new KeyFormatError(
      `the line says ${quote(type, 80)}, but the certificate in it is ${certificate.type}`,
    )
  }
  return { certificate, comment }
}

export type CertificateProblem =
  | 'role'
  | 'not-yet-valid'
  | 'expired'
  | 'principal'
  | 'critical-option'
  | 'ca-algorithm'
  | 'signature'

export interface CertificateUse {
  /** What the certificate must be for. */
  role: 'user' | 'host'
  /** Host name (lower case) or user name that it must be valid for. */
  principal: string
  /** Now, in milliseconds since 1970, as Date.now() gives it. */
  now: number
  /** Algorithms the CA may have signed with; `defaultCaAlgorithms` where left out. */
  caAlgorithms?: readonly string[]
  /** Critical options that the caller will enforce. None are defined for hosts. */
  criticalOptions?: readonly string[]
}

/** Why a certificate is not good; undefined stands for good. */
export interface CertificateRefusal {
  problem: CertificateProblem
  /** A sentence for people, safe to show. */
  message: string
}

/**
 * Whether a certificate is good for that use. The caller must know that it trusts `certificate.signatureKey`.
 * An empty list of principals is never good, although PROTOCOL.certkeys lets it stand for everybody: CAs have issued such
 * certificates by mistake. Host principals may hold '*' and '?', as in OpenSSH; user principals are compared exactly.
 * @returns undefined where it is good.
 */
export function checkCertificate(
  crypto: CryptoProvider,
  certificate: Certificate,
  use: CertificateUse,
): MaybePromise<CertificateRefusal | undefined> {
  const refusal = checkFields(certificate, use)
  if (refusal !== undefined) return refusal
  return whenReady(verifyCertificateSignature(crypto, certificate, use.caAlgorithms), (good) =>
    good
      ? undefined
      : { problem: 'signature', message: `the CA's signature on ${describe(certificate)} is wrong` },
  )
}

/** Whether the CA's signature is right and made with an allowed algorithm. */
export function verifyCertificateSignature(
  crypto: CryptoProvider,
  certificate: Certificate,
  caAlgorithms: readonly string[] = defaultCaAlgorithms,
): MaybePromise<boolean> {
  const name = signatureName(certificate)
  if (name === undefined || !caAlgorithms.includes(name)) return false
  return verifySignature(
    crypto,
    certificate.signatureKey,
    name,
    certificate.signedBytes,
    certificate.signature,
  )
}

/** Whether a private or public key is the one that the certificate certifies. */
export function certifies(certificate: Certificate, key: { blob: Uint8Array }): boolean {
  return equalBytes(certificate.publicKey.blob, key.blob)
}

function checkFields(certificate: Certificate, use: CertificateUse): CertificateRefusal | undefined {
  const what = describe(certificate)
  if (certificate.role !== use.role) {
    return {
      problem: 'role',
      message: `${what} is a ${certificate.role} certificate, not a ${use.role} certificate`,
    }
  }
  const seconds = BigInt(Math.floor(use.now / 1000))
  if (seconds < certificate.validAfter) {
    return {
      problem: 'not-yet-valid',
      message: `${what} is not valid before ${date(certificate.validAfter)}`,
    }
  }
  if (seconds >= certificate.validBefore) {
    return { problem: 'expired', message: `${what} expired at ${date(certificate.validBefore)}` }
  }
  if (certificate.principals.length === 0) {
    return {
      problem: 'principal',
      message: `${what} names no ${use.role === 'host' ? 'host' : 'user'} at all`,
    }
  }
  const matches = (principal: string) =>
    use.role === 'host' ? matchesWildcard(use.principal, principal) : use.principal === principal
  if (!certificate.principals.some(matches)) {
    const names = certificate.principals.slice(0, 8).map((name) => quote(name, 80))
    return {
      problem: 'principal',
      message: `${what} is for ${names.join(', ')}, not for ${quote(use.principal)}`,
    }
  }
  for (const name of certificate.criticalOptions.keys()) {
    if (use.criticalOptions?.includes(name) !== true) {
      return {
        problem: 'critical-option',
        message: `${what} has the critical option ${quote(name, 80)}, which is not supported`,
      }
    }
  }
  const algorithm = signatureName(certificate)
  if (algorithm === undefined || !(use.caAlgorithms ?? defaultCaAlgorithms).includes(algorithm)) {
    return { problem: 'ca-algorithm', message: `${what} is signed with an algorithm that is not accepted` }
  }
  return undefined
}

function signatureName(certificate: Certificate): string | undefined {
  try {
    return parseSignature(certificate.signature).name
  } catch (error) {
    if (error instanceof KeyFormatError) return undefined
    throw error
  }
}

function describe(certificate: Certificate): string {
  return `certificate ${quote(certificate.keyId, 80)} (serial ${certificate.serial})`
}

/** A certificate's time for people; far ones ("forever" is 2^64 - 1) as the number. */
function date(seconds: bigint): string {
  return seconds < 253_402_300_800n ? new Date(Number(seconds) * 1000).toISOString() : `${seconds}`
}

function readRole(reader: Reader): 'user' | 'host' {
  const start = reader.at
  const role = reader.u32()
  if (role !== userCertificate && role !== hostCertificate)
    throw new WireError(`certificate type ${role}`, start)
  return role === userCertificate ? 'user' : 'host'
}

function readCString(reader: Reader): string {
  const start = reader.at
  const text = utf8Text(reader.string())
  if (text.includes('\0')) throw new WireError('a NUL in a name', start)
  return text
}

function readPrincipals(reader: Reader): string[] {
  const start = reader.at
  const inner = new Reader(reader.string())
  const principals: string[] = []
  while (inner.remaining > 0) {
    if (principals.length === maxPrincipals)
      throw new WireError(`more than ${maxPrincipals} principals`, start)
    principals.push(readCString(inner))
  }
  return principals
}

/** PROTOCOL.certkeys: (name, data) pairs, "lexically ordered by name", "each named option may only appear once". */
function readOptions(reader: Reader): Map<string, Uint8Array> {
  const start = reader.at
  const inner = new Reader(reader.string())
  const options = new Map<string, Uint8Array>()
  let previous: string | undefined
  while (inner.remaining > 0) {
    const name = readCString(inner)
    if (previous !== undefined && name <= previous)
      throw new WireError('options out of order, or one twice', start)
    previous = name
    options.set(name, inner.string())
  }
  return options
}
