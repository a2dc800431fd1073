// Listening: how many connections, who is counted where, how a server closes, and that nothing stays behind.

import { once } from 'node:events'
import { existsSync, statSync } from 'node:fs'
import type { Socket } from 'node:net'
import { connect as netConnect } from 'node:net'
import { join } from 'node:path'
import type {
  ListenOptions,
  NodeClientOptions,
  ServerEvent,
  Session,
  SshServer,
} from '@sshblock/transport/node'
import {
  connect,
  connectOver,
  connectTcp,
  insecureAcceptAnyHostKey,
  listen,
  nodeCrypto,
} from '@sshblock/transport/node'
import { describe, expect, test, vi } from 'vitest'
import { ConnectionCounts } from '../../../packages/transport/src/session/connection-limits.ts'
import { registerCleanup } from '../../support/cleanup.ts'
import { tempDir } from '../../support/temp-dir.ts'
import { freshSigner, testHostKey } from './raw-client.ts'

const user = freshSigner()

async function start(
  options: Partial<ListenOptions> = {},
): Promise<{ server: SshServer; events: ServerEvent[] }> {
  const events: ServerEvent[] = []
  const server = await listen({
    hostKeys: [testHostKey()],
    auth: { publicKey: () => true, refusalFloorMs: 0 },
    exec: async (channel) => {
      await channel.readable().pipeTo(channel.writable())
      return 0
    },
    ...options,
    onEvent: (event, connection) => {
      events.push(event)
      options.onEvent?.(event, connection)
    },
  })
  registerCleanup(() => server.close())
  return { server, events }
}

const clientOptions = (port: number): NodeClientOptions => ({
  host: '127.0.0.1',
  port,
  username: 'ann',
  hostKeyPolicy: insecureAcceptAnyHostKey(),
  auth: [{ type: 'publickey', signer: user }],
})

async function login(server: SshServer, options: Partial<NodeClientOptions> = {}): Promise<Session> {
  const session = await connect({ ...clientOptions(server.port), ...options })
  registerCleanup(() => session.destroy())
  return session
}

async function rawSocket(server: SshServer): Promise<Socket> {
  const socket = netConnect(server.port, '127.0.0.1')
  socket.on('error', () => {})
  registerCleanup(() => void socket.destroy())
  await once(socket, 'connect')
  return socket
}

const read = async (socket: Socket): Promise<string> => {
  let text = ''
  for await (const chunk of socket) text += (chunk as Buffer).toString('latin1')
  return text
}

describe('listening', () => {
  test('on a free port of loopback unless told otherwise', async () => {
    const { server } = await start()
    expect(server.address).toEqual({ host: '127.0.0.1', port: server.port })
    expect(server.port).toBeGreaterThan(0)
    const session = await login(server)
    expect(session.info.hostKey.blob).toEqual(testHostKey().publicKeyBlob)
  })

  test('on IPv6, where an IPv4 client is known by its IPv4 address', async () => {
    const { server, events } = await start({ host: '::', auth: { publicKey: () => ({ from: '127.0.0.1' }) } })
    await login(server)
    expect(events.find((event) => event.type === 'login')?.login.address).toBe('127.0.0.1')
  })

  test('on a UNIX socket for its owner alone, whose clients have no address', async () => {
    const socketPath = join(tempDir('listen'), 'ssh.sock')
    const { server, events } = await start({ socketPath })
    expect(server.address).toEqual({ socketPath })
    expect(statSync(socketPath).mode & 0o777).toBe(0o600)
    const session = await connectOver(() => connectTcp({ socketPath }), {
      ...clientOptions(0),
      crypto: nodeCrypto,
    })
    expect(events.find((event) => event.type === 'login')?.login.address).toBeUndefined()
    await session.close()
    await server.close()
    expect(existsSync(socketPath)).toBe(false)
  })

  test('rejects with the reason of the system, or as a usage error', async () => {
    const { server } = await start()
    await expect(start({ port: server.port })).rejects.toMatchObject({
      code: 'EADDRINUSE',
      message: expect.stringContaining(String(server.port)),
    })
    await expect(start({ hostKeys: [] })).rejects.toMatchObject({ code: 'ERR_USAGE' })
  })
})

