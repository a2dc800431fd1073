import { describe, expect, test } from 'vitest'
import { BlockDeviceError } from '../../packages/blockdev/src/errors.ts'
import { CHUNK, CMD, ERR, FLAG } from './support/messages.ts'
import { type Served, serve, until } from './support/serve.ts'
import { type DiskCall, gate, pattern, TestDisk } from './support/test-disk.ts'

const MiB = 1 << 20

/** Simple and structured replies: what holds for both is tested with both. */
const styles = [
  ['simple', {}],
  ['structured', { structured: true }],
] as const

async function connected(disk: TestDisk, style: object = {}) {
  const server = await serve(disk)
  const client = await server.client()
  const { flags } = await client.go('', style)
  return { server, client, flags }
}

describe.each(styles)('with %s replies', (_name, style) => {
  test('READ returns the bytes, wherever they lie', async () => {
    const disk = new TestDisk({ size: 3 * MiB }).put(1000, pattern(2 * MiB))
    const { client } = await connected(disk, style)
    for (const [offset, length] of [
      [0, 512],
      [999, 3],
      [1000, 65_536],
      [4095, 4098],
      [500, 2_500_000],
      [3 * MiB - 1, 1],
      [0, 3 * MiB],
    ] as const) {
      const reply = await client.call(CMD.READ, { offset, length })
      expect(reply.error).toBe(0)
      expect(Buffer.compare(reply.data, disk.bytes.subarray(offset, offset + length))).toBe(0)
    }
  })

  test('READ of what is known to be zero does not touch the device', async () => {
    const disk = new TestDisk()
    const { client } = await connected(disk, style)
    const reply = await client.call(CMD.READ, { offset: 0, length: 65_536 })
    expect(reply.data.every((byte) => byte === 0)).toBe(true)
    expect(disk.calls.filter((call) => call.kind === 'read')).toEqual([])
  })

  test('an empty READ and an empty WRITE succeed', async () => {
    const { client } = await connected(new TestDisk(), style)
    expect(await client.call(CMD.READ, { offset: 512, length: 0 })).toMatchObject({ error: 0 })
    expect(await client.call(CMD.WRITE, { offset: 512, flags: FLAG.FUA })).toMatchObject({ error: 0 })
  })

  test('WRITE puts the bytes there, and FUA reaches the device', async () => {
    const disk = new TestDisk()
    const { client } = await connected(disk, style)
    const payload = pattern(100_000)
    expect(await client.call(CMD.WRITE, { offset: 777, payload })).toMatchObject({ error: 0 })
    expect(Buffer.compare(disk.bytes.subarray(777, 100_777), payload)).toBe(0)
    await client.call(CMD.WRITE, { offset: 0, payload, flags: FLAG.FUA })
    expect(disk.calls.filter((call) => call.kind === 'write').map((call) => call.fua)).toEqual([false, true])
  })

  test('FLUSH flushes, on read-only exports too', async () => {
    for (const readOnly of [false, true]) {
      const disk = new TestDisk({ readOnly })
      const { client } = await connected(disk, style)
      expect(await client.call(CMD.FLUSH)).toMatchObject({ error: 0 })
      expect(disk.calls.map((call) => call.kind)).toContain('flush')
    }
  })

  test.each([
    ['EIO', ERR.EIO],
    ['EROFS', ERR.EPERM],
    ['EINVAL', ERR.EINVAL],
    ['ENOSPC', ERR.ENOSPC],
  ] as const)(
    '%s of the device is answered for every command, and the session goes on',
    async (code, error) => {
      const disk = new TestDisk({ canDiscard: true }).put(0, pattern(4096))
      const { client } = await connected(disk, style)
      disk.before = () => {
        throw new BlockDeviceError(code, 'it broke')
      }
      for (const type of [CMD.READ, CMD.WRITE, CMD.FLUSH, CMD.TRIM, CMD.WRITE_ZEROES]) {
        const fields =
          type === CMD.WRITE ? { payload: pattern(512) } : type === CMD.FLUSH ? {} : { length: 512 }
        const reply = await client.call(type, fields)
        expect(reply.error).toBe(error)
        if ('structured' in style) expect(reply.message).toBe('it broke')
      }
      disk.before = () => {}
      expect(await client.call(CMD.READ, { length: 512 })).toMatchObject({ error: 0, data: pattern(512) })
    },
  )

  test('requests run at the same time, and replies come as the device finishes', async () => {
    const disk = new TestDisk().put(0, pattern(65_536))
    const gates = [gate(), gate(), gate()]
    disk.before = (call) => (call.kind === 'read' ? gates[call.offset / 512]?.opened : undefined)
    const { client } = await connected(disk, style)
    const cookies = [0, 1, 2].map((i) => client.post(CMD.READ, { offset: i * 512, length: 512 }))
    await until(() => disk.pending === 3)
    for (const i of [2, 0, 1]) {
      gates[i]!.open()
      expect((await client.reply()).cookie).toBe(cookies[i])
    }
  })

  test('DISC is obeyed when everything before it was answered', async () => {
    const disk = new TestDisk()
    const hold = gate()
    disk.before = (call) => (call.kind === 'write' ? hold.opened : undefined)
    const { client } = await connected(disk, style)
    const cookie = client.post(CMD.WRITE, { offset: 0, payload: pattern(512) })
    client.post(CMD.DISC)
    await until(() => disk.pending === 1)
    hold.open()
    expect(await client.reply()).toMatchObject({ cookie, error: 0 })
    expect((await client.readToEnd()).length).toBe(0)
    expect(disk.calls.some((call) => call.signal?.aborted)).toBe(false)
  })

  test('an error never follows the header of a successful simple READ, and never precedes data of the same range', async () => {
    const disk = new TestDisk({ size: 4 * MiB }).put(0, pattern(4 * MiB))
    const { client } = await connected(disk, style)
    disk.before = (call) => {
      // What a striped device does: its first part arrives, a later one fails.
      if (call.offset + call.length > 2 * MiB) throw new BlockDeviceError('EIO', 'second half')
    }
    const reply = await client.call(CMD.READ, { length: 4 * MiB })
    expect(reply.error).toBe(ERR.EIO)
    if (!('structured' in style)) expect(reply.data.length).toBe(0)
    for (const chunk of reply.chunks) {
      if (chunk.type !== CHUNK.DATA) continue
      expect(new DataView(chunk.payload.buffer).getBigUint64(0)).toBeLessThan(BigInt(2 * MiB))
    }
    expect(await client.call(CMD.READ, { length: 512 })).toMatchObject({ error: 0 })
  })

  test('a device that fills less than it was asked for shows zeros, never what another client read', async () => {
    const disk = new TestDisk().put(0, new Uint8Array(65_536).fill(0xca))
    const { client } = await connected(disk, style)
    // Leaves buffers full of the first bytes in the pool.
    for (let i = 0; i < 4; i++) await client.call(CMD.READ, { length: 32_768 })
    await client.call(CMD.WRITE, { payload: new Uint8Array(32_768).fill(0xca) })
    disk.read = async (_offset, into) => {
      into.fill(1, 0, 100)
    }
    const { data } = await client.call(CMD.READ, { length: 32_768 })
    expect(data.subarray(0, 100).every((byte) => byte === 1)).toBe(true)
    expect(data.subarray(100).every((byte) => byte === 0)).toBe(true)
  })

  test('a device that touches a buffer after its call failed harms nobody', async () => {
    const disk = new TestDisk().put(0, pattern(65_536))
    const { client } = await connected(disk, style)
    const { read, write } = disk
    const late: Uint8Array[] = []
    const written: Uint8Array[] = []
    disk.read = async (_offset, into) => {
      late.push(into)
      throw new BlockDeviceError('ABORT_ERR', 'given up too early')
    }
    disk.write = async (_offset, from) => {
      written.push(from)
      throw new BlockDeviceError('ABORT_ERR', 'given up too early')
    }
    await client.call(CMD.READ, { length: 4096 })
    await client.call(CMD.WRITE, { payload: pattern(4096, 2) })
    disk.write = write
    disk.read = async (offset, into, options) => {
      await read.call(disk, offset, into, options)
      for (const buffer of late) buffer.fill(0xdd)
    }
    expect(await client.call(CMD.READ, { length: 4096 })).toMatchObject({ data: pattern(4096) })
    await client.call(CMD.WRITE, { payload: pattern(4096, 3) })
    expect(Buffer.compare(written[0]!, pattern(4096, 2))).toBe(0)
  })

  test('a device whose calls throw instead of rejecting is answered EIO', async () => {
    const disk = new TestDisk().put(0, pattern(4096))
    const { client } = await connected(disk, style)
    disk.read = disk.write = () => {
      throw new Error('not even a promise')
    }
    disk.extents = () => {
      throw new Error('nor this')
    }
    expect(await client.call(CMD.READ, { length: 512 })).toMatchObject({ error: ERR.EIO })
    expect(await client.call(CMD.WRITE, { payload: pattern(512) })).toMatchObject({ error: ERR.EIO })
    expect(await client.call(CMD.WRITE_ZEROES, { length: 512, flags: FLAG.NO_HOLE })).toMatchObject({
      error: ERR.EIO,
    })
  })
})

