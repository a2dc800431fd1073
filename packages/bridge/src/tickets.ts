// One-time tickets: the application gives one to a user whom it knows, the page shows it to the bridge within a minute.
// Only digests are kept, so neither a dump of the memory nor the time that a lookup takes tells a ticket.

import { createHash, randomBytes } from 'node:crypto'
import { UsageError } from '@sshblock/transport/errors'

export interface TicketOptions {
  /** How long a ticket is good for, in milliseconds; default 60 000. */
  lifetimeMs?: number
  /** Tickets that are good at once; the oldest go when there are more. Default 10 000. */
  maxTickets?: number
  /** Milliseconds that never go back; performance.now where left out. */
  now?: () => number
}

export interface TicketTerms {
  /** The only target it is good for, as a client names it: the path of its URL without the leading '/'. */
  path?: string
}

export class Tickets {
  readonly #lifetimeMs: number
  readonly #maxTickets: number
  readonly #now: () => number
  /** In the order in which they expire. */
  readonly #good = new Map<string, { expiresAt: number; path: string | undefined }>()

  constructor(options: TicketOptions = {}) {
    this.#lifetimeMs = options.lifetimeMs ?? 60_000
    this.#maxTickets = options.maxTickets ?? 10_000
    this.#now = options.now ?? (() => performance.now())
    if (!(this.#lifetimeMs > 0)) throw new UsageError('lifetimeMs: expected more than 0')
    if (!(this.#maxTickets >= 1)) throw new UsageError('maxTickets: expected at least 1')
  }

  /** Tickets that are good now. */
  get size(): number {
    this.#dropExpired()
    return this.#good.size
  }

  /** A fresh ticket of 256 random bits, in characters of a sub-protocol name. Whoever shows it first is let in. */
  issue(terms: TicketTerms = {}): string {
    this.#dropExpired()
    const ticket = randomBytes(32).toString('base64url')
    this.#good.set(digest(ticket), {
      expiresAt: this.#now() + this.#lifetimeMs,
      path: terms.path?.replace(/^\//, ''),
    })
    for (const [oldest] of this.#good) {
      if (this.#good.size <= this.#maxTickets) break
      this.#good.delete(oldest)
    }
    return ticket
  }

  /** Whether the ticket is good for the path; it is not any more afterwards, whatever the answer. */
  redeem(ticket: string, path: string): boolean {
    this.#dropExpired()
    const key = digest(ticket)
    const found = this.#good.get(key)
    this.#good.delete(key)
    return found !== undefined && (found.path === undefined || found.path === path.replace(/^\//, ''))
  }

  #dropExpired(): void {
    const now = this.#now()
    for (const [key, { expiresAt }] of this.#good) {
      if (expiresAt > now) break
      this.#good.delete(key)
    }
  }
}

function digest(ticket: string): string {
  return createHash('sha256').update(ticket).digest('base64')
}
