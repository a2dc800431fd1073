// The one interface through which authentication (client) and key exchange (server) make signatures, wherever the key lives.

import type { CryptoProvider, MaybePromise } from '../crypto/provider.ts'
import { KeyFormatError, quote } from '../errors.ts'
import { type Certificate, certifies, parseCertificate } from './certificate.ts'
import { keyErrorCodes } from './key-format.ts'
import type { PrivateKey } from './private-key.ts'
import { isCertificateType, parsePublicKey, peekKeyType } from './public-key.ts'
import { signWith } from './signature.ts'
import { signatureAlgorithm, signatureAlgorithmsFor } from './signature-algorithms.ts'

export interface Signer {
  /** What is offered to the peer: the key blob, or the certificate. */
  readonly publicKeyBlob: Uint8Array
  /** Type of that blob, e.g. 'ssh-ed25519' or 'ssh-rsa-cert-v01@openssh.com'. */
  readonly keyType: string
  /** Algorithms it can sign with, best first. */
  readonly algorithms: readonly string[]
  /** For people, raw: the key's comment or file name. */
  readonly comment: string
  readonly certificate?: Certificate
  /**
   * An SSH signature blob over `data`, already verified.
   * @param algorithm one of `algorithms`.
   */
  sign(algorithm: string, data: Uint8Array): MaybePromise<Uint8Array>
}

/** What signerFromAgent needs of an agent: AgentClient has it, and so can anything else that signs like an agent. */
export interface AgentSigning {
  /**
   * @param keyBlob the identity's blob, as the agent listed it.
   * @param flags 2 for rsa-sha2-256, 4 for rsa-sha2-512, else 0 (RFC 9987, "Signature flags").
   * @returns an SSH signature blob that was verified.
   */
  sign(keyBlob: Uint8Array, data: Uint8Array, flags: number): Promise<Uint8Array>
}

/** RFC 9987, "Signature flags". */
export const agentSignFlags: ReadonlyMap<string, number> = new Map([
  ['rsa-sha2-256', 2],
  ['rsa-sha2-512', 4],
])

/**
 * A signer for a private key held here, under its plain key or under a certificate of it.
 * @throws KeyFormatError where the certificate is not one of this key, or the key cannot sign here (security keys).
 */
export function signerFromPrivateKey(
  crypto: CryptoProvider,
  key: PrivateKey,
  options: { certificate?: Certificate } = {},
): Signer {
  if (key.kind === 'security-key') {
    throw new KeyFormatError('this key lives in a security key: it signs only through an agent', {
      code: keyErrorCodes.unsupported,
    })
  }
  const { certificate } = options
  if (certificate !== undefined && !certifies(certificate, key.publicKey)) {
    throw new KeyFormatError('the certificate is not one of this private key')
  }
  const shown = certificate ?? key.publicKey
  return {
    publicKeyBlob: shown.blob,
    keyType: shown.type,
    algorithms: signatureAlgorithmsFor(shown.type),
    comment: key.comment,
    ...(certificate === undefined ? {} : { certificate }),
    sign: (algorithm, data) => signWith(crypto, key, algorithm, data),
  }
}

/**
 * A signer for an identity that an agent listed: a plain key, a security key or a certificate.
 * @throws KeyFormatError 'ERR_SSH_KEY_UNSUPPORTED' where the identity's type is not known here.
 */
export function signerFromAgent(
  agent: AgentSigning,
  identity: { keyBlob: Uint8Array; comment: string },
): Signer {
  const { keyBlob, comment } = identity
  const keyType = peekKeyType(keyBlob)
  const algorithms = signatureAlgorithmsFor(keyType)
  if (algorithms.length === 0) {
    throw new KeyFormatError(`the agent's key type ${quote(keyType, 80)} is not supported`, {
      code: keyErrorCodes.unsupported,
    })
  }
  const certificate = isCertificateType(keyType) ? parseCertificate(keyBlob) : undefined
  if (certificate === undefined) parsePublicKey(keyBlob)
  return {
    publicKeyBlob: keyBlob,
    keyType,
    algorithms,
    comment,
    ...(certificate === undefined ? {} : { certificate }),
    sign: (algorithm, data) => {
      if (!algorithms.includes(algorithm)) {
        throw new KeyFormatError(
          `a key of type ${keyType} does not sign with algorithm ${quote(algorithm, 80)}`,
          {
            code: keyErrorCodes.unsupported,
          },
        )
      }
      return agent.sign(keyBlob, data, agentSignFlags.get(signatureAlgorithm(algorithm)!.signatureName) ?? 0)
    },
  }
}
