import { test } from 'vitest'
import { needsOpenssh10, startOpenssh10 } from '../support/openssh10.ts'
import { describeWith } from '../support/requirements.ts'
import { expectReport } from './report.ts'
import { roomyOpenssh, runAgainstPeer } from './server-under-test.ts'

describeWith([await needsOpenssh10()], 'the report on OpenSSH 10', () => {
  test('is as it was', async () => {
    const peer = await startOpenssh10(roomyOpenssh)
    await expectReport(`openssh-${peer.release.major}.${peer.release.minor}`, await runAgainstPeer(peer))
  }, 120_000)
})
