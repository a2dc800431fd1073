// Floods of messages that cost a client nothing: the server stays small and awake, stops reading from who does not read its
// replies, and goes on where it stopped.

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { ByteReceiver, ServerOptions } from '@sshblock/transport'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import {
  channelClose,
  channelData,
  channelEof,
  channelExtendedData,
  channelOpen,
  channelRequest,
  channelWindowAdjust,
  globalRequest,
} from '../../../packages/transport/src/messages/connection.ts'
import * as number from '../../../packages/transport/src/messages/numbers.ts'
import { debug, ignore, ping, unimplemented } from '../../../packages/transport/src/messages/transport.ts'
import type { RawClient } from './raw-client.ts'
import { loggedIn } from './raw-client.ts'

const MiB = 1024 * 1024

let collectGarbage: () => void

beforeAll(() => {
  setFlagsFromString('--expose-gc')
  collectGarbage = runInNewContext('gc')
})

const clients: RawClient[] = []
afterEach(() => {
  for (const client of clients.splice(0)) client.close()
})

/** Bytes of live objects, without the contents of buffers. */
function heldObjects(): number {
  collectGarbage()
  return process.memoryUsage().heapUsed
}

/** Bytes of live objects and of buffers. */
function heldBytes(): number {
  return heldObjects() + process.memoryUsage().arrayBuffers
}

const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0))

async function enter(options: Partial<ServerOptions> = {}): Promise<Awaited<ReturnType<typeof loggedIn>>> {
  const scene = await loggedIn(options)
  clients.push(scene.client)
  return scene
}

const empty = new Uint8Array(0)
const packetsPerWrite = 500

/** Sends up to `count` messages, a write at a time; stops where the server stops reading. Returns how many were taken. */
async function flood(client: RawClient, count: number, message: (i: number) => Uint8Array): Promise<number> {
  let taken = 0
  while (taken < count && client.core.failure === undefined) {
    for (let i = 0; i < packetsPerWrite; i++) client.queue(message(taken + i))
    client.flush()
    for (let wait = 0; !client.idle && wait < 30; wait++) await turn()
    if (!client.idle) return taken
    taken += packetsPerWrite
    await turn()
  }
  return taken
}

/** Counts the turns that others get. */
function watchTurns(): () => number {
  let turns = 0
  const timer = setInterval(() => turns++, 1)
  return () => {
    clearInterval(timer)
    return turns
  }
}

const discard: ByteReceiver = { data: () => {}, writable: () => {}, end: () => {}, closed: () => {} }

const answered: [name: string, message: (i: number) => Uint8Array][] = [
  ['pings', () => ping.bytes({ data: new Uint8Array(16) })],
  ['unknown messages', () => Uint8Array.of(200, 1, 2, 3)],
  [
    'global requests',
    () => globalRequest.bytes({ request: 'keepalive@openssh.com', wantReply: true, payload: empty }),
  ],
  [
    'channel opens',
    (i) =>
      channelOpen.bytes({
        channelType: 'x11',
        senderChannel: i,
        initialWindow: 0,
        maxPacket: 1,
        payload: empty,
      }),
  ],
  [
    'channel requests',
    () => channelRequest.bytes({ recipientChannel: 0, request: 'x', wantReply: true, payload: empty }),
  ],
]

const silent: [name: string, message: (i: number) => Uint8Array][] = [
  ['IGNORE', () => ignore.bytes({ data: new Uint8Array(8) })],
  ['DEBUG', () => debug.bytes({ alwaysDisplay: true, text: 'x' })],
  ['UNIMPLEMENTED', () => unimplemented.bytes({ sequence: 0 })],
  [
    'global requests without reply',
    () => globalRequest.bytes({ request: 'x', wantReply: false, payload: empty }),
  ],
  [
    'unsolicited global replies',
    (i) => (i % 2 === 0 ? Uint8Array.of(number.REQUEST_SUCCESS) : Uint8Array.of(number.REQUEST_FAILURE)),
  ],
  [
    'unsolicited channel replies',
    (i) => Uint8Array.of(i % 2 === 0 ? number.CHANNEL_SUCCESS : number.CHANNEL_FAILURE, 0, 0, 0, 0),
  ],
  ['window adjusts', () => channelWindowAdjust.bytes({ recipientChannel: 0, bytes: 1 })],
  ['window adjusts of nothing', () => channelWindowAdjust.bytes({ recipientChannel: 0, bytes: 0 })],
  ['empty data', () => channelData.bytes({ recipientChannel: 0, data: empty })],
  ['empty extended data', () => channelExtendedData.bytes({ recipientChannel: 0, dataType: 1, data: empty })],
  [
    'channel requests without reply',
    () => channelRequest.bytes({ recipientChannel: 0, request: 'x', wantReply: false, payload: empty }),
  ],
]

describe('floods by a client that does not read', () => {
  test('the server stops reading, and answers everything once the client reads', async () => {
    const { client } = await enter()
    let replies = 0
    client.onMessage = () => void replies++
    const before = heldBytes()
    client.pause()
    const taken = await flood(client, 200_000, () => ping.bytes({ data: new Uint8Array(1000) }))
    expect(client.idle).toBe(false)
    expect(heldBytes() - before).toBeLessThan(16 * MiB)
    client.resume()
    while (!client.idle || replies < taken + packetsPerWrite) await turn()
    expect(replies).toBe(taken + packetsPerWrite)
    expect(client.core.failure).toBeUndefined()
  })
})

