import { describe, expect, test } from 'vitest'
import type { SftpBackend } from '../../../packages/sftp/src/backend.ts'
import { BackendError } from '../../../packages/sftp/src/backend.ts'
import { channelPair } from '../../../packages/sftp/src/channel-pair.ts'
import { MemoryBackend } from '../../../packages/sftp/src/memory-backend.ts'
import { openFlag, statusCode } from '../../../packages/sftp/src/messages/index.ts'
import { serveSftp } from '../../../packages/sftp/src/server.ts'
import { type FaultHooks, faultBackend } from '../support/fault-backend.ts'
import {
  attrsIn,
  bytes,
  extended,
  framed,
  packetType,
  RawClient,
  replies,
  requests,
  statusIn,
} from '../support/raw-client.ts'
import { served, unserved } from '../support/served.ts'

const { read, write, append, creat } = openFlag

/** A gate per call: the test decides when, and in which order, calls into the back end settle. */
class Gates {
  readonly waiting: { what: string; open: () => void; fail: (error: Error) => void }[] = []

  wait(what: string): Promise<void> {
    return new Promise((open, fail) => this.waiting.push({ what, open, fail }))
  }

  get names(): string[] {
    return this.waiting.map(({ what }) => what)
  }

  open(index: number): void {
    this.waiting.splice(index, 1)[0]!.open()
  }

  openAll(): void {
    for (const { open } of this.waiting.splice(0)) open()
  }
}

async function settle(): Promise<void> {
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setTimeout(resolve, 0))
}

function gated(gates: Gates, extra: FaultHooks = {}): { backend: SftpBackend; memory: MemoryBackend } {
  const memory = new MemoryBackend()
  memory.writeFile(
    '/file',
    new Uint8Array(1 << 20).map((_, i) => i >> 8),
  )
  const backend = faultBackend(memory, {
    before: ({ operation, offset }) =>
      operation === 'open' || operation === 'close'
        ? undefined
        : gates.wait(`${operation} ${offset ?? ''}`.trim()),
    ...extra,
  })
  return { backend, memory }
}

