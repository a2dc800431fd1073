// What is looked at before the upgrade: Host, against names that an attacker points at this machine (DNS rebinding), and
// Origin, against pages that use their visitor's network or cookies (cross-site WebSocket hijacking). Both are compared as
// whole texts with a list. Refused with 403, which a page sees as a failed connection.

import type { IncomingMessage } from 'node:http'
import { quote, UsageError } from '@sshblock/transport/errors'

export interface AdmissionOptions {
  readonly origins: readonly string[]
  readonly allowMissingOrigin: boolean
  readonly hosts: readonly string[]
}

/** What is wrong with a request; undefined where nothing is. */
export type Objection = 'host' | 'origin' | undefined

export class Admission {
  readonly #origins: ReadonlySet<string>
  readonly #hosts: ReadonlySet<string>
  readonly #allowMissingOrigin: boolean

  /** @throws UsageError for an origin or host that no browser would ever send */
  constructor({ origins, hosts, allowMissingOrigin }: AdmissionOptions) {
    for (const origin of origins) checkOrigin(origin)
    this.#origins = new Set(origins)
    // A page and the bridge that serves it have one host.
    const pages = origins.map((origin) => new URL(origin)).filter(({ protocol }) => isWeb.test(protocol))
    this.#hosts = new Set([...pages.map(({ host }) => host), ...hosts.map(normalHost)])
    this.#allowMissingOrigin = allowMissingOrigin
  }

  /** For an upgrade. */
  objection(request: IncomingMessage): Objection {
    if (!this.isOurHost(request)) return 'host'
    const { origin } = request.headers
    if (origin === undefined) return this.#allowMissingOrigin ? undefined : 'origin'
    // Several Origin headers arrive joined by a comma, which no origin has.
    return this.#origins.has(origin) ? undefined : 'origin'
  }

  isOurHost(request: IncomingMessage): boolean {
    const { host } = request.headers
    if (host === undefined) return false
    const wanted = host.toLowerCase()
    if (this.#hosts.has(wanted)) return true
    // A request that came over loopback may call this machine by its own names, with the port it came to.
    const { localAddress, localPort } = request.socket
    if (localAddress === undefined || !loopbackAddress.test(localAddress)) return false
    return ['localhost', '127.0.0.1', '[::1]'].some(
      (name) => wanted === `${name}:${localPort}` || (localPort === 80 && wanted === name),
    )
  }
}

const loopbackAddress = /^(127\.\d+\.\d+\.\d+|::1|::ffff:127\.\d+\.\d+\.\d+)$/

const isWeb = /^https?:$/
/**
 * Extensions and applications that embed a browser have schemes of their own: 'chrome-extension://ID', 'tauri://localhost'.
 * The URL standard calls the origin of such a URL opaque; what is sent is scheme and host (RFC 6454 s6.2).
 */
const otherOrigin = /^(?!https?:|wss?:|file:|ftp:)[a-z][a-z0-9+.-]*:\/\/[a-z0-9][a-z0-9._-]*(:[1-9]\d{0,4})?$/

function checkOrigin(origin: string): void {
  const isPage =
    URL.canParse(origin) && new URL(origin).origin === origin && isWeb.test(new URL(origin).protocol)
  if (!isPage && !otherOrigin.test(origin)) {
    throw new UsageError(
      `origin: expected what a browser sends, such as https://app.example.org, got ${quote(origin)}`,
    )
  }
}

function normalHost(host: string): string {
  const url = `http://${host}`
  if (!URL.canParse(url) || new URL(url).pathname !== '/' || /[/?#@]/.test(host)) {
    throw new UsageError(`host: expected 'name' or 'name:port' as in the Host header, got ${quote(host)}`)
  }
  return host.toLowerCase()
}
