/** Opening, time-outs, the ends of a session: every wait settles, with the error that says why. */
import { ConnectionLost } from '@sshblock/transport/errors'
import { describe, expect, test, vi } from 'vitest'
import { SftpClient, type SftpTraceEvent } from '../../packages/sftp/src/index.ts'
import { replies } from '../../packages/sftp/src/messages/index.ts'
import { ManualClock } from './manual-clock.ts'
import {
  nameEntry,
  packetOf,
  pattern,
  ScriptedServer,
  type ScriptedServerOptions,
  settle,
} from './scripted-server.ts'

const files = [['/f', pattern(100_000)]] as const

async function opened(options: ScriptedServerOptions = {}) {
  const server = new ScriptedServer({ files, ...options })
  const clock = new ManualClock()
  const client = await SftpClient.open(server.channel, { clock, requestTimeoutMs: 1000 })
  const file = await client.open('/f', 'r+')
  return { server, clock, client, file }
}

/** Whether a promise has settled, and how. */
function watch<T>(promise: Promise<T>): { state: 'pending' | 'resolved' | 'rejected'; reason?: unknown } {
  const watched: ReturnType<typeof watch> = { state: 'pending' }
  promise.then(
    () => {
      watched.state = 'resolved'
    },
    (reason) => {
      watched.state = 'rejected'
      watched.reason = reason
    },
  )
  return watched
}

describe('opening', () => {
  test('sends INIT 3 without extensions, and nothing else before VERSION', async () => {
    const server = new ScriptedServer()
    server.hold()
    const opening = SftpClient.open(server.channel)
    await settle()
    expect(server.written.map((bytes) => [...bytes])).toEqual([[0, 0, 0, 5, 1, 0, 0, 0, 3]])
    server.release()
    await expect(opening).resolves.toMatchObject({ version: 3 })
  })

  test('asks for limits without waiting for them: requests follow at once', async () => {
    const limits = {
      maxPacketLength: 0n,
      maxReadLength: 100_000n,
      maxWriteLength: 50_000n,
      maxOpenHandles: 7n,
    }
    const server = new ScriptedServer({ files, limits })
    const client = await SftpClient.open(server.channel)
    server.hold()
    const file = client.open('/f')
    expect(client.limits).toEqual({
      maxReadBytes: 32_768,
      maxWriteBytes: 32_768,
      maxPacketBytes: 33_792,
      maxOpenHandles: undefined,
    })
    await settle()
    expect(server.log.map(({ name }) => name)).toEqual(['INIT', 'EXTENDED', 'OPEN'])
    server.release()
    await file
    expect(client.limits).toEqual({
      maxReadBytes: 100_000,
      maxWriteBytes: 50_000,
      maxPacketBytes: 262_144,
      maxOpenHandles: 7,
    })
    await expect(client.limitsKnown).resolves.toBe(client.limits)
  })

  test('keeps the defaults where limits are announced and refused, or announced in another version', async () => {
    for (const version of ['1', '2']) {
      const server = new ScriptedServer({ extensions: [['limits@openssh.com', version]] })
      const client = await SftpClient.open(server.channel)
      await expect(client.limitsKnown).resolves.toMatchObject({ maxReadBytes: 32_768 })
      expect(server.requests('limits@openssh.com')).toHaveLength(version === '1' ? 1 : 0)
      await expect(client.realpath('/')).resolves.toBe('/')
    }
  })

  test.each([0n, 1n, 1023n, 2n ** 31n, 2n ** 53n, 2n ** 64n - 1n])(
    'limits of %d in each field end between 1 KiB and 255 KiB',
    async (value) => {
      const limits = {
        maxPacketLength: value,
        maxReadLength: value,
        maxWriteLength: value,
        maxOpenHandles: value,
      }
      const server = new ScriptedServer({ files, limits })
      const client = await SftpClient.open(server.channel)
      const { maxReadBytes, maxWriteBytes, maxPacketBytes, maxOpenHandles } = await client.limitsKnown
      for (const bytes of [maxReadBytes, maxWriteBytes]) {
        expect(bytes).toBeGreaterThanOrEqual(1024)
        expect(bytes).toBeLessThanOrEqual(261_120)
      }
      expect(maxPacketBytes).toBeLessThanOrEqual(262_144)
      if (value === 0n) expect(maxOpenHandles).toBeUndefined()
      else expect(Number.isSafeInteger(maxOpenHandles)).toBe(true)
      const data = pattern(300_000)
      await client.writeFile('/g', data)
      expect(Buffer.compare(await client.readFile('/g'), data)).toBe(0)
    },
  )

  test('times out where no VERSION comes, and closes the channel', async () => {
    const server = new ScriptedServer()
    server.hold()
    const clock = new ManualClock()
    const opening = watch(SftpClient.open(server.channel, { clock, requestTimeoutMs: 1000 }))
    await settle()
    clock.advance(900)
    await settle()
    expect(opening.state).toBe('pending')
    clock.advance(400)
    await settle()
    expect(opening).toMatchObject({ state: 'rejected', reason: { code: 'ERR_SSH_TIMEOUT' } })
    expect(server.closed).toBe(true)
    expect(clock.pendingTimers).toBe(0)
  })

  test('can be cancelled, before and meanwhile', async () => {
    const server = new ScriptedServer()
    server.hold()
    const cancel = new AbortController()
    const opening = SftpClient.open(server.channel, { signal: cancel.signal })
    await settle()
    cancel.abort()
    await expect(opening).rejects.toMatchObject({ code: 'ABORT_ERR' })
    expect(server.closed).toBe(true)
    const other = new ScriptedServer()
    await expect(SftpClient.open(other.channel, { signal: cancel.signal })).rejects.toMatchObject({
      code: 'ABORT_ERR',
    })
    expect(other.closed).toBe(true)
  })

  test('fails where the channel ends first', async () => {
    const server = new ScriptedServer()
    server.hold()
    const opening = SftpClient.open(server.channel)
    await settle()
    server.endOutput()
    await expect(opening).rejects.toMatchObject({ code: 'ERR_SSH_CHANNEL_CLOSED' })
  })

  test.each([{ requestTimeoutMs: 0 }, { requestTimeoutMs: Number.NaN }, { maxBytesInFlight: -1 }])(
    'refuses %o',
    async (options) => {
      await expect(SftpClient.open(new ScriptedServer().channel, options)).rejects.toMatchObject({
        code: 'ERR_USAGE',
      })
    },
  )
})

