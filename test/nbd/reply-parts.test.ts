import { describe, expect, test } from 'vitest'
import { BlockDeviceError, type BlockDeviceErrorCode } from '../../packages/blockdev/src/errors.ts'
import { BufferPool } from '../../packages/nbd/src/buffer-pool.ts'
import { errorText, nbdErrorOf } from '../../packages/nbd/src/error-mapping.ts'
import { preferredBlockBytes, transmissionFlags } from '../../packages/nbd/src/export.ts'
import { nbdUri } from '../../packages/nbd/src/node-listen.ts'
import { Outbox } from '../../packages/nbd/src/outbox.ts'
import { CMD, concat, ERR } from './support/messages.ts'

describe('error values', () => {
  const codes: readonly [BlockDeviceErrorCode, number][] = [
    ['EIO', ERR.EIO],
    ['EROFS', ERR.EPERM],
    ['EPERM', ERR.EPERM],
    ['EACCES', ERR.EPERM],
    ['EINVAL', ERR.EINVAL],
    ['ENOSPC', ERR.ENOSPC],
    ['ENOENT', ERR.EIO],
    ['EEXIST', ERR.EIO],
    ['EISDIR', ERR.EIO],
    ['EBADF', ERR.EIO],
    ['ABORT_ERR', ERR.EIO],
  ]

  test.each(codes)('%s of a device is %i', (code, error) => {
    expect(nbdErrorOf(new BlockDeviceError(code, 'x'), CMD.WRITE)).toBe(error)
  })

  test('ENOTSUP is said of TRIM and WRITE_ZEROES only', () => {
    const error = new BlockDeviceError('ENOTSUP', 'x')
    expect(nbdErrorOf(error, CMD.TRIM)).toBe(ERR.ENOTSUP)
    expect(nbdErrorOf(error, CMD.WRITE_ZEROES)).toBe(ERR.ENOTSUP)
    for (const type of [CMD.READ, CMD.WRITE, CMD.FLUSH, CMD.CACHE])
      expect(nbdErrorOf(error, type)).toBe(ERR.EINVAL)
  })

  test('EDQUOT and EFBIG are ENOSPC, a failed allocation is ENOMEM, and whatever else is thrown is EIO', () => {
    expect(nbdErrorOf(Object.assign(new Error(), { code: 'EDQUOT' }), CMD.WRITE)).toBe(ERR.ENOSPC)
    expect(nbdErrorOf(Object.assign(new Error(), { code: 'EFBIG' }), CMD.WRITE)).toBe(ERR.ENOSPC)
    expect(nbdErrorOf(new RangeError('Array buffer allocation failed'), CMD.READ)).toBe(ERR.ENOMEM)
    for (const thrown of [new Error('x'), undefined, null, 'EPERM', { code: 1 }])
      expect(nbdErrorOf(thrown, CMD.READ)).toBe(ERR.EIO)
  })

  test('the text of a device error is shown without control characters and within 4096 bytes', () => {
    const shown = new TextDecoder().decode(errorText(new BlockDeviceError('EIO', 'bad\u001b[31m')))
    expect(shown).toBe('bad\\u{1b}[31m')
    for (const char of ['\u0000', '\u202e', '\u20ac', '\u{1f600}']) {
      expect(errorText(new BlockDeviceError('EIO', char.repeat(9000))).length).toBeLessThanOrEqual(4096)
    }
  })

  test('the text of any other error is not shown', () => {
    expect(new TextDecoder().decode(errorText(new Error('/home/alice/secret')))).toBe('the device failed')
  })
})

describe('transmission flags', () => {
  const all = { readOnly: false, canTrim: true, structuredReplies: true }

  test('offer what the server does', () => {
    // has flags, flush, FUA, trim, write zeroes, DF, multi-conn, cache, fast zero
    expect(transmissionFlags(all)).toBe(0b1101_1110_1101)
    expect(transmissionFlags({ ...all, canTrim: false })).toBe(0b1101_1100_1101)
  })

  test('offer DF only with structured replies, and nothing that writes on a read-only export', () => {
    expect(transmissionFlags({ ...all, structuredReplies: false })).toBe(0b1101_0110_1101)
    expect(transmissionFlags({ ...all, readOnly: true })).toBe(0b0101_1000_1111)
  })
})

