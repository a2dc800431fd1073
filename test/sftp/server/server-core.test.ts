import { readU32, writeU32 } from '@sshblock/transport/wire'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { BufferPool } from '../../../packages/sftp/src/core/buffer-pool.ts'
import { SftpClientError } from '../../../packages/sftp/src/core/client-error.ts'
import { HandleTable } from '../../../packages/sftp/src/core/handle-table.ts'
import {
  dataHeaderBytes,
  okStatusPacket,
  readRange,
  writeDataHeader,
  writeRange,
} from '../../../packages/sftp/src/core/hot-messages.ts'
import { ReplyQueue, type ReplySlot } from '../../../packages/sftp/src/core/reply-queue.ts'
import { RequestBuffer } from '../../../packages/sftp/src/core/request-buffer.ts'
import { ServerCore } from '../../../packages/sftp/src/core/server-core.ts'
import { maxRequestBytes, maxWriteRequestBytes } from '../../../packages/sftp/src/core/server-limits.ts'
import { UnderWay } from '../../../packages/sftp/src/core/under-way.ts'
import { packetType, replies, requests } from '../../../packages/sftp/src/messages/index.ts'
import { bytes, framed } from '../support/raw-client.ts'

const pool = () => new BufferPool(1 << 20)

function* inPieces(stream: Uint8Array, sizes: readonly number[]): Generator<Uint8Array> {
  for (let at = 0, i = 0; at < stream.length; i++) {
    const size = sizes[i % sizes.length]!
    yield stream.slice(at, at + size)
    at += size
  }
}

function joined(packets: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(packets.reduce((sum, packet) => sum + packet.length, 0))
  let at = 0
  for (const packet of packets) {
    out.set(packet, at)
    at += packet.length
  }
  return out
}

/** A request of `length` bytes behind its length field, its content told by `seed`. */
function request(length: number, type: number, seed = 0): Uint8Array {
  const payload = new Uint8Array(length)
  for (let i = 0; i < length; i++) payload[i] = (i * 7 + seed) & 0xff
  payload[0] = type
  return framed(payload)
}

describe('framing', () => {
  test('any split of the bytes gives the same requests, small and large', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.tuple(fc.constantFrom(5, 9, 40, 4091, 4092, 4093, 30_000, 70_000), fc.constantFrom(3, 6)),
          {
            minLength: 1,
            maxLength: 12,
          },
        ),
        fc.array(fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1000, max: 50_000 })), {
          minLength: 1,
          maxLength: 8,
        }),
        fc.boolean(),
        (shapes, sizes, drainAtOnce) => {
          const packets = shapes.map(([length, type], i) => request(length, type, i))
          const buffers = pool()
          const buffer = new RequestBuffer(buffers)
          const seen: Uint8Array[] = []
          const drain = () => {
            for (let body = buffer.next(); body !== undefined; body = buffer.next()) seen.push(framed(body))
          }
          for (const piece of inPieces(joined(packets), sizes)) {
            buffer.input(piece)
            piece.fill(0xee)
            if (drainAtOnce) drain()
          }
          drain()
          expect(Buffer.compare(joined(seen), joined(packets))).toBe(0)
          expect(seen.length).toBe(packets.length)
          expect(buffer.bufferedBytes).toBe(0)
          expect(buffer.isIncomplete).toBe(false)
        },
      ),
      { numRuns: 60 },
    )
  })

  test('one byte at a time costs no more than linear time', () => {
    const buffer = new RequestBuffer(pool())
    const stream = joined([request(200_000, packetType.write), request(5, packetType.close)])
    for (let i = 0; i < stream.length; i++) buffer.input(stream.subarray(i, i + 1))
    expect(buffer.next()).toHaveLength(200_000)
    expect(buffer.next()).toHaveLength(5)
    expect(buffer.next()).toBeUndefined()
  })

  test.each([
    ['any request', packetType.open, maxRequestBytes],
    ['WRITE', packetType.write, maxWriteRequestBytes],
    ['an unknown type', 77, maxRequestBytes],
  ])('%s is taken at its limit and refused one byte above, before its bytes come', (_what, type, limit) => {
    const head = (length: number) => {
      const start = new Uint8Array(5)
      writeU32(start, 0, length)
      start[4] = type
      return start
    }
    const buffer = new RequestBuffer(pool())
    buffer.input(head(limit))
    buffer.input(new Uint8Array(limit - 1))
    expect(buffer.next()).toHaveLength(limit)
    expect(() => new RequestBuffer(pool()).input(head(limit + 1))).toThrow(SftpClientError)
  })

  test.each([0, 1, 4, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1])(
    'a length of %d ends the stream without an allocation',
    (length) => {
      const start = new Uint8Array(5)
      writeU32(start, 0, length)
      start[4] = packetType.write
      const buffer = new RequestBuffer(pool())
      expect(() => buffer.input(start)).toThrow(SftpClientError)
      expect(buffer.bufferedBytes).toBe(0)
    },
  )

  test('the buffer of a large request goes back to the pool, unless it is taken', () => {
    const buffers = pool()
    const buffer = new RequestBuffer(buffers)
    buffer.input(joined([request(10_000, packetType.write), request(10_000, packetType.write)]))
    buffer.next()
    expect(buffers.freeBytes).toBe(0)
    buffer.next()
    expect(buffers.freeBytes).toBe(16_384)
    expect(buffer.takeBuffer()).toHaveLength(16_384)
    buffer.next()
    expect(buffers.freeBytes).toBe(16_384)
  })

  test('a request handed out stays as it is while more bytes come, until the next one is asked for', () => {
    const buffer = new RequestBuffer(pool())
    buffer.input(request(50, packetType.open, 1))
    const body = buffer.next()!
    const before = body.slice()
    for (let i = 0; i < 3000; i++) buffer.input(request(60, packetType.open, i))
    expect(body).toEqual(before)
  })
})

