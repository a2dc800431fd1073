import { createHash } from 'node:crypto'
import { concat, utf8Bytes, Writer } from '@sshblock/transport/wire'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ReplyParser, type ReplySink } from '../../packages/sftp/src/core/reply-parser.ts'
import { SftpProtocolError } from '../../packages/sftp/src/errors.ts'
import { packetType, replies } from '../../packages/sftp/src/messages/index.ts'
import { packetOf, pattern } from './scripted-server.ts'

type Seen = { data: number; bytes: Uint8Array } | { type: number; id: number; packet: Uint8Array }

/** What came, copied, because views are only lent. */
class Recorder implements ReplySink {
  readonly seen: Seen[] = []
  /** Lengths of the parts that payloads came in. */
  readonly parts: number[] = []
  #data: { id: number; bytes: Uint8Array; at: number } | undefined

  dataBegin(id: number, length: number): void {
    this.#data = { id, bytes: new Uint8Array(length), at: 0 }
  }
  dataPart(view: Uint8Array): void {
    const data = this.#data!
    this.parts.push(view.length)
    data.bytes.set(view, data.at)
    data.at += view.length
  }
  dataEnd(): void {
    const { id, bytes, at } = this.#data!
    expect(at).toBe(bytes.length)
    this.seen.push({ data: id, bytes })
  }
  reply(type: number, id: number, packet: Uint8Array): void {
    this.seen.push({ type, id, packet: packet.slice() })
  }
}

/** Long payloads by their hash: quick to compare, and to print. */
function digests(recorder: Recorder): unknown[] {
  const hash = (bytes: Uint8Array) => createHash('sha1').update(bytes).digest('hex')
  return recorder.seen.map((each) =>
    'data' in each ? [each.data, hash(each.bytes)] : [each.type, each.id, hash(each.packet)],
  )
}

function parse(parts: Iterable<Uint8Array>): Recorder {
  const recorder = new Recorder()
  const parser = new ReplyParser(recorder)
  for (const part of parts) {
    const view = part.slice()
    parser.feed(view)
    view.fill(0xee)
  }
  expect(parser.midPacket).toBe(false)
  return recorder
}

const data = fc
  .record({ id: fc.nat(), length: fc.oneof(fc.nat(40), fc.constant(32_768)) })
  .map(({ id, length }) => packetOf(replies.data, { id, data: pattern(length, id) }))
const others = fc.oneof(
  fc
    .record({ id: fc.nat(), code: fc.nat(40), message: fc.string({ maxLength: 30 }) })
    .map((value) => packetOf(replies.status, { ...value, language: 'en' })),
  fc.nat().map((id) => packetOf(replies.handle, { id, handle: utf8Bytes(`h${id}`) })),
  fc.nat(300).map((id) => packetOf(replies.attrs, { id, attrs: { size: id, permissions: 0o100644 } })),
  fc.nat(60).map((count) =>
    packetOf(replies.name, {
      id: count,
      names: Array.from({ length: count }, (_, i) => ({
        filename: utf8Bytes(`file ${i}`),
        longname: new Uint8Array(90),
        attrs: { size: i },
      })),
    }),
  ),
)
const stream = fc.array(fc.oneof(data, others), { minLength: 1, maxLength: 12 })

test('any split of the bytes gives the same replies', () => {
  fc.assert(
    fc.property(
      stream,
      fc.infiniteStream(fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 40_000 }))),
      (packets, lengths) => {
        const bytes = concat(...packets)
        const parts: Uint8Array[] = []
        for (let at = 0; at < bytes.length; ) {
          const length = lengths.next().value as number
          parts.push(bytes.subarray(at, at + length))
          at += length
        }
        expect(digests(parse(parts))).toEqual(digests(parse(packets)))
      },
    ),
    { numRuns: 60 },
  )
})

test('one byte at a time gives the same replies', () => {
  const packets = [
    packetOf(replies.data, { id: 1, data: pattern(300) }),
    packetOf(replies.status, { id: 2, code: 0, message: 'Success', language: '' }),
    packetOf(replies.data, { id: 3, data: new Uint8Array(0) }),
    packetOf(replies.handle, { id: 4, handle: utf8Bytes('handle') }),
  ]
  const bytes = concat(...packets)
  expect(parse(Array.from(bytes, (_, i) => bytes.subarray(i, i + 1))).seen).toEqual(parse(packets).seen)
})

