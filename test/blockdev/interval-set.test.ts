import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { IntervalSet } from '../../packages/blockdev/src/layers/interval-set.ts'

const span = 60
const step = fc.record({
  add: fc.boolean(),
  start: fc.integer({ min: 0, max: span }),
  length: fc.integer({ min: 0, max: 20 }),
})

function members(set: IntervalSet): number[] {
  return [...set.within()].flatMap(({ start, end }) =>
    Array.from({ length: end - start }, (_, i) => start + i),
  )
}

describe('interval set', () => {
  test('agrees with a set of numbers after any additions and removals', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const set = new IntervalSet('join')
        const model = new Set<number>()
        for (const { add, start, length } of steps) {
          if (add) set.add(start, start + length)
          else set.remove(start, start + length)
          for (let i = start; i < start + length; i++) {
            if (add) model.add(i)
            else model.delete(i)
          }
          const sorted = [...model].sort((a, b) => a - b)
          expect(members(set)).toEqual(sorted)
          expect(set.bytes).toBe(model.size)
          expect(set.isEmpty).toBe(model.size === 0)
        }
        const ranges = [...set.within()]
        for (let i = 1; i < ranges.length; i++) expect(ranges[i]!.start).toBeGreaterThan(ranges[i - 1]!.end)
        expect(
          [...set.within(10, 30)].flatMap((r) => [r.start, r.end]).every((n) => n >= 10 && n <= 30),
        ).toBe(true)
        for (let at = 0; at < span; at += 7) {
          const all = [0, 1, 2, 3, 4].every((i) => model.has(at + i))
          expect(set.covers(at, at + 5)).toBe(all)
        }
      }),
    )
  })

  test.each(['join', 'forget'] as const)('%s: beyond its bound it errs only to the safe side', (rule) => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({ start: fc.integer({ min: 0, max: 2000 }), length: fc.integer({ min: 1, max: 9 }) }),
          { minLength: 30, maxLength: 120 },
        ),
        (steps) => {
          const set = new IntervalSet(rule, 16)
          const model = new Set<number>()
          for (const { start, length } of steps) {
            set.add(start, start + length)
            for (let i = start; i < start + length; i++) model.add(i)
            expect(set.count).toBeLessThanOrEqual(16)
          }
          const found = new Set(members(set))
          if (rule === 'join') for (const at of model) expect(found.has(at)).toBe(true)
          else for (const at of found) expect(model.has(at)).toBe(true)
          expect(found.size).toBeGreaterThan(0)
        },
      ),
    )
  })
})
