// Whether a public key or certificate lets a user in: authorized_keys, trusted CAs, the application's own check, in this order.
// Says nothing about the signature: that the client holds the private half is checked elsewhere, for every key alike.

import type { AuthorizedKey } from '../auth/authorized-keys.ts'
import { AuthorizedKeys } from '../auth/authorized-keys.ts'
import type { Restrictions } from '../auth/permissions.ts'
import { refusalOf } from '../auth/permissions.ts'
import { admitCertificate } from '../auth/user-certificate.ts'
import type { CryptoProvider } from '../crypto/provider.ts'
import { KeyFormatError } from '../errors.ts'
import type { Certificate } from '../keys/certificate.ts'
import { parseCertificate } from '../keys/certificate.ts'
import { opensshFingerprint } from '../keys/fingerprint.ts'
import type { PublicKey } from '../keys/public-key.ts'
import { parsePublicKey } from '../keys/public-key.ts'
import { algorithmForBlob, isCertificateAlgorithm } from '../keys/signature-algorithms.ts'
import { equalBytes } from '../wire/bytes.ts'
import type { LoginCandidate, PassedMethod, ServerAuthPolicy } from './server-auth-policy.ts'
import { admittedUnder } from './server-auth-policy.ts'

/** A way in that was found open, and its restrictions; or why there is none, for the log. */
export type Admission = { passed: PassedMethod; restrictions: readonly Restrictions[] } | { refusal: string }

interface ShownKey {
  publicKey: PublicKey
  certificate: Certificate | undefined
}

/** The key in a request, parsed only when its name and its blob agree; undefined where it cannot be one. */
export function readShownKey(
  algorithm: string,
  blob: Uint8Array,
  allowed: readonly string[],
): ShownKey | undefined {
  try {
    algorithmForBlob(algorithm, blob, allowed)
    if (!isCertificateAlgorithm(algorithm)) return { publicKey: parsePublicKey(blob), certificate: undefined }
    const certificate = parseCertificate(blob)
    return { publicKey: certificate.publicKey, certificate }
  } catch (error) {
    if (error instanceof KeyFormatError) return undefined
    throw error
  }
}

export interface AdmissionContext {
  policy: ServerAuthPolicy
  crypto: CryptoProvider
  candidate: LoginCandidate
  /** Milliseconds since 1970. */
  now: number
}

export async function admitPublicKey(context: AdmissionContext, shown: ShownKey): Promise<Admission> {
  const { policy, crypto, candidate } = context
  const { certificate, publicKey } = shown
  const passed = {
    method: 'publickey',
    publicKey,
    fingerprint: opensshFingerprint(crypto, publicKey.blob),
    certificate,
    authorizedKey: undefined,
  } as const
  const refusals: string[] = []
  for (const way of await waysOf(context, shown)) {
    const admission = await admitBy(context, way, certificate)
    if (!('refusal' in admission)) {
      const { authorizedKey } = way
      const line =
        authorizedKey === undefined ? undefined : { line: authorizedKey.line, comment: authorizedKey.comment }
      return { passed: { ...passed, authorizedKey: line }, restrictions: admission.restrictions }
    }
    refusals.push(admission.refusal)
  }
  const verdict = await policy.publicKey?.({
    ...candidate,
    publicKey,
    fingerprint: passed.fingerprint,
    certificate,
  })
  const restrictions = admittedUnder(verdict)
  if (restrictions !== undefined) return { passed, restrictions }
  return { refusal: refusals.length === 0 ? 'the key is not authorized' : refusals.join('; ') }
}

/** An entry that speaks about the key, or about the CA of the certificate. */
interface Way {
  authorizedKey: AuthorizedKey | undefined
  /** Names of which the certificate must hold one. */
  principals: readonly string[]
}

async function waysOf(
  { policy, candidate }: AdmissionContext,
  { publicKey, certificate }: ShownKey,
): Promise<Way[]> {
  const { user } = candidate
  const given = await policy.authorizedKeys?.(user)
  const authorized =
    typeof given === 'string' ? AuthorizedKeys.parse(given) : (given ?? new AuthorizedKeys([]))
  if (certificate === undefined) {
    return authorized.forKey(publicKey.blob).map((authorizedKey) => ({ authorizedKey, principals: [] }))
  }
  const ca = certificate.signatureKey.blob
  const ways: Way[] = []
  if (policy.trustedUserCas?.some((trusted) => equalBytes(trusted.blob, ca)) === true) {
    ways.push({ authorizedKey: undefined, principals: (await policy.authorizedPrincipals?.(user)) ?? [user] })
  }
  for (const authorizedKey of authorized.forAuthority(ca))
    ways.push({ authorizedKey, principals: authorizedKey.principals ?? [user] })
  return ways
}

async function admitBy(
  { crypto, candidate, now }: AdmissionContext,
  { authorizedKey, principals }: Way,
  certificate: Certificate | undefined,
): Promise<{ restrictions: readonly Restrictions[] } | { refusal: string }> {
  // A line that says nothing about touches demands them, also of a certificate that waves them.
  const restrictions: Restrictions[] =
    authorizedKey === undefined ? [] : [{ touchRequired: true, ...authorizedKey.restrictions }]
  if (certificate !== undefined) {
    const admission = await admitCertificate(crypto, certificate, principals, now)
    if ('refusal' in admission) return admission
    restrictions.push(admission.restrictions)
  }
  for (const restriction of restrictions) {
    const refusal = refusalOf(restriction, { address: candidate.address, now })
    if (refusal !== undefined) return { refusal }
  }
  return { restrictions }
}
