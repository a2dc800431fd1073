/** The emulator's disk against a plain array: reads and writes between commits that fail, are cancelled, and go on meanwhile. */
import { MemoryDevice } from '@sshblock/blockdev'
import { BlockCache, toV86Disk, type V86Disk } from '@sshblock/blockdev/adapters'
import fc from 'fast-check'
import { describe, expect, it, vi } from 'vitest'

const sector = 512
const noise = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8)) & 255)
const get = (disk: V86Disk, offset: number, length: number): Promise<Uint8Array> =>
  new Promise((resolve) => disk.get(offset, length, resolve))
const set = (disk: V86Disk, offset: number, data: Uint8Array): Promise<void> =>
  new Promise((resolve) => disk.set(offset, data, resolve))

const same = (actual: Uint8Array, expected: Uint8Array, what = ''): void => {
  expect(actual.length).toBe(expected.length)
  expect(Buffer.compare(actual, expected), what).toBe(0)
}

/** Every call waits for its turn, which the test gives in any order, and may fail then. */
class PatientDevice extends MemoryDevice {
  readonly waiting: { what: 'read' | 'write' | 'flush'; go: (fails: boolean) => void }[] = []
  /** A write that fails has got this far: half of it is there. */
  tears = false

  async #turn(what: 'read' | 'write' | 'flush', signal?: AbortSignal): Promise<boolean> {
    const fails = await new Promise<boolean>((go, reject) => {
      const turn = { what, go }
      this.waiting.push(turn)
      signal?.addEventListener('abort', () => {
        const index = this.waiting.indexOf(turn)
        if (index >= 0) this.waiting.splice(index, 1)
        reject(signal.reason)
      })
    })
    return fails
  }

  override async read(offset: number, into: Uint8Array): Promise<void> {
    // What the server read before a write that comes meanwhile.
    const bytes = new Uint8Array(into.length)
    await super.read(offset, bytes)
    if (await this.#turn('read')) throw new Error('the line is down')
    into.set(bytes)
  }

  override async write(offset: number, from: Uint8Array, options?: { signal?: AbortSignal }): Promise<void> {
    if (await this.#turn('write', options?.signal)) {
      if (this.tears) await super.write(offset, from.subarray(0, from.length >> 1))
      throw new Error('the disk is full')
    }
    await super.write(offset, from)
  }

  override async flush(options?: { signal?: AbortSignal }): Promise<void> {
    if (await this.#turn('flush', options?.signal)) throw new Error('the server cannot')
  }

  /** Gives every call its turn until `work` is done. */
  async serve<T>(work: Promise<T>): Promise<T> {
    let done = false
    const over = (): void => {
      done = true
    }
    work.then(over, over)
    while (!done) {
      this.waiting.shift()?.go(false)
      await new Promise((resolve) => setImmediate(resolve))
    }
    return work
  }
}

const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('set' as const),
      at: fc.nat(30),
      count: fc.integer({ min: 1, max: 9 }),
      fill: fc.nat(255),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('get' as const),
      at: fc.nat(30),
      count: fc.integer({ min: 1, max: 9 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('commit' as const), cancel: fc.boolean() }) },
  {
    weight: 8,
    arbitrary: fc.record({ kind: fc.constant('turn' as const), which: fc.nat(7), fails: fc.boolean() }),
  },
)

