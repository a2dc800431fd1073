// The rules for lost connections, one by one, on a scripted server and a clock that the test moves; and for each guard that
// the same history goes wrong without it.

import { describe, expect, test } from 'vitest'
import type { BlockDeviceError } from '../../packages/blockdev/src/errors.ts'
import { AccessRefusedError } from '../../packages/blockdev/src/image/errors.ts'
import type { ConnectionEvent } from '../../packages/blockdev/src/image/options.ts'
import {
  ResilientImage,
  type ResilientImageOptions,
} from '../../packages/blockdev/src/image/resilient-image.ts'
import type { Rule } from '../../packages/blockdev/src/image/rules.ts'
import { NotSyncedYetError } from '../../packages/blockdev/src/random-access-file.ts'
import { pattern, rejection, seededRandom } from './scripted-file.ts'
import { ManualClock, ScriptedServer, turns } from './scripted-host.ts'

const size = 64 * 1024
const block = 4096

interface World {
  readonly server: ScriptedServer
  readonly clock: ManualClock
  readonly image: ResilientImage
  readonly events: ConnectionEvent[]
  readonly warnings: string[]
}

async function world(options: Partial<ResilientImageOptions> = {}, content = pattern(size)): Promise<World> {
  const server = new ScriptedServer(content)
  const clock = new ManualClock()
  const events: ConnectionEvent[] = []
  const warnings: string[] = []
  const random = seededRandom(7)
  const connection = await server.connect(new AbortController().signal)
  const lane = await connection.openLane({ signal: new AbortController().signal, epoch: 1, serial: 1 })
  const image = new ResilientImage({
    host: server,
    connection,
    lane,
    writable: true,
    kind: 'file',
    size: content.length,
    clock,
    random: () => random(1 << 30) / (1 << 30),
    maxChannels: 1,
    maxConnections: 1,
    onState: (event) => events.push(event),
    onWarning: (message) => warnings.push(message),
    ...options,
  })
  await turns()
  return { server, clock, image, events, warnings }
}

const filled = (byte: number, length = block) => new Uint8Array(length).fill(byte)

async function readBlock(image: ResilientImage, offset: number): Promise<Uint8Array> {
  const into = new Uint8Array(block)
  await image.read(offset, into)
  return into
}

/** What a promise has come to so far. */
function watch<T>(promise: Promise<T>): { state: 'pending' | 'ok' | 'failed'; error?: BlockDeviceError } {
  const watched: { state: 'pending' | 'ok' | 'failed'; error?: BlockDeviceError } = { state: 'pending' }
  promise.then(
    () => {
      watched.state = 'ok'
    },
    (error: BlockDeviceError) => {
      watched.state = 'failed'
      watched.error = error
    },
  )
  return watched
}

const without = (...rules: Rule[]) => ({ without: new Set(rules) })

describe('R1: reads', () => {
  test('a read that got no answer is sent again on a new connection', async () => {
    const { server, clock, image } = await world()
    server.silent = true
    const into = new Uint8Array(block)
    const read = watch(image.read(0, into))
    await turns()
    server.silent = false
    server.loseAll()
    await clock.pass(1000)
    expect(read.state).toBe('ok')
    expect(into).toEqual(pattern(size).subarray(0, block))
  })
})

