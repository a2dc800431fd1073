import { join } from 'node:path'
import { test } from 'vitest'
import { runAgainstClient } from '../../conformance/src/client-command.ts'
import { needsDropbear } from '../support/dropbear-server.ts'
import { clientKey } from '../support/keys.ts'
import { needsOpensshClient } from '../support/openssh-client.ts'
import { runOrThrow } from '../support/program.ts'
import { describeWith, needsPrograms } from '../support/requirements.ts'
import { tempDir } from '../support/temp-dir.ts'
import { expectReport } from './report.ts'

function run(command: string, atOnce = 4): ReturnType<typeof runAgainstClient> {
  return runAgainstClient({ command, atOnce, patienceMs: 3000, full: false, only: undefined })
}

describeWith([needsOpensshClient()], "the report on OpenSSH's client", () => {
  test('is as it was', async () => {
    const { privateFile } = await clientKey('ed25519')
    const { stderr } = await runOrThrow('ssh', ['-V'])
    const release = /OpenSSH_(\d+\.\d+)/.exec(stderr)?.[1]
    const settings = [
      'IdentitiesOnly=yes',
      'IdentityAgent=none',
      `IdentityFile=${privateFile}`,
      'UserKnownHostsFile=/dev/null',
      'GlobalKnownHostsFile=/dev/null',
      'StrictHostKeyChecking=no',
      'BatchMode=yes',
    ]
    const options = settings.map((setting) => `-o ${setting}`).join(' ')
    await expectReport(`ssh-${release}`, await run(`exec ssh -F none ${options} -p {port} user@{host} cat`))
  }, 120_000)
})

describeWith(
  [needsPrograms('dbclient', ['dbclient'], 'dropbear-bin'), needsDropbear()],
  "the report on dropbear's client",
  () => {
    test('is as it was', async () => {
      const key = join(tempDir('dbclient'), 'key')
      const { privateFile } = await clientKey('ed25519')
      await runOrThrow('dropbearconvert', ['openssh', 'dropbear', privateFile, key])
      await expectReport(
        'dbclient-2022.83',
        await run(`exec dbclient -y -y -T -i ${key} -p {port} user@{host} cat`),
      )
    }, 120_000)
  },
)
