// TCP connections of one address, counted from the first byte that did not come: before the upgrade nothing else bounds how
// many of the server's places one client takes by opening connections and keeping silent.

import type { Server } from 'node:net'
import { clientKey, type Network } from './address.ts'
import { isTrustedProxy } from './client-address.ts'

/**
 * Drops connections of an address that has `maxSockets` already, those of trusted proxies excepted: all clients come
 * through these.
 * @param onDropped told of each
 */
export function limitSocketsPerAddress(
  server: Server,
  maxSockets: number,
  trustedProxies: readonly Network[],
  onDropped: () => void,
): void {
  const open = new Map<string, number>()
  server.on('connection', (socket) => {
    const address = socket.remoteAddress
    if (address === undefined || isTrustedProxy(address, trustedProxies)) return
    const key = clientKey(address)
    const count = open.get(key) ?? 0
    if (count >= maxSockets) {
      socket.destroy()
      onDropped()
      return
    }
    open.set(key, count + 1)
    socket.once('close', () => {
      const rest = (open.get(key) ?? 1) - 1
      if (rest > 0) open.set(key, rest)
      else open.delete(key)
    })
  })
}