describe('R2 to R4: writes without an answer', () => {
  async function unanswered(
    options: Partial<ResilientImageOptions> = {},
    prepare?: (server: ScriptedServer) => void,
  ) {
    const made = await world(options)
    const { server, clock, image } = made
    prepare?.(server)
    server.holdsWrites = true
    const write = watch(image.write(block, filled(1)))
    await turns()
    expect(server.held).toHaveLength(1)
    server.holdsWrites = false
    return { ...made, write, cut: () => server.loseAll(), pass: () => clock.pass(20_000) }
  }

  test('are sent again with the same bytes when the old processes are proved gone', async () => {
    const { server, image, write, cut, pass, events } = await unanswered()
    cut()
    await pass()
    expect(write.state).toBe('ok')
    expect(events.find(({ type }) => type === 'restored')).toMatchObject({ fence: 'processes' })
    await image.write(block, filled(2))
    server.ghosts()
    expect(await readBlock(image, block)).toEqual(filled(2))
  })

  test('without the fence the same history reads stale bytes', async () => {
    const { server, image, cut, pass } = await unanswered(without('fence'))
    cut()
    await pass()
    await image.write(block, filled(2))
    server.ghosts()
    expect(await readBlock(image, block)).toEqual(filled(1))
  })

  test('nothing else is written to their range, or anywhere, before that', async () => {
    const { server, clock, image, write, cut } = await unanswered()
    server.refuses = new Error('down')
    cut()
    await turns()
    const other = watch(image.write(0, filled(9)))
    await clock.pass(5000)
    expect(other.state).toBe('pending')
    server.refuses = undefined
    await clock.pass(10_000)
    expect([write.state, other.state]).toEqual(['ok', 'ok'])
    const fence = server.log.indexOf('fence')
    expect(server.log.slice(0, fence).filter((line) => line.startsWith('write'))).toEqual(['write 4096 1'])
  })

  test('where a process cannot be killed the device fails, and says which bytes are unknown', async () => {
    const { server, image, write, cut, pass, events } = await unanswered()
    server.immortal = true
    cut()
    await pass()
    expect(write.error).toMatchObject({ code: 'EIO', offset: block, length: block })
    expect(write.error?.message).toMatch(/bytes 4096 to 8192 are unknown/)
    expect(events.at(-1)).toMatchObject({ type: 'failed' })
    expect(await rejection(image.read(0, new Uint8Array(1)))).toMatchObject({ code: 'ESHUTDOWN' })
    expect(await rejection(image.write(0, filled(1)))).toMatchObject({ code: 'ESHUTDOWN' })
    expect(await rejection(image.sync())).toMatchObject({ code: 'ESHUTDOWN' })
    expect(image.info).toMatchObject({ state: 'failed', error: { code: 'EIO' } })
  })

  test('where no fence is possible the device fails at once, without connecting again', async () => {
    const made = await world({ fence: 'none' })
    made.server.holdsWrites = true
    const write = watch(made.image.write(0, filled(1)))
    await turns()
    made.server.loseAll()
    await turns()
    expect(write.state).toBe('failed')
    expect(made.server.log.filter((line) => line === 'connect')).toHaveLength(1)
  })

  test("with onLoss 'replay' they are sent again without a fence, and a warning says so", async () => {
    const { write, cut, pass, warnings, events } = await unanswered({ onLoss: 'replay', fence: 'none' })
    cut()
    await pass()
    expect(write.state).toBe('ok')
    expect(warnings.join()).toMatch(/bytes 4096 to 8192 are sent again without a proof/)
    expect(events.at(-1)).toMatchObject({ type: 'restored', fence: 'none' })
  })

  test('on a mere time-out the channel is ended in order, and its exit status is the fence', async () => {
    const { server, clock, write, events } = await unanswered()
    const [lane] = server.connections[0]!.lanes
    lane!.timeOut()
    await turns()
    expect(lane!.ended).toBe(true)
    expect(write.state).toBe('pending')
    lane!.exit()
    await clock.pass(1000)
    expect(write.state).toBe('ok')
    expect(events.find(({ type }) => type === 'restored')).toMatchObject({ fence: 'exit-status' })
    expect(server.log).not.toContain('fence')
    expect(server.connections).toHaveLength(1)
  })

  test('where the exit status does not come in time the processes are ended by a command', async () => {
    const { server, clock, write, events } = await unanswered()
    server.connections[0]!.lanes[0]!.timeOut()
    await clock.pass(4000)
    expect(server.log).not.toContain('fence')
    await clock.pass(4000)
    expect(write.state).toBe('ok')
    expect(events.find(({ type }) => type === 'restored')).toMatchObject({ fence: 'processes' })
  })

  test('where only reads and acknowledged writes were under way no fence is asked for', async () => {
    const { server, clock, image, events } = await world()
    server.exec = 'refused'
    await image.write(0, filled(1))
    server.loseAll()
    await clock.pass(1000)
    expect(events.at(-1)).toMatchObject({ type: 'restored', fence: 'none', rewrittenBytes: block })
    expect(await readBlock(image, 0)).toEqual(filled(1))
  })

  test('a cancelled write is not sent again', async () => {
    const { server, clock, image } = await world()
    server.holdsWrites = true
    const controller = new AbortController()
    const write = watch(image.write(block, filled(1), { signal: controller.signal }))
    await turns()
    controller.abort(new Error('enough'))
    server.holdsWrites = false
    server.loseAll()
    await clock.pass(10_000)
    expect(write.state).toBe('failed')
    expect(server.log.filter((line) => line.startsWith('write'))).toHaveLength(1)
    // Its range can be written again: the old session is fenced.
    await image.write(block, filled(3))
    server.ghosts()
    expect(await readBlock(image, block)).toEqual(filled(3))
  })
})