describe('structured READ replies', () => {
  test('describe known zeros as holes and data in pieces, the last chunk DONE', async () => {
    const disk = new TestDisk({ size: 8 * MiB }).put(2 * MiB, pattern(3 * MiB))
    const { client } = await connected(disk, { structured: true })
    const reply = await client.call(CMD.READ, { length: 8 * MiB })
    expect(Buffer.compare(reply.data, disk.bytes)).toBe(0)
    expect(reply.chunks.map((chunk) => chunk.type).sort()).toEqual([
      CHUNK.DATA,
      CHUNK.DATA,
      CHUNK.DATA,
      CHUNK.HOLE,
      CHUNK.HOLE,
    ])
    expect(reply.chunks.map((chunk) => chunk.flags)).toEqual([0, 0, 0, 0, 1])
  })

  test('are one hole where there is nothing else', async () => {
    const { client } = await connected(new TestDisk({ size: 64 * MiB }), { structured: true })
    const reply = await client.call(CMD.READ, { offset: MiB, length: 32 * MiB })
    expect(reply.chunks).toMatchObject([{ type: CHUNK.HOLE, flags: 1 }])
  })

  test('are one chunk of data with DF, zeros explicit', async () => {
    const disk = new TestDisk({ size: 64 * MiB }).put(2 * MiB, pattern(3 * MiB))
    const { client, flags } = await connected(disk, { structured: true })
    expect(flags & 0x80).toBe(0x80)
    const reply = await client.call(CMD.READ, { length: 32 * MiB, flags: FLAG.DF })
    expect(reply.chunks.map(({ type, flags }) => [type, flags])).toEqual([[CHUNK.DATA, 1]])
    expect(Buffer.compare(reply.data, disk.bytes.subarray(0, 32 * MiB))).toBe(0)
  })

  test('name the offset of each piece that failed and carry the others', async () => {
    const disk = new TestDisk({ size: 4 * MiB }).put(0, pattern(4 * MiB))
    const { server, client } = await connected(disk, { structured: true })
    disk.before = (call) => {
      if (call.offset === MiB) throw new BlockDeviceError('EIO', 'a bad spot')
    }
    const reply = await client.call(CMD.READ, { length: 4 * MiB })
    const errors = reply.chunks.filter((chunk) => chunk.type === CHUNK.ERROR_OFFSET)
    expect(errors.length).toBe(1)
    expect(new DataView(errors[0]!.payload.buffer).getBigUint64(errors[0]!.payload.length - 8)).toBe(
      BigInt(MiB),
    )
    expect(reply).toMatchObject({ error: ERR.EIO, message: 'a bad spot' })
    expect(server.statistics()).toMatchObject({ failedRequests: 1, readBytes: 0 })
    expect(reply.chunks.filter((chunk) => chunk.type === CHUNK.DATA).length).toBe(3)
  })

  test('are structured also where the request is refused', async () => {
    const { client } = await connected(new TestDisk(), { structured: true })
    const reply = await client.call(CMD.READ, { offset: 2 ** 40, length: 512 })
    expect(reply).toMatchObject({ structured: true, error: ERR.EINVAL })
    expect(reply.message).toMatch(/outside the device/)
  })

  test('without negotiation there are none, and DF is not offered', async () => {
    const { client, flags } = await connected(new TestDisk().put(0, pattern(512)))
    expect(flags & 0x80).toBe(0)
    expect(await client.call(CMD.READ, { length: 512 })).toMatchObject({ structured: false })
    expect(await client.call(CMD.READ, { length: 512, flags: FLAG.DF })).toMatchObject({ error: ERR.EINVAL })
  })
})

