/** A block device for others: the cache of blocks, v86's disk, file-disk and what is built on it, and the handle over a port. */

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { MessageChannel } from 'node:worker_threads'
import { MemoryDevice } from '@sshblock/blockdev'
import {
  BlockCache,
  type BlockFetch,
  type DevicePort,
  deviceFromPort,
  serveDevice,
  toFileDisk,
  toV86Disk,
} from '@sshblock/blockdev/adapters'
import { describe, expect, it, vi } from 'vitest'
import { demoDiskBytes, makeDemoDisk } from '../../packages/web/src/demo/demo-disk.ts'
import { describeWith } from '../support/requirements.ts'
import { makeExt, needsE2fsprogs, sampleTree } from '../web/image-files.ts'

const kibibyte = 1024
const require = createRequire(new URL('../../packages/web/package.json', import.meta.url))

const noise = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8)) & 255)

/** As `toEqual`, which takes seconds for large arrays. */
const same = (actual: Uint8Array | undefined, expected: Uint8Array): void => {
  expect(actual?.length).toBe(expected.length)
  expect(Buffer.compare(actual!, expected)).toBe(0)
}

/** A device whose reads can be made to fail or wait, and are counted. */
class ScriptedDevice extends MemoryDevice {
  reads: { offset: number; length: number }[] = []
  failReads = 0
  failWritesFrom = Number.POSITIVE_INFINITY
  writes = 0
  flushes = 0
  gate: Promise<void> | undefined

  override async read(offset: number, into: Uint8Array): Promise<void> {
    this.reads.push({ offset, length: into.length })
    await this.gate
    if (this.failReads > 0) {
      this.failReads--
      throw new Error('the line is down')
    }
    await super.read(offset, into)
  }

  override async write(offset: number, from: Uint8Array): Promise<void> {
    if (this.writes++ >= this.failWritesFrom) throw new Error('the disk is full')
    await super.write(offset, from)
  }

  override async flush(): Promise<void> {
    this.flushes++
  }
}

describe('a block cache', () => {
  const content = noise(100 * kibibyte + 300)
  const options = { blockBytes: 4 * kibibyte, maxBlocksAhead: 4 }

  it('fetches whole blocks, each once however many wait for it, and the last one as short as it is', async () => {
    const device = new ScriptedDevice({ content })
    const cache = new BlockCache(device, { ...options, maxBlocksAhead: 0 })
    const parts = await Promise.all(
      [5000, 5100, 8000].map(async (offset) => {
        const into = new Uint8Array(400)
        await cache.read(offset, into)
        return into
      }),
    )
    parts.forEach((part, i) => {
      const offset = [5000, 5100, 8000][i]!
      same(part, content.slice(offset, offset + 400))
    })
    expect(device.reads).toEqual([
      { offset: 4096, length: 4096 },
      { offset: 8192, length: 4096 },
    ])
    const end = new Uint8Array(300)
    await cache.read(100 * kibibyte, end)
    same(end, content.slice(100 * kibibyte))
    expect(device.reads.at(-1)).toEqual({ offset: 100 * kibibyte, length: 300 })
  })

  it('reads ahead of a reader that goes on, more each time, and not of one that jumps', async () => {
    const device = new ScriptedDevice({ content })
    const fetches: BlockFetch[] = []
    const cache = new BlockCache(device, { ...options, onFetch: (fetch) => void fetches.push(fetch) })
    const into = new Uint8Array(kibibyte)
    for (const offset of [80, 40, 60]) await cache.read(offset * kibibyte, into)
    expect(device.reads.length).toBe(3)
    for (let offset = 0; offset < 24 * kibibyte; offset += kibibyte) await cache.read(offset, into)
    await vi.waitFor(() => expect(fetches.length).toBe(device.reads.length))
    const ahead = fetches.filter((fetch) => fetch.ahead)
    expect(ahead.length).toBeGreaterThan(4)
    expect(new Set(device.reads.map(({ offset }) => offset)).size).toBe(device.reads.length)
  })

  it('keeps what was used last and no more than it may', async () => {
    const device = new ScriptedDevice({ content })
    const cache = new BlockCache(device, { blockBytes: 4096, maxBytes: 3 * 4096, maxBlocksAhead: 0 })
    const into = new Uint8Array(10)
    for (const block of [0, 5, 9, 0, 12, 0]) await cache.read(block * 4096, into)
    expect(device.reads.map(({ offset }) => offset / 4096)).toEqual([0, 5, 9, 12])
    expect(cache.heldBytes).toBe(3 * 4096)
    expect(cache.tryRead(5 * 4096, into)).toBe(false)
    // One read of more than it holds.
    const large = new Uint8Array(20 * 4096)
    await cache.read(0, large)
    same(large, content.slice(0, large.length))
    expect(cache.heldBytes).toBeLessThanOrEqual(3 * 4096)
  })

  it('forgets a fetch that failed: the next read asks again', async () => {
    const device = new ScriptedDevice({ content })
    const cache = new BlockCache(device, options)
    device.failReads = 1
    const into = new Uint8Array(100)
    await expect(cache.read(0, into)).rejects.toThrow('the line is down')
    await cache.read(0, into)
    same(into, content.slice(0, 100))
  })

  it('cancels one reader and serves the other', async () => {
    const device = new ScriptedDevice({ content })
    let open = (): void => {}
    device.gate = new Promise((resolve) => {
      open = resolve
    })
    const cache = new BlockCache(device, options)
    const abort = new AbortController()
    const [first, second] = [new Uint8Array(10), new Uint8Array(10)]
    const cancelled = cache.read(0, first, { signal: abort.signal })
    const other = cache.read(0, second)
    abort.abort()
    await expect(cancelled).rejects.toMatchObject({ code: 'ABORT_ERR' })
    open()
    await other
    same(second, content.slice(0, 10))
    expect(device.reads.length).toBe(1)
  })
})

