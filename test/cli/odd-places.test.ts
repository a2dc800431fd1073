/** The commands where a path is something else than an image or a file, and where pipes have nothing to say. */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { until } from '../nbd/support/serve.ts'
import { bundlesPackages } from '../support/bundles.ts'
import { needsOpenssh, type OpensshPeer, startOpensshServer } from '../support/openssh-server.ts'
import { run, runOrThrow } from '../support/program.ts'
import { describeWith, needsPrograms } from '../support/requirements.ts'
import { tempDir } from '../support/temp-dir.ts'
import { mountTmpfs, needsTmpfs } from '../support/tmpfs.ts'
import { type Home, homeFor, main, sshblockSeries, start } from './command.ts'

bundlesPackages()

describeWith([needsOpenssh()], 'places that are no file', () => {
  let peer: OpensshPeer
  let home: Home
  let dir: string

  beforeAll(async () => {
    peer = await startOpensshServer()
    home = await homeFor(peer)
    dir = tempDir()
    for (const folder of [dir, peer.paths.data]) {
      execFileSync('mkfifo', [join(folder, 'fifo')])
      mkdirSync(join(folder, 'folder'))
    }
    writeFileSync(join(dir, 'a.img'), 'from here')
    writeFileSync(join(peer.paths.data, 'b.img'), 'from there')
  })

  const at = (name: string): string => join(peer.paths.data, name)
  const done = { code: 0, stderr: '' }
  const refused = (text: string) => ({ code: 1, stderr: `sshblock: ${text}\n` })
  const modeOf = (path: string): string => (statSync(path).mode & 0o777).toString(8)

  test('cp to a folder makes the file of the same name in it', async () => {
    const [up, again, down, taken] = await sshblockSeries(
      [
        ['cp', join(dir, 'a.img'), `peer:${at('folder')}`],
        ['cp', join(dir, 'a.img'), `peer:${at('folder')}/`],
        ['cp', '--json', `peer:${at('b.img')}`, join(dir, 'folder')],
        ['cp', '--overwrite', join(dir, 'folder'), `peer:${at('folder')}`],
      ],
      { home },
    )
    expect(up).toMatchObject(done)
    expect(readFileSync(at('folder/a.img'), 'utf8')).toBe('from here')
    expect(again).toMatchObject(
      refused(`cannot copy to 'peer:${at('folder/a.img')}': exists already; --overwrite replaces it`),
    )
    expect(JSON.parse(down?.stdout ?? '')).toMatchObject({ target: join(dir, 'folder', 'b.img'), size: 10 })
    expect(readFileSync(join(dir, 'folder', 'b.img'), 'utf8')).toBe('from there')
    expect(taken?.stderr).toMatch(/it is a directory, and no disk image/)
    expect(readdirSync(at('folder'))).toEqual(['a.img'])
  })

  test('cp, get and put never put a file in the place of a device or fifo, and do not wait for one', async () => {
    const fifo = 'it is a fifo, which the copy would replace; read and write use what is there'
    const file = `peer:${at('b.img')}`
    const [cpDown, cpUp, get, put, getFifo, putFifo, cpFolder] = await sshblockSeries(
      [
        ['cp', '--overwrite', file, join(dir, 'fifo')],
        ['cp', '--overwrite', join(dir, 'a.img'), `peer:${at('fifo')}`],
        ['get', file, join(dir, 'fifo')],
        ['put', join(dir, 'a.img'), `peer:${at('fifo')}`],
        ['get', `peer:${at('fifo')}`, join(dir, 'new')],
        ['put', join(dir, 'fifo'), `peer:${at('new')}`],
        ['put', join(dir, 'a.img'), 'peer:/dev/null'],
      ],
      { home },
    )
    expect(cpDown).toMatchObject(refused(`cannot copy to '${join(dir, 'fifo')}': ${fifo}`))
    expect(cpUp).toMatchObject(refused(`cannot copy to 'peer:${at('fifo')}': ${fifo}`))
    expect(get).toMatchObject(refused(`cannot write '${join(dir, 'fifo')}': ${fifo}`))
    expect(put).toMatchObject(refused(`cannot put to '${at('fifo')}': ${fifo}`))
    const none = 'it is a fifo; files and folders are copied'
    expect(getFifo).toMatchObject(refused(`cannot get 'peer:${at('fifo')}': ${none}`))
    expect(putFifo).toMatchObject(refused(`cannot put '${join(dir, 'fifo')}': ${none}`))
    expect(cpFolder?.stderr).toMatch(/it is a character device, which the copy would replace/)
    expect(
      [...readdirSync(dir), ...readdirSync(peer.paths.data)].filter((name) => /part|new/.test(name)),
    ).toEqual([])
  })

  test('cp keeps the permissions of what it replaces, and otherwise gives those of the source', async () => {
    const secret = join(dir, 'secret.img')
    writeFileSync(secret, 'x')
    chmodSync(secret, 0o600)
    const location = `peer:${at('secret.img')}`
    const [up, down] = await sshblockSeries(
      [
        ['cp', secret, location],
        ['cp', location, join(dir, 'copy.img')],
      ],
      { home },
    )
    expect([up, down]).toMatchObject([done, done])
    expect([modeOf(at('secret.img')), modeOf(join(dir, 'copy.img'))]).toEqual(['600', '600'])
    chmodSync(join(dir, 'a.img'), 0o644)
    const over = await sshblockSeries([['cp', '--overwrite', join(dir, 'a.img'), location]], { home })
    expect(over).toMatchObject([done])
    expect(modeOf(at('secret.img'))).toBe('600')
  })

  test('an error names the side that it is of', async () => {
    mkdirSync(at('tree'))
    symlinkSync('gone', at('tree/link'))
    execFileSync('mkfifo', [at('tree/fifo')])
    const [local, tree, from, into, listed] = await sshblockSeries(
      [
        ['get', `peer:${at('b.img')}`, join(dir, 'none', 'x')],
        ['get', '-r', `peer:${at('tree')}`, dir],
        ['mv', `peer:${at('gone')}`, `peer:${at('x')}`],
        ['put', join(dir, 'a.img'), `peer:${at('none/x')}`],
        ['resize', '--shrink', `peer:${at('b.img')}`, '--', '-1G'],
      ],
      { home },
    )
    expect(local).toMatchObject(refused(`cannot write '${join(dir, 'none', 'x')}': no such file or folder`))
    expect(tree?.stderr).toMatch(`cannot copy all of 'peer:${at('tree')}': 1 left out`)
    expect(from).toMatchObject(refused(`cannot move 'peer:${at('gone')}': no such file or folder`))
    expect(into).toMatchObject(refused(`cannot put to 'peer:${at('none/x')}': no such file or folder`))
    expect(listed).toMatchObject(
      refused(`cannot resize 'peer:${at('b.img')}': it has 10 bytes, and 1073741824 are to be taken away`),
    )
  })

  test('write ends at a signal while a pipe says nothing, and at --length without waiting for its end', async () => {
    const image = at('w.img')
    writeFileSync(image, 'a'.repeat(1024))
    const whole = start(['write', '--length', '4', `peer:${image}`], { home, input: 'bbbb', openInput: true })
    expect(await whole.finished).toMatchObject(done)
    const waiting = start(['write', '--offset', '8', `peer:${image}`], { home, input: 'cc', openInput: true })
    // What came before was written: it waits for more.
    await until(() => readFileSync(image, 'utf8').startsWith('bbbbaaaacc'))
    waiting.kill('SIGTERM')
    expect(await waiting.finished).toMatchObject({ code: 143, stderr: 'sshblock: interrupted\n' })
    expect(readFileSync(image, 'utf8')).toBe(`bbbbaaaacc${'a'.repeat(1014)}`)
  })

  test('output that cannot be written is a failure', async () => {
    const outcome = await run('sh', ['-c', '"$1" "$2" --help > /dev/full', 'sh', process.execPath, main])
    expect(outcome).toMatchObject(refused("cannot write 'standard output': no space left"))
  })
})

