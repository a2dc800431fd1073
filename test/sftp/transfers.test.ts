/** get, put, streams and whole files against a scripted server: order, memory, errors, ends. */
import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { SftpClient, type SftpClientOptions } from '../../packages/sftp/src/index.ts'
import { requests } from '../../packages/sftp/src/messages/index.ts'
import { ManualClock } from './manual-clock.ts'
import { pattern, ScriptedServer, type ScriptedServerOptions, settle } from './scripted-server.ts'

async function opened(options: ScriptedServerOptions = {}, clientOptions: SftpClientOptions = {}) {
  const server = new ScriptedServer(options)
  return { server, client: await SftpClient.open(server.channel, clientOptions) }
}

const hash = (bytes: Uint8Array) => createHash('sha1').update(bytes).digest('hex')

function collector() {
  const chunks: Uint8Array[] = []
  let closed = false
  let aborted: unknown
  const stream = new WritableStream<Uint8Array>({
    write: (chunk) => void chunks.push(chunk),
    close: () => {
      closed = true
    },
    abort: (reason) => {
      aborted = reason
    },
  })
  return { stream, bytes: () => Buffer.concat(chunks), isClosed: () => closed, aborted: () => aborted }
}

const contents: Uint8Array<ArrayBuffer> = pattern(2_000_000)
const files = [['/f', contents]] as const

