import { expect, test } from 'vitest'
import { askpass } from './askpass.ts'
import { clientKey } from './keys.ts'
import { sftp, ssh } from './openssh-client.ts'
import { needsOpenssh10, startOpenssh10 } from './openssh10.ts'
import { describeWith } from './requirements.ts'
import { runInTrixie } from './trixie.ts'

describeWith([await needsOpenssh10()], 'the OpenSSH 10 server', () => {
  test('is release 10 or later', async () => {
    const peer = await startOpenssh10()
    expect(peer.release.major).toBeGreaterThanOrEqual(10)
    const said = await ssh(peer, 'cat /etc/debian_version; pwd', {
      key: await clientKey('ed25519'),
      verbose: 1,
    })
    expect(said.stdout).toMatch(new RegExp(`^13\\.\\d+\n${peer.paths.home}\n$`))
    expect(said.stderr).toContain('remote software version OpenSSH_10')
  })

  test('agrees on mlkem768x25519-sha256 with its own client', async () => {
    const peer = await startOpenssh10({ kexAlgorithms: 'mlkem768x25519-sha256' })
    const key = await clientKey('ed25519')
    const settings = ['-o', 'StrictHostKeyChecking=yes', '-o', `UserKnownHostsFile=${peer.paths.knownHosts}`]
    const login = ['-v', '-F', 'none', '-i', key.privateFile, ...settings, '-p', String(peer.port), peer.host]
    const said = await runInTrixie('ssh', [...login, 'echo hello'])
    expect(said).toMatchObject({ code: 0, stdout: 'hello\n' })
    expect(said.stderr).toContain('kex: algorithm: mlkem768x25519-sha256')
  })

  test.each(['internal-sftp', 'sftp-server'])('serves files by %s', async (command) => {
    const peer = await startOpenssh10({ sftp: command })
    const key = await clientKey('ed25519')
    const said = await sftp(peer, [`put ${key.publicFile} ${peer.paths.data}/k`, `ls ${peer.paths.data}`], {
      key,
    })
    expect(said).toMatchObject({ code: 0, stdout: expect.stringContaining(`${peer.paths.data}/k`) })
  })

  test('lets a password user in through PAM, and does not lock the address out after failures', async () => {
    const peer = await startOpenssh10({ passwordUser: { name: 'pat', password: 'right' }, pam: true })
    const o = ['BatchMode=no', 'PreferredAuthentications=password', 'NumberOfPasswordPrompts=1']
    const login = { key: undefined, user: 'pat', o }
    for (let i = 0; i < 8; i++) {
      expect(await ssh(peer, 'true', { ...login, env: askpass('wrong') })).toMatchObject({ code: 255 })
    }
    expect(await ssh(peer, 'true', { ...login, env: askpass('right') })).toMatchObject({ code: 0 })
    expect(await ssh(peer, 'true', { key: await clientKey('ed25519') })).toMatchObject({ code: 0 })
  })
})
