/** Web Streams, and a WebSocketStream, as a ByteDuplex. */
import type { WebSocketStreamConstructor } from '@sshblock/transport'
import {
  ConnectionLost,
  connectOver,
  embeddedServer,
  nodeCrypto,
  streamsDuplex,
  WebSocketClosedError,
  webSocketDuplex,
} from '@sshblock/transport'
import { describe, expect, it, vi } from 'vitest'
import { KeepingSink } from './byte-sink.ts'

interface Ends {
  pair: { readable: ReadableStream<unknown>; writable: WritableStream<Uint8Array<ArrayBuffer>> }
  give: ReadableStreamDefaultController<unknown>
  pulls: () => number
  taken: Uint8Array[]
  /** Lets the sink take one more chunk. */
  take: () => void
  state: { closed: boolean; aborted: boolean; cancelled: boolean }
  fail: (error: unknown) => void
}

function ends(): Ends {
  let give!: ReadableStreamDefaultController<unknown>
  let sink!: WritableStreamDefaultController
  let pulls = 0
  const taken: Uint8Array[] = []
  const waiting: (() => void)[] = []
  const state = { closed: false, aborted: false, cancelled: false }
  return {
    pair: {
      readable: new ReadableStream<unknown>(
        {
          start: (controller) => {
            give = controller
          },
          pull: () => {
            pulls++
          },
          cancel: () => {
            state.cancelled = true
          },
        },
        { highWaterMark: 0 },
      ),
      writable: new WritableStream<Uint8Array<ArrayBuffer>>({
        start: (controller) => {
          sink = controller
        },
        write: (chunk) => {
          taken.push(chunk)
          return new Promise<void>((resolve) => waiting.push(resolve))
        },
        close: () => {
          state.closed = true
        },
        abort: () => {
          state.aborted = true
        },
      }),
    },
    get give() {
      return give
    },
    pulls: () => pulls,
    taken,
    take: () => waiting.shift()?.(),
    state,
    fail: (error) => sink.error(error),
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5))

describe('a pair of Web Streams', () => {
  it('is read while the reader wants more, and not a chunk further', async () => {
    const end = ends()
    const duplex = streamsDuplex(end.pair)
    const sink = new KeepingSink(3)
    duplex.start(sink)
    await turn()
    expect(end.pulls()).toBe(1)
    end.give.enqueue(new TextEncoder().encode('hello '))
    await sink.until(() => sink.receivedBytes === 6)
    await turn()
    expect(end.pulls()).toBe(2)
    duplex.pause()
    // The read that was under way brings its chunk; no further one begins.
    end.give.enqueue(new TextEncoder().encode('world').buffer)
    await turn()
    expect(end.pulls()).toBe(2)
    expect(sink.bytes.toString()).toBe('hello world')
    duplex.resume()
    await turn()
    expect(end.pulls()).toBe(3)
    end.give.enqueue(new DataView(new TextEncoder().encode('.!.').buffer, 1, 1))
    end.give.close()
    expect(await sink.ended()).toBeUndefined()
    expect(sink.bytes.toString()).toBe('hello world!')
  })

  it('takes slabs up to the mark, and is told when there is room', async () => {
    const end = ends()
    const duplex = streamsDuplex(end.pair, { highWaterBytes: 10 })
    duplex.start(new KeepingSink())
    const done = vi.fn()
    const slab = new Uint8Array(10).fill(1)
    duplex.write(slab, done)
    await turn()
    expect(done).toHaveBeenCalledTimes(1)
    // The slab is the caller's again, though the stream has not taken it.
    slab.fill(2)
    duplex.write(slab, done)
    await turn()
    expect(done).toHaveBeenCalledTimes(1)
    end.take()
    await turn()
    expect(done).toHaveBeenCalledTimes(2)
    end.take()
    await turn()
    expect(end.taken.map(([first]) => first)).toEqual([1, 2])
  })

  it('closes after what was written was taken', async () => {
    const end = ends()
    const duplex = streamsDuplex(end.pair)
    const sink = new KeepingSink()
    duplex.start(sink)
    duplex.write(new Uint8Array(5), () => {})
    duplex.close()
    await turn()
    expect(end.state.closed).toBe(false)
    end.take()
    expect(await sink.ended()).toBeUndefined()
    expect(end.state).toEqual({ closed: true, aborted: false, cancelled: true })
  })

  it('aborts at once', async () => {
    const end = ends()
    const duplex = streamsDuplex(end.pair)
    const sink = new KeepingSink()
    duplex.start(sink)
    duplex.write(new Uint8Array(5), () => {})
    duplex.close(true)
    expect(sink.ends).toEqual([undefined])
    await turn()
    expect(end.state.cancelled).toBe(true)
    // An abort reaches a sink when its write under way is over.
    end.take()
    await turn()
    expect(end.state.aborted).toBe(true)
    expect(sink.ends).toHaveLength(1)
  })

  it.each(['readable', 'writable'] as const)(
    'that fails in its %s ends once, with the cause',
    async (which) => {
      const end = ends()
      const duplex = streamsDuplex(end.pair, { description: 'wire' })
      const sink = new KeepingSink()
      duplex.start(sink)
      const failure = new Error('cut\u0007')
      if (which === 'readable') end.give.error(failure)
      else end.fail(failure)
      const cause = await sink.ended()
      expect(cause).toBeInstanceOf(ConnectionLost)
      expect(cause).toMatchObject({
        code: 'ERR_STREAM_FAILED',
        cause: failure,
        message: expect.stringContaining('wire: cut\\u{7}'),
      })
      duplex.write(new Uint8Array(1), () => {})
      await turn()
      expect(sink.ends).toHaveLength(1)
    },
  )

  it('that gives something other than bytes ends', async () => {
    const end = ends()
    const sink = new KeepingSink()
    streamsDuplex(end.pair).start(sink)
    end.give.enqueue('text')
    expect(await sink.ended()).toMatchObject({ code: 'ERR_STREAM_FAILED' })
    expect(end.state.cancelled).toBe(true)
  })

  it('carries a whole SSH session', async () => {
    await using server = embeddedServer({
      crypto: nodeCrypto,
      exec: ({ channel }: { channel: { write(bytes: Uint8Array): void; exit(status: number): void } }) => {
        channel.exit(0)
      },
    } as never)
    const open = async () => {
      const inner = await server.open(undefined)
      const forward = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>()
      const back = new TransformStream<Uint8Array, Uint8Array>()
      const intoPage = back.writable.getWriter()
      const room = new Uint8Array(65_536)
      inner.start({
        reserve: () => room,
        commit: (count) => void intoPage.write(room.slice(0, count)),
        end: () => void intoPage.close().catch(() => {}),
      })
      void (async () => {
        for await (const chunk of forward.readable)
          await new Promise<void>((resolve) => inner.write(chunk, resolve))
        inner.close()
      })()
      return streamsDuplex({ readable: back.readable, writable: forward.writable })
    }
    const session = await connectOver(open, server.clientOptions)
    expect(session.info.authentication?.method).toBe('publickey')
    await session.close()
  })
})

