import { runTrials, serverChecks } from '@sshblock/transport/conformance'
import { test } from 'vitest'
import { ourServerTarget } from './our-peers.ts'
import { expectConforming } from './report.ts'

test('our server passes every check of servers, with all 256 message numbers', async () => {
  const { target, close } = await ourServerTarget()
  try {
    // It has no finite-field groups.
    expectConforming(await runTrials(target, serverChecks, { everyNumber: true }), ['kex.values-dh'])
  } finally {
    await close()
  }
}, 120_000)