describe('get', () => {
  test('fills a Uint8Array, a WritableStream, or calls a function in order', async () => {
    const { client } = await opened({ files })
    const into = new Uint8Array(2_100_000)
    await expect(client.get('/f', into)).resolves.toEqual({ bytes: 2_000_000 })
    expect(hash(into.subarray(0, 2_000_000))).toBe(hash(contents))

    const sink = collector()
    await client.get('/f', sink.stream)
    expect(hash(sink.bytes())).toBe(hash(contents))
    expect(sink.isClosed()).toBe(true)

    let next = 0
    await client.get('/f', (chunk, offset) => {
      expect(offset).toBe(next)
      next += chunk.length
    })
    expect(next).toBe(2_000_000)
  })

  test('gets a part, and nothing behind it is asked for', async () => {
    const { server, client } = await opened({ files })
    const into = new Uint8Array(500_000)
    await expect(client.get('/f', into, { offset: 100_001, length: 400_000 })).resolves.toEqual({
      bytes: 400_000,
    })
    expect(hash(into.subarray(0, 400_000))).toBe(hash(contents.subarray(100_001, 500_001)))
    for (const { packet } of server.requests('READ')) {
      const { offset, len } = requests.read.decode(packet)
      expect(offset).toBeGreaterThanOrEqual(100_001)
      expect(offset + len).toBeLessThanOrEqual(500_001)
    }
    await expect(client.get('/f', into, { offset: 2_000_000 })).resolves.toEqual({ bytes: 0 })
  })

  test('refuses what does not fit', async () => {
    const { client } = await opened({ files })
    await expect(client.get('/f', new Uint8Array(1_999_999))).rejects.toMatchObject({
      code: 'ERR_SFTP_FILE_TOO_LARGE',
      path: '/f',
    })
  })

  test('asks for more at once as long as that is what limits it', async () => {
    const { client } = await opened({ files: [['/f', pattern(6_000_000)]] }, { clock: new ManualClock() })
    let bytes = 0
    await client.get('/f', (chunk) => void (bytes += chunk.length))
    expect(bytes).toBe(6_000_000)
    expect(client.bytesInFlightLimit.read).toBeGreaterThan(3_000_000)
  })

  test('reads ahead no further than its bytes in flight while the sink is slow', async () => {
    const { server, client } = await opened({ files: [['/f', pattern(6_000_000)]] })
    let free = (): void => {}
    const get = client.get('/f', () => new Promise<void>((resolve) => (free = resolve)))
    await settle(20)
    const asked = server
      .requests('READ')
      .reduce((sum, { packet }) => sum + requests.read.decode(packet).len, 0)
    expect(asked).toBeLessThanOrEqual(1.5 * 1_048_576 + 2 * 262_144)
    const timer = setInterval(() => free())
    await get
    clearInterval(timer)
  })

  test('aborts the sink and tells how far it came when a READ is refused', async () => {
    const { client } = await opened({
      files,
      onRequest: (request, server) => {
        if (request.name !== 'READ' || requests.read.decode(request.packet).offset < 1_000_000) return false
        server.status(request, 4, 'bad sector')
        return true
      },
    })
    const sink = collector()
    const error = await client.get('/f', sink.stream).catch((reason) => reason)
    expect(error).toMatchObject({ code: 'EIO', name: 'SftpTransferError', path: '/f' })
    expect(error.cause).toMatchObject({ name: 'SftpStatusError', serverMessage: 'bad sector' })
    expect(error.transferredBytes).toBe(sink.bytes().length)
    expect(hash(sink.bytes())).toBe(hash(contents.subarray(0, error.transferredBytes)))
    expect(sink.isClosed()).toBe(false)
    expect(sink.aborted()).toBe(error.cause)
  })

  test('ends with the sink’s error, and closes the remote file', async () => {
    const { server, client } = await opened({ files })
    const failing = new WritableStream({
      write: () => {
        throw new Error('disk full here')
      },
    })
    await expect(client.get('/f', failing)).rejects.toMatchObject({
      code: 'ERR_SFTP_LOCAL',
      cause: new Error('disk full here'),
    })
    await expect(client.get('/f', () => Promise.reject(new Error('no')))).rejects.toMatchObject({
      code: 'ERR_SFTP_LOCAL',
    })
    expect(server.handles.size).toBe(0)
  })

  test('a file that shrinks ends in an error, never in a loop', async () => {
    const { server, client } = await opened({ files }, { maxBytesInFlight: 500_000 })
    const get = client.get('/f', () => void server.files.set('/f', contents.subarray(0, 500_000)))
    await expect(get).rejects.toMatchObject({ code: 'ERR_SFTP_FILE_SHRANK' })
    server.files.set('/f', contents)
    server.setAttributes('/f', { size: 2_000_001, permissions: 0o100644 })
    await expect(client.readFile('/f')).rejects.toMatchObject({
      code: 'ERR_SFTP_FILE_SHRANK',
      transferredBytes: 2_000_000,
    })
  })

  test('a size that the server makes up allocates nothing', async () => {
    const { server, client } = await opened({ files })
    server.setAttributes('/f', { size: Number.MAX_SAFE_INTEGER, permissions: 0o100644 })
    await expect(client.readFile('/f')).rejects.toMatchObject({ code: 'ERR_SFTP_FILE_TOO_LARGE' })
  })

  test('a file without a size, or of size 0, is read to its end', async () => {
    const { server, client } = await opened({ files })
    for (const attributes of [{}, { size: 0, permissions: 0o100444 }]) {
      server.setAttributes('/f', attributes)
      expect(hash(await client.readFile('/f'))).toBe(hash(contents))
      await expect(client.readFile('/f', { maxBytes: 1_999_999 })).rejects.toMatchObject({
        code: 'ERR_SFTP_FILE_TOO_LARGE',
      })
      await expect(client.readFile('/f', { maxBytes: 2_000_000 })).resolves.toHaveLength(2_000_000)
    }
  })
})

describe('a file that its server calls empty', () => {
  const asked = (server: ScriptedServer) =>
    server.requests('READ').map(({ packet }) => requests.read.decode(packet).len)

  test('is asked for little where it is', async () => {
    const { server, client } = await opened({ files: [['/empty', new Uint8Array(0)]] })
    await expect(client.get('/empty', () => {})).resolves.toEqual({ bytes: 0 })
    expect(asked(server)).toEqual([16 * 1024])
  })

  test('is read to its end where it is not, in larger and larger pieces', async () => {
    const { server, client } = await opened({ files })
    server.setAttributes('/f', { size: 0, permissions: 0o100444 })
    const sink = collector()
    await client.get('/f', sink.stream)
    expect(hash(sink.bytes())).toBe(hash(contents))
    const lengths = asked(server)
    expect(lengths[0]).toBe(16 * 1024)
    expect(Math.max(...lengths)).toBeGreaterThan(16 * 1024)
  })
})

