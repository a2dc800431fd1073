/** Bytes both ways, what a client can do wrong, back-pressure, and how one end's ending reaches the other. */
import { createHash } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { connect, Socket } from 'node:net'
import { describe, expect, it, vi } from 'vitest'
import { WebSocket } from 'ws'
import {
  drainStallMs,
  gatherMs,
  lingerMs,
  maxSentMessageBytes,
  streamingFromBytes,
} from '../../packages/bridge/src/limits.ts'
import { Relay, type RelayOptions } from '../../packages/bridge/src/relay.ts'
import { registerCleanup } from '../support/cleanup.ts'
import { echo, frame, rawUpgrade, startBridge, startTarget, until, visit } from './support/bridges.ts'

const mebibyte = 1024 * 1024

async function joined(
  options: Partial<Parameters<typeof startBridge>[0]> = {},
  serve: (socket: Socket) => void = () => {},
) {
  const target = await startTarget(serve)
  const running = await startBridge({ targets: { fixed: target.name }, ...options })
  const client = visit(running.url)
  await client.opened
  const socket = await target.connection()
  await running.event('connected')
  return { ...running, target, client, socket }
}

describe('bytes', () => {
  it('pass as they are, whatever the messages, in both directions at once', async () => {
    const { client, event } = await joined({}, echo)
    const sent = Buffer.alloc(8 * mebibyte, 'relay bytes, not a power of two long; ')
    let at = 0
    for (let i = 0; at < sent.length; i++) {
      const size = [1, 0, 125, 126, 65_535, 65_536, 262_144, mebibyte][i % 8]!
      client.socket.send(sent.subarray(at, at + size))
      at += size
    }
    const got = await client.bytes(sent.length)
    expect(createHash('sha256').update(got).digest('hex')).toBe(
      createHash('sha256').update(sent).digest('hex'),
    )
    client.socket.close(1000)
    expect(await event('ended')).toMatchObject({
      code: 1000,
      bytesToTarget: sent.length,
      bytesToClient: sent.length,
    })
  })

  it('that the target sends in small pieces leave in fewer messages, of at most 256 KiB', async () => {
    const { client, socket } = await joined()
    const sizes: number[] = []
    client.socket.on('message', (data: Buffer) => sizes.push(data.length))
    socket.setNoDelay(true)
    const piece = Buffer.alloc(100, 1)
    for (let i = 0; i < 2000; i++) socket.write(piece)
    socket.write(Buffer.alloc(2 * mebibyte))
    await client.bytes(200_000 + 2 * mebibyte)
    expect(Math.max(...sizes)).toBeLessThanOrEqual(256 * 1024)
    expect(sizes.length).toBeLessThan(1000)
  })

  it('of a target that streams are gathered for a millisecond, those of one that answers never', () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'setImmediate'] })
    try {
      const sizes: number[] = []
      const client = Object.assign(new EventEmitter(), {
        send: (message: Buffer, _options: object, done: () => void) => {
          sizes.push(message.length)
          done()
        },
        resume: () => {},
      })
      const target = Object.assign(new EventEmitter(), {
        setNoDelay: () => {},
        pause: () => {},
        resume: () => {},
        write: () => true,
        writableLength: 0,
        destroyed: false,
      })
      const never = Number.POSITIVE_INFINITY
      new Relay(client as unknown as WebSocket, target as unknown as Socket, {
        highWaterBytes: mebibyte,
        firstByteTimeoutMs: never,
        idleTimeoutMs: never,
        pingIntervalMs: never,
        heardBytes: () => 0,
        onBytes: () => {},
        onEnd: () => {},
      })
      const turn = () => vi.advanceTimersByTime(0)
      const piece = Buffer.alloc(streamingFromBytes / 4)
      for (let i = 0; i < 4; i++) {
        target.emit('data', piece)
        turn()
      }
      expect(sizes).toEqual([piece.length, piece.length, piece.length])
      target.emit('data', piece)
      turn()
      vi.advanceTimersByTime(gatherMs)
      expect(sizes.splice(0)).toEqual([piece.length, piece.length, piece.length, 2 * piece.length])
      // Full messages do not wait.
      for (let i = 0; i < 4; i++) target.emit('data', piece)
      expect(sizes.splice(0)).toEqual([4 * piece.length])
      vi.advanceTimersByTime(gatherMs)
      client.emit('message', Buffer.from('?'), true)
      target.emit('data', piece)
      turn()
      expect(sizes).toEqual([piece.length])
    } finally {
      vi.useRealTimers()
    }
  })

  it('that come before the target is connected wait', async () => {
    const target = await startTarget(echo)
    let go = (): void => {}
    const { url } = await startBridge({
      targets: { fixed: target.name },
      authenticate: () =>
        new Promise((resolve) => {
          go = () => resolve(true)
        }),
    })
    const client = visit(url)
    await client.opened
    client.socket.send(Buffer.from('early'))
    await new Promise((resolve) => setTimeout(resolve, 20))
    go()
    expect((await client.bytes(5)).toString()).toBe('early')
  })

  it('go out without delay on both sockets', async () => {
    const setNoDelay = vi.spyOn(Socket.prototype, 'setNoDelay')
    const { port, target } = await joined()
    const peers = setNoDelay.mock.contexts
      .filter((_, i) => setNoDelay.mock.calls[i]?.[0] === true)
      .map((socket) =>
        (socket as Socket).localPort === port
          ? 'client'
          : (socket as Socket).remotePort === target.port
            ? 'target'
            : 'other',
      )
    expect(peers).toContain('client')
    expect(peers).toContain('target')
    setNoDelay.mockRestore()
  })
})

