// Thousands of random histories against the oracle, in virtual time. What one of them finds is told with the command that runs
// it again; `npm run faults -- --histories 100000` runs more of them.

import { describe, expect, test, vi } from 'vitest'
import { type CampaignResult, replayCommand, runCampaign } from './campaign.ts'
import { type ProfileName, profiles } from './profiles.ts'

// On a machine that others use too.
vi.setConfig({ testTimeout: 300_000 })

const seed = 2026
const shares: readonly [ProfileName, number][] = [
  ['all', 800],
  ['losses', 250],
  ['far', 100],
  ['ghosts', 300],
  ['epochs', 150],
  ['crashes', 200],
  ['syncs', 200],
  ['impostors', 200],
]

describe('random histories', () => {
  test.each(shares)('%s: %i histories break no rule', async (name, histories) => {
    const result = await runCampaign({ seed, histories, profile: profiles[name] })
    expect(told(result, name)).toEqual([])
    expect(result.done).toBe(histories)
    // They are about what they are meant to be about.
    const { counts } = result
    expect(counts.succeeded).toBeGreaterThan(histories)
    expect(counts.losses).toBeGreaterThan(histories / 2)
    expect(counts.restored).toBeGreaterThan(histories / 4)
    if (name === 'ghosts') {
      expect(counts.ghosts).toBeGreaterThan(20)
      expect(counts.fencedByProcesses).toBeGreaterThan(20)
      expect(counts.fencedByExit).toBeGreaterThan(0)
    }
    if (name === 'epochs') expect(counts.fencedByEpoch).toBeGreaterThan(20)
    if (name === 'all' || name === 'impostors') expect(counts.gaveUp).toBeGreaterThan(20)
    if (name === 'losses') expect(counts.channels).toBeGreaterThan(4)
  })

  test('a history with the same seed is the same history', async () => {
    const once = () => runCampaign({ seed: 7, histories: 30, options: { trace: true } })
    expect(await once()).toEqual(await once())
  })
})

function told({ findings }: CampaignResult, profile: string): string[] {
  return findings.flatMap(({ index, violations }) => [
    replayCommand(seed, index, profile),
    ...violations.slice(0, 5),
  ])
}
