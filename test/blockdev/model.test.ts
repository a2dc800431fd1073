// Random histories against the memory device: whatever is under way together, every read gets what a disk gives that
// does one thing after the other.

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { BlockDevice } from '../../packages/blockdev/src/device.ts'
import { FileDevice } from '../../packages/blockdev/src/file-device.ts'
import { MemoryDevice } from '../../packages/blockdev/src/memory-device.ts'
import { pattern, ScriptedFile, seededRandom, settle } from './scripted-file.ts'

const span = 6000

type Step =
  | { op: 'read' | 'write' | 'writeZeroes'; offset: number; length: number }
  | { op: 'stream'; offset: number; length: number; count: number }
  | { op: 'flush' | 'settle' | 'dropReadAhead' }
  | { op: 'resize'; size: number }

const range = { offset: fc.integer({ min: 0, max: span }), length: fc.integer({ min: 0, max: 900 }) }
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ op: fc.constant('read' as const), ...range }) },
  { weight: 5, arbitrary: fc.record({ op: fc.constant('write' as const), ...range }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('writeZeroes' as const), ...range }) },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant('stream' as const),
      ...range,
      count: fc.integer({ min: 2, max: 8 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constantFrom('flush' as const, 'settle' as const, 'dropReadAhead' as const),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant('resize' as const),
      size: fc.integer({ min: 0, max: span + 500 }),
    }),
  },
)

interface Outcome {
  code: string
  bytes?: Uint8Array
}

/** Runs the steps on a device. Nothing is waited for, except where `wait` says so. */
async function run(device: BlockDevice, steps: readonly Step[], wait: 'each' | 'settle'): Promise<Outcome[]> {
  const outcomes: Promise<Outcome>[] = []
  let serial = 0
  const outcome = async (call: Promise<void>, bytes?: Uint8Array): Promise<Outcome> => {
    try {
      await call
      return bytes === undefined ? { code: 'OK' } : { code: 'OK', bytes }
    } catch (error) {
      return { code: (error as { code: string }).code }
    }
  }
  const add = async (call: Promise<void>, bytes?: Uint8Array) => {
    const added = outcome(call, bytes)
    outcomes.push(added)
    if (wait === 'each') await added
  }
  for (const next of steps) {
    serial++
    switch (next.op) {
      case 'read': {
        const into = new Uint8Array(next.length).fill(0xcc)
        await add(device.read(next.offset, into), into)
        break
      }
      case 'stream':
        for (let i = 0; i < next.count; i++) {
          const into = new Uint8Array(next.length).fill(0xcc)
          const call = device.read(next.offset + i * next.length, into)
          await add(call, into)
          if (i < next.count / 2) await call.catch(() => {})
        }
        break
      case 'write':
        await add(device.write(next.offset, pattern(next.length, serial * 7919)))
        break
      case 'writeZeroes':
        await add(device.writeZeroes(next.offset, next.length))
        break
      case 'resize':
        await add(device.resize(next.size, { shrink: true }))
        break
      case 'flush':
        await add(device.flush())
        break
      case 'dropReadAhead':
        if (device instanceof FileDevice) device.dropReadAhead()
        break
      case 'settle':
        await settle()
    }
  }
  return Promise.all(outcomes)
}

function fileFor(content: Uint8Array, seed: number, options: { clip: boolean }): ScriptedFile {
  const file = new ScriptedFile(content)
  const random = seededRandom(seed)
  file.hops = () => random(12)
  if (options.clip)
    file.onWrite = (_, length) => (random(3) === 0 ? random(length + 1) || undefined : undefined)
  return file
}

const content = pattern(span)