describe('a client that breaks the rules', () => {
  const cases: [string, (socket: Socket) => void, number][] = [
    ['sends text', (socket) => socket.write(frame(1, Buffer.from('hello'))), 1003],
    ['does not mask', (socket) => socket.write(frame(2, Buffer.from('hello'), { masked: false })), 1002],
    ['pings with 126 bytes', (socket) => socket.write(frame(9, Buffer.alloc(126))), 1002],
    ['uses a reserved opcode', (socket) => socket.write(frame(3, Buffer.from('x'))), 1002],
    ['sets a reserved bit', (socket) => socket.write(Buffer.from([0xc2, 0x80, 0, 0, 0, 0])), 1002],
    [
      'announces a message of 1 MiB and a byte',
      (socket) => socket.write(frame(2, Buffer.alloc(mebibyte + 1)).subarray(0, 14)),
      1009,
    ],
    [
      'announces 2^63 bytes',
      (socket) =>
        socket.write(Buffer.from([0x82, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0])),
      1009,
    ],
    [
      'sends more than 1 MiB in fragments',
      (socket) => {
        socket.write(frame(2, Buffer.alloc(mebibyte / 2), { fin: false }))
        socket.write(frame(0, Buffer.alloc(mebibyte / 2), { fin: false }))
        socket.write(frame(0, Buffer.alloc(1), { fin: false }))
      },
      1009,
    ],
    [
      'floods with fragments',
      (socket) => {
        socket.write(frame(2, Buffer.alloc(1), { fin: false }))
        for (let i = 0; i < 1100; i++) socket.write(frame(0, Buffer.alloc(1), { fin: false }))
      },
      1008,
    ],
    ['continues what never began', (socket) => socket.write(frame(0, Buffer.from('x'))), 1002],
  ]
  it.each(cases)('that %s is closed, and the target gets none of it', async (_, misbehave, code) => {
    const got: Buffer[] = []
    const target = await startTarget((socket) => socket.on('data', (chunk) => got.push(chunk)))
    const { port, event } = await startBridge({ targets: { fixed: target.name } })
    const { socket, status } = await rawUpgrade(port)
    expect(status).toBe(101)
    const answers: Buffer[] = []
    socket.on('data', (chunk) => answers.push(chunk))
    const closed = once(socket, 'close')
    await event('connected')
    misbehave(socket)
    await Promise.race([closed, until(() => answers.length > 0, 'a close frame')])
    const answer = Buffer.concat(answers)
    expect(answer[0]).toBe(0x88)
    expect(answer.readUInt16BE(2)).toBe(code)
    socket.destroy()
    await event('ended')
    expect(Buffer.concat(got).length).toBe(0)
  })

  it('that sends exactly 1 MiB is served', async () => {
    const { client } = await joined({}, echo)
    client.socket.send(Buffer.alloc(mebibyte))
    expect((await client.bytes(mebibyte)).length).toBe(mebibyte)
  })

  it('that sends headers without end gets 431', async () => {
    const { port } = await startBridge({ targets: { fixed: '127.0.0.1:9' } })
    expect((await rawUpgrade(port, { 'X-Flood': 'x'.repeat(20_000) })).status).toBe(431)
  })

  it('that pings without reading the pongs takes no memory', async () => {
    const target = await startTarget()
    const { port, event } = await startBridge({ targets: { fixed: target.name } })
    const { socket } = await rawUpgrade(port)
    await event('connected')
    socket.pause()
    const flood = Buffer.concat(Array.from({ length: 5000 }, () => frame(9, Buffer.alloc(125))))
    const before = process.memoryUsage().rss
    for (let i = 0; i < 40 && !socket.destroyed; i++) {
      if (socket.write(flood)) continue
      await Promise.race([
        new Promise((resolve) => socket.once('drain', resolve)),
        new Promise((resolve) => socket.once('close', resolve)),
        new Promise((resolve) => setTimeout(resolve, 50)),
      ])
    }
    expect(process.memoryUsage().rss - before).toBeLessThan(96 * mebibyte)
    socket.destroy()
  })
})

