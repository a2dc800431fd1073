// From one device to another: an image copied without its zeros, in an order that lets an interrupted copy go on later,
// and two devices compared. The target grows by segments, and a segment is complete before the next one begins, so the
// size that an interrupted copy left tells what may be kept (resumePoint); how much of that is true is then read back
// (startsAlike). Buffers are this file's own; nothing here opens, closes or renames anything.

import type { BlockDevice, CallOptions } from './device.ts'

/** What of a copy may be in any order, in bytes. */
export const copySegmentBytes = 64 * 1024 * 1024
const chunkBytes = 1024 * 1024
const chunksAtOnce = 16
/** Zeros of this length and alignment are not written. */
const holeBytes = 64 * 1024
const sampleBytes = 1024 * 1024

export interface CopyProgress {
  /** Bytes from the start of the image that are dealt with, in whatever order. */
  readonly doneBytes: number
  readonly totalBytes: number
}

export interface CompareImagesOptions extends CallOptions {
  onProgress?: (progress: CopyProgress) => void
}

export interface CopyImageOptions extends CompareImagesOptions {
  /** Bytes at the start that the target has already; see resumePoint. Default 0. */
  start?: number
}

export interface CopyImageResult {
  /** Bytes that were written; the rest was zeros, or there before. */
  readonly dataBytes: number
}

/** How many bytes at the start an interrupted copy that left a target of this size may have completed. */
export function resumePoint(sizeBytes: number): number {
  return Math.max(0, Math.ceil(sizeBytes / copySegmentBytes) - 1) * copySegmentBytes
}

/**
 * Copies all of `source` to `target`, which gets its size. Long zeros stay holes where the target has never been written.
 * Flushes at the end.
 * @throws BlockDeviceError of either device. The target is then as far as its size says: see resumePoint.
 */
export async function copyImage(
  source: BlockDevice,
  target: BlockDevice,
  options: CopyImageOptions = {},
): Promise<CopyImageResult> {
  const { start = 0, signal } = options
  const size = source.size
  if (target.size > size) await target.resize(size, { shrink: true, signal })
  // What was there before may be anything; what the target grows by reads as zeros.
  const zeroFrom = target.hasZeroInit ? 0 : target.size
  let dataBytes = 0
  let doneBytes = Math.min(start, size)
  const copyChunk = async (offset: number, buffer: Uint8Array): Promise<void> => {
    await source.read(offset, buffer, { signal })
    for (const run of zeroRuns(buffer)) {
      const at = offset + run.offset
      if (!run.zero) {
        await target.write(at, buffer.subarray(run.offset, run.offset + run.length), { signal })
        dataBytes += run.length
      } else if (at < zeroFrom) await target.writeZeroes(at, run.length, { signal })
    }
    doneBytes += buffer.length
    options.onProgress?.({ doneBytes, totalBytes: size })
  }
  for (let at = doneBytes; at < size; ) {
    const end = Math.min(size, (Math.floor(at / copySegmentBytes) + 1) * copySegmentBytes)
    if (target.size < end) await target.resize(end, { signal })
    await eachChunk(at, end, copyChunk)
    at = end
  }
  await target.flush({ signal })
  return { dataBytes }
}

/** Whether both devices begin with the same bytes, as far as samples of the first `length` tell: start, middle and end. */
export async function startsAlike(
  a: BlockDevice,
  b: BlockDevice,
  length: number,
  options: CallOptions = {},
): Promise<boolean> {
  if (length > a.size || length > b.size) return false
  const sample = Math.min(length, sampleBytes)
  const ours = new Uint8Array(sample)
  const theirs = new Uint8Array(sample)
  for (const offset of [length - sample, 0, Math.floor((length - sample) / 2)]) {
    await Promise.all([a.read(offset, ours, options), b.read(offset, theirs, options)])
    if (differenceIn(ours, theirs) !== undefined) return false
  }
  return true
}

/**
 * Compares two devices.
 * @returns the offset of the first byte that differs (the end of the shorter one where all before is equal), or undefined.
 */
export async function firstDifference(
  a: BlockDevice,
  b: BlockDevice,
  options: CompareImagesOptions = {},
): Promise<number | undefined> {
  const { signal } = options
  const size = Math.min(a.size, b.size)
  let first = a.size === b.size ? undefined : size
  let doneBytes = 0
  await eachChunk(0, size, async (offset, ours) => {
    if (first !== undefined && offset >= first) return
    const theirs = new Uint8Array(ours.length)
    await Promise.all([a.read(offset, ours, { signal }), b.read(offset, theirs, { signal })])
    const at = differenceIn(ours, theirs)
    if (at !== undefined) first = Math.min(first ?? size, offset + at)
    doneBytes += ours.length
    options.onProgress?.({ doneBytes, totalBytes: size })
  })
  return first
}

/** Calls `work` for every chunk, several at a time, begun in order. The first error ends it when all that began are over. */
async function eachChunk(
  from: number,
  to: number,
  work: (offset: number, buffer: Uint8Array) => Promise<void>,
): Promise<void> {
  let next = from
  let failed = false
  const worker = async (): Promise<void> => {
    const buffer = new Uint8Array(Math.min(chunkBytes, to - from))
    while (next < to && !failed) {
      const offset = next
      const length = Math.min(chunkBytes, to - offset)
      next += length
      try {
        await work(offset, buffer.subarray(0, length))
      } catch (error) {
        failed = true
        throw error
      }
    }
  }
  const workers = Array.from({ length: Math.min(chunksAtOnce, Math.ceil((to - from) / chunkBytes)) }, worker)
  const ends = await Promise.allSettled(workers)
  for (const end of ends) if (end.status === 'rejected') throw end.reason
}

interface Run {
  offset: number
  length: number
  zero: boolean
}

/** Stretches of zeros and data, cut at multiples of holeBytes. */
function zeroRuns(bytes: Uint8Array): Run[] {
  const runs: Run[] = []
  for (let offset = 0; offset < bytes.length; offset += holeBytes) {
    const part = bytes.subarray(offset, Math.min(offset + holeBytes, bytes.length))
    const zero = isZero(part)
    const last = runs.at(-1)
    if (last !== undefined && last.zero === zero) last.length += part.length
    else runs.push({ offset, length: part.length, zero })
  }
  return runs
}

// By words, and left at the first that is not zero: data costs next to nothing.
function isZero(bytes: Uint8Array): boolean {
  const words = bytes.byteOffset % 4 === 0 ? Math.floor(bytes.length / 4) : 0
  const view = new Uint32Array(bytes.buffer, words === 0 ? 0 : bytes.byteOffset, words)
  for (let i = 0; i < words; i++) if (view[i] !== 0) return false
  return bytes.subarray(words * 4).every((byte) => byte === 0)
}

function differenceIn(a: Uint8Array, b: Uint8Array): number | undefined {
  const words = Math.floor(a.length / 4)
  const ours = new Uint32Array(a.buffer, a.byteOffset, words)
  const theirs = new Uint32Array(b.buffer, b.byteOffset, words)
  let word = 0
  while (word < words && ours[word] === theirs[word]) word++
  for (let i = word * 4; i < a.length; i++) if (a[i] !== b[i]) return i
  return undefined
}