describe('a disk of v86', () => {
  it('holds what a plain array holds, whatever the order of its server, its failures and its commits', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.boolean(), async (steps, tears) => {
        const content = noise(40 * sector + 100)
        const device = new PatientDevice({ content })
        device.tears = tears
        const disk = toV86Disk(device, { blockBytes: 4 * sector, maxBytes: 16 * sector, retryMs: 0.001 })
        const model = content.slice()
        const checks: Promise<void>[] = []
        // One request of the machine at a time; a commit goes on beside them.
        let machine: Promise<void> = Promise.resolve()
        let commit: Promise<unknown> | undefined
        for (const each of steps) {
          if (each.kind === 'turn') {
            const turns = device.waiting
            turns.splice(each.which % Math.max(1, turns.length), 1)[0]?.go(each.fails)
            await new Promise((resolve) => setImmediate(resolve))
          } else if (each.kind === 'commit') {
            if (commit !== undefined) continue
            const abort = new AbortController()
            commit = disk.commit({ signal: abort.signal }).then(
              () => (commit = undefined),
              () => (commit = undefined),
            )
            if (each.cancel) setImmediate(() => abort.abort())
          } else {
            const { at, count } = each
            const length = Math.min(count, 40 - at) * sector
            machine = machine.then(async () => {
              if (each.kind === 'get')
                same(
                  await get(disk, at * sector, length),
                  model.slice(at * sector, at * sector + length),
                  `get ${at}`,
                )
              else {
                const bytes = new Uint8Array(length).fill(each.fill)
                model.set(bytes, at * sector)
                await set(disk, at * sector, bytes)
              }
            })
            checks.push(machine)
          }
        }
        await device.serve(Promise.all([...checks, commit]))
        await device.serve(disk.commit())
        expect(disk.uncommittedBytes).toBe(0)
        same(device.snapshot(), model, 'the device')
        same(await device.serve(get(disk, 0, 40 * sector)), model.slice(0, 40 * sector), 'the disk')
        disk.close()
      }),
      { numRuns: 100 },
    )
  })

  it('does not show old bytes where a commit ends while the blocks around them are on their way', async () => {
    const device = new PatientDevice({ content: noise(8 * sector) })
    const disk = toV86Disk(device, { blockBytes: 4 * sector, maxBlocksAhead: 0 })
    await set(disk, sector, new Uint8Array(sector).fill(0xaa))
    const reading = get(disk, 0, 2 * sector)
    const committing = disk.commit()
    const turn = (what: string): void => {
      const index = device.waiting.findIndex((each) => each.what === what)
      device.waiting.splice(index, 1)[0]!.go(false)
    }
    await vi.waitFor(() => expect(device.waiting.map(({ what }) => what).sort()).toEqual(['read', 'write']))
    turn('write')
    await vi.waitFor(() => expect(device.waiting.map(({ what }) => what)).toEqual(['read', 'flush']))
    turn('flush')
    await committing
    turn('read')
    same(await reading, new Uint8Array([...noise(sector), ...new Uint8Array(sector).fill(0xaa)]))
  })

  it('shows what the server has, where writes are dropped after a commit that failed', async () => {
    const device = new PatientDevice({ content: noise(8 * sector) })
    device.tears = true
    const disk = toV86Disk(device, { blockBytes: 4 * sector, maxBlocksAhead: 0 })
    await device.serve(get(disk, 0, sector))
    await set(disk, 0, new Uint8Array(sector).fill(0xbb))
    const committing = disk.commit()
    await vi.waitFor(() => expect(device.waiting).toHaveLength(1))
    device.waiting.shift()!.go(true)
    await expect(committing).rejects.toThrow('the disk is full')
    disk.discardWrites()
    same(await device.serve(get(disk, 0, sector)), device.snapshot().slice(0, sector))
  })

  it.each([0, 1, 511, 512, 513, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 700])(
    'has the whole sectors of an image of %i bytes',
    async (size) => {
      const content = noise(size)
      const disk = toV86Disk(new MemoryDevice({ content }))
      const whole = Math.floor(size / sector) * sector
      expect(disk.byteLength).toBe(whole)
      await new Promise<void>((resolve) => {
        disk.onload = () => resolve()
        disk.load()
      })
      if (whole > 0) same(await get(disk, whole - sector, sector), content.slice(whole - sector, whole))
      // What is beyond reads as nothing, and can never be written: a commit would fail for ever.
      same(await get(disk, whole + sector, sector), new Uint8Array(sector))
      expect(() => disk.set(whole, new Uint8Array(sector), () => {})).toThrow(/beyond the disk/)
      expect(disk.uncommittedBytes).toBe(0)
      expect(await disk.commit()).toBe(0)
    },
  )

  it('holds little more than what was written, however often', async () => {
    const disk = toV86Disk(new MemoryDevice({ size: 64 * 1024 * 1024 }), { maxBytes: 1024 * 1024 })
    const before = process.memoryUsage().arrayBuffers
    const data = new Uint8Array(64 * sector)
    for (let round = 0; round < 20; round++)
      for (let at = 0; at < 8 * 1024 * 1024; at += data.length) disk.set(at, data, () => {})
    expect(disk.uncommittedBytes).toBe(8 * 1024 * 1024)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 * 1024 * 1024)
    await disk.commit()
    expect(disk.uncommittedBytes).toBe(0)
  })

  it('goes on trying where the application that is told of a failure fails itself', async () => {
    const device = new MemoryDevice({ content: noise(sector) })
    const read = vi.spyOn(device, 'read').mockRejectedValueOnce(new Error('the line is down'))
    const thrown: unknown[] = []
    const queue = vi.spyOn(globalThis, 'queueMicrotask').mockImplementation((task) => {
      void Promise.resolve()
        .then(task)
        .catch((error: unknown) => thrown.push(error))
    })
    const disk = toV86Disk(device, {
      retryMs: 1,
      onReadError: () => {
        throw new Error('no such element')
      },
    })
    same(await get(disk, 0, sector), noise(sector))
    queue.mockRestore()
    expect(read).toHaveBeenCalledTimes(2)
    expect(thrown).toMatchObject([{ message: 'no such element' }])
  })
})

it('a cache of blocks sees what a device that grew has behind its old end', async () => {
  const device = new MemoryDevice({ content: noise(700) })
  const cache = new BlockCache(device, { blockBytes: 1024, maxBlocksAhead: 0 })
  const into = new Uint8Array(700)
  await cache.read(0, into)
  await device.resize(1000)
  await device.write(700, new Uint8Array(300).fill(9))
  const tail = new Uint8Array(300)
  expect(cache.tryRead(700, tail)).toBe(false)
  await cache.read(700, tail)
  same(tail, new Uint8Array(300).fill(9))
})
