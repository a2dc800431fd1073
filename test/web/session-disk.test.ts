/** What the session's worker puts between a device and the page: a cache that knows of writes, and what is told of reads. */
import { type BlockDevice, MemoryDevice } from '@sshblock/blockdev'
import { BlockCache } from '@sshblock/blockdev/adapters'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { CachedDevice } from '../../packages/web/src/session-worker/cached-device.ts'
import type { DiskActivity } from '../../packages/web/src/session-worker/calls.ts'
import { DiskLog } from '../../packages/web/src/session-worker/disk-log.ts'

const blockBytes = 4096

describe('a device behind the cache that others read through', () => {
  async function cached(device: BlockDevice = new MemoryDevice({ size: 16 * blockBytes })) {
    const cache = new BlockCache(device, { blockBytes, maxBlocksAhead: 0 })
    const reads: [number, number][] = []
    const behind = new CachedDevice(device, cache, (offset, length) => reads.push([offset, length]))
    const byte = async (offset: number): Promise<number> => {
      const into = new Uint8Array(1)
      await behind.read(offset, into)
      return into[0]!
    }
    return { device, behind, byte, reads }
  }

  it('tells of every read, and fetches a block once', async () => {
    const { device, byte, reads } = await cached()
    const fetches = vi.spyOn(device, 'read')
    await byte(5)
    await byte(6)
    expect(reads).toEqual([
      [5, 1],
      [6, 1],
    ])
    expect(fetches).toHaveBeenCalledTimes(1)
  })

  it('shows what was written, though the block was held before', async () => {
    const { device, behind, byte } = await cached()
    expect(await byte(blockBytes)).toBe(0)
    await behind.write(blockBytes - 1, new Uint8Array([7, 8, 9]))
    expect([await byte(blockBytes - 1), await byte(blockBytes), await byte(blockBytes + 1)]).toEqual([
      7, 8, 9,
    ])
    const there = new Uint8Array(3)
    await device.read(blockBytes - 1, there)
    expect([...there]).toEqual([7, 8, 9])
    await behind.writeZeroes(blockBytes, 1)
    expect(await byte(blockBytes)).toBe(0)
  })

  it('asks the device again after a write that failed half-way', async () => {
    const { device, behind, byte } = await cached()
    expect(await byte(1)).toBe(0)
    const write = device.write.bind(device)
    vi.spyOn(device, 'write').mockImplementation(async (offset, from) => {
      await write(offset, from.subarray(0, 2))
      throw new Error('the connection was lost')
    })
    await expect(behind.write(0, new Uint8Array([1, 1, 1, 1]))).rejects.toThrow('the connection was lost')
    expect([await byte(1), await byte(3)]).toEqual([1, 0])
  })
})

describe('what is told of a disk', () => {
  beforeEach(() => {
    vi.useFakeTimers()
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  const fetch = (block: number, ahead: boolean, error?: Error) => ({
    offset: block * blockBytes,
    length: blockBytes,
    ahead,
    milliseconds: 1,
    error,
  })

  it('comes in batches, with a block that was asked for not among those ahead', async () => {
    const told: DiskActivity[] = []
    const log = new DiskLog(blockBytes, async (activity) => void told.push(activity))
    log.asked(blockBytes - 1, 2)
    log.fetched(fetch(0, false))
    log.fetched(fetch(1, true))
    log.fetched(fetch(2, true))
    log.fetched(fetch(3, false, new Error('no')))
    expect(told).toEqual([])
    await vi.advanceTimersByTimeAsync(100)
    expect(told).toEqual([
      { readBytes: blockBytes, aheadBytes: 2 * blockBytes, fetches: 3, asked: [0, 1], ahead: [2] },
    ])
    await vi.advanceTimersByTimeAsync(1000)
    expect(told).toHaveLength(1)
    log.asked(0, 1)
    await vi.advanceTimersByTimeAsync(100)
    expect(told[1]).toEqual({ readBytes: 0, aheadBytes: 0, fetches: 0, asked: [0], ahead: [] })
  })

  it('waits until the last batch was taken, however much happens', async () => {
    const taken: (() => void)[] = []
    const log = new DiskLog(blockBytes, () => new Promise((resolve) => taken.push(resolve)))
    for (let i = 0; i < 50; i++) {
      log.fetched(fetch(i, false))
      await vi.advanceTimersByTimeAsync(100)
    }
    expect(taken).toHaveLength(1)
    taken[0]!()
    await vi.advanceTimersByTimeAsync(100)
    expect(taken).toHaveLength(2)
  })
})
