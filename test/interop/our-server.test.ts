import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'
import { registerCleanup } from '../support/cleanup.ts'
import { clientKey, type KeyPair } from '../support/keys.ts'
import { needsOpensshClient, remote, scp, sftp, ssh } from '../support/openssh-client.ts'
import { type OurServer, startOurServer, writeNoise } from '../support/our-server.ts'
import { findProgram, findPython, run, runOrThrow } from '../support/program.ts'
import { needsQemu, qemu, qemuImageOptions } from '../support/qemu.ts'
import { describeWith, needsPrograms, needsPythonModule, needsRoot } from '../support/requirements.ts'
import { needsAgent, startAgent } from '../support/ssh-agent.ts'
import { tempDir } from '../support/temp-dir.ts'

const size = 3_000_017

describeWith([needsOpensshClient()], "OpenSSH's clients with our server", () => {
  let server: OurServer
  let key: KeyPair
  let local: string
  beforeAll(async () => {
    server = await startOurServer({ scope: 'file' })
    key = await clientKey('ed25519')
    local = tempDir('local', { scope: 'file' })
  })

  it('sftp: put, get, list, rename, link, resume both ways, remove, and an error with its name', async () => {
    const bytes = writeNoise(join(local, 'a.bin'), size)
    writeFileSync(join(local, 'part.bin'), bytes.subarray(0, 1_000_000))
    const done = await sftp(
      server,
      [
        `put ${local}/a.bin /a.bin`,
        `get /a.bin ${local}/back.bin`,
        'mkdir /dir',
        'rename /a.bin /dir/b.bin',
        'ln -s b.bin /dir/link',
        'ls -l /dir',
        `put ${local}/part.bin /part.bin`,
        `reput ${local}/a.bin /part.bin`,
        `lcd ${local}`,
        `reget /dir/b.bin part.bin`,
        'chmod 600 /part.bin',
        'df /',
        'cp /part.bin /copy.bin',
      ],
      { key },
    )
    expect(done.code, done.stderr).toBe(0)
    expect(Buffer.compare(readFileSync(join(local, 'back.bin')), bytes)).toBe(0)
    expect(Buffer.compare(readFileSync(join(local, 'part.bin')), bytes)).toBe(0)
    for (const path of ['dir/b.bin', 'dir/link', 'part.bin', 'copy.bin'])
      expect(Buffer.compare(readFileSync(join(server.paths.data, path)), bytes), path).toBe(0)
    expect(done.stdout).toMatch(/-rw-r--r--.*3000017.*b\.bin/)
    expect(statSync(join(server.paths.data, 'part.bin')).mode & 0o777).toBe(0o600)
    const missing = await sftp(server, ['get /nowhere'], { key })
    expect(missing.code).toBe(1)
    expect(missing.stderr + missing.stdout).toMatch(/not found|No such file/)
    const removed = await sftp(server, ['rm /dir/link', 'rm /dir/b.bin', 'rmdir /dir'], { key })
    expect(removed.code, removed.stderr).toBe(0)
    expect(existsSync(join(server.paths.data, 'dir'))).toBe(false)
  })

  it('sftp: nobody leaves the folder', async () => {
    const outside = await sftp(server, ['get /../../../../etc/passwd', `get ${server.paths.knownHosts}`], {
      key,
    })
    expect(outside.code).toBe(1)
    const link = await sftp(server, ['ln -s /etc/passwd /escape', `get /escape ${local}/escaped`], { key })
    expect(link.code).toBe(1)
    expect(existsSync(join(local, 'escaped'))).toBe(false)
  })

  it('scp: both ways, and a folder', async () => {
    const bytes = writeNoise(join(local, 's.bin'), size, 5)
    expect((await scp(server, join(local, 's.bin'), remote(server, '/s.bin'), { key })).code).toBe(0)
    expect((await scp(server, remote(server, '/s.bin'), join(local, 's2.bin'), { key })).code).toBe(0)
    expect(Buffer.compare(readFileSync(join(local, 's2.bin')), bytes)).toBe(0)
    expect((await scp(server, remote(server, '/none'), join(local, 'none'), { key })).code).not.toBe(0)
  })

  it('ssh: runs a command, with input, output, stderr and exit status', async () => {
    const done = await ssh(server, 'cat; echo oops >&2; exit 7', { key, input: 'x'.repeat(200_000) })
    expect(done.code).toBe(7)
    expect(done.stdout).toHaveLength(200_000)
    expect(done.stderr).toMatch(/oops/)
  })

  it('ssh: goes on while the client rekeys every megabyte', async () => {
    const done = await ssh(server, 'head -c 20000000 /dev/zero | cat', { key, o: ['RekeyLimit=1M'] })
    expect(done.stdoutBytes).toHaveLength(20_000_000)
  })

  it.each(['chacha20-poly1305@openssh.com', 'aes128-gcm@openssh.com', 'aes256-ctr'])(
    'sftp over %s',
    async (cipher) => {
      const bytes = writeNoise(join(local, 'c.bin'), size, 7)
      const done = await sftp(server, [`put ${local}/c.bin /c.bin`, `get /c.bin ${local}/c2.bin`], {
        key,
        o: [`Ciphers=${cipher}`],
      })
      expect(done.code, done.stderr).toBe(0)
      expect(Buffer.compare(readFileSync(join(local, 'c2.bin')), bytes)).toBe(0)
    },
  )

  it('ssh-keyscan: sees every host key and leaves no trace', async () => {
    const scan = await runOrThrow('ssh-keyscan', ['-T', '5', '-p', String(server.port), server.host])
    for (const { publicLine } of server.hostKeys) expect(scan.stdout).toContain(publicLine.split(' ')[1])
  })
})