describe('a request without an answer', () => {
  test('fails with TimeoutError; its late answer is dropped; others are not disturbed', async () => {
    const { server, clock, client } = await opened()
    server.hold()
    const lost = watch(client.stat('/f'))
    await settle()
    clock.advance(200)
    clock.advance(900)
    await settle()
    expect(lost.state).toBe('pending')
    clock.advance(400)
    await settle()
    expect(lost).toMatchObject({ state: 'rejected', reason: { code: 'ERR_SSH_TIMEOUT' } })
    const next = client.realpath('/x')
    await settle()
    server.release()
    await expect(next).resolves.toBe('/x')
    await expect(client.stat('/f')).resolves.toMatchObject({ size: 100_000 })
  })

  test('is found among answered ones', async () => {
    let dropped = false
    const { clock, client } = await opened({
      onRequest: (request) => {
        if (request.name !== 'LSTAT' || dropped) return false
        dropped = true
        return true
      },
    })
    const lost = watch(client.lstat('/f'))
    for (let i = 0; i < 20 && lost.state === 'pending'; i++) {
      await client.stat('/f')
      clock.advance(150)
      await settle(1)
    }
    expect(lost).toMatchObject({ state: 'rejected', reason: { code: 'ERR_SSH_TIMEOUT' } })
    expect(clock.now()).toBeLessThan(2000)
    await expect(client.lstat('/f')).resolves.toBeDefined()
  })

  test('behind others that are being answered never times out, however slow they are', async () => {
    const { server, clock, file } = await opened()
    server.hold()
    const read = watch(file.read(0, new Uint8Array(100_000)))
    await settle()
    for (let i = 0; i < 4; i++) {
      expect(read.state).toBe('pending')
      clock.advance(800)
      server.releaseFirst(1)
      await settle()
    }
    expect(read.state).toBe('resolved')
  })

  test('with nothing coming at all, all that were sent together time out together', async () => {
    const { server, clock, client, file } = await opened()
    server.hold()
    const calls = [
      watch(client.stat('/f')),
      watch(file.read(0, new Uint8Array(100_000))),
      watch(file.write(0, pattern(50_000))),
    ]
    await settle()
    clock.advance(1500)
    await settle()
    expect(calls.map(({ state }) => state)).toEqual(['rejected', 'rejected', 'rejected'])
    // What they held is given back: the late answers change nothing.
    server.release()
    await settle()
    await expect(file.read(0, new Uint8Array(1000))).resolves.toBe(1000)
    expect(client.bytesInFlightLimit.read).toBe(1_048_576)
  })

  test('does not take with it those that still wait their turn', async () => {
    const { server, clock, client } = await opened({ onRequest: (request) => request.name === 'LSTAT' })
    server.hold()
    const lost = watch(client.lstat('/f'))
    const slow = Array.from({ length: 20 }, () => watch(client.stat('/f')))
    await settle()
    for (let i = 0; i < 20; i++) {
      clock.advance(100)
      server.releaseFirst(1)
      await settle(1)
    }
    expect(lost.state).toBe('rejected')
    expect(slow.map(({ state }) => state)).toEqual(Array(20).fill('resolved'))
  })

  test('is found with all others that were overtaken, in one time-out, not one after another', async () => {
    const { server, clock, client } = await opened({ onRequest: (request) => request.name === 'LSTAT' })
    const lost = Array.from({ length: 20 }, () => watch(client.lstat('/f')))
    for (let i = 0; i < 14; i++) {
      await client.stat('/f')
      clock.advance(100)
      await settle(1)
    }
    expect(lost.map(({ state }) => state)).toEqual(Array(20).fill('rejected'))
    // One that is sent afterwards has its own time.
    const later = watch(client.lstat('/f'))
    await settle()
    clock.advance(900)
    await settle()
    expect(later.state).toBe('pending')
    expect(server.closed).toBe(false)
  })

  test('on a silent server is no more than a time-out late, however many are sent meanwhile', async () => {
    const { server, clock, client } = await opened()
    server.hold()
    const calls: { sentAt: number; watched: ReturnType<typeof watch> }[] = []
    for (let i = 0; i < 60; i++) {
      calls.push({ sentAt: clock.now(), watched: watch(client.stat('/f')) })
      await settle(1)
      clock.advance(100)
      for (const { sentAt, watched } of calls) {
        if (clock.now() - sentAt > 2600) expect(watched.state).toBe('rejected')
        if (clock.now() - sentAt < 1000) expect(watched.state).toBe('pending')
      }
    }
  })

  test('that could not even be sent times out too', async () => {
    const server = new ScriptedServer({ files, windowBytes: 200 })
    const clock = new ManualClock()
    const client = await SftpClient.open(server.channel, { clock, requestTimeoutMs: 1000 })
    const file = await client.open('/f', 'r+')
    const begun = watch(file.write(0, pattern(50_000)))
    const waiting = watch(file.write(50_000, pattern(1000)))
    await settle()
    clock.advance(1500)
    await settle()
    expect(begun).toMatchObject({ state: 'rejected', reason: { code: 'ERR_SSH_TIMEOUT' } })
    clock.advance(1500)
    await settle()
    expect(waiting).toMatchObject({ state: 'rejected', reason: { code: 'ERR_SSH_TIMEOUT' } })
    // The begun packet is finished all the same: the stream stays whole.
    server.grant(1_000_000)
    await settle()
    await expect(client.stat('/f')).resolves.toBeDefined()
  })

  test('costs one timer at a time for all, and none when nothing waits', async () => {
    const { server, clock, client } = await opened()
    clock.advance(10_000)
    expect(clock.pendingTimers).toBe(0)
    server.hold()
    const calls = Array.from({ length: 100 }, () => client.stat('/f'))
    expect(clock.pendingTimers).toBe(1)
    await settle()
    server.release()
    await Promise.all(calls)
    clock.advance(1000)
    expect(clock.pendingTimers).toBe(0)
  })

  test('more than 4096 times ends the channel', async () => {
    const { server, clock, client } = await opened()
    server.hold()
    for (let i = 0; i < 4097; i++) client.stat('/f').catch(() => {})
    await settle()
    clock.advance(2000)
    await expect(client.closed).rejects.toThrow(/4097 requests were never answered/)
  })

  test('an OPEN answered late is closed on the server', async () => {
    const { server, clock, client } = await opened()
    server.hold()
    const cancel = new AbortController()
    const cancelled = watch(client.open('/f', 'r', { signal: cancel.signal }))
    const lost = watch(client.open('/f'))
    await settle()
    cancel.abort()
    clock.advance(1500)
    await settle()
    expect([cancelled.state, lost.state]).toEqual(['rejected', 'rejected'])
    server.release()
    await settle()
    expect(server.requests('CLOSE')).toHaveLength(2)
    expect(server.handles.size).toBe(1)
  })
})