describe('put', () => {
  async function* pieces(sizes: readonly number[]): AsyncGenerator<Uint8Array> {
    let at = 0
    // One buffer for all: it may be reused when the next is asked for.
    const buffer = new Uint8Array(Math.max(...sizes))
    for (let i = 0; at < contents.length; i++) {
      const chunk = contents.subarray(at, at + sizes[i % sizes.length]!)
      buffer.set(chunk)
      at += chunk.length
      yield buffer.subarray(0, chunk.length)
    }
  }

  test.each([[[100]], [[32_767]], [[32_768]], [[1, 50_000, 3, 300_000]], [[700_000]]])(
    'takes an async iterable in chunks of %j that lie in one reused buffer',
    async (sizes) => {
      const { server, client } = await opened()
      await expect(client.put(pieces(sizes), '/f')).resolves.toEqual({ bytes: contents.length })
      expect(hash(server.files.get('/f')!)).toBe(hash(contents))
      expect(server.handles.size).toBe(0)
    },
  )

  test('small chunks are gathered, not one WRITE each', async () => {
    const { server, client } = await opened()
    await client.put(pieces([100]), '/f')
    expect(server.requests('WRITE').length).toBeLessThan(300)
  })

  test('takes a ReadableStream and an array', async () => {
    const { server, client } = await opened()
    await client.put(new Blob([contents.slice()]).stream(), '/f')
    expect(hash(server.files.get('/f')!)).toBe(hash(contents))
    await client.put([contents.subarray(0, 10), contents.subarray(10, 100)], '/g')
    expect(server.files.get('/g')).toEqual(contents.slice(0, 100))
    await client.put([], '/empty')
    expect(server.files.get('/empty')).toEqual(new Uint8Array(0))
  })

  test('overwrites in place where an offset is given', async () => {
    const { server, client } = await opened({ files: [['/f', new Uint8Array(100)]] })
    await client.put(new Uint8Array(10).fill(1), '/f', { offset: 50 })
    expect([...server.files.get('/f')!].indexOf(1)).toBe(50)
    expect(server.files.get('/f')).toHaveLength(100)
  })

  test('tells the acknowledged prefix when a WRITE is refused, and closes the file', async () => {
    const { server, client } = await opened({
      onRequest: (request, scripted) => {
        if (request.name !== 'WRITE' || ScriptedServer.payload(request).offset < 1_000_000) return false
        scripted.status(request, 14)
        return true
      },
    })
    const error = await client.put(contents, '/f').catch((reason) => reason)
    expect(error).toMatchObject({ code: 'ENOSPC', name: 'SftpTransferError' })
    const refused = server.requests('WRITE').map((request) => ScriptedServer.payload(request).offset)
    expect(error.transferredBytes).toBe(Math.min(...refused.filter((offset) => offset >= 1_000_000)))
    expect(server.handles.size).toBe(0)
  })

  test('cancels its source when the server refuses, and passes on the source’s own error', async () => {
    const { client } = await opened({
      onRequest: (request, server) => {
        if (request.name !== 'WRITE') return false
        server.status(request, 3)
        return true
      },
    })
    let cancelled: unknown
    const source = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.enqueue(new Uint8Array(100_000)),
      cancel: (reason) => {
        cancelled = reason ?? 'cancelled'
      },
    })
    await expect(client.put(source, '/f')).rejects.toMatchObject({ code: 'EACCES' })
    expect(cancelled).toBe('cancelled')
    async function* failing() {
      yield new Uint8Array(10)
      throw new Error('source broke')
    }
    const { client: other } = await opened()
    await expect(other.put(failing(), '/f')).rejects.toMatchObject({
      code: 'ERR_SFTP_LOCAL',
      cause: new Error('source broke'),
    })
    await expect(other.put(['text' as unknown as Uint8Array], '/f')).rejects.toMatchObject({
      code: 'ERR_USAGE',
    })
  })

  test('atomic: the name appears when all is there; a failure leaves nothing', async () => {
    const { server, client } = await opened()
    await client.put(contents, '/f', { atomic: true })
    expect(
      server
        .requests('OPEN')
        .map(({ packet }) => Buffer.from(requests.open.decode(packet).filename).toString()),
    ).toEqual(['/f.part'])
    const rename = requests.rename.decode(server.requests('RENAME')[0]!.packet)
    expect([rename.oldpath, rename.newpath].map((path) => Buffer.from(path).toString())).toEqual([
      '/f.part',
      '/f',
    ])
    const broken = await opened({
      onRequest: (request, scripted) => {
        if (request.name !== 'WRITE') return false
        scripted.status(request, 4)
        return true
      },
    })
    await expect(broken.client.put(contents, '/f', { atomic: true })).rejects.toMatchObject({ code: 'EIO' })
    expect(broken.server.requests('REMOVE')).toHaveLength(1)
    expect(broken.server.requests('RENAME')).toHaveLength(0)
  })
})