describeWith(
  [needsPrograms('PuTTY', ['plink', 'psftp', 'puttygen'], 'putty-tools')],
  'PuTTY with our server',
  () => {
    it('psftp and plink: put, get, list, rename, remove, an error, a command', async () => {
      const server = await startOurServer()
      const local = tempDir('putty')
      const ppk = join(local, 'k.ppk')
      await runOrThrow('puttygen', [(await clientKey('ed25519')).privateFile, '-O', 'private', '-o', ppk])
      const common = [
        '-batch',
        '-noagent',
        '-hostkey',
        server.hostKeys[0]!.fingerprint,
        '-i',
        ppk,
        '-P',
        String(server.port),
      ]
      const bytes = writeNoise(join(local, 'p.bin'), size, 2)
      const batch = join(local, 'batch')
      writeFileSync(
        batch,
        [
          `put ${local}/p.bin p.bin`,
          `get p.bin ${local}/p2.bin`,
          'mkdir d',
          'mv p.bin d/q.bin',
          'ls d',
          `reget d/q.bin ${local}/p2.bin`,
          'del d/q.bin',
          'rmdir d',
          'quit',
        ].join('\n'),
      )
      const home = { env: { HOME: local } }
      const done = await run('psftp', [...common, '-b', batch, `${server.user}@${server.host}`], home)
      expect(done.code, done.stdout + done.stderr).toBe(0)
      expect(done.stdout).toMatch(/q\.bin/)
      expect(Buffer.compare(readFileSync(join(local, 'p2.bin')), bytes)).toBe(0)
      expect(readdirSync(server.paths.data)).toEqual([])
      writeFileSync(batch, 'get nowhere\n')
      const failed = await run('psftp', [...common, '-b', batch, `${server.user}@${server.host}`], home)
      expect(failed.code).not.toBe(0)
      const command = await run(
        'plink',
        [...common, `${server.user}@${server.host}`, 'echo hello; exit 3'],
        home,
      )
      expect(command).toMatchObject({ code: 3, stdout: 'hello\n' })
    })
  },
)

