import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import fs from 'node:fs'
import { join } from 'node:path'
import { spawnSftpServer } from '@sshblock/sftp/node'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openFlag, packetType, statusCode } from '../../../packages/sftp/src/messages/index.ts'
import { findProgram, run } from '../../support/program.ts'
import { describeWith, needsPrograms, needsRoot } from '../../support/requirements.ts'
import { tempDir } from '../../support/temp-dir.ts'
import { bytes, RawClient, replies, requests, text } from '../support/raw-client.ts'
import { stdioServerProgram } from '../support/stdio-server.ts'

const openssh = needsPrograms(
  "OpenSSH's sftp and sftp-server",
  ['sftp', 'sftp-server'],
  'openssh-client openssh-sftp-server',
)

let program: string
beforeAll(async () => {
  program = await stdioServerProgram()
})

/** Runs OpenSSH's sftp with our server behind it, in `cwd`. */
function sftp(batch: string, cwd: string, serverArgs = '', moreArgs: readonly string[] = []) {
  const server = `${process.execPath} ${program} ${serverArgs}`
  return run('sftp', ['-q', ...moreArgs, '-b', '-', '-D', server], { input: batch, cwd })
}

const sha = (file: string) => createHash('sha256').update(fs.readFileSync(file)).digest('hex')

