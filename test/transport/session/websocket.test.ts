/** A WebSocket as a ByteDuplex: a browser's kind by a double that keeps the rules of the standard, and the `ws` package. */
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import type { WebSocketConstructor, WebSocketLike } from '@sshblock/transport'
import { ConnectionLost, UsageError, WebSocketClosedError, webSocketDuplex } from '@sshblock/transport'
import { describe, expect, it, vi } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { registerCleanup } from '../../support/cleanup.ts'
import { KeepingSink } from './byte-sink.ts'

/** A WebSocket of the platform: send copies, bufferedAmount falls by itself, events come by hand. */
class PlatformWebSocket extends EventTarget {
  readonly url: string
  readonly protocols: readonly string[]
  readyState = 0
  bufferedAmount = 0
  binaryType = 'blob'
  readonly sent: Uint8Array[] = []
  readonly closeCalls: (number | undefined)[] = []
  static made: PlatformWebSocket[] = []

  constructor(url: string, protocols: readonly string[] = []) {
    super()
    this.url = url
    this.protocols = protocols
    PlatformWebSocket.made.push(this)
  }

  send(data: Uint8Array): void {
    this.sent.push(data.slice())
    this.bufferedAmount += data.length
  }

  close(code?: number): void {
    // "If code is neither 1000 nor in the range 3000 to 4999, throw" (WHATWG websockets s3.1).
    if (code !== undefined && code !== 1000 && (code < 3000 || code > 4999))
      throw new DOMException('code', 'InvalidAccessError')
    this.closeCalls.push(code)
    if (this.readyState < 2) this.readyState = 2
  }

  open(): void {
    this.readyState = 1
    this.dispatchEvent(new Event('open'))
  }

  message(data: unknown): void {
    this.dispatchEvent(new MessageEvent('message', { data }))
  }

  end(code: number, reason = ''): void {
    this.readyState = 3
    if (code === 1006) this.dispatchEvent(new Event('error'))
    this.dispatchEvent(Object.assign(new Event('close'), { code, reason, wasClean: code !== 1006 }))
  }
}

const PlatformClass = PlatformWebSocket as unknown as WebSocketConstructor

async function platform(options: Parameters<typeof webSocketDuplex>[1] = {}) {
  const pending = webSocketDuplex('wss://relay.example/host:22?ignored=secret', {
    WebSocket: PlatformClass,
    ...options,
  })
  const socket = PlatformWebSocket.made.at(-1)!
  socket.open()
  return { duplex: await pending, socket }
}

const bufferOf = (text: string): ArrayBuffer => new TextEncoder().encode(text).buffer

