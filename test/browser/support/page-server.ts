/** What a page of the tests is served by: a small HTTP server on loopback with the bridge attached to it. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { type Bridge, type BridgeEvent, type BridgeOptions, createBridge } from '@sshblock/bridge'
import { registerCleanup, type Scope } from '../../support/cleanup.ts'
import { insecureHost } from './chromium.ts'
import { bundlePages } from './page-bundle.ts'

export interface PageServer {
  readonly port: number
  /** A secure context: 'http://127.0.0.1:PORT/'. */
  readonly url: string
  /** Not a secure context, though the same server. */
  readonly insecureUrl: string
  readonly bridge: Bridge
  readonly events: readonly BridgeEvent[]
  /** Breaks every connection, as the end of its process would. */
  kill(): void
}

const page = `<!doctype html><html lang="en"><meta charset="utf-8"><title>test</title><script type="module" src="/page.js"></script>`

const bundled = { files: undefined as Promise<ReadonlyMap<string, string>> | undefined }

/** The bridge leads to every port of 127.0.0.1. More files are given by path. */
export async function startPageServer(
  options: {
    bridge?: Partial<BridgeOptions>
    files?: ReadonlyMap<string, { readonly type: string; readonly body: Uint8Array }>
    scope?: Scope
  } = {},
): Promise<PageServer> {
  bundled.files ??= bundlePages()
  const scripts = await bundled.files
  const server = createServer((request, response) => {
    const path = (request.url ?? '').split('?')[0] ?? ''
    if (path === '/health') return
    const script = scripts.get(path.slice(1))
    const file = options.files?.get(path)
    if (file !== undefined) response.writeHead(200, { 'content-type': file.type }).end(file.body)
    else if (script !== undefined) response.writeHead(200, { 'content-type': 'text/javascript' }).end(script)
    else if (path === '/') response.writeHead(200, { 'content-type': 'text/html' }).end(page)
    else if (path === '/favicon.ico') response.writeHead(204).end()
    else response.writeHead(404).end()
  })
  const sockets = new Set<Socket>()
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const events: BridgeEvent[] = []
  const bridge = createBridge({
    targets: { allow: ['127.0.0.1:*'] },
    origins: [`http://127.0.0.1:${port}`, `http://${insecureHost}:${port}`],
    pathPrefix: '/ssh',
    ...options.bridge,
    onEvent: (event) => void events.push(event),
  })
  bridge.attach(server)
  registerCleanup(
    async () => {
      await bridge.close()
      server.closeAllConnections()
      server.close()
    },
    { scope: options.scope },
  )
  const host = `:${port}/`
  return {
    port,
    url: `http://127.0.0.1${host}`,
    insecureUrl: `http://${insecureHost}${host}`,
    bridge,
    events,
    kill() {
      for (const socket of sockets) socket.destroy()
    },
  }
}
