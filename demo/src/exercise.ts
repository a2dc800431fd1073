// The work itself: patterns written in order and at random places, flushed, read back through a fresh connection.

import type { BlockDevice } from '@sshblock/blockdev'
import { blockBytes, fillPattern, randomPlaces } from './pattern.ts'
import { timed } from './report.ts'

const chunkBytes = 1024 ** 2
const inFlight = 8
const randomWrites = 256

export class MismatchError extends Error {}

/** Calls `each` for the chunks of `size` bytes, several at once. */
async function forChunks(
  size: number,
  each: (offset: number, length: number) => Promise<void>,
): Promise<void> {
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < size) {
      const offset = next
      next += chunkBytes
      await each(offset, Math.min(chunkBytes, size - offset))
    }
  }
  await Promise.all(Array.from({ length: inFlight }, worker))
}

/** Writes the pattern over the first `size` bytes, then other blocks at random places, then flushes. */
export async function writePatterns(device: BlockDevice, size: number, seed: number): Promise<void> {
  await timed('write in order', size, async (advance) => {
    await forChunks(size, async (offset, length) => {
      const chunk = new Uint8Array(length)
      fillPattern(chunk, offset, seed, 0)
      await device.write(offset, chunk)
      advance(length)
    })
    await device.flush()
  })
  const places = randomPlaces(randomWrites, size, seed)
  await timed('write at random', places.length * blockBytes, async (advance) => {
    await Promise.all(
      places.map(async (offset) => {
        const block = new Uint8Array(blockBytes)
        fillPattern(block, offset, seed, 1)
        await device.write(offset, block)
        advance(blockBytes)
      }),
    )
    await device.flush()
  })
}

/** What must be on the disk after writePatterns; `overwritten` are the places of its second round. */
function expectedChunk(
  offset: number,
  length: number,
  seed: number,
  overwritten: ReadonlySet<number>,
): Uint8Array {
  const chunk = new Uint8Array(length)
  fillPattern(chunk, offset, seed, 0)
  for (let at = 0; at < length; at += blockBytes) {
    if (overwritten.has(offset + at)) fillPattern(chunk.subarray(at, at + blockBytes), offset + at, seed, 1)
  }
  return chunk
}

/** Reads everything back and compares. Throws MismatchError with the first byte that differs. */
export async function verifyPatterns(device: BlockDevice, size: number, seed: number): Promise<void> {
  const overwritten = new Set(randomPlaces(randomWrites, size, seed))
  await timed('read in order', size, async (advance) => {
    await forChunks(size, async (offset, length) => {
      const chunk = new Uint8Array(length)
      await device.read(offset, chunk)
      compare(chunk, expectedChunk(offset, length, seed, overwritten), offset)
      advance(length)
    })
  })
  const places = randomPlaces(randomWrites, size, seed + 1)
  await timed('read at random', places.length * blockBytes, async (advance) => {
    await Promise.all(
      places.map(async (offset) => {
        const block = new Uint8Array(blockBytes)
        await device.read(offset, block)
        compare(block, expectedChunk(offset, blockBytes, seed, overwritten), offset)
        advance(blockBytes)
      }),
    )
  })
}

/** Only reads: for images that are not ours. */
export async function readThrough(device: BlockDevice, size: number, seed: number): Promise<void> {
  await timed('read in order', size, (advance) =>
    forChunks(size, async (offset, length) => {
      await device.read(offset, new Uint8Array(length))
      advance(length)
    }),
  )
  const places = randomPlaces(randomWrites, Math.floor(size / blockBytes) * blockBytes, seed)
  await timed('read at random', places.length * blockBytes, async (advance) => {
    await Promise.all(
      places.map(async (offset) => {
        await device.read(offset, new Uint8Array(blockBytes))
        advance(blockBytes)
      }),
    )
  })
}

export function compare(actual: Uint8Array, expected: Uint8Array, offset: number): void {
  if (Buffer.compare(actual, expected) === 0) return
  const at = actual.findIndex((byte, i) => byte !== expected[i])
  throw new MismatchError(`byte ${offset + at} is ${actual[at]}, expected ${expected[at]}`)
}