describe('connecting', () => {
  it('offers the sub-protocol binary, and a ticket as a second one', async () => {
    const { duplex, socket } = await platform({ ticket: 'abc_-1' })
    expect(socket.protocols).toEqual(['binary', 'ticket.abc_-1'])
    expect(socket.binaryType).toBe('arraybuffer')
    expect(duplex.description).toBe('wss://relay.example/host:22')
  })

  it.each([
    ['http://relay.example/x', 'ws://relay.example/x'],
    ['https://relay.example/x#part', 'wss://relay.example/x'],
    [new URL('wss://relay.example'), 'wss://relay.example/'],
  ])('to %s opens %s', (url, opened) => {
    void webSocketDuplex(url, { WebSocket: PlatformClass }).catch(() => {})
    expect(PlatformWebSocket.made.at(-1)!.url).toBe(opened)
  })

  it.each(['relay.example', 'ftp://relay.example', 'wss://user:hunter2@relay.example', 'wss://', ''])(
    'to %j is refused',
    async (url) => {
      const error = await webSocketDuplex(url, { WebSocket: PlatformClass }).catch(
        (failure: unknown) => failure,
      )
      expect(error).toBeInstanceOf(UsageError)
      expect((error as Error).message).not.toContain('hunter2')
    },
  )

  it('refuses a ticket that is no token, without showing it', async () => {
    const error = await webSocketDuplex('wss://r.example', {
      WebSocket: PlatformClass,
      ticket: 'a secret, b',
    }).catch((failure: unknown) => failure)
    expect(error).toBeInstanceOf(UsageError)
    expect((error as Error).message).not.toContain('secret')
  })

  it('fails with the close code where the WebSocket does not open', async () => {
    const pending = webSocketDuplex('wss://relay.example/', { WebSocket: PlatformClass })
    PlatformWebSocket.made.at(-1)!.end(1006)
    await expect(pending).rejects.toMatchObject({
      code: 'ERR_WEBSOCKET_FAILED',
      closeCode: 1006,
      phase: 'relay',
    })
  })

  it('is given up after the deadline, and when it is cancelled', async () => {
    const slow = webSocketDuplex('wss://relay.example/', { WebSocket: PlatformClass, connectTimeoutMs: 20 })
    const socket = PlatformWebSocket.made.at(-1)!
    await expect(slow).rejects.toMatchObject({ code: 'ERR_SSH_TIMEOUT' })
    expect(socket.closeCalls).toEqual([1000])
    const abort = new AbortController()
    const cancelled = webSocketDuplex('wss://relay.example/', {
      WebSocket: PlatformClass,
      signal: abort.signal,
    })
    abort.abort(new Error('enough'))
    await expect(cancelled).rejects.toMatchObject({
      code: 'ABORT_ERR',
      cause: expect.objectContaining({ message: 'enough' }),
    })
    expect(PlatformWebSocket.made.at(-1)!.closeCalls).toEqual([1000])
    await expect(webSocketDuplex('wss://relay.example/', { signal: abort.signal })).rejects.toMatchObject({
      code: 'ABORT_ERR',
    })
  })

  it('takes over a WebSocket that is open, but none that is closed', async () => {
    const socket = new PlatformWebSocket('wss://relay.example/a?b=secret')
    socket.open()
    expect((await webSocketDuplex(socket as unknown as WebSocketLike)).description).toBe(
      'wss://relay.example/a',
    )
    const closed = new PlatformWebSocket('wss://relay.example/')
    closed.end(1000)
    await expect(webSocketDuplex(closed as unknown as WebSocketLike)).rejects.toBeInstanceOf(ConnectionLost)
  })
})

describe('sending', () => {
  it('gives a slab back at once while less than the mark waits, else when it fell', async () => {
    const { duplex, socket } = await platform({ highWaterBytes: 100 })
    duplex.start(new KeepingSink())
    const done = vi.fn()
    duplex.write(new Uint8Array(100), done)
    await vi.waitFor(() => expect(done).toHaveBeenCalledTimes(1))
    duplex.write(new Uint8Array(1), done)
    await new Promise((resolve) => setTimeout(resolve, 30))
    expect(done).toHaveBeenCalledTimes(1)
    socket.bufferedAmount = 100
    await vi.waitFor(() => expect(done).toHaveBeenCalledTimes(2))
    await new Promise((resolve) => setTimeout(resolve, 10))
    expect(done).toHaveBeenCalledTimes(2)
  })

  it('looks at what waits when a message comes, for pages whose timers are held back', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    try {
      const { duplex, socket } = await platform({ highWaterBytes: 10 })
      duplex.start(new KeepingSink())
      const done = vi.fn()
      duplex.write(new Uint8Array(11), done)
      await Promise.resolve()
      expect(done).not.toHaveBeenCalled()
      socket.bufferedAmount = 0
      socket.message(bufferOf('x'))
      expect(done).toHaveBeenCalledTimes(1)
    } finally {
      vi.useRealTimers()
    }
  })

  it('makes messages of at most 256 KiB', async () => {
    const { duplex, socket } = await platform()
    const slab = new Uint8Array(600_000).map((_, i) => i)
    duplex.write(slab, () => {})
    expect(socket.sent.map(({ length }) => length)).toEqual([262_144, 262_144, 75_712])
    expect(Buffer.concat(socket.sent).equals(slab)).toBe(true)
  })

  it('after the end says nothing more', async () => {
    const { duplex, socket } = await platform()
    const sink = new KeepingSink()
    duplex.start(sink)
    socket.end(1000)
    const done = vi.fn()
    duplex.write(new Uint8Array(5), done)
    await new Promise((resolve) => setTimeout(resolve, 10))
    expect(socket.sent).toEqual([])
    expect(done).not.toHaveBeenCalled()
    expect(sink.ends).toEqual([undefined])
  })
})

