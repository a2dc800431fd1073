import { readdirSync } from 'node:fs'
import type { NbdExport, NbdServerEvent } from '@sshblock/nbd'
import { describe, expect, test } from 'vitest'
import type { BlockDevice } from '../../packages/blockdev/src/device.ts'
import { BlockDeviceError } from '../../packages/blockdev/src/errors.ts'
import {
  bothClientFlags,
  CMD,
  concat,
  counted,
  ERR,
  FLAG,
  infoData,
  metaData,
  OPT,
  option,
  REP,
  request,
  text,
  textOf,
} from './support/messages.ts'
import { serve, until } from './support/serve.ts'
import { gate, pattern, TestDisk } from './support/test-disk.ts'

const MiB = 1 << 20

/** An export whose device is opened on demand, and how often that happened. */
function onDemand(name: string, disk: TestDisk, before?: () => Promise<void>) {
  const counts = { asked: 0, opened: 0, open: 0 }
  const device = async (): Promise<BlockDevice> => {
    counts.asked++
    await before?.()
    counts.opened++
    counts.open++
    const close = disk.close.bind(disk)
    disk.close = async () => {
      counts.open--
      disk.close = close
      await close()
    }
    return disk
  }
  return { counts, export: { name, device } satisfies NbdExport }
}

function openFiles(): number {
  return readdirSync('/proc/self/fd').length
}

describe('a device that is opened on demand', () => {
  test('is opened by GO, shared by all clients of the name, and closed when the last has left', async () => {
    const { counts, export: wanted } = onDemand('disk', new TestDisk())
    const server = await serve([wanted])
    const clients = [await server.client(), await server.client(), await server.client()]
    expect(counts.opened).toBe(0)
    await Promise.all(clients.map((client) => client.go('disk')))
    expect(counts).toEqual({ asked: 1, opened: 1, open: 1 })
    for (const client of clients) {
      expect(counts.open).toBe(1)
      client.post(CMD.DISC)
      await client.readToEnd()
    }
    await until(() => counts.open === 0)
    await (await server.client()).go('disk')
    expect(counts.opened).toBe(2)
  })

  test('is not opened by LIST, by metadata contexts, or by a client that only connects', async () => {
    const { counts, export: wanted } = onDemand('disk', new TestDisk())
    const server = await serve([wanted])
    const client = await server.client()
    await client.greet()
    await client.option(OPT.STRUCTURED_REPLY)
    expect((await client.option(OPT.LIST))[0]!.data).toEqual(counted('disk'))
    await client.option(OPT.LIST_META_CONTEXT, metaData('disk'))
    await client.option(OPT.SET_META_CONTEXT, metaData('disk', 'base:allocation'))
    expect(counts.opened).toBe(0)
  })

  test('is open for INFO only as long as the answer takes', async () => {
    const { counts, export: wanted } = onDemand('disk', new TestDisk())
    const server = await serve([wanted])
    const client = await server.client()
    await client.greet()
    expect((await client.option(OPT.INFO, infoData('disk'))).at(-1)?.type).toBe(REP.ACK)
    await until(() => counts.open === 0)
    expect(counts.opened).toBe(1)
  })

  test('that cannot be opened is ERR_UNKNOWN with the reason, and the next attempt tries again', async () => {
    let attempts = 0
    const device = async (): Promise<BlockDevice> => {
      if (++attempts === 1) throw new BlockDeviceError('EACCES', 'permission denied on /images/a.img')
      if (attempts === 2) throw new Error('an internal matter')
      return new TestDisk()
    }
    const server = await serve([{ name: '', device }])
    const client = await server.client()
    await client.greet()
    const [first] = await client.option(OPT.GO, infoData(''))
    expect(first?.type).toBe(REP.ERR_UNKNOWN)
    expect(textOf(first!.data)).toMatch(/permission denied/)
    const [second] = await client.option(OPT.GO, infoData(''))
    expect(textOf(second!.data)).not.toMatch(/internal/)
    expect((await client.option(OPT.GO, infoData(''))).at(-1)?.type).toBe(REP.ACK)
  })

  test('is closed again when the client has left before it was open', async () => {
    const hold = gate()
    const { counts, export: wanted } = onDemand('', new TestDisk(), () => hold.opened)
    const events: string[] = []
    const server = await serve([wanted], { onEvent: (event) => events.push(event.type) })
    const client = await server.client()
    await client.greet()
    client.send(option(OPT.GO, infoData('')))
    await until(() => counts.asked === 1)
    client.socket.destroy()
    await new Promise((resolve) => setTimeout(resolve, 20))
    hold.open()
    await until(() => server.statistics().clients === 0 && counts.opened === 1 && counts.open === 0)
    expect(events).toEqual(['client-connected', 'client-gone'])
  })

  test('is waited for while it closes, then opened anew', async () => {
    const disk = new TestDisk()
    const closing = gate()
    let opened = 0
    const device = async (): Promise<BlockDevice> => {
      opened++
      return disk
    }
    disk.close = () => closing.opened
    const server = await serve([{ name: '', device }])
    const first = await server.client()
    await first.go()
    first.post(CMD.DISC)
    await until(() => server.statistics().clients === 0)
    const second = await server.client()
    const ready = second.go()
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(opened).toBe(1)
    closing.open()
    await ready
    expect(opened).toBe(2)
  })

  test('that fails to close is an event, and an error of the server`s close', async () => {
    const disk = new TestDisk()
    const failure = new BlockDeviceError('EIO', 'the last flush failed')
    disk.close = () => Promise.reject(failure)
    const events: NbdServerEvent[] = []
    const server = await serve([{ name: 'disk', device: async () => disk }], {
      onEvent: (event) => events.push(event),
    })
    const client = await server.client()
    await client.go('disk')
    client.post(CMD.DISC)
    await until(() => events.some((event) => event.type === 'close-failed'))
    expect(events).toContainEqual({ type: 'close-failed', exportName: 'disk', error: failure })
    await expect(server.close()).rejects.toBe(failure)
  })
})

