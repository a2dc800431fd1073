import { describe, expect, test } from 'vitest'
import { BlockDeviceError } from '../../packages/blockdev/src/errors.ts'
import { FileDevice } from '../../packages/blockdev/src/file-device.ts'
import type { FileDeviceOptions } from '../../packages/blockdev/src/file-device-options.ts'
import { maxIdleAttempts } from '../../packages/blockdev/src/layers/write-retry.ts'
import { OutcomeUnknownError } from '../../packages/blockdev/src/random-access-file.ts'
import { gate, pattern, rejection, ScriptedFile, settle } from './scripted-file.ts'

function deviceOn(file: ScriptedFile, options: Partial<FileDeviceOptions> = {}) {
  return new FileDevice({
    files: [file],
    size: file.bytes.length,
    kind: file.kind,
    readOnly: false,
    ...options,
  })
}

async function readAt(device: FileDevice, offset: number, length: number): Promise<Uint8Array> {
  // Canary bytes: whatever is not filled shows.
  const into = new Uint8Array(length).fill(0xcc)
  await device.read(offset, into)
  return into
}

const failure = (code: string, message = 'Failure') => Object.assign(new Error(message), { code })

describe('bounds', () => {
  test.each([
    ['a negative offset', -1, 10],
    ['a fraction', 0.5, 10],
    ['an offset that is no safe integer', 2 ** 53, 0],
    ['an end that is no safe integer', 2 ** 53 - 1, 10],
    ['not a number', Number.NaN, 10],
  ])('refuses %s with EINVAL, and asks the storage nothing', async (_, offset, length) => {
    const file = new ScriptedFile(1000)
    const device = deviceOn(file)
    for (const call of [
      device.read(offset, new Uint8Array(length)),
      device.write(offset, new Uint8Array(length)),
      device.writeZeroes(offset, length),
    ]) {
      expect(await rejection(call)).toMatchObject({ code: 'EINVAL', offset, length })
    }
    expect(file.calls).toEqual([])
  })

  test('refuses what ends behind the device, and takes what ends at its end', async () => {
    const file = new ScriptedFile(pattern(4096))
    const device = deviceOn(file)
    expect(await readAt(device, 4000, 96)).toEqual(file.bytes.subarray(4000))
    expect(await rejection(device.read(4000, new Uint8Array(97)))).toMatchObject({
      code: 'EINVAL',
      offset: 4000,
      length: 97,
    })
    await device.write(4095, new Uint8Array(1))
    expect(await rejection(device.write(4095, new Uint8Array(2)))).toMatchObject({
      code: 'EINVAL',
      offset: 4095,
      length: 2,
    })
    expect(await rejection(device.writeZeroes(4095, 2))).toMatchObject({ code: 'EINVAL' })
    expect(() => device.extents(4095, 2)).toThrow(BlockDeviceError)
    expect(file.bytes.length).toBe(4096)
  })

  test('calls of no bytes succeed inside the device and ask the storage nothing', async () => {
    const file = new ScriptedFile(100)
    const device = deviceOn(file)
    await device.read(100, new Uint8Array(0))
    await device.write(100, new Uint8Array(0))
    await device.writeZeroes(0, 0)
    expect(file.calls).toEqual([])
  })
})

