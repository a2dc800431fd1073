import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { SftpClient, SftpStatusError } from '../../packages/sftp/src/index.ts'
import { pattern, ScriptedServer, type ScriptedServerOptions, settle } from './scripted-server.ts'

async function opened(options: ScriptedServerOptions = {}, flags: 'w' | 'a' = 'w') {
  const server = new ScriptedServer({ ...options, files: [['/f', new Uint8Array(0)]] })
  const client = await SftpClient.open(server.channel)
  await client.limitsKnown
  return { server, client, file: await client.open('/f', flags) }
}

function writes(server: ScriptedServer): [number, number][] {
  return server.requests('WRITE').map((request) => {
    const { offset, data } = ScriptedServer.payload(request)
    return [offset, data.length]
  })
}

const hash = (bytes: Uint8Array) => createHash('sha1').update(bytes).digest('hex')

/** Grants the window bit by bit until `done`. */
async function trickle(server: ScriptedServer, bytes: number, done: Promise<unknown>): Promise<void> {
  let over = false
  const finished = done.finally(() => {
    over = true
  })
  finished.catch(() => {})
  while (!over) {
    server.grant(bytes)
    await settle(1)
  }
}

describe('a write', () => {
  test.each([0, 1, 32_768, 100_000, 3_000_000])('of %i bytes arrives whole', async (length) => {
    const { server, file } = await opened()
    const bytes = pattern(length)
    await file.write(0, bytes)
    expect(hash(server.files.get('/f')!)).toBe(hash(bytes))
  })

  test('goes out in pieces of 32 KiB without limits, all before the first answer', async () => {
    const { server, file } = await opened()
    server.hold()
    const write = file.write(10, pattern(100_000))
    await settle()
    expect(Math.max(...writes(server).map(([, length]) => length))).toBeLessThanOrEqual(32_768)
    expect(writes(server).reduce((sum, [, length]) => sum + length, 0)).toBe(100_000)
    server.release()
    await write
  })

  test('never sends a packet of 256 KiB, whatever the server’s limits say', async () => {
    const huge = 2n ** 64n - 1n
    const { server, file } = await opened({
      limits: { maxPacketLength: huge, maxReadLength: huge, maxWriteLength: huge, maxOpenHandles: huge },
    })
    await file.write(0, pattern(1_500_000))
    expect(Math.max(...server.requests('WRITE').map(({ packet }) => packet.length))).toBeLessThan(262_144)
  })

  test('resolves only when every piece was acknowledged', async () => {
    const { server, file } = await opened()
    server.hold()
    let resolved = false
    const write = file.write(0, pattern(100_000)).then(() => {
      resolved = true
    })
    await settle()
    server.releaseFirst(server.requests('WRITE').length - 1)
    await settle()
    expect(resolved).toBe(false)
    server.release()
    await write
  })

  test('with any failed piece rejects after the last answer, in any order, and reports the confirmed prefix', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.nat(9), { minLength: 1, maxLength: 9 }),
        fc.array(fc.nat(), { minLength: 10, maxLength: 10 }),
        async (failing, keys) => {
          let asked = 0
          const { server, client, file } = await opened({
            onRequest: (request, scripted) => {
              if (request.name !== 'WRITE' || !failing.includes(asked++)) return false
              scripted.status(request, 4, `piece ${asked - 1}`)
              return true
            },
          })
          server.hold()
          let settled = false
          const write = file.write(0, pattern(10 * 32_768)).finally(() => {
            settled = true
          })
          write.catch(() => {})
          await settle()
          const order = keys.map((key, i) => ({ key, i })).sort((a, b) => a.key - b.key)
          let last: Uint8Array | undefined
          server.release((answers) => {
            expect(answers).toHaveLength(10)
            const permuted = order.map(({ i }) => answers[i]!)
            last = permuted.pop()!.packet
            return permuted
          })
          await settle()
          // Nothing of it may be on its way when the promise settles.
          expect(settled).toBe(false)
          server.sendRaw(last!)
          const error = await write.then(
            () => expect.unreachable(),
            (reason) => reason,
          )
          expect(error).toBeInstanceOf(SftpStatusError)
          const first = order.find(({ i }) => failing.includes(i))!.i
          expect(error).toMatchObject({
            code: 'EIO',
            operation: 'WRITE',
            serverMessage: `piece ${first}`,
            confirmedBytes: Math.min(...failing) * 32_768,
          })
          await expect(client.stat('/f')).resolves.toBeDefined()
        },
      ),
      { numRuns: 30 },
    )
  })

  test('starts no further piece after a failure, though others are still in flight', async () => {
    let asked = 0
    const { server, file } = await opened({
      onRequest: (request, scripted) => {
        if (request.name !== 'WRITE' || asked++ > 0) return false
        scripted.status(request, 4)
        return true
      },
    })
    server.hold()
    const write = file.write(0, pattern(20_000_000))
    write.catch(() => {})
    await settle()
    const begun = server.requests('WRITE').length
    expect(begun * 32_768).toBe(1_048_576)
    server.releaseFirst(1)
    await settle()
    expect(server.requests('WRITE')).toHaveLength(begun)
    server.release()
    await expect(write).rejects.toMatchObject({ code: 'EIO', confirmedBytes: 0 })
    expect(server.requests('WRITE')).toHaveLength(begun)
  })

  test('begins nothing while the channel takes nothing', async () => {
    const server = new ScriptedServer({ files: [['/f', new Uint8Array(0)]], windowBytes: 1000 })
    const client = await SftpClient.open(server.channel)
    const file = await client.open('/f', 'w')
    // Uses the window up to its last byte.
    await file.write(0, new Uint8Array(server.channel.writableBytes - 27))
    expect(server.channel.writableBytes).toBe(0)
    let offered = 0
    const accept = server.channel.write
    server.channel.write = (bytes) => {
      offered += bytes.length
      accept(bytes)
    }
    const cancel = new AbortController()
    const write = file.write(0, pattern(100), { signal: cancel.signal })
    await settle()
    expect(offered).toBe(0)
    cancel.abort()
    await expect(write).rejects.toMatchObject({ code: 'ABORT_ERR' })
    server.grant(10_000)
    await settle()
    expect(offered).toBe(0)
  })

  test.each([1, 7, 1000, 40_000])('through a window of %i bytes at a time arrives whole', async (grant) => {
    const server = new ScriptedServer({ files: [['/f', new Uint8Array(0)]], windowBytes: 2000 })
    const client = await SftpClient.open(server.channel)
    const file = await client.open('/f', 'w')
    const bytes = pattern(grant < 1000 ? 3000 : 200_000)
    const write = file.write(0, bytes)
    await trickle(server, grant, write)
    expect(hash(server.files.get('/f')!)).toBe(hash(bytes))
  })

  test('never gives the channel more than it takes, but for the header of one piece', async () => {
    const server = new ScriptedServer({ files: [['/f', new Uint8Array(0)]], windowBytes: 100_000 })
    const client = await SftpClient.open(server.channel)
    const file = await client.open('/f', 'w')
    const before = server.written.reduce((sum, { length }) => sum + length, 0)
    let offered = 0
    const write = server.channel.write
    server.channel.write = (bytes) => {
      offered += bytes.length
      write(bytes)
    }
    const call = file.write(0, pattern(1_000_000))
    await settle()
    expect(offered).toBeLessThanOrEqual(100_000 - before + 300)
    expect(offered).toBeGreaterThan(99_000 - before)
    server.grant(2_000_000)
    await call
  })

  test('cancelled in the middle of a packet finishes that packet from a copy', async () => {
    const server = new ScriptedServer({ files: [['/f', new Uint8Array(0)]], windowBytes: 20_000 })
    const client = await SftpClient.open(server.channel)
    const file = await client.open('/f', 'w')
    const bytes = pattern(200_000)
    const original = bytes.slice()
    const cancel = new AbortController()
    const write = file.write(0, bytes, { signal: cancel.signal })
    await settle()
    // The window ends inside the first WRITE.
    expect(server.requests('WRITE')).toHaveLength(0)
    cancel.abort()
    await expect(write).rejects.toMatchObject({ code: 'ABORT_ERR' })
    // The buffer is the caller's again: what happens to it does not reach the file.
    bytes.fill(0xff)
    server.grant(1_000_000)
    await file.settled()
    expect(server.requests('WRITE')).toHaveLength(1)
    const { offset, data } = ScriptedServer.payload(server.requests('WRITE')[0]!)
    expect(offset).toBe(0)
    expect(hash(data)).toBe(hash(original.subarray(0, data.length)))
    // And the stream of packets is intact.
    await expect(client.stat('/f')).resolves.toMatchObject({ size: data.length })
    await file.write(0, pattern(50))
  })

  test('cancelled before it began sends nothing', async () => {
    const server = new ScriptedServer({ files: [['/f', new Uint8Array(0)]], windowBytes: 20_000 })
    const client = await SftpClient.open(server.channel)
    const file = await client.open('/f', 'w')
    const first = file.write(0, pattern(30_000))
    const cancel = new AbortController()
    const second = file.write(30_000, pattern(30_000), { signal: cancel.signal })
    await settle()
    cancel.abort()
    await expect(second).rejects.toMatchObject({ code: 'ABORT_ERR' })
    server.grant(1_000_000)
    await first
    await file.settled()
    expect(writes(server)).toEqual([[0, 30_000]])
  })

  test('startWrite gives the buffer back when the channel took it, before the answer', async () => {
    const { server, file } = await opened()
    server.hold()
    const bytes = pattern(100_000)
    const original = hash(bytes)
    const { sent, acknowledged } = file.startWrite(0, bytes)
    await sent
    bytes.fill(0)
    server.release()
    await acknowledged
    expect(hash(server.files.get('/f')!)).toBe(original)
  })

  test('an answer to a packet that is not sent in full ends the channel', async () => {
    const server = new ScriptedServer({ files: [['/f', new Uint8Array(0)]], windowBytes: 10_000 })
    const client = await SftpClient.open(server.channel)
    const file = await client.open('/f', 'w')
    const write = file.write(0, pattern(30_000))
    await settle()
    const id = server.log.at(-1)!.id + 1
    server.status({ type: 6, name: 'WRITE', id, extension: undefined, packet: new Uint8Array(0) }, 0)
    await expect(write).rejects.toThrow(/not sent in full/)
  })
})

