import { clientChecks, runTrials } from '@sshblock/transport/conformance'
import { test } from 'vitest'
import { ourClientTarget } from './our-peers.ts'
import { expectConforming, expectReport } from './report.ts'

test('our client passes every check of clients, with all 256 message numbers', async () => {
  const results = await runTrials(await ourClientTarget(), clientChecks, { everyNumber: true })
  // The scripted server has no finite-field groups.
  expectConforming(results, ['kex.values-dh'])
  await expectReport('sshblock-client', results)
}, 120_000)
