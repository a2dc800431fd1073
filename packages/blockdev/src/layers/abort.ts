// Cancelling: a call whose signal is aborted ends at once, even where what it waits for goes on for others.

import { BlockDeviceError } from '../errors.ts'

/** `promise`, or the signal's reason as rejection, whichever is first. */
export function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise
  if (signal.aborted) {
    promise.catch(() => {})
    return Promise.reject(signal.reason)
  }
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason)
    const settled = () => signal.removeEventListener('abort', abort)
    signal.addEventListener('abort', abort, { once: true })
    promise.then(
      (value) => {
        settled()
        resolve(value)
      },
      (error: unknown) => {
        settled()
        reject(error)
      },
    )
  })
}

/**
 * `work`; once `free` resolved, the signal's reason as rejection where that comes first. `work` goes on then, and what
 * becomes of it is nobody's concern.
 */
export async function untilAbortedWhenFree<T>(
  work: Promise<T>,
  free: Promise<void>,
  signal: AbortSignal,
): Promise<T> {
  work.catch(() => {})
  await Promise.race([work, free])
  return untilAborted(work, signal)
}

/** What a cancelled call rejects with; `cause` is the signal's reason. */
export function abortedError(
  what: string,
  signal: AbortSignal,
  range: { offset?: number; length?: number } = {},
): BlockDeviceError {
  return new BlockDeviceError('ABORT_ERR', `${what} was cancelled`, { ...range, cause: signal.reason })
}
