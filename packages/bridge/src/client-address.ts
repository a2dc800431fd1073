// Who a request comes from: the peer of its socket, or, where that is a reverse proxy of ours, whom that says it is.

import type { IncomingMessage } from 'node:http'
import { isWithin, type Network, parseAddress } from './address.ts'

/**
 * The client's address. Of X-Forwarded-For the rightmost entry counts that is not a trusted proxy: what stands left of it was
 * written by the client.
 */
export function clientAddress(request: IncomingMessage, trustedProxies: readonly Network[]): string {
  const peer = plainAddress(request.socket.remoteAddress ?? 'unknown')
  if (!isTrustedProxy(peer, trustedProxies)) return peer
  const header = request.headers['x-forwarded-for']
  const forwarded = (Array.isArray(header) ? header.join(',') : (header ?? ''))
    .split(',')
    .map((each) => each.trim())
  let client = peer
  for (const entry of forwarded.reverse()) {
    if (parseAddress(entry) === undefined) break
    client = plainAddress(entry)
    if (!isTrustedProxy(client, trustedProxies)) break
  }
  return client
}

/** Whether an address is that of one of our reverse proxies. */
export function isTrustedProxy(address: string, trustedProxies: readonly Network[]): boolean {
  const bytes = parseAddress(plainAddress(address))
  return bytes !== undefined && trustedProxies.some((network) => isWithin(bytes, network))
}

/** A dual-stack socket calls IPv4 clients '::ffff:192.0.2.1'. */
function plainAddress(text: string): string {
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(text)?.[1] ?? text
}
