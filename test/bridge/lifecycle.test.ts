/** Limits, counters, health, the end, and many connections at once. */
import { get } from 'node:http'
import { createBridge } from '@sshblock/bridge'
import { describe, expect, it } from 'vitest'
import { echo, origin, rawUpgrade, startBridge, startTarget, until, visit } from './support/bridges.ts'

function health(
  port: number,
  path = '/health',
  headers: Record<string, string> = {},
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    get({ port, host: '127.0.0.1', path, agent: false, headers }, async (response) => {
      let body = ''
      for await (const chunk of response) body += chunk
      resolve({ status: response.statusCode ?? 0, body })
    }).on('error', reject)
  })
}

describe('limits', () => {
  it('of connections from one address: the next is told 4429, and has a place when one left', async () => {
    const target = await startTarget(echo)
    const { url, bridge } = await startBridge({
      targets: { fixed: target.name },
      maxConnectionsPerAddress: 2,
    })
    const [first, second] = [visit(url), visit(url)]
    await Promise.all([first.opened, second.opened])
    expect(await visit(url).closed).toEqual({ code: 4429, reason: 'too many connections from your address' })
    first.socket.close()
    await until(() => bridge.statistics().connections === 1, 'the first one to go')
    const third = visit(url)
    await third.opened
    third.socket.send(Buffer.from('x'))
    await third.bytes(1)
  })

  it('of one address do not keep another out', async () => {
    const target = await startTarget(echo)
    const { url } = await startBridge({
      targets: { fixed: target.name },
      maxConnectionsPerAddress: 1,
      trustedProxies: ['127.0.0.1'],
    })
    const from = (address: string) => visit(url, { headers: { 'X-Forwarded-For': address } })
    await from('192.0.2.1').opened
    expect((await from('192.0.2.1').closed).code).toBe(4429)
    const other = from('192.0.2.2')
    other.socket.on('open', () => other.socket.send(Buffer.from('x')))
    await other.bytes(1)
  })

  it('of all connections', async () => {
    const target = await startTarget(echo)
    const { url, bridge } = await startBridge({ targets: { fixed: target.name }, maxConnections: 3 })
    const clients = [visit(url), visit(url), visit(url)]
    await Promise.all(clients.map(({ opened }) => opened))
    expect(await visit(url).closed).toEqual({ code: 4429, reason: 'too many connections' })
    await until(() => bridge.statistics().connections === 3, 'the refused one to go')
    expect(bridge.statistics()).toMatchObject({ refusedConnections: 1 })
  })

  it('of those that are told why: beyond them 503', async () => {
    const target = await startTarget()
    const { port, url } = await startBridge({ targets: { fixed: target.name }, maxConnections: 1 })
    await visit(url).opened
    // They never answer the close frame, and so keep their places until the bridge gives them up.
    const answers = []
    for (let i = 0; i < 65; i++) answers.push((await rawUpgrade(port)).status)
    expect(answers.slice(0, 64)).toEqual(Array(64).fill(101))
    expect(answers[64]).toBe(503)
  })

  it.each([
    { maxConnections: 0 },
    { maxConnectionsPerAddress: 1.5 },
    { highWaterBytes: Number.NaN },
    { idleTimeoutMs: 0 },
    { firstByteTimeoutMs: Number.POSITIVE_INFINITY },
    { connectTimeoutMs: 2 ** 31 },
    { networks: ['10.0.0.1/8'] },
    { trustedProxies: ['proxy'] },
    { pathPrefix: 'ssh' },
    { healthPath: 'health' },
    { hosts: ['http://x'] },
  ])('that make no sense are refused by name: %j', (options) => {
    expect(() => createBridge({ targets: { fixed: 'a:1' }, origins: [origin], ...options })).toThrow(
      new RegExp(Object.keys(options)[0]!.replace(/s$/, '')),
    )
  })
})