describe('the hot path equals the declarations', () => {
  const offset = fc.oneof(fc.nat(), fc.maxSafeNat())

  test('READ', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), offset, fc.nat(), (handle, offset, len) => {
        const body = requests.read.bytes({ id: 7, handle, offset, len })
        expect(readRange(body)).toMatchObject({ offset, length: len })
        for (let end = 5; end < body.length; end++) expect(readRange(body.subarray(0, end))).toBeUndefined()
      }),
    )
  })

  test('WRITE, with garbage behind it and cut short', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 40 }),
        offset,
        fc.uint8Array({ maxLength: 60 }),
        (handle, offset, data) => {
          const body = requests.write.bytes({ id: 7, handle, offset, data })
          for (const packet of [body, joined([body, bytes('garbage')])]) {
            const range = writeRange(packet)!
            expect(range).toMatchObject({ offset, length: data.length })
            expect(packet.slice(range.payloadAt, range.payloadAt + range.length)).toEqual(data)
          }
          for (let end = 5; end < body.length; end++)
            expect(writeRange(body.subarray(0, end))).toBeUndefined()
        },
      ),
    )
  })

  test.each([2n ** 53n, 2n ** 63n, 2n ** 64n - 1n])(
    'an offset of %d is malformed, never rounded',
    (offset) => {
      const body = requests.read.bytes({ id: 1, handle: bytes('h'), offset: 0, len: 1 })
      writeU32(body, 10, Number(offset >> 32n))
      writeU32(body, 14, Number(offset & 0xffff_ffffn))
      expect(readRange(body)).toBeUndefined()
      expect(() => requests.read.decode(body)).toThrow()
    },
  )

  test('DATA and STATUS OK', () => {
    const data = bytes('some data')
    const packet = new Uint8Array(100)
    packet.set(data, dataHeaderBytes)
    const end = writeDataHeader(packet, 0xffff_fffe, data.length)
    expect(packet.subarray(0, end)).toEqual(framed(replies.data.bytes({ id: 0xffff_fffe, data })))
    expect(okStatusPacket(0xffff_fffd)).toEqual(
      framed(replies.status.bytes({ id: 0xffff_fffd, code: 0, message: 'Success', language: '' })),
    )
  })
})

describe('replies', () => {
  test('leave in the order of the requests, whatever order they are settled in and however little is taken', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(20, 100, 4095, 4096, 9000, 40_000), { minLength: 1, maxLength: 12 }),
        fc.infiniteStream(fc.nat()),
        fc.infiniteStream(fc.constantFrom(1, 77, 4096, 16_384, 50_000)),
        (lengths, order, rooms) => {
          const queue = new ReplyQueue(pool())
          const packets = lengths.map((length, i) => new Uint8Array(length).fill(i + 1))
          const slots = packets.map((): ReplySlot => ({ reply: undefined, replyEnd: 0, replyPooled: false }))
          for (const slot of slots) queue.expect(slot)
          const left = slots.map((_, i) => i)
          const out: Uint8Array[] = []
          const take = () => {
            for (;;) {
              const room = rooms.next().value!
              const piece = queue.takeOutput(room)
              if (piece === undefined) return
              expect(piece.length).toBeLessThanOrEqual(room)
              out.push(piece.slice())
            }
          }
          while (left.length > 0) {
            const [i] = left.splice(order.next().value! % left.length, 1) as [number]
            queue.settle(slots[i]!, packets[i]!.slice(), lengths[i]!, false)
            take()
          }
          expect(Buffer.compare(joined(out), joined(packets))).toBe(0)
          expect(queue.queuedBytes).toBe(0)
          expect(queue.unanswered).toBe(0)
        },
      ),
      { numRuns: 100 },
    )
  })

  test('a pooled buffer goes back only when its last piece was sent', () => {
    const buffers = pool()
    const queue = new ReplyQueue(buffers)
    const slot: ReplySlot = { reply: undefined, replyEnd: 0, replyPooled: false }
    queue.expect(slot)
    queue.settle(slot, buffers.take(8000), 8000, true)
    expect(queue.takeOutput(7999)).toHaveLength(7999)
    expect(buffers.freeBytes).toBe(0)
    expect(queue.takeOutput(7999)).toHaveLength(1)
    expect(buffers.freeBytes).toBe(0)
    expect(queue.takeOutput(7999)).toBeUndefined()
    expect(buffers.freeBytes).toBe(8192)
  })
})

