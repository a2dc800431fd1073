/** What one client can take of the bridge, before its upgrade and after it, and what the log says of those who were refused. */
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { connect, type Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { type Bridge, createBridge, Tickets } from '@sshblock/bridge'
import { describe, expect, it, vi } from 'vitest'
import { systemConnect } from '../../packages/bridge/src/dial.ts'
import {
  maxBufferedChunks,
  maxPendingPongs,
  moreSocketsPerAddress,
} from '../../packages/bridge/src/limits.ts'
import { registerCleanup } from '../support/cleanup.ts'
import { echo, frame, origin, rawUpgrade, startBridge, startTarget, until, visit } from './support/bridges.ts'

function silent(port: number, localAddress: string): Socket {
  const socket = connect({ port, host: '127.0.0.1', localAddress })
  socket.on('error', () => {})
  // A FIN is seen by who reads.
  socket.resume()
  registerCleanup(() => {
    socket.destroy()
  })
  return socket
}

describe('connections that say nothing', () => {
  it('take no more places than one address has, and leave the others theirs', async () => {
    const target = await startTarget(echo)
    const { port, url, bridge } = await startBridge({
      targets: { fixed: target.name },
      maxConnections: 20,
      maxConnectionsPerAddress: 4,
    })
    const sockets = Array.from({ length: 300 }, () => silent(port, '127.0.0.2'))
    const kept = 4 + moreSocketsPerAddress
    await until(
      () => sockets.filter(({ closed }) => closed).length === 300 - kept,
      'those beyond the limit to be dropped',
    )
    expect(bridge.statistics().refusedConnections).toBe(300 - kept)
    const client = visit(url)
    client.socket.on('open', () => client.socket.send(Buffer.from('x')))
    await client.bytes(1)
    // Places are given back.
    for (const socket of sockets) socket.destroy()
    const next = await once(silent(port, '127.0.0.2'), 'connect').then(() => rawUpgrade(port))
    expect(next.status).toBe(101)
  })

  it('of a trusted proxy are not counted: everybody comes through it', async () => {
    const { port, bridge } = await startBridge({
      targets: { fixed: '127.0.0.1:9' },
      maxConnectionsPerAddress: 1,
      trustedProxies: ['127.0.0.2'],
    })
    const sockets = Array.from({ length: 1 + moreSocketsPerAddress + 5 }, () => silent(port, '127.0.0.2'))
    await Promise.all(sockets.map((socket) => once(socket, 'connect')))
    expect((await rawUpgrade(port)).status).toBe(101)
    expect(sockets.some(({ closed }) => closed)).toBe(false)
    expect(bridge.statistics().refusedConnections).toBe(0)
  })

  it.each([
    ['nothing', () => {}],
    ['a header line now and then', (socket: Socket) => socket.write(`X-More: 1\r\n`)],
  ])('of which comes %s are ended after the deadline', async (_, sayMore) => {
    const { port } = await startBridge({ targets: { fixed: '127.0.0.1:9' }, handshakeTimeoutMs: 200 })
    const socket = silent(port, '127.0.0.1')
    socket.write(`GET / HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n`)
    const timer = setInterval(() => sayMore(socket), 20)
    registerCleanup(() => clearInterval(timer))
    await once(socket, 'close')
  })
})

/** A client that the bridge takes for one, over a stream of ours: what it sends arrives as it is cut here. */
function upgradedOver(bridge: Bridge): {
  client: Duplex
  answer: () => Buffer
  readAnswers: (yes: boolean) => void
} {
  const answers: Buffer[] = []
  const held: (() => void)[] = []
  let isRead = true
  const client = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      answers.push(chunk)
      if (isRead) done()
      else held.push(done)
    },
  })
  client.on('error', () => {})
  const request = {
    method: 'GET',
    url: '/',
    socket: { remoteAddress: '127.0.0.1', localAddress: '127.0.0.1', localPort: 80 },
    headers: {
      host: 'localhost',
      origin,
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
    },
  }
  bridge.handleUpgrade(request as unknown as IncomingMessage, client, Buffer.alloc(0))
  return {
    client,
    answer: () => Buffer.concat(answers),
    readAnswers: (yes) => {
      isRead = yes
      for (const done of held.splice(0)) done()
    },
  }
}

