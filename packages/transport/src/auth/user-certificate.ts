// What a user certificate lets its holder do (OpenSSH PROTOCOL.certkeys, "Critical options" and "Extensions"), and whether
// it is good for a user at all. Permissions are extensions: what a certificate does not mention it does not give.

import type { CryptoProvider, MaybePromise } from '../crypto/provider.ts'
import type { Certificate } from '../keys/certificate.ts'
import { checkCertificate } from '../keys/certificate.ts'
import { whenReady } from '../keys/maybe-promise.ts'
import { strictUtf8Text } from '../wire/bytes.ts'
import { Reader } from '../wire/reader.ts'
import { WireError } from '../wire/wire-error.ts'
import type { Restrictions } from './permissions.ts'

/** Critical options that are enforced here; a certificate with another one is refused. */
const criticalOptions = ['force-command', 'source-address', 'verify-required']

export type CertificateAdmission = { restrictions: Restrictions } | { refusal: string }

/**
 * Whether a certificate admits one of `principals`, and under which restrictions. The caller trusts its CA.
 * @param principals names of which the certificate must hold one, compared exactly.
 * @param now milliseconds since 1970.
 */
export function admitCertificate(
  crypto: CryptoProvider,
  certificate: Certificate,
  principals: readonly string[],
  now: number,
): MaybePromise<CertificateAdmission> {
  // A certificate without principals is good for nobody here, though the format lets it stand for everybody.
  const principal = principals.find((name) => certificate.principals.includes(name))
  if (principal === undefined)
    return { refusal: 'the certificate names none of the principals that are asked for' }
  const restrictions = restrictionsOf(certificate)
  if (restrictions === undefined) return { refusal: 'an option of the certificate is malformed' }
  return whenReady(
    checkCertificate(crypto, certificate, { role: 'user', principal, now, criticalOptions }),
    (problem) => (problem === undefined ? { restrictions } : { refusal: problem.message }),
  )
}

function restrictionsOf(certificate: Certificate): Restrictions | undefined {
  const { extensions, criticalOptions: critical } = certificate
  const restrictions: Restrictions = {
    pty: extensions.has('permit-pty'),
    portForwarding: extensions.has('permit-port-forwarding'),
    agentForwarding: extensions.has('permit-agent-forwarding'),
    x11Forwarding: extensions.has('permit-X11-forwarding'),
    userRc: extensions.has('permit-user-rc'),
    touchRequired: !extensions.has('no-touch-required'),
    verifyRequired: critical.has('verify-required'),
  }
  for (const [name, field] of [
    ['force-command', 'command'],
    ['source-address', 'sourceAddress'],
  ] as const) {
    const data = critical.get(name)
    if (data === undefined) continue
    const value = readText(data)
    if (value === undefined) return undefined
    restrictions[field] = value
  }
  return restrictions
}

/** The data of an option is a string inside the string. */
function readText(data: Uint8Array): string | undefined {
  try {
    const reader = new Reader(data)
    const text = strictUtf8Text(reader.string())
    reader.expectEnd()
    return text
  } catch (error) {
    if (error instanceof WireError) return undefined
    throw error
  }
}