describe('receiving', () => {
  it('delivers what came before it was started, while it was paused, and then the end', async () => {
    const { duplex, socket } = await platform()
    const sink = new KeepingSink(3)
    socket.message(bufferOf('early '))
    duplex.start(sink)
    socket.message(bufferOf('now '))
    duplex.pause()
    socket.message(bufferOf('later '))
    socket.message(bufferOf('last'))
    socket.end(1000)
    expect(sink.bytes.toString()).toBe('early now ')
    expect(sink.ends).toEqual([])
    duplex.resume()
    expect(sink.bytes.toString()).toBe('early now later last')
    expect(sink.ends).toEqual([undefined])
  })

  it('keeps the order where the reader pauses in the middle', async () => {
    const { duplex, socket } = await platform()
    const sink = new KeepingSink()
    const commit = sink.commit.bind(sink)
    sink.commit = (count) => {
      commit(count)
      duplex.pause()
    }
    duplex.start(sink)
    for (const text of ['a', 'b', 'c', 'd']) socket.message(bufferOf(text))
    for (let i = 0; i < 4; i++) duplex.resume()
    expect(sink.bytes.toString()).toBe('abcd')
  })

  it('ends a peer that sends more than a paused reader holds', async () => {
    const { duplex, socket } = await platform({ maxHeldBytes: 100 })
    const sink = new KeepingSink()
    duplex.start(sink)
    duplex.pause()
    socket.message(new ArrayBuffer(100))
    expect(socket.closeCalls).toEqual([])
    socket.message(new ArrayBuffer(1))
    expect(socket.closeCalls).toEqual([4400])
    expect(await sink.ended()).toMatchObject({ code: 'ERR_WEBSOCKET_OVERFLOW' })
  })

  it('refuses text', async () => {
    const { duplex, socket } = await platform()
    const sink = new KeepingSink()
    duplex.start(sink)
    socket.message('SSH-2.0-x\r\n')
    expect(await sink.ended()).toMatchObject({ code: 'ERR_WEBSOCKET_TEXT' })
    expect(sink.receivedBytes).toBe(0)
    socket.message(bufferOf('more'))
    expect(sink.receivedBytes).toBe(0)
  })
})

describe('an end', () => {
  it.each([
    [1000, undefined],
    [1005, undefined],
    [1001, 'ERR_WEBSOCKET_CLOSED'],
    [1006, 'ERR_WEBSOCKET_FAILED'],
    [1011, 'ERR_WEBSOCKET_RESET'],
    [4401, 'ERR_WEBSOCKET_UNAUTHORIZED'],
    [4403, 'ERR_WEBSOCKET_FORBIDDEN'],
    [4404, 'ERR_WEBSOCKET_NO_TARGET'],
    [4408, 'ERR_WEBSOCKET_TIMEOUT'],
    [4429, 'ERR_WEBSOCKET_BUSY'],
    [4502, 'ERR_WEBSOCKET_UNREACHABLE'],
    [4999, 'ERR_WEBSOCKET_CLOSED'],
  ])('with %i has the cause %s', async (code, expected) => {
    const { duplex, socket } = await platform()
    const sink = new KeepingSink()
    duplex.start(sink)
    socket.end(code, 'because\u202e')
    const cause = await sink.ended()
    if (expected === undefined) expect(cause).toBeUndefined()
    else {
      expect(cause).toBeInstanceOf(WebSocketClosedError)
      expect(cause).toMatchObject({ code: expected, closeCode: code, closeReason: 'because\u202e' })
      expect(cause!.message).toContain('because\\u{202e}')
    }
    socket.end(1006)
    duplex.close(true)
    expect(sink.ends).toHaveLength(1)
  })

  it('of ours waits for what was sent; an abrupt one does not', async () => {
    const { duplex, socket } = await platform()
    const sink = new KeepingSink()
    duplex.start(sink)
    duplex.close()
    expect(socket.closeCalls).toEqual([1000])
    expect(sink.ends).toEqual([])
    duplex.close(true)
    expect(sink.ends).toEqual([undefined])
  })
})

