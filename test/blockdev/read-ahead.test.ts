import { describe, expect, test } from 'vitest'
import { FileDevice } from '../../packages/blockdev/src/file-device.ts'
import { ReadAhead } from '../../packages/blockdev/src/layers/read-ahead.ts'
import { gate, pattern, ScriptedFile, settle } from './scripted-file.ts'

const KiB = 1024
const size = 4096 * KiB

function deviceOn(file: ScriptedFile, readAhead = {}) {
  return new FileDevice({
    files: [file],
    size: file.bytes.length,
    kind: 'file',
    readOnly: false,
    readAhead: { initialBytes: 256 * KiB, ...readAhead },
  })
}

async function readAt(device: FileDevice, offset: number, length: number): Promise<Uint8Array> {
  const into = new Uint8Array(length)
  await device.read(offset, into)
  return into
}

/** Reads `count` pieces in a row, checks them, and returns the offset behind them. */
async function stream(
  device: FileDevice,
  content: Uint8Array,
  from: number,
  count: number,
  piece = 64 * KiB,
): Promise<number> {
  for (let i = 0; i < count; i++) {
    const at = from + i * piece
    expect(Buffer.compare(await readAt(device, at, piece), content.subarray(at, at + piece))).toBe(0)
  }
  return from + count * piece
}