describe('read streams', () => {
  test('give the bytes from start to end inclusive, and close the file', async () => {
    const { server, client } = await opened({ files })
    for (const [start, end] of [
      [0, 0],
      [0, 1_999_999],
      [5, 1_000_000],
      [1_999_990, 5_000_000],
    ] as const) {
      const chunks: Uint8Array[] = []
      for await (const chunk of client.createReadStream('/f', { start, end })) chunks.push(chunk)
      expect(hash(Buffer.concat(chunks))).toBe(hash(contents.subarray(start, end + 1)))
    }
    expect(server.handles.size).toBe(0)
  })

  test('have many requests under way, not one', async () => {
    const { server, client } = await opened({ files })
    server.hold()
    const reader = client.createReadStream('/f').getReader()
    const first = reader.read()
    for (let i = 0; i < 4; i++) {
      await settle()
      if (server.requests('READ').length === 0) {
        server.release()
        server.hold()
      }
    }
    expect(server.requests('READ').length * 32_768).toBe(1_048_576)
    server.release()
    await first
    await reader.cancel()
    expect(server.handles.size).toBe(0)
  })

  test('ask for nothing before they are read', async () => {
    const { server, client } = await opened({ files })
    client.createReadStream('/f')
    await settle()
    expect(server.requests('OPEN')).toHaveLength(0)
  })

  test('fill a reader’s own buffer', async () => {
    const { client } = await opened({ files: [['/f', contents.subarray(0, 10)]] })
    const reader = client.createReadStream('/f').getReader({ mode: 'byob' })
    const first = await reader.read(new Uint8Array(6))
    expect([...first.value!]).toEqual([...contents.subarray(0, 6)])
    const second = await reader.read(new Uint8Array(6))
    expect([...second.value!]).toEqual([...contents.subarray(6, 10)])
    expect((await reader.read(new Uint8Array(6))).done).toBe(true)
  })

  test('fail with the error of open, read, or the signal', async () => {
    const { client } = await opened({ files }, { maxBytesInFlight: 500_000 })
    await expect(client.createReadStream('/none').getReader().read()).rejects.toMatchObject({
      code: 'ENOENT',
    })
    const cancel = new AbortController()
    const reader = client.createReadStream('/f', { signal: cancel.signal }).getReader()
    await reader.read()
    cancel.abort()
    const drained = (async () => {
      while (!(await reader.read()).done);
    })()
    await expect(drained).rejects.toMatchObject({ code: 'ABORT_ERR' })
    expect(() => client.createReadStream('/f', { start: -1 })).toThrow(/start must be/)
  })
})

