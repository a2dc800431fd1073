/** What is refused before the upgrade, and what after it, before anything is connected to. */
import { once } from 'node:events'
import { createServer, get, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createBridge, type Resolve, Tickets } from '@sshblock/bridge'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { parseNetwork } from '../../packages/bridge/src/address.ts'
import { clientAddress } from '../../packages/bridge/src/client-address.ts'
import { systemConnect } from '../../packages/bridge/src/dial.ts'
import { registerCleanup } from '../support/cleanup.ts'
import { echo, origin, rawUpgrade, startBridge, startTarget, visit } from './support/bridges.ts'

const connect = vi.fn(systemConnect)
const resolve = vi.fn<Resolve>(async () => ['192.0.2.1'])
afterEach(() => {
  connect.mockClear()
  resolve.mockClear()
})
const spies = { connect, resolve }

describe('the origin', () => {
  it.each([
    ['none', undefined],
    ['null', 'null'],
    ['a longer name', 'https://evil-app.example.org'],
    ['a name behind ours', 'https://app.example.org.evil.example'],
    ['a part of ours', 'https://example.org'],
    ['another port', 'https://app.example.org:8443'],
    ['the port that is meant anyway', 'https://app.example.org:443'],
    ['another scheme', 'http://app.example.org'],
    ['another case', 'https://APP.example.org'],
    ['a path', 'https://app.example.org/'],
    ['a space', ' https://app.example.org x'],
    ['two of them', [origin, 'https://evil.example']],
  ])('%s is refused with 403 before anything is resolved or connected to', async (_, value) => {
    const target = await startTarget()
    const { port, events } = await startBridge({ targets: { fixed: target.name }, ...spies })
    expect((await rawUpgrade(port, { Origin: value })).status).toBe(403)
    expect(connect).not.toHaveBeenCalled()
    expect(resolve).not.toHaveBeenCalled()
    expect(events).toEqual([{ type: 'refused', remoteAddress: '127.0.0.1', status: 403, reason: 'origin' }])
    // The spy would have seen it.
    expect((await rawUpgrade(port)).status).toBe(101)
    await target.connection()
    expect(connect).toHaveBeenCalledTimes(1)
  })

  it('may be missing where that was asked for, but not be a wrong one', async () => {
    const target = await startTarget()
    const { port } = await startBridge({ targets: { fixed: target.name }, allowMissingOrigin: true })
    expect((await rawUpgrade(port, { Origin: undefined })).status).toBe(101)
    expect((await rawUpgrade(port, { Origin: 'null' })).status).toBe(403)
  })

  it.each([
    '*',
    'null',
    'https://app.example.org/',
    'app.example.org',
    'https://*.example.org ',
    'HTTPS://app.example.org',
  ])('is not configured as %j, which no browser sends', (text) => {
    expect(() => createBridge({ targets: { fixed: 'a:1' }, origins: [text] })).toThrow(/origin/)
  })
})

describe('the origin of an extension or application', () => {
  it.each([
    'chrome-extension://iodihamcpbpeioajjeobimgagajmlibd',
    'moz-extension://6f2d6f5c-6a1c-4b7c-9a63-000000000000',
    'tauri://localhost',
    'app://localhost:8080',
  ])('%s is let in where it is listed, and is no Host of ours', async (value) => {
    const target = await startTarget()
    const { port } = await startBridge({ targets: { fixed: target.name }, origins: [value] })
    expect((await rawUpgrade(port, { Origin: value })).status).toBe(101)
    expect((await rawUpgrade(port, { Origin: `${value}x` })).status).toBe(403)
    expect((await rawUpgrade(port, { Origin: value, Host: value.split('/')[2] })).status).toBe(403)
  })

  it.each([
    'chrome-extension://',
    'chrome-extension://abc/',
    'file://host',
    'ws://host',
    'app://a b',
    'App://host',
  ])('is not configured as %j', (text) => {
    expect(() => createBridge({ targets: { fixed: 'a:1' }, origins: [text] })).toThrow(/origin/)
  })
})

