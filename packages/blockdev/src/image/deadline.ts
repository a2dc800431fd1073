// Waiting for no longer than so many milliseconds of an injected clock.

import { BlockDeviceError } from '../errors.ts'
import { untilAborted } from '../layers/abort.ts'
import type { Clock } from './options.ts'

export const systemClock: Clock = {
  now: () => performance.now(),
  setTimer: (task, delayMs) => setTimeout(task, delayMs),
  clearTimer: (timer) => clearTimeout(timer as number),
}

/** `work`, or after `withinMs` what `late` returns or throws. `work` goes on then; what becomes of it is nobody's concern. */
export function withDeadline<T, L>(
  work: Promise<T>,
  withinMs: number,
  clock: Clock,
  late: () => L,
): Promise<T | L> {
  return new Promise((resolve, reject) => {
    const timer = clock.setTimer(() => {
      try {
        resolve(late())
      } catch (error) {
        reject(error)
      }
    }, withinMs)
    const done = () => clock.clearTimer(timer)
    work.then(
      (value) => {
        done()
        resolve(value)
      },
      (error: unknown) => {
        done()
        reject(error)
      },
    )
  })
}

/** Resolves after so many milliseconds, or when the signal is aborted. */
export function pause(delayMs: number, clock: Clock, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => {
    const done = () => {
      clock.clearTimer(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = clock.setTimer(done, delayMs)
    signal.addEventListener('abort', done, { once: true })
  })
}

/** Runs `work` with a signal that is aborted after so many milliseconds, with the error that `late` makes, or with `parent`. */
export async function withinTime<T>(
  limitMs: number,
  clock: Clock,
  parent: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<T>,
  late: () => Error = () => new BlockDeviceError('EIO', `no answer within ${limitMs} ms`),
): Promise<T> {
  const controller = new AbortController()
  const abort = () => controller.abort(parent?.reason)
  if (parent?.aborted === true) abort()
  parent?.addEventListener('abort', abort, { once: true })
  const timer = clock.setTimer(() => controller.abort(late()), limitMs)
  try {
    return await untilAborted(work(controller.signal), controller.signal)
  } finally {
    clock.clearTimer(timer)
    parent?.removeEventListener('abort', abort)
  }
}