describe('exports', () => {
  test('each have a name, a size and a mode of their own; an unknown name is ERR_UNKNOWN', async () => {
    const server = await serve([
      { name: 'a', device: new TestDisk({ size: MiB }), description: 'first' },
      { name: 'b', device: new TestDisk({ size: 2 * MiB }), readOnly: true },
      { name: '__proto__', device: new TestDisk({ size: 4096, readOnly: true }) },
    ])
    const client = await server.client()
    await client.greet()
    const listed = await client.option(OPT.LIST)
    expect(listed.map(({ data }) => data)).toEqual([
      concat(counted('a'), text('first')),
      counted('b'),
      counted('__proto__'),
      new Uint8Array(0),
    ])
    for (const unknown of ['', 'c', 'constructor']) {
      expect((await client.option(OPT.GO, infoData(unknown)))[0]?.type).toBe(REP.ERR_UNKNOWN)
    }
    const a = await server.client()
    expect(await a.go('a')).toMatchObject({ size: BigInt(MiB), flags: 0xd4d })
    const b = await server.client()
    expect(await b.go('b')).toMatchObject({ size: BigInt(2 * MiB), flags: 0x50f })
    expect(await b.call(CMD.WRITE, { payload: pattern(512) })).toMatchObject({ error: ERR.EPERM })
    const proto = await server.client()
    expect(await proto.go('__proto__')).toMatchObject({ size: 4096n, flags: 0x50f })
  })

  test('the only export is also the default one', async () => {
    const server = await serve([{ name: 'disk', device: new TestDisk() }])
    await (await server.client()).go('')
  })

  test('can be found as they are asked for', async () => {
    const asked: string[] = []
    const server = await serve({
      list: async () => [{ name: 'snapshots/1' }, { name: 'snapshots/2', description: 'newer' }],
      find: async (name) => {
        asked.push(name)
        if (!name.startsWith('snapshots/')) return undefined
        return { name, device: new TestDisk({ size: 512 * Number(name.slice(10)) }), readOnly: true }
      },
    })
    const client = await server.client()
    expect(await client.go('snapshots/7')).toMatchObject({ size: 3584n })
    const other = await server.client()
    await other.greet()
    expect((await other.option(OPT.LIST)).length).toBe(3)
    expect((await other.option(OPT.GO, infoData('nothing')))[0]?.type).toBe(REP.ERR_UNKNOWN)
    expect(asked).toEqual(['snapshots/7', 'nothing'])
  })
})

