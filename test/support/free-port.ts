/** Loopback ports for servers that cannot choose one themselves and say which. */
import { randomInt } from 'node:crypto'
import { createServer } from 'node:net'

// Below the ephemeral range of Linux (32768-60999), so that no outgoing connection of another test takes the port
// between our look and the server's bind. Two looks can still agree: starters try another port when bind fails.
const FIRST = 20_000
const LAST = 32_000

function canBind(port: number, host: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer()
    probe.once('error', () => resolve(false))
    probe.listen({ port, host, exclusive: true }, () => probe.close(() => resolve(true)))
  })
}

/** A TCP port on `host` that nobody listens on right now. */
export async function freePort(host = '127.0.0.1'): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const port = randomInt(FIRST, LAST)
    if (await canBind(port, host)) return port
  }
  throw new Error(`no free port on ${host} between ${FIRST} and ${LAST}`)
}