describe('floods by a client that reads', () => {
  test.each([...answered, ...silent])(
    '%s: nothing stays behind, and the connection goes on',
    async (_, message) => {
      const { client, connection } = await enter()
      await client.open()
      client.onMessage = () => {}
      // Buffers find their size first.
      await flood(client, 1000, message)
      const before = heldObjects()
      expect(await flood(client, 6000, message)).toBe(6000)
      // Less than the smallest object a message: a million of them would be 128 MiB.
      expect(heldObjects() - before).toBeLessThan(0.75 * MiB)
      client.onMessage = undefined
      await client.global('keepalive@openssh.com')
      expect(connection.failure).toBeUndefined()
    },
  )

  test('a MiB of small packets in one write leaves turns to others', async () => {
    const { client } = await enter()
    for (let i = 0; i < 20_000; i++) client.queue(ignore.bytes({ data: empty }))
    await turn()
    const turns = watchTurns()
    client.flush()
    await client.global('keepalive@openssh.com')
    expect(turns()).toBeGreaterThanOrEqual(3)
  })

  test('sessions granted and closed, and nine times as many refused, leave no channel', async () => {
    const { client, connection } = await enter({ subsystems: {} })
    client.onMessage = () => {}
    const before = heldBytes()
    for (let round = 0; round < 20; round++) {
      for (let i = 0; i < 100; i++)
        client.queue(
          channelOpen.bytes({
            channelType: 'session',
            senderChannel: i,
            initialWindow: 1,
            maxPacket: 1,
            payload: empty,
          }),
        )
      client.flush()
      while (!client.idle || connection.channelCount < 10) await turn()
      for (let i = 0; i < 10; i++) {
        // Ten of the opens of a round were granted, and the server gives numbers in order.
        client.queue(channelClose.bytes({ recipientChannel: 10 * round + i }))
      }
      client.flush()
      while (!client.idle || connection.channelCount > 0) await turn()
    }
    expect(connection.channelCount).toBe(0)
    expect(connection.failure).toBeUndefined()
    expect(heldBytes() - before).toBeLessThan(MiB)
  })
})

describe('data that nobody takes', () => {
  const window = 8192

  test.each([
    ['no handler', {}],
    ['a handler that does not read', { exec: () => {} }],
    [
      'a handler that pauses',
      {
        exec: ((channel) => {
          channel.start(discard)
          channel.pause()
        }) as NonNullable<ServerOptions['exec']>,
      },
    ],
    [
      'a stream that nobody pulls',
      { exec: ((channel) => void channel.readable()) as NonNullable<ServerOptions['exec']> },
    ],
  ])(
    '%s: a window of one-byte packets costs about a window, one byte more ends the connection',
    async (_, options) => {
      const { client, connection } = await enter({
        window: { initialBytes: window, maxBytes: window },
        ...options,
      })
      const channel = await client.open()
      client.onMessage = () => {}
      client.channelRequest(channel, 'exec', Uint8Array.of(0, 0, 0, 1, 120), false)
      const before = heldBytes()
      const byte = channelData.bytes({ recipientChannel: channel, data: Uint8Array.of(1) })
      await flood(client, window - packetsPerWrite - (window % packetsPerWrite), () => byte)
      expect(heldBytes() - before).toBeLessThan(MiB)
      expect(connection.failure).toBeUndefined()
      await flood(client, 3 * packetsPerWrite, () => byte)
      await client.ended()
      expect(connection.failure).toMatchObject({ code: 'ERR_SSH_PROTOCOL' })
    },
  )

  test('a handler that reads gives the window back, and no byte is lost', async () => {
    let sum = 0
    let count = 0
    const receiver: ByteReceiver = {
      ...discard,
      data: (view) => {
        for (const value of view) sum = (sum + value) % 65_521
        count += view.length
      },
    }
    const { client } = await enter({
      window: { initialBytes: 65_536, maxBytes: 65_536 },
      exec: (channel) => channel.start(receiver),
    })
    const channel = await client.open()
    await client.asked(channel, 'exec', Uint8Array.of(0, 0, 0, 1, 120))
    let credit = 65_536
    let sent = 0
    let expected = 0
    client.onMessage = ({ number: type, payload }) => {
      if (type === number.CHANNEL_WINDOW_ADJUST) credit += channelWindowAdjust.decode(payload).bytes
    }
    const data = new Uint8Array(1000).map((_, i) => i % 251)
    while (sent < 1_000_000) {
      while (credit < data.length) await turn()
      client.send(channelData.bytes({ recipientChannel: channel, data }))
      credit -= data.length
      sent += data.length
      for (const value of data) expected = (expected + value) % 65_521
    }
    client.onMessage = undefined
    client.send(channelEof.bytes({ recipientChannel: channel }))
    await client.global('keepalive@openssh.com')
    expect([count, sum]).toEqual([sent, expected])
  })
})