describe('R5: acknowledged and not durable', () => {
  async function crashed(options: Partial<ResilientImageOptions> = {}) {
    const made = await world(options)
    await made.image.write(0, filled(1))
    await made.image.sync()
    await made.image.write(0, filled(2))
    await made.image.write(block, filled(3))
    await made.image.write(block + 100, filled(4, 200))
    made.server.crash()
    return made
  }

  test('is written again after a crash of the server, before anything is read', async () => {
    const { clock, image } = await crashed()
    const found = readBlock(image, 0)
    await clock.pass(1000)
    expect(await found).toEqual(filled(2))
    const expected = filled(3)
    expected.fill(4, 100, 300)
    expect(await readBlock(image, block)).toEqual(expected)
    expect(image.info.journalBytes).toBe(2 * block)
    await image.sync()
    expect(image.info.journalBytes).toBe(0)
  })

  test('without the journal the same history reads what is older', async () => {
    const { clock, image } = await crashed(without('journal'))
    await clock.pass(1000)
    expect(await readBlock(image, 0)).toEqual(filled(1))
  })

  test('with no room for copies the next flush fails, and those after what was written again do not', async () => {
    const { clock, image } = await crashed({ journalBytes: 0 })
    await clock.pass(1000)
    const error = await rejection(image.sync())
    expect(error).toMatchObject({ code: 'EIO' })
    expect(error).not.toBeInstanceOf(NotSyncedYetError)
    await image.write(0, filled(5, 2 * block))
    await image.sync()
  })

  test('a flush under way at the loss is answered only after another sync', async () => {
    const { server, clock, image } = await world()
    await image.write(0, filled(1))
    server.holdsSyncs = true
    const sync = watch(image.sync())
    await turns()
    server.holdsSyncs = false
    server.crash()
    await clock.pass(1000)
    expect(sync.state).toBe('ok')
    expect(server.disk.subarray(0, block)).toEqual(filled(1))
    expect(server.log.slice(-2)).toEqual(['write 0 1', 'sync'])
  })

  test('a full journal is flushed before more is written', async () => {
    const { server, image } = await world({ journalBytes: 4 * block })
    for (let i = 0; i < 16; i++) await image.write(i * block, filled(i + 1))
    expect(server.log.filter((line) => line === 'sync').length).toBeGreaterThan(2)
    expect(image.info.journalBytes).toBeLessThanOrEqual(4 * block)
  })

  test.each([true, false])('zeros made on the server are made again (it still can: %s)', async (stillCan) => {
    const { server, clock, image } = await world()
    await image.write(0, filled(1, 4 * block))
    await image.sync()
    await image.write(0, filled(2, 4 * block))
    expect(await image.zero(block, 2 * block, undefined)).toBe(true)
    await image.write(2 * block, filled(3, 100))
    server.crash()
    server.copiesZeros = stillCan
    await clock.pass(1000)
    const expected = filled(2, 4 * block)
      .fill(0, block, 3 * block)
      .fill(3, 2 * block, 2 * block + 100)
    const found = new Uint8Array(4 * block)
    await image.read(0, found)
    expect(found).toEqual(expected)
    await image.sync()
    expect(server.disk.subarray(0, 4 * block)).toEqual(expected)
    expect(image.info.journalBytes).toBe(0)
  })

  test('a growth that was not durable is made again', async () => {
    const { server, clock, image } = await world()
    await image.setSize(2 * size)
    await image.write(size + block, filled(7))
    server.crash()
    await clock.pass(1000)
    expect(await image.status()).toMatchObject({ size: 2 * size })
    expect(await readBlock(image, size + block)).toEqual(filled(7))
  })
})

