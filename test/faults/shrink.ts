// Makes a history that breaks a rule as short as it gets: takes out steps, in halves, quarters and so on, and then makes the
// setup plainer, as long as some rule is still broken.

import type { History, HistorySetup, Step } from './history.ts'

export interface ShrinkOptions {
  /** Runs a history; whether it still breaks a rule. */
  readonly breaks: (history: History) => Promise<boolean>
  /** Most runs. Default 400. */
  readonly runs?: number
}

export async function shrinkHistory(history: History, options: ShrinkOptions): Promise<History> {
  let left = options.runs ?? 400
  let best = history
  const better = async (candidate: History): Promise<boolean> => {
    if (left-- <= 0 || !(await options.breaks(candidate))) return false
    best = candidate
    return true
  }
  for (let before = Number.POSITIVE_INFINITY; before > best.steps.length && left > 0; ) {
    before = best.steps.length
    for (let size = Math.max(1, best.steps.length >> 1); size >= 1; size >>= 1) {
      for (let at = best.steps.length - size; at >= 0; at -= size)
        await better({ ...best, steps: without(best.steps, at, size) })
    }
  }
  for (const plainer of plainerSetups) await better({ ...best, setup: { ...best.setup, ...plainer } })
  return best
}

function without(steps: readonly Step[], at: number, count: number): Step[] {
  return [...steps.slice(0, at), ...steps.slice(at + count)]
}

const plainerSetups: readonly Partial<HistorySetup>[] = [
  { channels: 1, connections: 1 },
  { connections: 1 },
  { channels: 1 },
  { readAhead: false },
  { reorders: false },
  { latencyMs: [0, 0] },
  { pieceBytes: 32_768 },
  { windowBytes: 2 * 1024 * 1024 },
  { journalBytes: undefined },
]
