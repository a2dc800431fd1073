import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { askpass } from './askpass.ts'
import { ALL_KEY_TYPES, clientKey, unknownClientKey } from './keys.ts'
import { needsOpensshClient, remote, scp, sftp, ssh } from './openssh-client.ts'
import { needsOpenssh, needsOpensshAccounts, startOpensshServer } from './openssh-server.ts'
import { isAlive } from './process-tree.ts'
import { run } from './program.ts'
import { describeWith } from './requirements.ts'
import { sessionsOf } from './server-process.ts'
import { tempDir } from './temp-dir.ts'

const openssh = [needsOpenssh(), needsOpensshClient()]

describeWith(openssh, 'the OpenSSH server of the machine', () => {
  test('runs a command and gives its status, output and error output', async () => {
    const peer = await startOpensshServer()
    const said = await ssh(peer, 'pwd; echo oops >&2; exit 7', { key: await clientKey('ed25519') })
    expect(said).toMatchObject({ code: 7, stdout: `${peer.paths.home}\n`, stderr: 'oops\n' })
  })

  test.each(ALL_KEY_TYPES)('knows the client key %s', async (type) => {
    const peer = await startOpensshServer({ hostKeyTypes: ['ed25519'] })
    const key = await clientKey(type)
    expect(await ssh(peer, 'true', { key })).toMatchObject({ code: 0 })
    expect(peer.log()).toContain(key.fingerprint)
  })

  test.each(ALL_KEY_TYPES)('shows the host key %s, the one that its record holds', async (type) => {
    const peer = await startOpensshServer({ hostKeyTypes: [type] })
    const scan = await run('ssh-keyscan', ['-p', String(peer.port), '-T', '5', peer.host])
    const [key] = peer.hostKeys
    const blob = Buffer.from(key?.blob ?? []).toString('base64')
    expect(scan.stdout.trim()).toBe(`[${peer.host}]:${peer.port} ${key?.algorithm} ${blob}`)
    expect(await ssh(peer, 'true', { key: await clientKey('ed25519') })).toMatchObject({ code: 0 })
  })

  test('refuses a key that it does not know', async () => {
    const peer = await startOpensshServer()
    const said = await ssh(peer, 'true', { key: await unknownClientKey() })
    expect(said).toMatchObject({
      code: 255,
      stderr: expect.stringContaining('Permission denied (publickey)'),
    })
  })

  test('moves files by sftp and scp', async () => {
    const peer = await startOpensshServer({ sftp: 'sftp-server' })
    const key = await clientKey('ed25519')
    const here = tempDir()
    const content = `${'0123456789abcdef'.repeat(5000)}end`
    writeFileSync(join(here, 'a'), content)
    expect(await sftp(peer, [`put ${here}/a ${peer.paths.data}/b`], { key })).toMatchObject({ code: 0 })
    expect(readFileSync(join(peer.paths.data, 'b'), 'utf8')).toBe(content)
    expect(await scp(peer, remote(peer, `${peer.paths.data}/b`), join(here, 'c'), { key })).toMatchObject({
      code: 0,
    })
    expect(readFileSync(join(here, 'c'), 'utf8')).toBe(content)
  })

  test('offers exactly the algorithms that it was told', async () => {
    const peer = await startOpensshServer({
      hostKeyTypes: ['rsa-2048'],
      hostKeyAlgorithms: 'rsa-sha2-256',
      kexAlgorithms: 'ecdh-sha2-nistp384',
      ciphers: 'aes192-ctr',
      macs: 'hmac-sha2-512-etm@openssh.com',
    })
    const said = await ssh(peer, 'true', { key: await clientKey('ed25519'), verbose: 1 })
    expect(said.stderr).toContain('kex: algorithm: ecdh-sha2-nistp384')
    expect(said.stderr).toContain('kex: host key algorithm: rsa-sha2-256')
    expect(said.stderr).toContain('cipher: aes192-ctr MAC: hmac-sha2-512-etm@openssh.com')
  })

  test('exchanges keys again at its RekeyLimit', async () => {
    const peer = await startOpensshServer({ rekeyLimit: '64K' })
    const said = await ssh(peer, 'head -c 1000000 /dev/zero', {
      key: await clientKey('ed25519'),
      verbose: 1,
    })
    expect(said.stdoutBytes.length).toBe(1_000_000)
    expect(said.stderr.match(/SSH2_MSG_KEXINIT received/g)?.length).toBeGreaterThan(10)
  })

  test('keeps to MaxAuthTries', async () => {
    const peer = await startOpensshServer({ maxAuthTries: 1 })
    const said = await ssh(peer, 'true', { key: await unknownClientKey() })
    expect(said.stderr).toContain('Too many authentication failures')
  })

  test('asks for both where AuthenticationMethods wants two keys', async () => {
    const peer = await startOpensshServer({ authenticationMethods: 'publickey,publickey' })
    const [first, second] = [await clientKey('ed25519'), await clientKey('ecdsa-256')]
    expect(await ssh(peer, 'true', { key: first })).toMatchObject({ code: 255 })
    expect(await ssh(peer, 'true', { key: first, o: [`IdentityFile=${second.privateFile}`] })).toMatchObject({
      code: 0,
    })
  })

  test('keeps to MaxSessions', async () => {
    const peer = await startOpensshServer({ maxSessions: 0 })
    const said = await ssh(peer, 'true', { key: await clientKey('ed25519') })
    expect(said).toMatchObject({ code: 255 })
    expect(peer.log()).toContain('no more sessions')
  })

  test('has no sftp where none is configured', async () => {
    const peer = await startOpensshServer({ sftp: null })
    const said = await sftp(peer, ['pwd'], { key: await clientKey('ed25519') })
    expect(said).toMatchObject({ code: 255, stderr: expect.stringContaining('subsystem request failed') })
  })

  test('is read-only with sftp-server -R', async () => {
    const peer = await startOpensshServer({ sftp: 'sftp-server -R' })
    const said = await sftp(peer, [`mkdir ${peer.paths.data}/new`], { key: await clientKey('ed25519') })
    expect(said).toMatchObject({ code: 1, stderr: expect.stringContaining('Permission denied') })
  })

  test('hides an extension with sftp-server -P', async () => {
    const put = async (sftpCommand: string): Promise<string> => {
      const peer = await startOpensshServer({ sftp: sftpCommand })
      const key = await clientKey('ed25519')
      return (await sftp(peer, [`put -f ${key.publicFile} ${peer.paths.data}/k`], { key, verbose: 3 })).stderr
    }
    expect(await put('sftp-server')).toContain('extension "fsync@openssh.com"')
    expect(await put('sftp-server -P fsync')).not.toContain('extension "fsync@openssh.com"')
  })

  test('takes extra configuration that wins over its options', async () => {
    const peer = await startOpensshServer({
      ciphers: 'aes128-ctr',
      config: ['Ciphers aes256-ctr', 'Banner /etc/debian_version'],
    })
    const said = await ssh(peer, 'true', { key: await clientKey('ed25519'), verbose: 1 })
    expect(said.stderr).toContain('cipher: aes256-ctr')
  })

  test('restricts with authorized_keys options and Match blocks', async () => {
    const key = await clientKey('ed25519')
    const forced = await startOpensshServer({ authorizedKeys: [`command="echo forced" ${key.publicLine}`] })
    expect(await ssh(forced, 'echo asked', { key })).toMatchObject({ code: 0, stdout: 'forced\n' })
    const matched = await startOpensshServer({ match: ['Match all', '  ForceCommand echo matched'] })
    expect(await ssh(matched, 'echo asked', { key })).toMatchObject({ code: 0, stdout: 'matched\n' })
  })

  test('shows its sessions, and ends them with itself', async () => {
    const peer = await startOpensshServer()
    const client = ssh(peer, 'echo begun; exec sleep 1000', { key: await clientKey('ed25519') })
    await peer.waitForLog(/Starting session: command/)
    await expect.poll(() => sessionsOf(peer).some(({ command }) => command === 'sleep 1000')).toBe(true)
    const pids = sessionsOf(peer).map(({ pid }) => pid)
    await peer.stop()
    expect(await client).toMatchObject({ code: 255, stdout: 'begun\n' })
    await expect.poll(() => pids.filter(isAlive)).toEqual([])
  })

  test('starts in well under half a second once keys are there', async () => {
    await startOpensshServer()
    const times: number[] = []
    for (let i = 0; i < 5; i++) {
      const before = performance.now()
      await startOpensshServer()
      times.push(performance.now() - before)
    }
    expect(Math.min(...times)).toBeLessThan(500)
  })
})

