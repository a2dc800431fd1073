import type { SshError } from '../errors.ts'
import {
  AuthError,
  ClosedError,
  HostKeyError,
  IntegrityError,
  NegotiationError,
  ProtocolError,
} from '../errors.ts'
import { disconnectReason } from '../messages/numbers.ts'
import { safeText } from '../safe-text.ts'

/** The one map from our errors to what the peer is told (RFC 4253 s11.1). The text never holds secrets or the peer's own words at length. */
export function disconnectReasonFor(error: SshError): { reason: number; text: string } {
  const text = safeText(error.message, 200)
  if (error instanceof ProtocolError) return { reason: disconnectReason.protocolError, text }
  if (error instanceof IntegrityError) return { reason: disconnectReason.macError, text }
  if (error instanceof NegotiationError) return { reason: disconnectReason.keyExchangeFailed, text }
  if (error instanceof HostKeyError)
    return { reason: disconnectReason.hostKeyNotVerifiable, text: 'host key not trusted' }
  if (error instanceof AuthError)
    return { reason: disconnectReason.noMoreAuthMethods, text: 'no more authentication methods' }
  if (error instanceof ClosedError) return { reason: disconnectReason.byApplication, text: '' }
  return { reason: disconnectReason.byApplication, text: '' }
}
