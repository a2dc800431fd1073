/** The commands that serve, used by real clients: NBD exports, our SSH server; and keyscan. */
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { bundlesPackages } from '../support/bundles.ts'
import { clientKey } from '../support/keys.ts'
import { needsOpensshClient, sftp } from '../support/openssh-client.ts'
import { needsOpenssh, startOpensshServer } from '../support/openssh-server.ts'
import { run, runOrThrow } from '../support/program.ts'
import { startProxy } from '../support/proxy.ts'
import { describeWith, needsPrograms } from '../support/requirements.ts'
import { tempDir } from '../support/temp-dir.ts'
import { homeFor, sshblock, start } from './command.ts'

bundlesPackages()

const mebibyte = 1024 ** 2

const needsNbd = needsPrograms('NBD clients', ['nbdinfo', 'nbdcopy', 'qemu-io'], 'libnbd-bin qemu-utils')

/** An image of 1 MiB of zeros behind a proxy that can be cut. */
async function servedThroughProxy(...flags: string[]) {
  const peer = await startOpensshServer()
  const proxy = await startProxy({ target: { host: peer.host, port: peer.port } })
  const home = await homeFor(peer, { port: proxy.port, config: ['HostKeyAlias known'], known: false })
  writeFileSync(home.path('.ssh', 'known_hosts'), `known ${peer.hostKeys[0]?.publicLine}\n`)
  const image = join(peer.paths.data, 'disk.img')
  writeFileSync(image, Buffer.alloc(mebibyte))
  const location = `peer:${image}`
  const serving = start(['serve', ...flags, location], { home })
  const [, uri = ''] = await serving.printed(/is served as (\S+)\n(?: {2}.*\n){3}/)
  return { proxy, image, serving, uri, location }
}

describeWith([needsOpenssh(), needsNbd], 'serve', () => {
  test('exports an image to nbdcopy and qemu-io, with lines to paste, and flushes at Ctrl-C', async () => {
    const peer = await startOpensshServer()
    const home = await homeFor(peer)
    const image = join(peer.paths.data, 'disk.img')
    writeFileSync(image, randomBytes(65_536))
    truncateSync(image, 4 * 1024 ** 2)
    const serving = start(['serve', `peer:${image}`], { home })
    const [, uri = ''] = await serving.printed(/is served as (\S+)\n(?: {2}.*\n){3}/)
    const { stdout } = await runOrThrow('nbdinfo', ['--size', uri])
    expect(stdout).toBe(`${4 * 1024 ** 2}\n`)
    // The line as it was printed, in a shell.
    const [, paste = ''] = await serving.printed(/nbdcopy: +(.+)\n/)
    const dir = tempDir()
    await runOrThrow('sh', ['-c', paste], { cwd: dir })
    await runOrThrow('cmp', [join(dir, 'disk.img'), image])
    await runOrThrow('qemu-io', ['-f', 'raw', '-c', 'write -P 0x5a 1M 64k', '-c', 'flush', uri])
    const socket = decodeURIComponent(/socket=(.+)/.exec(uri)?.[1] ?? '')
    expect(existsSync(socket)).toBe(true)
    serving.kill('SIGINT')
    expect(await serving.finished).toMatchObject({ code: 0, stderr: '' })
    expect(
      readFileSync(image)
        .subarray(1024 ** 2, 1024 ** 2 + 65_536)
        .every((byte) => byte === 0x5a),
    ).toBe(true)
    expect(existsSync(dirname(socket))).toBe(false)
  })

  test('goes on after the connection was lost: nothing written is missing, and it says so', async () => {
    const { proxy, image, serving, uri } = await servedThroughProxy()
    await runOrThrow('qemu-io', ['-f', 'raw', '-c', 'write -P 0x5a 0 64k', uri])
    proxy.cut('rst')
    await runOrThrow('qemu-io', [
      '-f',
      'raw',
      '-c',
      'read -P 0x5a 0 64k',
      '-c',
      'write -P 1 64k 4k',
      '-c',
      'flush',
      uri,
    ])
    serving.kill('SIGINT')
    const { code, stderr } = await serving.finished
    expect(code).toBe(0)
    expect(stderr).toMatch(
      /^sshblock: lost the connection to 'peer:.*disk\.img': .+; connecting again\nsshblock: connected to 'peer:.*' again after \d+ s\n$/,
    )
    expect(
      readFileSync(image)
        .subarray(0, 65_536)
        .every((byte) => byte === 0x5a),
    ).toBe(true)
  })

  test('with --reconnect-delay 0 requests fail while there is no connection', async () => {
    const { proxy, serving, uri } = await servedThroughProxy('--reconnect-delay', '0', '--read-only')
    await proxy.refuse()
    proxy.cut('rst')
    // Not at 0: the first bytes were read by the opening.
    const read = await run('qemu-io', ['-r', '-f', 'raw', '-c', 'read 512k 4k', uri])
    expect(read.stdout + read.stderr).toContain('Input/output error')
    serving.kill('SIGINT')
    expect(await serving.finished).toMatchObject({ code: 0 })
  })

  test('ends with an error where another file is there when the connection comes back', async () => {
    const { proxy, image, serving, location } = await servedThroughProxy()
    await proxy.refuse()
    proxy.cut('rst')
    truncateSync(image, mebibyte / 2)
    await proxy.accept()
    const { code, stderr } = await serving.finished
    expect(code).toBe(1)
    expect(stderr).toContain(`sshblock: lost '${location}': `)
  })

  test('serves several images by name on a port, read-only where told', async () => {
    const peer = await startOpensshServer()
    const home = await homeFor(peer)
    for (const name of ['a.img', 'b.img'])
      writeFileSync(join(peer.paths.data, name), Buffer.alloc(65_536, name))
    const images = [`one=peer:${join(peer.paths.data, 'a.img')}`, `peer:${join(peer.paths.data, 'b.img')}`]
    const serving = start(['serve', '--json', '--port', '0', '--read-only', ...images], { home })
    const [text] = await serving.printed(/^\{[\s\S]*^\}\n/m)
    const { exports } = JSON.parse(text) as { exports: { name: string; uri: string }[] }
    expect(exports.map(({ name }) => name)).toEqual(['one', 'b'])
    const copy = join(tempDir(), 'copy')
    await runOrThrow('nbdcopy', [exports[1]?.uri ?? '', copy])
    expect(readFileSync(copy).equals(Buffer.alloc(65_536, 'b.img'))).toBe(true)
    await runOrThrow('nbdinfo', ['--is', 'read-only', exports[0]?.uri ?? ''])
    expect((await run('qemu-io', ['-f', 'raw', '-c', 'write 0 512', exports[0]?.uri ?? ''])).code).not.toBe(0)
    // The server of the images goes away: said, and 255.
    serving.kill('SIGINT')
    expect(await serving.finished).toMatchObject({ code: 0, stderr: '' })
  })
})