describe('WRITE_ZEROES', () => {
  const kinds = (disk: TestDisk): string[] => disk.calls.map((call: DiskCall) => call.kind)

  test('leaves the how to the device, FUA included', async () => {
    const disk = new TestDisk().put(0, pattern(65_536))
    const { client } = await connected(disk)
    disk.calls.length = 0
    await client.call(CMD.WRITE_ZEROES, { offset: 4096, length: 8192, flags: FLAG.FUA })
    expect(disk.calls).toMatchObject([{ kind: 'writeZeroes', offset: 4096, length: 8192, fua: true }])
    expect(disk.bytes.subarray(4096, 12_288).every((byte) => byte === 0)).toBe(true)
  })

  test('with NO_HOLE writes zeros as data, then flushes for FUA', async () => {
    const disk = new TestDisk({ size: 8 * MiB }).put(0, pattern(8 * MiB))
    const { client } = await connected(disk)
    disk.calls.length = 0
    await client.call(CMD.WRITE_ZEROES, { offset: 100, length: 6 * MiB, flags: FLAG.NO_HOLE | FLAG.FUA })
    expect(kinds(disk)).toEqual([...new Array(6).fill('write'), 'flush'])
    expect(disk.bytes.subarray(100, 100 + 6 * MiB).every((byte) => byte === 0)).toBe(true)
    expect(Buffer.compare(disk.bytes.subarray(100 + 6 * MiB), pattern(8 * MiB).subarray(100 + 6 * MiB))).toBe(
      0,
    )
    expect(disk.extents(0, MiB)).toEqual([{ offset: 0, length: MiB, zero: false }])
  })

  test('writes zeros itself where the device cannot, rather than ENOTSUP', async () => {
    const disk = new TestDisk({ canWriteZeroes: false }).put(0, pattern(65_536))
    const { client } = await connected(disk)
    expect(await client.call(CMD.WRITE_ZEROES, { length: 65_536 })).toMatchObject({ error: 0 })
    expect(disk.bytes.every((byte) => byte === 0)).toBe(true)
  })

  test('with FAST_ZERO is ENOTSUP at once and changes nothing, unless the range is known to be zero', async () => {
    const disk = new TestDisk().put(0, pattern(4096))
    const { client, flags } = await connected(disk)
    expect(flags & 0x840).toBe(0x840)
    disk.calls.length = 0
    expect(await client.call(CMD.WRITE_ZEROES, { length: 8192, flags: FLAG.FAST_ZERO })).toMatchObject({
      error: ERR.ENOTSUP,
    })
    expect(disk.calls).toEqual([])
    expect(
      await client.call(CMD.WRITE_ZEROES, { offset: 4096, length: 8192, flags: FLAG.FAST_ZERO }),
    ).toMatchObject({ error: 0 })
    expect(disk.calls).toEqual([])
    await client.call(CMD.WRITE_ZEROES, { offset: 4096, length: 8192, flags: FLAG.FAST_ZERO | FLAG.FUA })
    expect(kinds(disk)).toEqual(['flush'])
    const provisioned = FLAG.FAST_ZERO | FLAG.NO_HOLE
    expect(
      await client.call(CMD.WRITE_ZEROES, { offset: 4096, length: 8192, flags: provisioned }),
    ).toMatchObject({
      error: ERR.ENOTSUP,
    })
  })

  test('stops at the first failure when it writes zeros itself', async () => {
    const disk = new TestDisk({ size: 16 * MiB })
    const { client } = await connected(disk)
    disk.calls.length = 0
    disk.before = (call) => {
      if (call.offset === MiB) throw new BlockDeviceError('ENOSPC', 'full')
    }
    expect(await client.call(CMD.WRITE_ZEROES, { length: 16 * MiB, flags: FLAG.NO_HOLE })).toMatchObject({
      error: ERR.ENOSPC,
    })
    expect(disk.calls.length).toBe(4)
  })
})