describe('a disk of v86', () => {
  const content = noise(64 * kibibyte)
  const get = (disk: ReturnType<typeof toV86Disk>, offset: number, length: number): Promise<Uint8Array> =>
    new Promise((resolve) => disk.get(offset, length, resolve))
  const set = (disk: ReturnType<typeof toV86Disk>, offset: number, data: Uint8Array): Promise<void> =>
    new Promise((resolve) => disk.set(offset, data, resolve))

  it('loads by its first sector, and calls back after the call', async () => {
    const disk = toV86Disk(new MemoryDevice({ content }))
    await new Promise<void>((resolve) => {
      disk.onload = () => resolve()
      disk.load()
    })
    let called = false
    disk.get(0, 512, () => {
      called = true
    })
    expect(called).toBe(false)
    same(disk.get_from_cache(0, 512), content.slice(0, 512))
    expect(disk.byteLength).toBe(content.length)
  })

  it('shows writes at once, copies them, and sends nothing until it is told to', async () => {
    const device = new ScriptedDevice({ content })
    const disk = toV86Disk(device)
    const reused = new Uint8Array(1024).fill(0xaa)
    const written = set(disk, 1024, reused)
    reused.fill(0xbb)
    await written
    const expected = content.slice()
    expected.fill(0xaa, 1024, 2048)
    same(await get(disk, 0, 4096), expected.slice(0, 4096))
    same(await get(disk, 1536, 512), expected.slice(1536, 2048))
    expect(disk.uncommittedBytes).toBe(1024)
    same(device.snapshot(), content)
    expect(device.writes).toBe(0)

    expect(await disk.commit()).toBe(1024)
    same(device.snapshot(), expected)
    expect(device.flushes).toBe(1)
    expect(disk.uncommittedBytes).toBe(0)
    same(await get(disk, 0, 4096), expected.slice(0, 4096))
  })

  it('joins neighbours of a commit, in any order of writing, and tells how far it is', async () => {
    const device = new ScriptedDevice({ content })
    const disk = toV86Disk(device)
    const expected = content.slice()
    for (const sector of [9, 3, 8, 10, 2, 40, 7]) {
      const bytes = new Uint8Array(512).fill(sector)
      expected.set(bytes, sector * 512)
      await set(disk, sector * 512, bytes)
    }
    const progress: number[] = []
    await disk.commit({ onProgress: ({ writtenBytes }) => void progress.push(writtenBytes) })
    same(device.snapshot(), expected)
    expect(device.writes).toBe(3)
    expect(progress.at(-1)).toBe(7 * 512)
  })

  it('loses nothing when a commit fails, not even what was written meanwhile', async () => {
    const device = new ScriptedDevice({ content })
    const disk = toV86Disk(device)
    await set(disk, 0, new Uint8Array(512).fill(1))
    await set(disk, 4096, new Uint8Array(512).fill(2))
    device.failWritesFrom = 1
    const failing = disk.commit()
    await expect(disk.commit()).rejects.toMatchObject({ code: 'ERR_USAGE' })
    // Newer than what is being sent.
    await set(disk, 4096, new Uint8Array(512).fill(3))
    await expect(failing).rejects.toThrow('the disk is full')
    expect(disk.uncommittedBytes).toBe(1024)
    device.failWritesFrom = Number.POSITIVE_INFINITY
    await disk.commit()
    const expected = content.slice()
    expected.fill(1, 0, 512).fill(3, 4096, 4608)
    same(device.snapshot(), expected)
  })

  it('tries a failed read again until it succeeds, and says so', async () => {
    const device = new ScriptedDevice({ content })
    device.failReads = 3
    const told: [number, number][] = []
    const disk = toV86Disk(device, {
      maxBlocksAhead: 0,
      retryMs: 1,
      onReadError: (_error, attempt, retryMs) => void told.push([attempt, retryMs]),
    })
    same(await get(disk, 512, 512), content.slice(512, 1024))
    expect(told).toEqual([
      [1, 1],
      [2, 2],
      [3, 4],
    ])
  })

  it('ends the trying when it is closed, and does not call back', async () => {
    const device = new ScriptedDevice({ content })
    device.failReads = Number.POSITIVE_INFINITY
    let attempts = 0
    let called = false
    const disk = toV86Disk(device, { retryMs: 1, onReadError: () => void attempts++ })
    disk.get(0, 512, () => {
      called = true
    })
    await vi.waitFor(() => expect(attempts).toBeGreaterThan(1))
    disk.close()
    const before = attempts
    await new Promise((resolve) => setTimeout(resolve, 30))
    expect(attempts).toBeLessThanOrEqual(before + 1)
    expect(called).toBe(false)
  })

  it('of a read-only device takes writes, and refuses to commit them', async () => {
    const disk = toV86Disk(new MemoryDevice({ content, readOnly: true }))
    await set(disk, 0, new Uint8Array(512).fill(9))
    expect((await get(disk, 0, 512))[0]).toBe(9)
    await expect(disk.commit()).rejects.toMatchObject({ code: 'EROFS' })
    expect(disk.uncommittedBytes).toBe(512)
    disk.discardWrites()
    same(await get(disk, 0, 512), content.slice(0, 512))
  })

  it('holds what a plain disk holds after random reads, writes and commits', async () => {
    const device = new ScriptedDevice({ content })
    const disk = toV86Disk(device, { blockBytes: 2048, maxBytes: 8192 })
    const model = content.slice()
    let state = 12_345
    const random = (below: number): number => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
      return (state >>> 8) % below
    }
    const commits: Promise<number>[] = []
    for (let i = 0; i < 600; i++) {
      const sectors = 1 + random(9)
      const offset = random(128 - sectors) * 512
      if (random(2) === 0) {
        const bytes = new Uint8Array(sectors * 512).fill(random(256))
        model.set(bytes, offset)
        await set(disk, offset, bytes)
      } else same(await get(disk, offset, sectors * 512), model.slice(offset, offset + sectors * 512))
      if (random(60) === 0) {
        await commits.at(-1)
        commits.push(disk.commit())
      }
    }
    await Promise.all(commits)
    await disk.commit()
    same(device.snapshot(), model)
    expect(commits.length).toBeGreaterThan(3)
  })
})

