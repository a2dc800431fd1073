import { test } from 'vitest'
import { needsDropbear, startDropbear } from '../support/dropbear-server.ts'
import { describeWith } from '../support/requirements.ts'
import { needsTrixie } from '../support/trixie.ts'
import { expectReport } from './report.ts'
import { runAgainstPeer } from './server-under-test.ts'

const trixie = await needsTrixie()

// It has five connections from one address that are not authenticated, at most, and no option for more. Its SFTP is
// OpenSSH's program.
const options = { atOnce: 2, only: (id: string) => !id.startsWith('sftp.') }

describeWith([needsDropbear()], 'the report on dropbear', () => {
  test('is as it was', async () => {
    await expectReport('dropbear-2022.83', await runAgainstPeer(await startDropbear(), options))
  }, 120_000)
})

describeWith([needsDropbear(), trixie], 'the report on dropbear of Debian 13', () => {
  test('is as it was', async () => {
    await expectReport(
      'dropbear-2025.89',
      await runAgainstPeer(await startDropbear({ release: 'trixie' }), options),
    )
  }, 120_000)
})