describe('R6: an fsync that fails', () => {
  const eio = () => Object.assign(new Error('fsync failed'), { code: 'EIO' })

  test('once: everything since the last good one goes through a new handle, and is synced', async () => {
    const { server, clock, image } = await world()
    await image.write(0, filled(1))
    server.syncErrors = [eio()]
    server.forgetsOnSyncError = true
    const sync = watch(image.sync())
    await clock.pass(1000)
    expect(sync.state).toBe('ok')
    expect(server.disk.subarray(0, block)).toEqual(filled(1))
    expect(server.log.filter((line) => line === 'lane')).toHaveLength(2)
    expect(server.log.slice(-2)).toEqual(['write 0 1', 'sync'])
    expect(image.info.journalBytes).toBe(0)
  })

  test('without that the bytes are gone, and the next flush says that all is well', async () => {
    const { server, clock, image } = await world(without('failed-sync', 'journal'))
    await image.write(0, filled(1))
    server.syncErrors = [eio()]
    server.forgetsOnSyncError = true
    const first = watch(image.sync())
    await clock.pass(1000)
    expect(first.state).toBe('ok')
    expect(server.disk.subarray(0, block)).not.toEqual(filled(1))
  })

  test('again and again: flushes fail, nothing is forgotten, and a later one that works has it all', async () => {
    const { server, clock, image } = await world()
    await image.write(0, filled(1))
    server.syncErrors = [eio(), eio(), eio(), undefined]
    const first = watch(image.sync())
    await clock.pass(1000)
    expect(first.error).toBeInstanceOf(NotSyncedYetError)
    server.crash()
    const second = watch(image.sync())
    await clock.pass(1000)
    expect(second.error).toBeInstanceOf(NotSyncedYetError)
    const third = watch(image.sync())
    await clock.pass(1000)
    expect(third.state).toBe('ok')
    expect(server.disk.subarray(0, block)).toEqual(filled(1))
  })
})

describe('R7 and R8: who answers, and what file it is', () => {
  const wrong: [name: string, change: (server: ScriptedServer) => void, message: RegExp][] = [
    ['another host key', (server) => void (server.identity = 'other user'), /another host key/],
    [
      'another content',
      (server) => void (server.cache = pattern(size, 99)),
      /not the one that was opened: its content differs/,
    ],
    ['a shorter file', (server) => void (server.cache = server.cache.slice(0, size - 1)), /became shorter/],
  ]
  for (const [name, change, message] of wrong) {
    test(`${name} is refused for good`, async () => {
      const { server, clock, image } = await world()
      change(server)
      server.loseAll()
      const read = watch(image.read(0, new Uint8Array(block)))
      await clock.pass(1000)
      expect(read.error?.message).toMatch(message)
      expect(image.info.state).toBe('failed')
    })
  }

  test('a file that became shorter is not made long again with zeros where one of two connections is left', async () => {
    const { server, clock, image } = await world({ maxConnections: 2, minConnections: 2 })
    await clock.pass(1000)
    expect(image.info.connections).toBe(2)
    await image.write(0, filled(1))
    server.cache = server.cache.slice(0, size / 2)
    // The one that was written through: what is not durable is written again over the other.
    server.connections[0]!.lose()
    await clock.pass(1000)
    expect(image.info).toMatchObject({
      state: 'failed',
      error: { message: expect.stringMatching(/shorter/) },
    })
    expect(server.cache.length).toBe(size / 2)
  })

  test('without the check another content is read as if it were the right one', async () => {
    const { server, clock, image } = await world(without('identity'))
    server.cache = pattern(size, 99)
    server.loseAll()
    await clock.pass(1000)
    expect(await readBlock(image, 0)).toEqual(pattern(size, 99).subarray(0, block))
  })

  test('what we wrote ourselves, durable or not, is not taken for another file', async () => {
    const { server, clock, image } = await world()
    for (let i = 0; i < 16; i++) await image.write(i * block, filled(i + 1))
    await image.sync()
    for (let i = 0; i < 8; i++) await image.write(i * block, filled(i + 100))
    server.crash()
    await clock.pass(1000)
    expect(image.info.state).toBe('connected')
    expect(await readBlock(image, 0)).toEqual(filled(100))
    expect(await readBlock(image, 15 * block)).toEqual(filled(16))
  })

  test('a longer file is left alone, with a warning', async () => {
    const { server, clock, image, warnings } = await world()
    server.cache = new Uint8Array([...server.cache, 1, 2, 3])
    server.loseAll()
    await clock.pass(1000)
    expect(image.info.state).toBe('connected')
    expect(warnings.join()).toMatch(/became longer/)
  })
})

