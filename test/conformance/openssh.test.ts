import { test } from 'vitest'
import { needsOpenssh, startOpensshServer } from '../support/openssh-server.ts'
import { describeWith } from '../support/requirements.ts'
import { expectReport } from './report.ts'
import { roomyOpenssh, runAgainstPeer } from './server-under-test.ts'

describeWith([needsOpenssh()], 'the report on OpenSSH', () => {
  test('is as it was', async () => {
    const peer = await startOpensshServer(roomyOpenssh)
    await expectReport(`openssh-${peer.release.major}.${peer.release.minor}`, await runAgainstPeer(peer))
  }, 120_000)
})
