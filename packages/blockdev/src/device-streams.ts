// A stretch of a device as a stream: in order for whoever takes it, several requests in flight for the network.

import type { BlockDevice, CallOptions } from './device.ts'
import { BlockDeviceError } from './errors.ts'

const chunkBytes = 1024 * 1024
const chunksAtOnce = 16

/**
 * The bytes of a stretch, in order. A chunk is the caller's until it asks for the next one.
 * @throws BlockDeviceError as BlockDevice.read.
 */
export async function* readRange(
  device: BlockDevice,
  offset: number,
  length: number,
  options: CallOptions = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  const end = offset + length
  const underWay: { done: Promise<void>; bytes: Uint8Array }[] = []
  const spare: ArrayBuffer[] = []
  let next = offset
  try {
    for (;;) {
      while (next < end && underWay.length < chunksAtOnce) {
        const memory = spare.pop() ?? new ArrayBuffer(Math.min(chunkBytes, length))
        const bytes = new Uint8Array(memory, 0, Math.min(memory.byteLength, end - next))
        const done = device.read(next, bytes, options)
        done.catch(() => {})
        underWay.push({ done, bytes })
        next += bytes.length
      }
      const first = underWay.shift()
      if (first === undefined) return
      await first.done
      yield first.bytes
      spare.push(first.bytes.buffer as ArrayBuffer)
    }
  } finally {
    await Promise.allSettled(underWay.map(({ done }) => done))
  }
}

export interface WriteRangeOptions extends CallOptions {
  /** Bytes from `offset` that may be written; more from the source is an error. Default: to the end of the device. */
  length?: number
  /** Told how many bytes were acknowledged so far. */
  onProgress?: (bytes: number) => void
}

/**
 * Writes what a source gives, from `offset` on, and flushes. Returns the number of bytes.
 * @throws BlockDeviceError EINVAL where the source has more than fits; as BlockDevice.write and flush; what the source throws.
 */
export async function writeRange(
  device: BlockDevice,
  offset: number,
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  options: WriteRangeOptions = {},
): Promise<number> {
  const { signal } = options
  const limit = options.length ?? device.size - offset
  const underWay = new Set<Promise<void>>()
  let failure: { readonly error: unknown } | undefined
  let taken = 0
  let acknowledged = 0
  try {
    for await (const chunk of source) {
      if (taken + chunk.length > limit) {
        throw new BlockDeviceError('EINVAL', `there is more to write than the ${limit} bytes that fit`, {
          offset: offset + limit,
          length: taken + chunk.length - limit,
        })
      }
      const write = device
        .write(offset + taken, chunk, { signal })
        .then(() => {
          acknowledged += chunk.length
          options.onProgress?.(acknowledged)
        })
        .catch((error: unknown) => {
          failure ??= { error }
        })
        .finally(() => underWay.delete(write))
      underWay.add(write)
      taken += chunk.length
      if (underWay.size >= chunksAtOnce) await Promise.race(underWay)
      if (failure !== undefined) throw failure.error
    }
  } finally {
    await Promise.all(underWay)
  }
  if (failure !== undefined) throw failure.error
  await device.flush({ signal })
  return taken
}
