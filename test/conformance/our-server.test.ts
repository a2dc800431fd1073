import { runSftpTrials, sftpChecks } from '@sshblock/sftp/conformance'
import { runTrials, serverChecks } from '@sshblock/transport/conformance'
import { connectOver, insecureAcceptAnyHostKey, nodeCrypto } from '@sshblock/transport/node'
import { test } from 'vitest'
import { ourServerTarget } from './our-peers.ts'
import { expectConforming, expectReport } from './report.ts'

test('our server passes every check of servers, with all 256 message numbers, and of SFTP', async () => {
  const { target, close } = await ourServerTarget()
  try {
    const ssh = await runTrials(target, serverChecks, { everyNumber: true })
    const { user, signer } = target.login!
    const session = await connectOver(target.connect, {
      crypto: nodeCrypto,
      host: 'ours',
      username: user,
      auth: [{ type: 'publickey', signer: signer! }],
      hostKeyPolicy: insecureAcceptAnyHostKey(),
    })
    // A session has ten channels; no check has more than a few.
    const open = () => session.openSubsystem('sftp')
    const results = [...ssh, ...(await runSftpTrials({ open }, sftpChecks, { concurrency: 1 }))]
    await session.close()
    // It has no finite-field groups.
    expectConforming(results, ['kex.values-dh'])
    await expectReport('sshblock', results)
  } finally {
    await close()
  }
}, 120_000)