describe('room in the journal', () => {
  test('a write that waits for room does not fail for a flush that failed long ago', async () => {
    const { server, clock, image } = await world({ journalBytes: 8192 })
    const failed = Object.assign(new Error('fsync failed'), { code: 'EIO' })
    server.syncErrors = [failed, failed]
    await image.write(0, filled(1))
    await image.write(block, filled(2))
    // The room that it should have made was not made.
    await clock.pass(1000)
    expect(server.syncErrors).toEqual([])
    await image.sync()
    expect(image.info.journalBytes).toBe(0)
    server.holdsWrites = true
    const large = watch(image.write(16_384, filled(3, 7680)))
    await turns()
    server.holdsWrites = false
    const waiting = watch(image.write(32_768, filled(4)))
    // There is room for this one, whose end wakes who waits.
    await image.write(49_152, filled(5, 512))
    await turns()
    expect([large.state, waiting.state]).toEqual(['pending', 'pending'])
    for (const { answer } of server.held) answer()
    await clock.pass(1000)
    expect([large.state, waiting.state]).toEqual(['ok', 'ok'])
    expect(await readBlock(image, 32_768)).toEqual(filled(4))
  })
})

describe('lanes after a loss', () => {
  test('the lane that no fsync blocks comes back with the next write', async () => {
    const { server, clock, image } = await world({ maxChannels: 2 })
    for (let loss = 0; loss < 3; loss++) {
      await image.write(0, filled(loss))
      await clock.pass(1000)
      expect(image.info.channels).toBe(2)
      server.loseAll()
      await clock.pass(1000)
      expect(image.info).toMatchObject({ state: 'connected', channels: 1 })
    }
  })

  test('a connection that was refused once is asked for again after an outage', async () => {
    const { server, clock, image } = await world({ maxConnections: 2, minConnections: 2 })
    await clock.pass(1000)
    expect(image.info.connections).toBe(2)
    const connect = server.connect.bind(server)
    server.connect = (signal) =>
      server.connections.some(({ closed }) => !closed)
        ? Promise.reject(new Error('too many'))
        : connect(signal)
    server.loseAll()
    await clock.pass(5000)
    expect(image.info).toMatchObject({ state: 'connected', connections: 1 })
    server.connect = connect
    server.loseAll()
    await clock.pass(5000)
    expect(image.info).toMatchObject({ state: 'connected', connections: 2 })
  })
})

