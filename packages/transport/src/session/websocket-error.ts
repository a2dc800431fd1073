// What a WebSocket's close code means for a connection (RFC 6455 s7.4). A relay says with a code of its own range (4000 to
// 4999) why it did not connect; where it refused the handshake itself, a page sees 1006 and no reason.

import { ConnectionLost, quote } from '../errors.ts'

const codes: ReadonlyMap<number, readonly [code: string, meaning: string]> = new Map([
  [1001, ['ERR_WEBSOCKET_CLOSED', 'the relay is shutting down']],
  [1002, ['ERR_WEBSOCKET_PROTOCOL', 'the relay says that we broke the WebSocket protocol']],
  [1003, ['ERR_WEBSOCKET_PROTOCOL', 'the relay does not take this kind of data']],
  [
    1006,
    ['ERR_WEBSOCKET_FAILED', 'the WebSocket failed; the relay refused the handshake, or the network broke'],
  ],
  [1008, ['ERR_WEBSOCKET_REFUSED', 'the relay refused what we did']],
  [1009, ['ERR_WEBSOCKET_PROTOCOL', 'the relay says that a message was too long']],
  [1011, ['ERR_WEBSOCKET_RESET', 'the connection behind the relay broke']],
  [
    4401,
    [
      'ERR_WEBSOCKET_UNAUTHORIZED',
      'the relay does not know us: its ticket or login is missing, used or wrong',
    ],
  ],
  [4403, ['ERR_WEBSOCKET_FORBIDDEN', 'the relay does not connect to this target']],
  [4404, ['ERR_WEBSOCKET_NO_TARGET', 'the relay knows no such target']],
  [4408, ['ERR_WEBSOCKET_TIMEOUT', 'the relay waited too long']],
  [4429, ['ERR_WEBSOCKET_BUSY', 'the relay has too many connections']],
  [4502, ['ERR_WEBSOCKET_UNREACHABLE', 'the relay cannot reach the target']],
])

/** The WebSocket to the relay ended, other than by an orderly end of the connection behind it. */
export class WebSocketClosedError extends ConnectionLost {
  /** RFC 6455 s7.4.1, or the relay's own from 4000 on; 1006 where nobody said anything. */
  readonly closeCode: number
  /** The relay's text, raw. */
  readonly closeReason: string

  constructor(where: string, closeCode: number, closeReason: string, cause?: unknown) {
    const [code, meaning] = codes.get(closeCode) ?? ['ERR_WEBSOCKET_CLOSED', 'the relay closed the WebSocket']
    const said = closeReason === '' ? '' : `: ${quote(closeReason)}`
    super('relay', `${where}: ${meaning} (${closeCode})${said}`, {
      code,
      ...(cause === undefined ? {} : { cause }),
    })
    this.closeCode = closeCode
    this.closeReason = closeReason
  }
}

/** The cause of an end; undefined where it was an orderly one: 1000, or none given (1005). */
export function closeCause(where: string, code: number, reason: string, cause?: unknown): Error | undefined {
  return code === 1000 || code === 1005 ? undefined : new WebSocketClosedError(where, code, reason, cause)
}
