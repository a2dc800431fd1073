import { randomBytes } from 'node:crypto'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import {
  BackendError,
  type ChannelPairOptions,
  channelPair,
  MemoryBackend,
  NodeBackend,
  pipeChannel,
  type SftpBackend,
  SftpClient,
  type SftpServerOptions,
  SftpStatusError,
  serveSftp,
} from '../../../packages/sftp/src/node.ts'
import { registerCleanup } from '../../support/cleanup.ts'
import { tempDir } from '../../support/temp-dir.ts'
import { faultBackend } from '../support/fault-backend.ts'

async function joined(backend: SftpBackend, options: SftpServerOptions & { pair?: ChannelPairOptions } = {}) {
  const { pair, ...serverOptions } = options
  const [ours, theirs] = channelPair(pair)
  const session = serveSftp(ours, backend, serverOptions)
  const client = await SftpClient.open(theirs)
  return { client, session }
}

const same = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0

describe('our client at our server', () => {
  test.each([
    ['a wide window', {}],
    ['a narrow window', { windowBytes: 3000, maxPacketBytes: 500 }],
    ['packets of one odd size', { windowBytes: 100_000, maxPacketBytes: 4093 }],
  ])('moves files whole through %s', async (_what, pair) => {
    const memory = new MemoryBackend()
    const { client, session } = await joined(memory, { pair })
    const content = randomBytes(3_000_000)
    await client.put(content, '/file')
    expect(same(memory.readFile('/file'), content)).toBe(true)
    const back = await client.readFile('/file')
    expect(same(back, content)).toBe(true)
    await client.close()
    expect((await session.finished).reason).not.toBe('error')
    expect(session.statistics.openHandles).toBe(0)
  })

  test('moves files whole where reads are short and settle in any order', async () => {
    const memory = new MemoryBackend()
    const content = randomBytes(1_000_000)
    memory.writeFile('/file', content)
    let n = 0
    const backend = faultBackend(memory, {
      before: ({ operation }) =>
        operation === 'read' || operation === 'write'
          ? new Promise<void>((resolve) => setTimeout(resolve, (n++ * 7) % 5))
          : undefined,
      readResult: (count) => Math.max(1, count - ((n * 131) % 9000)),
    })
    const { client } = await joined(backend)
    expect(same(await client.readFile('/file'), content)).toBe(true)
    await client.put(content, '/copy')
    expect(same(memory.readFile('/copy'), content)).toBe(true)
    await client.close()
  })

  test('a write that fails on the server fails the transfer, and later ones work again', async () => {
    const memory = new MemoryBackend({ capacityBytes: 500_000 })
    const { client } = await joined(memory)
    await expect(client.put(randomBytes(2_000_000), '/big')).rejects.toThrow()
    await client.unlink('/big').catch(() => {})
    expect(memory.heldBytes).toBe(0)
    await client.put(randomBytes(100_000), '/small')
    expect((await client.stat('/small')).size).toBe(100_000)
    await client.close()
  })

  test('every request means on one side what it means on the other', async () => {
    const memory = new MemoryBackend()
    const { client } = await joined(memory)
    await client.mkdir('/d')
    await client.writeFile('/d/a', 'content')
    await client.symlink('a', '/d/soft')
    expect(await client.readlink('/d/soft')).toBe('a')
    expect(memory.readlink('/d/soft')).toBe('a')
    await client.link('/d/a', '/d/hard')
    await client.chmod('/d/a', 0o600)
    expect(memory.stat('/d/hard').permissions).toBe(0o100600)
    await client.rename('/d/hard', '/d/renamed')
    await client.truncate('/d/a', 3)
    expect(await client.readFile('/d/renamed', { encoding: 'utf8' })).toBe('con')
    await client.utimes('/d/a', 10, 20)
    expect(memory.stat('/d/a')).toMatchObject({ atime: 10, mtime: 20 })
    const names: string[] = []
    for await (const { name } of client.readdir('/d')) names.push(name)
    expect(names.sort()).toEqual(['a', 'renamed', 'soft'])
    expect(await client.realpath('/d/../d/soft')).toBe('/d/a')
    expect(await client.expandPath('~/d')).toBe('/d')
    expect((await client.statvfs('/')).maxNameBytes).toBe(255n)
    await client.rm('/d', { recursive: true })
    await expect(client.stat('/d')).rejects.toMatchObject({ code: 'ENOENT' })
    await client.close()
  })

  test('a sparse 4 GiB image costs what was written to it', async () => {
    const memory = new MemoryBackend()
    memory.writeFile('/image', '')
    memory.setstat('/image', { size: 4 * 2 ** 30 })
    const { client } = await joined(memory)
    const file = await client.open('/image', 'r+')
    const block = randomBytes(4096)
    await file.write(3 * 2 ** 30 + 512, block)
    const back = new Uint8Array(8192)
    expect(await file.read(3 * 2 ** 30, back)).toBe(8192)
    expect(same(back.subarray(512, 512 + 4096), block)).toBe(true)
    expect(back.subarray(0, 512).every((byte) => byte === 0)).toBe(true)
    expect(await file.read(4 * 2 ** 30 - 10, back)).toBe(10)
    expect((await file.stat()).size).toBe(4 * 2 ** 30)
    expect(memory.heldBytes).toBeLessThan(200_000)
    await file.sync()
    await client.close()
  })

  test('an error of the back end arrives with its status and its words', async () => {
    const backend = faultBackend(new MemoryBackend(), {
      before: ({ operation }) => {
        if (operation === 'mkdir') throw new BackendError('EDQUOT')
      },
    })
    const { client } = await joined(backend)
    const error = await client.mkdir('/d').catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(SftpStatusError)
    expect((error as SftpStatusError).serverMessage).toBe('Disk quota exceeded')
    await client.close()
  })

  test('when the server ends the session every pending call of the client settles', async () => {
    const backend = faultBackend(new MemoryBackend(), {
      before: ({ operation }) => (operation === 'stat' ? new Promise<void>(() => {}) : undefined),
    })
    const { client, session } = await joined(backend)
    const pending = [client.stat('/'), client.lstat('/'), client.mkdir('/d')].map((call) =>
      call.catch((error: unknown) => error),
    )
    setTimeout(() => session.close(), 10)
    for (const error of await Promise.all(pending)) expect(error).toBeInstanceOf(Error)
  })
})

test('many sessions of one node back end at once over TCP keep apart and leave nothing open', async () => {
  const root = tempDir('tcp')
  const backend = new NodeBackend({ root })
  registerCleanup(() => backend.close())
  const sessions: Promise<unknown>[] = []
  const server = createServer((socket) => {
    sessions.push(serveSftp(pipeChannel(socket, socket), backend).finished)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  registerCleanup(() => void server.close())
  const { port } = server.address() as { port: number }
  const open = async (): Promise<Socket> => {
    const socket = connect(port, '127.0.0.1')
    await new Promise((resolve) => socket.once('connect', resolve))
    return socket
  }
  await Promise.all(
    Array.from({ length: 20 }, async (_, i) => {
      const socket = await open()
      const client = await SftpClient.open(pipeChannel(socket, socket))
      const content = randomBytes(200_000)
      const path = join('/', `file${i}`)
      await client.put(content, path)
      expect(same(await client.readFile(path), content)).toBe(true)
      if (i % 2 === 0) await client.close()
      else socket.destroy()
    }),
  )
  await Promise.all(sessions)
  expect(sessions).toHaveLength(20)
})