describe('R10: time', () => {
  test('calls wait for the budget, then fail; the device goes on trying and comes back', async () => {
    const { server, clock, image, events } = await world({ reconnectDelayMs: 30_000 })
    await image.write(0, filled(1))
    server.refuses = new Error('nobody is there')
    server.loseAll()
    const waiting = [
      watch(image.read(0, new Uint8Array(1))),
      watch(image.write(0, filled(2))),
      watch(image.sync()),
    ]
    await clock.pass(29_000)
    expect(waiting.map(({ state }) => state)).toEqual(['pending', 'pending', 'pending'])
    await clock.pass(1000)
    expect(waiting.map(({ state }) => state)).toEqual(['failed', 'failed', 'failed'])
    expect(waiting[0]!.error?.message).toMatch(/no connection .* for 30000 ms \(nobody is there\)/)
    expect(waiting[2]!.error).toBeInstanceOf(NotSyncedYetError)
    expect(await rejection(image.read(0, new Uint8Array(1)))).toMatchObject({ code: 'EIO' })
    expect(events.filter(({ type }) => type === 'budget-over')).toHaveLength(1)
    server.refuses = undefined
    await clock.pass(6000)
    expect(image.info.state).toBe('connected')
    expect(await readBlock(image, 0)).toEqual(filled(1))
    await image.sync()
  })

  test('a line that comes and goes keeps no call waiting for longer than the budget', async () => {
    const { server, clock, image, events } = await world({ reconnectDelayMs: 30_000 })
    await image.write(0, filled(1))
    await image.sync()
    server.holdsWrites = true
    server.holdsSyncs = true
    server.holdsReadsOf = 777
    const write = watch(image.write(block, filled(2)))
    const waiting = [watch(image.read(0, new Uint8Array(777))), write, watch(image.sync())]
    await turns()
    for (let second = 0; second < 30; second++) {
      // It is back within the second, and takes up the calls again.
      server.loseAll()
      await clock.pass(1000)
      expect(image.info.state).toBe('connected')
      expect(waiting.map(({ state }) => state)).toEqual(['pending', 'pending', 'pending'])
    }
    const late = watch(image.read(0, new Uint8Array(777)))
    await turns()
    server.loseAll()
    await turns()
    expect(waiting.map(({ state }) => state)).toEqual(['failed', 'failed', 'failed'])
    expect(write.error).toMatchObject({
      code: 'EIO',
      message: expect.stringMatching(/again and again for 30000 ms \(cut\)/),
    })
    expect(waiting[2]!.error).toBeInstanceOf(NotSyncedYetError)
    // It has waited through one loss alone.
    expect(late.state).toBe('pending')
    expect(events.filter(({ type }) => type === 'budget-over')).toHaveLength(0)
    Object.assign(server, { holdsWrites: false, holdsSyncs: false, holdsReadsOf: undefined })
    server.loseAll()
    await clock.pass(1000)
    expect(late.state).toBe('ok')
    await image.write(block, filled(3))
    await image.sync()
    expect(await readBlock(image, block)).toEqual(filled(3))
  })

  test('what is left of the budget of a call ends its wait in a later outage', async () => {
    const { server, clock, image } = await world({ reconnectDelayMs: 30_000 })
    server.holdsReadsOf = 777
    const first = watch(image.read(0, new Uint8Array(777)))
    await turns()
    server.loseAll()
    await clock.pass(20_000)
    server.refuses = new Error('nobody is there')
    server.loseAll()
    const second = watch(image.read(0, new Uint8Array(777)))
    await clock.pass(9000)
    expect([first.state, second.state]).toEqual(['pending', 'pending'])
    await clock.pass(1500)
    expect([first.state, second.state]).toEqual(['failed', 'pending'])
    expect(first.error?.message).toMatch(/again and again for 30\d\d\d ms/)
    await clock.pass(20_000)
    expect(second.state).toBe('failed')
    expect(second.error?.message).toMatch(/no connection/)
  })

  test('without a budget calls fail at once', async () => {
    const { server, image } = await world({ reconnectDelayMs: 0 })
    server.refuses = new Error('down')
    server.loseAll()
    await turns()
    expect(await rejection(image.read(0, new Uint8Array(1)))).toMatchObject({ code: 'EIO' })
  })

  test('pauses between attempts grow to their bound', async () => {
    const { server, clock, events } = await world({ firstRetryMs: 100, maxRetryMs: 1000 })
    server.refuses = new Error('down')
    server.loseAll()
    await clock.pass(20_000)
    const pauses = events.flatMap((event) => (event.type === 'attempt-failed' ? [event.nextTryInMs] : []))
    expect(pauses[0]).toBeLessThanOrEqual(100)
    expect(Math.max(...pauses)).toBeLessThanOrEqual(1000)
    expect(Math.max(...pauses)).toBeGreaterThan(500)
  })

  test('where the server lets us in no more it is over when the budget is', async () => {
    const { server, clock, image } = await world({ reconnectDelayMs: 10_000 })
    server.refuses = new AccessRefusedError('the key is not accepted any more')
    server.loseAll()
    await clock.pass(9000)
    expect(image.info.state).toBe('reconnecting')
    await clock.pass(20_000)
    expect(image.info).toMatchObject({
      state: 'failed',
      error: { message: 'the key is not accepted any more' },
    })
  })

  test('an attempt that hangs is given up in time', async () => {
    const { server, clock, image } = await world({ attemptTimeoutMs: 1000 })
    server.loseAll()
    server.silent = true
    await clock.pass(1500)
    server.silent = false
    await clock.pass(5000)
    expect(image.info.state).toBe('connected')
  })

  test.each(['connecting', 'fencing', 'rewriting'])(
    'closing ends an attempt that hangs while %s',
    async (where) => {
      const { server, clock, image } = await world()
      await image.write(0, filled(1))
      server.holdsWrites = true
      const write = where === 'fencing' ? watch(image.write(block, filled(1))) : undefined
      await turns()
      if (where === 'connecting') server.connect = () => new Promise(() => {})
      if (where === 'fencing') server.execHangs = true
      server.holdsWrites = where === 'rewriting'
      server.loseAll()
      await clock.pass(100)
      expect(image.info.state).toBe('reconnecting')
      const closed = watch(image.close())
      await turns()
      expect(closed.state).toBe('ok')
      expect(clock.pending).toBe(0)
      if (write !== undefined) expect(write.state).toBe('failed')
    },
  )

  test('closing ends every wait and every attempt', async () => {
    const { server, clock, image } = await world()
    server.refuses = new Error('down')
    server.loseAll()
    const read = watch(image.read(0, new Uint8Array(1)))
    await turns()
    await image.close()
    await turns()
    expect(read).toMatchObject({ state: 'failed', error: { code: 'EBADF' } })
    expect(clock.pending).toBe(0)
  })
})

