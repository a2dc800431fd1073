import { beforeEach, describe, expect, it } from 'vitest'
import type { Channel } from '../../../packages/transport/src/connection/channel.ts'
import { Mux } from '../../../packages/transport/src/connection/mux.ts'
import { ReceiveWindow, SendWindow } from '../../../packages/transport/src/connection/window.ts'
import { ChannelClosedError, ChannelOpenError } from '../../../packages/transport/src/errors.ts'
import * as messages from '../../../packages/transport/src/messages/connection.ts'
import { Writer } from '../../../packages/transport/src/wire/writer.ts'
import { Pair } from '../core/pair.ts'

/** An authenticated pair with one channel, opened by the client. */
interface Joined {
  pair: Pair
  client: Channel
  server: Channel
  data: { client: number; server: number }
}

async function join(options: ConstructorParameters<typeof Pair>[0] = {}, consume = true): Promise<Joined> {
  const pair = new Pair(options)
  const data = { client: 0, server: 0 }
  let server: Channel | undefined
  pair.onEvent = (side, event) => {
    if (event.type === 'channel-open') server = event.incoming.accept()
    if (event.type === 'channel-data' || event.type === 'channel-extended-data') {
      data[side] += event.data.length
      if (consume) event.channel.consumed(event.data.length)
    }
  }
  await pair.open()
  let client: Channel | Error | undefined
  pair.client.core.mux.open('session', new Uint8Array(0), (result) => {
    client = result
  })
  await pair.settle()
  if (client === undefined || client instanceof Error || server === undefined) throw new Error('no channel')
  return { pair, client, server, data }
}

/** Sends a raw payload from a side, whatever its own rules say. */
function inject(pair: Pair, from: 'client' | 'server', payload: Uint8Array): void {
  const { transport } = pair[from].core
  transport.begin().raw(payload)
  transport.end()
  pair.feed(pair[from === 'client' ? 'server' : 'client'], pair.take(pair[from])!)
}

describe('an opening that is taken back, because the peer will never answer it', () => {
  it('leaves nothing behind, and an answer that comes all the same ends the connection', async () => {
    const { pair } = await join()
    const { mux } = pair.client.core
    const before = mux.channelCount
    const results: unknown[] = []
    const localId = mux.open('session', new Uint8Array(0), (result) => results.push(result))
    mux.withdraw(localId)
    expect(mux.channelCount).toBe(before)
    await pair.settle()
    expect(results).toEqual([])
    expect(pair.client.core.transport.failure?.message).toMatch(/not pending/)
  })

  it('is not measured where the answer waits for something else too', async () => {
    const { pair } = await join()
    const { mux } = pair.client.core
    mux.roundTripMs = undefined
    mux.open('session', new Uint8Array(0), () => {}, { early: true })
    await pair.settle()
    expect(mux.roundTripMs).toBeUndefined()
    mux.open('session', new Uint8Array(0), () => {})
    await pair.settle()
    expect(mux.roundTripMs).toBeDefined()
  })
})