describeWith(
  [needsPrograms('dbclient', ['dbclient', 'dropbearconvert'], 'dropbear-bin'), needsOpensshClient()],
  "dropbear's client with our server",
  () => {
    it('runs a command, and carries sftp', async () => {
      const server = await startOurServer()
      const local = tempDir('dbclient')
      const key = join(local, 'k.db')
      await runOrThrow('dropbearconvert', [
        'openssh',
        'dropbear',
        (await clientKey('ed25519')).privateFile,
        key,
      ])
      const options = ['-y', '-y', '-T', '-i', key, '-p', String(server.port)]
      const command = await run(
        'dbclient',
        [...options, `${server.user}@${server.host}`, 'echo hi; exit 4'],
        { env: { HOME: local } },
      )
      expect(command).toMatchObject({ code: 4, stdout: 'hi\n' })
      const bytes = writeNoise(join(local, 'd.bin'), size, 3)
      // `sftp -D` runs a command that speaks SFTP: dbclient with the subsystem.
      const through = `dbclient ${options.join(' ')} -s ${server.user}@${server.host} sftp`
      const done = await run('sftp', ['-b', '-', '-D', through], {
        input: `put ${local}/d.bin d.bin\nget d.bin ${local}/d2.bin\nls\nrm d.bin\n`,
        env: { HOME: local },
      })
      expect(done.code, done.stderr).toBe(0)
      expect(Buffer.compare(readFileSync(join(local, 'd2.bin')), bytes)).toBe(0)
    })
  },
)

describeWith([needsPrograms('curl', ['curl'], 'curl')], 'curl (libssh2) with our server', () => {
  it('puts, gets, lists, resumes, renames, removes, and tells a missing file', async () => {
    const server = await startOurServer()
    const local = tempDir('curl')
    // libssh2 before 1.11 signs with RSA by SHA-1 only, which we refuse.
    const { privateFile, publicFile } = await clientKey('ed25519')
    const key = join(local, 'id')
    copyFileSync(privateFile, key)
    copyFileSync(publicFile, `${key}.pub`)
    const bytes = writeNoise(join(local, 'u.bin'), size, 4)
    const base = `sftp://${server.host}:${server.port}`
    const curl = (...args: string[]) =>
      run('curl', [
        '-sS',
        '--insecure',
        '--key',
        key,
        '--pubkey',
        `${key}.pub`,
        '-u',
        `${server.user}:`,
        ...args,
      ])
    const put = await curl('-T', join(local, 'u.bin'), `${base}/u.bin`)
    expect(put.code, put.stderr).toBe(0)
    expect((await curl('-o', join(local, 'u2.bin'), `${base}/u.bin`)).code).toBe(0)
    expect(Buffer.compare(readFileSync(join(local, 'u2.bin')), bytes)).toBe(0)
    writeFileSync(join(local, 'u3.bin'), bytes.subarray(0, 1_234_567))
    expect((await curl('-C', '-', '-o', join(local, 'u3.bin'), `${base}/u.bin`)).code).toBe(0)
    expect(Buffer.compare(readFileSync(join(local, 'u3.bin')), bytes)).toBe(0)
    expect((await curl(`${base}/`)).stdout).toMatch(/u\.bin/)
    expect((await curl('-Q', 'rename /u.bin /v.bin', `${base}/`)).stdout).toMatch(/v\.bin|u\.bin/)
    expect((await curl('-Q', 'rm /v.bin', `${base}/`)).code).toBe(0)
    expect(readdirSync(server.paths.data)).toEqual([])
    expect((await curl(`${base}/nowhere`)).code).toBe(78)
  })
})

