// A smaller share of histories over whole SSH sessions: cuts at any byte of encrypted packets, and keys exchanged under load.

import { expect, test, vi } from 'vitest'
import { runCampaign } from './campaign.ts'
import { imagePath } from './damage.ts'
import type { Profile } from './history.ts'
import { openOverSsh } from './model/ssh-connection.ts'

// On a machine that others use too.
vi.setConfig({ testTimeout: 300_000 })

const profile: Profile = {
  // The connection dies with what was on its way: there is nothing to be fenced.
  setup: { onLoss: 'replay', reconnectDelayMs: 30_000, latencyMs: [0, 0], serverChannels: 10 },
  weights: {
    rekey: 14,
    lose: 5,
    cut: 10,
    crash: 2,
    stall: 0,
    withhold: 0,
    double: 0,
    stop: 0,
    kill: 0,
    down: 0,
  },
  meanwhile: ['nothing'],
}

test('over SSH, with rekeys and cuts in the middle of packets, no rule is broken', async () => {
  const result = await runCampaign({
    seed: 2026,
    histories: Number(process.env['SSH_HISTORIES'] ?? 15),
    profile,
    options: { open: (world, options) => openOverSsh(world.machine, imagePath, options) },
  })
  expect(result.findings.flatMap(({ index, violations }) => [index, ...violations])).toEqual([])
  expect(result.counts.losses).toBeGreaterThan(10)
  expect(result.counts.restored).toBeGreaterThan(10)
})