describe('windows (RFC 4254 s5.2)', () => {
  it('lets a window reach 2^32 - 1 and no further', () => {
    const window = new SendWindow(0)
    window.adjust(2 ** 32 - 1)
    expect(window.available).toBe(2 ** 32 - 1)
    window.adjust(0)
    expect(() => window.adjust(1)).toThrow(/leaves 32 bits/)
  })

  it('ends the connection for one byte more than was promised, and delivers all up to then', async () => {
    const { pair, client, data } = await join(
      { client: { mux: { window: { initialBytes: 1000, maxBytes: 1000 } } } },
      false,
    )
    inject(
      pair,
      'server',
      messages.channelData.bytes({ recipientChannel: client.localId, data: new Uint8Array(1000) }),
    )
    expect(data.client).toBe(1000)
    expect(pair.failure('client')).toBeUndefined()
    inject(
      pair,
      'server',
      messages.channelData.bytes({ recipientChannel: client.localId, data: new Uint8Array(1) }),
    )
    expect(pair.failure('client')?.message).toMatch(/into a window of 0/)
    expect(data.client).toBe(1000)
  })

  it('ends the connection for a packet larger than was promised', async () => {
    const { pair, client } = await join({ client: { mux: { maxPacketBytes: 500 } } })
    inject(
      pair,
      'server',
      messages.channelData.bytes({ recipientChannel: client.localId, data: new Uint8Array(500) }),
    )
    expect(pair.failure('client')).toBeUndefined()
    inject(
      pair,
      'server',
      messages.channelData.bytes({ recipientChannel: client.localId, data: new Uint8Array(501) }),
    )
    expect(pair.failure('client')?.message).toMatch(/at most 500 were promised/)
  })

  it('survives 20 000 empty data messages', async () => {
    const { pair, client } = await join()
    const payload = messages.channelData.bytes({ recipientChannel: client.localId, data: new Uint8Array(0) })
    const { transport } = pair.server.core
    for (let i = 0; i < 20_000; i++) {
      transport.begin().raw(payload)
      transport.end()
      if (i % 1000 === 0)
        for (let bytes = pair.take(pair.server); bytes !== undefined; bytes = pair.take(pair.server))
          pair.feed(pair.client, bytes)
    }
    expect(pair.failure('client')).toBeUndefined()
  })

  it('fills packets to exactly what the peer takes, and works with 1 byte', async () => {
    const { pair, client, data } = await join({ server: { mux: { maxPacketBytes: 1 } } })
    client.write(new Uint8Array(300))
    await pair.settle()
    expect(data.server).toBe(300)
    const wide = await join({ server: { mux: { maxPacketBytes: 32_768 } } })
    const before = wide.pair.client.core.transport
    let packets = 0
    wide.pair.onEvent = (_, event) => {
      if (event.type === 'channel-data') packets++
    }
    wide.client.write(new Uint8Array(10 * 32_768))
    await wide.pair.settle()
    expect(packets).toBe(10)
    expect(before.failure).toBeUndefined()
  })

  it('puts writes of one turn into one packet', async () => {
    const { pair, client } = await join()
    const sizes: number[] = []
    pair.onEvent = (_, event) => {
      if (event.type === 'channel-data') sizes.push(event.data.length)
    }
    for (let i = 0; i < 64; i++) client.write(new Uint8Array(29))
    await pair.settle()
    expect(sizes).toEqual([64 * 29])
  })

  it('holds what does not fit the window and sends it in order when the peer consumes', async () => {
    const { pair, client, server } = await join(
      { server: { mux: { window: { initialBytes: 1000, maxBytes: 1000 } } } },
      false,
    )
    const received: number[] = []
    pair.onEvent = (_, event) => {
      if (event.type === 'channel-data') {
        received.push(...event.data)
        event.channel.consumed(event.data.length)
      }
    }
    const bytes = Uint8Array.from({ length: 5000 }, (_, i) => i & 255)
    client.write(bytes)
    expect(client.queuedBytes).toBe(4000)
    client.end()
    await pair.settle()
    expect(Uint8Array.from(received)).toEqual(bytes)
    expect(server.eofReceived).toBe(true)
  })

  it('sends nothing on a channel while keys are exchanged, and everything in order after', async () => {
    const { pair, client, data } = await join()
    pair.client.core.transport.rekey()
    client.write(new Uint8Array(100))
    expect(client.writableBytes).toBe(0)
    client.end()
    client.close()
    await pair.settle()
    expect(pair.failure('server')).toBeUndefined()
    expect(data.server).toBeLessThanOrEqual(100)
    expect(pair.client.core.mux.channelCount).toBe(0)
    expect(pair.server.core.mux.channelCount).toBe(0)
  })

  it('a channel whose reader stopped does not stop another', async () => {
    const { pair, client, data } = await join(
      { server: { mux: { window: { initialBytes: 1000, maxBytes: 1000 } } } },
      false,
    )
    let second: Channel | undefined
    pair.client.core.mux.open('session', new Uint8Array(0), (result) => {
      if (!(result instanceof Error)) second = result
    })
    await pair.settle()
    client.write(new Uint8Array(5000))
    await pair.settle()
    expect(client.queuedBytes).toBe(4000)
    data.server = 0
    second!.write(new Uint8Array(900))
    await pair.settle()
    expect(data.server).toBe(900)
  })

  it('grows while a window arrives per round trip, and not while the reader is the limit', () => {
    const limits = { initialBytes: 1000, maxBytes: 16_000 }
    const fast = new ReceiveWindow(limits)
    let now = 0
    for (let i = 0; i < 20; i++) {
      const count = Math.min(fast.available, 600)
      fast.receive(count)
      now += 10
      fast.consume(count, now, 50)
    }
    expect(fast.target).toBe(16_000)
    const burst = new ReceiveWindow(limits)
    for (now = 0; burst.target === 1000 && now < 20; now++) {
      burst.receive(100)
      burst.consume(100, now, 50)
    }
    // Half a window in 5 ms: 100 bytes/ms are 5000 a round trip.
    expect(burst.target).toBe(16_000)
    expect(now).toBeLessThan(10)
    const slow = new ReceiveWindow(limits)
    now = 0
    for (let i = 0; i < 20; i++) {
      slow.receive(Math.min(slow.available, 600))
      now += 1000
      slow.consume(Math.min(slow.unconsumed, 600), now, 1)
    }
    expect(slow.target).toBe(1000)
  })
})