describe('random histories agree with the memory device', () => {
  test('any number of calls under way together', async () => {
    let served = 0
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 1, maxLength: 40 }),
        fc.integer(),
        fc.boolean(),
        async (steps, seed, clip) => {
          const file = fileFor(content, seed, { clip })
          const device = new FileDevice({
            files: [file],
            size: span,
            kind: 'file',
            readOnly: false,
            maxInFlightBytes: 40_000,
            readAhead: {
              initialBytes: 700,
              maxBytes: 3000,
              pieceBytes: 256,
              maxStreams: 3,
              totalBytes: 6000,
            },
          })
          const model = new MemoryDevice({ content })
          const expected = await run(model, steps, 'settle')
          const found = await run(device, steps, 'settle')
          expect(found).toEqual(expected)
          expect(device.size).toBe(model.size)
          await device.close()
          served += device.stats.readAhead.servedBytes
          expect(Buffer.compare(file.bytes, model.snapshot())).toBe(0)
          expect(file.violations).toEqual([])
          expect(file.closed).toBe(true)
        },
      ),
      { numRuns: 250 },
    )
    // The histories do use read-ahead.
    expect(served).toBeGreaterThan(10_000)
  })

  test('over several handles', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 30 }), fc.integer(), async (steps, seed) => {
        const file = fileFor(content, seed, { clip: false })
        const second = fileFor(content, seed + 1, { clip: false })
        // Two handles of one file.
        Object.defineProperty(second, 'bytes', {
          get: () => file.bytes,
          set: (bytes: Uint8Array) => {
            file.bytes = bytes
          },
        })
        const device = new FileDevice({
          files: [file, second],
          size: span,
          kind: 'file',
          readOnly: false,
          readAhead: { initialBytes: 700, maxBytes: 3000, pieceBytes: 256 },
        })
        const model = new MemoryDevice({ content })
        const expected = await run(model, steps, 'settle')
        expect(await run(device, steps, 'settle')).toEqual(expected)
        await device.close()
        expect(Buffer.compare(file.bytes, model.snapshot())).toBe(0)
      }),
      { numRuns: 100 },
    )
  })

  test('one call after the other, growing by writes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 30 }), fc.integer(), async (steps, seed) => {
        const file = fileFor(new Uint8Array(0), seed, { clip: true })
        const device = new FileDevice({
          files: [file],
          size: 0,
          kind: 'file',
          fresh: true,
          readOnly: false,
          grow: true,
          readAhead: { initialBytes: 700, maxBytes: 3000, pieceBytes: 256 },
        })
        const model = new MemoryDevice({ grow: true })
        const expected = await run(model, steps, 'each')
        const found = await run(device, steps, 'each')
        expect(found).toEqual(expected)
        expect(device.size).toBe(model.size)
        const bytes = model.snapshot()
        for (const { offset, length, zero } of device.extents(0, device.size)) {
          if (zero) expect(bytes.subarray(offset, offset + length).every((byte) => byte === 0)).toBe(true)
        }
        await device.close()
        expect(Buffer.compare(file.bytes, bytes)).toBe(0)
      }),
      { numRuns: 150 },
    )
  })

  test('extents cover the range in order, and what they call zero reads as zero', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 1, maxLength: 25 }),
        fc.record(range),
        async (steps, { offset, length }) => {
          const file = new ScriptedFile(span)
          const device = new FileDevice({
            files: [file],
            size: span,
            kind: 'file',
            fresh: true,
            readOnly: false,
          })
          await run(device, steps, 'each')
          const start = Math.min(offset, device.size)
          const end = Math.min(device.size, start + length)
          let at = start
          for (const extent of device.extents(start, end - start)) {
            expect(extent.offset).toBe(at)
            expect(extent.length).toBeGreaterThan(0)
            at += extent.length
            if (extent.zero)
              expect(file.bytes.subarray(extent.offset, at).every((byte) => byte === 0)).toBe(true)
          }
          expect(at).toBe(end)
          await device.close()
        },
      ),
      { numRuns: 100 },
    )
  })
})

describe('memory device', () => {
  test('copies its content, reads zeros into the last block, grows only when asked', async () => {
    const first = pattern(1000)
    const device = new MemoryDevice({ content: first })
    first.fill(0)
    const into = new Uint8Array(512)
    await device.read(512, into)
    expect(into.subarray(0, 488)).toEqual(pattern(1000).subarray(512))
    expect(into.subarray(488)).toEqual(new Uint8Array(24))
    await expect(device.write(999, new Uint8Array(2))).rejects.toMatchObject({ code: 'EINVAL' })
    await expect(device.discard(0, 1)).rejects.toMatchObject({ code: 'ENOTSUP' })
    await expect(device.resize(10)).rejects.toMatchObject({ code: 'EINVAL' })
    await device.resize(2000)
    await device.resize(10, { shrink: true })
    await device.resize(1000)
    expect(
      device
        .snapshot()
        .subarray(10)
        .every((byte) => byte === 0),
    ).toBe(true)
    await device.close()
    await expect(device.read(0, into)).rejects.toMatchObject({ code: 'EBADF' })
  })

  test('is read-only where told so', async () => {
    const device = new MemoryDevice({ size: 512, readOnly: true })
    await expect(device.write(0, new Uint8Array(1))).rejects.toMatchObject({ code: 'EROFS' })
    await expect(device.writeZeroes(0, 1)).rejects.toMatchObject({ code: 'EROFS' })
    await expect(device.resize(1024)).rejects.toMatchObject({ code: 'EROFS' })
  })
})