describe('zero fill', () => {
  test('1000-byte file, 512 bytes at 512: 488 bytes and 24 zeros', async () => {
    const content = pattern(1000)
    const device = deviceOn(new ScriptedFile(content), { readOnly: true })
    expect(device.size).toBe(1000)
    const into = await readAt(device, 512, 512)
    expect(into.subarray(0, 488)).toEqual(content.subarray(512))
    expect(into.subarray(488)).toEqual(new Uint8Array(24))
    expect(await readAt(device, 1000, 24)).toEqual(new Uint8Array(24))
    expect(await rejection(device.read(1000, new Uint8Array(25)))).toMatchObject({ code: 'EINVAL' })
  })

  test('a file that grew behind our back: its new bytes are not part of the device', async () => {
    const content = pattern(1000)
    const file = new ScriptedFile(content)
    const device = deviceOn(file)
    file.bytes = pattern(5000)
    expect((await readAt(device, 900, 124)).subarray(100)).toEqual(new Uint8Array(24))
  })

  test('a file of no bytes (/dev/zero) is a device of no bytes', async () => {
    const device = deviceOn(new ScriptedFile(0), { kind: 'character-device', readOnly: true })
    expect(device.size).toBe(0)
    expect(await rejection(device.read(0, new Uint8Array(1)))).toMatchObject({ code: 'EINVAL' })
  })

  test('truncated underneath: EIO with the range, and the device goes on where there is data', async () => {
    const content = pattern(64 * 1024)
    const file = new ScriptedFile(content)
    const device = deviceOn(file, { readAhead: false })
    file.bytes = content.slice(0, 20_000)
    const error = await rejection(device.read(16_384, new Uint8Array(8192)))
    expect(error).toMatchObject({ code: 'EIO', offset: 16_384, length: 8192 })
    expect(error.message).toMatch(/became shorter: it ends at byte 20000, and had 65536 bytes/)
    expect(await readAt(device, 0, 16_384)).toEqual(content.subarray(0, 16_384))
  })

  test('truncated underneath: zeros where they were asked for, with one warning', async () => {
    const content = pattern(64 * 1024)
    const file = new ScriptedFile(content)
    const warnings: string[] = []
    const device = deviceOn(file, {
      onShrink: 'zeros',
      onWarning: (message) => warnings.push(message),
      readAhead: false,
    })
    file.bytes = content.slice(0, 20_000)
    for (let i = 0; i < 3; i++) {
      const into = await readAt(device, 16_384, 8192)
      expect(into.subarray(0, 20_000 - 16_384)).toEqual(content.subarray(16_384, 20_000))
      expect(into.subarray(20_000 - 16_384)).toEqual(new Uint8Array(16_384 + 8192 - 20_000))
    }
    expect(warnings).toHaveLength(1)
    expect(warnings[0]).toMatch(/ends at byte 20000/)
  })

  test('a shrunk file is not made to grow again by a write', async () => {
    const file = new ScriptedFile(pattern(8192))
    const device = deviceOn(file, { readAhead: false })
    file.bytes = file.bytes.slice(0, 1000)
    await rejection(device.read(0, new Uint8Array(2000)))
    expect(await rejection(device.write(4096, new Uint8Array(512)))).toMatchObject({
      code: 'EIO',
      offset: 4096,
      length: 512,
    })
    expect(file.bytes.length).toBe(1000)
    await device.write(0, new Uint8Array(512))
    file.bytes = pattern(8192)
    await device.write(4096, new Uint8Array(512))
  })

  test('an end of file that the file itself denies is asked again once', async () => {
    const content = pattern(8192)
    const file = new ScriptedFile(content)
    const device = deviceOn(file, { readAhead: false })
    let stumbles = 1
    file.onRead = (_, length) => (stumbles-- > 0 ? length - 100 : undefined)
    expect(await readAt(device, 0, 4096)).toEqual(content.subarray(0, 4096))
    file.onRead = () => 10
    expect(await rejection(device.read(0, new Uint8Array(4096)))).toMatchObject({ code: 'EIO' })
  })
})