describe('channel ids (RFC 4254 s5)', () => {
  const forChannel: [string, (id: number) => Uint8Array][] = [
    ['WINDOW_ADJUST', (id) => messages.channelWindowAdjust.bytes({ recipientChannel: id, bytes: 1 })],
    ['DATA', (id) => messages.channelData.bytes({ recipientChannel: id, data: Uint8Array.of(1) })],
    [
      'EXTENDED_DATA',
      (id) =>
        messages.channelExtendedData.bytes({ recipientChannel: id, dataType: 1, data: Uint8Array.of(1) }),
    ],
    ['EOF', (id) => messages.channelEof.bytes({ recipientChannel: id })],
    ['CLOSE', (id) => messages.channelClose.bytes({ recipientChannel: id })],
    [
      'REQUEST',
      (id) =>
        messages.channelRequest.bytes({
          recipientChannel: id,
          request: 'x',
          wantReply: false,
          payload: new Uint8Array(0),
        }),
    ],
    ['SUCCESS', (id) => messages.channelSuccess.bytes({ recipientChannel: id })],
    ['FAILURE', (id) => messages.channelFailure.bytes({ recipientChannel: id })],
    [
      'OPEN_CONFIRMATION',
      (id) =>
        messages.channelOpenConfirmation.bytes({
          recipientChannel: id,
          senderChannel: 0,
          initialWindow: 1,
          maxPacket: 1,
          payload: new Uint8Array(0),
        }),
    ],
    [
      'OPEN_FAILURE',
      (id) => messages.channelOpenFailure.bytes({ recipientChannel: id, reason: 1, description: '' }),
    ],
  ]

  it.each(forChannel)('%s for a channel that is not there ends the connection', async (_, bytes) => {
    const { pair } = await join()
    inject(pair, 'server', bytes(77))
    expect(pair.failure('client')?.message).toMatch(/channel/)
  })

  it.each(forChannel.slice(0, 8))(
    '%s for a channel that is not confirmed yet ends the connection',
    async (_, bytes) => {
      const { pair } = await join()
      let settled: unknown
      pair.client.core.mux.open('session', new Uint8Array(0), (result) => {
        settled = result
      })
      inject(pair, 'server', bytes(1))
      expect(pair.failure('client')?.message).toMatch(/not confirmed/)
      expect(settled).toBeInstanceOf(Error)
    },
  )

  it('a second CLOSE ends the connection, crossing CLOSEs do not', async () => {
    const { pair, client, server } = await join()
    client.close()
    server.close()
    await pair.settle()
    expect(pair.failure('client')).toBeUndefined()
    expect(pair.failure('server')).toBeUndefined()
    expect(pair.client.core.mux.channelCount).toBe(0)
    inject(pair, 'server', messages.channelClose.bytes({ recipientChannel: client.localId }))
    expect(pair.failure('client')).toBeDefined()
  })

  it('data after EOF and a second EOF end the connection', async () => {
    for (const bytes of [
      messages.channelData.bytes({ recipientChannel: 0, data: Uint8Array.of(1) }),
      messages.channelEof.bytes({ recipientChannel: 0 }),
    ]) {
      const { pair } = await join()
      inject(pair, 'server', messages.channelEof.bytes({ recipientChannel: 0 }))
      expect(pair.failure('client')).toBeUndefined()
      inject(pair, 'server', bytes)
      expect(pair.failure('client')).toBeDefined()
    }
  })

  it('drops data that crosses our CLOSE', async () => {
    const { pair, client, data } = await join()
    client.close()
    inject(
      pair,
      'server',
      messages.channelData.bytes({ recipientChannel: client.localId, data: new Uint8Array(10) }),
    )
    expect(data.client).toBe(0)
    expect(pair.failure('client')).toBeUndefined()
  })
})

