// A write that was taken only in part, or not at all, goes out again from its first unacknowledged byte, at its own offset.
// libssh2-based drivers continue wherever the handle stands; after a zero-byte acknowledgement that writes the rest of the
// data to the wrong place. A write that the storage refused is not sent again: its range is undefined, and the caller knows.

import { BlockDeviceError } from '../errors.ts'
import type { RandomAccessFile } from '../random-access-file.ts'

/** Attempts without a single byte taken, in a row, after which the write fails. */
export const maxIdleAttempts = 4

export interface WriteRetryOptions {
  signal?: AbortSignal | undefined
  /** Is called when the storage has all bytes, though it did not acknowledge them yet. Perhaps never, perhaps early for an attempt that is taken in part. */
  onSent?: (() => void) | undefined
  /** Is told before every attempt after the first: whatever was under way or fetched ahead must be given up (forced seek). */
  onRetry?: (offset: number, remaining: number) => void
}

/**
 * Writes all of `from`.
 * @throws BlockDeviceError EIO where the storage takes nothing more; or whatever the storage raised.
 */
export async function writeFully(
  file: RandomAccessFile,
  offset: number,
  from: Uint8Array,
  options: WriteRetryOptions = {},
): Promise<void> {
  let done = 0
  let idleAttempts = 0
  for (;;) {
    const taken = await file.write(offset + done, done === 0 ? from : from.subarray(done), {
      signal: options.signal,
      onSent: options.onSent,
    })
    if (!Number.isInteger(taken) || taken < 0 || taken > from.length - done) {
      throw new BlockDeviceError('EIO', `the storage acknowledged ${taken} bytes of ${from.length - done}`, {
        offset,
        length: from.length,
      })
    }
    done += taken
    if (done === from.length) return
    idleAttempts = taken === 0 ? idleAttempts + 1 : 0
    if (idleAttempts >= maxIdleAttempts) {
      const message = `the storage took ${done} of ${from.length} bytes at ${offset} and then nothing in ${idleAttempts} attempts`
      throw new BlockDeviceError('EIO', message, { offset, length: from.length })
    }
    options.signal?.throwIfAborted()
    options.onRetry?.(offset + done, from.length - done)
  }
}