describe('health', () => {
  it('tells counters, to our own host alone', async () => {
    const target = await startTarget(echo)
    const { port, url } = await startBridge({ targets: { fixed: target.name } })
    const client = visit(url)
    await client.opened
    client.socket.send(Buffer.from('12345'))
    await client.bytes(5)
    await visit(url, { origin: 'https://evil.example' }).closed
    const { status, body } = await health(port)
    expect(status).toBe(200)
    expect(JSON.parse(body)).toEqual({
      status: 'up',
      connections: 1,
      connectedConnections: 1,
      refusedConnections: 1,
      bytesToTarget: 5,
      bytesToClient: 5,
      heldBytes: 0,
    })
    expect((await health(port, '/health', { Host: 'evil.example' })).status).toBe(403)
    expect((await health(port, '/other')).status).toBe(404)
  })

  it('is not told where that was asked for', async () => {
    const { port } = await startBridge({ targets: { fixed: '127.0.0.1:9' }, healthPath: false })
    expect((await health(port)).status).toBe(404)
  })
})

describe('events', () => {
  it('tell who was connected to what, and how it ended', async () => {
    const target = await startTarget(echo)
    const { url, events, event } = await startBridge({ targets: { named: { db: target.name } } })
    const client = visit(`${url}/db`)
    client.socket.on('open', () => client.socket.send(Buffer.from('abc')))
    await client.bytes(3)
    client.socket.close(1000, 'done\u202e')
    await event('ended')
    const at = { connection: 1, remoteAddress: '127.0.0.1', target: { host: '127.0.0.1', port: target.port } }
    expect(events).toEqual([
      { type: 'connected', ...at },
      { type: 'ended', ...at, code: 1000, reason: 'done\\u{202e}', bytesToTarget: 3, bytesToClient: 3 },
    ])
  })
})

describe('the end of the bridge', () => {
  it('tells everybody 1001, delivers what was on its way, and leaves nothing open', async () => {
    const target = await startTarget(echo)
    const { url, bridge, port } = await startBridge({ targets: { fixed: target.name } })
    const clients = [visit(url), visit(url)]
    for (const client of clients) {
      await client.opened
      client.socket.send(Buffer.from('x'))
      await client.bytes(1)
    }
    const closing = bridge.close()
    expect(bridge.close()).toBe(closing)
    for (const { closed } of clients) {
      expect(await closed).toEqual({ code: 1001, reason: 'the bridge is shutting down' })
    }
    await closing
    await until(
      () => target.sockets.every(({ destroyed, readableEnded }) => destroyed || readableEnded),
      'the target sockets',
    )
    expect(bridge.statistics().connections).toBe(0)
    await expect(health(port)).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    await expect(bridge.listen({ port: 0 })).rejects.toMatchObject({ code: 'ERR_USAGE' })
  })

  it('does not wait for a client that waits for its target', async () => {
    const { url, bridge } = await startBridge({
      targets: { fixed: 'ssh.example.org:22' },
      resolve: () => new Promise(() => {}),
    })
    const client = visit(url)
    await client.opened
    await bridge.close()
    expect((await client.closed).code).toBe(1001)
  })
})

it('serves 200 connections at once, each its own bytes', async () => {
  const target = await startTarget(echo)
  target.server.maxConnections = 1000
  const { url, bridge } = await startBridge({
    targets: { fixed: target.name },
    maxConnectionsPerAddress: 300,
  })
  const clients = Array.from({ length: 200 }, () => visit(url))
  await Promise.all(clients.map(({ opened }) => opened))
  clients.forEach(({ socket }, i) => {
    socket.send(Buffer.alloc(10_000 + i, i))
  })
  const got = await Promise.all(clients.map((client, i) => client.bytes(10_000 + i)))
  for (const [i, bytes] of got.entries()) expect(bytes.equals(Buffer.alloc(10_000 + i, i))).toBe(true)
  expect(bridge.statistics().connections).toBe(200)
  for (const { socket } of clients) socket.close()
  await until(() => bridge.statistics().connections === 0, 'all to end')
})