describe('opening channels', () => {
  it('refuses a maximum packet size of 0 in both directions', async () => {
    const { pair } = await join()
    inject(
      pair,
      'client',
      messages.channelOpen.bytes({
        channelType: 'session',
        senderChannel: 5,
        initialWindow: 10,
        maxPacket: 0,
        payload: new Uint8Array(0),
      }),
    )
    expect(pair.server.names.filter((name) => name === 'channel-open')).toHaveLength(1)
    let result: unknown
    const again = await join()
    again.pair.client.core.mux.open('session', new Uint8Array(0), (answer) => {
      result = answer
    })
    inject(
      again.pair,
      'server',
      messages.channelOpenConfirmation.bytes({
        recipientChannel: 1,
        senderChannel: 1,
        initialWindow: 10,
        maxPacket: 0,
        payload: new Uint8Array(0),
      }),
    )
    expect(result).toBeInstanceOf(ChannelOpenError)
  })

  it('refuses the 65th channel of a client with RESOURCE_SHORTAGE, and opens again when one is closed', async () => {
    const { pair, client } = await join()
    const results: (Channel | Error)[] = []
    for (let i = 0; i < 64; i++)
      pair.client.core.mux.open('session', new Uint8Array(0), (result) => results.push(result))
    await pair.settle()
    expect(results.filter((result) => result instanceof Error)).toHaveLength(1)
    expect(results.at(-1)).toMatchObject({ code: 'ERR_SSH_CHANNEL_OPEN', reason: 4 })
    client.close()
    await pair.settle()
    pair.client.core.mux.open('session', new Uint8Array(0), (result) => results.push(result))
    await pair.settle()
    expect(results.at(-1)).not.toBeInstanceOf(Error)
  })

  it('holds our own 257th back', async () => {
    const { pair } = await join({ server: { mux: { maxChannels: 1000 } } })
    const results: (Channel | Error)[] = []
    for (let i = 0; i < 256; i++)
      pair.client.core.mux.open('session', new Uint8Array(0), (result) => results.push(result))
    await pair.settle()
    expect(results.filter((result) => result instanceof Error)).toHaveLength(1)
  })

  it('leaves nothing behind after 3 000 refused opens', async () => {
    const pair = new Pair()
    pair.onEvent = (_, event) => {
      if (event.type === 'channel-open') event.incoming.refuse(1, 'no')
    }
    await pair.open()
    let refused = 0
    for (let i = 0; i < 3_000; i++) {
      pair.client.core.mux.open('session', new Uint8Array(0), (result) => {
        if (result instanceof ChannelOpenError) refused++
      })
      if (i % 100 === 99) await pair.settle()
    }
    await pair.settle()
    expect(refused).toBe(3_000)
    expect(pair.client.core.mux.channelCount + pair.server.core.mux.channelCount).toBe(0)
  })
})

