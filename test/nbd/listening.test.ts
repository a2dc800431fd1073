import { existsSync, lstatSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { type NbdServer, serveNbd } from '@sshblock/nbd'
import { afterEach, describe, expect, test } from 'vitest'
import { isLoopback } from '../../packages/nbd/src/node-listen.ts'
import { registerCleanup } from '../support/cleanup.ts'
import { run } from '../support/program.ts'
import { tempDir } from '../support/temp-dir.ts'
import { RawClient } from './support/raw-client.ts'
import { TestDisk } from './support/test-disk.ts'

const exports = [{ name: '', device: new TestDisk() }]

async function served(listen: Parameters<typeof serveNbd>[1]['listen']): Promise<NbdServer> {
  const server = await serveNbd(exports, { listen })
  registerCleanup(() => server.close())
  return server
}

describe('a Unix socket', () => {
  test('has mode 0600, whatever the umask, and is gone after close', async () => {
    const path = join(tempDir('nbd'), 'sock')
    const umask = process.umask(0)
    try {
      const server = await served({ socketPath: path })
      expect(statSync(path).mode & 0o777).toBe(0o600)
      expect(process.umask()).toBe(0)
      await (await RawClient.connect(server.address)).go()
      await server.close()
      expect(existsSync(path)).toBe(false)
    } finally {
      process.umask(umask)
    }
  })

  test('replaces a socket that nobody listens on any more', async () => {
    const path = join(tempDir('nbd'), 'sock')
    await run('/usr/bin/python3', ['-c', `import socket; socket.socket(socket.AF_UNIX).bind('${path}')`])
    expect(lstatSync(path).isSocket()).toBe(true)
    const server = await served({ socketPath: path })
    await (await RawClient.connect(server.address)).go()
  })

  test('is refused where another server listens, which goes on undisturbed', async () => {
    const path = join(tempDir('nbd'), 'sock')
    const first = await served({ socketPath: path })
    await expect(serveNbd(exports, { listen: { socketPath: path } })).rejects.toThrow(
      /another server listens/,
    )
    await (await RawClient.connect(first.address)).go()
  })

  test('in a folder that is not there, or of a path that is too long, is refused by that reason', async () => {
    const dir = tempDir('nbd')
    const at = (path: string) => serveNbd(exports, { listen: { socketPath: join(dir, path) } })
    await expect(at('none/sock')).rejects.toMatchObject({ code: 'ENOENT' })
    await expect(at('x'.repeat(110))).rejects.toThrow(/the path of a socket may have \d+ bytes/)
    expect(readdirSync(dir)).toEqual([])
  })

  test('is refused where a file is, which stays as it is', async () => {
    const path = join(tempDir('nbd'), 'file')
    writeFileSync(path, 'precious')
    await expect(serveNbd(exports, { listen: { socketPath: path } })).rejects.toThrow(/not a socket/)
    expect(statSync(path).size).toBe(8)
  })

  test('is refused in the abstract namespace, which has no permissions', async () => {
    await expect(serveNbd(exports, { listen: { socketPath: '\0sshblock' } })).rejects.toThrow(/not a path/)
  })
})

describe('TCP', () => {
  test('listens on 127.0.0.1 by default, on a port that the system chooses for 0', async () => {
    const server = await served({ port: 0 })
    expect(server.address).toMatchObject({ host: '127.0.0.1' })
    expect(server.uri('x')).toMatch(/^nbd:\/\/127\.0\.0\.1:[1-9][0-9]*\/x$/)
    await (await RawClient.connect(server.address)).go()
  })

  test.each(['127.0.0.5', 'localhost', '::1'])('listens on the loopback address %s', async (host) => {
    const server = await served({ host, port: 0 })
    await (await RawClient.connect(server.address)).go()
  })

  test.each(['0.0.0.0', '::', '192.0.2.1', '169.254.1.1', '128.0.0.1', '::ffff:10.0.0.1', '::2'])(
    'refuses %s, which other machines reach',
    async (host) => {
      await expect(serveNbd(exports, { listen: { host, port: 0 } })).rejects.toThrow(/without authentication/)
    },
  )

  test('listens beyond loopback only when told to', async () => {
    const server = await served({ host: '0.0.0.0', port: 0, insecureAllowRemoteClients: true })
    expect(server.address).toMatchObject({ host: '0.0.0.0' })
  })

  test('knows loopback by address, not by name', () => {
    expect(['127.0.0.1', '127.255.255.255', '::1', '::ffff:127.0.0.1'].map(isLoopback)).toEqual([
      true,
      true,
      true,
      true,
    ])
    expect(
      ['126.255.255.255', '128.0.0.1', '::', '0.0.0.0', 'fe80::1', '::ffff:8.8.8.8'].some(isLoopback),
    ).toBe(false)
  })

  test('reports a port that is taken', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    registerCleanup(() => void other.close())
    await new Promise((resolve) => other.once('listening', resolve))
    const { port } = other.address() as { port: number }
    await expect(serveNbd(exports, { listen: { port } })).rejects.toMatchObject({ code: 'EADDRINUSE' })
  })
})

describe('options', () => {
  const listen = { socketPath: '/nowhere/at/all' }

  test.each([
    [{ maxClients: 0 }, /maxClients/],
    [{ maxBytesInFlight: 0 }, /maxBytesInFlight must/],
    [{ maxBytesInFlightPerClient: 1.5 }, /maxBytesInFlightPerClient/],
    [{ maxRequestsInFlightPerClient: -1 }, /maxRequestsInFlightPerClient/],
    [{ negotiationTimeoutMs: Number.NaN }, /negotiationTimeoutMs/],
    [{ shutdownTimeoutMs: 0 }, /shutdownTimeoutMs/],
  ])('%o is refused', async (options, message) => {
    await expect(serveNbd(exports, { listen, ...options })).rejects.toThrow(message)
  })

  test.each([
    ['a name of 4097 bytes', [{ name: 'ü'.repeat(2049), device: new TestDisk() }]],
    ['a name with NUL', [{ name: 'a\0b', device: new TestDisk() }]],
    ['a name with half a surrogate pair', [{ name: '\ud800', device: new TestDisk() }]],
    ['a description with NUL', [{ name: '', description: '\0', device: new TestDisk() }]],
    [
      'a name twice',
      [
        { name: 'a', device: new TestDisk() },
        { name: 'a', device: new TestDisk() },
      ],
    ],
  ])('an export with %s is refused', async (_what, wrong) => {
    await expect(serveNbd(wrong, { listen })).rejects.toMatchObject({ code: 'ERR_USAGE' })
  })
})

describe('a listening socket', () => {
  const servers: NbdServer[] = []
  afterEach(() => Promise.all(servers.map((server) => server.close())))

  test('is closed by close, which may be called again and by await using', async () => {
    const path = join(tempDir('nbd'), 'sock')
    const server = await serveNbd(exports, { listen: { socketPath: path } })
    servers.push(server)
    await server.close()
    await server.close()
    await server[Symbol.asyncDispose]()
    await new Promise<void>((resolve) => {
      connect(path).once('error', () => resolve())
    })
  })
})