describe('writes', () => {
  test('a write taken in part goes on from its first unacknowledged byte, at its own offset', async () => {
    const file = new ScriptedFile(10_000)
    const device = deviceOn(file)
    const taken = [100, 0, 0, 250, 0]
    file.onWrite = () => taken.shift()
    const data = pattern(1000)
    await device.write(4000, data)
    expect(
      file.calls.filter((entry) => entry.call === 'write').map(({ offset, length }) => [offset, length]),
    ).toEqual([
      [4000, 1000],
      [4100, 900],
      [4100, 900],
      [4100, 900],
      [4350, 650],
      [4350, 650],
    ])
    const expected = new Uint8Array(10_000)
    expected.set(data, 4000)
    expect(file.bytes).toEqual(expected)
    expect(device.stats.writeRetries).toBe(5)
  })

  test('a retry is a forced seek: read-ahead is dropped', async () => {
    const file = new ScriptedFile(pattern(1 << 20))
    const device = deviceOn(file)
    for (let i = 0; i < 4; i++) await readAt(device, i * 4096, 4096)
    file.onWrite = () => {
      file.onWrite = () => undefined
      return 0
    }
    await device.write(900_000, new Uint8Array(10))
    expect(device.stats.readAhead.droppedByForce).toBe(1)
  })

  test('a write that is never taken fails with EIO after some attempts', async () => {
    const file = new ScriptedFile(1000)
    const device = deviceOn(file)
    file.onWrite = () => 0
    expect(await rejection(device.write(0, new Uint8Array(100)))).toMatchObject({
      code: 'EIO',
      offset: 0,
      length: 100,
    })
    expect(file.count('write')).toBe(maxIdleAttempts)
  })

  test.each([[-1], [101], [0.5], [Number.NaN]])(
    'an acknowledgement of %s bytes of 100 is an error, not progress',
    async (taken) => {
      const file = new ScriptedFile(1000)
      const device = deviceOn(file)
      file.write = async () => taken
      expect(await rejection(device.write(0, new Uint8Array(100)))).toMatchObject({ code: 'EIO' })
    },
  )

  test('a refused write is EIO with offset, length and cause, and is not sent again; the device goes on', async () => {
    const file = new ScriptedFile(pattern(1000))
    const device = deviceOn(file)
    const cause = failure('EIO')
    file.onWrite = () => {
      throw cause
    }
    const error = await rejection(device.write(100, new Uint8Array(100)))
    expect(error).toMatchObject({ code: 'EIO', offset: 100, length: 100, cause })
    expect(error).toBeInstanceOf(BlockDeviceError)
    expect(file.count('write')).toBe(1)
    file.onWrite = () => undefined
    await device.write(100, new Uint8Array(100))
    await device.flush()
  })

  test.each([
    [0, 'ENOSPC'],
    [99, 'ENOSPC'],
    [100, 'EIO'],
    [undefined, 'EIO'],
  ])(
    'a refusal without a reason and %s bytes of room on the file system is %s',
    async (availableBytes, code) => {
      const file = new ScriptedFile(1000)
      const device = deviceOn(file)
      file.availableBytes = availableBytes
      file.onWrite = () => {
        throw failure('EIO')
      }
      expect(await rejection(device.write(0, new Uint8Array(100)))).toMatchObject({
        code,
        offset: 0,
        length: 100,
      })
    },
  )

  test.each([
    ['ENOSPC', 'ENOSPC'],
    ['EDQUOT', 'ENOSPC'],
    ['EACCES', 'EACCES'],
    ['EROFS', 'EROFS'],
    ['ERR_SSH_CONNECTION_LOST', 'EIO'],
    ['EWHATEVER', 'EIO'],
  ])('the storage error %s becomes %s', async (raised, code) => {
    const file = new ScriptedFile(1000)
    const device = deviceOn(file)
    file.onWrite = file.onRead = () => {
      throw failure(raised)
    }
    expect(await rejection(device.write(0, new Uint8Array(100)))).toMatchObject({
      code,
      offset: 0,
      length: 100,
    })
    expect(await rejection(device.read(8, new Uint8Array(10)))).toMatchObject({ code, offset: 8, length: 10 })
  })

  test('a read-only device refuses every change with EROFS before it asks the storage', async () => {
    const file = new ScriptedFile(1000)
    const device = deviceOn(file, { readOnly: true })
    for (const call of [device.write(0, new Uint8Array(1)), device.writeZeroes(0, 1), device.resize(2000)]) {
      expect(await rejection(call)).toMatchObject({ code: 'EROFS' })
    }
    await device.flush()
    await device.close()
    expect(file.calls.map(({ call }) => call)).toEqual(['close'])
  })

  test('a write never answered keeps its range closed to other writes; reads and other ranges go on', async () => {
    const file = new ScriptedFile(pattern(4096))
    const device = deviceOn(file)
    file.onWrite = () => {
      throw new OutcomeUnknownError(failure('ERR_SSH_TIMEOUT', 'no answer within 60000 ms'))
    }
    const error = await rejection(device.write(1024, new Uint8Array(512)))
    expect(error).toMatchObject({
      code: 'EIO',
      offset: 1024,
      length: 512,
      cause: { code: 'ERR_SSH_TIMEOUT' },
    })
    file.onWrite = () => undefined
    expect(await rejection(device.write(1535, new Uint8Array(1)))).toMatchObject({
      code: 'EIO',
      message: expect.stringMatching(/may still arrive/),
    })
    expect(await rejection(device.writeZeroes(0, 4096))).toMatchObject({ code: 'EIO' })
    expect(await rejection(device.resize(100, { shrink: true }))).toMatchObject({ code: 'EIO' })
    await device.write(1536, new Uint8Array(1))
    await readAt(device, 1024, 512)
  })
})

