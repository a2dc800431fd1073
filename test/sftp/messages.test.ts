import { concat, type Message, Reader, utf8Bytes, WireError, Writer } from '@sshblock/transport/wire'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { encodeRead, encodeWriteHeader, peekStatusCode } from '../../packages/sftp/src/messages/hot-path.ts'
import {
  type Attributes,
  attributes,
  extended,
  fileType,
  packetTypeName,
  replies,
  requests,
  statusName,
} from '../../packages/sftp/src/messages/index.ts'
import { posixCode } from '../../packages/sftp/src/messages/status.ts'

const u32 = fc.integer({ min: 0, max: 0xffff_ffff })
const u64Number = fc.maxSafeNat()
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
const bytes = fc.uint8Array({ maxLength: 40 })
const text = fc.string({ unit: 'grapheme', maxLength: 20 })

const attrs: fc.Arbitrary<Attributes> = fc
  .record(
    {
      size: u64Number,
      owner: fc.tuple(u32, u32),
      permissions: u32,
      times: fc.tuple(u32, u32),
      extended: fc.array(fc.record({ type: text, data: bytes }), { minLength: 1, maxLength: 3 }),
    },
    { requiredKeys: [] },
  )
  .map(({ owner, times, ...rest }) => ({
    ...rest,
    ...(owner === undefined ? {} : { uid: owner[0], gid: owner[1] }),
    ...(times === undefined ? {} : { atime: times[0], mtime: times[1] }),
  }))

const pairs = fc.array(fc.record({ name: text, data: bytes }), { maxLength: 4 })
const names = fc.array(fc.record({ filename: bytes, longname: bytes, attrs }), { maxLength: 4 })

// biome-ignore lint/suspicious/noExplicitAny: the table holds messages of every shape
type Any = any

/** Every message with the values it can have. */
const declared: [Message<Any>, fc.Arbitrary<Any>][] = [
  [requests.init, fc.record({ version: u32, extensions: pairs })],
  [requests.open, fc.record({ id: u32, filename: bytes, pflags: u32, attrs })],
  [requests.close, fc.record({ id: u32, handle: bytes })],
  [requests.read, fc.record({ id: u32, handle: bytes, offset: u64Number, len: u32 })],
  [requests.write, fc.record({ id: u32, handle: bytes, offset: u64Number, data: bytes })],
  [requests.lstat, fc.record({ id: u32, path: bytes })],
  [requests.fstat, fc.record({ id: u32, handle: bytes })],
  [requests.setstat, fc.record({ id: u32, path: bytes, attrs })],
  [requests.fsetstat, fc.record({ id: u32, handle: bytes, attrs })],
  [requests.opendir, fc.record({ id: u32, path: bytes })],
  [requests.readdir, fc.record({ id: u32, handle: bytes })],
  [requests.remove, fc.record({ id: u32, filename: bytes })],
  [requests.mkdir, fc.record({ id: u32, path: bytes, attrs })],
  [requests.rmdir, fc.record({ id: u32, path: bytes })],
  [requests.realpath, fc.record({ id: u32, path: bytes })],
  [requests.stat, fc.record({ id: u32, path: bytes })],
  [requests.rename, fc.record({ id: u32, oldpath: bytes, newpath: bytes })],
  [requests.readlink, fc.record({ id: u32, path: bytes })],
  [requests.symlink, fc.record({ id: u32, linkpath: bytes, targetpath: bytes })],
  [replies.version, fc.record({ version: u32, extensions: pairs })],
  [replies.status, fc.record({ id: u32, code: u32, message: text, language: text })],
  [replies.handle, fc.record({ id: u32, handle: bytes })],
  [replies.data, fc.record({ id: u32, data: bytes })],
  [replies.name, fc.record({ id: u32, names })],
  [replies.attrs, fc.record({ id: u32, attrs })],
]

describe.each(declared)('$name', (message, values) => {
  test('decodes to what was encoded', () => {
    fc.assert(
      fc.property(values, (value) => {
        expect(message.decode(message.bytes(value))).toEqual(value)
      }),
      { numRuns: 50 },
    )
  })

  test('is a WireError when cut anywhere, or still itself where only optional texts are missing', () => {
    fc.assert(
      fc.property(values, fc.nat(), (value, where) => {
        const whole = message.bytes(value)
        const cut = whole.subarray(0, where % whole.length)
        try {
          message.decode(cut)
        } catch (error) {
          expect(error).toBeInstanceOf(WireError)
          return
        }
        // STATUS without its texts (E6), and extension pairs that happen to end here.
        expect(['STATUS', 'INIT', 'VERSION']).toContain(message.name)
      }),
      { numRuns: 50 },
    )
  })
})

