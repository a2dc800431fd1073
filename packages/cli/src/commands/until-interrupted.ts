// What commands that serve wait for.

import type { Invocation } from '../invocation.ts'

/** Resolves with the first Ctrl-C, SIGTERM or SIGHUP: for a server that is an orderly end. */
export function untilInterrupted({ signal }: Invocation): Promise<void> {
  // Sockets keep the process alive.
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