describe('order', () => {
  test('READs run side by side, and are answered in the order of the requests', async () => {
    const gates = new Gates()
    const { client } = await served(gated(gates).backend)
    const handle = await client.open('/file', read)
    const ids = Array.from({ length: 8 }, (_, i) => {
      const id = client.id()
      client.send(requests.read, { id, handle, offset: i * 1000, len: 1000 })
      return id
    })
    await settle()
    expect(gates.names).toEqual([0, 1, 2, 3, 4, 5, 6, 7].map((i) => `read ${i * 1000}`))
    for (let i = 7; i > 0; i--) gates.open(i)
    await settle()
    expect(client.repliesWaiting).toBe(0)
    gates.open(0)
    for (const [i, id] of ids.entries()) {
      const { data } = replies.data.decode((await client.answer(id)).payload)
      expect(data).toHaveLength(1000)
      expect(data[0]).toBe(((i * 1000) >> 8) & 0xff)
    }
  })

  test('at most 16 READs are under way at once', async () => {
    const gates = new Gates()
    const { client } = await served(gated(gates).backend)
    const handle = await client.open('/file', read)
    for (let i = 0; i < 40; i++) client.send(requests.read, { id: client.id(), handle, offset: i, len: 1 })
    await settle()
    expect(gates.waiting).toHaveLength(16)
    gates.open(3)
    await settle()
    expect(gates.waiting).toHaveLength(16)
    while (gates.waiting.length > 0) {
      gates.openAll()
      await settle()
    }
    expect(client.repliesWaiting).toBe(40)
  })

  test('disjoint WRITEs of one handle run side by side, overlapping ones and all others do not', async () => {
    const gates = new Gates()
    const { client } = await served(gated(gates).backend)
    const handle = await client.open('/file', read | write)
    const other = await client.open('/file', read | write)
    const send = (h: Uint8Array, offset: number) =>
      client.send(requests.write, { id: client.id(), handle: h, offset, data: new Uint8Array(10) })
    send(handle, 0)
    send(handle, 10)
    send(handle, 15)
    send(other, 500)
    client.send(requests.read, { id: client.id(), handle, offset: 0, len: 1 })
    client.send(requests.fstat, { id: client.id(), handle })
    const seen: string[][] = []
    for (let i = 0; i < 6; i++) {
      await settle()
      seen.push(gates.names)
      gates.openAll()
    }
    await settle()
    expect(seen.filter((names) => names.length > 0)).toEqual([
      ['write 0', 'write 10'],
      ['write 15'],
      ['write 500'],
      ['read 0'],
      ['fstat'],
    ])
    expect(client.repliesWaiting).toBe(6)
  })

  test('a READ behind a WRITE sees it, and a STAT behind both', async () => {
    const { client } = await served(gatedByTime())
    const handle = await client.open('/new', read | write | creat)
    const ids = [client.id(), client.id(), client.id(), client.id()] as const
    client.send(requests.write, { id: ids[0], handle, offset: 0, data: bytes('one') })
    client.send(requests.read, { id: ids[1], handle, offset: 0, len: 9 })
    client.send(requests.write, { id: ids[2], handle, offset: 0, data: bytes('later') })
    client.send(requests.fstat, { id: ids[3], handle })
    expect(await client.status(ids[0])).toBe(statusCode.ok)
    expect(replies.data.decode((await client.answer(ids[1])).payload).data).toEqual(bytes('one'))
    expect(await client.status(ids[2])).toBe(statusCode.ok)
    expect(attrsIn(await client.answer(ids[3])).size).toBe(5)
  })

  test('requests sent behind an OPEN that is not answered yet wait for it', async () => {
    const gates = new Gates()
    const memory = new MemoryBackend()
    const backend = faultBackend(memory, {
      before: ({ operation }) => (operation === 'open' ? gates.wait(operation) : undefined),
    })
    const { client } = await served(backend)
    const [openId, statId] = [client.id(), client.id()]
    client.send(requests.open, { id: openId, filename: bytes('/new'), pflags: write | creat, attrs: {} })
    client.send(requests.lstat, { id: statId, path: bytes('/new') })
    await settle()
    expect(gates.names).toEqual(['open'])
    gates.openAll()
    expect((await client.answer(openId)).type).toBe(packetType.handle)
    expect((await client.answer(statId)).type).toBe(packetType.attrs)
  })

  test('a request that found its handle before CLOSE fails behind it', async () => {
    const gates = new Gates()
    const { backend } = gated(gates)
    const closing = faultBackend(backend, {
      before: ({ operation }) => (operation === 'close' ? gates.wait(operation) : undefined),
    })
    const { client } = await served(closing)
    const handle = await client.open('/file', read | write)
    const ids = [client.id(), client.id(), client.id(), client.id()] as const
    client.send(requests.close, { id: ids[0], handle })
    client.send(requests.read, { id: ids[1], handle, offset: 0, len: 1 })
    client.send(requests.write, { id: ids[2], handle, offset: 0, data: bytes('x') })
    client.send(requests.close, { id: ids[3], handle })
    await settle()
    gates.openAll()
    expect(await client.status(ids[0])).toBe(statusCode.ok)
    for (const id of ids.slice(1)) expect(await client.status(id)).toBe(statusCode.failure)
  })

  test('appending WRITEs run one after the other', async () => {
    const gates = new Gates()
    const { client } = await served(gated(gates).backend)
    const handle = await client.open('/file', write | append)
    for (let i = 0; i < 3; i++)
      client.send(requests.write, { id: client.id(), handle, offset: i * 100, data: bytes('x') })
    await settle()
    expect(gates.names).toEqual(['write 0'])
    while (gates.waiting.length > 0) {
      gates.openAll()
      await settle()
    }
    expect(client.repliesWaiting).toBe(3)
  })
})

