import { createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { frameMessage } from '../../../packages/transport/src/agent/framing.ts'
import * as messages from '../../../packages/transport/src/agent/messages.ts'
import {
  agentSocketPath,
  checkSocketPath,
  connectAgent,
} from '../../../packages/transport/src/agent/node-socket.ts'
import { nodeCrypto } from '../../../packages/transport/src/crypto/node.ts'
import { AgentError, TimeoutError, UsageError } from '../../../packages/transport/src/errors.ts'
import { registerCleanup } from '../../support/cleanup.ts'
import { tempDir } from '../../support/temp-dir.ts'

const crypto = nodeCrypto

/** A socket on which `serve` is called for each connection. */
async function listen(serve: (socket: Socket) => void): Promise<string> {
  const path = join(tempDir('sock'), 's')
  const sockets: Socket[] = []
  const server: Server = createServer((socket) => {
    sockets.push(socket)
    socket.on('error', () => {})
    serve(socket)
  })
  await new Promise<void>((resolve) => server.listen(path, resolve))
  registerCleanup(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return path
}

test('a path that does not fit into a socket address is refused, and the error tells its length', async () => {
  const path = (length: number) => `/${'x'.repeat(length - 1)}`
  expect(() => checkSocketPath(path(107))).not.toThrow()
  expect(() => checkSocketPath(path(108))).toThrow(/108 bytes; at most 107/)
  expect(() => checkSocketPath(`/${'ü'.repeat(54)}`)).toThrow(/109 bytes/)
  await expect(connectAgent({ crypto, path: path(200) })).rejects.toThrow(UsageError)
})

test('a path with a NUL is refused', async () => {
  await expect(connectAgent({ crypto, path: '/tmp/a\0b' })).rejects.toThrow(/NUL/)
})

test('no path, a path where nothing is, and a file that is no socket: each its own error', async () => {
  await expect(connectAgent({ crypto, env: {} })).rejects.toMatchObject({ code: 'ERR_SSH_AGENT_NOT_FOUND' })
  await expect(connectAgent({ crypto, env: { SSH_AUTH_SOCK: '' } })).rejects.toMatchObject({
    code: 'ERR_SSH_AGENT_NOT_FOUND',
  })
  const absent = join(tempDir('sock'), 'absent')
  await expect(connectAgent({ crypto, env: { SSH_AUTH_SOCK: absent } })).rejects.toMatchObject({
    code: 'ERR_SSH_AGENT_CONNECT',
    message: expect.stringContaining('ENOENT'),
  })
  await expect(connectAgent({ crypto, path: import.meta.filename })).rejects.toThrow(AgentError)
  expect(agentSocketPath({ SSH_AUTH_SOCK: '/a' })).toBe('/a')
})

test('an agent that accepts and says nothing ends in a TimeoutError, and the socket is closed', async () => {
  let closed: Promise<unknown> | undefined
  const path = await listen((socket) => {
    socket.resume()
    closed = new Promise((resolve) => socket.on('close', resolve))
  })
  const client = await connectAgent({ crypto, path, timeoutMs: 50 })
  await expect(client.list()).rejects.toThrow(TimeoutError)
  await closed
})

test('an agent that closes in the middle of a message rejects what waits', async () => {
  const reply = frameMessage(
    messages.identitiesAnswer.bytes({ identities: [{ keyBlob: new Uint8Array(8), comment: 'x' }] }),
  )
  for (let length = 0; length < reply.length; length += 3) {
    const path = await listen((socket) => socket.on('data', () => socket.end(reply.subarray(0, length))))
    await using client = await connectAgent({ crypto, path })
    await expect(client.list()).rejects.toMatchObject({ code: 'ERR_SSH_AGENT_CLOSED' })
  }
})

test('an agent that goes away without a word rejects what waits', async () => {
  const path = await listen((socket) => socket.on('data', () => socket.destroy()))
  await using client = await connectAgent({ crypto, path })
  await expect(client.list()).rejects.toMatchObject({ code: 'ERR_SSH_AGENT_CLOSED' })
})
