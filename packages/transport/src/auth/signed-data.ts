import { USERAUTH_REQUEST } from '../messages/numbers.ts'
import { Writer } from '../wire/writer.ts'

/** OpenSSH PROTOCOL 1.6: binds the signature to the server's host key as well. */
export const hostBoundMethod = 'publickey-hostbound-v00@openssh.com'

export interface PublicKeyAttempt {
  user: string
  service: string
  algorithm: string
  publicKey: Uint8Array
  /** The host key that the signature is bound to; undefined for plain 'publickey'. */
  hostKey: Uint8Array | undefined
}

/** Writes the USERAUTH_REQUEST up to, not including, the signature. */
export function writePublicKeyRequest(writer: Writer, attempt: PublicKeyAttempt, signed: boolean): void {
  writer
    .u8(USERAUTH_REQUEST)
    .text(attempt.user)
    .text(attempt.service)
    .text(attempt.hostKey === undefined ? 'publickey' : hostBoundMethod)
    .bool(signed)
    .text(attempt.algorithm)
    .string(attempt.publicKey)
  if (attempt.hostKey !== undefined) writer.string(attempt.hostKey)
}

/** What the user's key signs: the session id and the exact request (RFC 4252 s7), so that no signature serves twice. */
export function publicKeySignedData(sessionId: Uint8Array, attempt: PublicKeyAttempt): Uint8Array {
  const writer = new Writer(512)
  writer.string(sessionId)
  writePublicKeyRequest(writer, attempt, true)
  return writer.copy()
}