test('the hand-written path of DATA gives what its declaration decodes', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), fc.uint8Array({ maxLength: 200 }), (id, bytes) => {
      const declared = replies.data.decode(replies.data.bytes({ id, data: bytes }))
      expect(parse([packetOf(replies.data, { id, data: bytes })]).seen).toEqual([
        { data: declared.id, bytes: declared.data },
      ])
    }),
  )
})

test('payload of DATA goes through in the parts that came, never assembled', () => {
  const packet = packetOf(replies.data, { id: 9, data: pattern(1000) })
  const { parts } = parse([
    packet.subarray(0, 5),
    packet.subarray(5, 113),
    packet.subarray(113, 600),
    packet.subarray(600),
  ])
  expect(parts).toEqual([100, 487, 413])
})

test('bytes behind the data string of DATA are skipped, however they are cut', () => {
  const inner = concat(replies.data.bytes({ id: 1, data: utf8Bytes('abc') }), new Uint8Array(5).fill(0xaa))
  const packet = concat(
    new Writer().string(inner).copy(),
    packetOf(replies.handle, { id: 2, handle: utf8Bytes('h') }),
  )
  for (let at = 1; at < packet.length; at++) {
    const { seen } = parse([packet.subarray(0, at), packet.subarray(at)])
    expect(seen).toHaveLength(2)
    expect(seen[0]).toEqual({ data: 1, bytes: utf8Bytes('abc') })
  }
})

describe('lengths are judged with the first five bytes', () => {
  const prefix = (length: number, type: number) => new Writer().u32(length).u8(type).copy()
  const feed = (bytes: Uint8Array) => new ReplyParser(new Recorder()).feed(bytes)

  test.each([
    [packetType.status, 5],
    [packetType.status, 262_144],
    [packetType.data, 9],
    [packetType.data, 262_144],
  ])('type %i with length %i is legal', (type, length) => {
    expect(() => feed(prefix(length, type))).not.toThrow()
  })

  test.each([
    [packetType.status, 0],
    [packetType.status, 4],
    [packetType.status, 262_145],
    [packetType.status, 2 ** 31],
    [packetType.status, 2 ** 32 - 1],
    [packetType.data, 5],
    [packetType.data, 8],
    [packetType.data, 262_145],
    [packetType.data, 2 ** 32 - 1],
  ])('type %i with length %i ends the stream', (type, length) => {
    expect(() => feed(prefix(length, type))).toThrow(SftpProtocolError)
    const parser = new ReplyParser(new Recorder())
    const cut = prefix(length, type)
    parser.feed(cut.subarray(0, 4))
    expect(() => parser.feed(cut.subarray(4))).toThrow(SftpProtocolError)
  })

  test('a packet of exactly 256 KiB is handed over whole', () => {
    const packet = new Writer().u32(262_144).u8(packetType.handle).u32(7).raw(pattern(262_139)).copy()
    const { seen } = parse([packet.subarray(0, 100_000), packet.subarray(100_000)])
    expect(seen).toMatchObject([{ type: packetType.handle, id: 7 }])
    expect(Buffer.compare((seen[0] as { packet: Uint8Array }).packet, packet.subarray(4))).toBe(0)
  })

  test('DATA whose string is longer than its packet ends the stream before its payload', () => {
    const bytes = new Writer()
      .u32(9 + 10)
      .u8(packetType.data)
      .u32(1)
      .u32(11)
      .copy()
    expect(() => feed(bytes)).toThrow(/DATA of 11 bytes in a packet of 19/)
  })
})

test('a million one-byte chunks are parsed in linear time', () => {
  const packet = packetOf(replies.data, { id: 1, data: pattern(250_000) })
  const bytes = concat(packet, packet, packet, packet)
  const parser = new ReplyParser({ dataBegin() {}, dataPart() {}, dataEnd() {}, reply() {} })
  const start = performance.now()
  for (let at = 0; at < bytes.length; at++) parser.feed(bytes.subarray(at, at + 1))
  expect(performance.now() - start).toBeLessThan(3000)
})