describe('other requests', () => {
  test('pass a queue of writes that have not begun, and wait for one at most', async () => {
    const server = new ScriptedServer({ files: [['/f', new Uint8Array(0)]], windowBytes: 50_000 })
    const client = await SftpClient.open(server.channel)
    const file = await client.open('/f', 'w')
    const write = file.write(0, pattern(1_000_000))
    await settle()
    const begun = server.requests('WRITE').length + 1
    const stat = client.stat('/f')
    await settle()
    // Not into the middle of a packet, either.
    expect(server.requests('STAT')).toHaveLength(0)
    server.grant(33_000)
    await expect(stat).resolves.toBeDefined()
    expect(server.requests('WRITE').length).toBeLessThanOrEqual(begun)
    server.grant(2_000_000)
    await write
  })

  test('of one turn leave in one write', async () => {
    const { server, client, file } = await opened()
    const before = server.written.length
    const calls = [
      client.stat('/f'),
      client.lstat('/f'),
      client.realpath('/'),
      file.read(0, new Uint8Array(100_000)),
      file.write(0, pattern(50)),
    ]
    await Promise.all(calls)
    expect(server.written.length - before).toBe(1)
  })
})

describe('appending', () => {
  test('goes one packet at a time, in order of the calls, because the server chooses the offset', async () => {
    const { server, file } = await opened({}, 'a')
    server.hold()
    const calls = [file.write(0, pattern(70_000, 1)), file.write(0, pattern(50_000, 2))]
    await settle()
    expect(server.requests('WRITE')).toHaveLength(1)
    server.release()
    await Promise.all(calls)
    expect(hash(server.files.get('/f')!)).toBe(hash(Buffer.concat([pattern(70_000, 1), pattern(50_000, 2)])))
  })
})