describe('seek rule', () => {
  test('the second of two sequential reads starts read-ahead; later reads are served from it', async () => {
    const content = pattern(size)
    const file = new ScriptedFile(content)
    const device = deviceOn(file)
    await stream(device, content, 0, 1)
    expect(file.calls).toHaveLength(1)
    await stream(device, content, 64 * KiB, 31)
    const { readAhead } = device.stats
    expect(readAhead).toMatchObject({
      sequentialReads: 31,
      otherReads: 1,
      droppedBySeek: 0,
      droppedByWrite: 0,
    })
    expect(readAhead.servedBytes).toBe(30 * 64 * KiB)
    expect(file.count('read')).toBeLessThan(16)
    await device.close()
  })

  test('never asks for a byte behind the end of the device, nor for any byte twice', async () => {
    const content = pattern(1000 * KiB + 17)
    const file = new ScriptedFile(content)
    const device = deviceOn(file)
    await stream(device, content, 0, 15)
    await readAt(device, 15 * 64 * KiB, content.length - 15 * 64 * KiB)
    const asked = new Uint8Array(content.length)
    for (const { call, offset, length } of file.calls) {
      if (call !== 'read') continue
      expect(offset + length).toBeLessThanOrEqual(content.length)
      for (let i = offset; i < offset + length; i++) asked[i]!++
    }
    expect(asked.every((times) => times === 1)).toBe(true)
    await device.close()
  })

  test('a lone read elsewhere drops the read-ahead of the stream read last, and the stream recovers', async () => {
    const content = pattern(size)
    const device = deviceOn(new ScriptedFile(content))
    const next = await stream(device, content, 0, 4)
    await stream(device, content, 3000 * KiB, 1)
    expect(device.stats.readAhead.droppedBySeek).toBe(1)
    const served = device.stats.readAhead.servedBytes
    await stream(device, content, next, 1)
    expect(device.stats.readAhead.servedBytes).toBe(served)
    await stream(device, content, next + 64 * KiB, 4)
    expect(device.stats.readAhead.servedBytes).toBeGreaterThan(served)
    expect(device.stats.readAhead.droppedBySeek).toBe(1)
    await device.close()
  })

  test('random reads in parallel with others disturb no stream', async () => {
    const content = pattern(size)
    const file = new ScriptedFile(content)
    const device = deviceOn(file)
    let next = await stream(device, content, 0, 3)
    for (let round = 0; round < 20; round++) {
      const reads = [stream(device, content, next, 1)]
      for (let i = 0; i < 8; i++)
        reads.push(stream(device, content, ((round * 37 + i * 211) % 700) * 4096 + 1_100_000, 1, 4096))
      await Promise.all(reads)
      next += 64 * KiB
    }
    expect(device.stats.readAhead).toMatchObject({ droppedBySeek: 0, droppedByWrite: 0 })
    expect(device.stats.readAhead.servedBytes).toBeGreaterThanOrEqual(20 * 64 * KiB)
    await device.close()
  })

  test('several streams read in turn keep their read-ahead all', async () => {
    const content = pattern(size)
    const device = deviceOn(new ScriptedFile(content))
    const starts = [0, 1300 * KiB, 2600 * KiB]
    for (const start of starts) await stream(device, content, start, 3)
    const before = device.stats.readAhead
    for (let i = 3; i < 18; i++)
      for (const start of starts) await stream(device, content, start + i * 64 * KiB, 1)
    const after = device.stats.readAhead
    expect(after.droppedBySeek).toBe(before.droppedBySeek)
    expect(after.otherReads).toBe(before.otherReads)
    await device.close()
  })

  test('sequential reads that are under way together form a stream too', async () => {
    const content = pattern(size)
    const file = new ScriptedFile(content)
    file.hops = () => 3
    const device = deviceOn(file)
    for (let batch = 0; batch < 4; batch++) {
      await Promise.all(
        Array.from({ length: 8 }, (_, i) => stream(device, content, (batch * 8 + i) * 64 * KiB, 1)),
      )
    }
    expect(device.stats.readAhead).toMatchObject({ sequentialReads: 31, otherReads: 1 })
    expect(device.stats.readAhead.servedBytes).toBeGreaterThan(20 * 64 * KiB)
    await device.close()
  })

  test('a write into what was read ahead drops it, and the stream never sees the old bytes', async () => {
    const content = pattern(size)
    const device = deviceOn(new ScriptedFile(content))
    const next = await stream(device, content, 0, 4)
    const changed = content.slice()
    changed.fill(0xee, next + 5000, next + 6000)
    await device.write(next + 5000, changed.subarray(next + 5000, next + 6000))
    expect(device.stats.readAhead.droppedByWrite).toBe(1)
    await stream(device, changed, next, 8)
    await device.close()
  })

  test('a write where the stream would go on (reading turns to writing) drops it', async () => {
    const content = pattern(size)
    const device = deviceOn(new ScriptedFile(content))
    const next = await stream(device, content, 0, 4)
    await device.write(next, new Uint8Array(512))
    expect(device.stats.readAhead.droppedByWrite).toBe(1)
    await device.close()
  })

  test('a write elsewhere leaves the stream alone', async () => {
    const content = pattern(size)
    const device = deviceOn(new ScriptedFile(content))
    const next = await stream(device, content, 0, 4)
    await device.write(3_500_000, new Uint8Array(512))
    const served = device.stats.readAhead.servedBytes
    await stream(device, content, next, 2)
    expect(device.stats.readAhead.droppedByWrite).toBe(0)
    expect(device.stats.readAhead.servedBytes).toBeGreaterThan(served)
    await device.close()
  })

  test('writeZeroes drops it as a write does', async () => {
    const content = pattern(size)
    const device = deviceOn(new ScriptedFile(content))
    const next = await stream(device, content, 0, 4)
    await device.writeZeroes(next + 100, 100)
    const changed = content.slice().fill(0, next + 100, next + 200)
    expect(device.stats.readAhead.droppedByWrite).toBe(1)
    await stream(device, changed, next, 4)
    await device.close()
  })

  test('a forced seek drops every stream always', async () => {
    const content = pattern(size)
    const device = deviceOn(new ScriptedFile(content))
    await stream(device, content, 0, 4)
    await stream(device, content, 2000 * KiB, 4)
    const before = device.stats.readAhead.droppedBySeek
    device.dropReadAhead()
    expect(device.stats.readAhead.droppedByForce).toBe(2 - before)
    const served = device.stats.readAhead.servedBytes
    await stream(device, content, 4 * 64 * KiB, 1)
    expect(device.stats.readAhead.servedBytes).toBe(served)
    await device.close()
  })

  test('resize drops it', async () => {
    const content = pattern(size)
    const device = deviceOn(new ScriptedFile(content))
    await stream(device, content, 0, 4)
    await device.resize(300 * KiB, { shrink: true })
    expect(device.stats.readAhead.droppedByForce).toBe(1)
    await device.resize(600 * KiB)
    const cut = new Uint8Array(600 * KiB)
    cut.set(content.subarray(0, 300 * KiB))
    await stream(device, cut, 256 * KiB, 5)
    await device.close()
  })

  test('a write waits for read-ahead that is under way in its range, which gives up', async () => {
    const content = pattern(size)
    const file = new ScriptedFile(content)
    const device = deviceOn(file)
    const held = gate()
    let release = false
    file.onRead = async (offset) => {
      if (offset >= 128 * KiB && !release) await held.opened
      return undefined
    }
    await stream(device, content, 0, 2)
    await settle()
    expect(file.count('read')).toBeGreaterThan(2)
    const change = new Uint8Array(100).fill(0xaa)
    const written = device.write(130 * KiB, change)
    await settle()
    expect(file.count('write')).toBe(0)
    release = true
    held.open()
    await written
    content.set(change, 130 * KiB)
    await stream(device, content, 128 * KiB, 4)
    expect(file.violations).toEqual([])
    await device.close()
  })

  test('a failed read-ahead is no error; the read that needs the bytes asks itself', async () => {
    const content = pattern(size)
    const file = new ScriptedFile(content)
    const device = deviceOn(file)
    let failures = 0
    file.onRead = (offset) => {
      if (offset >= 128 * KiB && failures++ === 0)
        throw Object.assign(new Error('bad sector'), { code: 'EIO' })
      return undefined
    }
    await stream(device, content, 0, 10)
    expect(failures).toBeGreaterThan(1)
    await device.close()
  })

  test('holds no more than its bounds: per stream, per device, and streams', async () => {
    const content = pattern(size)
    const file = new ScriptedFile(content)
    const device = deviceOn(file, { maxBytes: 512 * KiB, totalBytes: 768 * KiB, maxStreams: 2 })
    for (const start of [0, 1000 * KiB, 2000 * KiB]) {
      await stream(device, content, start, 8, 32 * KiB)
      const { fetchedBytes, servedBytes } = device.stats.readAhead
      expect(fetchedBytes - servedBytes).toBeLessThanOrEqual(3 * 768 * KiB)
    }
    await device.close()
  })

  test('can be turned off', async () => {
    const content = pattern(size)
    const file = new ScriptedFile(content)
    const device = new FileDevice({ files: [file], size, kind: 'file', readOnly: true, readAhead: false })
    await stream(device, content, 0, 10)
    expect(file.count('read')).toBe(10)
    await device.close()
  })

  test('close gives up what is under way and waits for it', async () => {
    const content = pattern(size)
    const file = new ScriptedFile(content)
    const device = deviceOn(file)
    const held = gate()
    file.onRead = async (offset) => {
      if (offset >= 128 * KiB) await held.opened
      return undefined
    }
    await stream(device, content, 0, 2)
    const closed = device.close()
    await settle()
    expect(file.closed).toBe(false)
    held.open()
    await closed
    expect(file.closed).toBe(true)
  })
})