describeWith([needsOpenssh(), needsPrograms('NBD clients', ['nbdinfo'], 'libnbd-bin')], 'serve', () => {
  test('tells where its socket is from everywhere, and takes any name for an export, or none', async () => {
    const peer = await startOpensshServer()
    const home = await homeFor(peer)
    const image = join(peer.paths.data, 'disk.img')
    writeFileSync(image, '')
    truncateSync(image, 4096)
    const cwd = tempDir()
    const args = ['serve', '--json', '--socket', "a 'b,c.sock", `=peer:${image}`, `pl ä,tte=peer:${image}`]
    const serving = start(args, { home, cwd })
    const [json = ''] = await serving.printed(/^\{[\s\S]*\n\}\n/)
    const { exports } = JSON.parse(json) as { exports: { name: string; uri: string }[] }
    expect(exports.map(({ name }) => name)).toEqual(['', 'pl ä,tte'])
    for (const { uri } of exports)
      expect((await runOrThrow('nbdinfo', ['--size', uri])).stdout).toBe('4096\n')
    serving.kill('SIGTERM')
    expect(await serving.finished).toMatchObject({ code: 0, stderr: '' })
    expect(readdirSync(cwd)).toEqual([])
    const nowhere = start(['serve', '--socket', 'none/sock', `peer:${image}`], { home, cwd })
    expect(await nowhere.finished).toMatchObject({
      code: 1,
      stderr: `sshblock: cannot listen on '${join(cwd, 'none/sock')}': no such file or folder\n`,
    })
  })
})

describeWith([needsOpenssh(), needsTmpfs], 'a full file system on the server', () => {
  test('is named by put and cp, with the room that there is', async () => {
    const small = await mountTmpfs(2 * 1024 * 1024)
    const dir = tempDir()
    const home = await homeFor(await startOpensshServer())
    const local = join(dir, 'large.img')
    writeFileSync(local, randomBytes(5 * 1024 * 1024))
    const place = `peer:${small}`
    const [put, copied, image] = await sshblockSeries(
      [
        ['put', local, place],
        ['cp', local, `${place}/copy.img`],
        ['create', '--size', '10M', `${place}/large.img`],
      ],
      { home },
    )
    expect(put).toMatchObject({ code: 1 })
    expect(put!.stderr).toMatch(/no space left: the file has 5 MiB, and ".*" 2 MiB available; make room/)
    expect(copied!.stderr).toMatch(/no space left/)
    expect(image).toMatchObject({ code: 0, stderr: '' })
    expect(readdirSync(small)).not.toContain('large.img.part')
  })
})