describe('a client that is let in', () => {
  it('cannot make the bridge hold a message in more pieces than it may have', async () => {
    const target = await startTarget()
    const { bridge, event } = await startBridge({ targets: { fixed: target.name } })
    const { client, answer } = upgradedOver(bridge)
    await event('connected')
    const message = frame(2, Buffer.alloc(maxBufferedChunks + 100))
    const head = answer().length
    for (const byte of message) client.push(Buffer.from([byte]))
    await until(() => answer().length > head, 'a close frame')
    expect(answer().readUInt16BE(head + 2)).toBe(1008)
    expect(bridge.statistics().bytesToTarget).toBe(0)
    client.destroy()
    await bridge.close()
  })

  it('is dropped where it pings and does not read the pongs', async () => {
    const target = await startTarget()
    const { bridge, event } = await startBridge({ targets: { fixed: target.name } })
    const { client, readAnswers } = upgradedOver(bridge)
    await event('connected')
    // As many as it likes while it reads them.
    for (let i = 0; i < 3 * maxPendingPongs; i++) {
      client.push(frame(9, Buffer.alloc(125)))
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(client.destroyed).toBe(false)
    readAnswers(false)
    for (let i = 0; i < maxPendingPongs + 2; i++) client.push(frame(9, Buffer.alloc(125)))
    await until(() => client.destroyed, 'the end')
    expect(await event('ended')).toMatchObject({ code: 1006 })
  })

  it('with a ticket has it once, however many try it at the same time', async () => {
    const target = await startTarget(echo)
    const tickets = new Tickets()
    const { url, bridge } = await startBridge({ targets: { fixed: target.name }, tickets })
    const protocols = ['binary', `ticket.${tickets.issue()}`]
    const clients = Array.from({ length: 12 }, () => visit(url, { protocols }))
    await until(() => bridge.statistics().refusedConnections === 11, 'the others to be refused')
    const codes = await Promise.all(
      clients.map(({ closed }) =>
        Promise.race([
          closed.then(({ code }) => code),
          until(() => bridge.statistics().connections === 1, 'one').then(() => 0),
        ]),
      ),
    )
    expect(bridge.statistics()).toMatchObject({ connections: 1, connectedConnections: 1 })
    expect(codes.filter((code) => code !== 0 && code !== 4401)).toEqual([])
  })
})

it('a bridge is reached from its own machine alone unless told otherwise', async () => {
  const bridge = createBridge({ targets: { fixed: '127.0.0.1:9' }, origins: [origin] })
  registerCleanup(() => bridge.close())
  expect(await bridge.listen({ port: 0 })).toMatchObject({ host: '127.0.0.1' })
})

it.each(['0.0.0.0', '::'])(
  '%s is no target, even where a network of the operator holds it',
  async (address) => {
    const connectTcp = vi.fn(systemConnect)
    const { url } = await startBridge({
      targets: { allow: ['*:22'] },
      networks: ['0.0.0.0/0', '::/0'],
      resolve: async () => [address],
      connect: connectTcp,
    })
    const host = address === '::' ? '[::]' : address
    expect((await visit(`${url}/ssh.example.org:22`).closed).code).toBe(4403)
    expect((await visit(`${url}/${host}:22`).closed).code).toBe(4403)
    expect(connectTcp).not.toHaveBeenCalled()
  },
)

describe('the event of a client that was refused after the upgrade', () => {
  it.each([
    ['with another code', Buffer.from([0x03, 0xe8, 0x6f, 0x6b])],
    ['by breaking off', undefined],
  ])('says why, though the client answers %s', async (_, answer) => {
    const { port, event } = await startBridge({
      targets: { fixed: '127.0.0.1:9' },
      tickets: new Tickets(),
    })
    const { socket } = await rawUpgrade(port)
    await vi.waitFor(() => expect(socket.bytesRead).toBeGreaterThan(140))
    if (answer === undefined) socket.destroy()
    else socket.write(frame(8, answer))
    expect(await event('ended')).toMatchObject({
      code: 4401,
      reason: expect.stringMatching(/^a ticket is needed/),
    })
  })
})
