/** RevokedHostKeys: what ssh does with the same file, and what the command does. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { bundlesPackages } from '../support/bundles.ts'
import { needsOpensshClient } from '../support/openssh-client.ts'
import { needsOpenssh, type OpensshPeer, startOpensshServer } from '../support/openssh-server.ts'
import { run, runOrThrow } from '../support/program.ts'
import { describeWith } from '../support/requirements.ts'
import { tempDir } from '../support/temp-dir.ts'
import { type Home, homeFor, sshblockSeries } from './command.ts'

bundlesPackages()

describeWith([needsOpenssh(), needsOpensshClient()], 'revoked host keys', () => {
  let peer: OpensshPeer
  let home: Home
  let dir: string
  let own: string
  let other: string

  beforeAll(async () => {
    peer = await startOpensshServer({ hostKeyTypes: ['ed25519'] })
    home = await homeFor(peer)
    dir = tempDir()
    own = readFileSync(`${peer.hostKeys[0]!.privateFile}.pub`, 'utf8')
    await runOrThrow('ssh-keygen', ['-q', '-t', 'ecdsa', '-N', '', '-f', join(dir, 'other')])
    other = readFileSync(join(dir, 'other.pub'), 'utf8')
  })

  const list = (name: string, content: string | Uint8Array): string => {
    writeFileSync(join(dir, name), content)
    return join(dir, name)
  }
  const connects = async (file: string) => {
    const option = ['-o', `RevokedHostKeys=${file}`]
    const ssh = await run('ssh', ['-F', home.path('.ssh', 'config'), ...option, 'peer', 'true'])
    const [ours] = await sshblockSeries([['ls', ...option, 'peer:/']], { home })
    return { ssh: ssh.code, ours: ours!.code, stderr: ours!.stderr }
  }

  test('a key that is listed is refused, though known_hosts has it, and others are not', async () => {
    expect(await connects(list('revoked', `# stolen\n\n${other}${own}`))).toMatchObject({
      ssh: 255,
      ours: 255,
      stderr: expect.stringMatching(/shows ssh-ed25519 SHA256:\S+, which ".*revoked" line 4 revokes/),
    })
    expect(await connects(list('others', other))).toMatchObject({ ssh: 0, ours: 0, stderr: '' })
    expect(await connects('none')).toMatchObject({ ssh: 0, ours: 0, stderr: '' })
  })

  test('a list that cannot be read, and one that is not understood, refuses all hosts', async () => {
    expect(await connects(join(dir, 'absent'))).toMatchObject({
      ssh: 255,
      ours: 255,
      stderr: expect.stringMatching(/RevokedHostKeys ".*absent" cannot be read, so no host is believed/),
    })
    await runOrThrow('ssh-keygen', ['-q', '-k', '-f', join(dir, 'krl'), join(dir, 'other.pub')])
    expect(await connects(join(dir, 'krl'))).toMatchObject({
      ours: 255,
      stderr: expect.stringMatching(/a binary KRL is not read here; expected public keys, one a line/),
    })
    expect(await connects(list('garbage', 'ssh-ed25519 AAAA\n'))).toMatchObject({
      ours: 255,
      stderr: expect.stringMatching(/garbage" line 1: expected a public key/),
    })
  })
})