describe('order', () => {
  test('overlapping calls take effect in the order they were made', async () => {
    const file = new ScriptedFile(4096)
    file.hops = () => Math.floor(Math.random() * 8)
    const device = deviceOn(file)
    const results: Uint8Array[] = []
    const calls: Promise<void>[] = []
    for (let i = 1; i <= 20; i++) {
      calls.push(device.write(0, new Uint8Array(100).fill(i)))
      const into = new Uint8Array(100)
      results.push(into)
      calls.push(device.read(0, into))
    }
    await Promise.all(calls)
    results.forEach((into, i) => {
      expect(into).toEqual(new Uint8Array(100).fill(i + 1))
    })
    expect(file.violations).toEqual([])
  })

  test('bytes in flight are bounded, and all calls get through', async () => {
    const file = new ScriptedFile(1 << 20)
    let inFlight = 0
    let most = 0
    file.onWrite = async (_, length) => {
      inFlight += length
      most = Math.max(most, inFlight)
      await settle()
      inFlight -= length
      return undefined
    }
    const device = deviceOn(file, { maxInFlightBytes: 100_000 })
    await Promise.all(
      Array.from({ length: 64 }, (_, i) => device.write(i * 16_384, new Uint8Array(16_384).fill(i))),
    )
    expect(most).toBeLessThanOrEqual(100_000)
    expect(most).toBeGreaterThan(50_000)
    for (let i = 0; i < 64; i++) expect(file.bytes[i * 16_384]).toBe(i)
  })
})

