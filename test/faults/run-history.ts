// Runs one history in virtual time, from the opening of the device to the look at the disk after a last power failure.

import { Growth } from '../../packages/blockdev/src/image/growth.ts'
import type { History } from './history.ts'
import { describe, type HistoryResult } from './history-result.ts'
import { type RunOptions, World } from './world.ts'

export async function runHistory(history: History, options: RunOptions = {}): Promise<HistoryResult> {
  const world = new World(history.setup, options)
  const restoreTime = world.time.install()
  // Thousands of errors are made and none of their stacks is looked at.
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 0
  const { wants } = Growth.prototype
  // Images of a few blocks fill no window: whether more channels would help is up to the history.
  Growth.prototype.wants = () => world.wantsMoreChannels()
  const restore = (): void => {
    restoreTime()
    Error.stackTraceLimit = stackTraceLimit
    Growth.prototype.wants = wants
  }
  const unhandled = (error: unknown): void => {
    world.oracle.violations.push(`a promise was rejected and nobody looked: ${describe(error)}`)
  }
  process.on('unhandledRejection', unhandled)
  try {
    await world.run(history.steps)
  } catch (error) {
    world.oracle.violations.push(`the run itself failed: ${error instanceof Error ? error.stack : error}`)
  } finally {
    restore()
    process.off('unhandledRejection', unhandled)
  }
  return { violations: world.oracle.violations, trace: world.trace, counts: world.counts }
}