describe('write streams', () => {
  test('take chunks of any size, whose buffer is free when write resolved', async () => {
    const { server, client } = await opened()
    const writer = client.createWriteStream('/f').getWriter()
    const buffer = new Uint8Array(100_000)
    for (let at = 0, size = 1; at < contents.length; size = (size * 7) % 100_000) {
      const chunk = contents.subarray(at, at + size)
      buffer.set(chunk)
      await writer.write(buffer.subarray(0, chunk.length))
      buffer.fill(0xff)
      at += chunk.length
    }
    await writer.close()
    expect(hash(server.files.get('/f')!)).toBe(hash(contents))
    expect(server.handles.size).toBe(0)
  })

  test('have many writes under way: a write resolves before its answer', async () => {
    const { server, client } = await opened()
    const writer = client.createWriteStream('/f').getWriter()
    await writer.ready
    await settle()
    server.hold()
    for (let i = 0; i < 20; i++) await writer.write(contents.subarray(i * 40_000, (i + 1) * 40_000))
    expect(server.requests('WRITE').length).toBeGreaterThanOrEqual(20)
    const closing = writer.close()
    await settle()
    server.release()
    await closing
    expect(hash(server.files.get('/f')!)).toBe(hash(contents.subarray(0, 800_000)))
  })

  test('a lone small chunk goes out at once', async () => {
    const { server, client } = await opened()
    const writer = client.createWriteStream('/f').getWriter()
    await writer.write(new Uint8Array([1, 2, 3]))
    await settle()
    expect(server.files.get('/f')).toEqual(new Uint8Array([1, 2, 3]))
    await writer.close()
  })

  test('the first refusal fails the stream; close waits for every answer', async () => {
    let asked = 0
    const { server, client } = await opened({
      onRequest: (request, scripted) => {
        if (request.name !== 'WRITE' || ++asked !== 3) return false
        scripted.status(request, 4, 'third')
        return true
      },
    })
    const writer = client.createWriteStream('/f').getWriter()
    writer.closed.catch(() => {})
    const writes = (async () => {
      for (let i = 0; i < 100; i++) await writer.write(contents.subarray(0, 40_000))
      await writer.close()
    })()
    await expect(writes).rejects.toMatchObject({ code: 'EIO', serverMessage: 'third' })
    await settle()
    expect(server.handles.size).toBe(0)
    expect(server.requests('WRITE').length).toBeLessThan(100)
  })

  test('pipe from one server to another', async () => {
    const from = await opened({ files })
    const to = await opened()
    await from.client.createReadStream('/f').pipeTo(to.client.createWriteStream('/copy'))
    expect(hash(to.server.files.get('/copy')!)).toBe(hash(contents))
  })

  test('abort closes the file, start writes in place', async () => {
    const { server, client } = await opened({ files: [['/f', new Uint8Array(10)]] })
    const writer = client.createWriteStream('/f', { start: 4 }).getWriter()
    await writer.write(new Uint8Array([9, 9]))
    await writer.abort()
    expect([...server.files.get('/f')!]).toEqual([0, 0, 0, 0, 9, 9, 0, 0, 0, 0])
    expect(server.handles.size).toBe(0)
    await expect(client.createWriteStream('/none', { flags: 'r+' }).getWriter().closed).rejects.toMatchObject(
      {
        code: 'ENOENT',
      },
    )
  })
})

test('readFile and writeFile carry text and bytes; the error of the write is told, not that of the close', async () => {
  const { server, client } = await opened({
    onRequest: (request, scripted) => {
      if (!['WRITE', 'CLOSE'].includes(request.name) || !scripted.files.has('/bad')) return false
      scripted.status(request, 4, request.name)
      return true
    },
  })
  await client.writeFile('/t', 'grüße')
  await expect(client.readFile('/t', { encoding: 'utf8' })).resolves.toBe('grüße')
  await client.writeFile('/t', new Uint8Array([1]))
  expect(server.files.get('/t')).toEqual(new Uint8Array([1]))
  await expect(client.writeFile('/bad', 'x')).rejects.toMatchObject({ serverMessage: 'WRITE' })
  await expect(client.writeFile('/t', 5 as unknown as string)).rejects.toMatchObject({ code: 'ERR_USAGE' })
})