describe('cancelling', () => {
  test('a call whose signal is aborted before it does nothing', async () => {
    const file = new ScriptedFile(1000)
    const device = deviceOn(file)
    const signal = AbortSignal.abort(new Error('no need'))
    for (const call of [
      device.read(0, new Uint8Array(1), { signal }),
      device.write(0, new Uint8Array(1), { signal }),
      device.flush({ signal }),
    ]) {
      expect(await rejection(call)).toMatchObject({ code: 'ABORT_ERR', cause: { message: 'no need' } })
    }
    expect(file.calls).toEqual([])
  })

  test('a call that waits for its turn leaves at once, without a trace', async () => {
    const file = new ScriptedFile(1000)
    const device = deviceOn(file)
    const held = gate()
    file.onWrite = () => held.opened as Promise<undefined>
    const first = device.write(0, new Uint8Array(100).fill(1))
    const abort = new AbortController()
    const second = device.write(50, new Uint8Array(100).fill(2), { signal: abort.signal })
    await settle()
    abort.abort()
    expect(await rejection(second)).toMatchObject({ code: 'ABORT_ERR', offset: 50, length: 100 })
    held.open()
    await first
    expect(file.count('write')).toBe(1)
    expect(file.bytes[100]).toBe(0)
  })

  test('a write cancelled under way ends at once when its bytes are away, and keeps its range until the answer', async () => {
    const file = new ScriptedFile(1000)
    const device = deviceOn(file)
    const held = gate()
    file.onWrite = () => held.opened as Promise<undefined>
    const abort = new AbortController()
    const first = device.write(0, new Uint8Array(100).fill(1), { signal: abort.signal })
    await settle()
    abort.abort()
    expect(await rejection(first)).toMatchObject({ code: 'ABORT_ERR', offset: 0, length: 100 })
    file.onWrite = () => undefined
    const second = device.write(0, new Uint8Array(100).fill(2))
    const closed = device.close()
    await settle()
    expect(file.count('write')).toBe(1)
    held.open()
    await second
    expect(file.bytes[0]).toBe(2)
    expect(file.violations).toEqual([])
    await closed
  })

  test('a write cancelled before its bytes are away goes on to borrow the buffer, and ends when it does not any more', async () => {
    const file = new ScriptedFile(1000)
    file.sendsAtOnce = false
    const device = deviceOn(file)
    const held = gate()
    file.onWrite = () => held.opened as Promise<undefined>
    const abort = new AbortController()
    let ended = false
    const write = rejection(device.write(0, new Uint8Array(100), { signal: abort.signal })).then((error) => {
      ended = true
      return error
    })
    await settle()
    abort.abort()
    await settle()
    expect(ended).toBe(false)
    held.open()
    expect(await write).toMatchObject({ code: 'ABORT_ERR' })
  })

  test('writeZeroes cancelled under way ends at once, and sends no further piece', async () => {
    const file = new ScriptedFile(new Uint8Array(4 << 20).fill(1))
    const device = deviceOn(file)
    const held = gate()
    file.onWrite = () => held.opened as Promise<undefined>
    const abort = new AbortController()
    const zeroing = device.writeZeroes(0, 4 << 20, { signal: abort.signal })
    await settle()
    abort.abort()
    expect(await rejection(zeroing)).toMatchObject({ code: 'ABORT_ERR' })
    held.open()
    await device.close()
    expect(file.count('write')).toBe(1)
    expect(device.stats.bytesInFlight).toBe(0)
  })

  test('a read that waits for read-ahead can be cancelled; the stream goes on', async () => {
    const content = pattern(1 << 20)
    const file = new ScriptedFile(content)
    const device = deviceOn(file)
    const held = gate()
    file.onRead = async (offset) => {
      if (offset >= 8192) await held.opened
      return undefined
    }
    await readAt(device, 0, 4096)
    await readAt(device, 4096, 4096)
    const abort = new AbortController()
    const cancelled = device.read(8192, new Uint8Array(4096), { signal: abort.signal })
    const other = readAt(device, 12_288, 4096)
    await settle()
    abort.abort()
    expect(await rejection(cancelled)).toMatchObject({ code: 'ABORT_ERR', offset: 8192 })
    held.open()
    expect(await other).toEqual(content.subarray(12_288, 16_384))
    await device.close()
  })

  test('a cancelled flush ends for its caller only', async () => {
    const file = new ScriptedFile(1000)
    const device = deviceOn(file)
    const held = gate()
    file.onSync = () => held.opened as Promise<undefined>
    await device.write(0, new Uint8Array(1))
    const abort = new AbortController()
    const cancelled = device.flush({ signal: abort.signal })
    const other = device.flush()
    await settle()
    abort.abort()
    expect(await rejection(cancelled)).toMatchObject({ code: 'ABORT_ERR' })
    held.open()
    await other
    expect(file.count('sync')).toBe(1)
  })
})

describe('resize', () => {
  test('grows, drains what is under way before, and lets later calls see the new size', async () => {
    const file = new ScriptedFile(pattern(1000))
    file.hops = () => 4
    const device = deviceOn(file)
    const writing = device.write(900, new Uint8Array(100).fill(7))
    const resizing = device.resize(4096)
    const late = device.write(4000, new Uint8Array(96).fill(9))
    await Promise.all([writing, resizing, late])
    expect(device.size).toBe(4096)
    expect(file.bytes[950]).toBe(7)
    expect(file.bytes[4095]).toBe(9)
    expect(device.extents(0, 4096)).toEqual([
      { offset: 0, length: 1000, zero: false },
      { offset: 1000, length: 3000, zero: true },
      { offset: 4000, length: 96, zero: false },
    ])
  })

  test('a file with content grows by one zero byte at its end: there are servers that empty it when its size is set', async () => {
    const file = new ScriptedFile(pattern(1000))
    await deviceOn(file).resize(5000)
    expect(file.count('setSize')).toBe(0)
    expect(file.calls.find(({ call }) => call === 'write')).toMatchObject({ offset: 4999, length: 1 })
    expect(file.bytes.subarray(0, 1000)).toEqual(pattern(1000))
  })

  test('where the byte is refused the size is set instead; where neither helps it fails', async () => {
    const file = new ScriptedFile(pattern(1000))
    const device = deviceOn(file)
    file.onWrite = () => {
      throw failure('EACCES')
    }
    await device.resize(5000)
    expect(file.bytes.length).toBe(5000)
    file.onSetSize = () => 5000
    expect(await rejection(device.resize(6000))).toMatchObject({ code: 'EACCES' })
    expect(device.size).toBe(5000)
  })

  test('an empty file gets its size set, verified, else one zero byte', async () => {
    const file = new ScriptedFile(0)
    const device = deviceOn(file)
    file.onSetSize = () => 0
    await device.resize(3000)
    expect(file.calls.map(({ call }) => call)).toEqual(['setSize', 'status', 'write', 'status'])
    expect([device.size, file.bytes.length]).toEqual([3000, 3000])
  })

  test('shrinks only when asked', async () => {
    const file = new ScriptedFile(pattern(1000))
    const device = deviceOn(file)
    expect(await rejection(device.resize(999))).toMatchObject({ code: 'EINVAL' })
    expect(file.bytes.length).toBe(1000)
    await device.resize(500, { shrink: true })
    expect([device.size, file.bytes.length]).toEqual([500, 500])
    expect(await rejection(device.write(500, new Uint8Array(1)))).toMatchObject({ code: 'EINVAL' })
  })

  test('a storage that says OK and has another size is caught', async () => {
    const file = new ScriptedFile(pattern(1000))
    const device = deviceOn(file)
    file.onSetSize = () => 0
    expect(await rejection(device.resize(500, { shrink: true }))).toMatchObject({
      code: 'EIO',
      message: expect.stringMatching(/reports a size of 0/),
    })
    expect(device.size).toBe(1000)
  })

  test('a block device has a fixed size', async () => {
    const file = new ScriptedFile(1000)
    file.kind = 'block-device'
    expect(await rejection(deviceOn(file).resize(2000))).toMatchObject({ code: 'ENOTSUP' })
  })
})

