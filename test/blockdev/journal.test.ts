// The journal against a model: for every byte, whether it is durable, and if not, its latest value.

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Journal } from '../../packages/blockdev/src/image/journal.ts'
import { slabBytes, WriteCopies } from '../../packages/blockdev/src/image/write-copies.ts'
import { pattern } from './scripted-file.ts'

const size = 4096

type Step =
  | { kind: 'write'; at: number; length: number; byte: number }
  | { kind: 'zero'; at: number; length: number }
  | { kind: 'sync' }
  | { kind: 'sync-later' }
  | { kind: 'cut'; at: number }

const at = fc.nat({ max: size - 1 })
const length = fc.integer({ min: 1, max: 600 })
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant('write'), at, length, byte: fc.integer({ min: 1, max: 255 }) }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('zero'), at, length }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('sync') }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('sync-later') }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('cut'), at }) },
) as fc.Arbitrary<Step>

test('keeps the latest bytes of all that is not durable, and nothing else', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const journal = new Journal({ maxBytes: 1 << 20, mayForget: false })
      /** Value of each byte that is not durable; -1 for the others. */
      const values = new Int16Array(size).fill(-1)
      const numbers = new Uint32Array(size)
      let begun: number | undefined
      for (const one of steps) {
        if (one.kind === 'write') {
          const bytes = new Uint8Array(Math.min(one.length, size - one.at)).fill(one.byte)
          const copy = journal.copy(bytes)
          bytes.fill(0)
          journal.acknowledged(one.at, copy)
          values.fill(one.byte, one.at, one.at + bytes.length)
          numbers.fill(journal.number, one.at, one.at + bytes.length)
        } else if (one.kind === 'zero') {
          const end = Math.min(size, one.at + one.length)
          journal.acknowledgedZeros(one.at, end - one.at)
          values.fill(0, one.at, end)
          numbers.fill(journal.number, one.at, end)
        } else if (one.kind === 'cut') {
          journal.cutOff(one.at)
          values.fill(-1, one.at)
        } else if (one.kind === 'sync-later' && begun === undefined) begun = journal.number
        else {
          const covered = begun ?? journal.number
          begun = undefined
          journal.durable(covered)
          for (let i = 0; i < size; i++) if (numbers[i]! <= covered) values[i] = -1
        }
      }
      const found = new Int16Array(size).fill(-1)
      let end = 0
      let kept = 0
      for (const { offset, length, bytes } of journal.entries()) {
        expect(offset).toBeGreaterThanOrEqual(end)
        end = offset + length
        if (bytes === undefined) found.fill(0, offset, end)
        else {
          found.set(bytes, offset)
          kept += length
        }
      }
      expect(Buffer.compare(new Uint8Array(found.buffer), new Uint8Array(values.buffer))).toBe(0)
      expect(journal.bytes).toBe(kept)
      for (let i = 0; i < size; i += 97) expect(journal.overlaps(i, i + 1)).toBe(values[i] !== -1)
    }),
    { numRuns: 150 },
  )
})

describe('room', () => {
  test('bytes under way and kept count; one write is always admitted where there is nothing', () => {
    const journal = new Journal({ maxBytes: 1000, mayForget: false })
    expect(journal.hasRoom(5000)).toBe(true)
    const copy = journal.copy(new Uint8Array(600))
    expect([journal.hasRoom(400), journal.hasRoom(401)]).toEqual([true, false])
    journal.acknowledged(0, copy)
    expect([journal.hasRoom(400), journal.hasRoom(401)]).toEqual([true, false])
    journal.durable(journal.number)
    expect(journal.hasRoom(5000)).toBe(true)
  })

  test('where no flush ever makes room the oldest is forgotten, and known to be', () => {
    const journal = new Journal({ maxBytes: 1000, mayForget: true })
    for (let i = 0; i < 4; i++) journal.acknowledged(i * 400, journal.copy(pattern(400, i + 1)))
    expect([...journal.entries()].map(({ offset }) => offset)).toEqual([800, 1200])
    expect([...journal.unkept]).toEqual([{ start: 0, end: 800 }])
    expect(journal.isComplete).toBe(false)
  })

  test('few bytes that hold much memory ask for a flush', () => {
    const journal = new Journal({ maxBytes: slabBytes, mayForget: false })
    // One block of each slab stays, the rest of it is written again and again.
    for (let i = 0; i < 4096; i++) {
      const isCold = i % 256 === 0
      journal.acknowledged(isCold ? 4096 * (1 + i) : 0, journal.copy(new Uint8Array(4096)))
    }
    expect(journal.bytes).toBeLessThan(slabBytes / 2)
    expect(journal.isFilling).toBe(true)
    expect(journal.hasRoom(4096)).toBe(false)
    journal.durable(journal.number)
    expect(journal.hasRoom(4096)).toBe(true)
  })
})

test('a sync begins at half, and at a quarter where so much is under way that there is no room for what comes meanwhile', () => {
  const kibibyte = new Uint8Array(1024)
  const fill = (acknowledged: number, underWay: number) => {
    const journal = new Journal({ maxBytes: 64 * 1024, mayForget: false })
    for (let i = 0; i < underWay; i++) journal.copy(kibibyte)
    for (let i = 0; i < acknowledged; i++) journal.acknowledged(i * 1024, journal.copy(kibibyte))
    return journal.isFilling
  }
  expect([fill(32, 0), fill(33, 0)]).toEqual([false, true])
  expect([fill(16, 36), fill(17, 30), fill(17, 32)]).toEqual([false, false, true])
})

test('copies are used again when everything in a slab was released', () => {
  const copies = new WriteCopies(2 * slabBytes)
  for (let round = 0; round < 50; round++) {
    const held = Array.from({ length: 100 }, (_, i) => copies.copy(pattern(30_000, round * 100 + i)))
    for (const [i, copy] of held.entries())
      expect(Buffer.compare(copy.bytes, pattern(30_000, round * 100 + i))).toBe(0)
    for (const copy of held) copies.release(copy)
    expect(copies.heldBytes).toBeLessThanOrEqual(slabBytes)
  }
})