describe('back-pressure', () => {
  const total = 64 * mebibyte
  const block = Buffer.alloc(mebibyte, 0x5a)

  it('reaches a fast target when the client does not read', async () => {
    const { client, socket, bridge } = await joined({ pingIntervalMs: Number.POSITIVE_INFINITY })
    client.socket.pause()
    const before = process.memoryUsage().rss
    let written = 0
    const pour = (): void => {
      while (written < total && socket.writableLength < mebibyte) {
        socket.write(block)
        written += block.length
      }
    }
    socket.on('drain', pour)
    pour()
    let held = 0
    let last = -1
    // Until nothing moves any more.
    while (last !== bridge.statistics().bytesToClient) {
      last = bridge.statistics().bytesToClient
      for (let i = 0; i < 10; i++) {
        await new Promise((resolve) => setTimeout(resolve, 10))
        held = Math.max(held, bridge.statistics().heldBytes)
      }
    }
    expect(held).toBeGreaterThan(0)
    expect(held).toBeLessThanOrEqual(512 * 1024 * 2)
    expect(last).toBeLessThan(total / 4)
    expect(process.memoryUsage().rss - before).toBeLessThan(40 * mebibyte)
    // And it goes on.
    let got = 0
    client.socket.removeAllListeners('message')
    client.socket.on('message', (data: Buffer) => {
      got += data.length
    })
    client.socket.resume()
    await until(() => got === total, 'the rest')
  })

  it('reaches a fast client when the target does not read', async () => {
    const { client, socket, bridge } = await joined()
    socket.pause()
    const before = process.memoryUsage().rss
    let sent = 0
    let held = 0
    let last = -1
    const pour = (): void => {
      while (sent < total && client.socket.bufferedAmount < mebibyte) {
        client.socket.send(block.subarray(0, 256 * 1024))
        sent += 256 * 1024
      }
    }
    while (last !== bridge.statistics().bytesToTarget) {
      last = bridge.statistics().bytesToTarget
      for (let i = 0; i < 10; i++) {
        pour()
        await new Promise((resolve) => setTimeout(resolve, 10))
        held = Math.max(held, bridge.statistics().heldBytes)
      }
    }
    expect(held).toBeGreaterThan(0)
    expect(held).toBeLessThanOrEqual(512 * 1024 * 2)
    expect(last).toBeLessThan(total / 4)
    expect(process.memoryUsage().rss - before).toBeLessThan(40 * mebibyte)
    let got = 0
    socket.on('data', (chunk) => {
      got += chunk.length
    })
    socket.resume()
    while (sent < total) {
      pour()
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
    await until(() => got === total, 'the rest')
  })
})

describe('an ending', () => {
  it('in order of the target is 1000, after everything that it sent', async () => {
    const { client, event } = await joined({}, (socket) => {
      socket.write(Buffer.alloc(3 * mebibyte, 7))
      socket.end('last')
    })
    expect((await client.closed).code).toBe(1000)
    expect(client.received().length).toBe(3 * mebibyte + 4)
    expect(await event('ended')).toMatchObject({ code: 1000, bytesToClient: 3 * mebibyte + 4 })
  })

  it('by a reset of the target is 1011', async () => {
    const { client, socket, event } = await joined()
    socket.resetAndDestroy()
    expect(await client.closed).toMatchObject({ code: 1011, reason: expect.stringMatching(/ECONNRESET/) })
    expect(await event('ended')).toMatchObject({ code: 1011 })
  })

  it('in order of the client is a FIN to the target, after everything that it sent', async () => {
    let got = 0
    let how = ''
    const { client, socket, event } = await joined({}, (each) => {
      each.on('data', (chunk) => {
        got += chunk.length
      })
      each.on('end', () => {
        how = 'FIN'
        each.end()
      })
      each.on('error', (error: NodeJS.ErrnoException) => {
        how = error.code ?? 'error'
      })
    })
    for (let i = 0; i < 4; i++) client.socket.send(Buffer.alloc(mebibyte))
    client.socket.close(1000)
    await once(socket, 'close')
    expect({ how, got }).toEqual({ how: 'FIN', got: 4 * mebibyte })
    expect(await event('ended')).toMatchObject({ code: 1000, bytesToTarget: 4 * mebibyte })
  })

  it('of a client that vanishes is a reset of the target', async () => {
    let how = ''
    const { client, socket, event } = await joined({}, (each) => {
      each.resume()
      each.on('end', () => {
        how ||= 'FIN'
      })
      each.on('error', (error: NodeJS.ErrnoException) => {
        how = error.code ?? 'error'
      })
    })
    client.socket.terminate()
    await until(() => socket.destroyed, 'the target socket to close')
    expect(how).toBe('ECONNRESET')
    expect(await event('ended')).toMatchObject({ code: 1006 })
  })

  it('while a client waits for a slow hook leaves nothing behind', async () => {
    const target = await startTarget()
    let aborted = false
    const { bridge, url, event } = await startBridge({
      targets: { fixed: target.name },
      authenticate: ({ signal }) =>
        new Promise((resolve) => {
          signal.addEventListener('abort', () => {
            aborted = true
            resolve(true)
          })
        }),
      authenticateTimeoutMs: 200,
    })
    const client = visit(url)
    await client.opened
    client.socket.terminate()
    await event('ended')
    expect(bridge.statistics().connections).toBe(0)
    expect(target.sockets).toHaveLength(0)
    expect(aborted).toBe(true)
  })
})

describe('a target that cannot be reached', () => {
  it('is told by 4502 with the reason, and without its address', async () => {
    const target = await startTarget()
    target.server.close()
    const { url } = await startBridge({ targets: { fixed: target.name } })
    const closed = await visit(url).closed
    expect(closed).toEqual({ code: 4502, reason: 'the target cannot be reached: ECONNREFUSED' })
  })

  it('because its name does not resolve says no more than that', async () => {
    const { url } = await startBridge({
      targets: { fixed: 'ssh.example.org:22' },
      resolve: () => Promise.reject(new Error('ENOTFOUND of an inner resolver')),
    })
    expect(await visit(url).closed).toEqual({
      code: 4502,
      reason: 'the name of the target cannot be resolved',
    })
  })

  it('because nothing answers is given up after the deadline, the next address before', async () => {
    const target = await startTarget(echo)
    const tried: string[] = []
    const { url } = await startBridge({
      targets: { fixed: 'ssh.example.org:22' },
      resolve: async () => ['8.8.8.8', '8.8.4.4'],
      connectTimeoutMs: 200,
      connect: (address) => {
        tried.push(address)
        const socket = connect(
          address === '8.8.4.4'
            ? { port: target.port, host: '127.0.0.1' }
            : { path: '/nowhere', lookup: () => {} },
        )
        // The first one stands for an address behind which packets vanish.
        if (address === '8.8.8.8') return silent(socket)
        return socket
      },
    })
    const client = visit(url)
    await client.opened
    client.socket.send(Buffer.from('x'))
    await client.bytes(1)
    expect(tried).toEqual(['8.8.8.8', '8.8.4.4'])
  })
})

it('connecting keeps its deadline when the wall clock is set', async () => {
  const target = await startTarget(echo)
  const day = 86_400_000
  const now = vi.spyOn(Date, 'now')
  registerCleanup(() => now.mockRestore())
  const { url } = await startBridge({
    targets: { fixed: 'ssh.example.org:22' },
    resolve: async () => ['8.8.8.8', '8.8.4.4'],
    connectTimeoutMs: 5000,
    connect: (address) => {
      const socket = connect({ port: target.port, host: '127.0.0.1' })
      if (address === '8.8.4.4') return socket
      // Back by two months while the first address is tried: more milliseconds than a timer takes.
      now.mockReturnValue(Date.now() - 60 * day)
      socket.destroy(Object.assign(new Error('refused'), { code: 'ECONNREFUSED' }))
      return socket
    },
  })
  const warned = vi.fn()
  process.on('warning', warned)
  registerCleanup(() => void process.off('warning', warned))
  const client = visit(url)
  client.socket.on('open', () => client.socket.send(Buffer.from('x')))
  await client.bytes(1)
  expect(warned).not.toHaveBeenCalled()
})

/** A socket that never says anything. */
function silent(socket: Socket): Socket {
  socket.on('error', () => {})
  const emit = socket.emit.bind(socket)
  socket.emit = ((event: string, ...rest: unknown[]) =>
    event === 'error' || event === 'connect' ? false : emit(event, ...rest)) as typeof socket.emit
  return socket
}

/** A relay between doubles, in a time that does not pass by itself. */
function between(options: Partial<RelayOptions> = {}) {
  const handed: (() => void)[] = []
  const closes: number[] = []
  let sent = 0
  const client = Object.assign(new EventEmitter(), {
    send: (message: Buffer, _options: object, done: () => void) => {
      sent += message.length
      handed.push(done)
    },
    close: (code: number) => void closes.push(code),
    terminate: vi.fn(() => client.emit('close', 1006, Buffer.alloc(0))),
    ping: vi.fn(),
    pause: vi.fn(),
    resume: vi.fn(),
  })
  const target = Object.assign(new EventEmitter(), {
    setNoDelay: () => {},
    pause: () => {},
    resume: () => {},
    end: vi.fn(),
    destroy: vi.fn(),
    resetAndDestroy: vi.fn(),
    write: vi.fn(() => true),
    writableLength: 0,
    destroyed: false,
  })
  const never = Number.POSITIVE_INFINITY
  const onEnd = vi.fn()
  const relay = new Relay(client as unknown as WebSocket, target as unknown as Socket, {
    highWaterBytes: mebibyte,
    firstByteTimeoutMs: never,
    idleTimeoutMs: never,
    pingIntervalMs: never,
    heardBytes: () => 0,
    onBytes: () => {},
    onEnd,
    ...options,
  })
  return { relay, client, target, closes, handed, onEnd, sent: () => sent }
}

describe('what is held when the target ends', () => {
  it('is sent to a client that takes it slowly, and the close frame comes after it', () => {
    vi.useFakeTimers()
    try {
      const { client, target, closes, handed, sent } = between()
      for (let i = 0; i < 3; i++) target.emit('data', Buffer.alloc(maxSentMessageBytes))
      target.emit('end')
      target.emit('close')
      expect(sent()).toBe(3 * maxSentMessageBytes)
      while (handed.length > 0) {
        vi.advanceTimersByTime(drainStallMs - 1)
        expect(closes).toEqual([])
        handed.shift()!()
      }
      expect(closes).toEqual([1000])
      expect(client.terminate).not.toHaveBeenCalled()
      // A client that never answers the close frame is given up.
      vi.advanceTimersByTime(2 * lingerMs)
      expect(client.terminate).toHaveBeenCalledTimes(1)
    } finally {
      vi.useRealTimers()
    }
  })

  it('is dropped where the client takes nothing, and earlier when the bridge shuts down', () => {
    vi.useFakeTimers()
    try {
      for (const [shutDown, afterMs] of [
        [false, drainStallMs],
        [true, lingerMs],
      ] as const) {
        const { relay, client, target, closes, onEnd } = between()
        target.emit('data', Buffer.alloc(maxSentMessageBytes))
        target.emit('end')
        target.emit('close')
        if (shutDown) relay.close(1001, 'the bridge is shutting down')
        vi.advanceTimersByTime(afterMs - 1)
        expect(client.terminate).not.toHaveBeenCalled()
        vi.advanceTimersByTime(1)
        expect(client.terminate).toHaveBeenCalledTimes(1)
        expect(closes).toEqual([])
        expect(onEnd).toHaveBeenCalledExactlyOnceWith(1000, 'the target closed the connection')
      }
    } finally {
      vi.useRealTimers()
    }
  })

  it('is sent to a target that takes it slowly', () => {
    vi.useFakeTimers()
    try {
      const { client, target } = between()
      target.writableLength = 3
      client.emit('close', 1000, Buffer.alloc(0))
      for (; target.writableLength > 1; target.writableLength--) {
        vi.advanceTimersByTime(drainStallMs - 1)
        expect(target.destroy).not.toHaveBeenCalled()
      }
      vi.advanceTimersByTime(2 * drainStallMs)
      expect(target.destroy).toHaveBeenCalled()
    } finally {
      vi.useRealTimers()
    }
  })
})

it('ends of both sides in one turn of the event loop leave nothing behind', async () => {
  const target = await startTarget()
  const socket = connect(target.port, '127.0.0.1')
  await once(socket, 'connect')
  const client = Object.assign(new EventEmitter(), { close: () => {}, terminate: () => {}, resume: () => {} })
  const never = Number.POSITIVE_INFINITY
  const ended = new Promise<number>((onEnd) => {
    const relay = new Relay(client as unknown as WebSocket, socket, {
      highWaterBytes: mebibyte,
      firstByteTimeoutMs: never,
      idleTimeoutMs: never,
      pingIntervalMs: never,
      heardBytes: () => 0,
      onBytes: () => {},
      onEnd,
    })
    relay.close(1001, 'the bridge is shutting down')
  })
  client.emit('close', 1006, Buffer.alloc(0))
  expect(await ended).toBe(1001)
  expect(socket.closed).toBe(true)
})

describe('a sign of life', () => {
  it.each([
    ['a pong', (client: EventEmitter) => void client.emit('pong')],
    [
      'a message before its pong',
      (client: EventEmitter) => void client.emit('message', Buffer.from('x'), true),
    ],
    ['a part of a message', (_: EventEmitter, hear: () => void) => hear()],
  ])('is %s', (_, live) => {
    vi.useFakeTimers()
    try {
      let heard = 0
      const { client } = between({ pingIntervalMs: 100, heardBytes: () => heard })
      for (let i = 0; i < 5; i++) {
        vi.advanceTimersByTime(100)
        expect(client.ping).toHaveBeenCalledTimes(i + 1)
        live(client, () => heard++)
      }
      vi.advanceTimersByTime(200)
      expect(client.terminate).toHaveBeenCalledTimes(1)
    } finally {
      vi.useRealTimers()
    }
  })

  it('is not missed of a client that was not read', () => {
    vi.useFakeTimers()
    try {
      const { client, target } = between({ pingIntervalMs: 100 })
      vi.advanceTimersByTime(100)
      expect(client.ping).toHaveBeenCalledTimes(1)
      target.write.mockReturnValue(false)
      target.writableLength = mebibyte
      client.emit('message', Buffer.from('x'), true)
      expect(client.pause).toHaveBeenCalledTimes(1)
      vi.advanceTimersByTime(550)
      target.emit('drain')
      vi.advanceTimersByTime(50)
      expect(client.terminate).not.toHaveBeenCalled()
      expect(client.ping).toHaveBeenCalledTimes(2)
    } finally {
      vi.useRealTimers()
    }
  })
})

describe('deadlines', () => {
  it('for the first byte of the client', async () => {
    const { client } = await joined({ firstByteTimeoutMs: 60 }, (socket) => socket.write('SSH-2.0-eager\r\n'))
    expect(await client.closed).toEqual({ code: 4408, reason: 'no byte came from the client' })
  })

  it('for silence, which ends by bytes of either side', async () => {
    const { client, socket } = await joined({ idleTimeoutMs: 120 })
    client.socket.send(Buffer.from('x'))
    for (let i = 0; i < 6; i++) {
      await new Promise((resolve) => setTimeout(resolve, 40))
      if (i % 2 === 0) socket.write('y')
      else client.socket.send(Buffer.from('z'))
    }
    expect(client.socket.readyState).toBe(WebSocket.OPEN)
    expect(await client.closed).toEqual({ code: 4408, reason: 'nothing was sent for too long' })
  })

  it('pings an idle client, and drops one that does not answer', async () => {
    const { client, event } = await joined({ pingIntervalMs: 40 })
    let pings = 0
    client.socket.on('ping', () => {
      pings++
    })
    await until(() => pings >= 3, 'pings')
    expect(client.socket.readyState).toBe(WebSocket.OPEN)
    client.socket.pause()
    expect(await event('ended')).toMatchObject({ code: 1006 })
  })
})
