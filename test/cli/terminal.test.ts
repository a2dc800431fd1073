/** The command on a terminal: the question about a host key, passwords, progress, Ctrl-C. */
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { askpass } from '../support/askpass.ts'
import { bundlesPackages } from '../support/bundles.ts'
import { clientKey, strangerHostKey } from '../support/keys.ts'
import {
  needsOpenssh,
  needsOpensshAccounts,
  type OpensshPeer,
  startOpensshServer,
} from '../support/openssh-server.ts'
import { startProxy } from '../support/proxy.ts'
import { describeWith } from '../support/requirements.ts'
import { startAgent } from '../support/ssh-agent.ts'
import { tempDir } from '../support/temp-dir.ts'
import { homeFor, interruptKey, needsPty, onTerminal, sshblock } from './command.ts'

bundlesPackages()

const question = 'Are you sure you want to continue connecting \\(yes/no/\\[fingerprint\\]\\)\\? '
const passwordUser = { name: 'pia', password: 'correct horse' }

describeWith([needsOpenssh(), needsOpensshAccounts(), needsPty()], 'against OpenSSH', () => {
  let peer: OpensshPeer
  beforeAll(async () => {
    peer = await startOpensshServer({ passwordUser })
    writeFileSync(join(peer.paths.data, 'file'), 'content')
  })
  const list = (): string[] => ['ls', `peer:${peer.paths.data}`]

  test('asks about an unknown host key as ssh does, and remembers a yes', async () => {
    const home = await homeFor(peer, { known: false })
    const { output, code } = await onTerminal(
      list(),
      [
        { expect: question, send: 'maybe\n' },
        { expect: "Please type 'yes', 'no' or the fingerprint: ", send: 'yes\n' },
      ],
      { home },
    )
    expect(code).toBe(0)
    expect(output).toContain(`The authenticity of host '[127.0.0.1]:${peer.port}' can't be established.`)
    expect(output).toContain(`ED25519 key fingerprint is ${peer.hostKeys[0]?.fingerprint}.`)
    expect(output).toContain('file')
    expect(readFileSync(home.path('.ssh', 'known_hosts'), 'utf8')).toContain(
      peer.hostKeys[0]?.publicLine.split(' ')[1],
    )
    // Nothing is asked any more.
    expect(await sshblock(list(), { home })).toMatchObject({ code: 0, stdout: 'file\n', stderr: '' })
  })

  test('takes the fingerprint for a yes, and a no for the end', async () => {
    const home = await homeFor(peer, { known: false })
    const refused = await onTerminal(list(), [{ expect: question, send: 'no\n' }], { home })
    expect(refused.code).toBe(255)
    expect(existsSync(home.path('.ssh', 'known_hosts'))).toBe(false)
    const answer = `${peer.hostKeys[0]?.fingerprint}\n`
    expect(await onTerminal(list(), [{ expect: question, send: answer }], { home })).toMatchObject({
      code: 0,
    })
  })

  test('without a terminal an unknown host is refused, with the way to add it', async () => {
    const home = await homeFor(peer, { known: false })
    const { code, stderr, stdout } = await sshblock(list(), { home })
    expect({ code, stdout }).toEqual({ code: 255, stdout: '' })
    expect(stderr).toMatch(
      /^sshblock: cannot connect to 'peer:.*': the server .* shows the host key ssh-ed25519 SHA256:/,
    )
    expect(stderr).toContain(
      `(sshblock keyscan -p ${peer.port} 127.0.0.1 >> ${home.path('.ssh', 'known_hosts')})`,
    )
    const scanned = await sshblock(['keyscan', '-p', String(peer.port), '127.0.0.1'], { home })
    writeFileSync(home.path('.ssh', 'known_hosts'), scanned.stdout)
    expect(await sshblock(list(), { home })).toMatchObject({ code: 0, stderr: '' })
  })

  test('a key that has changed is refused with file and line, and never asked about', async () => {
    const home = await homeFor(peer, { known: false })
    const stranger = await strangerHostKey('ed25519')
    const file = home.path('.ssh', 'known_hosts')
    writeFileSync(file, `# one\n[127.0.0.1]:${peer.port} ${stranger.publicLine}\n`)
    const { output, code } = await onTerminal(list(), [], { home })
    expect(code).toBe(255)
    expect(output).toContain(`"${file}" line 2 has "ssh-ed25519" ${stranger.fingerprint}`)
    expect(output).not.toContain('continue connecting')
  })

  test('a password is asked for on the terminal, without showing it, and again where it is wrong', async () => {
    const home = await homeFor(peer, { config: ['PubkeyAuthentication no', `User ${passwordUser.name}`] })
    const prompt = "pia@peer's password: "
    const { output, code } = await onTerminal(
      list(),
      [
        { expect: prompt, send: 'wrong\r' },
        { expect: prompt, send: `${passwordUser.password}x\u007f\r` },
      ],
      { home },
    )
    expect(code).toBe(0)
    expect(output).not.toContain('horse')
    expect(output).not.toContain('wrong')
  })

  test('a passphrase comes from the terminal, or from SSH_ASKPASS where there is none', async () => {
    const key = await clientKey('ed25519', { passphrase: 'open sesame' })
    const home = await homeFor(peer)
    const args = [
      'ls',
      '-F',
      'none',
      '-i',
      key.privateFile,
      '-o',
      `UserKnownHostsFile=${peer.paths.knownHosts}`,
      '-o',
      'IdentitiesOnly=yes',
      `ssh://${peer.user}@127.0.0.1:${peer.port}${peer.paths.data}`,
    ]
    const asked = await sshblock(args, { home, env: askpass('open sesame') })
    expect(asked).toMatchObject({ code: 0, stdout: 'file\n' })
    expect(asked.stderr).toContain(`asked: Enter passphrase for key '${key.privateFile}': `)
    const typed = await onTerminal(
      args,
      [{ expect: `Enter passphrase for key '${key.privateFile}': `, send: 'open sesame\r' }],
      { home },
    )
    expect(typed.code).toBe(0)
    expect(typed.output).not.toContain('sesame')
    const nobody = await sshblock(args, { home })
    expect(nobody.code).toBe(255)
    expect(nobody.stderr).toContain(`authentication of user "${peer.user}" failed`)
  })

  test('progress is shown on terminals only, unless it is asked for', async () => {
    const home = await homeFor(peer)
    const source = `peer:${join(peer.paths.data, 'file')}`
    const dir = tempDir()
    const shown = await onTerminal(['cp', source, join(dir, 'a')], [], { home })
    expect(shown).toMatchObject({ code: 0 })
    expect(shown.output).toMatch(/copy {2}[#-]+ {2}\d+ % .*\/s .* left/)
    const silent = await onTerminal(['cp', '--no-progress', source, join(dir, 'b')], [], { home })
    expect(silent).toEqual({ code: 0, output: '' })
    expect((await sshblock(['cp', source, join(dir, 'c')], { home })).stderr).toBe('')
    expect((await sshblock(['cp', '--progress', source, join(dir, 'd')], { home })).stderr).toMatch(
      /copy {2}[#-]+/,
    )
  })

  test('errors are coloured on terminals, and not with NO_COLOR', async () => {
    expect((await onTerminal(['ls', 'local'], [])).output).toContain('\u001b[1;31msshblock:\u001b[0m ')
    expect((await onTerminal(['ls', 'local'], [], { env: { NO_COLOR: '1' } })).output).not.toContain(
      '\u001b[',
    )
  })

  test('Ctrl-C ends a copy cleanly: 130, the part stays, and --resume completes it', async () => {
    const bytes = randomBytes(3 * 1024 ** 2)
    writeFileSync(join(peer.paths.data, 'slow.img'), bytes)
    const proxy = await startProxy({
      target: { host: peer.host, port: peer.port },
      bytesPerSecond: 1024 ** 2,
    })
    const slow = await homeFor(peer, { port: proxy.port, config: ['HostKeyAlias known'], known: false })
    writeFileSync(slow.path('.ssh', 'known_hosts'), `known ${peer.hostKeys[0]?.publicLine}\n`)
    const target = join(tempDir(), 'slow.img')
    const source = `peer:${join(peer.paths.data, 'slow.img')}`
    const { output, code } = await onTerminal(
      ['cp', source, target],
      [{ expect: 'copy {2}.*/s', send: interruptKey }],
      { home: slow },
    )
    expect(code).toBe(130)
    expect(output).toContain(`what was copied is kept in '${target}.part'; --resume goes on there`)
    expect(output).toContain('sshblock: interrupted')
    expect(existsSync(target)).toBe(false)
    expect(await sshblock(['cp', '--resume', source, target], { home: await homeFor(peer) })).toMatchObject({
      code: 0,
    })
    expect(readFileSync(target).equals(bytes)).toBe(true)
  })

  test('Ctrl-C ends a copy though the server says nothing any more', async () => {
    writeFileSync(join(peer.paths.data, 'silent.img'), randomBytes(8 * 1024 ** 2))
    const proxy = await startProxy({
      target: { host: peer.host, port: peer.port },
      cut: { direction: 'toClient', afterBytes: 65_536, how: 'silence' },
    })
    const silent = await homeFor(peer, { port: proxy.port, config: ['HostKeyAlias known'], known: false })
    writeFileSync(silent.path('.ssh', 'known_hosts'), `known ${peer.hostKeys[0]?.publicLine}\n`)
    const source = `peer:${join(peer.paths.data, 'silent.img')}`
    const { code } = await onTerminal(
      ['cp', source, join(tempDir(), 'silent.img')],
      [{ expect: 'copy {2}.*/s', send: interruptKey }],
      { home: silent, timeoutMs: 8000 },
    )
    expect(code).toBe(130)
  })

  test('of an agent, IdentitiesOnly shows the identities of the named files alone', async () => {
    const [mine, other] = await Promise.all([clientKey('ed25519'), clientKey('ecdsa-256')])
    const agent = await startAgent({ keys: [other, mine] })
    const home = await homeFor(peer)
    const env = { SSH_AUTH_SOCK: agent.socket }
    const args = ['info', '--json', `peer:${join(peer.paths.data, 'file')}`]
    const by = async (more: readonly string[]): Promise<string> =>
      JSON.parse((await sshblock([...args, ...more], { home, env })).stdout).server.authentication
    expect(await by([])).toContain('client-ed25519')
    expect(await by(['-o', 'IdentitiesOnly=no'])).toContain('client-ecdsa-256')
  })

  test('Ctrl-C at a question ends the command', async () => {
    const home = await homeFor(peer, { known: false })
    expect(await onTerminal(list(), [{ expect: question, send: interruptKey }], { home })).toMatchObject({
      code: 130,
    })
  })

  test('-v tells what happens, and more of it the more v', async () => {
    const home = await homeFor(peer)
    const [quiet, some, all] = await Promise.all(
      [[], ['-v'], ['-vvv']].map((flags) => sshblock([...list(), ...flags], { home })),
    )
    expect(quiet?.stderr).toBe('')
    expect(some?.stderr).toMatch(/^debug1: /m)
    expect(some?.stderr).not.toMatch(/^debug[23]: /m)
    expect(all?.stderr.length).toBeGreaterThan(some?.stderr.length ?? 0)
  })
})