describe('the host', () => {
  it.each([
    ['a name that points here', 'evil.example'],
    ['with our port', 'evil.example:PORT'],
    ['this machine with another port', 'localhost:1'],
    ['a name behind ours', 'localhost.evil.example:PORT'],
    ['none', undefined],
  ])('%s is refused with 403', async (_, host) => {
    const { port } = await startBridge({ targets: { fixed: '127.0.0.1:9' }, ...spies })
    const { status } = await rawUpgrade(port, { Host: host?.replace('PORT', String(port)) })
    expect(status).toBe(403)
    expect(connect).not.toHaveBeenCalled()
  })

  it.each([
    'localhost:PORT',
    '127.0.0.1:PORT',
    '[::1]:PORT',
    'app.example.org',
    'bridge.example.org:8443',
    'BRIDGE.example.org:8443',
  ])('%s is ours', async (host) => {
    const target = await startTarget()
    const { port } = await startBridge({
      targets: { fixed: target.name },
      hosts: ['bridge.example.org:8443'],
    })
    expect((await rawUpgrade(port, { Host: host.replace('PORT', String(port)) })).status).toBe(101)
  })
})

describe('the address of a target', () => {
  it.each([
    ['loopback', ['127.0.0.1', '127.8.8.8', '::1']],
    ['link-local', ['169.254.169.254', 'fe80::1']],
    ['private', ['10.0.0.1', '172.16.0.1', '192.168.0.1', '100.64.0.1']],
    ['unique local', ['fd00::1']],
    ['IPv4-mapped', ['::ffff:127.0.0.1', '::ffff:8.8.8.8']],
    ['NAT64', ['64:ff9b::127.0.0.1', '64:ff9b::808:808']],
    ['of this host', ['0.0.0.0', '::']],
  ])('is not %s, by whatever name it came', async (_, addresses) => {
    resolve.mockImplementation(async () => addresses)
    const { url } = await startBridge({ targets: { allow: ['*:22', '*.example.org:22'] }, ...spies })
    expect(await visit(`${url}/ssh.example.org:22`).closed).toMatchObject({ code: 4403 })
    for (const address of addresses) {
      const host = address.includes(':') ? `[${address}]` : address
      expect((await visit(`${url}/${host}:22`).closed).code).toBe(4403)
    }
    expect(connect).not.toHaveBeenCalled()
  })

  it.each([
    '2130706433',
    '0x7f000001',
    '0x7f.0.0.1',
    '0177.0.0.1',
    '127.1',
    '017700000001',
    '127.0.0.1.',
    '%31%32%37.1',
    '[fe80::1%25lo]',
    '[127.0.0.1]',
  ])('is never read from %s, nor is that looked up', async (host) => {
    const { url } = await startBridge({ targets: { allow: ['*:22'] }, ...spies })
    expect((await visit(`${url}/${host}:22`).closed).code).toBe(4404)
    expect(resolve).not.toHaveBeenCalled()
    expect(connect).not.toHaveBeenCalled()
  })

  it('is resolved once, and the one that was checked is the one connected to, though the name flips', async () => {
    const target = await startTarget(echo)
    let answers = 0
    resolve.mockImplementation(async () => (answers++ % 2 === 0 ? ['198.51.100.7'] : ['127.0.0.1']))
    const seen: string[] = []
    const { url } = await startBridge({
      targets: { allow: [`flip.example.org:${target.port}`] },
      networks: ['198.51.100.0/24'],
      resolve,
      // Stands for the network: the checked address leads to the target.
      connect: (address, port) => {
        seen.push(address)
        return systemConnect('127.0.0.1', port)
      },
    })
    const client = visit(`${url}/flip.example.org:${target.port}`)
    await client.opened
    client.socket.send(Buffer.from('through'))
    expect((await client.bytes(7)).toString()).toBe('through')
    expect(resolve).toHaveBeenCalledTimes(1)
    expect(seen).toEqual(['198.51.100.7'])
    // The other answer is refused.
    expect((await visit(`${url}/flip.example.org:${target.port}`).closed).code).toBe(4403)
    expect(seen).toHaveLength(1)
  })

  it('is the allowed one of several', async () => {
    const seen: string[] = []
    const target = await startTarget()
    const { url } = await startBridge({
      targets: { allow: ['*:22'] },
      resolve: async () => ['127.0.0.1', '10.0.0.1', '8.8.8.8', '::1'],
      connect: (address) => {
        seen.push(address)
        return systemConnect('127.0.0.1', target.port)
      },
    })
    await visit(`${url}/mixed.example.org:22`).opened
    await target.connection()
    expect(seen).toEqual(['8.8.8.8'])
  })

  it('may be a special one that the operator wrote, or one of a network that is allowed', async () => {
    const target = await startTarget(echo)
    const written = await startBridge({
      targets: { named: { disk: target.name, local: `localhost:${target.port}` } },
    })
    for (const name of ['disk', 'local']) {
      const client = visit(`${written.url}/${name}`)
      await client.opened
      client.socket.send(Buffer.from('x'))
      await client.bytes(1)
    }
    const byNetwork = await startBridge({
      targets: { allow: [`*:${target.port}`] },
      networks: ['127.0.0.0/8'],
    })
    const client = visit(`${byNetwork.url}/127.0.0.1:${target.port}`)
    await client.opened
    client.socket.send(Buffer.from('x'))
    await client.bytes(1)
  })

  it('that an exact entry allows is not allowed for names that a wildcard lets through', async () => {
    const target = await startTarget()
    const { url } = await startBridge({
      targets: { allow: [target.name, '*:22'] },
      resolve: async () => ['127.0.0.1'],
      connect,
    })
    expect((await visit(`${url}/evil.example:22`).closed).code).toBe(4403)
    expect(connect).not.toHaveBeenCalled()
  })
})

