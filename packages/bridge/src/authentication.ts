// Who is let in: one-time tickets, and the application's own answer.

import type { IncomingMessage } from 'node:http'
import { closeCode, Refusal } from './close-codes.ts'
import type { BridgeSettings, BridgeVisitor } from './options.ts'

/** @throws Refusal 4401 where the visitor is not let in, 4408 where the application took too long to say so */
export async function authenticateVisitor(
  settings: Pick<BridgeSettings, 'tickets' | 'authenticate' | 'authenticateTimeoutMs'>,
  path: string,
  visitor: Omit<BridgeVisitor, 'ticket'>,
): Promise<void> {
  const { tickets, authenticate, authenticateTimeoutMs } = settings
  const ticket = ticketOf(visitor.request)
  if (tickets !== undefined && (ticket === undefined || !tickets.redeem(ticket, path))) {
    throw new Refusal(
      closeCode.unauthorized,
      'a ticket is needed: it is missing, used, expired or for another target',
    )
  }
  if (authenticate === undefined) return
  let timer: NodeJS.Timeout | undefined
  const tooLate = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Refusal(closeCode.timeout, 'authentication took too long')),
      authenticateTimeoutMs,
    )
  })
  try {
    // Anything but true is a no, also where the hook is not typed.
    if ((await Promise.race([authenticate({ ...visitor, ticket }), tooLate])) === true) return
  } catch (error) {
    if (error instanceof Refusal) throw error
  } finally {
    clearTimeout(timer)
  }
  throw new Refusal(closeCode.unauthorized, 'not let in')
}

/** The ticket that a request shows; undefined where it shows none, or several. */
function ticketOf(request: IncomingMessage): string | undefined {
  const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim())
  const bearer = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1]
  const shown = offered
    .filter((name) => name.startsWith('ticket.'))
    .map((name) => name.slice('ticket.'.length))
  if (bearer !== undefined) shown.push(bearer)
  return shown.length === 1 ? shown[0] : undefined
}