describe('a client out of step is dropped', () => {
  const drops: readonly (readonly [string, Uint8Array])[] = [
    ['a command before GO', concat(bothClientFlags, request(CMD.READ, { length: 512 }))],
    ['GO twice', concat(bothClientFlags, option(OPT.GO, infoData('')), option(OPT.GO, infoData('')))],
    ['an option of 2^32 - 1 bytes', concat(bothClientFlags, option(OPT.GO, new Uint8Array(0), 0xffff_ffff))],
    ['an HTTP request', text('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')],
    [
      'a TLS handshake after a refused STARTTLS',
      concat(bothClientFlags, option(OPT.STARTTLS), text('\x16\x03\x01\x02\x00\x01'.repeat(9))),
    ],
    [
      'a name of 4097 bytes as EXPORT_NAME',
      concat(bothClientFlags, option(OPT.EXPORT_NAME, new Uint8Array(4097).fill(65))),
    ],
  ]

  test.each(drops)('%s', async (_what, bytes) => {
    const disk = new TestDisk()
    const events: NbdServerEvent[] = []
    const server = await serve(disk, { onEvent: (event) => events.push(event) })
    const client = await server.client()
    client.send(bytes)
    await client.readToEnd()
    await until(() => server.statistics().clients === 0)
    expect(events.at(-1)).toMatchObject({ type: 'client-gone' })
    expect(['protocol error', 'refused']).toContain((events.at(-1) as { reason: string }).reason)
    expect(disk.calls.filter((call) => call.kind === 'read')).toEqual([])
    await (await server.client()).go()
  })

  test('a client that does not choose an export in time', async () => {
    const events: NbdServerEvent[] = []
    const server = await serve(new TestDisk(), {
      negotiationTimeoutMs: 50,
      onEvent: (event) => events.push(event),
    })
    const slow = await server.client()
    const quick = await server.client()
    await quick.go()
    await slow.greet()
    await slow.readToEnd()
    expect(events.filter((event) => event.type === 'client-gone')).toMatchObject([
      { client: 1, reason: 'negotiation timeout' },
    ])
    expect(await quick.call(CMD.FLUSH)).toMatchObject({ error: 0 })
  })
})

describe('a recorded session', () => {
  const recording = concat(
    bothClientFlags,
    option(OPT.EXTENDED_HEADERS),
    option(OPT.STRUCTURED_REPLY),
    option(OPT.LIST),
    option(OPT.SET_META_CONTEXT, metaData('disk', 'base:allocation')),
    option(OPT.INFO, infoData('disk', 3)),
    option(OPT.GO, infoData('disk', 3)),
    request(CMD.READ, { length: 512, cookie: 1 }),
    request(CMD.WRITE, { offset: 512, payload: pattern(100), cookie: 2 }),
    request(CMD.WRITE, { offset: 2 ** 40, payload: pattern(20), cookie: 3 }),
    request(CMD.BLOCK_STATUS, { length: 4096, cookie: 4 }),
    request(CMD.FLUSH, { cookie: 5 }),
    request(CMD.DISC),
  )

  test.each([
    ['reset', true],
    ['closed', false],
  ])('cut at every byte and %s leaves no client, no device handle and no file open', async (_how, reset) => {
    const disk = new TestDisk().put(0, pattern(4096))
    const { counts, export: wanted } = onDemand('disk', disk)
    const server = await serve([wanted], { maxClients: 4 })
    const before = openFiles()
    for (let cut = 0; cut <= recording.length; cut++) {
      const client = await server.client()
      client.send(recording.subarray(0, cut))
      // Half of the time the server has answered before the end comes.
      if (cut % 2 === 0) await client.read(18)
      if (reset) client.socket.destroy()
      else client.socket.end()
      await until(() => server.statistics().clients === 0)
    }
    await until(() => counts.open === 0 && openFiles() <= before)
    expect(disk.pending).toBe(0)
    expect(counts.opened).toBeGreaterThan(100)
    expect(server.statistics()).toMatchObject({ requestsInFlight: 0, bytesInFlight: 0 })
    const client = await server.client()
    await client.go('disk')
    expect(await client.call(CMD.READ, { length: 512 })).toMatchObject({ error: 0 })
  })
})