describe('the path', () => {
  it.each([
    ['a target that is not listed', '/other.example.org:22', 4403],
    ['another port', '/ssh.example.org:23', 4403],
    ['a name below a listed one', '/x.ssh.example.org:22', 4403],
    ['a name that ends alike', '/evilssh.example.org:22', 4403],
    ['the domain of a wildcard itself', '/lab.example:22', 4403],
    ['no port', '/ssh.example.org', 4404],
    ['port 0', '/ssh.example.org:0', 4404],
    ['port 65536', '/ssh.example.org:65536', 4404],
    ['nothing', '/', 4404],
    ['a wrong escape', '/%zz:22', 4404],
    ['something far too long', `/${'a'.repeat(600)}:22`, 4404],
    ['a newline', '/ssh.example.org%0d%0a:22', 4404],
    ['a user', '/user@ssh.example.org:22', 4404],
  ])('with %s is closed with a code that says so', async (_, path, code) => {
    const { url } = await startBridge({
      targets: { allow: ['ssh.example.org:22', '*.lab.example:22'] },
      ...spies,
    })
    expect((await visit(`${url}${path}`).closed).code).toBe(code)
    expect(connect).not.toHaveBeenCalled()
    expect(resolve).not.toHaveBeenCalled()
  })

  it('names a target whatever its case, with and without the dot of the root', async () => {
    resolve.mockImplementation(async () => [])
    const { url } = await startBridge({
      targets: { allow: ['SSH.Example.org:22', '*.lab.example:*'] },
      ...spies,
    })
    for (const path of ['/ssh.EXAMPLE.org:22', '/ssh.example.org.:22', '/a.b.lab.example:8022']) {
      expect((await visit(`${url}${path}`).closed).code).toBe(4502)
    }
    expect(resolve.mock.calls.map(([host]) => host)).toEqual([
      'ssh.example.org',
      'ssh.example.org',
      'a.b.lab.example',
    ])
  })

  it('never reaches a property of an object', async () => {
    const { url } = await startBridge({ targets: { named: { db: '127.0.0.1:9' } } })
    for (const name of ['__proto__', 'constructor', 'toString']) {
      expect((await visit(`${url}/${name}`).closed).code).toBe(4404)
    }
  })

  it.each([
    'host',
    'host:',
    ':22',
    'host:0',
    'host:99999',
    '::1:22',
    '127.1:22',
    'a b:22',
    '*:22',
    'user@host:22',
  ])('is not configured as %j', (text) => {
    expect(() => createBridge({ targets: { fixed: text }, origins: [origin] })).toThrow(/host:port/)
  })
})

