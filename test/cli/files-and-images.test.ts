/** The commands on images and files, run as a person would, against OpenSSH. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { until } from '../nbd/support/serve.ts'
import { bundlesPackages } from '../support/bundles.ts'
import { clientKey } from '../support/keys.ts'
import { needsOpenssh, type OpensshPeer, startOpensshServer } from '../support/openssh-server.ts'
import { runOrThrow } from '../support/program.ts'
import { startProxy, type TcpProxy } from '../support/proxy.ts'
import { describeWith } from '../support/requirements.ts'
import { tempDir } from '../support/temp-dir.ts'
import { type Home, homeFor, sshblock, sshblockSeries, start } from './command.ts'

bundlesPackages()

const mebibyte = 1024 ** 2

describeWith([needsOpenssh()], 'against OpenSSH', () => {
  let peer: OpensshPeer
  let home: Home

  beforeAll(async () => {
    peer = await startOpensshServer()
    home = await homeFor(peer)
  })

  const at = (name: string): string => join(peer.paths.data, name)
  const done = { code: 0, stderr: '' }

  test('create makes a sparse image, and info tells about it and its server', async () => {
    const location = `peer:${at('new.img')}`
    const [created, json, text, again] = await sshblockSeries(
      [
        ['create', '--size', '3M', location],
        ['info', '--json', location],
        ['info', `ssh://${peer.user}@peer${at('new.img')}`],
        ['create', '--size', '1M', location],
      ],
      { home },
    )
    expect(created).toMatchObject({ ...done, stdout: '' })
    expect(statSync(at('new.img'))).toMatchObject({ size: 3 * mebibyte, blocks: 0 })
    expect(json).toMatchObject(done)
    expect(JSON.parse(json?.stdout ?? '')).toMatchObject({
      path: at('new.img'),
      size: 3 * mebibyte,
      kind: 'file',
      flush: 'durable',
      extensions: { 'fsync@openssh.com': '1' },
      server: {
        host: '127.0.0.1',
        port: peer.port,
        user: peer.user,
        hostKeyType: 'ssh-ed25519',
        hostKeyFingerprint: peer.hostKeys[0]?.fingerprint,
        algorithms: { strict: true },
      },
      connection: { state: 'connected', connections: 1, channels: 1 },
    })
    expect(text?.stdout).toContain('size            3145728 bytes (3 MiB)\n')
    expect(text?.stdout).toContain('connection      connected, 1 connection, 1 channel\n')
    expect(text?.stdout).toContain(`host key        ssh-ed25519 ${peer.hostKeys[0]?.fingerprint}\n`)

    expect(again).toMatchObject({
      code: 1,
      stderr: `sshblock: cannot create '${location}': exists already; --overwrite replaces it\n`,
    })
  })

  test('write and read move ranges through pipes and files', async () => {
    writeFileSync(at('range.img'), Buffer.alloc(2 * mebibyte))
    const location = `peer:${at('range.img')}`
    const bytes = randomBytes(300_000)
    const written = await sshblock(['write', '--offset', '1000', location], { home, input: bytes })
    expect(written).toMatchObject({ ...done, stdout: '' })
    expect(readFileSync(at('range.img')).subarray(1000, 301_000).equals(bytes)).toBe(true)

    const read = await sshblock(['read', '--offset', '1000', '--length', '300000', location], { home })
    expect(read).toMatchObject(done)
    expect(Buffer.compare(read.bytes, bytes)).toBe(0)

    const file = join(tempDir(), 'part')
    expect(
      await sshblock(['read', '--offset', '2M', '--length', '1', location, file], { home }),
    ).toMatchObject({
      code: 1,
      stderr: `sshblock: cannot read '${location}': it has 2097152 bytes; 1 bytes at 2097152 end behind it\n`,
    })
    const tooMuch = await sshblock(['write', '--offset', '2097000', location], { home, input: bytes })
    expect(tooMuch.code).toBe(1)
    expect(tooMuch.stderr).toContain('there is more to write than the 152 bytes that fit')
  })

  test('cp copies both ways with holes, verifies, and does not replace by itself', async () => {
    const dir = tempDir()
    const local = join(dir, 'local.img')
    writeFileSync(local, randomBytes(mebibyte))
    truncateSync(local, 70 * mebibyte + 123)
    const down = join(dir, 'down.img')
    const [up, back, existing, between] = await sshblockSeries(
      [
        ['cp', '--verify', '--json', local, `peer:${at('up.img')}`],
        ['cp', `peer:${at('up.img')}`, down],
        ['cp', local, `peer:${at('up.img')}`],
        ['cp', '--overwrite', `peer:${at('up.img')}`, `peer:${at('twin.img')}`],
      ],
      { home },
    )
    expect(up).toMatchObject(done)
    expect(JSON.parse(up?.stdout ?? '')).toMatchObject({
      size: 70 * mebibyte + 123,
      dataBytes: mebibyte,
      verified: true,
    })
    expect(statSync(at('up.img')).size).toBe(70 * mebibyte + 123)
    expect(statSync(at('up.img')).blocks * 512).toBeLessThan(2 * mebibyte)
    expect(back).toMatchObject(done)
    await runOrThrow('cmp', [local, down])
    expect(statSync(down).blocks * 512).toBeLessThan(2 * mebibyte)
    expect(readdirSync(dir).sort()).toEqual(['down.img', 'local.img'])
    expect(existing).toMatchObject({
      code: 1,
      stderr: `sshblock: cannot copy to 'peer:${at('up.img')}': exists already; --overwrite replaces it\n`,
    })
    expect(between).toMatchObject(done)
    await runOrThrow('cmp', [local, at('twin.img')])
  })

  test('cp goes on where an interrupted copy ended, and starts anew where what is there is something else', async () => {
    const source = at('resume.img')
    const bytes = randomBytes(130 * mebibyte)
    writeFileSync(source, bytes)
    const target = join(tempDir(), 'copy.img')
    writeFileSync(`${target}.part`, bytes.subarray(0, 100 * mebibyte))
    const args = ['cp', '--resume', '--json', `peer:${source}`, target]
    const resumed = await sshblock(args, { home })
    expect(resumed.code).toBe(0)
    expect(JSON.parse(resumed.stdout)).toMatchObject({ resumedFrom: 64 * mebibyte, dataBytes: 66 * mebibyte })
    await runOrThrow('cmp', [source, target])

    writeFileSync(`${target}.part`, Buffer.alloc(100 * mebibyte, 1))
    const anew = await sshblock([...args, '--overwrite'], { home })
    expect(JSON.parse(anew.stdout)).toMatchObject({ resumedFrom: 0, dataBytes: 130 * mebibyte })
    await runOrThrow('cmp', [source, target])
  })

  /** A home in which 'peer' is reached through a proxy. */
  async function throughProxy(): Promise<{ proxy: TcpProxy; home: Home }> {
    const proxy = await startProxy({
      target: { host: peer.host, port: peer.port },
      cut: { direction: 'toClient', afterBytes: 2 * mebibyte, how: 'rst' },
    })
    const through = await homeFor(peer, { port: proxy.port, config: ['HostKeyAlias known'], known: false })
    writeFileSync(through.path('.ssh', 'known_hosts'), `known ${peer.hostKeys[0]?.publicLine}\n`)
    return { proxy, home: through }
  }

  test('a connection that is lost ends a copy that is not to wait with 255, and what was copied is kept', async () => {
    writeFileSync(at('lost.img'), randomBytes(4 * mebibyte))
    const target = join(tempDir(), 'lost.img')
    const outcome = await sshblock(['cp', '--reconnect-delay', '0', `peer:${at('lost.img')}`, target], {
      home: (await throughProxy()).home,
    })
    expect(outcome.code).toBe(255)
    expect(outcome.stderr).toMatch(/^sshblock: cannot copy to '.*lost\.img': .+\n$/m)
    expect(statSync(`${target}.part`).size).toBe(4 * mebibyte)
  })

  test.each(['cp', 'get', 'get --resume', 'get -r', 'put', 'put --resume', 'put -r', 'put -r --resume'])(
    '%s goes on after a connection was lost',
    async (call) => {
      const bytes = randomBytes(6 * mebibyte)
      const there = at(`${call}.bin`)
      const here = join(tempDir(), 'here')
      const upwards = call.startsWith('put')
      const isTree = call.includes('-r ') || call.endsWith('-r')
      const fileIn = (place: string) => (isTree ? join(place, 'below', 'file.bin') : place)
      const source = fileIn(upwards ? here : there)
      mkdirSync(dirname(source), { recursive: true })
      writeFileSync(source, bytes)
      const { proxy, home: through } = await throughProxy()
      proxy.setCut({ direction: upwards ? 'toServer' : 'toClient', afterBytes: 3 * mebibyte, how: 'rst' })
      const args = [...call.split(' '), ...(upwards ? [here, `peer:${there}`] : [`peer:${there}`, here])]
      const copying = start(args, { home: through })
      // One loss; the next connection lasts.
      await Promise.race([
        until(() => proxy.connections.length > 0, 30_000),
        copying.finished.then((outcome) => {
          throw new Error(`ended before it connected: ${outcome.stderr}`)
        }),
      ])
      proxy.setCut(undefined)
      const { code, stderr } = await copying.finished
      expect({ code, stderr }).toMatchObject({
        code: 0,
        stderr: expect.stringMatching(/^sshblock: lost the connection/),
      })
      expect(readFileSync(fileIn(upwards ? there : here)).equals(bytes)).toBe(true)
    },
  )

  test('resize grows by a difference, and shrinks only where that is asked for', async () => {
    writeFileSync(at('resize.img'), Buffer.alloc(mebibyte, 7))
    const location = `peer:${at('resize.img')}`
    const [grown, refused, shrunk] = await sshblockSeries(
      [
        ['resize', location, '+1M'],
        ['resize', location, '512'],
        ['resize', '--shrink', location, '512'],
      ],
      { home },
    )
    expect(grown).toMatchObject(done)
    expect(refused).toMatchObject({
      code: 1,
      stderr: `sshblock: cannot resize '${location}': it has 2097152 bytes; a size of 512 loses what is behind: --shrink allows it\n`,
    })
    expect(shrunk).toMatchObject(done)
    expect(statSync(at('resize.img')).size).toBe(512)
  })

  test('put, get, ls, mv, mkdir and rm work on files and trees', async () => {
    const dir = tempDir()
    mkdirSync(join(dir, 'tree', 'below'), { recursive: true })
    writeFileSync(join(dir, 'tree', 'a.txt'), 'a')
    writeFileSync(join(dir, 'tree', 'below', 'b.txt'), 'bb')
    const there = `peer:${peer.paths.data}`
    const [made, put, moved, listed, long, got, folder, removed, gone] = await sshblockSeries(
      [
        ['mkdir', '-p', `${there}/files/deep`],
        ['put', '-r', join(dir, 'tree'), `${there}/files`],
        ['mv', `${there}/files/tree/a.txt`, at('files/tree/below')],
        ['ls', '--json', '-R', `${there}/files`],
        ['ls', '-l', `${there}/files/tree/below`],
        ['get', '-r', `${there}/files/tree`, join(dir, 'back')],
        ['rm', `${there}/files`],
        ['rm', '-r', `${there}/files`],
        ['ls', `${there}/files`],
      ],
      { home },
    )
    for (const outcome of [made, put, moved, listed, long, got, removed]) expect(outcome).toMatchObject(done)
    expect(JSON.parse(listed?.stdout ?? '')).toMatchObject([
      { name: 'deep', type: 'directory' },
      { name: 'tree', type: 'directory' },
      { name: 'tree/below', type: 'directory' },
      { name: 'tree/below/a.txt', type: 'file', size: 1 },
      { name: 'tree/below/b.txt', type: 'file', size: 2 },
    ])
    expect(long?.stdout).toMatch(
      /^-rw-r--r-- {2}1 {2}\d{4}-\d\d-\d\d \d\d:\d\d {2}a\.txt\n-rw-r--r-- {2}2 {2}.* {2}b\.txt\n$/,
    )
    expect(readFileSync(join(dir, 'back', 'below', 'b.txt'), 'utf8')).toBe('bb')
    expect(folder).toMatchObject({
      code: 1,
      stderr: `sshblock: cannot remove '${there}/files': it is a folder; -r removes it with all it holds\n`,
    })
    expect(gone).toMatchObject({
      code: 1,
      stderr: `sshblock: cannot list '${there}/files': no such file or folder\n`,
    })
  })

  test('bench measures an image, and with --write leaves no file behind', async () => {
    const outcome = await sshblock(
      ['bench', '--json', '--write', '--size', '1M', '--count', '20', `peer:${at('scratch')}`],
      { home },
    )
    expect(outcome).toMatchObject(done)
    const names = (JSON.parse(outcome.stdout) as { name: string }[]).map(({ name }) => name)
    expect(names).toEqual([
      'round trip',
      'write in a row, flush',
      'write 4 KiB, 32 at a time',
      'flush',
      'read in a row',
      'read 4 KiB, 1 at a time',
      'read 4 KiB, 32 at a time',
    ])
    expect(readdirSync(peer.paths.data)).not.toContain('scratch')
  })

  test('goes through a jump host and through a ProxyCommand', async () => {
    writeFileSync(at('through'), 'x')
    const jumping = await homeFor(peer, {
      config: [`ProxyJump ssh://${peer.user}@${peer.host}:${peer.port}`],
    })
    const options = ['-i', (await clientKey('ed25519')).privateFile]
    const known = ['-o', `UserKnownHostsFile=${peer.paths.knownHosts}`]
    const jumped = await sshblock(['ls', ...options, ...known, `peer:${at('through')}`], { home: jumping })
    expect(jumped).toMatchObject({ ...done, stdout: `${at('through')}\n` })
    const piping = await homeFor(peer, {
      config: ["ProxyCommand bash -c 'exec 3<>/dev/tcp/%h/%p; cat <&3 & cat >&3'"],
    })
    expect(await sshblock(['ls', `peer:${at('through')}`], { home: piping })).toMatchObject(done)
  })
})
