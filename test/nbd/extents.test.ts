import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Extent } from '../../packages/blockdev/src/device.ts'
import { blockStatus, isKnownZero, planRead } from '../../packages/nbd/src/extents.ts'

const MiB = 1 << 20

function zero(offset: number, length: number): Extent {
  return { offset, length, zero: true }
}

function data(offset: number, length: number): Extent {
  return { offset, length, zero: false }
}

/** What a careless device may say: any extents at all, in any order. */
const anyExtents = fc.array(
  fc.record({ offset: fc.nat(200_000), length: fc.nat(100_000), zero: fc.boolean() }),
  { maxLength: 8 },
)

describe('planRead', () => {
  test('makes known zeros holes and the rest data', () => {
    expect(planRead(0, 20_480, [data(0, 4096), zero(4096, 8192), data(12_288, 8192)])).toEqual([
      data(0, 4096),
      zero(4096, 8192),
      data(12_288, 8192),
    ])
  })

  test('reads zeros shorter than 4096 bytes as data, joined to what is around them', () => {
    expect(planRead(0, 12_288, [data(0, 4096), zero(4096, 4095), data(8191, 4097)])).toEqual([
      data(0, 12_288),
    ])
  })

  test('counts neighbouring zeros as one hole', () => {
    expect(planRead(0, 4096, [zero(0, 2048), zero(2048, 2048)])).toEqual([zero(0, 4096)])
  })

  test('cuts data at multiples of 1 MiB', () => {
    expect(planRead(MiB - 512, 2 * MiB, [])).toEqual([
      data(MiB - 512, 512),
      data(MiB, MiB),
      data(2 * MiB, MiB - 512),
    ])
  })

  test('covers the range once and in order, and calls nothing zero that is not, whatever the device says', () => {
    fc.assert(
      fc.property(
        fc.nat(100_000),
        fc.integer({ min: 1, max: 100_000 }),
        anyExtents,
        (offset, length, extents) => {
          const pieces = planRead(offset, length, extents)
          let at = offset
          for (const piece of pieces) {
            expect(piece.offset).toBe(at)
            expect(piece.length).toBeGreaterThan(0)
            at += piece.length
            if (piece.zero) {
              expect(isKnownZero(piece.offset, piece.length, extents)).toBe(true)
              expect(piece.length).toBeGreaterThanOrEqual(4096)
            }
          }
          expect(at).toBe(offset + length)
        },
      ),
      { numRuns: 300 },
    )
  })
})

describe('isKnownZero', () => {
  test('holds only where every byte is known', () => {
    expect(isKnownZero(0, 100, [zero(0, 100)])).toBe(true)
    expect(isKnownZero(0, 100, [zero(0, 50), zero(50, 100)])).toBe(true)
    expect(isKnownZero(0, 100, [zero(0, 99)])).toBe(false)
    expect(isKnownZero(0, 100, [zero(1, 99)])).toBe(false)
    expect(isKnownZero(0, 100, [])).toBe(false)
    expect(isKnownZero(0, 100, [zero(0, 50), data(50, 1), zero(51, 49)])).toBe(false)
  })
})

describe('blockStatus', () => {
  const source = (extents: readonly Extent[]) => () => extents

  test('is hole and zero where zeros are known, and 0 elsewhere', () => {
    expect(blockStatus(source([zero(0, 4096), data(4096, 4096)]), 0, 8192, false)).toEqual([4096, 3, 4096, 0])
  })

  test('joins neighbours of the same status', () => {
    expect(blockStatus(source([data(0, 10), data(10, 10), zero(20, 1), zero(21, 2)]), 0, 23, false)).toEqual([
      20, 0, 3, 3,
    ])
  })

  test('is one descriptor, not longer than asked, with REQ_ONE', () => {
    expect(blockStatus(source([zero(0, 100), data(100, 100)]), 0, 200, true)).toEqual([100, 3])
    expect(blockStatus(source([zero(0, 1000)]), 0, 200, true)).toEqual([200, 3])
  })

  test('is one extent of data where the device says nothing', () => {
    expect(blockStatus(source([]), 512, 1024, false)).toEqual([1024, 0])
  })

  test('covers 4 GiB in windows, joined again', () => {
    let questions = 0
    const ask = (offset: number, length: number): Extent[] => {
      questions++
      expect(length).toBeLessThanOrEqual(64 * MiB)
      return [zero(offset, length)]
    }
    expect(blockStatus(ask, 0, 2 ** 32 - 1, false)).toEqual([2 ** 32 - 1, 3])
    expect(questions).toBe(64)
  })

  test('stops at 4096 descriptors and asks the device no further', () => {
    let questions = 0
    const striped = (offset: number, length: number): Extent[] => {
      questions++
      return Array.from({ length: length / 8192 }, (_, i) => [
        zero(offset + i * 8192, 4096),
        data(offset + i * 8192 + 4096, 4096),
      ]).flat()
    }
    const pairs = blockStatus(striped, 0, 2 ** 31, false)
    expect(pairs.length).toBe(2 * 4096)
    expect(questions).toBe(1)
  })

  test('is at least one descriptor and at most the range, whatever the device says', () => {
    fc.assert(
      fc.property(
        fc.nat(100_000),
        fc.integer({ min: 1, max: 100_000 }),
        anyExtents,
        fc.boolean(),
        (offset, length, extents, one) => {
          const pairs = blockStatus(source(extents), offset, length, one)
          const total = pairs.filter((_, i) => i % 2 === 0).reduce((sum, bytes) => sum + bytes, 0)
          if (one) expect(pairs.length).toBe(2)
          else expect(total).toBe(length)
          expect(total).toBeGreaterThan(0)
          expect(total).toBeLessThanOrEqual(length)
          for (let i = 3; i < pairs.length; i += 2) expect(pairs[i]).not.toBe(pairs[i - 2])
        },
      ),
      { numRuns: 300 },
    )
  })
})