describe('a client that vanishes', () => {
  test('has its pending calls aborted; its device is given back when they have settled', async () => {
    const disk = new TestDisk().put(0, pattern(65_536))
    const { counts, export: wanted } = onDemand('', disk)
    disk.before = (call) =>
      new Promise((_resolve, reject) => {
        call.signal!.addEventListener('abort', () => reject(new BlockDeviceError('ABORT_ERR', 'cancelled')))
      })
    const server = await serve([wanted])
    const client = await server.client()
    disk.before = () => {}
    await client.go()
    const held = gate()
    disk.before = (call) => (call.kind === 'flush' ? held.opened : aborted(call.signal!))
    client.post(CMD.READ, { length: 4096 })
    client.post(CMD.WRITE, { payload: pattern(4096) })
    client.post(CMD.FLUSH)
    client.send(request(CMD.WRITE, { length: 4096, payload: pattern(100) }))
    await until(() => disk.pending === 3)
    expect(server.statistics()).toMatchObject({ requestsInFlight: 4, bytesInFlight: 3 * 4096 })
    client.socket.destroy()
    await until(() => disk.pending === 1)
    expect(disk.calls.slice(-3).every((call) => call.signal!.aborted)).toBe(true)
    // One call takes no notice of the signal: the client counts until it has settled.
    expect(server.statistics().clients).toBe(1)
    expect(counts.open).toBe(1)
    held.open()
    await until(() => server.statistics().clients === 0 && counts.open === 0)
  })

  function aborted(signal: AbortSignal): Promise<never> {
    return new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(new BlockDeviceError('ABORT_ERR', 'cancelled')))
    })
  }

  test('does not disturb the others', async () => {
    const disk = new TestDisk().put(0, pattern(4 * 65_536))
    const server = await serve(disk)
    const victim = await server.client()
    const other = await server.client()
    await victim.go()
    await other.go()
    disk.before = (call) => (call.length === 65_536 ? aborted(call.signal!) : undefined)
    victim.post(CMD.READ, { length: 65_536 })
    await until(() => disk.pending === 1)
    victim.socket.destroy()
    await until(() => server.statistics().clients === 1)
    expect(await other.call(CMD.READ, { length: 512 })).toMatchObject({ error: 0 })
  })
})