describe('a ticket', () => {
  it('lets in once, as sub-protocol or as bearer, and is never sent back', async () => {
    const target = await startTarget(echo)
    const tickets = new Tickets()
    const { url, port } = await startBridge({ targets: { fixed: target.name }, tickets, connect })
    const ticket = tickets.issue()
    const first = visit(`${url}/`, { protocols: ['binary', `ticket.${ticket}`] })
    await first.opened
    expect(first.socket.protocol).toBe('binary')
    first.socket.send(Buffer.from('in'))
    await first.bytes(2)
    expect(connect).toHaveBeenCalledTimes(1)
    expect(await visit(`${url}/`, { protocols: ['binary', `ticket.${ticket}`] }).closed).toMatchObject({
      code: 4401,
    })
    const bearer = await rawUpgrade(port, { Authorization: `Bearer ${tickets.issue()}` })
    expect(bearer.status).toBe(101)
    await vi.waitFor(() => expect(connect).toHaveBeenCalledTimes(2))
    const onlyTicket = tickets.issue()
    const { head } = await rawUpgrade(port, { 'Sec-WebSocket-Protocol': `ticket.${onlyTicket}` })
    expect(head).not.toContain(onlyTicket)
  })

  it.each([
    ['none', () => []],
    ['a wrong one', () => ['ticket.x']],
    ['two', (tickets: Tickets) => [`ticket.${tickets.issue()}`, `ticket.${tickets.issue()}`]],
    ['one for another target', (tickets: Tickets) => [`ticket.${tickets.issue({ path: 'other' })}`]],
  ])('%s is told by 4401 before the target is connected to', async (_, shown) => {
    const tickets = new Tickets()
    const { url } = await startBridge({
      targets: { named: { db: '127.0.0.1:9', other: '127.0.0.1:9' } },
      tickets,
      ...spies,
    })
    expect((await visit(`${url}/db`, { protocols: ['binary', ...shown(tickets)] }).closed).code).toBe(4401)
    expect(connect).not.toHaveBeenCalled()
  })

  it('expires, and the oldest go when there are too many', () => {
    let now = 0
    const tickets = new Tickets({ lifetimeMs: 1000, maxTickets: 2, now: () => now })
    const [a, b, c] = [tickets.issue(), tickets.issue({ path: '/db' }), tickets.issue()]
    expect(tickets.redeem(a!, '/')).toBe(false)
    expect(tickets.redeem(b!, '/db')).toBe(true)
    now = 999
    expect(tickets.size).toBe(1)
    now = 1000
    expect(tickets.redeem(c!, '/')).toBe(false)
    expect(tickets.size).toBe(0)
  })

  it('is used up by a try at the wrong target', () => {
    const tickets = new Tickets()
    const ticket = tickets.issue({ path: 'db' })
    expect(tickets.redeem(ticket, '/other')).toBe(false)
    expect(tickets.redeem(ticket, '/db')).toBe(false)
  })

  it('in the query is refused, and the query is in no event', async () => {
    const { url, events } = await startBridge({ targets: { fixed: '127.0.0.1:9' }, ...spies })
    const closed = await visit(`${url}/?token=hunter2`).closed
    expect(closed).toMatchObject({ code: 4404, reason: expect.stringMatching(/sub-protocol/) })
    await vi.waitFor(() => expect(events).toHaveLength(1))
    expect(JSON.stringify(events)).not.toContain('hunter2')
    expect(connect).not.toHaveBeenCalled()
  })
})

describe("the application's own authentication", () => {
  it('is asked with the request, the target and the ticket, before the target is connected to', async () => {
    const target = await startTarget(echo)
    const authenticate = vi.fn(async ({ request }: { request: IncomingMessage }) => {
      expect(connect).not.toHaveBeenCalled()
      return request.headers.cookie === 'session=good'
    })
    const { url } = await startBridge({ targets: { fixed: target.name }, authenticate, connect })
    const good = visit(`${url}/`, {
      headers: { Cookie: 'session=good' },
      protocols: ['binary', 'ticket.abc'],
    })
    await good.opened
    await target.connection()
    expect(authenticate.mock.calls[0]![0]).toMatchObject({
      ticket: 'abc',
      remoteAddress: '127.0.0.1',
      target: { host: '127.0.0.1', port: target.port },
    })
    connect.mockClear()
    expect((await visit(`${url}/`).closed).code).toBe(4401)
  })

  it.each([
    ['throws', () => Promise.reject(new Error('secret of the database')), 4401],
    [
      'throws at once',
      () => {
        throw new Error('secret of the database')
      },
      4401,
    ],
    ['answers something that is not true', () => 'yes' as never, 4401],
    ['does not answer', () => new Promise<boolean>(() => {}), 4408],
  ])('that %s keeps the client out', async (_, authenticate, code) => {
    const { url } = await startBridge({
      targets: { fixed: '127.0.0.1:9' },
      authenticate,
      connect,
      authenticateTimeoutMs: 50,
    })
    const closed = await visit(`${url}/`).closed
    expect(closed.code).toBe(code)
    expect(closed.reason).not.toContain('secret')
    expect(connect).not.toHaveBeenCalled()
  })
})