describe("a disk of balena's file-disk", () => {
  const { Disk } = require('file-disk')
  const demo = (): Uint8Array => {
    const image = new Uint8Array(demoDiskBytes)
    for (const { offset, bytes } of makeDemoDisk(new Date('2026-01-01'))) image.set(bytes, offset)
    return image
  }

  it('gives partitioninfo the partitions, in a few reads of whole blocks', async () => {
    const device = new ScriptedDevice({ content: demo() })
    const disk = toFileDisk(Disk, device)
    const table = await require('partitioninfo').getPartitions(disk)
    expect(table).toMatchObject({ type: 'mbr', partitions: [{ index: 1, offset: 1_048_576, type: 14 }] })
    expect(device.reads.length).toBeLessThan(5)
  })

  it('reads, writes and flushes as a disk of a file does', async () => {
    const device = new ScriptedDevice({ content: noise(10_000) })
    const disk = toFileDisk(Disk, device) as {
      read(...args: unknown[]): Promise<{ bytesRead: number }>
      write(...args: unknown[]): Promise<unknown>
      flush(): Promise<void>
      getCapacity(): Promise<number>
    }
    expect(await disk.getCapacity()).toBe(10_000)
    const buffer = Buffer.alloc(200)
    // Before the cache knows the block, and after.
    for (const fill of [5, 6]) {
      await disk.write(Buffer.alloc(100, fill), 0, 100, 9950 - 100)
      expect((await disk.read(buffer, 0, 150, 9850)).bytesRead).toBe(150)
      expect(buffer.subarray(0, 100)).toEqual(Buffer.alloc(100, fill))
    }
    await disk.flush()
    expect(device.flushes).toBe(1)
    expect(device.snapshot().slice(9850, 9950)).toEqual(new Uint8Array(100).fill(6))
  })

  describeWith([needsE2fsprogs], 'over an ext4 image', () => {
    it('gives ext2fs its files', async () => {
      const { root, files } = sampleTree()
      const device = new ScriptedDevice({ content: readFileSync(await makeExt(root, ['-t', 'ext4'])) })
      const disk = toFileDisk(Disk, device)
      const { withMountedDisk } = require('ext2fs')
      const found = await withMountedDisk(
        disk,
        0,
        async ({ promises }: { promises: typeof import('node:fs/promises') }) => ({
          names: (await promises.readdir('/')).sort(),
          large: await wholeFile(promises, '/deep/large.bin'),
        }),
      )
      expect(found.names).toEqual(
        ['A name with blanks, and Ümläuts.text', 'deep', 'empty', 'lost+found', 'many', 'short.txt'].sort(),
      )
      expect(Buffer.compare(found.large, files.get('deep/large.bin')!)).toBe(0)
    })
  })
})