describe('handles', () => {
  const random = (into: Uint8Array) => void globalThis.crypto.getRandomValues(into as Uint8Array<ArrayBuffer>)

  test('only the exact bytes of an open handle open anything', () => {
    const table = new HandleTable<string>(256, random)
    const one = table.add('one')
    const two = table.add('two')
    expect(table.find(one)).toBe('one')
    expect(table.find(two)).toBe('two')
    for (let i = 0; i < one.length; i++) {
      for (let bit = 0; bit < 8; bit++) {
        const altered = one.slice()
        altered[i]! ^= 1 << bit
        expect(table.find(altered)).toBeUndefined()
      }
    }
    for (let length = 0; length < one.length; length++)
      expect(table.find(one.subarray(0, length))).toBeUndefined()
    expect(table.find(joined([one, Uint8Array.of(0)]))).toBeUndefined()
    expect(new HandleTable<string>(256, random).find(one)).toBeUndefined()
  })

  test('a closed handle stays closed when its slot is used again', () => {
    const table = new HandleTable<string>(1, random)
    const old = table.add('old')
    expect(table.remove(old)).toBe('old')
    const next = table.add('next')
    expect(readU32(next, 0) >>> 16).toBe(readU32(old, 0) >>> 16)
    expect(table.find(old)).toBeUndefined()
    expect(table.remove(old)).toBeUndefined()
    expect(table.find(next)).toBe('next')
  })

  test('a handle handed out is a copy: changing it changes nothing', () => {
    const table = new HandleTable<string>(2, random)
    const handle = table.add('x')
    const kept = handle.slice()
    handle.fill(0)
    expect(table.find(kept)).toBe('x')
  })
})

describe('what may run side by side', () => {
  const file = {}
  const other = {}
  const write = (offset: number, length: number, target: object = file) => ({ target, offset, length })

  test('READs beside READs, up to the limit', () => {
    const underWay = new UnderWay(1000)
    for (let i = 0; i < 16; i++) {
      expect(underWay.mayBeginRead).toBe(true)
      underWay.beginRead(10)
    }
    expect(underWay.mayBeginRead).toBe(false)
    expect(underWay.readBytes).toBe(160)
    underWay.endRead(10)
    expect(underWay.mayBeginRead).toBe(true)
  })

  test('a WRITE waits for READs and a READ for WRITEs, because two handles may be one file', () => {
    const underWay = new UnderWay(1000)
    underWay.beginRead(10)
    expect(underWay.mayBeginWrite(write(500, 10, other), false)).toBe(false)
    underWay.endRead(10)
    underWay.beginWrite(write(0, 10))
    expect(underWay.mayBeginRead).toBe(false)
  })

  test.each([
    ['behind', write(10, 5), false, true],
    ['before', write(0, 2), false, true],
    ['overlapping by a byte', write(9, 5), false, false],
    ['inside', write(6, 1), false, false],
    ['around', write(0, 50), false, false],
    ['on another handle', write(100, 5, other), false, false],
    ['in append mode', write(100, 5), true, false],
    ['more than the bytes allowed', write(100, 999), false, false],
  ])('a WRITE %s another', (_where, second, append, expected) => {
    const underWay = new UnderWay(1000)
    underWay.beginWrite(write(5, 5))
    expect(underWay.mayBeginWrite(second, append)).toBe(expected)
  })

  test('everything else runs alone', () => {
    const underWay = new UnderWay(1000)
    underWay.beginExclusive()
    expect(underWay.isQuiet).toBe(false)
    expect(underWay.mayBeginRead).toBe(false)
    expect(underWay.mayBeginWrite(write(0, 1), false)).toBe(false)
    underWay.endExclusive()
    expect(underWay.isQuiet).toBe(true)
  })
})

describe('the core', () => {
  const core = () =>
    new ServerCore<string>({
      extensions: [],
      maxHandles: 4,
      maxPoolBytes: 1 << 20,
      random: (into) => void into.fill(9),
    })

  test('refuses any request before INIT', () => {
    for (let type = 0; type < 256; type++) {
      if (type === packetType.init) continue
      const server = core()
      server.input(request(20, type))
      expect(() => server.peek()).toThrow(SftpClientError)
    }
  })

  test('garbage ends in a protocol error or in requests, never in anything else', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 6 }),
        fc.boolean(),
        (pieces, init) => {
          const server = core()
          try {
            if (init) server.input(framed(requests.init.bytes({ version: 3, extensions: [] })))
            for (const piece of pieces) {
              server.input(piece)
              while (server.peek() !== undefined) server.advance()
            }
          } catch (error) {
            if (!(error instanceof SftpClientError)) throw error
          }
        },
      ),
      { numRuns: 3000 },
    )
  })
})