describe('a WebSocketStream', () => {
  function stream() {
    const end = ends()
    let open!: () => void
    let refuse!: (error: unknown) => void
    let close!: (info: { closeCode?: number; reason?: string }) => void
    let fail!: (error: unknown) => void
    const made: {
      url: string
      protocols: string[] | undefined
      signal: AbortSignal | undefined
      closedWith: unknown[]
    } = {
      url: '',
      protocols: undefined,
      signal: undefined,
      closedWith: [],
    }
    const Class = class {
      readonly opened = new Promise<Ends['pair']>((resolve, reject) => {
        open = () => resolve(end.pair)
        refuse = reject
      })
      readonly closed = new Promise<{ closeCode?: number; reason?: string }>((resolve, reject) => {
        close = resolve
        fail = reject
      })
      constructor(url: string, options: { protocols?: string[]; signal?: AbortSignal } = {}) {
        Object.assign(made, { url, protocols: options.protocols, signal: options.signal })
        options.signal?.addEventListener('abort', () => refuse(options.signal?.reason))
      }
      close(info?: unknown): void {
        made.closedWith.push(info)
      }
    } as unknown as WebSocketStreamConstructor
    return {
      Class,
      end,
      made,
      open: () => open(),
      refuse: (e: unknown) => refuse(e),
      close: (i: { closeCode?: number; reason?: string }) => close(i),
      fail: (e: unknown) => fail(e),
    }
  }

  it('is used where there is one', async () => {
    const { Class, end, made, open } = stream()
    const pending = webSocketDuplex('https://relay.example/db', { WebSocketStream: Class, ticket: 't1' })
    open()
    const duplex = await pending
    expect(made).toMatchObject({ url: 'wss://relay.example/db', protocols: ['binary', 'ticket.t1'] })
    const sink = new KeepingSink()
    duplex.start(sink)
    end.give.enqueue(new Uint8Array([1, 2, 3]))
    await sink.until(() => sink.receivedBytes === 3)
    duplex.write(new Uint8Array([4]), () => {})
    await turn()
    expect(end.taken.map((bytes) => [...bytes])).toEqual([[4]])
    duplex.close(true)
    expect(made.closedWith).toEqual([{ closeCode: 1000 }])
  })

  it.each([
    [{ closeCode: 1000, reason: '' }, undefined],
    [{}, undefined],
    [{ closeCode: 4403, reason: 'no' }, 'ERR_WEBSOCKET_FORBIDDEN'],
    [{ closeCode: 1011 }, 'ERR_WEBSOCKET_RESET'],
  ])('that is closed with %j ends with %s', async (info, code) => {
    const { Class, end, open, close } = stream()
    const pending = webSocketDuplex('wss://relay.example/', { WebSocketStream: Class })
    open()
    const sink = new KeepingSink()
    ;(await pending).start(sink)
    close(info)
    end.give.close()
    const cause = await sink.ended()
    expect((cause as { code?: string } | undefined)?.code).toBe(code)
  })

  it('that fails ends with the code of its error', async () => {
    const { Class, end, open, fail } = stream()
    const pending = webSocketDuplex('wss://relay.example/', { WebSocketStream: Class })
    open()
    const sink = new KeepingSink()
    ;(await pending).start(sink)
    const failure = Object.assign(new Error('gone'), { closeCode: 1006, reason: '' })
    fail(failure)
    end.give.error(failure)
    expect(await sink.ended()).toMatchObject({ code: 'ERR_WEBSOCKET_FAILED', closeCode: 1006 })
  })

  it('that does not open fails, or is given up', async () => {
    const refused = stream()
    const pending = webSocketDuplex('wss://relay.example/', { WebSocketStream: refused.Class })
    refused.refuse(new Error('handshake'))
    await expect(pending).rejects.toBeInstanceOf(WebSocketClosedError)
    const slow = stream()
    await expect(
      webSocketDuplex('wss://relay.example/', { WebSocketStream: slow.Class, connectTimeoutMs: 20 }),
    ).rejects.toMatchObject({
      code: 'ERR_SSH_TIMEOUT',
    })
    expect(slow.made.signal?.aborted).toBe(true)
    const abort = new AbortController()
    const cancelled = webSocketDuplex('wss://relay.example/', {
      WebSocketStream: stream().Class,
      signal: abort.signal,
    })
    abort.abort()
    await expect(cancelled).rejects.toMatchObject({ code: 'ABORT_ERR' })
  })
})
