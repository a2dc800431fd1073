// How the bridge says why it ends a WebSocket (RFC 6455 s7.4): before the upgrade a page would see nothing but 1006, so all but
// a wrong Origin, Host or handshake is said after it, with a code of the private range 4000 to 4999.

import { safeText } from '@sshblock/transport/errors'
import { maxReasonBytes } from './limits.ts'

export const closeCode = {
  /** The target ended its connection in order. */
  ended: 1000,
  /** The bridge is shutting down. */
  goingAway: 1001,
  /** Text messages. */
  unsupportedData: 1003,
  /** The connection to the target broke. */
  targetReset: 1011,
  /** No ticket, a used one, or the application did not let the client in. */
  unauthorized: 4401,
  /** The target, or its address, is not allowed. */
  forbidden: 4403,
  /** The path names no target. */
  noTarget: 4404,
  /** A deadline passed. */
  timeout: 4408,
  /** Too many connections. */
  tooMany: 4429,
  /** The target cannot be reached. */
  unreachable: 4502,
} as const

export type CloseCode = (typeof closeCode)[keyof typeof closeCode]

/** Why a client is refused, for its close frame. */
export class Refusal extends Error {
  readonly code: CloseCode

  constructor(code: CloseCode, reason: string) {
    super(reason)
    this.code = code
    this.name = 'Refusal'
  }
}

/** Text for a close frame: without control characters, at most 123 bytes of UTF-8, no character cut in two. */
export function closeReason(text: string): string {
  const shown = safeText(text, maxReasonBytes)
  const bytes = Buffer.from(shown)
  if (bytes.length <= maxReasonBytes) return shown
  let end = maxReasonBytes
  // Not within a character: 10xxxxxx continues one.
  while ((bytes[end]! & 0xc0) === 0x80) end--
  return bytes.toString('utf8', 0, end)
}