describe('windows and buffers', () => {
  /** A storage with a clock: a fetch takes what `latencyMs` says, in the order of the calls. */
  function storage(options: { latencyMs: (inFlight: number) => number; roundTripMs?: number }) {
    let now = 0
    let inFlight = 0
    let waiting = Promise.resolve()
    const content = pattern(32 * 1024 * KiB)
    const source = {
      fetch(offset: number, into: Uint8Array): Promise<void> {
        inFlight += into.length
        const done = now + options.latencyMs(inFlight)
        waiting = waiting
          .then(() => settle())
          .then(() => {
            now = Math.max(now, done)
            into.set(content.subarray(offset, offset + into.length))
            inFlight -= into.length
          })
        return waiting
      },
      tryHold: () => ({ release() {} }),
      end: () => content.length,
      ...(options.roundTripMs === undefined ? {} : { roundTripMs: () => options.roundTripMs }),
    }
    return { source, content, now: () => now }
  }

  async function readAll(ahead: ReadAhead, content: Uint8Array, count: number, piece: number): Promise<void> {
    let next = 0
    const reader = async (): Promise<void> => {
      const into = new Uint8Array(piece)
      while (next < content.length) {
        const at = next
        next += piece
        const part = into.subarray(0, Math.min(piece, content.length - at))
        await ahead.read(at, part, undefined)
        expect(Buffer.compare(part, content.subarray(at, at + piece))).toBe(0)
      }
    }
    await Promise.all(Array.from({ length: count }, reader))
  }

  test('reads that keep the storage busy on their own get their bytes without a copy', async () => {
    // One byte after the other: whatever is in flight more waits longer.
    const { source, content, now } = storage({ latencyMs: (bytes) => 1 + bytes / 50_000, roundTripMs: 1 })
    const ahead = new ReadAhead(source, { now })
    await readAll(ahead, content, 8, 512 * KiB)
    expect(ahead.stats.servedBytes).toBe(0)
  })

  test('a window that grew before the storage was busy becomes smaller again', async () => {
    let answers = 0
    const { source, content, now } = storage({
      // What one reader gets at first, and what many get who share a link.
      latencyMs: (bytes) => (answers++ < 12 ? 1 : 1 + bytes / 50_000),
      roundTripMs: 1,
    })
    const ahead = new ReadAhead(source, { now, maxBytes: 4096 * KiB })
    await readAll(ahead, content, 8, 256 * KiB)
    expect(ahead.stats.servedBytes).toBeGreaterThan(0)
    expect(ahead.stats.servedBytes).toBeLessThan(content.length / 2)
  })

  test('where only distance takes time, the window grows beyond what the reader asks for', async () => {
    const { source, content, now } = storage({ latencyMs: () => 50, roundTripMs: 50 })
    const ahead = new ReadAhead(source, { now })
    await readAll(ahead, content, 2, 512 * KiB)
    expect(ahead.stats.servedBytes).toBeGreaterThan(content.length / 2)
  })

  test('from afar as much again as the caller asks for is fetched before the first answer, from near nothing', async () => {
    for (const [roundTripMs, expected] of [
      [50, 8],
      [1, 0],
    ] as const) {
      const { source, now } = storage({ latencyMs: () => roundTripMs, roundTripMs })
      const ahead = new ReadAhead(source, { now })
      const reads = Array.from({ length: 8 }, (_, i) =>
        ahead.read(i * 1024 * KiB, new Uint8Array(1024 * KiB), undefined),
      )
      expect(ahead.aheadBytes).toBe(expected * 1024 * KiB)
      await Promise.all(reads)
      await ahead.stop()
    }
  })

  test('a buffer that is used again never shows what an earlier block had, also to a reader who is late', async () => {
    const { source, content, now } = storage({ latencyMs: () => 50 })
    const ahead = new ReadAhead(source, { now, maxBytes: 1024 * KiB })
    await readAll(ahead, content, 1, 48 * KiB - 7)
    await readAll(ahead, content, 5, 64 * KiB)
  })
})