describe('limits', () => {
  test('turns clients away beyond maxClients and takes them again when one has left', async () => {
    const events: string[] = []
    const server = await serve(new TestDisk(), { maxClients: 2, onEvent: (event) => events.push(event.type) })
    const first = await server.client()
    const second = await server.client()
    await first.go()
    await second.go()
    const third = await server.client()
    expect((await third.readToEnd()).length).toBe(0)
    expect(events).toContain('client-refused')
    expect(server.statistics()).toMatchObject({ clients: 2, refusedClients: 1, acceptedClients: 2 })
    first.post(CMD.DISC)
    await first.readToEnd()
    await until(() => server.statistics().clients === 1)
    await (await server.client()).go()
  })

  test('stops reading a client whose requests hold the bytes allowed, and goes on as they are answered', async () => {
    const disk = new TestDisk({ size: 16 * MiB }).put(0, pattern(16 * MiB))
    const server = await serve(disk, { maxBytesInFlightPerClient: MiB })
    const client = await server.client()
    await client.go()
    const holds: (() => void)[] = []
    disk.before = (call) =>
      call.kind === 'read' ? new Promise<void>((resolve) => void holds.push(resolve)) : undefined
    for (let i = 0; i < 64; i++) client.post(CMD.READ, { offset: i * 262_144, length: 262_144 })
    await until(() => disk.pending === 4)
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(disk.pending).toBe(4)
    expect(server.statistics().bytesInFlight).toBe(MiB)
    for (let answered = 0; answered < 64; answered++) {
      await until(() => holds.length > answered)
      holds[answered]!()
      expect(await client.reply()).toMatchObject({ error: 0 })
      expect(server.statistics().bytesInFlight).toBeLessThanOrEqual(MiB)
    }
    expect(disk.peakPending).toBe(4)
  })

  test('shares what may be in flight among the clients that are there', async () => {
    const disk = new TestDisk({ size: 16 * MiB }).put(0, pattern(16 * MiB))
    const server = await serve(disk, { maxBytesInFlight: 2 * MiB })
    const holds: (() => void)[] = []
    disk.before = (call) =>
      call.kind === 'read' ? new Promise<void>((resolve) => void holds.push(resolve)) : undefined
    const quarters = (client: Awaited<ReturnType<typeof server.client>>): void => {
      for (let i = 0; i < 16; i++) client.post(CMD.READ, { offset: i * 262_144, length: 262_144 })
    }
    const alone = await server.client()
    await alone.go()
    quarters(alone)
    await until(() => disk.pending === 8)
    for (const answer of holds.splice(0)) answer()
    // From here on there are two, and each has a half.
    const second = await server.client()
    await second.go()
    quarters(second)
    let answered = 8
    while (answered < 32) {
      await until(() => holds.length > 0)
      expect(server.statistics().bytesInFlight).toBeLessThanOrEqual(3 * MiB)
      for (const answer of holds.splice(0)) {
        answer()
        answered++
      }
    }
    for (const client of [alone, second])
      for (let i = 0; i < 16; i++) expect(await client.reply()).toMatchObject({ error: 0 })
    quarters(alone)
    quarters(second)
    await until(() => disk.pending === 8)
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(disk.pending).toBe(8)
    expect(server.statistics().bytesInFlight).toBe(2 * MiB)
    for (let i = 0; i < 32; i++) {
      await until(() => holds.length > 0)
      holds.shift()?.()
    }
  })

  test('stops working for a client that does not take its replies', async () => {
    const disk = new TestDisk({ size: 64 * MiB }).put(0, pattern(64 * MiB))
    const server = await serve(disk, { maxBytesInFlightPerClient: 4 * MiB })
    const client = await server.client()
    await client.go()
    client.socket.pause()
    for (let i = 0; i < 64; i++) client.post(CMD.READ, { offset: i * MiB, length: MiB })
    await until(() => disk.calls.length > 4)
    await new Promise((resolve) => setTimeout(resolve, 100))
    // What the socket's buffers hold comes on top of the limit; most of the 64 are not even read.
    expect(disk.calls.length).toBeLessThan(16)
    expect(server.statistics().bytesInFlight).toBeLessThanOrEqual(4 * MiB)
    client.socket.resume()
    for (let i = 0; i < 64; i++) expect(await client.reply()).toMatchObject({ error: 0 })
  })

  test('stops working for a client that floods it with requests that cost nothing and takes no replies', async () => {
    const server = await serve(new TestDisk(), { maxRequestsInFlightPerClient: 8 })
    const client = await server.client()
    await client.go()
    client.socket.pause()
    client.send(concat(...Array.from({ length: 20_000 }, (_, cookie) => request(99, { cookie }))))
    await until(() => server.statistics().requests.unknown > 1000)
    const count = (): number => server.statistics().requests.unknown
    let last = -1
    await until(() => last === (last = count()), 5000)
    expect(server.statistics().requestsInFlight).toBeLessThanOrEqual(8)
    client.socket.resume()
    for (let i = 0; i < 20_000; i++) expect((await client.reply()).error).toBe(ERR.EINVAL)
  })

  test('stops answering options that nobody takes', async () => {
    let lists = 0
    const names = Array.from({ length: 500 }, (_, i) => ({ name: `${i}`.repeat(300) }))
    const server = await serve({
      list: () => {
        lists++
        return names
      },
      find: () => undefined,
    })
    const client = await server.client()
    await client.greet()
    client.socket.pause()
    client.send(...Array.from({ length: 500 }, () => option(OPT.LIST)))
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(lists).toBeLessThan(10)
  })

  test('answers 32 MiB in one request, and nothing beyond', async () => {
    const disk = new TestDisk({ size: 64 * MiB }).put(0, pattern(64 * MiB))
    const server = await serve(disk)
    const client = await server.client()
    await client.go()
    const whole = await client.call(CMD.READ, { offset: MiB, length: 32 * MiB })
    expect(Buffer.compare(whole.data, disk.bytes.subarray(MiB, 33 * MiB))).toBe(0)
    expect(await client.call(CMD.READ, { length: 32 * MiB + 1 })).toMatchObject({ error: ERR.EINVAL })
    expect(await client.call(CMD.WRITE, { payload: new Uint8Array(32 * MiB + 1) })).toMatchObject({
      error: ERR.EINVAL,
    })
    expect(await client.call(CMD.WRITE, { payload: new Uint8Array(32 * MiB) })).toMatchObject({ error: 0 })
    expect(await client.call(CMD.READ, { offset: 32 * MiB - 4, length: 8 })).toMatchObject({ error: 0 })
  })
})