describe('limits', () => {
  test('one connection too many hears so in the protocol, and a place is free again when somebody leaves', async () => {
    const refusals: unknown[] = []
    const { server } = await start({ maxConnections: 2, onRefused: (refusal) => refusals.push(refusal) })
    const first = await login(server)
    await login(server)
    await expect(login(server)).rejects.toMatchObject({ code: 'ERR_SSH_DISCONNECTED', reason: 12 })
    expect(refusals).toEqual([{ address: '127.0.0.1', reason: 'connections' }])
    await first.close()
    await vi.waitFor(() => expect(server.statistics.connections).toBe(1))
    await login(server)
    expect(server.statistics).toMatchObject({ connections: 2, authenticated: 2, accepted: 3, refused: 1 })
  })

  test('connections of one address are counted apart', async () => {
    const { server } = await start({ maxConnectionsPerAddress: 1 })
    await login(server)
    await expect(login(server)).rejects.toMatchObject({ reason: 12 })
  })

  test('strangers are counted until they are authenticated, not longer', async () => {
    const { server } = await start({ maxUnauthenticated: 1 })
    await login(server)
    await login(server)
    const stranger = await rawSocket(server)
    await vi.waitFor(() => expect(server.statistics.connections).toBe(3))
    await expect(login(server)).rejects.toMatchObject({ reason: 12 })
    stranger.destroy()
    await vi.waitFor(() => expect(server.statistics.connections).toBe(2))
    await login(server)
  })

  test('a stranger who says nothing is told to go after the time for the handshake', async () => {
    const { server } = await start({ handshakeTimeoutMs: 80 })
    const socket = await rawSocket(server)
    expect(await read(socket)).toMatch(/^SSH-2\.0-sshblock_/)
    await vi.waitFor(() => expect(server.statistics.connections).toBe(0))
  })

  test('a refused client that never reads is let go of', async () => {
    const { server } = await start({ maxConnections: 0 })
    const sockets = await Promise.all(Array.from({ length: 100 }, () => rawSocket(server)))
    await Promise.all(sockets.map((socket) => (socket.closed ? undefined : once(socket.resume(), 'close'))))
    expect(server.statistics).toMatchObject({ connections: 0, accepted: 0, refused: 100 })
  })

  test('counts: refusals begin at random above half of the strangers allowed, and are certain at all of them', () => {
    let luck = 0.5
    const counts = new ConnectionCounts({ maxUnauthenticated: 10 }, () => luck)
    for (let i = 0; i < 5; i++) counts.opened('a')
    luck = 0
    expect(counts.refusal('b')).toBeUndefined()
    counts.opened('a')
    expect(counts.refusal('b')).toBe('unauthenticated')
    luck = 0.99
    expect(counts.refusal('b')).toBeUndefined()
    for (let i = 0; i < 4; i++) counts.opened('a')
    expect(counts.refusal('b')).toBe('unauthenticated')
    counts.authenticated()
    luck = 0.999
    expect(counts.refusal('b')).toBeUndefined()
  })

  test('counts: an address is forgotten with its last connection', () => {
    const counts = new ConnectionCounts({ maxConnectionsPerAddress: 1 }, () => 0.5)
    counts.opened(undefined)
    expect(counts.refusal(undefined)).toBe('address')
    expect(counts.refusal('a')).toBeUndefined()
    counts.closed(undefined, false)
    expect(counts.refusal(undefined)).toBeUndefined()
    expect([counts.connections, counts.unauthenticated]).toEqual([0, 0])
  })
})

describe('closing', () => {
  test('with grace lets what runs end, opens nothing new, then closes', async () => {
    const { server, events } = await start()
    const session = await login(server)
    const channel = await session.exec('cat')
    const collected = channel.collect()
    channel.write(new TextEncoder().encode('before '))
    const closed = server.close({ graceMs: 10_000 })
    await expect(session.exec('cat')).rejects.toMatchObject({ code: 'ERR_SSH_CHANNEL_OPEN' })
    await expect(login(server)).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    channel.write(new TextEncoder().encode('after'))
    channel.end()
    const { stdout, exit } = await collected
    expect([new TextDecoder().decode(stdout), exit]).toEqual(['before after', { type: 'status', status: 0 }])
    await closed
    await session.closed
    expect(session.failure).toMatchObject({ code: 'ERR_SSH_DISCONNECTED', reason: 11 })
    expect(events.at(-1)).toMatchObject({ type: 'closed', failure: { code: 'ERR_CLOSED' } })
  })

  test('with grace sends away at once who does nothing, or is not in yet', async () => {
    const { server } = await start()
    const session = await login(server)
    const stranger = await rawSocket(server)
    const words = read(stranger)
    await vi.waitFor(() => expect(server.statistics.connections).toBe(2))
    await server.close({ graceMs: 10_000 })
    await session.closed
    expect(await words).toMatch(/^SSH-2\.0-/)
  })

  test('when the grace is over, says goodbye to who is left', async () => {
    const { server } = await start()
    const session = await login(server)
    const channel = await session.exec('cat')
    await server.close({ graceMs: 50 })
    await channel.closed
    expect(session.failure).toMatchObject({ code: 'ERR_SSH_DISCONNECTED', reason: 11 })
  })

  test('without grace says goodbye to everybody, and twice is once', async () => {
    const { server } = await start()
    const sessions = await Promise.all([login(server), login(server)])
    await Promise.all([server.close(), server.close()])
    for (const session of sessions) await session.closed
    expect(server.statistics.connections).toBe(0)
  })

  test('a client with a window of 4 GiB that takes nothing fills no memory and does not hold the server', async () => {
    const { server } = await start({
      exec: async (channel) => {
        const writer = channel.writable().getWriter()
        for (;;) await writer.write(new Uint8Array(65_536))
      },
    })
    const duplex = await connectTcp({ host: '127.0.0.1', port: server.port })
    const session = await connectOver(async () => duplex, {
      ...clientOptions(server.port),
      crypto: nodeCrypto,
      window: { initialBytes: 2 ** 32 - 1, maxBytes: 2 ** 32 - 1 },
    })
    await session.exec('zeros')
    duplex.pause()
    const [connection] = [...server.connections]
    // The kernel takes some megabytes; then it is up to us to stop.
    await vi.waitFor(async () => {
      const sent = connection?.bytesSent
      await new Promise((resolve) => setTimeout(resolve, 100))
      expect(connection?.bytesSent).toBe(sent)
    }, 5000)
    expect(process.memoryUsage().arrayBuffers).toBeLessThan(64 * 1024 * 1024)
    await server.close()
    expect(connection?.failure).toMatchObject({ code: 'ERR_CLOSED' })
    duplex.close(true)
  })
})

