import { test } from 'vitest'
import { needsDropbear, startDropbear } from '../support/dropbear-server.ts'
import { describeWith } from '../support/requirements.ts'
import { expectReport } from './report.ts'
import { runAgainstPeer } from './server-under-test.ts'

describeWith([needsDropbear()], 'the report on dropbear', () => {
  test('is as it was', async () => {
    // It has five connections from one address that are not authenticated, at most, and no option for more. Its SFTP is
    // OpenSSH's program.
    const options = { atOnce: 2, only: (id: string) => !id.startsWith('sftp.') }
    await expectReport('dropbear-2022.83', await runAgainstPeer(await startDropbear(), options))
  }, 120_000)
})
