// Signatures of FIDO authenticators: OpenSSH PROTOCOL.u2f, "SSH U2F Signatures" and "Webauthn signatures".
// The authenticator does not sign the data but a structure around its hash; that structure is rebuilt here from what the
// signature carries. Everything that is rebuilt is bound by the signature, so only its shape is checked.

import type { CryptoProvider } from '../crypto/provider.ts'
import { concat, equalBytes, toBase64, utf8Bytes, utf8Text, writeU32 } from '../wire/bytes.ts'
import type { Reader } from '../wire/reader.ts'

const flagUserPresent = 0x01
const flagUserVerified = 0x04
const flagAttestedData = 0x40
const flagExtensionData = 0x80

export interface SecurityKeyTail {
  readonly flags: number
  readonly counter: number
  /** The user touched the authenticator. */
  readonly userPresent: boolean
  /** The user was verified by PIN or biometrics. */
  readonly userVerified: boolean
  readonly webauthn: { origin: string; clientData: Uint8Array; extensions: Uint8Array } | undefined
}

/** Reads what follows the inner signature: flags, counter, and for webauthn origin, client data and extensions. */
export function readSecurityKeyTail(wrapping: 'sk' | 'webauthn', reader: Reader): SecurityKeyTail {
  const flags = reader.u8()
  const counter = reader.u32()
  const webauthn =
    wrapping === 'sk'
      ? undefined
      : { origin: utf8Text(reader.string()), clientData: reader.string(), extensions: reader.string() }
  return {
    flags,
    counter,
    userPresent: (flags & flagUserPresent) !== 0,
    userVerified: (flags & flagUserVerified) !== 0,
    webauthn,
  }
}

/**
 * What the authenticator signed for `data`: SHA256(application) || flags || counter || extensions || SHA256(message), where
 * the message is `data` or, for webauthn, client data that names it. Undefined where the client data is not about `data`.
 */
export function wrappedData(
  crypto: CryptoProvider,
  application: string,
  tail: SecurityKeyTail,
  data: Uint8Array,
): Uint8Array | undefined {
  const head = new Uint8Array(5)
  head[0] = tail.flags
  writeU32(head, 1, tail.counter)
  const applicationHash = crypto.digest('sha256', utf8Bytes(application))
  if (tail.webauthn === undefined) return concat(applicationHash, head, crypto.digest('sha256', data))
  const { origin, clientData, extensions } = tail.webauthn
  if ((tail.flags & flagAttestedData) !== 0) return undefined
  if (((tail.flags & flagExtensionData) !== 0) !== extensions.length > 0) return undefined
  if (!namesChallenge(clientData, origin, data)) return undefined
  return concat(applicationHash, head, extensions, crypto.digest('sha256', clientData))
}

/**
 * Webauthn level 2 s5.8.1.1 fixes how client data is serialised, so a prefix comparison stands in for a JSON parser:
 * type, then the challenge (the data in base64url), then the origin. What follows is ignored, as by OpenSSH.
 */
function namesChallenge(clientData: Uint8Array, origin: string, data: Uint8Array): boolean {
  if (origin.includes('"')) return false
  const challenge = toBase64(data).replace(/=+$/, '').replaceAll('+', '-').replaceAll('/', '_')
  const expected = utf8Bytes(`{"type":"webauthn.get","challenge":"${challenge}","origin":"${origin}"`)
  return clientData.length >= expected.length && equalBytes(clientData.subarray(0, expected.length), expected)
}