describeWith([openssh], "OpenSSH's sftp in front of our stdio server", () => {
  test('puts, gets and compares files of many sizes', async () => {
    const dir = tempDir('openssh')
    const sizes = [0, 1, 32_767, 32_768, 32_769, 1_000_003, 10_000_000]
    const batch: string[] = []
    for (const size of sizes) {
      fs.writeFileSync(join(dir, `local${size}`), randomBytes(size))
      batch.push(`put local${size} remote${size}`, `get remote${size} back${size}`)
    }
    const { code, stderr } = await sftp(batch.join('\n'), dir)
    expect(stderr).toBe('')
    expect(code).toBe(0)
    for (const size of sizes) expect(sha(join(dir, `back${size}`))).toBe(sha(join(dir, `local${size}`)))
  })

  test('with large requests and many of them in flight', async () => {
    const dir = tempDir('openssh')
    fs.writeFileSync(join(dir, 'local'), randomBytes(20_000_000))
    for (const args of [
      ['-B', '261120', '-R', '64'],
      ['-B', '1024', '-R', '1'],
      ['-B', '100', '-R', '512'],
    ]) {
      const size = args[1] === '261120' ? 20_000_000 : 200_000
      fs.truncateSync(join(dir, 'local'), size)
      const { code, stderr } = await sftp('put local remote\nget remote back\n', dir, '', args)
      expect(stderr).toBe('')
      expect(code).toBe(0)
      expect(sha(join(dir, 'back'))).toBe(sha(join(dir, 'local')))
    }
  })

  test('lists, renames, links, copies, changes and removes', async () => {
    const dir = tempDir('openssh')
    fs.writeFileSync(join(dir, 'a'), 'content\n')
    const { code, stdout, stderr } = await sftp(
      [
        'pwd',
        'cp a copy',
        'rename copy moved',
        'symlink a soft',
        'ln a hard',
        'mkdir d',
        'chmod 640 a',
        'rename moved d/inner',
        'cd d',
        'ls -l',
        'cd ..',
        'ls -l a',
        'df',
        'df -i',
        'mkdir e',
        'rmdir e',
        'rm hard',
      ].join('\n'),
      dir,
    )
    expect(stderr).toBe('')
    expect(code).toBe(0)
    expect(stdout).toContain(`Remote working directory: ${fs.realpathSync(dir)}`)
    expect(stdout).toMatch(/-rw-r--r-- +\? \S+ +\S+ +8 .* inner/)
    expect(stdout).toMatch(/-rw-r----- +\? \S+ +\S+ +8 .* a/)
    expect(stdout).toMatch(/Size +Used +Avail/)
    expect(fs.readdirSync(dir).sort()).toEqual(['a', 'd', 'soft'])
    expect(fs.readFileSync(join(dir, 'd', 'inner'), 'utf8')).toBe('content\n')
    expect(fs.readlinkSync(join(dir, 'soft'))).toBe('a')
    expect(fs.statSync(join(dir, 'a')).mode & 0o7777).toBe(0o640)
  })

  test('resumes a download and an upload', async () => {
    const dir = tempDir('openssh')
    const content = randomBytes(3_000_000)
    fs.writeFileSync(join(dir, 'whole'), content)
    fs.writeFileSync(join(dir, 'down'), content.subarray(0, 1_234_567))
    fs.writeFileSync(join(dir, 'up'), content.subarray(0, 765_432))
    const { code, stderr } = await sftp('reget whole down\nreput whole up\n', dir)
    expect(stderr).toBe('')
    expect(code).toBe(0)
    for (const name of ['down', 'up']) expect(sha(join(dir, name))).toBe(sha(join(dir, 'whole')))
  })

  test('puts and gets trees with their modes and times', async () => {
    const dir = tempDir('openssh')
    fs.mkdirSync(join(dir, 'tree', 'sub', 'deep'), { recursive: true })
    for (let i = 0; i < 150; i++) fs.writeFileSync(join(dir, 'tree', 'sub', `f${i}`), `${i}`)
    fs.writeFileSync(join(dir, 'tree', 'sub', 'deep', 'x'), 'deep')
    fs.chmodSync(join(dir, 'tree', 'sub', 'f0'), 0o750)
    fs.utimesSync(join(dir, 'tree', 'sub', 'f0'), 1_111_111_111, 1_222_222_222)
    const { code, stderr } = await sftp('put -Rp tree up\nget -Rp up down\n', dir)
    expect(stderr).toBe('')
    expect(code).toBe(0)
    expect(fs.readdirSync(join(dir, 'down', 'sub'))).toHaveLength(151)
    expect(fs.readFileSync(join(dir, 'down', 'sub', 'deep', 'x'), 'utf8')).toBe('deep')
    const { mode, mtimeMs } = fs.statSync(join(dir, 'down', 'sub', 'f0'))
    expect(mode & 0o777).toBe(0o750)
    expect(mtimeMs).toBe(1_222_222_222_000)
  })

  test('reports what fails in its own words', async () => {
    const dir = tempDir('openssh')
    const { code, stderr } = await sftp('-get missing\n-rmdir missing\n-mkdir a/b\n-rename missing x\n', dir)
    expect(code).toBe(0)
    expect(stderr).toMatch(/"missing" not found|No such file/)
  })

  test('works over names that are not UTF-8', async () => {
    const dir = tempDir('openssh')
    const name = Buffer.from([0x66, 0xe4, 0xff])
    fs.writeFileSync(Buffer.concat([Buffer.from(`${dir}/`), name]), 'odd')
    const { code, stderr } = await sftp('get f* got\nrm f*\n', dir)
    expect(stderr).toBe('')
    expect(code).toBe(0)
    expect(fs.readFileSync(join(dir, 'got'), 'utf8')).toBe('odd')
    expect(fs.readdirSync(dir)).toEqual(['got'])
  })

  test('-R refuses every change and allows every look', async () => {
    const dir = tempDir('openssh')
    fs.writeFileSync(join(dir, 'a'), 'content')
    const changes = [
      'put a b',
      'rm a',
      'mkdir d',
      'rename a b',
      'symlink a s',
      'ln a h',
      'chmod 600 a',
      'cp a c',
    ]
    const refused = await sftp(changes.map((change) => `-${change}\n`).join(''), dir, '-R')
    const complaints = refused.stderr
      .split('\n')
      .filter((line) => /ermission denied|does not support/.test(line))
    expect(complaints).toHaveLength(changes.length)
    expect(fs.readdirSync(dir)).toEqual(['a'])
    const { code } = await sftp('get a back\nls -l\ndf\n', dir, '-R')
    expect(code).toBe(0)
    expect(fs.readdirSync(dir).sort()).toEqual(['a', 'back'])
  })

  test('-d starts elsewhere, -u sets the umask, -P hides an extension, --root confines', async () => {
    const dir = tempDir('openssh')
    fs.mkdirSync(join(dir, 'sub'))
    fs.writeFileSync(join(dir, 'a'), '')
    const started = await sftp('pwd\n', dir, `-d ${join(dir, 'sub')}`)
    expect(started.stdout).toContain(`${join(dir, 'sub')}`)
    await sftp('lcd sub\nput ../a made\n', dir, '-u 077')
    expect(fs.statSync(join(dir, 'made')).mode & 0o077).toBe(0)
    const hidden = await sftp('cp a b\n', dir, '-P copy-data')
    expect(hidden.code).toBe(1)
    expect(hidden.stderr).toContain('does not support')
    const confined = await sftp(
      `pwd\nls ..\n-get ${join(dir, 'a')} stolen\n`,
      dir,
      `--root ${join(dir, 'sub')}`,
    )
    expect(confined.stdout).toContain('Remote working directory: /\n')
    expect(fs.existsSync(join(dir, 'stolen'))).toBe(false)
  })

  test('-e logs to standard error at the level of -l, and nothing that could steer a terminal', async () => {
    const dir = tempDir('openssh')
    const name = 'a\u001b[31mred'
    fs.writeFileSync(join(dir, name), 'x')
    const loud = await sftp('get a* got\n', dir, '-e -l INFO')
    expect(loud.stderr).toMatch(/open ".*a\\u\{1b\}\[31mred" flags READ mode 0666/)
    expect(loud.stderr).toMatch(/close ".*" bytes read 1 written 0/)
    expect(loud.stderr).not.toContain('\u001b')
    const quiet = await sftp('get a* got\n', dir, '-e')
    expect(quiet.stderr).toBe('')
  })

  test('-Q requests prints the names that OpenSSH prints', async () => {
    const ours = await run(process.execPath, [program, '-Q', 'requests'])
    const theirs = await run(findProgram('sftp-server')!, ['-Q', 'requests'])
    const names = (output: string) => output.split('\n')
    for (const name of names(theirs.stdout)) expect(names(ours.stdout)).toContain(name)
  })

  test('a longname is what OpenSSH would have printed', async () => {
    const dir = tempDir('openssh')
    fs.writeFileSync(join(dir, 'plain'), 'x'.repeat(12_345))
    fs.mkdirSync(join(dir, 'dir'))
    fs.symlinkSync('plain', join(dir, 'link'))
    fs.linkSync(join(dir, 'plain'), join(dir, 'hard'))
    expect((await run('mkfifo', [join(dir, 'fifo')])).code).toBe(0)
    const modes = [0o000, 0o4755, 0o4644, 0o2711, 0o2600, 0o1777, 0o1776, 0o7777]
    for (const mode of modes) {
      fs.writeFileSync(join(dir, `m${mode.toString(8)}`), '')
      fs.chmodSync(join(dir, `m${mode.toString(8)}`), mode)
    }
    const year = 365 * 24 * 3600
    const now = Math.floor(Date.now() / 1000)
    for (const [name, time] of [
      ['old', now - 2 * year],
      ['future', now + year],
      ['epoch', 0],
      ['recent', now - 90_000],
    ] as const) {
      fs.writeFileSync(join(dir, name), '')
      fs.utimesSync(join(dir, name), time, time)
    }
    const list = async (command: string, args: string[]) => {
      const { channel } = spawnSftpServer(command, args)
      const client = new RawClient(channel)
      await client.init()
      const names = await client.list(dir)
      channel.close()
      return new Map(
        names.map(({ filename, longname, attrs }) => [text(filename), { line: text(longname), attrs }]),
      )
    }
    const ours = await list(process.execPath, [program])
    const theirs = await list(findProgram('sftp-server')!, [])
    expect([...ours.keys()].sort()).toEqual([...theirs.keys()].sort())
    for (const [name, entry] of theirs) {
      if (name === '..') continue
      // Listing the directory moves its time of access.
      const { line, attrs } = ours.get(name)!
      expect({ line, attrs: { ...attrs, atime: 0 } }).toEqual({
        line: entry.line,
        attrs: { ...entry.attrs, atime: 0 },
      })
    }
  })
})

