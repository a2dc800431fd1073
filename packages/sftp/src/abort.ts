// Listening to AbortSignals. One signal may steer a thousand calls (a transfer's reads, a tree's files): each signal gets
// one listener, whatever the number of calls, and none when the last of them has ended.

import { AbortedError } from '@sshblock/transport/errors'

interface Watch {
  readonly cancels: Set<(reason: unknown) => void>
  readonly listener: () => void
}

const watches = new WeakMap<AbortSignal, Watch>()

const nothing = (): void => {}

/** Calls `cancel` with an AbortedError when the signal fires, or at once where it has. Returns what stops watching. */
export function onAbort(
  signal: AbortSignal | undefined,
  what: string,
  cancel: (error: AbortedError) => void,
): () => void {
  if (signal === undefined) return nothing
  const fire = (reason: unknown): void => cancel(new AbortedError(what, reason))
  if (signal.aborted) {
    fire(signal.reason)
    return nothing
  }
  let watch = watches.get(signal)
  if (watch === undefined) {
    const cancels = new Set<(reason: unknown) => void>()
    const listener = (): void => {
      watches.delete(signal)
      for (const each of cancels) each(signal.reason)
    }
    watch = { cancels, listener }
    watches.set(signal, watch)
    signal.addEventListener('abort', listener, { once: true })
  }
  const { cancels, listener } = watch
  cancels.add(fire)
  return () => {
    if (!cancels.delete(fire) || cancels.size > 0 || signal.aborted) return
    watches.delete(signal)
    signal.removeEventListener('abort', listener)
  }
}

/** Throws AbortedError where the signal has fired. */
export function throwIfAborted(signal: AbortSignal | undefined, what: string): void {
  if (signal?.aborted) throw new AbortedError(what, signal.reason)
}
