import { describe, expect, test } from 'vitest'
import { type Direction, Growth } from '../../packages/blockdev/src/image/growth.ts'

const MiB = 1 << 20
const busy = (lanes: number) =>
  Array.from({ length: lanes }, () => ({ bytesInFlight: 16 * MiB, writableBytes: 0 }))

/** Whether it wants one more within two seconds, at this many bytes per millisecond. */
function wants(
  growth: Growth,
  options: {
    direction?: Direction
    lanes?: number
    rate: number
    roundTripMs: number | undefined
    from?: number
    idle?: boolean
  },
): boolean {
  const { direction = 'write', lanes = 1, rate, roundTripMs, from = 0, idle = false } = options
  for (let now = from; now < from + 2000; now += 10) {
    const loads = idle ? [...busy(lanes), { bytesInFlight: 1000, writableBytes: 2 * MiB }] : busy(lanes)
    if (growth.wants(direction, loads, now, roundTripMs)) return true
    growth.finished(rate * 10)
  }
  return false
}

describe('one more lane is wanted', () => {
  test('where a window per round trip is what limits', () => {
    expect(wants(new Growth(), { rate: 40_000, roundTripMs: 50 })).toBe(true)
    expect(wants(new Growth(), { rate: 500_000, roundTripMs: 2 })).toBe(true)
  })

  test('not on loopback, however slow the server: no window limits there', () => {
    expect(wants(new Growth(), { rate: 500_000, roundTripMs: 0.2 })).toBe(false)
    expect(wants(new Growth(), { rate: 100_000, roundTripMs: 2 })).toBe(false)
  })

  test('not where the round trip is not known', () => {
    expect(wants(new Growth(), { rate: 40_000, roundTripMs: undefined })).toBe(false)
  })

  test('not while a lane has room', () => {
    expect(wants(new Growth(), { rate: 40_000, roundTripMs: 50, idle: true })).toBe(false)
  })

  test('again where it helped, and never again where it did not', () => {
    const growth = new Growth()
    expect(wants(growth, { rate: 40_000, roundTripMs: 50 })).toBe(true)
    expect(wants(growth, { lanes: 2, rate: 80_000, roundTripMs: 50, from: 2000 })).toBe(false)
    growth.opened(true)
    expect(wants(growth, { lanes: 2, rate: 80_000, roundTripMs: 50, from: 4000 })).toBe(true)
    growth.opened(true)
    expect(wants(growth, { lanes: 2, rate: 82_000, roundTripMs: 50, from: 6000 })).toBe(false)
    expect(growth.isOver).toBe(true)
    expect(wants(growth, { lanes: 3, rate: 800_000, roundTripMs: 50, from: 8000 })).toBe(false)
  })

  test('not where lanes over a long way carry less than they could: the link, or a CPU, is what limits', () => {
    expect(wants(new Growth(), { lanes: 8, rate: 200_000, roundTripMs: 50 })).toBe(false)
    expect(wants(new Growth(), { lanes: 8, rate: 260_000, roundTripMs: 50 })).toBe(true)
    expect(wants(new Growth(), { direction: 'read', rate: 200_000, roundTripMs: 50 })).toBe(false)
    expect(wants(new Growth(), { direction: 'read', rate: 260_000, roundTripMs: 50 })).toBe(true)
  })

  test('not after the server refused', () => {
    const growth = new Growth()
    expect(wants(growth, { rate: 40_000, roundTripMs: 50 })).toBe(true)
    growth.opened(false)
    expect(growth.isOver).toBe(true)
  })
})