describe('growing by writes', () => {
  test('writes past the end are refused unless growing was asked for; then the size follows', async () => {
    const file = new ScriptedFile(pattern(1000))
    const device = deviceOn(file, { grow: true })
    await device.write(3000, new Uint8Array(100).fill(5))
    expect(device.size).toBe(3100)
    expect(device.extents(0, 3100)).toEqual([
      { offset: 0, length: 1000, zero: false },
      { offset: 1000, length: 2000, zero: true },
      { offset: 3000, length: 100, zero: false },
    ])
  })

  test.each([
    ['lower one first', 1000, 3000],
    ['higher one first', 3000, 1000],
  ])('a gap that another growing write may have reached is not called zero: %s', async (_, slow, quick) => {
    const file = new ScriptedFile(0)
    const device = deviceOn(file, { grow: true })
    const held = gate()
    file.onWrite = async (offset) => {
      if (offset === slow) await held.opened
      return undefined
    }
    const first = device.write(slow, new Uint8Array(100).fill(1))
    await device.write(quick, new Uint8Array(100).fill(2))
    held.open()
    await first
    expect(device.size).toBe(3100)
    for (const { offset, length, zero } of device.extents(0, 3100)) {
      if (zero) expect(file.bytes.subarray(offset, offset + length)).toEqual(new Uint8Array(length))
    }
  })

  test('what a failed growing write may have left is not called zero', async () => {
    const file = new ScriptedFile(0)
    const device = deviceOn(file, { grow: true })
    file.onWrite = (offset, length) => {
      file.bytes = new Uint8Array(offset + length).fill(9)
      throw failure('EIO')
    }
    await rejection(device.write(1000, new Uint8Array(1000)))
    expect(device.size).toBe(0)
    file.onWrite = () => undefined
    await device.write(3000, new Uint8Array(10))
    for (const { offset, length, zero } of device.extents(0, 3010)) {
      if (zero) expect(file.bytes.subarray(offset, offset + length)).toEqual(new Uint8Array(length))
    }
    await device.writeZeroes(0, 2000)
    expect(file.bytes.subarray(0, 2000)).toEqual(new Uint8Array(2000))
  })

  test('writeZeroes past the end also zeroes what a failed growing write may have left there', async () => {
    const file = new ScriptedFile(0)
    const device = deviceOn(file, { grow: true })
    file.onWrite = (offset, length) => {
      file.bytes = new Uint8Array(offset + length).fill(9)
      throw failure('EIO')
    }
    await rejection(device.write(1000, new Uint8Array(1000)))
    file.onWrite = () => undefined
    await device.writeZeroes(0, 4000)
    expect(file.bytes).toEqual(new Uint8Array(4000))
  })

  test('writeZeroes past the end sends one byte', async () => {
    const file = new ScriptedFile(pattern(1000))
    const device = deviceOn(file, { grow: true })
    await device.writeZeroes(2000, 1 << 20)
    expect(device.size).toBe(2000 + (1 << 20))
    expect(file.calls.filter(({ call }) => call === 'write')).toEqual([
      { call: 'write', offset: 1999 + (1 << 20), length: 1 },
    ])
  })
})