describe('the end of the server', () => {
  test('while 16 clients negotiate hangs up on all of them', async () => {
    const { counts, export: wanted } = onDemand('', new TestDisk())
    const server = await serve([wanted])
    const clients = await Promise.all(Array.from({ length: 16 }, () => server.client()))
    // Each as far as another step of the way.
    const steps = [
      bothClientFlags,
      option(OPT.STRUCTURED_REPLY),
      option(OPT.LIST),
      option(OPT.INFO, infoData('')),
      option(OPT.GO, infoData('')),
    ]
    const session = concat(...steps)
    clients.forEach((client, i) => {
      client.send(session.subarray(0, Math.round((i * session.length) / 15)))
    })
    await Promise.all([server.close(), ...clients.map((client) => client.readToEnd())])
    expect(counts.open).toBe(0)
    expect(server.statistics().clients).toBe(0)
  })

  test('while a device is being opened answers GO with ERR_SHUTDOWN', async () => {
    const hold = gate()
    const { counts, export: wanted } = onDemand('', new TestDisk(), () => hold.opened)
    const server = await serve([wanted])
    const client = await server.client()
    await client.greet()
    client.send(option(OPT.GO, infoData('')))
    await until(() => counts.asked === 1)
    const closed = server.close()
    hold.open()
    expect((await client.optionReply()).type).toBe(REP.ERR_SHUTDOWN)
    await closed
    await until(() => counts.open === 0)
  })

  test('answers what is in flight, refuses what comes with ESHUTDOWN, hangs up, then flushes the device', async () => {
    const disk = new TestDisk()
    const hold = gate()
    disk.before = (call) => (call.kind === 'write' ? hold.opened : undefined)
    const server = await serve(disk)
    const client = await server.client()
    await client.go()
    const write = client.post(CMD.WRITE, { payload: pattern(512) })
    await until(() => disk.pending === 1)
    let closed = false
    const closing = server.close().then(() => {
      closed = true
    })
    const late = client.post(CMD.READ, { length: 512 })
    expect(await client.reply()).toMatchObject({ cookie: late, error: ERR.ESHUTDOWN })
    expect(closed).toBe(false)
    hold.open()
    expect(await client.reply()).toMatchObject({ cookie: write, error: 0 })
    expect((await client.readToEnd()).length).toBe(0)
    await closing
    expect(disk.calls.at(-1)?.kind).toBe('flush')
    expect(disk.closed).toBe(0)
  })

  test('does not wait for ever for a client that takes no replies', async () => {
    const disk = new TestDisk({ size: 16 * MiB }).put(0, pattern(16 * MiB))
    const server = await serve(disk, { shutdownTimeoutMs: 100 })
    const client = await server.client()
    await client.go()
    client.socket.pause()
    for (let i = 0; i < 16; i++) client.post(CMD.READ, { offset: i * MiB, length: MiB })
    await until(() => disk.calls.length > 2)
    await server.close()
    expect(server.statistics().clients).toBe(0)
  })

  test('reports a flush that failed', async () => {
    const disk = new TestDisk()
    const server = await serve(disk)
    const client = await server.client()
    await client.go()
    disk.before = () => {
      throw new BlockDeviceError('EIO', 'the flush failed')
    }
    await expect(server.close()).rejects.toThrow('the flush failed')
  })

  test('flushes a device that nobody uses any more, and none that nobody ever used', async () => {
    const used = new TestDisk()
    const idle = new TestDisk()
    const server = await serve([
      { name: 'used', device: used },
      { name: 'idle', device: idle },
    ])
    const client = await server.client()
    await client.go('used')
    await client.call(CMD.WRITE, { payload: pattern(512), flags: FLAG.FUA })
    client.post(CMD.DISC)
    await client.readToEnd()
    await server.close()
    expect(used.calls.at(-1)?.kind).toBe('flush')
    expect(idle.calls).toEqual([])
  })
})