describe('bytes that were read by the opening', () => {
  const content = pattern(size)

  function primed(now: () => number = () => 0) {
    const file = new ScriptedFile(content)
    const device = new FileDevice({
      files: [file],
      size,
      kind: 'file',
      readOnly: false,
      readAhead: { now },
      head: content.slice(0, 32 * KiB),
    })
    return { file, device }
  }

  test('are what the first read gets, without a request; it begins no stream yet', async () => {
    const { file, device } = primed()
    await stream(device, content, 0, 1, 512)
    expect(file.count('read')).toBe(0)
    await stream(device, content, 512, 40)
    expect(device.stats.readAhead).toMatchObject({ droppedBySeek: 0, droppedByWrite: 0 })
    await device.close()
  })

  test('are the beginning of a longer first read, which asks for the rest only', async () => {
    const { file, device } = primed()
    await stream(device, content, 0, 1, 64 * KiB)
    expect(file.calls).toEqual([
      expect.objectContaining({ call: 'read', offset: 32 * KiB, length: 32 * KiB }),
    ])
    await device.close()
  })

  test('are dropped by a first read elsewhere', async () => {
    const { file, device } = primed()
    await stream(device, content, 4096, 1, 4096)
    await stream(device, content, 0, 1, 512)
    expect(file.count('read')).toBe(2)
    await device.close()
  })

  test('are dropped by a write that touches them', async () => {
    const { device } = primed()
    await device.write(100, new Uint8Array(50).fill(0xaa))
    const found = await readAt(device, 0, 512)
    expect([...found.subarray(100, 150)]).toEqual(Array(50).fill(0xaa))
    expect(Buffer.compare(found.subarray(0, 100), content.subarray(0, 100))).toBe(0)
    await device.close()
  })

  test('are not served when time has passed: somebody else may have written since', async () => {
    let time = 0
    const { file, device } = primed(() => time)
    time = 1001
    await stream(device, content, 0, 1, 512)
    expect(file.count('read')).toBe(1)
    await device.close()
  })
})