describeWith([openssh, needsPrograms('strace', ['strace'], 'strace')], 'durability', () => {
  test('fsync@openssh.com reaches the disk before it is answered', async () => {
    const dir = tempDir('openssh')
    fs.writeFileSync(join(dir, 'local'), randomBytes(100_000))
    const server = `strace -f -e trace=fsync,fdatasync -o ${join(dir, 'trace')} ${process.execPath} ${program}`
    const { code } = await run('sftp', ['-q', '-f', '-b', '-', '-D', server], {
      input: 'put local remote\n',
      cwd: dir,
    })
    expect(code).toBe(0)
    expect(fs.readFileSync(join(dir, 'trace'), 'utf8')).toMatch(/fsync\(\d+\)\s+= 0/)
  })
})

describe('our stdio server as a process', () => {
  async function start(args: string[] = [], cwd?: string) {
    const { channel, process: child } = spawnSftpServer(
      process.execPath,
      [program, ...args],
      cwd === undefined ? {} : { cwd },
    )
    const exit = new Promise<number | null>((resolve) => child.once('exit', resolve))
    const client = new RawClient(channel)
    return { client, child, exit }
  }

  test('ends with status 0 when its input ends, after the last answer', async () => {
    const dir = tempDir('stdio')
    fs.writeFileSync(join(dir, 'big'), randomBytes(4_000_000))
    const { client, exit } = await start([], dir)
    await client.init()
    const handle = await client.open('big', openFlag.read)
    for (let i = 0; i < 20; i++)
      client.send(requests.read, { id: client.id(), handle, offset: i * 200_000, len: 200_000 })
    client.channel.end()
    let received = 0
    for (let i = 0; i < 20; i++)
      received += replies.data.decode((await client.receive())!.payload).data.length
    expect(received).toBe(4_000_000)
    expect(await exit).toBe(0)
  })

  test('ends with status 255 where the client breaks the protocol', async () => {
    const { client, exit } = await start()
    client.send(requests.realpath, { id: 1, path: bytes('.') })
    expect(await exit).toBe(255)
  })

  test('goes on reading while its client does not', async () => {
    const dir = tempDir('stdio')
    fs.writeFileSync(join(dir, 'f'), new Uint8Array(262_144))
    const child = spawn(process.execPath, [program], { cwd: dir, stdio: ['pipe', 'pipe', 'inherit'] })
    afterAll(() => void child.kill())
    const chunks: Buffer[] = []
    const send = (packet: Uint8Array) => child.stdin.write(packet)
    const { framed } = await import('../support/raw-client.ts')
    send(framed(requests.init.bytes({ version: 3, extensions: [] })))
    send(framed(requests.open.bytes({ id: 1, filename: bytes('f'), pflags: openFlag.read, attrs: {} })))
    const handle = await new Promise<Uint8Array>((resolve) => {
      child.stdout.on('data', function look(chunk: Buffer) {
        chunks.push(chunk)
        const all = Buffer.concat(chunks)
        const at = 4 + all.readUInt32BE(0)
        if (all.length < at + 4 || all.length < at + 4 + all.readUInt32BE(at)) return
        child.stdout.off('data', look)
        child.stdout.pause()
        resolve(replies.handle.decode(all.subarray(at + 4, at + 4 + all.readUInt32BE(at))).handle.slice())
      })
    })
    // More requests and answers than pipes hold, less than the server may: it must take them all, with nobody reading.
    const count = 20_000
    const flood = Buffer.concat(
      Array.from({ length: count }, (_, id) =>
        framed(requests.read.bytes({ id, handle, offset: 300_000, len: 1 })),
      ),
    )
    await new Promise<void>((resolve) => child.stdin.write(flood, () => resolve()))
    let bytesOut = 0
    const done = new Promise<void>((resolve) => {
      child.stdout.on('data', (chunk: Buffer) => {
        bytesOut += chunk.length
        if (bytesOut === count * (4 + 1 + 4 + 4 + 4 + 'End of file'.length + 4)) resolve()
      })
    })
    child.stdout.resume()
    await done
    child.stdin.end()
    await new Promise((resolve) => child.once('exit', resolve))
  })
})