describe('connections that end', () => {
  test('a client that is gone without a word is found by its silence', async () => {
    const { server, events } = await start({ keepalive: { intervalMs: 30, maxMissed: 2 } })
    const duplex = await connectTcp({ host: '127.0.0.1', port: server.port })
    await connectOver(async () => duplex, {
      ...clientOptions(server.port),
      crypto: nodeCrypto,
      keepalive: { intervalMs: 0 },
    })
    duplex.pause()
    await vi.waitFor(() => expect(server.statistics.connections).toBe(0), { timeout: 5000 })
    expect(events.at(-1)).toMatchObject({ type: 'closed', failure: { code: 'ERR_SSH_KEEPALIVE' } })
    duplex.close(true)
  })

  test('hundreds that are dropped at any point leave no connection, timer, socket or memory', async () => {
    const { server } = await start({
      handshakeTimeoutMs: 2000,
      maxUnauthenticated: 10_000,
      maxConnectionsPerAddress: 10_000,
    })
    // The first one warms everything up.
    await (await login(server)).close()
    const resources = (): string[] =>
      process.getActiveResourcesInfo().filter((name) => name === 'Timeout' || name === 'TCPSocketWrap')
    await vi.waitFor(() => expect(server.statistics.connections).toBe(0))
    await new Promise((resolve) => setTimeout(resolve, 1100))
    const before = resources().length
    let dropped = 0
    for (let round = 0; round < 12; round++) {
      await Promise.all(
        Array.from({ length: 25 }, async (_, i) => {
          const duplex = await connectTcp({ host: '127.0.0.1', port: server.port })
          const attempt = connectOver(async () => duplex, {
            ...clientOptions(server.port),
            crypto: nodeCrypto,
            keepalive: { intervalMs: 0 },
          })
          attempt.catch(() => {})
          await new Promise((resolve) => setTimeout(resolve, (round * 25 + i) % 37))
          duplex.close(true)
          dropped++
          await attempt.then((session) => session.closed).catch(() => {})
        }),
      )
    }
    await vi.waitFor(() => expect(server.statistics.connections).toBe(0), { timeout: 10_000 })
    expect(dropped).toBe(300)
    expect([...server.connections]).toEqual([])
    await new Promise((resolve) => setTimeout(resolve, 1100))
    expect(resources().length).toBeLessThanOrEqual(before)
  })

  test('statistics add up over connections that are gone', async () => {
    const { server } = await start()
    const session = await login(server)
    const channel = await session.exec('cat')
    const collected = channel.collect()
    channel.write(new Uint8Array(100_000))
    channel.end()
    await collected
    await session.close()
    await vi.waitFor(() => expect(server.statistics.connections).toBe(0))
    const { bytesReceived, bytesSent, logins, accepted } = server.statistics
    expect([logins, accepted]).toEqual([1, 1])
    expect(bytesReceived).toBeGreaterThan(100_000)
    expect(bytesSent).toBeGreaterThan(100_000)
    expect(bytesSent).toBeLessThan(120_000)
    await expect(login(server, { auth: [] })).rejects.toMatchObject({ code: 'ERR_SSH_AUTH' })
    expect(server.statistics.logins).toBe(1)
  })
})