async function wholeFile(promises: typeof import('node:fs/promises'), path: string): Promise<Uint8Array> {
  const { size } = await promises.stat(path)
  const handle = await promises.open(path, 'r')
  const bytes = Buffer.alloc(size)
  await handle.read(bytes, 0, size, 0)
  await handle.close()
  return bytes
}

describe('a device over a port', () => {
  function pair(device: MemoryDevice): { near: DevicePort; stop: () => void; close: () => void } {
    const { port1, port2 } = new MessageChannel()
    const stop = serveDevice(device, port2 as unknown as DevicePort)
    return { near: port1 as unknown as DevicePort, stop, close: () => port1.close() }
  }

  it('is the device: content, sizes, errors', async () => {
    const device = new MemoryDevice({ content: noise(5000), grow: false })
    const { near, close } = pair(device)
    const handle = await deviceFromPort(near)
    const { size, blockSize, preferredBlockSize, readOnly, hasZeroInit, durability } = device
    expect(handle).toMatchObject({ size, blockSize, preferredBlockSize, readOnly, hasZeroInit, durability })
    const into = new Uint8Array(100)
    await handle.read(1000, into)
    same(into, noise(5000).slice(1000, 1100))
    const from = new Uint8Array(10).fill(1)
    await handle.write(2000, from, { fua: true })
    // The caller's bytes were copied, not taken away.
    expect(from.length).toBe(10)
    await handle.writeZeroes(3000, 10)
    await handle.flush()
    expect(device.snapshot()[2005]).toBe(1)
    expect(device.snapshot()[3005]).toBe(0)
    await expect(handle.write(4999, from)).rejects.toMatchObject({
      name: 'BlockDeviceError',
      code: 'EINVAL',
      offset: 4999,
      length: 10,
    })
    await expect(handle.discard(0, 512)).rejects.toMatchObject({ code: 'ENOTSUP' })
    await expect(handle.read(6000, into)).rejects.toMatchObject({ code: 'EINVAL' })
    await handle.resize(8000)
    expect(handle.size).toBe(8000)
    expect(handle.extents(0, 100)).toEqual([{ offset: 0, length: 100, zero: false }])
    await handle.close()
    await expect(handle.read(0, into)).rejects.toMatchObject({ code: 'EBADF' })
    await expect(device.read(0, into)).rejects.toMatchObject({ code: 'EBADF' })
    close()
  })

  it('cancels a call over there, and tells an error with its causes', async () => {
    const device = new ScriptedDevice({ content: noise(512) })
    const { near, close, stop } = pair(device)
    const handle = await deviceFromPort(near)
    const seen: AbortSignal[] = []
    device.read = async (_offset, _into, options?: { signal?: AbortSignal }) => {
      seen.push(options!.signal!)
      await new Promise((_, reject) =>
        options!.signal!.addEventListener('abort', () => reject(options!.signal!.reason)),
      )
    }
    const abort = new AbortController()
    const pending = handle.read(0, new Uint8Array(512), { signal: abort.signal })
    await vi.waitFor(() => expect(seen.length).toBe(1))
    abort.abort()
    await expect(pending).rejects.toMatchObject({ name: 'BlockDeviceError', code: 'ABORT_ERR' })
    await vi.waitFor(() => expect(seen[0]?.aborted).toBe(true))
    await expect(handle.read(0, new Uint8Array(512), { signal: abort.signal })).rejects.toMatchObject({
      code: 'ABORT_ERR',
    })
    device.flush = async () => {
      throw new Error('outer', { cause: new Error('inner') })
    }
    await expect(handle.flush()).rejects.toMatchObject({
      code: 'EIO',
      message: 'outer',
      cause: { message: 'inner' },
    })
    const waiting = handle.read(0, new Uint8Array(512))
    handle.abandon('gone')
    await expect(waiting).rejects.toMatchObject({ code: 'EIO' })
    stop()
    close()
  })
})
