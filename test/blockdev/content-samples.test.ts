// The samples by which a file is known again: what may lie there after a loss is accepted, and nothing else.

import { describe, expect, test } from 'vitest'
import { ContentSamples } from '../../packages/blockdev/src/image/content-samples.ts'

const length = 512
const filled = (byte: number, count = length) => new Uint8Array(count).fill(byte)

function samplesOf(...bytes: Uint8Array[]): ContentSamples {
  const samples = new ContentSamples(() => 0)
  for (const [i, each] of bytes.entries()) samples.seen(i * length, each)
  return samples
}

/** Whether a file with these bytes at 0 would be taken for the right one. */
async function takes(samples: ContentSamples, content: Uint8Array): Promise<boolean> {
  const difference = await samples.firstDifference(async (offset, into) => {
    const there = content.subarray(offset, offset + into.length)
    into.set(there)
    return there.length
  })
  return difference === undefined
}

function synced(samples: ContentSamples): void {
  samples.durable(samples.syncBegins())
}

describe('a sampled place that is written', () => {
  test('may hold the old bytes or the new ones, until a sync makes the new ones certain', async () => {
    const samples = samplesOf(filled(1))
    samples.ended(samples.begin(0, length, filled(2)), 'acknowledged')
    expect(await takes(samples, filled(1))).toBe(true)
    expect(await takes(samples, filled(2))).toBe(true)
    expect(await takes(samples, filled(3))).toBe(false)
    synced(samples)
    expect(await takes(samples, filled(1))).toBe(false)
    expect(await takes(samples, filled(2))).toBe(true)
  })

  test.each(['failed', 'unfinished'] as const)(
    'may hold either for good where the write %s',
    async (outcome) => {
      const samples = samplesOf(filled(1))
      samples.ended(samples.begin(0, length, filled(2)), outcome)
      synced(samples)
      expect(await takes(samples, filled(1))).toBe(true)
      expect(await takes(samples, filled(2))).toBe(true)
      expect(await takes(samples, filled(3))).toBe(false)
      samples.ended(samples.begin(0, length, undefined), 'acknowledged')
      synced(samples)
      expect(await takes(samples, filled(2))).toBe(false)
      expect(await takes(samples, filled(0))).toBe(true)
    },
  )

  test('holds the old bytes where the write was never sent', async () => {
    const samples = samplesOf(filled(1))
    samples.ended(samples.begin(0, length, filled(2)), 'unsent')
    synced(samples)
    expect(await takes(samples, filled(1))).toBe(true)
    expect(await takes(samples, filled(2))).toBe(false)
  })

  test('may hold either when what was not synced is lost', async () => {
    const samples = samplesOf(filled(1))
    samples.ended(samples.begin(0, length, filled(2)), 'acknowledged')
    samples.lostUnsynced()
    synced(samples)
    expect(await takes(samples, filled(1))).toBe(true)
    expect(await takes(samples, filled(2))).toBe(true)
  })

  test('may hold what an old session still writes, whatever was synced since', async () => {
    const samples = samplesOf(filled(1))
    const touch = samples.begin(0, length, filled(2))
    samples.haunted(0, length)
    samples.ended(touch, 'acknowledged')
    samples.ended(samples.begin(0, length, filled(3)), 'acknowledged')
    synced(samples)
    expect(await takes(samples, filled(2))).toBe(true)
    expect(await takes(samples, filled(3))).toBe(true)
    expect(await takes(samples, filled(1))).toBe(false)
  })

  test('may hold anything while more was written than is told apart, and the last of it after a sync', async () => {
    const samples = samplesOf(filled(1))
    for (let i = 2; i < 40; i++) samples.ended(samples.begin(0, length, filled(i)), 'acknowledged')
    expect(await takes(samples, filled(3))).toBe(true)
    synced(samples)
    expect(await takes(samples, filled(39))).toBe(true)
    expect(await takes(samples, filled(38))).toBe(false)
  })

  test('is not certain by a sync that began before the write ended', async () => {
    const samples = samplesOf(filled(1))
    const touch = samples.begin(0, length, filled(2))
    const began = samples.syncBegins()
    samples.ended(touch, 'acknowledged')
    samples.durable(began)
    expect(await takes(samples, filled(1))).toBe(true)
    expect(await takes(samples, filled(2))).toBe(true)
  })
})

describe('nothing is sampled', () => {
  const untouched = () => new ContentSamples(() => 0)

  test('where a write is under way, sent or not', () => {
    const samples = untouched()
    samples.begin(0, length, filled(2))
    samples.seen(0, filled(1))
    expect(samples.size).toBe(0)
    samples.seen(length, filled(1))
    expect(samples.size).toBe(1)
  })

  test('where something was written and not synced since', () => {
    const samples = untouched()
    samples.ended(samples.begin(0, length, filled(2)), 'acknowledged')
    samples.seen(0, filled(2))
    expect(samples.size).toBe(0)
    synced(samples)
    samples.seen(0, filled(2))
    expect(samples.size).toBe(1)
  })

  test('by a read in the middle of which a write came and was synced', () => {
    const samples = untouched()
    const began = samples.readBegins()
    samples.ended(samples.begin(0, length, filled(2)), 'acknowledged')
    synced(samples)
    samples.seen(0, filled(1), began)
    expect(samples.size).toBe(0)
  })

  test('where a write failed, or a sync failed and nothing is written again', () => {
    const samples = untouched()
    samples.ended(samples.begin(0, length, filled(2)), 'failed')
    samples.ended(samples.begin(length, length, filled(2)), 'acknowledged')
    samples.syncBegins()
    samples.syncFailed()
    synced(samples)
    samples.seen(0, filled(2))
    samples.seen(length, filled(2))
    expect(samples.size).toBe(0)
  })
})

test('a place that a failed write may have changed in too many ways proves nothing', () => {
  const samples = samplesOf(filled(1))
  expect(samples.proves).toBe(true)
  for (let i = 2; i < 40; i++) samples.ended(samples.begin(0, length, filled(i)), 'failed')
  expect(samples.proves).toBe(false)
})
