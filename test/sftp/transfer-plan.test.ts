import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { RoundTrip } from '../../packages/sftp/src/core/round-trip.ts'
import {
  FlightWindow,
  type Piece,
  PieceSize,
  pieceLength,
  type ReadPiece,
  ReadPlan,
  WritePlan,
} from '../../packages/sftp/src/core/transfer-plan.ts'

const create = (start: number, length: number): ReadPiece => ({
  start,
  length,
  clippedBytes: 0,
  emptied: false,
})

describe('pieces', () => {
  test.each([
    // offset, remaining, piece: length
    [0, 100, 32_768, 100],
    [0, 32_768, 32_768, 32_768],
    [0, 65_536, 32_768, 32_768],
    // Never a full piece and a crumb.
    [0, 262_144, 261_120, 131_072],
    [0, 1_048_576, 261_120, 212_992],
    // Ends on a page where it can.
    [1000, 1_000_000, 32_768, 31_768],
    [1, 1_000_000, 16_384, 16_383],
    // Small ones do not.
    [4095, 10_000, 4096, 3334],
    [1, 9000, 3000, 3000],
    [0, 5000, 1024, 1000],
  ])('at offset %i with %i to go and %i allowed: %i', (offset, remaining, pieceBytes, expected) => {
    expect(pieceLength(offset, remaining, pieceBytes)).toBe(expected)
  })

  test('always make progress, never exceed what is allowed, and end where the range ends', () => {
    fc.assert(
      fc.property(
        fc.nat(2 ** 40),
        fc.integer({ min: 1, max: 2_000_000 }),
        fc.integer({ min: 1024, max: 261_120 }),
        (offset, length, pieceBytes) => {
          let done = 0
          let count = 0
          while (done < length) {
            const piece = pieceLength(offset + done, length - done, pieceBytes)
            expect(piece).toBeGreaterThan(0)
            expect(piece).toBeLessThanOrEqual(pieceBytes)
            done += piece
            count++
          }
          expect(done).toBe(length)
          // At most one page of each piece is lost to alignment, besides the first and last.
          expect(count).toBeLessThanOrEqual(
            Math.ceil(length / Math.max(pieceBytes - 4096, pieceBytes / 2)) + 2,
          )
        },
      ),
    )
  })
})

describe('FlightWindow', () => {
  test('admits one request however large, then only what fits', () => {
    const window = new FlightWindow(1000, 4000, 10)
    expect(window.admits(5000)).toBe(true)
    window.sent(5000)
    expect(window.admits(1)).toBe(false)
    window.answered(5000)
    expect(window.admits(1000)).toBe(true)
  })

  test('grows by what is answered while it is the limit, up to its maximum', () => {
    const window = new FlightWindow(1000, 3000, 100)
    for (let i = 0; i < 10; i++) window.sent(100)
    expect(window.admits(100)).toBe(false)
    for (let i = 0; i < 10; i++) window.answered(100)
    expect(window.limitBytes).toBe(2000)
    for (let i = 0; i < 20; i++) window.sent(100)
    expect(window.admits(100)).toBe(false)
    for (let i = 0; i < 20; i++) window.answered(100)
    expect(window.limitBytes).toBe(3000)
  })

  test('grows fourfold a round trip where the way is long and nothing has waited, else twofold', () => {
    const afterOne = (leastMs: number, elapsedMs: number): number => {
      let now = 0
      const roundTrip = new RoundTrip(() => now)
      now = leastMs
      roundTrip.measured(0)
      const window = new FlightWindow(1000, 100_000, 1000, roundTrip)
      const sentAt = Array.from({ length: 10 }, () => window.sent(100))
      window.admits(100)
      now += elapsedMs
      for (const at of sentAt) window.answered(100, at)
      return window.limitBytes
    }
    expect(afterOne(50, 74)).toBe(4000)
    expect(afterOne(50, 76)).toBe(2000)
    expect(afterOne(19, 19)).toBe(2000)
  })

  test('stops growing when an answer took more than four times the fastest one', () => {
    let now = 0
    const window = new FlightWindow(1000, 100_000, 1000, new RoundTrip(() => now))
    const round = (elapsedMs: number): void => {
      const count = window.limitBytes / 100
      const sentAt: number[] = []
      for (let i = 0; i < count; i++) sentAt.push(window.sent(100))
      window.admits(100)
      now += elapsedMs
      for (const at of sentAt) window.answered(100, at)
    }
    round(50)
    expect(window.limitBytes).toBe(4000)
    round(200)
    expect(window.limitBytes).toBe(8000)
    round(201)
    round(5000)
    expect(window.limitBytes).toBe(8000)
    // The queue is gone: the way is longer than was thought, or free again.
    round(199)
    expect(window.limitBytes).toBe(16_000)
  })

  test('once it was full, lets several requests leave together rather than one for each answer', () => {
    const window = new FlightWindow(1600, 1600, 1000)
    for (let i = 0; i < 16; i++) window.sent(100)
    expect(window.admits(100)).toBe(false)
    window.answered(100)
    window.answered(100)
    expect(window.admits(100)).toBe(false)
    window.answered(100)
    let left = 0
    for (; window.admits(100); left++) window.sent(100)
    expect(left).toBe(3)
  })

  test('does not grow while it is wide enough', () => {
    const window = new FlightWindow(1000, 3000, 100)
    for (let i = 0; i < 50; i++) {
      expect(window.admits(100)).toBe(true)
      window.sent(100)
      window.answered(100)
    }
    expect(window.limitBytes).toBe(1000)
  })

  test('bounds requests as well as bytes', () => {
    const window = new FlightWindow(1000, 3000, 4)
    for (let i = 0; i < 4; i++) window.sent(1)
    expect(window.admits(1)).toBe(false)
    window.answered(1)
    expect(window.admits(1)).toBe(true)
  })
})

