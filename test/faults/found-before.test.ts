// Histories that once broke a rule, and what it was. They are played again as long as the generator makes the same of a seed;
// the faults themselves have tests of their own where they can be shown smaller.

import { expect, test } from 'vitest'
import { generateHistory, type Profile } from './history.ts'
import { historySeed } from './model/random.ts'
import { type ProfileName, profiles } from './profiles.ts'
import { runHistory } from './run-history.ts'

const found: readonly [what: string, seed: number, index: number, profile: ProfileName | undefined][] = [
  ['an unanswered write from the journal came late, over newer data', 1, 155, undefined],
  ['another file passed for the right one before anything had been sampled', 1, 255, undefined],
  ['calls waited for a lane in a loop that never gave up its turn', 7, 47, 'crashes'],
  ['a fence by a list of processes that was older than the lane', 6, 357, 'losses'],
  ['a flush that had synced nothing was answered', 31, 260, 'unfenced'],
  ['the right file was taken for another one', 2026, 123, 'losses'],
  ['a device that had failed for good began to connect again', 1, 83_233, undefined],
  ['the machine told only one of two handles that a write-back had failed', 1, 93_073, undefined],
]

test.each(found)('%s (seed %i, history %i)', async (_, seed, index, profile) => {
  const { setup, ...rest }: Profile = profile === undefined ? {} : profiles[profile]
  // They were found before there were such servers.
  const before = { ...rest, setup: { ...setup, endsOlderSessions: false, roundTripMs: 5 } }
  const history = generateHistory(historySeed(seed, index), before)
  const { violations, counts } = await runHistory(history)
  expect(violations).toEqual([])
  expect(counts.calls).toBeGreaterThan(0)
})
