// The TCP forwarding hook for servers on Node (RFC 4254 s7.2), driven by our own client.

import { createHash, randomBytes } from 'node:crypto'
import type { AddressInfo, Socket } from 'node:net'
import { createServer } from 'node:net'
import type { Session } from '@sshblock/transport/node'
import { embeddedServer, nodeCrypto, tcpForwarding } from '@sshblock/transport/node'
import { expect, test, vi } from 'vitest'
import { registerCleanup } from '../../support/cleanup.ts'

async function target(onSocket: (socket: Socket) => void): Promise<number> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {})
    onSocket(socket)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  registerCleanup(() => void server.close())
  return (server.address() as AddressInfo).port
}

async function session(allow: (target: { host: string; port: number }) => boolean): Promise<Session> {
  const server = embeddedServer({
    crypto: nodeCrypto,
    directTcpip: tcpForwarding({ allow, connectTimeoutMs: 500 }),
  })
  registerCleanup(() => server.close())
  return server.connect()
}

test('moves megabytes both ways, and each end of a direction arrives by itself', async () => {
  const port = await target((socket) => socket.pipe(socket))
  const client = await session(() => true)
  const channel = await client.openDirectTcpip('127.0.0.1', port)
  const sent = randomBytes(5_000_000)
  const got = channel.collect()
  const writer = channel.writable().getWriter()
  for (let at = 0; at < sent.length; at += 50_000) await writer.write(sent.subarray(at, at + 50_000))
  // The echo is not complete yet: our end of file must not cut it.
  await writer.close()
  const { stdout } = await got
  expect(createHash('sha256').update(stdout).digest('hex')).toBe(
    createHash('sha256').update(sent).digest('hex'),
  )
})

test('a target that does not read stops the client', async () => {
  const sockets: Socket[] = []
  const port = await target((socket) => void sockets.push(socket.pause()))
  const client = await session(() => true)
  const channel = await client.openDirectTcpip('127.0.0.1', port)
  const chunk = new Uint8Array(65_536)
  let written = 0
  const writer = channel.writable().getWriter()
  const flood = (async () => {
    for (;;) {
      await writer.write(chunk)
      written += chunk.length
    }
  })().catch(() => {})
  await vi.waitFor(async () => {
    const before = written
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(written).toBe(before)
  }, 8000)
  expect(written).toBeLessThan(64 * 1024 * 1024)
  channel.close()
  await flood
})

test('what is not allowed is refused without connecting', async () => {
  let connections = 0
  const port = await target(() => connections++)
  const client = await session((to) => to.port !== port)
  await expect(client.openDirectTcpip('127.0.0.1', port)).rejects.toMatchObject({
    code: 'ERR_SSH_CHANNEL_OPEN',
    reason: 1,
  })
  expect(connections).toBe(0)
})

test('a target that refuses is told as such', async () => {
  const client = await session(() => true)
  await expect(client.openDirectTcpip('127.0.0.1', 1)).rejects.toMatchObject({
    code: 'ERR_SSH_CHANNEL_OPEN',
    reason: 2,
  })
})

test('a target that resets closes the channel, and a channel that closes ends the connection to the target', async () => {
  const ended = vi.fn()
  const port = await target((socket) => {
    socket.on('end', ended)
    socket.on('data', () => socket.resetAndDestroy())
  })
  const client = await session(() => true)
  const first = await client.openDirectTcpip('127.0.0.1', port)
  first.write(Uint8Array.of(1))
  await first.closed
  expect(ended).not.toHaveBeenCalled()
  const second = await client.openDirectTcpip('127.0.0.1', port)
  second.close()
  await vi.waitFor(() => expect(ended).toHaveBeenCalledTimes(1))
})