describeWith(
  [needsPrograms('sshfs', ['sshfs', 'fusermount3'], 'sshfs fuse3'), needsRoot],
  'sshfs with our server',
  () => {
    it('is a file system: copy a tree, compare, rename, truncate, append, remove', async () => {
      const server = await startOurServer()
      const mount = tempDir('mount')
      const { privateFile } = await clientKey('ed25519')
      const options = [
        'IdentitiesOnly=yes',
        'IdentityAgent=none',
        `IdentityFile=${privateFile}`,
        `UserKnownHostsFile=${server.paths.knownHosts}`,
        'GlobalKnownHostsFile=/dev/null',
        'StrictHostKeyChecking=yes',
        'BatchMode=yes',
        'KexAlgorithms=-sntrup761*',
      ]
      await runOrThrow('sshfs', [
        `${server.user}@${server.host}:/`,
        mount,
        '-F',
        'none',
        '-p',
        String(server.port),
        ...options.flatMap((option) => ['-o', option]),
      ])
      registerCleanup(() => run('fusermount3', ['-u', '-z', mount]).then(() => {}))
      const local = tempDir('tree')
      mkdirSync(join(local, 'tree/sub'), { recursive: true })
      for (let i = 0; i < 12; i++) writeNoise(join(local, `tree/sub/${i}.bin`), 1 + i * 40_000, i + 1)
      const script = [
        'set -e',
        `cp -r ${local}/tree ${mount}/tree`,
        `diff -r ${local}/tree ${mount}/tree`,
        `mv ${mount}/tree/sub/3.bin ${mount}/tree/three.bin`,
        `cmp ${local}/tree/sub/3.bin ${mount}/tree/three.bin`,
        `truncate -s 1000 ${mount}/tree/three.bin`,
        `test $(stat -c %s ${mount}/tree/three.bin) = 1000`,
        `echo tail >> ${mount}/tree/three.bin`,
        `test $(stat -c %s ${mount}/tree/three.bin) = 1005`,
        `ln -s three.bin ${mount}/tree/link; test "$(readlink ${mount}/tree/link)" = three.bin`,
        `! cat ${mount}/nowhere 2>/dev/null`,
        `rm -r ${mount}/tree`,
        `test -z "$(ls ${mount})"`,
      ].join('\n')
      const done = await run('sh', ['-c', script])
      expect(done.code, done.stderr).toBe(0)
    })
  },
)

describeWith(
  [needsQemu(), needsAgent(), needsPrograms('nbdkit', ['nbdkit', 'nbdcopy'], 'nbdkit libnbd-bin')],
  'libssh (QEMU and nbdkit) with our server',
  () => {
    it('qemu-img converts from and to, and qemu-img compare agrees', async () => {
      const server = await startOurServer()
      const agent = await startAgent({ keys: [await clientKey('ed25519')] })
      const local = tempDir('qemu-local')
      const image = join(local, 'disk.raw')
      writeNoise(image, 2 * 1024 ** 2, 9)
      const there = qemuImageOptions(server, '/disk.raw')
      const access = { peer: server, agent }
      copyFileSync(image, join(server.paths.data, 'disk.raw'))
      const out = join(local, 'out.raw')
      const convert = await qemu('qemu-img', ['convert', '-O', 'raw', '--image-opts', there, out], access)
      expect(convert.code, convert.stderr).toBe(0)
      expect(Buffer.compare(readFileSync(out), readFileSync(image))).toBe(0)
      writeNoise(image, 2 * 1024 ** 2, 10)
      const back = await qemu(
        'qemu-img',
        ['convert', '-n', '-f', 'raw', '--target-image-opts', image, there],
        access,
      )
      expect(back.code, back.stderr).toBe(0)
      expect(Buffer.compare(readFileSync(join(server.paths.data, 'disk.raw')), readFileSync(image))).toBe(0)
    })

    it('nbdkit serves it, and nbdcopy copies it', async () => {
      const server = await startOurServer()
      const local = tempDir('nbdkit')
      const bytes = writeNoise(join(server.paths.data, 'disk.raw'), 3 * 1024 ** 2, 8)
      const out = join(local, 'out')
      const args = [
        `host=${server.host}`,
        `port=${server.port}`,
        `user=${server.user}`,
        'path=/disk.raw',
        `identity=${(await clientKey('ed25519')).privateFile}`,
        `known-hosts=${server.paths.knownHosts}`,
      ]
      const done = await run('nbdkit', ['-U', '-', 'ssh', ...args, '--run', `nbdcopy "$uri" ${out}`], {
        env: { HOME: local },
      })
      expect(done.code, done.stderr).toBe(0)
      expect(Buffer.compare(readFileSync(out), bytes)).toBe(0)
    })
  },
)