describe('TRIM', () => {
  test('is offered, and passed on, only where the device can discard', async () => {
    const able = await connected(new TestDisk({ canDiscard: true }))
    expect(able.flags & 0x20).toBe(0x20)
    expect(await able.client.call(CMD.TRIM, { length: 512 })).toMatchObject({ error: 0 })
    const unable = await connected(new TestDisk())
    expect(unable.flags & 0x20).toBe(0)
    expect(await unable.client.call(CMD.TRIM, { length: 512 })).toMatchObject({ error: ERR.EINVAL })
  })

  test('with FUA flushes after discarding', async () => {
    const disk = new TestDisk({ canDiscard: true })
    const { client } = await connected(disk)
    disk.calls.length = 0
    await client.call(CMD.TRIM, { offset: 512, length: 512, flags: FLAG.FUA })
    expect(disk.calls).toMatchObject([{ kind: 'discard', offset: 512, length: 512 }, { kind: 'flush' }])
  })
})

describe('CACHE', () => {
  test('succeeds without touching the device by default', async () => {
    const disk = new TestDisk().put(0, pattern(65_536))
    const { client, flags } = await connected(disk)
    expect(flags & 0x400).toBe(0x400)
    disk.calls.length = 0
    expect(await client.call(CMD.CACHE, { length: 65_536 })).toMatchObject({ error: 0 })
    expect(disk.calls).toEqual([])
  })

  test('reads the range where the export wants that', async () => {
    const disk = new TestDisk({ size: 4 * MiB }).put(0, pattern(4 * MiB))
    const server = await serve([{ name: '', device: disk, cacheByReading: true }])
    const client = await server.client()
    await client.go()
    disk.calls.length = 0
    expect(await client.call(CMD.CACHE, { offset: 100, length: 3 * MiB })).toMatchObject({ error: 0 })
    expect(disk.calls.reduce((sum, call) => sum + call.length, 0)).toBe(3 * MiB)
    disk.before = () => {
      throw new BlockDeviceError('EIO', 'x')
    }
    expect(await client.call(CMD.CACHE, { length: 512 })).toMatchObject({ error: ERR.EIO })
  })
})

