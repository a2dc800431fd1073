// Each rule is switched off, and the oracle complains; with the rule, the very same history is in order.

import { describe, expect, test, vi } from 'vitest'
import { type Finding, runCampaign } from './campaign.ts'
import { runHistory } from './run-history.ts'
import { switchedOff, switchOff } from './switched-off.ts'

// On a machine that others use too.
vi.setConfig({ testTimeout: 300_000 })

/** Within so many histories the oracle must have found something. */
const patience = 300

describe('without a rule the oracle complains', () => {
  test.each(Object.entries(switchedOff).map(([rule, { what }]) => [rule, what]))('%s: %s', async (rule) => {
    const { profile, options = {}, restore } = switchOff(rule)
    const complaint = complaints.get(rule) ?? /^no rule$/
    const isComplaint = ({ violations }: Finding) => violations.some((each) => complaint.test(each))
    let findings: Awaited<ReturnType<typeof runCampaign>>['findings']
    try {
      ;({ findings } = await runCampaign({
        seed: 4711,
        histories: patience,
        until: isComplaint,
        profile,
        options,
      }))
    } finally {
      restore()
    }
    const found = findings.find(isComplaint)
    expect(found, `${findings.length} other findings`).toBeDefined()
    expect((await runHistory(found!.history)).violations).toEqual([])
  })
})

/** What the oracle has to say, so that no accident of the experiment passes for a proof. */
const complaints: ReadonlyMap<string, RegExp> = new Map([
  ['R0', /is stale|from nowhere/],
  ['R1', /^read .* failed without a reason/],
  ['R2', /is stale/],
  ['R3', /is stale/],
  ['R3 (c)', /is stale/],
  ['R4', /is stale/],
  ['R5', /is stale/],
  ['R6', /is stale/],
  ['R7', /another file|is stale/],
  ['R8', /shows zeros/],
  ['R9', /is stale/],
  ['R10', /waited \d+|never ends/],
])