describe('requests and replies', () => {
  let joined: Joined
  beforeEach(async () => {
    joined = await join()
  })

  it('drops replies nobody asked for, and the next request gets its own', async () => {
    const { pair, client } = joined
    for (let i = 0; i < 1000; i++) {
      const bytes = [
        messages.requestSuccess.bytes({ payload: new Uint8Array(0) }),
        messages.requestFailure.bytes({}),
        messages.channelSuccess.bytes({ recipientChannel: client.localId }),
      ]
      inject(pair, 'server', bytes[i % 3]!)
    }
    expect(pair.failure('client')).toBeUndefined()
    const answers: unknown[] = []
    pair.onEvent = (_, event) => {
      if (event.type === 'channel-request') event.incoming.reply(event.incoming.request === 'good')
    }
    client.request('bad', new Uint8Array(0), (answer) => answers.push(answer))
    client.request('good', new Uint8Array(0), (answer) => answers.push(answer))
    await pair.settle()
    expect(answers).toEqual([false, true])
  })

  it('answers in the order of the requests, whatever the order of the answers', async () => {
    const { pair, client } = joined
    const replies: ((ok: boolean) => void)[] = []
    pair.onEvent = (_, event) => {
      if (event.type === 'channel-request') replies.push((ok) => event.incoming.reply(ok))
      if (event.type === 'global-request') {
        const { payload } = event.incoming
        const copy = payload.slice()
        replies.push((ok) => event.incoming.reply(ok, copy))
      }
    }
    const answers: unknown[] = []
    for (let i = 0; i < 3; i++)
      client.request(`r${i}`, new Uint8Array(0), (answer) => answers.push([i, answer]))
    const globals: unknown[] = []
    for (let i = 3; i < 6; i++)
      pair.client.core.mux.globalRequest(`g${i}`, Uint8Array.of(i), (answer) => globals.push([i, answer]))
    await pair.settle()
    for (const reply of replies.reverse()) reply(true)
    await pair.settle()
    expect(answers).toEqual([
      [0, true],
      [1, true],
      [2, true],
    ])
    expect(globals).toEqual([
      [3, Uint8Array.of(3)],
      [4, Uint8Array.of(4)],
      [5, Uint8Array.of(5)],
    ])
  })

  it('ends every pending call when the channel or the connection ends', async () => {
    const { pair, client, server } = joined
    const answers: unknown[] = []
    client.request('never', new Uint8Array(0), (answer) => answers.push(answer))
    await pair.settle()
    server.close()
    await pair.settle()
    expect(answers).toEqual([expect.any(ChannelClosedError)])
    pair.client.core.mux.open('session', new Uint8Array(0), (result) => answers.push(result))
    pair.client.core.mux.globalRequest('never', new Uint8Array(0), (answer) => answers.push(answer))
    pair.client.core.ended(new Error('cable'))
    pair.drain(pair.client)
    expect(answers.slice(1)).toEqual([
      expect.objectContaining({ code: 'ERR_SSH_CONNECTION_LOST' }),
      expect.objectContaining({ code: 'ERR_SSH_CONNECTION_LOST' }),
    ])
  })

  it('ends the connection at the 257th unanswered request', async () => {
    const { pair } = joined
    const bytes = messages.globalRequest.bytes({ request: 'x', wantReply: true, payload: new Uint8Array(0) })
    for (let i = 0; i < 256; i++) inject(pair, 'server', bytes)
    expect(pair.failure('client')).toBeUndefined()
    inject(pair, 'server', bytes)
    expect(pair.failure('client')?.message).toMatch(/unanswered global requests/)
  })
})

