// The table of public key algorithms: what a name in KEXINIT, USERAUTH_REQUEST or a signature blob means.
// RFC 8709 (ssh-ed25519), RFC 5656 (ecdsa-sha2-*), RFC 8332 (rsa-sha2-*), OpenSSH PROTOCOL.u2f (sk-*, webauthn-sk-*),
// PROTOCOL.certkeys (*-cert-v01). The hash follows from the name alone: neither caller nor peer chooses it.
// 'ssh-rsa' (SHA-1) and 'ssh-dss' are not in the table, so nothing signs or verifies with them.

import type { HashName } from '../crypto/provider.ts'
import { KeyFormatError, quote } from '../errors.ts'
import { ecdsaCurves } from './curves.ts'
import { keyErrorCodes } from './key-format.ts'
import { certificateTypeOf, isCertificateType, type KeyType, peekKeyType } from './public-key.ts'

export interface SignatureAlgorithm {
  /** As negotiated and as named in USERAUTH_REQUEST. */
  readonly name: string
  /** Type of the key blob that goes with it: a certificate type for certificate algorithms. */
  readonly blobType: string
  /** Type of the key that signs. */
  readonly keyType: KeyType
  /** Name inside the signature blob: without the certificate suffix. */
  readonly signatureName: string
  readonly scheme: 'ed25519' | 'ecdsa' | 'rsa'
  readonly hash: HashName
  /** How a FIDO authenticator wraps what is signed; undefined for ordinary keys. */
  readonly wrapping: 'sk' | 'webauthn' | undefined
}

const plain: readonly SignatureAlgorithm[] = [
  entry('ssh-ed25519', 'ssh-ed25519', 'ed25519', 'sha512'),
  ...ecdsaCurves.map((curve) => entry(curve.keyType, curve.keyType, 'ecdsa', curve.hash)),
  entry('sk-ssh-ed25519@openssh.com', 'sk-ssh-ed25519@openssh.com', 'ed25519', 'sha512', 'sk'),
  entry('sk-ecdsa-sha2-nistp256@openssh.com', 'sk-ecdsa-sha2-nistp256@openssh.com', 'ecdsa', 'sha256', 'sk'),
  entry(
    'webauthn-sk-ecdsa-sha2-nistp256@openssh.com',
    'sk-ecdsa-sha2-nistp256@openssh.com',
    'ecdsa',
    'sha256',
    'webauthn',
  ),
  entry('rsa-sha2-512', 'ssh-rsa', 'rsa', 'sha512'),
  entry('rsa-sha2-256', 'ssh-rsa', 'rsa', 'sha256'),
]

// PROTOCOL.certkeys: RSA certificates are named rsa-sha2-*-cert-v01@openssh.com when negotiated, ssh-rsa-cert-v01 in the blob.
const certified: readonly SignatureAlgorithm[] = plain
  .filter((algorithm) => algorithm.wrapping !== 'webauthn')
  .map((algorithm) => ({
    ...algorithm,
    name: `${algorithm.name.replace(/@openssh\.com$/, '')}-cert-v01@openssh.com`,
    blobType: certificateTypeOf(algorithm.keyType),
  }))

const table = new Map([...plain, ...certified].map((algorithm) => [algorithm.name, algorithm]))

/** Every algorithm name known here, plain ones first, in the order in which we prefer them. */
export const signatureAlgorithmNames: readonly string[] = [...table.keys()]

/** CA signature algorithms accepted in certificates: every plain one but webauthn, as OpenSSH's CASignatureAlgorithms. */
export const defaultCaAlgorithms: readonly string[] = plain
  .filter((algorithm) => algorithm.wrapping !== 'webauthn')
  .map((algorithm) => algorithm.name)

/** The table's entry, or undefined for a name that is not known (such as 'ssh-rsa' as a signature algorithm). */
export function signatureAlgorithm(name: string): SignatureAlgorithm | undefined {
  return table.get(name)
}

/**
 * Algorithms with which a key (or certificate) of that blob type can sign, best first. Empty for unknown types.
 * webauthn is left out: it verifies, but only a browser's authenticator can make it.
 */
export function signatureAlgorithmsFor(blobType: string): string[] {
  return [...table.values()]
    .filter((algorithm) => algorithm.blobType === blobType && algorithm.wrapping !== 'webauthn')
    .map((algorithm) => algorithm.name)
}

/**
 * The algorithm to use with a key blob that came with an algorithm name, checked before any of the key is parsed:
 * the name is one we allow, and the blob's own type is the one that the name requires.
 * @throws KeyFormatError 'ERR_SSH_KEY_UNSUPPORTED' where it is not allowed, 'ERR_SSH_KEY_FORMAT' where the two disagree.
 */
export function algorithmForBlob(
  name: string,
  blob: Uint8Array,
  allowed: readonly string[],
): SignatureAlgorithm {
  const algorithm = table.get(name)
  if (algorithm === undefined || !allowed.includes(name)) {
    throw new KeyFormatError(
      `algorithm ${quote(name, 80)} is not among those allowed: ${allowed.join(', ')}`,
      {
        code: keyErrorCodes.unsupported,
      },
    )
  }
  const type = peekKeyType(blob)
  if (type !== algorithm.blobType) {
    throw new KeyFormatError(
      `algorithm ${name} needs a key of type ${algorithm.blobType}, but the key is ${quote(type, 80)}`,
    )
  }
  return algorithm
}

/** Whether a name is a certificate algorithm of the table. */
export function isCertificateAlgorithm(name: string): boolean {
  return isCertificateType(name) && table.has(name)
}

function entry(
  name: string,
  keyType: KeyType,
  scheme: SignatureAlgorithm['scheme'],
  hash: HashName,
  wrapping?: 'sk' | 'webauthn',
): SignatureAlgorithm {
  return { name, blobType: keyType, keyType, signatureName: name, scheme, hash, wrapping }
}
