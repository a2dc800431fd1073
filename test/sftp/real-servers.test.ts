/** The same work on servers that others wrote, OpenSSH's sftp-server and the Green End SFTP server, and on our own. */
import { createHash, randomBytes } from 'node:crypto'
import {
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { SftpClient, SftpStatusError, spawnSftpServer } from '../../packages/sftp/src/node.ts'
import { describeWith } from '../support/requirements.ts'
import { mountTmpfs, needsTmpfs } from '../support/tmpfs.ts'
import { pattern } from './scripted-server.ts'
import {
  gesftpServer,
  needsGesftpserver,
  needsSftpServer,
  opensshServer,
  ownServer,
  type RealServer,
} from './support/real-server.ts'

const hash = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

async function names(entries: AsyncIterable<{ name?: string; path?: string }>): Promise<string[]> {
  const list: string[] = []
  for await (const entry of entries) list.push(entry.path ?? entry.name!)
  return list.sort()
}

/** What every server must do with us. */
function ordinaryWork(start: () => Promise<RealServer>, transferMebibytes = 16): void {
  test('files: written, read, stat, renamed, removed', async () => {
    await using server = await start()
    const { client, folder } = server
    const path = join(folder, 'a file ü')
    await client.writeFile(path, 'grüße')
    expect(await readFile(path, 'utf8')).toBe('grüße')
    await expect(client.readFile(path, { encoding: 'utf8' })).resolves.toBe('grüße')
    const stats = await client.stat(path)
    expect(stats).toMatchObject({ size: 7, type: 'file' })
    expect(stats.modifiedAt!.getTime() / 1000).toBeCloseTo((await stat(path)).mtimeMs / 1000, -1)
    await client.rename(path, `${path}2`)
    await client.unlink(`${path}2`)
    await expect(client.stat(path)).rejects.toMatchObject({ code: 'ENOENT', path, operation: 'STAT' })
    await expect(client.open(path)).rejects.toBeInstanceOf(SftpStatusError)
  })

  test('random access: reads and writes of any size anywhere', async () => {
    await using server = await start()
    const { client, folder } = server
    const path = join(folder, 'disk')
    const model = new Uint8Array(1_500_000)
    await client.writeFile(path, model)
    await using file = await client.open(path, 'r+')
    for (let round = 0; round < 40; round++) {
      const offset = (round * 7_919_117) % 1_400_000
      const length = 1 + ((round * 104_729) % 99_999)
      if (round % 2 === 0) {
        const bytes = pattern(length, round)
        model.set(bytes, offset)
        await file.write(offset, bytes)
      } else {
        const into = new Uint8Array(length)
        await expect(file.read(offset, into)).resolves.toBe(length)
        expect(Buffer.compare(into, model.subarray(offset, offset + length))).toBe(0)
      }
    }
    // Across the end, and behind it.
    const into = new Uint8Array(1000)
    await expect(file.read(1_499_900, into)).resolves.toBe(100)
    await expect(file.read(9_000_000, into)).resolves.toBe(0)
    expect(hash(await readFile(path))).toBe(hash(model))
  })

  test('attributes: mode, times, size; owner where allowed', async () => {
    await using server = await start()
    const { client, folder } = server
    const path = join(folder, 'f')
    await client.writeFile(path, pattern(1000), { mode: 0o600 })
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    await client.chmod(path, 0o640)
    await client.utimes(path, 1_000_000_000, new Date(1_100_000_000_000))
    await client.truncate(path, 10)
    await using file = await client.open(path, 'r+')
    await expect(file.stat()).resolves.toMatchObject({ size: 10, mode: 0o640 })
    await file.truncate(20)
    await client.utimes(path, 1_000_000_000, 1_100_000_000)
    const local = await stat(path)
    expect(local).toMatchObject({ size: 20, atimeMs: 1_000_000_000_000, mtimeMs: 1_100_000_000_000 })
    expect([...(await readFile(path))].slice(10)).toEqual(Array(10).fill(0))
    if (process.getuid?.() === 0) {
      await client.chown(path, 12, 34)
      await expect(client.stat(path)).resolves.toMatchObject({ uid: 12, gid: 34 })
    }
  })

  test('links: the link is made where it should be and points where it should', async () => {
    await using server = await start()
    const { client, folder } = server
    const path = join(folder, 'link')
    await client.symlink('the target', path)
    expect(await readlink(path)).toBe('the target')
    await expect(client.readlink(path)).resolves.toBe('the target')
    expect((await client.lstat(path)).isSymbolicLink()).toBe(true)
    await expect(client.stat(path)).rejects.toMatchObject({ code: 'ENOENT' })
  })

  test('directories: made, listed, walked, matched, removed with all they hold', async () => {
    await using server = await start()
    const { client, folder } = server
    await client.mkdir(join(folder, 'a/b/c'), { recursive: true, mode: 0o700 })
    await client.mkdir(join(folder, 'a/b/c'), { recursive: true })
    for (let i = 0; i < 250; i++) await writeFile(join(folder, 'a', `file${i}`), String(i))
    await writeFile(join(folder, 'a/b/c/deep.txt'), '')
    await symlink('..', join(folder, 'a/b/loop'))
    expect(await names(client.readdir(join(folder, 'a')))).toEqual((await readdir(join(folder, 'a'))).sort())
    expect(await names(client.walk(join(folder, 'a/b')))).toEqual(
      ['a/b/c', 'a/b/c/deep.txt', 'a/b/loop'].map((path) => join(folder, path)),
    )
    expect(await names(client.glob(join(folder, 'a/file1[0-2]?')))).toHaveLength(30)
    expect(await names(client.glob(join(folder, '**/*.{txt,none}')))).toEqual([
      join(folder, 'a/b/c/deep.txt'),
    ])
    await expect(client.rmdir(join(folder, 'a'))).rejects.toBeInstanceOf(SftpStatusError)
    await client.rm(join(folder, 'a'), { recursive: true })
    expect(await readdir(folder)).toEqual([])
    await expect(client.readdir(join(folder, 'none')).next()).rejects.toMatchObject({
      code: 'ENOENT',
      operation: 'OPENDIR',
    })
  })

  test('paths: canonical, and relative to where the session starts', async () => {
    await using server = await start()
    const { client, folder } = server
    await mkdir(join(folder, 'x'))
    await expect(client.realpath(join(folder, 'x/../x/.'))).resolves.toBe(join(folder, 'x'))
    await expect(client.realpath('.')).resolves.toBe(process.cwd())
    await expect(client.homeDirectory()).resolves.toBe(process.cwd())
  })

  test('names that are not UTF-8 are listed, opened and removed', async () => {
    await using server = await start()
    const { client, folder } = server
    const odd = Buffer.concat([Buffer.from(`${folder}/odd`), Buffer.from([0xff, 0xfe])])
    await writeFile(odd, 'odd')
    const [name] = await names(client.readdir(folder))
    const path = `${folder}/${name}`
    await expect(client.readFile(path, { encoding: 'utf8' })).resolves.toBe('odd')
    await client.unlink(path)
    expect(await readdir(folder)).toEqual([])
  })

  test(`${transferMebibytes} MiB put and got by every way match by hash`, async () => {
    await using server = await start()
    const { client, folder } = server
    const data = new Uint8Array(randomBytes(transferMebibytes * 1024 * 1024).buffer)
    const expected = hash(data)
    const path = join(folder, 'large')
    const seen: number[] = []
    await client.put(data, path, { onProgress: ({ transferredBytes }) => seen.push(transferredBytes) })
    expect(hash(await readFile(path))).toBe(expected)
    expect(seen.at(-1)).toBe(data.length)
    expect(seen.every((bytes, i) => i === 0 || bytes > seen[i - 1]!)).toBe(true)
    const into = new Uint8Array(data.length)
    await expect(client.get(path, into)).resolves.toEqual({ bytes: data.length })
    expect(hash(into)).toBe(expected)
    const streamed = createHash('sha256')
    for await (const chunk of client.createReadStream(path)) streamed.update(chunk)
    expect(streamed.digest('hex')).toBe(expected)
  })

  test('a transfer cancelled in the middle leaves the client usable', async () => {
    await using server = await start()
    const { client, folder } = server
    const data = pattern(8_000_000)
    const path = join(folder, 'f')
    await client.put(data, path)
    for (const direction of ['get', 'put'] as const) {
      const cancel = new AbortController()
      const onProgress = ({ transferredBytes }: { transferredBytes: number }) => {
        if (transferredBytes > 1_000_000) cancel.abort()
      }
      const options = { signal: cancel.signal, onProgress }
      const transfer =
        direction === 'get' ? client.get(path, () => {}, options) : client.put(data, `${path}2`, options)
      await expect(transfer).rejects.toMatchObject({ code: 'ABORT_ERR' })
      await expect(client.stat(path)).resolves.toMatchObject({ size: data.length })
    }
    expect(hash(await client.readFile(path))).toBe(hash(data))
  })
}

describeWith([needsSftpServer], 'OpenSSH sftp-server', () => {
  ordinaryWork(() => opensshServer(), 64)

  test('tells its limits, and takes requests of that size', async () => {
    await using server = await opensshServer()
    const { client, folder } = server
    await expect(client.limitsKnown).resolves.toMatchObject({
      maxReadBytes: 261_120,
      maxWriteBytes: 261_120,
      maxPacketBytes: 262_144,
    })
    await client.put(pattern(3_000_000), join(folder, 'f'))
    expect(hash(await client.readFile(join(folder, 'f')))).toBe(hash(pattern(3_000_000)))
  })

  test('without limits@openssh.com gets requests of 32 KiB', async () => {
    await using server = await opensshServer(['-P', 'limits'])
    const { client, folder } = server
    await expect(client.limitsKnown).resolves.toMatchObject({ maxReadBytes: 32_768 })
    await client.put(pattern(3_000_000), join(folder, 'f'))
    expect(hash(await client.readFile(join(folder, 'f')))).toBe(hash(pattern(3_000_000)))
  })

  test('syncs; without fsync@openssh.com sync is ENOTSUP, denied it is EACCES', async () => {
    await using server = await opensshServer()
    await using file = await server.client.open(join(server.folder, 'f'), 'w')
    await file.write(0, pattern(100))
    await file.sync()
    await using without = await opensshServer(['-P', 'fsync'])
    await using other = await without.client.open(join(without.folder, 'f'), 'w')
    const refusal = await other.sync().catch((reason) => reason)
    expect(['ENOTSUP', 'EACCES']).toContain(refusal.code)
    expect(refusal.operation).toBe('fsync@openssh.com')
  })

  test('read-only refuses every change with EACCES', async () => {
    await using server = await opensshServer(['-R'])
    const { client, folder } = server
    const path = join(folder, 'f')
    await writeFile(path, 'there')
    await expect(client.readFile(path, { encoding: 'utf8' })).resolves.toBe('there')
    for (const call of [
      client.open(path, 'r+'),
      client.writeFile(path, 'x'),
      client.mkdir(`${path}d`),
      client.unlink(path),
      client.rename(path, `${path}2`),
      client.chmod(path, 0o777),
      client.symlink('a', `${path}l`),
    ]) {
      await expect(call).rejects.toMatchObject({ code: 'EACCES' })
    }
  })

  test('renames over an existing file in one step, or plainly not at all', async () => {
    await using server = await opensshServer()
    const { client, folder } = server
    const [a, b] = [join(folder, 'a'), join(folder, 'b')]
    await Promise.all([client.writeFile(a, 'new'), client.writeFile(b, 'old')])
    await expect(client.rename(a, b, { replace: false })).rejects.toMatchObject({ code: 'EIO' })
    await client.rename(a, b)
    expect(await readFile(b, 'utf8')).toBe('new')
    await client.put(pattern(500_000), b, { atomic: true, sync: true })
    expect(hash(await readFile(b))).toBe(hash(pattern(500_000)))
    expect(await readdir(folder)).toEqual(['b'])
  })

  test('extensions: hard links, statvfs, lsetstat, expand-path, copy-data, home directories, names of ids', async () => {
    await using server = await opensshServer()
    const { client, folder } = server
    const [a, b, c] = [join(folder, 'a'), join(folder, 'b'), join(folder, 'c')]
    await client.writeFile(a, pattern(300_000))
    await client.link(a, b)
    expect((await stat(a)).ino).toBe((await stat(b)).ino)

    const fileSystem = await client.statvfs(folder)
    expect(fileSystem.blocks).toBeGreaterThan(0n)
    expect(fileSystem.maxNameBytes).toBe(255n)
    expect(fileSystem.readOnly).toBe(false)

    await symlink('a', c)
    await client.lsetstat(c, { atime: 1_000_000_000, mtime: 1_000_000_001 })
    expect(Math.floor((await lstat(c)).mtimeMs / 1000)).toBe(1_000_000_001)
    expect(Math.floor((await stat(a)).mtimeMs / 1000)).not.toBe(1_000_000_001)

    await using from = await client.open(a)
    await using to = await client.open(join(folder, 'copy'), 'w')
    await client.copyData({ file: from, offset: 100, length: 200_000 }, { file: to, offset: 50 })
    expect(hash((await readFile(join(folder, 'copy'))).subarray(50))).toBe(
      hash(pattern(300_000).subarray(100, 200_100)),
    )
    // Nothing is nothing, not "to the end" as 0 means on the wire.
    await client.copyData({ file: from, length: 0 }, { file: to, offset: 1_000_000 })
    expect((await stat(join(folder, 'copy'))).size).toBe(200_050)
    await expect(to.statvfs()).resolves.toMatchObject({ maxNameBytes: 255n })

    await expect(client.expandPath('~/..')).resolves.toBe(dirname(process.cwd()))
    await expect(client.expandPath('~root')).resolves.toBe(await client.homeDirectory('root'))
    await expect(client.homeDirectory('nobody-of-that-name')).rejects.toBeInstanceOf(SftpStatusError)
    await expect(client.usersGroupsById({ uids: [0, 4_000_000_000], gids: [0] })).resolves.toEqual({
      users: ['root', ''],
      groups: ['root'],
    })
  })

  test('appends at the end, in order', async () => {
    await using server = await opensshServer()
    const { client, folder } = server
    const path = join(folder, 'log')
    await client.writeFile(path, 'one ')
    await client.writeFile(path, 'two ', { flag: 'a' })
    await using file = await client.open(path, 'a')
    await Promise.all([file.write(0, pattern(600_000, 1)), file.write(0, pattern(300_000, 2))])
    expect(hash(await readFile(path))).toBe(
      hash(Buffer.concat([Buffer.from('one two '), pattern(600_000, 1), pattern(300_000, 2)])),
    )
  })

  test('a file that shrinks under a transfer ends it with an error, however it is read', async () => {
    await using server = await opensshServer()
    const { client, folder } = server
    const path = join(folder, 'f')
    const work: [string, (client: SftpClient) => Promise<unknown>][] = [
      [
        'get',
        (each) =>
          each.get(path, async (_chunk, offset) => (offset === 0 ? truncate(path, 100_000) : undefined)),
      ],
      [
        'stream',
        async (each) => {
          let first = true
          for await (const _chunk of each.createReadStream(path)) {
            if (first) await truncate(path, 100_000)
            first = false
          }
        },
      ],
    ]
    for (const [name, run] of work) {
      await writeFile(path, new Uint8Array(20_000_000))
      const error = await run(client).then(
        () => expect.unreachable(name),
        (reason) => reason,
      )
      expect(error, name).toMatchObject({ code: 'ERR_SFTP_FILE_SHRANK', path })
      expect(error.transferredBytes).toBeLessThan(20_000_000)
    }
  })

  test('files whose size says nothing are read to their end', async () => {
    await using server = await opensshServer()
    await expect(server.client.readFile('/proc/self/status', { encoding: 'utf8' })).resolves.toContain(
      'sftp-server',
    )
    const chunks: number[] = []
    await server.client.get('/dev/zero', (chunk) => void chunks.push(chunk.length), { length: 1_000_000 })
    expect(chunks.reduce((sum, length) => sum + length, 0)).toBe(1_000_000)
    await expect(server.client.readFile('/dev/zero', { maxBytes: 1_000_000 })).rejects.toMatchObject({
      code: 'ERR_SFTP_FILE_TOO_LARGE',
    })
  })

  test('a directory cannot be read as a file, nor a file listed', async () => {
    await using server = await opensshServer()
    const { client, folder } = server
    await writeFile(join(folder, 'f'), '')
    await expect(client.readFile(folder)).rejects.toMatchObject({
      code: 'EIO',
      operation: 'READ',
      path: folder,
    })
    await expect(client.readdir(join(folder, 'f')).next()).rejects.toMatchObject({ operation: 'OPENDIR' })
  })

  test('killed in mid transfer, everything fails at once with the channel’s end', async () => {
    await using server = await opensshServer()
    const { client, folder } = server
    const path = join(folder, 'f')
    await writeFile(path, new Uint8Array(30_000_000))
    const pid = Number((await client.readFile('/proc/self/stat', { encoding: 'utf8' })).split(' ')[0])
    const get = client.get(path, async (_chunk, offset) => {
      if (offset === 0) process.kill(pid, 'SIGKILL')
    })
    await expect(get).rejects.toMatchObject({ code: 'ERR_SSH_CHANNEL_CLOSED' })
    await expect(client.closed).rejects.toMatchObject({ code: 'ERR_SSH_CHANNEL_CLOSED' })
  })
})

describeWith([needsSftpServer, needsTmpfs], 'OpenSSH sftp-server on a full disk', () => {
  test('a write that does not fit rejects with EIO and the confirmed prefix; statvfs says why', async () => {
    await using server = await opensshServer()
    const { client } = server
    const folder = await mountTmpfs(1024 * 1024)
    const path = join(folder, 'f')
    await using file = await client.open(path, 'w')
    const error = await file.write(0, pattern(4_000_000)).then(
      () => expect.unreachable(),
      (reason) => reason,
    )
    expect(error).toMatchObject({ code: 'EIO', status: 4, operation: 'WRITE', path })
    expect(error.confirmedBytes).toBeGreaterThan(0)
    expect(error.confirmedBytes).toBeLessThanOrEqual(1024 * 1024)
    const there = await readFile(path)
    expect(
      Buffer.compare(
        there.subarray(0, error.confirmedBytes),
        pattern(4_000_000).subarray(0, error.confirmedBytes),
      ),
    ).toBe(0)
    await expect(file.statvfs()).resolves.toMatchObject({ availableBlocks: 0n })
    await expect(client.put(pattern(4_000_000), `${path}2`)).rejects.toMatchObject({
      code: 'EIO',
      name: 'SftpTransferError',
    })
  })
})

describeWith([needsGesftpserver], 'Green End SFTP server', () => {
  ordinaryWork(() => gesftpServer())

  test('has the draft’s symlink order, which its announcement tells', async () => {
    await using server = await gesftpServer({ serverIdentification: 'SSH-2.0-OpenSSH_9.2' })
    expect(server.client.supports('symlink-order@rjk.greenend.org.uk')).toBe(true)
    await server.client.symlink('to', join(server.folder, 'from'))
    expect(await readlink(join(server.folder, 'from'))).toBe('to')
  })
})

describe('our own server', () => {
  ordinaryWork(() => ownServer())
})

describe('a program that is no SFTP server', () => {
  test('is refused', async () => {
    await expect(
      SftpClient.open(spawnSftpServer('/bin/echo', ['hello, this is no SFTP server']).channel),
    ).rejects.toMatchObject({
      code: 'ERR_SFTP_PROTOCOL',
    })
    await expect(SftpClient.open(spawnSftpServer('/bin/true').channel)).rejects.toMatchObject({
      code: 'ERR_SSH_CHANNEL_CLOSED',
    })
    await expect(SftpClient.open(spawnSftpServer('/no/such/program').channel)).rejects.toMatchObject({
      code: 'ERR_SSH_CHANNEL_CLOSED',
    })
  })
})