describe('events', () => {
  test('tell of each client from connect to farewell', async () => {
    const events: NbdServerEvent[] = []
    const server = await serve([{ name: 'disk', device: new TestDisk() }], {
      onEvent: (event) => events.push(event),
    })
    const polite = await server.client()
    await polite.go('disk')
    polite.post(CMD.DISC)
    await until(() => events.length === 3)
    const aborting = await server.client()
    await aborting.greet()
    await aborting.option(OPT.ABORT)
    await until(() => events.length === 5)
    const rude = await server.client()
    await rude.go('')
    rude.socket.destroy()
    await until(() => events.length === 8)
    expect(events).toEqual([
      { type: 'client-connected', client: 1 },
      { type: 'client-ready', client: 1, exportName: 'disk' },
      { type: 'client-gone', client: 1, reason: 'disconnected', error: undefined },
      { type: 'client-connected', client: 2 },
      { type: 'client-gone', client: 2, reason: 'disconnected', error: undefined },
      { type: 'client-connected', client: 3 },
      { type: 'client-ready', client: 3, exportName: 'disk' },
      { type: 'client-gone', client: 3, reason: 'vanished', error: undefined },
    ])
  })

  test('that a listener throws at are reported as uncaught, and the client is served', async () => {
    const server = await serve(new TestDisk(), {
      onEvent: () => {
        throw new Error('the listener`s own')
      },
    })
    const uncaught: unknown[] = []
    const others = process.listeners('uncaughtException')
    process.removeAllListeners('uncaughtException')
    process.on('uncaughtException', (error) => uncaught.push(error))
    try {
      const client = await server.client()
      await client.go()
      client.post(CMD.DISC)
      await until(() => uncaught.length === 3)
      expect(server.statistics().clients).toBe(0)
    } finally {
      process.removeAllListeners('uncaughtException')
      for (const listener of others) process.on('uncaughtException', listener)
    }
  })
})