describe('close', () => {
  test('waits for the answer to every WRITE, those of cancelled calls included', async () => {
    const { server, file } = await opened()
    server.hold()
    const cancel = new AbortController()
    const write = file.write(0, pattern(100_000), { signal: cancel.signal })
    await settle()
    cancel.abort()
    await expect(write).rejects.toMatchObject({ code: 'ABORT_ERR' })
    const close = file.close()
    await settle()
    expect(server.requests('CLOSE')).toHaveLength(0)
    server.release()
    await close
    expect(server.requests('CLOSE')).toHaveLength(1)
  })

  test('is done once, however often it is called, and later calls fail with ClosedError', async () => {
    const { server, file } = await opened()
    await Promise.all([file.close(), file.close(), file[Symbol.asyncDispose]()])
    expect(server.requests('CLOSE')).toHaveLength(1)
    for (const call of [
      file.read(0, new Uint8Array(1)),
      file.write(0, new Uint8Array(1)),
      file.stat(),
      file.sync(),
      file.truncate(0),
      file.statvfs(),
    ]) {
      await expect(call).rejects.toMatchObject({ code: 'ERR_CLOSED' })
    }
  })

  test('reports what the server says', async () => {
    const { file } = await opened({
      onRequest: (request, scripted) => {
        if (request.name !== 'CLOSE') return false
        scripted.status(request, 14, 'disk full')
        return true
      },
    })
    await expect(file.close()).rejects.toMatchObject({ code: 'ENOSPC', operation: 'CLOSE', path: '/f' })
  })
})