describe('the end', () => {
  const ends: [string, (server: ScriptedServer) => void, object][] = [
    [
      'the server ends its side',
      (server) => server.endOutput(),
      { code: 'ERR_SSH_CHANNEL_CLOSED', message: 'the server ended the SFTP channel' },
    ],
    ['the channel closes', (server) => server.close(), { code: 'ERR_SSH_CHANNEL_CLOSED' }],
    [
      'the connection is lost',
      (server) => server.close(new ConnectionLost('data', 'reset by peer')),
      { code: 'ERR_SSH_CONNECTION_LOST', phase: 'data' },
    ],
    [
      'the server ends in the middle of a reply',
      (server) => {
        server.sendRaw(new Uint8Array([0, 0, 1]))
        server.endOutput()
      },
      { message: 'the server ended the SFTP channel in the middle of a reply' },
    ],
  ]
  test.each(ends)('%s: everything pending and later fails with one error', async (_name, end, expected) => {
    const { server, clock, client, file } = await opened()
    server.hold()
    const calls = [
      client.stat('/f'),
      file.read(0, new Uint8Array(200_000)),
      file.write(0, pattern(500_000)),
      file.close(),
      client.readFile('/f'),
    ]
    await settle()
    end(server)
    const outcomes = await Promise.allSettled([...calls, client.closed])
    const reasons = new Set(outcomes.map((outcome) => (outcome as PromiseRejectedResult).reason))
    expect(reasons.size).toBe(1)
    const [reason] = reasons
    expect(reason).toMatchObject(expected)
    await expect(client.stat('/f')).rejects.toBe(reason)
    expect(clock.pendingTimers).toBe(0)
    await client.close()
  })

  test('close() ends the channel in order where nothing is under way', async () => {
    const { server, client, clock } = await opened()
    await client.close()
    expect(server.ended).toBe(true)
    await expect(client.closed).resolves.toBeUndefined()
    expect(clock.pendingTimers).toBe(0)
    await expect(client.stat('/f')).rejects.toMatchObject({ code: 'ERR_CLOSED' })
    await client.close()
  })

  test('close() does not wait for a server that does not leave', async () => {
    const { server, client, clock } = await opened()
    server.channel.end = () => {}
    const closing = watch(client.close())
    await settle()
    expect(closing.state).toBe('pending')
    clock.advance(5000)
    await settle()
    expect(closing.state).toBe('resolved')
    expect(server.closed).toBe(true)
  })

  test('close() fails what is pending with ClosedError and closes at once', async () => {
    const { server, client, file } = await opened()
    server.hold()
    const calls = [client.stat('/f'), file.read(0, new Uint8Array(10)), file.write(0, new Uint8Array(10))]
    await settle()
    await client.close()
    for (const outcome of await Promise.allSettled(calls)) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'ERR_CLOSED' } })
    }
    expect(server.ended).toBe(false)
    await client.closed
  })

  test('an error nobody looks at is no unhandled rejection', async () => {
    const unhandled = vi.fn()
    process.on('unhandledRejection', unhandled)
    const { server, file } = await opened()
    server.hold()
    file.write(0, pattern(10)).catch(() => {})
    await settle()
    server.close()
    await settle(20)
    process.off('unhandledRejection', unhandled)
    expect(unhandled).not.toHaveBeenCalled()
  })

  test('await using closes client and file', async () => {
    const { server } = await (async () => {
      const scripted = new ScriptedServer({ files })
      await using client = await SftpClient.open(scripted.channel)
      await using file = await client.open('/f')
      await file.read(0, new Uint8Array(10))
      return { server: scripted }
    })()
    expect(server.requests('CLOSE')).toHaveLength(1)
    expect(server.closed).toBe(true)
  })
})