describe('losses at the worst moment', () => {
  const inTurn = async (turn: number) => {
    for (let i = 0; i < turn; i++) await Promise.resolve()
  }

  test('the only channel that may be written through goes while nothing is under way: writes go on', async () => {
    const { server, clock, image } = await world({ maxChannels: 2 })
    await turns()
    // From now on nobody learns who serves a channel, so a second one takes no writes.
    server.exec = 'refused'
    await image.write(0, filled(1))
    await image.sync()
    await clock.pass(1000)
    expect(image.info.channels).toBe(2)
    server.connections[0]!.lanes[0]!.exit()
    const write = watch(image.write(block, filled(2)))
    const cancelled = new AbortController()
    const other = watch(image.write(2 * block, filled(3), { signal: cancelled.signal }))
    cancelled.abort(new Error('enough'))
    await clock.pass(1000)
    expect(write.state).toBe('ok')
    expect(other.state).not.toBe('pending')
    expect(server.cache.subarray(block, 2 * block)).toEqual(filled(2))
    await image.close()
  })

  test.each([0, 1, 2, 3, 4, 5, 6, 8, 10])('turn %i of a flush: what it says is durable is', async (turn) => {
    const { server, clock, image } = await world()
    await image.write(block, filled(7))
    const flush = watch(image.sync())
    if (turn > 0) await inTurn(turn - 1)
    server.crash()
    await clock.pass(5000)
    expect(flush.state).toBe('ok')
    server.crash()
    expect(server.disk.subarray(block, 2 * block)).toEqual(filled(7))
    await image.close()
  })

  test.each([0, 1, 2, 3, 4, 5])('turn %i after a recovery: the next one follows', async (turn) => {
    let again = true
    const { server, clock, image } = await world({
      onState: ({ type }) => {
        if (type !== 'restored' || !again) return
        again = false
        if (turn === 0) server.loseAll()
        else void inTurn(turn - 1).then(() => server.loseAll())
      },
    })
    server.loseAll()
    await clock.pass(1000)
    const read = watch(image.read(0, new Uint8Array(block)))
    const write = watch(image.write(0, filled(1)))
    await clock.pass(5000)
    expect(again).toBe(false)
    expect([read.state, write.state]).toEqual(['ok', 'ok'])
    expect(image.info).toMatchObject({ state: 'connected', losses: 2, restored: 2 })
    await image.close()
  })
})

test('a thousand losses leave no timer, no lane and no copy behind', async () => {
  const { server, clock, image } = await world()
  for (let i = 0; i < 1000; i++) {
    server.holdsWrites = true
    const write = watch(image.write((i % 16) * block, filled(i & 255)))
    await Promise.resolve()
    await Promise.resolve()
    server.holdsWrites = false
    server.loseAll()
    for (let n = 0; n < 20 && write.state === 'pending'; n++) await clock.pass(50)
    expect(write.state).toBe('ok')
    server.held.length = 0
    server.connections.splice(0, server.connections.length - 1)
  }
  await image.sync()
  expect(image.info).toMatchObject({
    losses: 1000,
    restored: 1000,
    channels: 1,
    connections: 1,
    journalBytes: 0,
  })
  expect(clock.pending).toBe(0)
  await image.close()
}, 60_000)