describeWith([...openssh, needsOpensshAccounts()], 'the OpenSSH server with accounts of its own', () => {
  const passwordUser = { name: 'pat', password: 'Grüße, $HOME "and" \'more\'' }
  const loginBy = (method: string): string[] => [
    'BatchMode=no',
    `PreferredAuthentications=${method}`,
    'NumberOfPasswordPrompts=1',
  ]

  test.each([
    ['password without PAM', 'password', false],
    ['password through PAM', 'password', true],
    ['keyboard-interactive through PAM', 'keyboard-interactive', true],
  ])('lets an ordinary user in by %s', async (_title, method, pam) => {
    const peer = await startOpensshServer({ passwordUser, pam })
    const login = { key: undefined, user: 'pat', o: loginBy(method) }
    const right = await ssh(peer, 'id -un; id -u; pwd', { ...login, env: askpass(passwordUser.password) })
    expect(right).toMatchObject({ code: 0, stdout: `pat\n54321\n${peer.homes.get('pat')}\n` })
    const wrong = await ssh(peer, 'id -un', { ...login, env: askpass('something else') })
    expect(wrong).toMatchObject({ code: 255, stderr: expect.stringContaining('Permission denied') })
  })

  test('leaves no account on the machine', async () => {
    await startOpensshServer({ passwordUser, pam: true })
    expect(readFileSync('/etc/passwd', 'utf8')).not.toContain('pat:')
  })

  test('lets the ordinary user write into the data folder, and not into others', async () => {
    const peer = await startOpensshServer({ passwordUser })
    const login = { key: await clientKey('ed25519'), user: 'pat' }
    expect(await ssh(peer, `touch ${peer.paths.data}/mine`, login)).toMatchObject({ code: 0 })
    expect(await ssh(peer, `touch ${peer.paths.dir}/not-mine`, login)).toMatchObject({ code: 1 })
  })

  test('asks for a key and then for a password where AuthenticationMethods says so', async () => {
    const peer = await startOpensshServer({ passwordUser, authenticationMethods: 'publickey,password' })
    const login = { user: 'pat', o: loginBy('publickey,password'), env: askpass(passwordUser.password) }
    expect(await ssh(peer, 'true', { ...login, key: await clientKey('ed25519') })).toMatchObject({ code: 0 })
    expect(await ssh(peer, 'true', { ...login, key: undefined })).toMatchObject({ code: 255 })
  })

  test('runs the PAM stack that it was given', async () => {
    const pam = [
      'auth optional pam_echo.so Good day',
      'auth required pam_unix.so',
      'account required pam_permit.so',
    ]
    const peer = await startOpensshServer({ passwordUser, pam })
    const login = { key: undefined, user: 'pat', o: loginBy('keyboard-interactive') }
    const said = await ssh(peer, 'true', { ...login, env: askpass(passwordUser.password) })
    expect(said.code).toBe(0)
    expect(said.stderr).toContain('asked: (pat@127.0.0.1) Good day')
  })
})