test('an endless READDIR costs constant memory, and can be left and cancelled', async () => {
  const entries = Array.from({ length: 100 }, (_, i) => nameEntry(`file${i}`))
  const { server, client } = await opened({ list: () => entries })
  let seen = 0
  for await (const entry of client.readdir('/')) {
    expect(entry.type).toBe('file')
    if (++seen === 20_000) break
  }
  // One answer is asked for ahead, no more.
  expect(server.requests('READDIR').length).toBeLessThanOrEqual(202)
  expect(server.requests('CLOSE')).toHaveLength(1)
  const cancel = new AbortController()
  const leaving = (async () => {
    for await (const _entry of client.readdir('/', { signal: cancel.signal }))
      if (++seen === 20_150) cancel.abort()
  })()
  await expect(leaving).rejects.toMatchObject({ code: 'ABORT_ERR' })
  await settle()
  expect(server.requests('CLOSE')).toHaveLength(2)
})

test('the trace tells requests and ends, never contents', async () => {
  const events: SftpTraceEvent[] = []
  const server = new ScriptedServer({ files })
  const client = await SftpClient.open(server.channel, { trace: (event) => events.push(event) })
  await client.readFile('/f')
  await client.close()
  expect(events.map(({ event }) => event)).toEqual(expect.arrayContaining(['open', 'request', 'closed']))
  expect(JSON.stringify(events)).not.toContain(String(pattern(3)))
})

test('STATUS with a message of a quarter megabyte is shown capped', async () => {
  const { client } = await opened({
    onRequest: (request, server) => {
      if (request.name !== 'MKDIR') return false
      server.answer(
        request,
        packetOf(replies.status, {
          id: request.id,
          code: 4,
          message: '\u0007'.repeat(200_000),
          language: '',
        }),
      )
      return true
    },
  })
  const error = await client.mkdir('/d').catch((reason) => reason)
  expect(error.serverMessage).toHaveLength(200_000)
  expect(error.message.length).toBeLessThan(3000)
  expect(error.message).not.toContain('\u0007')
})
