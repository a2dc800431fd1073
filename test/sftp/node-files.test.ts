/** Local files and trees to and from servers, honest and hostile. */
import { createHash } from 'node:crypto'
import { renameSync, symlinkSync } from 'node:fs'
import {
  chmod,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import {
  type Attributes,
  fileTypeBits,
  type NameEntry,
  replies,
  requests,
} from '../../packages/sftp/src/messages/index.ts'
import {
  getFile,
  getFileResuming,
  getTree,
  putFile,
  putFileResuming,
  putTree,
  SftpClient,
} from '../../packages/sftp/src/node.ts'
import { describeWith } from '../support/requirements.ts'
import { tempDir } from '../support/temp-dir.ts'
import {
  nameEntry,
  packetOf,
  pattern,
  ScriptedServer,
  type ScriptedServerOptions,
} from './scripted-server.ts'
import { needsSftpServer, opensshServer } from './support/real-server.ts'

const hash = (bytes: Uint8Array) => createHash('sha1').update(bytes).digest('hex')

async function scripted(options: ScriptedServerOptions) {
  const server = new ScriptedServer(options)
  return { server, client: await SftpClient.open(server.channel) }
}

const offsets = (server: ScriptedServer) =>
  server.requests('READ').map(({ packet }) => requests.read.decode(packet).offset)

describeWith([needsSftpServer], 'files to and from OpenSSH', () => {
  test('arrive whole, with mode and times where asked, without setuid', async () => {
    await using server = await opensshServer()
    const local = tempDir('local')
    const data = pattern(3_000_000)
    await writeFile(join(local, 'a'), data)
    await chmod(join(local, 'a'), 0o4751)
    await utimes(join(local, 'a'), 1_000_000_000, 1_100_000_000)
    const remote = join(server.folder, 'b')
    await expect(
      putFile(server.client, join(local, 'a'), remote, { preserve: true, sync: true }),
    ).resolves.toEqual({
      bytes: data.length,
      resumedFrom: 0,
    })
    expect(hash(await readFile(remote))).toBe(hash(data))
    expect(await stat(remote)).toMatchObject({ mode: 0o100751, mtimeMs: 1_100_000_000_000 })
    await chmod(remote, 0o6640)
    await expect(
      getFile(server.client, remote, join(local, 'c'), { preserve: true, sync: true }),
    ).resolves.toEqual({
      bytes: data.length,
      resumedFrom: 0,
    })
    expect(hash(await readFile(join(local, 'c')))).toBe(hash(data))
    expect(await stat(join(local, 'c'))).toMatchObject({ mode: 0o100640, mtimeMs: 1_100_000_000_000 })
    expect((await readdir(local)).sort()).toEqual(['a', 'c'])
    expect(await readdir(server.folder)).toEqual(['b'])
  })

  test('a copy keeps the permissions of what it replaces, and otherwise has those of the original less the umask', async () => {
    await using server = await opensshServer()
    const local = tempDir('local')
    const before = process.umask(0o022)
    try {
      const modeOf = async (path: string) => ((await stat(path)).mode & 0o7777).toString(8)
      const given = async (path: string, mode: number) => {
        await writeFile(path, 'x')
        await chmod(path, mode)
        return path
      }
      const secret = await given(join(local, 'secret'), 0o600)
      const script = await given(join(local, 'script'), 0o4775)
      const there = (name: string) => join(server.folder, name)
      const retry = { reconnect: () => Promise.reject(new Error('there is one connection')) }
      for (const put of [
        putFile,
        (...[client, from, to]: Parameters<typeof putFile>) => putFileResuming(client, from, to, retry),
      ]) {
        await put(server.client, secret, there('secret'))
        expect(await modeOf(there('secret'))).toBe('600')
        await given(there('secret'), 0o640)
        await put(server.client, script, there('secret'))
        expect(await modeOf(there('secret'))).toBe('640')
        await put(server.client, script, there('script'))
        expect(await modeOf(there('script'))).toBe('755')
        for (const name of ['secret', 'script']) await rm(there(name))
      }
      await given(there('secret'), 0o600)
      await given(there('script'), 0o775)
      for (const get of [
        getFile,
        (...[client, from, to]: Parameters<typeof getFile>) => getFileResuming(client, from, to, retry),
      ]) {
        await get(server.client, there('secret'), join(local, 'a'))
        expect(await modeOf(join(local, 'a'))).toBe('600')
        await given(join(local, 'a'), 0o660)
        await get(server.client, there('script'), join(local, 'a'))
        expect(await modeOf(join(local, 'a'))).toBe('660')
        await get(server.client, there('script'), join(local, 'b'))
        expect(await modeOf(join(local, 'b'))).toBe('755')
        for (const name of ['a', 'b']) await rm(join(local, name))
      }
      await mkdir(join(local, 'tree', 'deep'), { recursive: true })
      await chmod(join(local, 'tree'), 0o700)
      await chmod(join(local, 'tree', 'deep'), 0o750)
      await putTree(server.client, join(local, 'tree'), there('tree'))
      await getTree(server.client, there('tree'), join(local, 'back'))
      for (const tree of [there('tree'), join(local, 'back')]) {
        expect(await modeOf(tree)).toBe('700')
        expect(await modeOf(join(tree, 'deep'))).toBe('750')
      }
    } finally {
      process.umask(before)
    }
  })

  test('replace what has the name, and replace a symbolic link rather than write through it', async () => {
    await using server = await opensshServer()
    const local = tempDir('local')
    await writeFile(join(local, 'victim'), 'precious')
    await symlink('victim', join(local, 'out'))
    await symlink('victim', join(local, 'out.part'))
    await writeFile(join(server.folder, 'in'), 'new')
    await getFile(server.client, join(server.folder, 'in'), join(local, 'out'))
    expect(await readFile(join(local, 'victim'), 'utf8')).toBe('precious')
    expect((await lstat(join(local, 'out'))).isFile()).toBe(true)
    expect(await readFile(join(local, 'out'), 'utf8')).toBe('new')
  })

  test('put resumes what an earlier try left, but for what was in flight', async () => {
    await using server = await opensshServer()
    const local = tempDir('local')
    const data = pattern(20_000_000)
    await writeFile(join(local, 'a'), data)
    const remote = join(server.folder, 'a')
    const cancel = new AbortController()
    const interrupted = putFile(server.client, join(local, 'a'), remote, {
      resume: true,
      signal: cancel.signal,
      onProgress: ({ transferredBytes }) => {
        if (transferredBytes > 18_000_000) cancel.abort()
      },
    })
    await expect(interrupted).rejects.toMatchObject({ code: 'ABORT_ERR' })
    const left = (await stat(`${remote}.part`)).size
    const { resumedFrom, bytes } = await putFile(server.client, join(local, 'a'), remote, { resume: true })
    expect(resumedFrom).toBe(left - 16 * 1024 * 1024)
    expect(bytes).toBe(data.length)
    expect(hash(await readFile(remote))).toBe(hash(data))
    expect(await readdir(server.folder)).toEqual(['a'])
  })

  test('put starts anew where the part differs, and cuts what is left over', async () => {
    await using server = await opensshServer()
    const local = tempDir('local')
    const data = pattern(20_000_000)
    await writeFile(join(local, 'a'), data)
    const remote = join(server.folder, 'a')
    const other = data.slice()
    other[1000]! ^= 1
    await writeFile(`${remote}.part`, other)
    await expect(putFile(server.client, join(local, 'a'), remote, { resume: true })).resolves.toMatchObject({
      resumedFrom: 0,
    })
    expect(hash(await readFile(remote))).toBe(hash(data))
    // A part that is longer than the file is by now.
    await writeFile(`${remote}.part`, Buffer.concat([data, pattern(5000)]))
    const { resumedFrom } = await putFile(server.client, join(local, 'a'), remote, { resume: true })
    expect(resumedFrom).toBeGreaterThan(0)
    expect(hash(await readFile(remote))).toBe(hash(data))
  })

  test('a local file that shrinks while it is sent ends in an error and leaves nothing', async () => {
    await using server = await opensshServer()
    const local = tempDir('local')
    await writeFile(join(local, 'a'), pattern(20_000_000))
    const put = putFile(server.client, join(local, 'a'), join(server.folder, 'a'), {
      onProgress: () => void truncate(join(local, 'a'), 1000),
    })
    await expect(put).rejects.toMatchObject({ code: 'ERR_SFTP_FILE_SHRANK' })
    expect(await readdir(server.folder)).toEqual([])
  })

  test('errors say which side failed', async () => {
    await using server = await opensshServer()
    const local = tempDir('local')
    await expect(getFile(server.client, join(server.folder, 'none'), join(local, 'x'))).rejects.toMatchObject(
      { code: 'ENOENT', operation: 'OPEN' },
    )
    await expect(getFile(server.client, '/etc/hostname', join(local, 'no/such/x'))).rejects.toMatchObject({
      code: 'ERR_SFTP_LOCAL',
    })
    await expect(putFile(server.client, join(local, 'none'), join(server.folder, 'x'))).rejects.toMatchObject(
      { code: 'ERR_SFTP_LOCAL' },
    )
    await writeFile(join(local, 'a'), 'x')
    await expect(putFile(server.client, join(local, 'a'), join(server.folder, 'no/x'))).rejects.toMatchObject(
      { code: 'ENOENT' },
    )
    expect(await readdir(local)).toEqual(['a'])
  })

  test('trees arrive whole both ways; links are reported, or made anew when asked', async () => {
    await using server = await opensshServer()
    const { client, folder } = server
    const local = tempDir('tree')
    await mkdir(join(local, 'a/b/empty'), { recursive: true })
    await chmod(join(local, 'a/b'), 0o750)
    for (let i = 0; i < 30; i++) await writeFile(join(local, 'a', `f${i}`), pattern(i * 1000, i))
    await writeFile(join(local, 'a/b/deep'), 'deep')
    await symlink('../f1', join(local, 'a/b/link'))
    await symlink('/etc', join(local, 'outside'))

    const up = await putTree(client, local, join(folder, 'up'), { preserve: true, symlinks: 'copy' })
    expect(up).toMatchObject({ files: 31, directories: 4, links: 2, skipped: [] })
    expect(await readlink(join(folder, 'up/a/b/link'))).toBe('../f1')
    expect((await stat(join(folder, 'up/a/b'))).mode & 0o777).toBe(0o750)

    const back = join(tempDir('back'), 'down')
    const seen: string[] = []
    const down = await getTree(client, join(folder, 'up'), back, {
      symlinks: 'copy',
      onFile: (path) => seen.push(path),
    })
    expect(down).toMatchObject({ files: 31, directories: 4, links: 2, bytes: up.bytes, skipped: [] })
    expect(seen).toHaveLength(31)
    for (let i = 0; i < 30; i++)
      expect(hash(await readFile(join(back, 'a', `f${i}`)))).toBe(hash(pattern(i * 1000, i)))
    expect(await readlink(join(back, 'a/b/link'))).toBe('../f1')
    expect(await readlink(join(back, 'outside'))).toBe('/etc')

    // Once more into the same place: replaced, the links that exist are reported.
    const again = await getTree(client, join(folder, 'up'), back)
    expect(again).toMatchObject({ files: 31, links: 0 })
    expect(again.skipped.map(({ path }) => path).sort()).toEqual(
      ['up/a/b/link', 'up/outside'].map((path) => join(folder, path)),
    )
  })
})

describe('get resumes from a part', () => {
  const data = pattern(3_000_000)

  test('that agrees, reading only the samples and what is missing', async () => {
    const local = tempDir('local')
    await writeFile(join(local, 'f.part'), data.subarray(0, 2_500_000))
    const { server, client } = await scripted({ files: [['/f', data]] })
    await expect(getFile(client, '/f', join(local, 'f'), { resume: true })).resolves.toEqual({
      bytes: 3_000_000,
      resumedFrom: 2_500_000,
    })
    expect(hash(await readFile(join(local, 'f')))).toBe(hash(data))
    expect(offsets(server).filter((offset) => offset >= 2_500_000).length).toBeGreaterThan(0)
    expect(server.requests('READ').length).toBeLessThan(3_000_000 / 32_768)
    expect(await readdir(local)).toEqual(['f'])
  })

  test.each([
    ['differs at its start', (part: Uint8Array) => void (part[5]! ^= 1)],
    ['differs in its middle', (part: Uint8Array) => void part.fill(0, 1_200_000, 1_300_000)],
    ['differs at its end', (part: Uint8Array) => void (part[2_499_999]! ^= 1)],
    ['differs within the last MiB', (part: Uint8Array) => void (part[1_500_000]! ^= 1)],
  ])('but starts anew where it %s', async (_name, spoil) => {
    const local = tempDir('local')
    const part = data.slice(0, 2_500_000)
    spoil(part)
    await writeFile(join(local, 'f.part'), part)
    const { client } = await scripted({ files: [['/f', data]] })
    await expect(getFile(client, '/f', join(local, 'f'), { resume: true })).resolves.toMatchObject({
      resumedFrom: 0,
    })
    expect(hash(await readFile(join(local, 'f')))).toBe(hash(data))
  })

  test('never through a link, a directory or a part longer than the file', async () => {
    const local = tempDir('local')
    await writeFile(join(local, 'victim'), data.subarray(0, 100_000))
    await symlink('victim', join(local, 'f.part'))
    const { client } = await scripted({ files: [['/f', data]] })
    await expect(getFile(client, '/f', join(local, 'f'), { resume: true })).resolves.toMatchObject({
      resumedFrom: 0,
    })
    expect((await stat(join(local, 'victim'))).size).toBe(100_000)
    await writeFile(join(local, 'f.part'), pattern(3_000_001))
    await expect(getFile(client, '/f', join(local, 'f'), { resume: true })).resolves.toMatchObject({
      resumedFrom: 0,
    })
  })

  test('and leaves the part when it is interrupted; without resume it leaves nothing', async () => {
    for (const resume of [true, false]) {
      const local = tempDir('local')
      const { client } = await scripted({ files: [['/f', data]] })
      const cancel = new AbortController()
      const get = getFile(client, '/f', join(local, 'f'), {
        resume,
        signal: cancel.signal,
        onProgress: () => cancel.abort(),
      })
      await expect(get).rejects.toMatchObject({ code: 'ABORT_ERR' })
      expect(await readdir(local)).toEqual(resume ? ['f.part'] : [])
    }
  })
})

describe('a hostile server', () => {
  const directory: Attributes = { permissions: fileTypeBits.directory | 0o755 }
  const link: Attributes = { permissions: fileTypeBits.symlink | 0o777 }
  const setuid: Attributes = { permissions: fileTypeBits.file | 0o6777, size: 3, atime: 1, mtime: 1 }

  /** A server that lists `entries` in its root, and has every file. */
  const listing = (
    entries: readonly NameEntry[],
    below: readonly NameEntry[] = [],
  ): ScriptedServerOptions => ({
    list: (path, call) => (call > 0 ? [] : path === '/tree' ? entries : below),
    onRequest: (request, server) => {
      if (request.name === 'OPEN')
        server.files.set(
          Buffer.from(requests.open.decode(request.packet).filename).toString(),
          new Uint8Array([1, 2, 3]),
        )
      return false
    },
  })

  test('cannot write outside the target by names; every bad one is reported', async () => {
    const around = tempDir('around')
    const target = join(around, 'target')
    await mkdir(target)
    const names = ['', '.', '..', 'a/b', '/x', '../x', '..', 'x\0y', 'y'.repeat(256), '\u202egpj']
    const { client } = await scripted(
      listing([
        ...names.map((name) => nameEntry(name)),
        nameEntry(new Uint8Array([0x61, 0xff])),
        nameEntry('good'),
      ]),
    )
    const result = await getTree(client, '/tree', target)
    expect(await readdir(around)).toEqual(['target'])
    expect((await readdir(target)).sort()).toEqual(['good', '\u202egpj'])
    // '.' and '..' are in every list; all others are reported.
    expect(result.skipped).toHaveLength(7)
    expect(result.files).toBe(2)
  })

  test('cannot list a link and then a directory of the same name to write through it', async () => {
    const around = tempDir('around')
    await mkdir(join(around, 'secret'))
    const target = join(around, 'target')
    await mkdir(target)
    const options = listing([nameEntry('d', link), nameEntry('d', directory)], [nameEntry('evil')])
    const { client } = await scripted({
      ...options,
      onRequest: (request, server) => {
        if (request.name !== 'READLINK') return options.onRequest?.(request, server)
        server.answer(request, packetOf(replies.name, { id: request.id, names: [nameEntry('../secret')] }))
        return true
      },
    })
    const result = await getTree(client, '/tree', target, { symlinks: 'copy' })
    // The directory came first; the link could not be made over it, and nothing was written through it.
    expect(result).toMatchObject({ files: 1, links: 0, skipped: [{ path: '/tree/d' }] })
    expect(await readdir(join(target, 'd'))).toEqual(['evil'])
    expect(await readdir(join(around, 'secret'))).toEqual([])
  })

  test('a link that is there already is not followed: the directory is left out and reported', async () => {
    const around = tempDir('around')
    await mkdir(join(around, 'secret'))
    const target = join(around, 'target')
    await mkdir(target)
    await symlink('../secret', join(target, 'd'))
    const { client } = await scripted(listing([nameEntry('d', directory)], [nameEntry('evil')]))
    const result = await getTree(client, '/tree', target)
    expect(await readdir(join(around, 'secret'))).toEqual([])
    expect(result.skipped).toHaveLength(1)
  })

  test('a link swapped in while the tree arrives leads nowhere', async () => {
    const around = tempDir('around')
    await mkdir(join(around, 'secret'))
    const target = join(around, 'target')
    await mkdir(join(target, 'd'), { recursive: true })
    const options = listing([nameEntry('d', directory)], [nameEntry('evil')])
    let swapped = false
    const { client } = await scripted({
      ...options,
      onRequest: (request, server) => {
        if (request.name !== 'FSTAT') return options.onRequest?.(request, server)
        swapped = true
        // The directory is open by now; before the file is made another local user puts a link in its place.
        renameSync(join(target, 'd'), join(target, 'moved'))
        symlinkSync('../secret', join(target, 'd'))
        return false
      },
    })
    await getTree(client, '/tree', target).catch(() => {})
    expect(swapped).toBe(true)
    expect(await readdir(join(around, 'secret'))).toEqual([])
    if (process.platform === 'linux') expect(await readdir(join(target, 'moved'))).toEqual(['evil'])
  })

  test('cannot give setuid, setgid or sticky bits unless asked', async () => {
    for (const [allowSpecialModes, mode] of [
      [false, 0o777],
      [true, 0o6777],
    ] as const) {
      const target = tempDir('target')
      const { server, client } = await scripted(listing([nameEntry('f', setuid)]))
      server.setAttributes('/tree/f', setuid)
      await getTree(client, '/tree', target, { preserve: true, allowSpecialModes })
      expect((await stat(join(target, 'f'))).mode & 0o7777).toBe(mode)
    }
  })

  test('a file that may not be opened is reported, the rest of the tree arrives', async () => {
    const target = tempDir('target')
    const options = listing([nameEntry('secret'), nameEntry('good')])
    const { client } = await scripted({
      ...options,
      onRequest: (request, server) => {
        if (
          request.name === 'OPEN' &&
          Buffer.from(requests.open.decode(request.packet).filename).toString().endsWith('secret')
        ) {
          server.status(request, 3, 'Permission denied')
          return true
        }
        return options.onRequest?.(request, server)
      },
    })
    const result = await getTree(client, '/tree', target)
    expect(result).toMatchObject({ files: 1, bytes: 3, skipped: [{ path: '/tree/secret' }] })
    expect(result.skipped[0]!.reason).toContain('PERMISSION_DENIED')
    expect(await readdir(target)).toEqual(['good'])
  })

  test('a tree without end ends at a depth of 64', async () => {
    const target = tempDir('target')
    const { client } = await scripted({
      list: (_path, call) => (call === 0 ? [nameEntry('d', directory)] : []),
    })
    await expect(getTree(client, '/tree', target)).rejects.toMatchObject({ code: 'ERR_SFTP_TOO_DEEP' })
  })
})