describe('sub-protocols', () => {
  it.each([
    [['binary'], 'binary'],
    [['base64', 'binary'], 'binary'],
    [[], ''],
  ])('of %j: %j is chosen, as websockify does', async (offered, chosen) => {
    const target = await startTarget(echo)
    const { url } = await startBridge({ targets: { fixed: target.name } })
    const client = visit(url, { protocols: offered })
    await client.opened
    expect(client.socket.protocol).toBe(chosen)
    client.socket.send(Buffer.from('x'))
    expect((await client.bytes(1)).toString()).toBe('x')
  })

  it('compression is not taken when it is offered', async () => {
    const target = await startTarget()
    const { port } = await startBridge({ targets: { fixed: target.name } })
    const { head, status } = await rawUpgrade(port, {
      'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits',
    })
    expect(status).toBe(101)
    expect(head).not.toMatch(/Sec-WebSocket-Extensions/i)
  })
})

describe('within an existing server', () => {
  it('takes what is below its prefix and leaves the rest to others', async () => {
    const target = await startTarget(echo)
    const bridge = createBridge({
      targets: { named: { db: target.name } },
      origins: [origin],
      pathPrefix: '/ssh',
      healthPath: '/ssh/health',
    })
    const server = createServer((request, response) => {
      if (request.url === '/page') response.end('page')
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    registerCleanup(async () => {
      await bridge.close()
      server.closeAllConnections()
      server.close()
    })
    bridge.attach(server)
    const { port } = server.address() as AddressInfo
    const client = visit(`ws://127.0.0.1:${port}/ssh/db`)
    await client.opened
    client.socket.send(Buffer.from('hello'))
    expect((await client.bytes(5)).toString()).toBe('hello')
    expect((await rawUpgrade(port, {}, '/sshx/db')).status).toBe(404)
    server.on('upgrade', (request, socket) => {
      if (request.url === '/hot') socket.end('HTTP/1.1 418 Teapot\r\n\r\n')
    })
    expect((await rawUpgrade(port, {}, '/hot')).status).toBe(418)
    const text = (path: string): Promise<string> =>
      new Promise((done) =>
        get({ port, host: '127.0.0.1', path, agent: false }, async (response) => {
          let body = ''
          for await (const chunk of response) body += chunk
          done(body)
        }),
      )
    expect(await text('/page')).toBe('page')
    expect(JSON.parse(await text('/ssh/health'))).toMatchObject({
      status: 'up',
      connections: 1,
      bytesToTarget: 5,
      bytesToClient: 5,
    })
    await bridge.close()
    expect(server.listening).toBe(true)
    expect(server.listenerCount('upgrade')).toBe(1)
  })
})

describe('behind a reverse proxy', () => {
  const request = (peer: string, forwarded?: string): IncomingMessage =>
    ({
      socket: { remoteAddress: peer },
      headers: forwarded === undefined ? {} : { 'x-forwarded-for': forwarded },
    }) as unknown as IncomingMessage
  const proxies = ['127.0.0.1', '10.0.0.0/8'].map((text) => parseNetwork(text)!)

  it.each([
    ['a stranger says what it likes', '192.0.2.1', '8.8.8.8', '192.0.2.1'],
    ['our proxy says who came', '127.0.0.1', '192.0.2.9', '192.0.2.9'],
    ['a dual-stack socket', '::ffff:127.0.0.1', '192.0.2.9', '192.0.2.9'],
    ['what the client wrote itself does not count', '127.0.0.1', '8.8.8.8, 192.0.2.9', '192.0.2.9'],
    ['a chain of ours', '127.0.0.1', '8.8.8.8, 192.0.2.9, 10.1.1.1', '192.0.2.9'],
    ['no header', '127.0.0.1', undefined, '127.0.0.1'],
    ['nonsense', '127.0.0.1', 'unknown, for=x', '127.0.0.1'],
  ])('%s', (_, peer, forwarded, expected) => {
    expect(clientAddress(request(peer, forwarded), proxies)).toBe(expected)
  })
})
