/** Chromium's two kinds of WebSocket against relays that refuse, break, fall silent and say the wrong thing: one set of errors. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import type { Page } from 'playwright-core'
import { beforeAll, describe, expect, it } from 'vitest'
import { type WebSocket, WebSocketServer } from 'ws'
import { registerCleanup } from '../support/cleanup.ts'
import { describeWith } from '../support/requirements.ts'
import type { Deed } from './page/relay-scenarios.ts'
import { needsChromium, startChromium } from './support/chromium.ts'
import { startPageServer } from './support/page-server.ts'
import { outcome } from './support/run-scenario.ts'

/** What the relay does, by the path that is asked for. */
const deeds: Record<string, (client: WebSocket, socket: Socket) => void> = {
  '/echo': (client) => client.on('message', (data) => client.send(data, { binary: true })),
  '/text': (client) => client.send('SSH-2.0-text\r\n'),
  '/4403': (client) => client.close(4403, 'not there\u202e'),
  '/4999': (client) => client.close(4999),
  '/1000': (client) => {
    client.send(Buffer.from('last'))
    client.close(1000)
  },
  '/1013': (client) => client.close(1013, 'try again'),
  '/reset': (_, socket) => void setTimeout(() => socket.resetAndDestroy(), 20),
  '/garbage': (_, socket) => void socket.write(Buffer.from([0xf3, 0x05, 1, 2, 3, 4, 5])),
  '/deaf': (client) => client.pause(),
}

async function startRelay(): Promise<string> {
  const server = createServer()
  const sockets = new Set<Socket>()
  const relay = new WebSocketServer({
    noServer: true,
    handleProtocols: (offered, request) => (request.url === '/no-protocol' ? false : [...offered][0]!),
  })
  server.on('upgrade', (request, socket, head) => {
    if (request.url === '/silent') return
    if (request.url === '/403') return socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n')
    if (request.url === '/hang-up') return socket.destroy()
    relay.handleUpgrade(request, socket, head, (client) => {
      client.on('error', () => {})
      deeds[request.url ?? '']?.(client, socket as Socket)
    })
  })
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  registerCleanup(
    () => {
      for (const socket of sockets) socket.destroy()
      server.close()
    },
    { scope: 'file' },
  )
  return `ws://127.0.0.1:${(server.address() as AddressInfo).port}`
}

describeWith([needsChromium()], 'in Chromium', () => {
  let page: Page
  let relay: string
  beforeAll(async () => {
    const [chromium, server, url] = await Promise.all([
      startChromium(),
      startPageServer({ scope: 'file' }),
      startRelay(),
    ])
    relay = url
    page = await chromium.visit(server.url)
  })

  describe.each([
    ['a WebSocketStream', false],
    ['a classic WebSocket', true],
  ])('%s', (_kind, classic) => {
    it.each([
      [
        'without a handshake',
        '/403',
        { code: 'ERR_WEBSOCKET_FAILED', message: /refused the handshake.*1006/ },
      ],
      ['that hangs up', '/hang-up', { code: 'ERR_WEBSOCKET_FAILED', message: /1006/ }],
      ['that chooses no sub-protocol', '/no-protocol', { code: 'ERR_WEBSOCKET_FAILED', message: /1006/ }],
    ])('to a relay %s does not open', async (_, path, { code, message }) => {
      const result = await outcome(page, 'throughRelay', relay + path, { deed: 'wait', classic })
      expect(result).toMatchObject({
        error: { name: 'WebSocketClosedError', code, message: expect.stringMatching(message) },
      })
      expect((result as { error: { message: string } }).error.message).toContain(relay + path)
    })

    it('opens without a sub-protocol where none is offered', async () => {
      const options = { deed: 'wait' as const, classic, protocols: [] }
      expect(await outcome(page, 'throughRelay', `${relay}/1000`, options)).toMatchObject({
        value: { text: 'last', cause: undefined },
      })
    })

    it.each([
      ['before', { abortAfterMs: 0 }, 'ABORT_ERR'],
      ['while it connects', { abortAfterMs: 60 }, 'ABORT_ERR'],
      ['by its deadline', { connectTimeoutMs: 60 }, 'ERR_SSH_TIMEOUT'],
    ])('is given up %s', async (_, more, code) => {
      const result = await outcome(page, 'throughRelay', `${relay}/silent`, {
        deed: 'wait',
        classic,
        ...more,
      })
      expect(result).toMatchObject({ error: { code } })
    })

    it.each([
      ['/text', classic ? 'ERR_WEBSOCKET_TEXT' : 'ERR_STREAM_FAILED', undefined],
      ['/4403', 'ERR_WEBSOCKET_FORBIDDEN', 4403],
      ['/4999', 'ERR_WEBSOCKET_CLOSED', 4999],
      ['/1013', 'ERR_WEBSOCKET_CLOSED', 1013],
      ['/reset', 'ERR_WEBSOCKET_FAILED', 1006],
      ['/garbage', 'ERR_WEBSOCKET_FAILED', 1006],
    ])('of which a relay says %s ends once, with %s', async (path, code, closeCode) => {
      const result = await outcome(page, 'throughRelay', relay + path, { deed: 'wait', classic })
      expect(result).toMatchObject({ value: { ends: 1, received: 0, cause: { code, closeCode } } })
      if (path === '/4403') expect(JSON.stringify(result)).toContain('u{202e}')
    })

    it.each<[Deed, string, number]>([
      ['echo and close', '/echo', 3],
      ['echo and abort', '/echo', 3],
      ['large', '/echo', 8 * 1024 * 1024],
      ['tiny', '/echo', 1000],
      ['close again', '/echo', 0],
      ['fill and close', '/deaf', 0],
    ])('%s: ends once, without a cause', async (deed, path, received) => {
      const result = await outcome(page, 'throughRelay', relay + path, { deed, classic })
      expect(result).toMatchObject({ value: { ends: 1, cause: undefined, received } })
    })
  })
})
