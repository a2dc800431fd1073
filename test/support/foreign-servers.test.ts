import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { askpass } from './askpass.ts'
import { needsAsyncssh, startAsyncssh } from './asyncssh-server.ts'
import { needsDropbear, startDropbear } from './dropbear-server.ts'
import { needsGesftp, startGesftpServer } from './gesftp-server.ts'
import { clientKey, unknownClientKey } from './keys.ts'
import { needsOpensshClient, sftp, ssh } from './openssh-client.ts'
import { needsParamiko, startParamiko } from './paramiko-server.ts'
import { describeWith } from './requirements.ts'
import { tempDir } from './temp-dir.ts'
import { needsTinyssh, startTinyssh } from './tinyssh-server.ts'
import { needsTrixie } from './trixie.ts'

const trixie = await needsTrixie()

// The name, what it needs, how it starts, and what it calls itself in its identification or log.
const servers = [
  ['dropbear', [needsDropbear()], startDropbear, /remote software version dropbear_20/],
  [
    'dropbear of Debian 13',
    [needsDropbear(), trixie],
    () => startDropbear({ release: 'trixie' }),
    /dropbear_2025/,
  ],
  ['asyncssh', [needsAsyncssh()], startAsyncssh, /AsyncSSH_2\./],
  ['asyncssh of Debian 13', [trixie], () => startAsyncssh({ release: 'trixie' }), /AsyncSSH_2\.2\d/],
  ['paramiko', [needsParamiko()], startParamiko, /paramiko_/],
  ['gesftpserver behind sshd', [needsGesftp()], startGesftpServer, /OpenSSH_/],
  ['tinysshd', [needsTinyssh()], startTinyssh, /tinyssh_/],
] as const

for (const [name, requirements, start, identification] of servers) {
  describeWith([needsOpensshClient(), ...requirements], name, () => {
    let peer: Awaited<ReturnType<typeof start>>
    beforeAll(async () => {
      peer = await start()
    })

    test('runs a command in the home folder and gives its status and outputs', async () => {
      const said = await ssh(peer, 'pwd; echo oops >&2; exit 7', {
        key: await clientKey('ed25519'),
        verbose: 1,
      })
      const home = 'homeInside' in peer ? peer.homeInside : peer.paths.home
      expect(said).toMatchObject({ code: 7, stdout: `${home}\n` })
      expect(said.stderr).toMatch(/^oops$/m)
      expect(said.stderr).toMatch(identification)
      expect(peer.log()).not.toBe('')
    })

    test('takes and gives a file, and answers a missing one with an error', async () => {
      const key = await clientKey('ed25519')
      const here = tempDir()
      const content = '0123456789'.repeat(30_000)
      writeFileSync(join(here, 'a'), content)
      const there = join(peer.paths.data, 'b')
      const said = await sftp(peer, [`put ${here}/a ${there}`, `get ${there} ${here}/c`], { key })
      expect(said).toMatchObject({ code: 0 })
      expect(readFileSync(there, 'utf8')).toBe(content)
      expect(readFileSync(join(here, 'c'), 'utf8')).toBe(content)
      const missing = await sftp(peer, [`get ${there}-not ${here}/d`], { key })
      expect(missing).toMatchObject({ code: 1, stderr: expect.stringContaining('not found') })
    })

    test('refuses a key that it does not know', async () => {
      const said = await ssh(peer, 'true', { key: await unknownClientKey() })
      expect(said).toMatchObject({ code: 255, stderr: expect.stringContaining('Permission denied') })
    })
  })
}

const login = (method: string) => ({
  key: undefined,
  user: 'pat',
  o: ['BatchMode=no', `PreferredAuthentications=${method}`, 'NumberOfPasswordPrompts=1'],
})

describeWith([needsOpensshClient(), needsDropbear()], 'dropbear with a password user', () => {
  test('lets the right password in and a wrong one not', async () => {
    const peer = await startDropbear({ passwordUser: { name: 'pat', password: 'right' } })
    const right = await ssh(peer, 'id -un', { ...login('password'), env: askpass('right') })
    expect(right).toMatchObject({ code: 0, stdout: 'pat\n' })
    expect(await ssh(peer, 'id -un', { ...login('password'), env: askpass('wrong') })).toMatchObject({
      code: 255,
    })
  })
})

const pythonServers = [
  ['asyncssh', needsAsyncssh(), startAsyncssh],
  ['paramiko', needsParamiko(), startParamiko],
] as const

for (const [name, requirement, start] of pythonServers) {
  describeWith([needsOpensshClient(), requirement], `${name} with passwords and questions`, () => {
    test('lets the right password in and a wrong one not', async () => {
      const peer = await start({ passwords: { pat: 'right' } })
      expect(await ssh(peer, 'true', { ...login('password'), env: askpass('right') })).toMatchObject({
        code: 0,
      })
      expect(await ssh(peer, 'true', { ...login('password'), env: askpass('wrong') })).toMatchObject({
        code: 255,
      })
    })

    test('asks every question of every round', async () => {
      const questions = [
        [
          ['First? ', false, 'same'],
          ['Second? ', true, 'same'],
        ],
        [['Third? ', false, 'same']],
      ] as const
      const peer = await start({ questions })
      const method = 'keyboard-interactive'
      const right = await ssh(peer, 'true', { ...login(method), env: askpass('same') })
      expect(right.code).toBe(0)
      expect(right.stderr.match(/First|Second|Third/g)).toEqual(['First', 'Second', 'Third'])
      expect(await ssh(peer, 'true', { ...login(method), env: askpass('other') })).toMatchObject({
        code: 255,
      })
    })
  })
}

describeWith([needsOpensshClient(), needsAsyncssh()], 'asyncssh with chosen algorithms', () => {
  test('offers what it was told', async () => {
    const peer = await startAsyncssh({
      hostKeyTypes: ['ecdsa-521'],
      options: { kex_algs: ['ecdh-sha2-nistp521'], encryption_algs: ['aes256-gcm@openssh.com'] },
    })
    const said = await ssh(peer, 'true', { key: await clientKey('ed25519'), verbose: 1 })
    expect(said.code).toBe(0)
    expect(said.stderr).toContain('kex: algorithm: ecdh-sha2-nistp521')
    expect(said.stderr).toContain('kex: host key algorithm: ecdsa-sha2-nistp521')
    expect(said.stderr).toContain('cipher: aes256-gcm@openssh.com')
  })
})

describeWith([needsOpensshClient(), needsParamiko()], 'paramiko with chosen algorithms', () => {
  test('offers what it was told', async () => {
    const security = { kex: ['ecdh-sha2-nistp256'], ciphers: ['aes192-ctr'], digests: ['hmac-sha2-512'] }
    const peer = await startParamiko({ hostKeyTypes: ['ecdsa-256'], security })
    const said = await ssh(peer, 'true', { key: await clientKey('ed25519'), verbose: 1 })
    expect(said.code).toBe(0)
    expect(said.stderr).toContain('kex: algorithm: ecdh-sha2-nistp256')
    expect(said.stderr).toContain('cipher: aes192-ctr MAC: hmac-sha2-512')
  })
})