describe('malformed messages', () => {
  const samples = [
    messages.globalRequest.bytes({ request: 'abc', wantReply: true, payload: new Uint8Array(0) }),
    messages.channelOpen.bytes({
      channelType: 'session',
      senderChannel: 9,
      initialWindow: 9,
      maxPacket: 9,
      payload: new Uint8Array(0),
    }),
    messages.channelWindowAdjust.bytes({ recipientChannel: 0, bytes: 1 }),
    messages.channelData.bytes({ recipientChannel: 0, data: Uint8Array.of(1, 2) }),
    messages.channelExtendedData.bytes({ recipientChannel: 0, dataType: 1, data: Uint8Array.of(1, 2) }),
    messages.channelEof.bytes({ recipientChannel: 0 }),
    messages.channelClose.bytes({ recipientChannel: 0 }),
    messages.channelRequest.bytes({
      recipientChannel: 0,
      request: 'abc',
      wantReply: true,
      payload: new Uint8Array(0),
    }),
    messages.channelSuccess.bytes({ recipientChannel: 0 }),
    messages.channelFailure.bytes({ recipientChannel: 0 }),
  ]

  it.each(samples.map((bytes) => [bytes[0]!, bytes] as const))(
    'message %i cut anywhere, or with a byte too many, is a protocol error',
    async (type, bytes) => {
      const bodies = Array.from({ length: bytes.length - 1 }, (_, i) => bytes.subarray(0, i + 1))
      // Request payloads run to the end of the message, so one byte more belongs to these.
      if (type !== 80 && type !== 90 && type !== 98) bodies.push(Uint8Array.of(...bytes, 0))
      for (const body of bodies) {
        const { pair } = await join()
        inject(pair, 'server', body)
        expect(pair.failure('client')?.code).toBe('ERR_SSH_PROTOCOL')
      }
    },
  )

  it('the hand-written paths of CHANNEL_DATA and CHANNEL_EXTENDED_DATA equal their declarations', () => {
    const sink = new RecordingSink()
    const mux = new Mux(sink, { role: 'client', now: () => 0 })
    let channel: Channel | undefined
    mux.open('session', new Uint8Array(0), (result) => {
      if (!(result instanceof Error)) channel = result
    })
    mux.receive(
      91,
      messages.channelOpenConfirmation.bytes({
        recipientChannel: 0,
        senderChannel: 3,
        initialWindow: 9000,
        maxPacket: 9000,
        payload: new Uint8Array(0),
      }),
    )
    channel!.write(Uint8Array.of(1, 2, 3))
    channel!.write(Uint8Array.of(4))
    sink.finishOpenPacket()
    channel!.writeExtended(1, Uint8Array.of(5, 6))
    expect(sink.sent.slice(1)).toEqual([
      messages.channelData.bytes({ recipientChannel: 3, data: Uint8Array.of(1, 2, 3, 4) }),
      messages.channelExtendedData.bytes({ recipientChannel: 3, dataType: 1, data: Uint8Array.of(5, 6) }),
    ])
    const data = mux.receive(
      94,
      messages.channelData.bytes({ recipientChannel: 0, data: Uint8Array.of(9, 8) }),
    )
    expect(data).toMatchObject({ type: 'channel-data', data: Uint8Array.of(9, 8) })
    const extended = mux.receive(
      95,
      messages.channelExtendedData.bytes({ recipientChannel: 0, dataType: 7, data: Uint8Array.of(9) }),
    )
    expect(extended).toMatchObject({ type: 'channel-extended-data', dataType: 7, data: Uint8Array.of(9) })
  })
})

/** A packet layer that keeps payloads. */
class RecordingSink {
  readonly sent: Uint8Array[] = []
  readonly blocked = false
  readonly pendingBytes = 0
  #writer = new Writer()
  #finish: (() => void) | undefined

  begin(): Writer {
    this.finishOpenPacket()
    this.#writer = new Writer()
    return this.#writer
  }

  end(): void {
    this.sent.push(this.#writer.copy())
  }

  leaveOpen(finish: () => void): void {
    this.#finish = finish
  }

  finishOpenPacket(): void {
    const finish = this.#finish
    if (finish === undefined) return
    this.#finish = undefined
    finish()
    this.end()
  }
}