describe('with the ws package', () => {
  async function pair() {
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
    registerCleanup(() => {
      for (const client of server.clients) client.terminate()
      server.close()
    })
    await once(server, 'listening')
    const connection = once(server, 'connection')
    const duplex = await webSocketDuplex(`ws://127.0.0.1:${(server.address() as AddressInfo).port}/x`, {
      WebSocket: WebSocket as unknown as WebSocketConstructor,
    })
    const [socket] = (await connection) as [WebSocket]
    return { duplex, socket, other: await webSocketDuplex(socket as unknown as WebSocketLike) }
  }

  it('two duplexes exchange bytes, and the slab is theirs until done', async () => {
    const { duplex, other } = await pair()
    const [here, there] = [new KeepingSink(70_000), new KeepingSink(70_000)]
    duplex.start(here)
    other.start(there)
    const expected: Buffer[] = []
    for (const [from, sink] of [
      [duplex, there],
      [other, here],
    ] as const) {
      expected.length = 0
      const slab = new Uint8Array(300_000)
      for (let round = 0; round < 8; round++) {
        slab.fill(round + 1)
        expected.push(Buffer.from(slab))
        await new Promise<void>((resolve) => from.write(slab, resolve))
        slab.fill(0xee)
      }
      await sink.until(() => sink.receivedBytes >= 2_400_000)
      expect(sink.bytes.equals(Buffer.concat(expected))).toBe(true)
    }
    duplex.close()
    expect(await there.ended()).toBeUndefined()
    expect(await here.ended()).toBeUndefined()
  })

  it('a paused one is not read, so that its peer cannot go on', async () => {
    const { duplex, other } = await pair()
    const [here, there] = [new KeepingSink(70_000), new KeepingSink(70_000)]
    duplex.start(here)
    other.start(there)
    other.pause()
    let sent = 0
    const more = (): void => {
      if (sent >= 64) return
      sent++
      duplex.write(new Uint8Array(1024 * 1024), more)
    }
    more()
    let last = -1
    while (last !== sent) {
      last = sent
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    expect(sent).toBeLessThan(32)
    expect(there.receivedBytes).toBe(0)
    other.resume()
    await there.until(() => there.receivedBytes === 64 * 1024 * 1024)
  })

  it('tells why the handshake was refused', async () => {
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1', verifyClient: () => false })
    registerCleanup(() => server.close())
    await once(server, 'listening')
    const url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}`
    await expect(
      webSocketDuplex(url, { WebSocket: WebSocket as unknown as WebSocketConstructor }),
    ).rejects.toMatchObject({
      code: 'ERR_WEBSOCKET_FAILED',
      closeCode: 1006,
      message: expect.stringMatching(/401/),
    })
  })

  it('an abrupt close does not wait for the peer', async () => {
    const { duplex, socket } = await pair()
    const sink = new KeepingSink()
    duplex.start(sink)
    socket.pause()
    duplex.close(true)
    expect(sink.ends).toEqual([undefined])
  })
})