describe('BLOCK_STATUS', () => {
  test('describes holes under the id of base:allocation', async () => {
    const disk = new TestDisk().put(8192, pattern(4096))
    const { client } = await connected(disk, { blockStatus: true })
    const { chunks } = await client.call(CMD.BLOCK_STATUS, { offset: 4096, length: 16_384 })
    expect(chunks).toMatchObject([{ type: CHUNK.STATUS, flags: 1 }])
    const words = new DataView(chunks[0]!.payload.buffer)
    expect(Array.from({ length: 7 }, (_, i) => words.getUint32(4 * i))).toEqual([
      1, 4096, 3, 4096, 0, 8192, 3,
    ])
  })

  test('describes one extent with REQ_ONE', async () => {
    const disk = new TestDisk().put(8192, pattern(4096))
    const { client } = await connected(disk, { blockStatus: true })
    const { chunks } = await client.call(CMD.BLOCK_STATUS, { length: 16_384, flags: FLAG.REQ_ONE })
    const words = new DataView(chunks[0]!.payload.buffer)
    expect(chunks[0]!.payload.length).toBe(12)
    expect([words.getUint32(4), words.getUint32(8)]).toEqual([8192, 3])
  })

  test('is EINVAL where no context was selected', async () => {
    const { client } = await connected(new TestDisk(), { structured: true })
    expect(await client.call(CMD.BLOCK_STATUS, { length: 512 })).toMatchObject({ error: ERR.EINVAL })
  })
})

describe('a size that changes', () => {
  test('is what the next client is told, and bounds the requests of those that are there', async () => {
    const disk = new TestDisk({ size: 2 * MiB })
    disk.size = MiB
    const { server, client } = await connected(disk)
    expect(await client.call(CMD.READ, { offset: MiB, length: 512 })).toMatchObject({ error: ERR.EINVAL })
    await disk.resize(2 * MiB)
    expect(await client.call(CMD.READ, { offset: MiB, length: 512 })).toMatchObject({ error: 0 })
    const next = await server.client()
    expect(await next.go()).toMatchObject({ size: BigInt(2 * MiB) })
    await disk.resize(512)
    expect(await client.call(CMD.READ, { offset: 512, length: 512 })).toMatchObject({ error: ERR.EINVAL })
    expect(await client.call(CMD.WRITE, { offset: 512, payload: pattern(512) })).toMatchObject({
      error: ERR.ENOSPC,
    })
  })
})

describe('statistics', () => {
  test('count clients, requests by command, bytes and failures', async () => {
    const disk = new TestDisk().put(0, pattern(4096))
    const { server, client } = await connected(disk)
    await client.call(CMD.READ, { length: 4096 })
    await client.call(CMD.WRITE, { payload: pattern(512) })
    await client.call(CMD.READ, { offset: 2 ** 40, length: 4096 })
    await client.call(99)
    const during = (server as Served).statistics()
    expect(during).toMatchObject({ clients: 1, negotiatingClients: 0, requestsInFlight: 0, bytesInFlight: 0 })
    expect(during).toMatchObject({
      acceptedClients: 1,
      refusedClients: 0,
      failedRequests: 2,
      readBytes: 4096,
      writtenBytes: 512,
    })
    expect(during.requests).toMatchObject({ read: 2, write: 1, flush: 0, unknown: 1 })
    client.post(CMD.DISC)
    await until(() => server.statistics().clients === 0)
    expect(server.statistics().requests.disc).toBe(1)
  })
})