const paramikoScript = `
import sys, os, hashlib, paramiko
host, port, user, key, local = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5]
t = paramiko.SSHClient(); t.set_missing_host_key_policy(paramiko.AutoAddPolicy())
t.connect(host, port, user, key_filename=key, look_for_keys=False, allow_agent=False)
s = t.open_sftp()
data = os.urandom(20000003)
open(local + '/a', 'wb').write(data)
s.put(local + '/a', '/a')
s.get('/a', local + '/b')   # prefetches the whole file at once, without bound
assert open(local + '/b', 'rb').read() == data
assert s.listdir('/') == ['a']
s.rename('/a', '/c'); assert s.stat('/c').st_size == len(data)
with s.open('/c', 'r+') as f:
    f.seek(10); f.write(b'XY'); f.seek(9); assert f.read(4) == data[9:10] + b'XY' + data[12:13]
try:
    s.stat('/nowhere'); raise SystemExit('no error')
except FileNotFoundError: pass
s.remove('/c'); assert s.listdir('/') == []
_, out, _ = t.exec_command('echo hi; exit 6'); assert out.read() == b'hi\\n'; assert out.channel.recv_exit_status() == 6
t.close(); print('good')
`

const asyncsshScript = `
import asyncio, sys, os, asyncssh
host, port, user, key, local = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5]
async def main():
    async with asyncssh.connect(host, port, username=user, client_keys=[key], known_hosts=None, config=None, agent_path=None) as c:
        async with c.start_sftp_client() as s:
            data = os.urandom(5000001); open(local + '/a', 'wb').write(data)
            await s.put(local + '/a', '/a'); await s.get('/a', local + '/b')
            assert open(local + '/b', 'rb').read() == data
            assert 'a' in await s.listdir('/')
            await s.rename('/a', '/c'); await s.symlink('c', '/l'); assert await s.readlink('/l') == 'c'
            try:
                await s.stat('/nowhere'); raise SystemExit('no error')
            except asyncssh.SFTPNoSuchFile: pass
            await s.remove('/l'); await s.remove('/c')
        r = await c.run('echo hi; exit 6'); assert r.stdout == 'hi\\n' and r.exit_status == 6
    print('good')
asyncio.run(main())
`

for (const [module, script] of [
  ['paramiko', paramikoScript],
  ['asyncssh', asyncsshScript],
] as const) {
  describeWith([needsPythonModule(module)], `${module} with our server`, () => {
    it('puts, gets (with its own read-ahead), lists, renames, changes in place, removes, and tells a missing file', async () => {
      const server = await startOurServer()
      const local = tempDir(module)
      const file = join(local, 'script.py')
      writeFileSync(file, script)
      const { privateFile } = await clientKey('ed25519')
      const done = await run(
        findPython(module) ?? 'python3',
        [file, server.host, String(server.port), server.user, privateFile, local],
        { env: { HOME: local } },
      )
      expect(done.stdout, done.stderr).toMatch(/good/)
    })
  })
}

describeWith([needsPrograms('ssh-audit', ['ssh-audit'], 'ssh-audit')], 'ssh-audit', () => {
  it('finds nothing to fail in the default offer, and warns of nothing that OpenSSH would not be warned of', async () => {
    const server = await startOurServer()
    const report = await run(findProgram('ssh-audit') ?? 'ssh-audit', [
      '-n',
      '-p',
      String(server.port),
      server.host,
    ])
    const lines = `${report.stdout}${report.stderr}`.split('\n')
    const fails = lines.filter((line) => line.includes('[fail]'))
    // The NIST curves: suspected of being weak by ssh-audit, offered by OpenSSH by default. 2048-bit RSA is the test's own key.
    expect(fails.filter((line) => !/nistp|ecdsa/.test(line))).toEqual([])
    const warns = lines.filter((line) => line.includes('[warn]'))
    expect(
      warns.filter(
        (line) =>
          !/nistp|ecdsa|2048-bit|hmac-sha2-(256|512) .*encrypt-and-MAC|encrypt-and-MAC|random number generator|unknown algorithm/.test(
            line,
          ),
      ),
    ).toEqual([])
  })
})