describe('preferred block size', () => {
  test.each([
    [1, 512],
    [512, 512],
    [1000, 512],
    [4096, 4096],
    [261_120, 131_072],
    [262_144, 262_144],
    [2 ** 40, 33_554_432],
  ])('of a device that prefers %i bytes is the power of two %i', (device, offered) => {
    expect(preferredBlockBytes({ preferredBlockSize: device })).toBe(offered)
  })
})

describe('URIs', () => {
  test.each([
    [{ socketPath: '/run/nbd.sock' }, '', 'nbd+unix:///?socket=/run/nbd.sock'],
    [{ socketPath: '/run/a b&c?.sock' }, 'disk 1', 'nbd+unix:///disk%201?socket=/run/a%20b%26c%3F.sock'],
    [{ host: '127.0.0.1', port: 10809 }, 'disk', 'nbd://127.0.0.1/disk'],
    [{ host: '::1', port: 5000 }, '/disk', 'nbd://[::1]:5000//disk'],
    [{ host: '127.0.0.1', port: 5000 }, 'Größe', 'nbd://127.0.0.1:5000/Gr%C3%B6%C3%9Fe'],
  ])('of %o and %s is %s', (address, name, uri) => {
    expect(nbdUri(address, name)).toBe(uri)
    expect(new URL(uri).href).toBe(uri)
  })
})

describe('buffer pool', () => {
  test('gives a buffer again, and never more bytes than it may keep', () => {
    const pool = new BufferPool(10_000)
    const first = pool.take(4096)
    const second = pool.take(4096)
    const third = pool.take(4096)
    for (const buffer of [first, second, third]) pool.give(buffer)
    expect(pool.freeBytes).toBe(2 * (4096 + 64))
    expect([pool.take(100), pool.take(100)]).toEqual([second, first])
    expect(pool.freeBytes).toBe(0)
  })

  test('shows nothing of an earlier use in a zeroed buffer', () => {
    const pool = new BufferPool()
    const used = pool.take(8000).fill(0xcc)
    pool.give(used)
    const again = pool.takeZeroed(8000)
    expect(again).toBe(used)
    expect(again.subarray(0, 8000).every((byte) => byte === 0)).toBe(true)
  })

  test('does not keep buffers of more than 2 MiB', () => {
    const pool = new BufferPool()
    pool.give(pool.take(3 << 20))
    expect(pool.freeBytes).toBe(0)
    pool.give(pool.take(2 << 20))
    expect(pool.freeBytes).toBe((2 << 20) + 64)
    pool.clear()
    expect(pool.freeBytes).toBe(0)
  })
})

describe('outbox', () => {
  function write(outbox: Outbox, ...bytes: number[]): void {
    const at = outbox.reserve(bytes.length)
    outbox.slab.set(bytes, at)
  }

  test('puts small replies into one piece and keeps the order around lent buffers', () => {
    const pool = new BufferPool()
    const outbox = new Outbox(pool)
    write(outbox, 1, 2)
    write(outbox, 3)
    const lent = pool.take(100)
    lent.set([4, 5])
    outbox.lend(lent, 2)
    write(outbox, 6)
    outbox.endRequest(10)
    outbox.endRequest(5)
    const batch = outbox.take()
    expect(batch.pieces.length).toBe(3)
    expect(concat(...batch.pieces)).toEqual(Uint8Array.of(1, 2, 3, 4, 5, 6))
    expect(batch).toMatchObject({ requests: 2, costBytes: 15 })
    expect(batch.buffers).toEqual([lent])
    expect(outbox.isEmpty).toBe(true)
  })

  test('never writes into what was taken', () => {
    const outbox = new Outbox(new BufferPool())
    const batches: Uint8Array[] = []
    for (let i = 0; i < 3000; i++) {
      write(outbox, ...new Array(16).fill(i & 255))
      if (i % 7 === 6) batches.push(...outbox.take().pieces)
    }
    batches.push(...outbox.take().pieces)
    const all = concat(...batches)
    expect(all.length).toBe(48_000)
    expect(all.every((byte, at) => byte === (Math.floor(at / 16) & 255))).toBe(true)
  })

  test('gives lent buffers back once closed, and takes no more', () => {
    const pool = new BufferPool()
    const outbox = new Outbox(pool)
    outbox.lend(pool.take(100), 100)
    outbox.close()
    outbox.lend(pool.take(5000), 100)
    write(outbox, 1)
    expect(outbox.take().pieces).toEqual([])
    expect(pool.freeBytes).toBe(4096 + 64 + 8192 + 64)
  })
})