const statvfsReply = fc.record({
  bsize: u64,
  frsize: u64,
  blocks: u64,
  bfree: u64,
  bavail: u64,
  files: u64,
  ffree: u64,
  favail: u64,
  fsid: u64,
  flag: u64,
  namemax: u64,
})

const extensions: [
  { name: string; encode: Any; decode: Any; encodeReply: Any; decodeReply: Any },
  fc.Arbitrary<Any>,
  fc.Arbitrary<Any>?,
][] = [
  [extended.posixRename, fc.record({ oldpath: bytes, newpath: bytes })],
  [extended.statvfs, fc.record({ path: bytes }), statvfsReply],
  [extended.fstatvfs, fc.record({ handle: bytes }), statvfsReply],
  [extended.hardlink, fc.record({ oldpath: bytes, newpath: bytes })],
  [extended.fsync, fc.record({ handle: bytes })],
  [extended.lsetstat, fc.record({ path: bytes, attrs })],
  [
    extended.limits,
    fc.constant({}),
    fc.record({ maxPacketLength: u64, maxReadLength: u64, maxWriteLength: u64, maxOpenHandles: u64 }),
  ],
  [extended.expandPath, fc.record({ path: bytes })],
  [
    extended.copyData,
    fc.record({
      readFromHandle: bytes,
      readFromOffset: u64Number,
      readDataLength: u64Number,
      writeToHandle: bytes,
      writeToOffset: u64Number,
    }),
  ],
  [extended.homeDirectory, fc.record({ username: bytes })],
  [
    extended.usersGroupsById,
    fc.record({ uids: fc.array(u32), gids: fc.array(u32) }),
    fc.record({ usernames: fc.array(text), groupnames: fc.array(text) }),
  ],
]

describe.each(extensions)('$name', (extension, requestValues, replyValues) => {
  test('decodes to what was encoded', () => {
    fc.assert(
      fc.property(u32, requestValues, (id, value) => {
        const writer = new Writer()
        extension.encode(writer, { id, ...value })
        const outer = extended.extended.decode(writer.bytes())
        expect(outer).toMatchObject({ id, extendedRequest: extension.name })
        expect(extension.decode(outer.data)).toEqual(value)
      }),
      { numRuns: 50 },
    )
    if (replyValues === undefined) {
      expect(extension.decodeReply).toBeUndefined()
      return
    }
    fc.assert(
      fc.property(u32, replyValues, (id, value) => {
        const writer = new Writer()
        extension.encodeReply(writer, { id, ...value })
        const outer = extended.extendedReply.decode(writer.bytes())
        expect(outer.id).toBe(id)
        expect(extension.decodeReply(outer.data)).toEqual(value)
      }),
      { numRuns: 50 },
    )
  })
})

describe('hand-written messages', () => {
  test('READ is what its declaration encodes, with its length in front', () => {
    fc.assert(
      fc.property(u32, bytes, u64Number, u32, (id, handle, offset, len) => {
        const writer = new Writer(1)
        encodeRead(writer, id, handle, offset, len)
        expect(writer.copy()).toEqual(
          new Writer().string(requests.read.bytes({ id, handle, offset, len })).copy(),
        )
      }),
    )
  })

  test('the header of WRITE followed by its data is what its declaration encodes', () => {
    fc.assert(
      fc.property(u32, bytes, u64Number, bytes, (id, handle, offset, data) => {
        const writer = new Writer(1)
        encodeWriteHeader(writer, id, handle, offset, data.length)
        expect(concat(writer.copy(), data)).toEqual(
          new Writer().string(requests.write.bytes({ id, handle, offset, data })).copy(),
        )
      }),
    )
  })

  test('the code of STATUS is where its declaration puts it', () => {
    fc.assert(
      fc.property(u32, u32, text, (id, code, message) => {
        expect(peekStatusCode(replies.status.bytes({ id, code, message, language: '' }))).toBe(code)
      }),
    )
    expect(peekStatusCode(new Uint8Array(8))).toBeUndefined()
  })
})