describeWith(
  [needsRoot, needsPrograms('mount', ['mount', 'unshare'], 'mount util-linux')],
  'a full disk',
  () => {
    test('is a FAILURE that says so, and the session goes on', async () => {
      const dir = tempDir('full')
      fs.mkdirSync(join(dir, 'small'))
      // A mount namespace of its own: gone with the process.
      const script = `mount -t tmpfs -o size=64k none "$1" && shift && exec "$@"`
      const { channel, process: child } = spawnSftpServer('unshare', [
        '-m',
        'sh',
        '-c',
        script,
        'sh',
        join(dir, 'small'),
        process.execPath,
        program,
        '-d',
        join(dir, 'small'),
      ])
      const exit = new Promise<number | null>((resolve) => child.once('exit', resolve))
      const client = new RawClient(channel)
      await client.init()
      const handle = await client.open('file', openFlag.read | openFlag.write | openFlag.creat)
      expect(await client.write(handle, 0, new Uint8Array(32_768).fill(1))).toBe(statusCode.ok)
      const id = client.id()
      client.send(requests.write, { id, handle, offset: 32_768, data: new Uint8Array(65_536).fill(2) })
      const reply = await client.answer(id)
      expect(reply.type).toBe(packetType.status)
      expect(replies.status.decode(reply.payload)).toMatchObject({
        code: statusCode.failure,
        message: 'No space left on device',
      })
      expect(await client.read(handle, 0, 32_768)).toEqual(new Uint8Array(32_768).fill(1))
      channel.end()
      expect(await exit).toBe(0)
    })
  },
)
