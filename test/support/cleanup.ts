/**
 * Who ends what a test started.
 *
 * Every starter of this folder registers how to undo itself here. Undoing runs when the test that called the starter
 * ends; what was started in `beforeAll` or at the top of a file ends with the file (`setup.ts` sees to that); and
 * what is left when the process ends, because it was interrupted, is undone synchronously as far as that goes.
 * This file knows no peer.
 */
import { TestRunner } from 'vitest'

/** How long a resource lives: until the end of the running test, or of the test file. */
export type Scope = 'test' | 'file'

export interface Cleanup {
  /** Runs the undoing now. It runs once: later calls return the same promise. */
  run(): Promise<void>
}

interface Entry extends Cleanup {
  readonly onExit: (() => void) | undefined
}

const entries: Entry[] = []

/**
 * Registers `undo` to run at the end of `scope`. The default scope is the running test where there is one, else the file.
 *
 * @param undo called once; its failure fails the test or the file
 * @param options.onExit synchronous last resort for a process that ends before `undo` ran
 */
export function registerCleanup(
  undo: () => void | Promise<void>,
  options: { scope?: Scope | undefined; onExit?: (() => void) | undefined } = {},
): Cleanup {
  let running: Promise<void> | undefined
  const entry: Entry = {
    onExit: options.onExit,
    run() {
      running ??= (async () => {
        try {
          await undo()
        } finally {
          const at = entries.indexOf(entry)
          if (at >= 0) entries.splice(at, 1)
        }
      })()
      return running
    },
  }
  entries.push(entry)
  if (options.scope !== 'file') TestRunner.getCurrentTest()?.context.onTestFinished(() => entry.run())
  return entry
}

/** Undoes everything that is still registered, the newest first. */
export async function runCleanups(): Promise<void> {
  const failures: unknown[] = []
  for (let entry = entries.at(-1); entry !== undefined; entry = entries.at(-1)) {
    try {
      await entry.run()
    } catch (error) {
      failures.push(error)
    }
  }
  if (failures.length > 0) throw new AggregateError(failures, `cleaning up failed: ${failures.join('; ')}`)
}

process.on('exit', () => {
  for (const entry of entries.toReversed()) {
    try {
      entry.onExit?.()
    } catch {
      // The process is ending: nobody is left to tell, and the next entry still wants its turn.
    }
  }
})