describe('ATTRS', () => {
  const size = (high: number, low: number) => new Writer().u32(1).u32(high).u32(low).copy()

  test.each([
    ['2^53 - 1', size(0x1f_ffff, 0xffff_ffff), Number.MAX_SAFE_INTEGER],
    ['0', size(0, 0), 0],
  ])('carries a size of %s exactly', (_name, encoded, expected) => {
    expect(attributes.read(new Reader(encoded))).toEqual({ size: expected })
  })

  test.each([
    ['2^53', size(0x20_0000, 0)],
    ['2^53 + 1', size(0x20_0000, 1)],
    ['2^63', size(0x8000_0000, 0)],
    ['2^64 - 1', size(0xffff_ffff, 0xffff_ffff)],
  ])('never rounds a size of %s', (_name, encoded) => {
    expect(() => attributes.read(new Reader(encoded))).toThrow(WireError)
  })

  test('refuses more extended attributes than the bytes can hold, without a loop', () => {
    const hostile = new Writer().u32(0x8000_0000).u32(0xffff_ffff).copy()
    const start = performance.now()
    expect(() => attributes.read(new Reader(hostile))).toThrow(WireError)
    expect(performance.now() - start).toBeLessThan(50)
  })

  test('writes owner and times only in pairs, and nothing that does not fit', () => {
    for (const value of [
      { uid: 1 },
      { gid: 1 },
      { atime: 1 },
      { mtime: 1 },
      { size: -1 },
      { size: 2 ** 53 },
      { permissions: 2 ** 32 },
      { uid: 1.5, gid: 0 },
    ]) {
      expect(() => attributes.write(new Writer(), value)).toThrow(RangeError)
    }
  })

  test('tells the file type from the mode bits', () => {
    expect(
      [0o100644, 0o040755, 0o120777, 0o060000, 0o020000, 0o010000, 0o140000, 0o644, undefined].map(
        (permissions) => fileType({ permissions }),
      ),
    ).toEqual([
      'file',
      'directory',
      'symlink',
      'block-device',
      'character-device',
      'fifo',
      'socket',
      'unknown',
      'unknown',
    ])
  })
})

test('NAME refuses more names than the bytes can hold, without a loop', () => {
  const hostile = new Writer().u8(104).u32(1).u32(0xffff_ffff).raw(new Uint8Array(120)).copy()
  const start = performance.now()
  expect(() => replies.name.decode(hostile)).toThrow(WireError)
  expect(performance.now() - start).toBeLessThan(50)
})

test('bytes after the last field of a request or reply are ignored', () => {
  const garbage = new Uint8Array(29_000).fill(0xaa)
  const write = requests.write.bytes({ id: 1, handle: utf8Bytes('h'), offset: 2, data: utf8Bytes('abc') })
  expect(requests.write.decode(concat(write, garbage)).data).toEqual(utf8Bytes('abc'))
  const handle = replies.handle.bytes({ id: 1, handle: utf8Bytes('h') })
  expect(replies.handle.decode(concat(handle, garbage)).handle).toEqual(utf8Bytes('h'))
})

test('OPEN has the bytes of the draft', () => {
  const open = requests.open.bytes({
    id: 7,
    filename: utf8Bytes('/a'),
    pflags: 0x1a,
    attrs: { permissions: 0o600 },
  })
  expect([...open]).toEqual([3, 0, 0, 0, 7, 0, 0, 0, 2, 0x2f, 0x61, 0, 0, 0, 0x1a, 0, 0, 0, 4, 0, 0, 1, 0x80])
})

test('every status code and packet type has a name, known or not', () => {
  expect([statusName(2), posixCode(2), posixCode(3), posixCode(4), posixCode(8), posixCode(14)]).toEqual([
    'NO_SUCH_FILE',
    'ENOENT',
    'EACCES',
    'EIO',
    'ENOTSUP',
    'ENOSPC',
  ])
  expect([statusName(31), statusName(32), posixCode(32), posixCode(2 ** 32 - 1)]).toEqual([
    'NO_MATCHING_BYTE_RANGE_LOCK',
    'status 32',
    'EIO',
    'EIO',
  ])
  expect([packetTypeName(201), packetTypeName(99)]).toEqual(['EXTENDED_REPLY', 'packet type 99'])
})