describe('ReadPlan', () => {
  const plan = (length: number, pieceBytes = 1000) =>
    new ReadPlan(0, length, new PieceSize(() => pieceBytes), create)

  test('asks again for exactly the missing tail', () => {
    const read = plan(2000)
    const first = read.take()
    expect(read.data(first, 300)).toBe('again')
    expect(read.nextLength).toBe(700)
    const tail = read.take()
    expect(tail).toMatchObject({ start: 300, length: 700 })
    expect(read.data(tail, 700)).toBe('done')
    expect(read.data(read.take(), 1000)).toBe('done')
    expect(read.hasMore).toBe(false)
    expect(read.length).toBe(2000)
  })

  test('shrinks later pieces to what a clipping server gives, but not for a short answer at the end of the file', () => {
    const size = new PieceSize(() => 10_000)
    const clipped = new ReadPlan(0, 40_000, size, create)
    const piece = clipped.take()
    clipped.data(piece, 4096)
    expect(size.bytes).toBe(10_000)
    clipped.data(clipped.take(), 4096)
    expect(size.bytes).toBe(4096)
    clipped.data(clipped.take(), 10)
    clipped.data(clipped.take(), 5)
    expect(size.bytes).toBe(1024)

    const ending = new PieceSize(() => 10_000)
    const short = new ReadPlan(0, 10_000, ending, create)
    short.data(short.take(), 77)
    short.eof(short.take())
    expect(short.length).toBe(77)
    expect(ending.bytes).toBe(10_000)
  })

  test('the lowest EOF is the end, whatever order answers come in, and nothing behind it is asked again', () => {
    const read = plan(4000)
    const pieces = [read.take(), read.take(), read.take()]
    read.data(pieces[2]!, 10)
    expect(read.hasMore).toBe(true)
    read.eof(pieces[1]!)
    expect(read.hasMore).toBe(false)
    expect(read.data(pieces[0]!, 1000)).toBe('done')
    expect(read.length).toBe(1000)
  })

  test('one empty answer is asked again, a second one is stuck; bytes in between begin anew', () => {
    const read = plan(1000)
    const piece = read.take()
    expect(read.data(piece, 0)).toBe('again')
    expect(read.data(read.take(), 10)).toBe('again')
    expect(read.data(read.take(), 0)).toBe('again')
    expect(read.data(read.take(), 0)).toBe('stuck')
  })

  test('the server’s limit is looked at for every piece', () => {
    let ceiling = 100
    const read = new ReadPlan(0, 10_000, new PieceSize(() => ceiling), create)
    expect(read.take().length).toBe(100)
    ceiling = 4096
    expect(read.take().length).toBeGreaterThan(3000)
  })
})

describe('WritePlan', () => {
  test('confirms the prefix without a gap, in whatever order acknowledgements come', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(), { minLength: 20, maxLength: 20 }), (keys) => {
        const write = new WritePlan<Piece>(
          0,
          20_000,
          () => 1000,
          (start, length) => ({ start, length }),
        )
        const pieces: Piece[] = []
        while (write.hasMore) pieces.push(write.take())
        expect(pieces).toHaveLength(20)
        const order = pieces.map((piece, i) => ({ piece, key: keys[i]! })).sort((a, b) => a.key - b.key)
        const acknowledged = new Set<number>()
        for (const { piece } of order) {
          write.acknowledged(piece)
          acknowledged.add(piece.start)
          let prefix = 0
          for (const each of pieces) {
            if (!acknowledged.has(each.start)) break
            prefix = each.start + each.length
          }
          expect(write.confirmedBytes).toBe(prefix)
        }
        expect(write.confirmedBytes).toBe(20_000)
      }),
    )
  })
})