describeWith([needsOpensshClient()], 'server', () => {
  test("lets OpenSSH's sftp and ourselves in by key, keeps its host key, and ends at Ctrl-C", async () => {
    const dir = tempDir()
    const folder = tempDir('files')
    writeFileSync(join(folder, 'hello'), 'hello')
    const key = await clientKey('ed25519')
    writeFileSync(join(dir, 'authorized'), `${key.publicLine}\n`)
    const args = [
      'server',
      folder,
      '--port',
      '0',
      '--user',
      'anna',
      '--json',
      '--authorized-keys',
      join(dir, 'authorized'),
    ]
    const hostKey = ['--host-key', join(dir, 'new', 'host_key')]
    const serving = start([...args, ...hostKey])
    const [text] = await serving.printed(/^\{[\s\S]*^\}\n/m)
    const { port, fingerprint } = JSON.parse(text) as { port: number; fingerprint: string }

    const scanned = await sshblock(['keyscan', '-F', 'none', '-p', String(port), '127.0.0.1'])
    const knownHosts = join(dir, 'known_hosts')
    writeFileSync(knownHosts, scanned.stdout)
    const hashed = await sshblock(['keyscan', '-F', 'none', '-H', '-p', String(port), '127.0.0.1'])
    writeFileSync(`${knownHosts}.hashed`, hashed.stdout)
    const found = await runOrThrow('ssh-keygen', [
      '-l',
      '-F',
      `[127.0.0.1]:${port}`,
      '-f',
      `${knownHosts}.hashed`,
    ])
    expect(found.stdout).toContain(fingerprint)

    const to = { host: '127.0.0.1', port, user: 'anna', paths: { knownHosts } }
    const there = await sftp(to, ['ls', `get hello ${join(dir, 'hello')}`, 'put hello'], { key, cwd: folder })
    expect(there).toMatchObject({ code: 0 })
    expect(readFileSync(join(dir, 'hello'), 'utf8')).toBe('hello')
    const options = ['-F', 'none', '-i', key.privateFile, '-o', `UserKnownHostsFile=${knownHosts}`]
    expect(await sshblock(['ls', ...options, `ssh://anna@127.0.0.1:${port}/`])).toMatchObject({
      code: 0,
      stdout: 'hello\n',
    })
    expect(await sshblock(['ls', ...options, `ssh://eve@127.0.0.1:${port}/`])).toMatchObject({ code: 255 })
    serving.kill('SIGTERM')
    expect(await serving.finished).toMatchObject({ code: 0, stderr: '' })

    const again = start([...args, ...hostKey])
    const [second] = await again.printed(/^\{[\s\S]*^\}\n/m)
    expect(JSON.parse(second)).toMatchObject({ fingerprint })
    again.kill('SIGINT')
    expect((await again.finished).code).toBe(0)
  })

  test('waits for clients at Ctrl-C, and ends at once at the second', async () => {
    const dir = tempDir()
    const key = await clientKey('ed25519')
    writeFileSync(join(dir, 'authorized'), `${key.publicLine}\n`)
    writeFileSync(join(dir, 'image'), new Uint8Array(512))
    const keys = ['--authorized-keys', join(dir, 'authorized'), '--user', 'anna']
    const serving = start(['server', dir, '--port', '0', '--json', ...keys])
    const [text] = await serving.printed(/^\{[\s\S]*^\}\n/m)
    const { port } = JSON.parse(text) as { port: number }
    const location = `ssh://anna@127.0.0.1:${port}/image?host_key_check=no`
    const client = start(['serve', '-F', 'none', '-i', key.privateFile, '--port', '0', location])
    await client.printed(/is served as/)
    serving.kill('SIGINT')
    const early = await Promise.race([serving.finished, delay(500, 'waits')])
    expect(early).toBe('waits')
    serving.kill('SIGINT')
    expect((await serving.finished).code).toBe(130)
    client.kill('SIGINT')
    expect((await client.finished).code).toBe(0)
  })
})
