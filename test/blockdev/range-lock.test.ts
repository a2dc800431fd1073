import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type AcquireOptions, type Hold, RangeLock } from '../../packages/blockdev/src/layers/range-lock.ts'
import { settle } from './scripted-file.ts'

async function state(lock: RangeLock, offset: number, length: number, options: AcquireOptions) {
  const slot: { hold?: Hold; error?: unknown } = {}
  const granted = lock.acquire(offset, length, options)
  if (granted instanceof Promise) {
    granted.then(
      (hold) => {
        slot.hold = hold
      },
      (error: unknown) => {
        slot.error = error
      },
    )
    await settle()
  } else slot.hold = granted
  return slot
}

const read = { write: false }
const write = { write: true }

describe('range lock', () => {
  test('lets readers of one range in together, and a writer only after them', async () => {
    const lock = new RangeLock(1000)
    const a = await state(lock, 0, 10, read)
    const b = await state(lock, 5, 10, read)
    const c = await state(lock, 9, 1, write)
    expect([a.hold, b.hold, c.hold].map(Boolean)).toEqual([true, true, false])
    a.hold!.release()
    await settle()
    expect(c.hold).toBeUndefined()
    b.hold!.release()
    await settle()
    expect(c.hold).toBeDefined()
  })

  test('lets nothing that overlaps a waiting writer overtake it, and everything else', async () => {
    const lock = new RangeLock(1000)
    const a = await state(lock, 0, 10, read)
    const b = await state(lock, 0, 10, write)
    const later = await state(lock, 5, 2, read)
    const elsewhere = await state(lock, 10, 10, write)
    expect([b.hold, later.hold, elsewhere.hold].map(Boolean)).toEqual([false, false, true])
    a.hold!.release()
    await settle()
    expect([b.hold, later.hold].map(Boolean)).toEqual([true, false])
    b.hold!.release()
    await settle()
    expect(later.hold).toBeDefined()
  })

  test('bounds the bytes in flight; calls beyond wait in order, and one larger than the bound goes alone', async () => {
    const lock = new RangeLock(100)
    const a = await state(lock, 0, 60, read)
    const big = await state(lock, 1000, 500, read)
    const small = await state(lock, 5000, 1, read)
    expect([big.hold, small.hold].map(Boolean)).toEqual([false, false])
    expect(lock.bytesInFlight).toBe(60)
    a.hold!.release()
    await settle()
    expect([big.hold, small.hold].map(Boolean)).toEqual([true, false])
    big.hold!.release()
    await settle()
    expect(small.hold).toBeDefined()
    small.hold!.release()
    expect(lock.bytesInFlight).toBe(0)
    expect(lock.calls).toBe(0)
  })

  test('a cancelled wait leaves the order of the others as it was', async () => {
    const lock = new RangeLock(1000)
    const a = await state(lock, 0, 10, write)
    const abort = new AbortController()
    const b = await state(lock, 0, 20, { write: true, signal: abort.signal })
    const c = await state(lock, 5, 10, read)
    const d = await state(lock, 15, 5, read)
    abort.abort(new Error('enough'))
    await settle()
    expect(b.error).toMatchObject({ message: 'enough' })
    expect(d.hold).toBeDefined()
    expect(c.hold).toBeUndefined()
    a.hold!.release()
    await settle()
    expect(c.hold).toBeDefined()
    expect(b.hold).toBeUndefined()
    c.hold!.release()
    d.hold!.release()
    await lock.idle()
    expect(lock.bytesInFlight).toBe(0)
  })

  test('a wait for room can be cancelled, and those behind it go on', async () => {
    const lock = new RangeLock(100)
    const a = await state(lock, 0, 60, read)
    const abort = new AbortController()
    const b = await state(lock, 100, 60, { write: false, signal: abort.signal })
    const c = await state(lock, 200, 30, read)
    expect(c.hold).toBeUndefined()
    abort.abort()
    await settle()
    expect(b.error).toBeDefined()
    expect(c.hold).toBeDefined()
    a.hold!.release()
    c.hold!.release()
    expect(lock.calls).toBe(0)
  })

  test('asks read-ahead to give up when a writer comes, and takes none where a writer is', async () => {
    const lock = new RangeLock(100)
    let asked = 0
    const ahead = lock.tryHold(0, 100, () => asked++)!
    expect((await state(lock, 0, 50, read)).hold).toBeDefined()
    const writer = await state(lock, 60, 10, write)
    expect(asked).toBe(1)
    expect(writer.hold).toBeUndefined()
    expect(lock.tryHold(65, 1, () => {})).toBeUndefined()
    ahead.release()
    await settle()
    expect(writer.hold).toBeDefined()
    expect(lock.tryHold(65, 1, () => {})).toBeUndefined()
    expect(lock.bytesInFlight).toBe(60)
  })

  test('read-ahead that gives up at once lets the writer in at once', () => {
    const lock = new RangeLock(100)
    const ahead: Hold = lock.tryHold(0, 10, () => ahead.release())!
    expect(lock.acquire(5, 1, write)).not.toBeInstanceOf(Promise)
  })

  test('any history: conflicting calls hold in the order they were made, never together, and all get in', async () => {
    const call = fc.record({
      offset: fc.integer({ min: 0, max: 30 }),
      length: fc.integer({ min: 1, max: 12 }),
      write: fc.boolean(),
      cancel: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
      hops: fc.integer({ min: 0, max: 6 }),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(call, { minLength: 1, maxLength: 30 }), async (calls) => {
        const lock = new RangeLock(40)
        const done: number[] = []
        const live = new Set<number>()
        const conflicts = (i: number, j: number) => {
          const a = calls[i]!
          const b = calls[j]!
          return (a.write || b.write) && a.offset < b.offset + b.length && b.offset < a.offset + a.length
        }
        await Promise.all(
          calls.map(async ({ offset, length, write: isWrite, cancel, hops }, i) => {
            const abort = new AbortController()
            const granted = lock.acquire(offset, length, { write: isWrite, signal: abort.signal })
            if (cancel) abort.abort()
            let hold: Hold
            try {
              hold = await granted
            } catch {
              done.push(i)
              return
            }
            for (const other of live) expect(conflicts(i, other)).toBe(false)
            for (let j = 0; j < i; j++) if (conflicts(i, j) && !calls[j]!.cancel) expect(done).toContain(j)
            live.add(i)
            for (let hop = 0; hop < hops; hop++) await undefined
            live.delete(i)
            done.push(i)
            hold.release()
          }),
        )
        expect(done).toHaveLength(calls.length)
        expect(lock.bytesInFlight).toBe(0)
        expect(lock.calls).toBe(0)
      }),
    )
  })
})