describe('writeZeroes and extents', () => {
  test('zeros go out where there may be data, and nowhere else', async () => {
    const file = new ScriptedFile(0)
    file.bytes = new Uint8Array(3 << 20)
    const device = deviceOn(file, { fresh: true })
    expect(device.hasZeroInit).toBe(true)
    await device.write(1000, pattern(5000))
    file.calls.length = 0
    await device.writeZeroes(0, 3 << 20)
    expect(file.calls).toEqual([{ call: 'write', offset: 1000, length: 5000 }])
    expect(file.bytes.every((byte) => byte === 0)).toBe(true)
    expect(device.extents(0, device.size)).toEqual([{ offset: 0, length: 3 << 20, zero: true }])
  })

  test('of an image that was there before nothing is known to be zero', async () => {
    const file = new ScriptedFile(4096)
    const device = deviceOn(file)
    expect(device.hasZeroInit).toBe(false)
    expect(device.extents(0, 4096)).toEqual([{ offset: 0, length: 4096, zero: false }])
    await device.writeZeroes(512, 512)
    expect(device.extents(500, 600)).toEqual([
      { offset: 500, length: 12, zero: false },
      { offset: 512, length: 512, zero: true },
      { offset: 1024, length: 76, zero: false },
    ])
  })

  test('a fresh file that the server does not call a regular one has no zero init', () => {
    const file = new ScriptedFile(4096)
    file.kind = 'unknown'
    const device = deviceOn(file, { fresh: true })
    expect(device.hasZeroInit).toBe(false)
    expect(device.extents(0, 4096)).toEqual([{ offset: 0, length: 4096, zero: false }])
  })

  test('a failed write makes its range data, whatever it was', async () => {
    const file = new ScriptedFile(4096)
    const device = deviceOn(file, { fresh: true })
    file.onWrite = () => {
      throw failure('EIO')
    }
    await rejection(device.write(0, new Uint8Array(512)))
    expect(device.extents(0, 1024)[0]).toEqual({ offset: 0, length: 512, zero: false })
  })

  test('long ranges go out in pieces', async () => {
    const file = new ScriptedFile(new Uint8Array(5 << 20).fill(1))
    const device = deviceOn(file)
    await device.writeZeroes(3, (5 << 20) - 7)
    expect(file.calls.every(({ length }) => length <= 1 << 20)).toBe(true)
    expect(file.bytes.subarray(0, 3)).toEqual(new Uint8Array(3).fill(1))
    expect(file.bytes.subarray(3, -4).every((byte) => byte === 0)).toBe(true)
    expect(file.bytes.subarray(-4)).toEqual(new Uint8Array(4).fill(1))
  })

  test('discard is unsupported, and changes nothing', async () => {
    const file = new ScriptedFile(pattern(1000))
    const device = deviceOn(file)
    expect(await rejection(device.discard(0, 512))).toMatchObject({ code: 'ENOTSUP', offset: 0, length: 512 })
    expect(file.calls).toEqual([])
    expect(device.extents(0, 512)).toEqual([{ offset: 0, length: 512, zero: false }])
  })
})