/** Every call settles a few turns later. */
function gatedByTime(): SftpBackend {
  return faultBackend(new MemoryBackend(), { before: () => new Promise((resolve) => setTimeout(resolve, 3)) })
}

describe('back-pressure', () => {
  test('a client that does not read stops the server at 4 MiB of replies, pauses the channel, and loses nothing', async () => {
    const memory = new MemoryBackend()
    memory.writeFile('/file', new Uint8Array(262_144).fill(7))
    const { client, session } = await served(memory, { pair: { windowBytes: 100_000 } })
    const handle = await client.open('/file', read)
    client.channel.pause()
    const count = 400
    const ids: number[] = []
    for (let i = 0; i < count; i++) {
      const id = client.id()
      ids.push(id)
      client.send(requests.read, { id, handle, offset: i, len: 100_000 })
    }
    await settle()
    const { queuedReplyBytes, isPaused, requests: begun } = session.statistics
    expect(queuedReplyBytes).toBeGreaterThan(3 * 1024 * 1024)
    expect(queuedReplyBytes).toBeLessThan(4 * 1024 * 1024 + 262_144)
    expect(isPaused).toBe(true)
    expect(begun).toBeLessThan(60)
    client.channel.resume()
    for (const id of ids)
      expect(replies.data.decode((await client.answer(id)).payload).data).toHaveLength(100_000)
    expect(session.statistics).toMatchObject({ queuedReplyBytes: 0, bufferedBytes: 0, isPaused: false })
  })

  test('READs under way count before they are answered', async () => {
    const gates = new Gates()
    const { client } = await served(gated(gates).backend, { maxQueuedReplyBytes: 500_000 })
    const handle = await client.open('/file', read)
    for (let i = 0; i < 10; i++)
      client.send(requests.read, { id: client.id(), handle, offset: 0, len: 200_000 })
    await settle()
    expect(gates.waiting).toHaveLength(3)
    while (gates.waiting.length > 0) {
      gates.openAll()
      await settle()
    }
    expect(client.repliesWaiting).toBe(10)
  })

  test('a stalled back end holds a window of requests at most, and pauses the channel', async () => {
    const gates = new Gates()
    const windowBytes = 2 * 1024 * 1024
    const { client, session } = await served(gated(gates).backend, { pair: { windowBytes } })
    const handle = await client.open('/file', write)
    for (let i = 0; i < 400; i++) {
      client.send(requests.write, {
        id: client.id(),
        handle,
        offset: i * 32_768,
        data: new Uint8Array(32_768),
      })
    }
    await settle()
    const { bufferedBytes, isPaused } = session.statistics
    expect(isPaused).toBe(true)
    expect(bufferedBytes).toBeGreaterThan(1024 * 1024)
    expect(bufferedBytes).toBeLessThan(1024 * 1024 + windowBytes + 65_536)
    while (client.repliesWaiting < 400) {
      gates.openAll()
      await settle()
    }
    expect(session.statistics.bytesWritten).toBe(400 * 32_768)
    expect(session.statistics.isPaused).toBe(false)
  })

  function flood(count: number): Uint8Array {
    const packet = framed(requests.stat.bytes({ id: 1, path: bytes('/') }))
    const all = new Uint8Array(packet.length * count)
    for (let i = 0; i < count; i++) all.set(packet, i * packet.length)
    return all
  }

  /** The most requests that were begun between two turns of the event loop, until `count` were. */
  async function mostInOneTurn(begun: () => number, count: number): Promise<number> {
    let most = 0
    for (let before = begun(); before < count; ) {
      await new Promise((resolve) => setImmediate(resolve))
      most = Math.max(most, begun() - before)
      before = begun()
    }
    return most
  }

  test('a session whose requests answer at once lets others have their turn', async () => {
    const { client, session } = await served()
    const count = 40_000
    client.sendRaw(flood(count))
    const most = await mostInOneTurn(() => session.statistics.requests, count)
    // On a busy machine a timer may be due again before anybody looked.
    expect(most).toBeLessThanOrEqual(5 * 2048)
    expect(most).toBeGreaterThan(500)
  })

  test('small answers leave together where the back end answers at once, and never wait for one that does not', async () => {
    const gates = new Gates()
    const backend = faultBackend(new MemoryBackend(), {
      before: ({ operation }) => (operation === 'lstat' ? gates.wait(operation) : undefined),
    })
    const [ours, theirs] = channelPair()
    let writes = 0
    const counted = new Proxy(ours, {
      get(target, key) {
        if (key === 'write') writes++
        const value: unknown = Reflect.get(target, key, target)
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
    serveSftp(counted, backend)
    const client = new RawClient(theirs)
    await client.init()
    writes = 0
    client.sendRaw(flood(1000))
    while (client.repliesWaiting < 1000) await settle()
    expect(writes).toBeLessThan(10)
    client.sendRaw(flood(3))
    client.send(requests.lstat, { id: 7, path: bytes('/') })
    await settle()
    expect(gates.names).toEqual(['lstat'])
    expect(client.repliesWaiting).toBe(1003)
    gates.openAll()
  })

  test('a flood of small requests is held in what it weighs, and every one is answered', async () => {
    const { client, session } = await served(undefined, { pair: { windowBytes: 8 * 1024 * 1024 } })
    const count = 100_000
    client.channel.pause()
    const all = flood(count)
    client.sendRaw(all)
    let most = 0
    while (session.statistics.queuedReplyBytes < 4 * 1024 * 1024 && session.statistics.requests < count) {
      most = Math.max(most, session.statistics.bufferedBytes)
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(most).toBeLessThanOrEqual(all.length)
    client.channel.resume()
    while (client.repliesWaiting < count) await settle()
    expect(session.statistics).toMatchObject({
      requests: count,
      bufferedBytes: 0,
      queuedReplyBytes: 0,
      isPaused: false,
    })
  })
})

describe('the end of a session', () => {
  test("the client's end of file is answered: all replies, files closed, our end of file, outcome 'end'", async () => {
    const gates = new Gates()
    const { backend } = gated(gates)
    const closed: string[] = []
    let outcome: unknown
    const { client, session } = await served(backend, {
      observer: { close: ({ path }, forced) => void closed.push(`${path} ${forced}`) },
      onFinish: (value) => {
        outcome = value
        expect(closed).toEqual(['/file true'])
        expect(client.ended).toBe(false)
      },
    })
    const handle = await client.open('/file', read)
    const id = client.id()
    client.send(requests.read, { id, handle, offset: 0, len: 5 })
    client.channel.end()
    await settle()
    expect(outcome).toBeUndefined()
    gates.openAll()
    expect((await client.answer(id)).type).toBe(packetType.data)
    expect(await session.finished).toEqual({ reason: 'end' })
    expect(outcome).toEqual({ reason: 'end' })
    await client.closed
    expect(client.ended).toBe(true)
  })

  test('a stream that ends in the middle of a request is an error', async () => {
    const { client, session } = await served()
    client.sendRaw(Uint8Array.of(0, 0, 0, 20, packetType.stat, 0))
    client.channel.end()
    const { reason, error } = await session.finished
    expect(reason).toBe('error')
    expect(error?.message).toContain('middle of a request')
  })

  test.each([
    ['one byte above 256 KiB', packetType.open, 262_145],
    ['a WRITE above its limit', packetType.write, 1_048_576 + 65_537],
    ['shorter than an id', packetType.stat, 4],
  ])('a length field that says %s closes the channel and every file', async (_what, type, length) => {
    const { client, session } = await served()
    await client.open('/a', write | creat)
    client.sendRaw(Uint8Array.of(length >>> 24, length >>> 16, length >>> 8, length, type))
    expect((await session.finished).reason).toBe('error')
    expect(session.statistics.openHandles).toBe(0)
    await client.closed
  })

  test('closing the channel closes files only when no call is under way, and answers nothing more', async () => {
    const gates = new Gates()
    const events: string[] = []
    const memory = new MemoryBackend()
    memory.writeFile('/file', 'content')
    const backend = faultBackend(memory, {
      before: ({ operation }) => {
        events.push(operation)
        return operation === 'read' ? gates.wait(operation) : undefined
      },
    })
    const { client, session } = await served(backend)
    const handle = await client.open('/file', read)
    client.send(requests.read, { id: client.id(), handle, offset: 0, len: 5 })
    client.send(requests.read, { id: client.id(), handle, offset: 1, len: 5 })
    client.send(requests.fstat, { id: client.id(), handle })
    await settle()
    client.channel.close()
    await settle()
    expect(events).toEqual(['open', 'read', 'read'])
    gates.openAll()
    expect(await session.finished).toMatchObject({ reason: 'closed' })
    expect(events).toEqual(['open', 'read', 'read', 'close'])
    expect(client.repliesWaiting).toBe(0)
  })

  test('a file whose OPEN settles after the channel is gone is closed again', async () => {
    const gates = new Gates()
    const events: string[] = []
    const backend = faultBackend(new MemoryBackend(), {
      before: ({ operation }) => {
        events.push(operation)
        return operation === 'open' ? gates.wait(operation) : undefined
      },
    })
    const { client, session } = await served(backend)
    client.send(requests.open, { id: 1, filename: bytes('/x'), pflags: write | creat, attrs: {} })
    await settle()
    client.channel.close()
    await settle()
    gates.openAll()
    await session.finished
    expect(events).toEqual(['open', 'close'])
  })

  test('close() of the session ends it once, with the channel', async () => {
    let calls = 0
    const { client, session } = await served(undefined, { onFinish: () => void calls++ })
    session.close()
    session.close()
    expect((await session.finished).reason).toBe('closed')
    await client.closed
    expect(calls).toBe(1)
  })

  test('a copy without end stops when the channel is gone', async () => {
    const memory = new MemoryBackend()
    memory.writeFile('/from', '')
    memory.setstat('/from', { size: 2 ** 50 })
    let pieces = 0
    // Nothing is kept, so nothing else ends it.
    const backend = faultBackend(memory, {
      cutWrite: () => {
        pieces++
        return 0
      },
    })
    const { client, session } = await served(backend)
    const from = await client.open('/from', read)
    const to = await client.open('/to', write | creat)
    client.sendWritten((writer) =>
      extended.copyData.encode(writer, {
        id: 9,
        readFromHandle: from,
        readFromOffset: 0,
        readDataLength: 0,
        writeToHandle: to,
        writeToOffset: 0,
      }),
    )
    while (pieces < 10) await settle()
    client.channel.close()
    expect((await session.finished).reason).toBe('closed')
  })
})

describe('a back end that fails', () => {
  test('is answered with its error, and the session goes on', async () => {
    let code: string | undefined = 'ENOSPC'
    const backend = faultBackend(new MemoryBackend(), {
      before: ({ operation }) => {
        if (operation === 'write' && code !== undefined) throw new BackendError(code)
      },
    })
    const { client } = await served(backend)
    const handle = await client.open('/x', read | write | creat)
    const id = client.id()
    client.send(requests.write, { id, handle, offset: 0, data: bytes('x') })
    expect(statusIn(await client.answer(id))).toMatchObject({
      code: statusCode.failure,
      message: 'No space left on device',
    })
    code = undefined
    expect(await client.write(handle, 0, bytes('x'))).toBe(statusCode.ok)
  })

  test.each([
    ['ENOENT', statusCode.noSuchFile],
    ['ENOTDIR', statusCode.noSuchFile],
    ['EBADF', statusCode.noSuchFile],
    ['ELOOP', statusCode.noSuchFile],
    ['EPERM', statusCode.permissionDenied],
    ['EACCES', statusCode.permissionDenied],
    ['EFAULT', statusCode.permissionDenied],
    ['ENAMETOOLONG', statusCode.badMessage],
    ['EINVAL', statusCode.badMessage],
    ['ENOSYS', statusCode.opUnsupported],
    ['EEXIST', statusCode.failure],
    ['EIO', statusCode.failure],
    ['EROFS', statusCode.failure],
    ['EDQUOT', statusCode.failure],
    ['ENOTEMPTY', statusCode.failure],
    ['EMFILE', statusCode.failure],
  ])('%s is status %d, as from OpenSSH, with the words of strerror', async (code, expected) => {
    for (const later of [false, true]) {
      const backend = faultBackend(new MemoryBackend(), {
        before: ({ operation }) => {
          if (operation !== 'lstat') return undefined
          const error = Object.assign(new Error(`${code}: /secret/host/path`), { code })
          if (!later) throw error
          return Promise.reject(error)
        },
      })
      const { client } = await served(backend)
      const status = statusIn(await client.ask(requests.lstat, { path: bytes('/') }))
      expect(status.code).toBe(expected)
      expect(status.message).not.toContain('secret')
      expect(status.message).toMatch(/^[A-Z][a-z].* ?/)
    }
  })

  test('in a way no file system does is FAILURE without details, and told to the observer', async () => {
    const faults: unknown[] = []
    const backend = faultBackend(new MemoryBackend(), {
      before: ({ operation }) => {
        if (operation === 'stat') throw new TypeError('/secret is undefined')
      },
    })
    const { client } = await served(backend, { observer: { fault: (error) => void faults.push(error) } })
    expect(statusIn(await client.ask(requests.stat, { path: bytes('/') }))).toMatchObject({
      code: statusCode.failure,
      message: 'Failure',
    })
    expect(faults).toHaveLength(1)
    expect(faults[0]).toBeInstanceOf(TypeError)
  })

  test.each([-1, 1.5, 11, Number.NaN])(
    'that claims to have read %d of 10 bytes is not believed',
    async (claim) => {
      const memory = new MemoryBackend()
      memory.writeFile('/file', 'x'.repeat(100))
      const backend = faultBackend(memory, { readResult: () => claim })
      const { client } = await served(backend)
      const handle = await client.open('/file', read)
      expect(await client.read(handle, 0, 10)).toBe(statusCode.failure)
    },
  )

  test('a short read is passed on as it is', async () => {
    const memory = new MemoryBackend()
    memory.writeFile('/file', 'x'.repeat(100))
    const { client } = await served(faultBackend(memory, { readResult: (count) => Math.min(count, 3) }))
    const handle = await client.open('/file', read)
    expect(await client.read(handle, 0, 10)).toHaveLength(3)
  })

  test('an error of close is told, and the handle is gone all the same', async () => {
    const backend = faultBackend(new MemoryBackend(), {
      before: ({ operation }) => {
        if (operation === 'close') throw new BackendError('EDQUOT')
      },
    })
    const { client, session } = await served(backend)
    const handle = await client.open('/x', write | creat)
    expect(statusIn(await client.ask(requests.close, { handle }))).toMatchObject({
      code: statusCode.failure,
      message: 'Disk quota exceeded',
    })
    expect(session.statistics.openHandles).toBe(0)
  })
})

describe('handles', () => {
  test('the 257th is refused, and one closed makes room for one', async () => {
    const { client, session } = await served()
    const handles: Uint8Array[] = []
    for (let i = 0; i < 256; i++)
      handles.push(i % 2 === 0 ? await client.open(`/f${i}`, write | creat) : await client.opendir('/'))
    const open = () =>
      client.ask(requests.open, { filename: bytes('/one-more'), pflags: write | creat, attrs: {} })
    expect(statusIn(await open())).toMatchObject({
      code: statusCode.failure,
      message: 'Too many open handles',
    })
    expect(await client.code(requests.opendir, { path: bytes('/') })).toBe(statusCode.failure)
    // Refused before anything was made.
    expect(await client.code(requests.lstat, { path: bytes('/one-more') })).toBe(statusCode.noSuchFile)
    expect(await client.code(requests.close, { handle: handles[17]! })).toBe(statusCode.ok)
    expect((await open()).type).toBe(packetType.handle)
    expect(session.statistics.openHandles).toBe(256)
  })

  test('of another channel, closed, altered, empty, too long, or of the wrong kind open nothing', async () => {
    const memory = new MemoryBackend()
    const one = await served(memory)
    const two = await served(memory)
    const handle = await one.client.open('/x', read | write | creat)
    const directory = await one.client.opendir('/')
    const closed = await one.client.open('/x', read | write)
    await one.client.code(requests.close, { handle: closed })
    const altered = handle.slice()
    altered[15]! ^= 1
    const wrong: [RawClient, Uint8Array][] = [
      [two.client, handle],
      [one.client, closed],
      [one.client, altered],
      [one.client, new Uint8Array(0)],
      [one.client, handle.subarray(0, 15)],
      [one.client, new Uint8Array(257)],
      [one.client, bytes('0')],
      [one.client, directory],
    ]
    for (const [client, bad] of wrong) {
      expect(await client.read(bad, 0, 1)).toBe(statusCode.failure)
      expect(await client.write(bad, 0, bytes('x'))).toBe(statusCode.failure)
      expect(await client.code(requests.fstat, { handle: bad })).toBe(statusCode.failure)
      expect(await client.code(requests.fsetstat, { handle: bad, attrs: { size: 0 } })).toBe(
        statusCode.failure,
      )
      if (bad === directory) continue
      expect(await client.code(requests.readdir, { handle: bad })).toBe(statusCode.failure)
      expect(await client.code(requests.close, { handle: bad })).toBe(statusCode.failure)
    }
    expect(await one.client.code(requests.readdir, { handle })).toBe(statusCode.failure)
    expect(await one.client.write(handle, 0, bytes('still open'))).toBe(statusCode.ok)
  })

  test('every file is closed with its channel', async () => {
    let open = 0
    const memory = new MemoryBackend()
    const counting = faultBackend(memory, {
      before: ({ operation }) => {
        if (operation === 'open' || operation === 'opendir') open++
        if (operation === 'close') open--
      },
    })
    for (let i = 0; i < 20; i++) {
      const { client, session } = await served(counting)
      for (let j = 0; j < 10; j++) await client.open(`/f${j}`, write | creat)
      await client.opendir('/')
      client.channel.close()
      await session.finished
    }
    expect(open).toBe(0)
  })
})

describe('copy-data', () => {
  const copy = (
    client: RawClient,
    from: Uint8Array,
    fromOffset: number,
    length: number,
    to: Uint8Array,
    toOffset: number,
  ) =>
    client.askExtended((writer, id) =>
      extended.copyData.encode(writer, {
        id,
        readFromHandle: from,
        readFromOffset: fromOffset,
        readDataLength: length,
        writeToHandle: to,
        writeToOffset: toOffset,
      }),
    )

  test('copies a range, or all up to the end, and says EOF where the source is shorter', async () => {
    const memory = new MemoryBackend()
    const content = new Uint8Array(700_000).map((_, i) => i * 7 + (i >> 9))
    memory.writeFile('/from', content)
    const { client } = await served(memory)
    const from = await client.open('/from', read)
    const to = await client.open('/to', read | write | creat)
    expect(statusIn(await copy(client, from, 0, 0, to, 0)).code).toBe(statusCode.ok)
    expect(Buffer.compare(memory.readFile('/to'), content)).toBe(0)
    expect(statusIn(await copy(client, from, 100, 50, to, 700_000)).code).toBe(statusCode.ok)
    expect(memory.readFile('/to').subarray(700_000)).toEqual(content.subarray(100, 150))
    expect(statusIn(await copy(client, from, 699_990, 50, to, 0)).code).toBe(statusCode.eof)
    expect(memory.readFile('/to').subarray(0, 10)).toEqual(content.subarray(699_990))
  })

  test('of a file onto an overlapping range of itself is refused, by whatever handle or link, and grows nothing', async () => {
    const memory = new MemoryBackend()
    memory.writeFile('/file', 'x'.repeat(1000))
    memory.hardlink('/file', '/hard')
    memory.symlink('file', '/soft')
    const { client } = await served(memory)
    const from = await client.open('/file', read | write)
    for (const name of ['/file', '/hard', '/soft']) {
      const to = await client.open(name, read | write)
      for (const [at, length, target] of [
        [0, 0, 0],
        [0, 0, 5000],
        [0, 100, 99],
        [99, 100, 0],
        [0, 1000, 1],
      ] as const) {
        expect(statusIn(await copy(client, from, at, length, to, target)).code).toBe(statusCode.failure)
      }
      expect(statusIn(await copy(client, from, 0, 100, to, 100)).code).toBe(statusCode.ok)
    }
    const appending = await client.open('/hard', write | append)
    expect(statusIn(await copy(client, from, 0, 10, appending, 5000)).code).toBe(statusCode.failure)
    expect(memory.readFile('/file')).toHaveLength(1000)
  })

  test('needs two open files', async () => {
    const { client } = await served()
    const file = await client.open('/x', read | write | creat)
    const directory = await client.opendir('/')
    expect(statusIn(await copy(client, file, 0, 1, directory, 0)).code).toBe(statusCode.failure)
    expect(statusIn(await copy(client, directory, 0, 1, file, 0)).code).toBe(statusCode.failure)
  })
})

test('the observer sees opening, bytes, closing and refusals', async () => {
  const seen: string[] = []
  const { client } = await served(undefined, {
    observer: {
      request: ({ name, path }) => void seen.push(`${name} ${path}`),
      open: ({ path }) => void seen.push(`opened ${path}`),
      read: (_file, offset, count) => void seen.push(`read ${offset} ${count}`),
      write: (_file, offset, count) => void seen.push(`wrote ${offset} ${count}`),
      close: ({ bytesRead, bytesWritten }) => void seen.push(`closed ${bytesRead} ${bytesWritten}`),
      refused: (name, status) => void seen.push(`refused ${name} ${status}`),
    },
  })
  const handle = await client.open('/x', read | write | creat)
  await client.write(handle, 3, bytes('abc'))
  await client.read(handle, 0, 100)
  await client.read(handle, 6, 100)
  await client.code(requests.close, { handle })
  await client.code(requests.rmdir, { path: bytes('/nope') })
  expect(seen).toEqual([
    'open /x',
    'opened /x',
    'wrote 3 3',
    'read 0 6',
    'read 6 0',
    'closed 6 3',
    'rmdir /nope',
    'refused rmdir 2',
  ])
})

test('an answer larger than the window leaves in pieces as the window opens', async () => {
  const memory = new MemoryBackend()
  const content = new Uint8Array(200_000).map((_, i) => i * 13)
  memory.writeFile('/file', content)
  const { client } = await served(memory, { pair: { windowBytes: 1000, maxPacketBytes: 77 } })
  const handle = await client.open('/file', read)
  expect(Buffer.compare((await client.read(handle, 0, 200_000)) as Uint8Array, content)).toBe(0)
})

test('unserved sessions leave nothing behind', async () => {
  const { client, session } = unserved()
  client.channel.close()
  expect(await session.finished).toEqual({ reason: 'closed' })
})