describe('several handles', () => {
  test('reads avoid a handle that is in the middle of an fsync', async () => {
    const content = pattern(8192)
    const main = new ScriptedFile(content)
    const spare = new ScriptedFile(content)
    const device = new FileDevice({
      files: [main, spare],
      size: 8192,
      kind: 'file',
      readOnly: false,
      readAhead: false,
    })
    const held = gate()
    main.onSync = () => held.opened as Promise<undefined>
    await device.write(0, content.subarray(0, 512))
    const flushing = device.flush()
    await settle()
    const before = spare.count('read')
    for (let i = 1; i < 5; i++) await readAt(device, i * 1024, 100)
    expect(spare.count('read')).toBe(before + 4)
    expect(spare.count('write')).toBe(0)
    held.open()
    await flushing
    expect(spare.count('sync')).toBe(0)
    await device.close()
    expect([main.closed, spare.closed]).toEqual([true, true])
  })

  test('a handle can be added until close, where it is proved to be of the same file', async () => {
    const first = new ScriptedFile(100)
    const answers = [false, true]
    const held = gate()
    const asked: unknown[] = []
    const isSameFile = async (one: unknown, other: unknown) => {
      asked.push(one, other)
      await held.opened
      return answers.shift()!
    }
    const device = deviceOn(first, { isSameFile })
    const spare = new ScriptedFile(100)
    const refused = device.addReader(spare)
    const written = device.write(0, new Uint8Array(1))
    await settle()
    expect(first.count('write')).toBe(0)
    held.open()
    expect(await refused).toBe(false)
    await written
    expect(await device.addReader(spare)).toBe(true)
    expect(asked).toEqual([first, spare, first, spare])
    expect(device.handles).toBe(2)
    await device.close()
    expect(spare.closed).toBe(true)
    expect(await device.addReader(new ScriptedFile(100))).toBe(false)
  })

  test('without a proof no handle is added', async () => {
    const device = deviceOn(new ScriptedFile(100))
    expect(await device.addReader(new ScriptedFile(100))).toBe(false)
  })
})

describe('close', () => {
  test('waits for what is in flight, flushes when written, closes, releases, in this order', async () => {
    const file = new ScriptedFile(1000)
    file.hops = () => 5
    const order: string[] = []
    const device = deviceOn(file, {
      release: async () => {
        order.push('release')
      },
    })
    const writing = device.write(0, new Uint8Array(10)).then(() => order.push('written'))
    const closing = device.close().then(() => order.push('closed'))
    expect(await rejection(device.read(0, new Uint8Array(1)))).toMatchObject({ code: 'EBADF' })
    await Promise.all([writing, closing])
    expect(file.calls.map(({ call }) => call)).toEqual(['write', 'sync', 'close'])
    expect(order).toEqual(['written', 'release', 'closed'])
  })

  test('is idempotent, also as asynchronous disposal', async () => {
    const file = new ScriptedFile(1000)
    const device = deviceOn(file)
    await Promise.all([device.close(), device.close(), device[Symbol.asyncDispose]()])
    expect(file.count('close')).toBe(1)
  })

  test('flushes nothing where nothing was written since the last flush', async () => {
    const file = new ScriptedFile(1000)
    const device = deviceOn(file)
    await device.write(0, new Uint8Array(10))
    await device.flush()
    await device.close()
    expect(file.count('sync')).toBe(1)
  })

  test('reports the first error of flush, close and release, and does all three', async () => {
    const file = new ScriptedFile(1000)
    let released = 0
    const device = deviceOn(file, {
      release: async () => {
        released++
        throw new Error('release')
      },
    })
    await device.write(0, new Uint8Array(10))
    file.onSync = () => {
      throw failure('EIO', 'sync failed')
    }
    file.onClose = () => {
      throw new Error('close')
    }
    expect(await rejection(device.close())).toMatchObject({
      code: 'EIO',
      message: expect.stringMatching(/sync failed/),
    })
    expect([file.count('close'), released]).toEqual([1, 1])
  })

  test('an error of closing the handle is reported', async () => {
    const file = new ScriptedFile(1000)
    file.onClose = () => {
      throw failure('EIO', 'quota at close')
    }
    expect(await rejection(deviceOn(file).close())).toMatchObject({
      code: 'EIO',
      message: expect.stringMatching(/quota at close/),
    })
  })

  test('waits for a flush under way', async () => {
    const file = new ScriptedFile(1000)
    const held = gate()
    file.onSync = () => held.opened as Promise<undefined>
    const device = deviceOn(file)
    await device.write(0, new Uint8Array(10))
    const flushing = device.flush()
    const closing = device.close()
    await settle()
    expect(file.count('close')).toBe(0)
    held.open()
    await Promise.all([flushing, closing])
    expect(file.calls.map(({ call }) => call)).toEqual(['write', 'sync', 'close'])
  })
})
