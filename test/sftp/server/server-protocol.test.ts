import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { concat, Writer } from '@sshblock/transport/wire'
import { describe, expect, test } from 'vitest'
import type { SftpBackend } from '../../../packages/sftp/src/backend.ts'
import { MemoryBackend } from '../../../packages/sftp/src/memory-backend.ts'
import { fileType, openFlag, statusCode } from '../../../packages/sftp/src/messages/index.ts'
import { NodeBackend } from '../../../packages/sftp/src/node-backend.ts'
import { registerCleanup } from '../../support/cleanup.ts'
import { tempDir } from '../../support/temp-dir.ts'
import {
  attrsIn,
  bytes,
  extended,
  framed,
  nameIn,
  packetType,
  replies,
  requests,
  statusIn,
  text,
} from '../support/raw-client.ts'
import { served, unserved } from '../support/served.ts'

const { read, write, append, creat, trunc, excl } = openFlag

/** The same small tree in each back end: /file (13 bytes), /dir/inner, /link -> file, /dirlink -> dir, /dangling. */
const backends: [string, () => SftpBackend][] = [
  [
    'memory',
    () => {
      const backend = new MemoryBackend()
      backend.writeFile('/file', 'hello, world!')
      backend.writeFile('/dir/inner', 'inner')
      backend.symlink('file', '/link')
      backend.symlink('/dir', '/dirlink')
      backend.symlink('nowhere', '/dangling')
      return backend
    },
  ],
  ...(['descriptors', 'checked'] as const).map((containment): [string, () => SftpBackend] => [
    `node, ${containment}`,
    () => {
      const root = tempDir('root')
      writeFileSync(join(root, 'file'), 'hello, world!')
      mkdirSync(join(root, 'dir'))
      writeFileSync(join(root, 'dir', 'inner'), 'inner')
      symlinkSync('file', join(root, 'link'))
      symlinkSync('/dir', join(root, 'dirlink'))
      symlinkSync('nowhere', join(root, 'dangling'))
      const backend = new NodeBackend({ root, containment })
      registerCleanup(() => backend.close())
      return backend
    },
  ]),
]

describe.each(backends)('served from %s', (_name, make) => {
  const start = (options = {}) => served(make(), options)
  const path = bytes

  test('VERSION announces version 3 and every extension', async () => {
    const { extensions } = await start()
    expect([...extensions]).toEqual([
      ['posix-rename@openssh.com', '1'],
      ['statvfs@openssh.com', '2'],
      ['fstatvfs@openssh.com', '2'],
      ['hardlink@openssh.com', '1'],
      ['fsync@openssh.com', '1'],
      ['lsetstat@openssh.com', '1'],
      ['limits@openssh.com', '1'],
      ['expand-path@openssh.com', '1'],
      ['copy-data', '1'],
      ['home-directory', '1'],
      ['users-groups-by-id@openssh.com', '1'],
    ])
  })

  test('a file is written, read, measured and closed', async () => {
    const { client } = await start()
    const handle = await client.open('/new', read | write | creat)
    expect(handle.length).toBeLessThanOrEqual(256)
    expect(await client.write(handle, 5, bytes('56789'))).toBe(statusCode.ok)
    expect(await client.write(handle, 0, bytes('01234'))).toBe(statusCode.ok)
    expect(text((await client.read(handle, 0, 100)) as Uint8Array)).toBe('0123456789')
    expect(text((await client.read(handle, 8, 1)) as Uint8Array)).toBe('8')
    expect(attrsIn(await client.ask(requests.fstat, { handle })).size).toBe(10)
    expect(await client.code(requests.close, { handle })).toBe(statusCode.ok)
    expect(attrsIn(await client.ask(requests.stat, { path: path('/new') })).size).toBe(10)
  })

  test('READ past the end is EOF, of 0 bytes an empty DATA, of 2 GiB one DATA of at most 261120 bytes', async () => {
    const { client } = await start()
    const handle = await client.open('/file', read | write)
    expect(await client.read(handle, 13, 1)).toBe(statusCode.eof)
    expect(await client.read(handle, 2 ** 40, 4096)).toBe(statusCode.eof)
    expect(await client.read(handle, 0, 0)).toHaveLength(0)
    expect(await client.read(handle, 0, 2 ** 31)).toHaveLength(13)
    expect(await client.code(requests.fsetstat, { handle, attrs: { size: 2 ** 20 } })).toBe(statusCode.ok)
    expect(await client.read(handle, 0, 2 ** 31)).toHaveLength(261_120)
    expect(await client.read(handle, 0, 2 ** 32 - 1)).toHaveLength(261_120)
  })

  test('READ and WRITE at 2^53 and above are BAD_MESSAGE, below it they are possible or fail', async () => {
    const { client } = await start()
    const handle = await client.open('/file', read | write)
    for (const high of [0x20_0000, 0x8000_0000, 0xffff_ffff]) {
      const id = client.id()
      client.sendWritten((writer) => {
        writer.u8(packetType.read).u32(id).string(handle).u32(high).u32(0xffff_ffff).u32(10)
      })
      expect(await client.status(id)).toBe(statusCode.badMessage)
    }
    expect(await client.read(handle, Number.MAX_SAFE_INTEGER, 1)).toBe(statusCode.eof)
    expect([statusCode.failure, statusCode.badMessage]).toContain(
      await client.write(handle, Number.MAX_SAFE_INTEGER, bytes('x')),
    )
  })

  test('a WRITE of 32 KiB, 256 KiB and 1 MiB is taken whole', async () => {
    const { client } = await start()
    const handle = await client.open('/big', read | write | creat)
    for (const size of [32_768, 262_144, 1_048_576]) {
      const data = new Uint8Array(size).map((_, i) => i * 31 + (i >> 8))
      expect(await client.write(handle, 0, data)).toBe(statusCode.ok)
      const parts: Uint8Array[] = []
      for (let at = 0; at < size; ) {
        const part = (await client.read(handle, at, size - at)) as Uint8Array
        parts.push(part)
        at += part.length
      }
      expect(Buffer.compare(concat(...parts), data)).toBe(0)
    }
  })

  test('garbage behind the payload of a WRITE, and behind any request, changes nothing', async () => {
    const { client } = await start()
    const handle = await client.open('/new', read | write | creat)
    const id = client.id()
    const body = requests.write.bytes({ id, handle, offset: 0, data: bytes('payload') })
    client.sendRaw(framed(concat(body, new Uint8Array(29_000).fill(0x55))))
    expect(await client.status(id)).toBe(statusCode.ok)
    const statId = client.id()
    client.sendRaw(framed(concat(requests.stat.bytes({ id: statId, path: path('/new') }), bytes('trailing'))))
    expect(attrsIn(await client.answer(statId)).size).toBe(7)
  })

  test('OPEN follows its flags as POSIX has them', async () => {
    const { client } = await start()
    const open = (name: string, pflags: number) =>
      client.ask(requests.open, { filename: path(name), pflags, attrs: {} })
    const code = async (name: string, pflags: number) => statusIn(await open(name, pflags)).code
    expect(await code('/missing', read)).toBe(statusCode.noSuchFile)
    expect(await code('/file/x', read)).toBe(statusCode.noSuchFile)
    expect(await code('/file', write | creat | excl)).toBe(statusCode.failure)
    expect(await code('/dangling', write | creat | excl)).toBe(statusCode.failure)
    expect(await code('/dir', write)).toBe(statusCode.failure)
    expect(await code('/new/', write | creat)).toBe(statusCode.failure)
    expect((await open('/link', read)).type).toBe(packetType.handle)
    expect((await open('/dangling', write | creat)).type).toBe(packetType.handle)
    expect(fileType(attrsIn(await client.ask(requests.lstat, { path: path('/nowhere') })))).toBe('file')
    const truncated = await client.open('/link', write | trunc)
    expect(attrsIn(await client.ask(requests.fstat, { handle: truncated })).size).toBe(0)
  })

  test('a handle in append mode writes at the end, whatever the offset', async () => {
    const { client } = await start()
    const handle = await client.open('/file', write | append)
    const ids = ['a', 'b', 'c'].map((letter) => {
      const id = client.id()
      client.send(requests.write, { id, handle, offset: 0, data: bytes(letter) })
      return id
    })
    for (const id of ids) expect(await client.status(id)).toBe(statusCode.ok)
    const reader = await client.open('/file', read)
    expect(text((await client.read(reader, 0, 100)) as Uint8Array)).toBe('hello, world!abc')
  })

  test('a handle does only what it was opened for', async () => {
    const { client } = await start()
    const reader = await client.open('/file', read)
    const writer = await client.open('/file', write)
    expect(await client.write(reader, 0, bytes('x'))).not.toBe(statusCode.ok)
    expect(typeof (await client.read(writer, 0, 1))).toBe('number')
    expect(await client.code(requests.fsetstat, { handle: reader, attrs: { size: 0 } })).not.toBe(
      statusCode.ok,
    )
    const directory = await client.open('/dir', read)
    expect(await client.read(directory, 0, 10)).toBe(statusCode.failure)
  })

  test('STAT follows links, LSTAT does not', async () => {
    const { client } = await start()
    const type = async (message: typeof requests.stat | typeof requests.lstat, name: string) =>
      fileType(attrsIn(await client.ask(message, { path: path(name) })))
    expect(await type(requests.stat, '/link')).toBe('file')
    expect(await type(requests.lstat, '/link')).toBe('symlink')
    expect(await type(requests.stat, '/dirlink')).toBe('directory')
    expect(await type(requests.lstat, '/dirlink/')).toBe('directory')
    expect(await type(requests.stat, '/')).toBe('directory')
    expect(await client.code(requests.stat, { path: path('/dangling') })).toBe(statusCode.noSuchFile)
    expect(await type(requests.lstat, '/dangling')).toBe('symlink')
    expect(attrsIn(await client.ask(requests.lstat, { path: path('/link') })).size).toBe(4)
  })

  test('SETSTAT and FSETSTAT change size, mode and times, and follow links', async () => {
    const { client } = await start()
    const attrs = { size: 5, permissions: 0o640, atime: 1_000_000_000, mtime: 4_000_000_000 }
    expect(await client.code(requests.setstat, { path: path('/link'), attrs })).toBe(statusCode.ok)
    const after = attrsIn(await client.ask(requests.stat, { path: path('/file') }))
    expect(after).toMatchObject({
      size: 5,
      permissions: 0o100640,
      atime: 1_000_000_000,
      mtime: 4_000_000_000,
    })
    const handle = await client.open('/file', read | write)
    const code = await client.code(requests.fsetstat, {
      handle,
      attrs: { size: 9, permissions: 0o4755, atime: 1, mtime: 2 },
    })
    expect(code).toBe(statusCode.ok)
    const last = attrsIn(await client.ask(requests.fstat, { handle }))
    expect(last).toMatchObject({ size: 9, permissions: 0o104755, atime: 1, mtime: 2 })
    expect(text((await client.read(handle, 0, 99)) as Uint8Array)).toBe('hello\0\0\0\0')
    expect(await client.code(requests.setstat, { path: path('/missing'), attrs })).toBe(statusCode.noSuchFile)
    expect(await client.code(requests.setstat, { path: path('/dir'), attrs: { size: 1 } })).toBe(
      statusCode.failure,
    )
  })

  test('a mode mask keeps clients from set-user-id bits', async () => {
    const { client } = await start({ modeMask: 0o777 })
    const attrs = { permissions: 0o4755 }
    expect(await client.code(requests.setstat, { path: path('/file'), attrs })).toBe(statusCode.ok)
    expect(attrsIn(await client.ask(requests.stat, { path: path('/file') })).permissions).toBe(0o100755)
    await client.open('/new', write | creat, { permissions: 0o6700 })
    expect(attrsIn(await client.ask(requests.stat, { path: path('/new') })).permissions).toBe(0o100700)
  })

  test('READDIR lists a directory in pieces of at most 100 names and ends with EOF', async () => {
    const { client } = await start()
    for (let i = 0; i < 230; i++) {
      const handle = await client.open(`/dir/f${i}`, write | creat)
      await client.code(requests.close, { handle })
    }
    const handle = await client.opendir('/dirlink')
    const names = new Set<string>()
    for (;;) {
      const reply = await client.ask(requests.readdir, { handle })
      if (reply.type === packetType.status) {
        expect(statusIn(reply).code).toBe(statusCode.eof)
        break
      }
      const piece = replies.name.decode(reply.payload).names
      expect(piece.length).toBeLessThanOrEqual(100)
      for (const { filename, longname, attrs } of piece) {
        names.add(text(filename))
        expect(text(longname).endsWith(` ${text(filename)}`)).toBe(true)
        expect(attrs.permissions).toBeGreaterThan(0)
      }
    }
    expect(names.size).toBe(233)
    for (const name of ['.', '..', 'inner', 'f0', 'f229']) expect(names).toContain(name)
    expect(statusIn(await client.ask(requests.readdir, { handle })).code).toBe(statusCode.eof)
    expect(await client.code(requests.opendir, { path: path('/file') })).toBe(statusCode.noSuchFile)
    expect(await client.code(requests.opendir, { path: path('/missing') })).toBe(statusCode.noSuchFile)
  })

  test("the root's '..' is the root", async () => {
    const { client } = await start()
    const root = attrsIn(await client.ask(requests.stat, { path: path('/') }))
    const listed = await client.list('/')
    const dots = listed.filter(({ filename }) => text(filename).startsWith('.'))
    expect(dots.map(({ filename }) => text(filename))).toEqual(['.', '..'])
    for (const { attrs } of dots) expect(attrs).toEqual(root)
  })

  test('MKDIR, RMDIR and REMOVE make and remove what they may', async () => {
    const { client } = await start()
    const mkdir = (name: string, attrs = {}) => client.code(requests.mkdir, { path: path(name), attrs })
    const rmdir = (name: string) => client.code(requests.rmdir, { path: path(name) })
    const remove = (name: string) => client.code(requests.remove, { filename: path(name) })
    expect(await mkdir('/d', { permissions: 0o700 })).toBe(statusCode.ok)
    expect(attrsIn(await client.ask(requests.stat, { path: path('/d') })).permissions).toBe(0o040700)
    expect(await mkdir('/d')).toBe(statusCode.failure)
    expect(await mkdir('/e/')).toBe(statusCode.ok)
    expect(await mkdir('/x/y')).toBe(statusCode.noSuchFile)
    expect(await mkdir('/')).toBe(statusCode.failure)
    expect(await remove('/d')).toBe(statusCode.failure)
    expect(await rmdir('/dir')).toBe(statusCode.failure)
    expect(await rmdir('/file')).toBe(statusCode.noSuchFile)
    expect(await rmdir('/dirlink')).toBe(statusCode.noSuchFile)
    expect(await rmdir('/')).toBe(statusCode.failure)
    expect(await rmdir('/d')).toBe(statusCode.ok)
    expect(await remove('/dirlink')).toBe(statusCode.ok)
    expect(await remove('/dir/inner')).toBe(statusCode.ok)
    expect(await remove('/dir/inner')).toBe(statusCode.noSuchFile)
    expect(await remove('/file/')).toBe(statusCode.noSuchFile)
    expect(await remove('/')).toBe(statusCode.failure)
    expect(await rmdir('/dir')).toBe(statusCode.ok)
  })

  test('RENAME never replaces, posix-rename does', async () => {
    const { client } = await start()
    const rename = (from: string, to: string) =>
      client.code(requests.rename, { oldpath: path(from), newpath: path(to) })
    const replace = async (from: string, to: string) =>
      statusIn(
        await client.askExtended((writer, id) =>
          extended.posixRename.encode(writer, { id, oldpath: path(from), newpath: path(to) }),
        ),
      ).code
    expect(await rename('/file', '/dir/inner')).toBe(statusCode.failure)
    expect(await rename('/file', '/dangling')).toBe(statusCode.failure)
    expect(await rename('/dir', '/file')).toBe(statusCode.failure)
    expect(await rename('/missing', '/m')).toBe(statusCode.noSuchFile)
    expect(await rename('/file', '/moved')).toBe(statusCode.ok)
    expect(await rename('/dir', '/moved-dir')).toBe(statusCode.ok)
    expect(await rename('/moved-dir', '/moved-dir/into/itself')).toBe(statusCode.noSuchFile)
    expect(await replace('/moved-dir', '/moved-dir/itself')).toBe(statusCode.badMessage)
    expect(await rename('/dangling', '/still-dangling')).toBe(statusCode.ok)
    expect(await replace('/moved', '/moved-dir/inner')).toBe(statusCode.ok)
    const handle = await client.open('/moved-dir/inner', read)
    expect(text((await client.read(handle, 0, 99)) as Uint8Array)).toBe('hello, world!')
    expect(await replace('/moved-dir', '/')).toBe(statusCode.failure)
    expect(await replace('/moved-dir/inner', '/moved-dir')).toBe(statusCode.failure)
  })

  test('REALPATH is canonical, of "" the start, and needs no last component', async () => {
    const { client } = await start({ startDirectory: '/dir' })
    const realpath = async (name: string) => nameIn(await client.ask(requests.realpath, { path: path(name) }))
    expect(await realpath('')).toBe('/dir')
    expect(await realpath('.')).toBe('/dir')
    expect(await realpath('..')).toBe('/')
    expect(await realpath('../../../..')).toBe('/')
    expect(await realpath('inner')).toBe('/dir/inner')
    expect(await realpath('/dirlink/inner')).toBe('/dir/inner')
    expect(await realpath('/dir/new')).toBe('/dir/new')
    expect(await realpath('/dangling')).toBe('/nowhere')
    expect(await realpath('//dir/./..//file')).toBe('/file')
    expect(await client.code(requests.realpath, { path: path('/no/where') })).toBe(statusCode.noSuchFile)
  })

  test('relative paths start in the start directory', async () => {
    const { client } = await start({ startDirectory: '/dir' })
    expect(attrsIn(await client.ask(requests.stat, { path: path('inner') })).size).toBe(5)
    expect(attrsIn(await client.ask(requests.stat, { path: path('../file') })).size).toBe(13)
  })

  test('SYMLINK takes the target first, as OpenSSH; READLINK gives it back as it was', async () => {
    const { client } = await start()
    const symlink = (target: string, link: string) =>
      client.code(requests.symlink, { linkpath: path(target), targetpath: path(link) })
    expect(await symlink('../file', '/dir/to-file')).toBe(statusCode.ok)
    expect(nameIn(await client.ask(requests.readlink, { path: path('/dir/to-file') }))).toBe('../file')
    expect(attrsIn(await client.ask(requests.stat, { path: path('/dir/to-file') })).size).toBe(13)
    expect(await symlink('x', '/file')).toBe(statusCode.failure)
    expect(await symlink('', '/empty')).toBe(statusCode.noSuchFile)
    expect(await client.code(requests.readlink, { path: path('/file') })).toBe(statusCode.badMessage)
    expect(await client.code(requests.readlink, { path: path('/') })).toBe(statusCode.badMessage)
  })

  test('a symbolic link that climbs out of the root is refused, an absolute one starts at the root', async () => {
    const { client } = await start()
    const symlink = (target: string, link: string) =>
      client.code(requests.symlink, { linkpath: path(target), targetpath: path(link) })
    expect(await symlink('../etc/passwd', '/out')).toBe(statusCode.permissionDenied)
    expect(await symlink('../../etc/passwd', '/dir/out')).toBe(statusCode.permissionDenied)
    expect(await symlink('/file', '/dir/in')).toBe(statusCode.ok)
    expect(attrsIn(await client.ask(requests.stat, { path: path('/dir/in') })).size).toBe(13)
  })

  test('hardlink@openssh.com makes a second name of the same file', async () => {
    const { client } = await start()
    const hardlink = async (from: string, to: string) =>
      statusIn(
        await client.askExtended((writer, id) =>
          extended.hardlink.encode(writer, { id, oldpath: path(from), newpath: path(to) }),
        ),
      ).code
    expect(await hardlink('/file', '/dir/hard')).toBe(statusCode.ok)
    const handle = await client.open('/dir/hard', write)
    expect(await client.write(handle, 0, bytes('HELLO'))).toBe(statusCode.ok)
    const reader = await client.open('/file', read)
    expect(text((await client.read(reader, 0, 5)) as Uint8Array)).toBe('HELLO')
    expect(await hardlink('/dir', '/dir2')).toBe(statusCode.permissionDenied)
    expect(await hardlink('/file', '/link')).toBe(statusCode.failure)
    expect(await hardlink('/missing', '/x')).toBe(statusCode.noSuchFile)
  })

  test('fsync@openssh.com answers OK for an open file and FAILURE for anything else', async () => {
    const { client } = await start()
    const fsync = async (handle: Uint8Array) =>
      statusIn(await client.askExtended((writer, id) => extended.fsync.encode(writer, { id, handle }))).code
    expect(await fsync(await client.open('/file', read | write))).toBe(statusCode.ok)
    expect(await fsync(await client.opendir('/dir'))).toBe(statusCode.failure)
    expect(await fsync(bytes('nonsense'))).toBe(statusCode.failure)
  })

  test('lsetstat@openssh.com changes the link itself, and never a size', async () => {
    const { client } = await start()
    const lsetstat = async (name: string, attrs: object) =>
      statusIn(
        await client.askExtended((writer, id) =>
          extended.lsetstat.encode(writer, { id, path: path(name), attrs }),
        ),
      ).code
    expect(await lsetstat('/link', { atime: 5, mtime: 6 })).toBe(statusCode.ok)
    expect(attrsIn(await client.ask(requests.lstat, { path: path('/link') }))).toMatchObject({ mtime: 6 })
    expect(attrsIn(await client.ask(requests.stat, { path: path('/link') })).mtime).not.toBe(6)
    expect(await lsetstat('/link', { permissions: 0o600 })).toBe(statusCode.failure)
    expect(await lsetstat('/file', { permissions: 0o600 })).toBe(statusCode.ok)
    expect(attrsIn(await client.ask(requests.stat, { path: path('/file') })).permissions).toBe(0o100600)
    expect(await lsetstat('/file', { size: 1 })).toBe(statusCode.badMessage)
  })

  test('limits@openssh.com tells what is really taken and given', async () => {
    const { client } = await start({ maxHandles: 17 })
    const reply = await client.askExtended((writer, id) => extended.limits.encode(writer, { id }))
    expect(extended.limits.decodeReply(extended.extendedReply.decode(reply.payload).data)).toEqual({
      maxPacketLength: 262_144n,
      maxReadLength: 261_120n,
      maxWriteLength: 261_120n,
      maxOpenHandles: 17n,
    })
  })

  test('statvfs and fstatvfs tell sizes that fit together, and whether the session is read-only', async () => {
    for (const readOnly of [false, true]) {
      const { client } = await start({ readOnly })
      const stat = await client.askExtended((writer, id) =>
        extended.statvfs.encode(writer, { id, path: path('/dir') }),
      )
      const fields = extended.statvfs.decodeReply(extended.extendedReply.decode(stat.payload).data)
      expect(fields.blocks).toBeGreaterThan(0n)
      expect(fields.bavail).toBeLessThanOrEqual(fields.bfree)
      expect(fields.bfree).toBeLessThanOrEqual(fields.blocks)
      expect(fields.namemax).toBe(255n)
      expect(fields.flag & 1n).toBe(readOnly ? 1n : 0n)
      const handle = await client.open('/file', read)
      const fstat = await client.askExtended((writer, id) => extended.fstatvfs.encode(writer, { id, handle }))
      const same = extended.fstatvfs.decodeReply(extended.extendedReply.decode(fstat.payload).data)
      expect(same.blocks).toBe(fields.blocks)
    }
  })

  test('expand-path@openssh.com and home-directory know "~" and nobody else', async () => {
    const { client } = await start({ startDirectory: '/dir', homeDirectory: '/dir' })
    const expand = (name: string) =>
      client.askExtended((writer, id) => extended.expandPath.encode(writer, { id, path: path(name) }))
    expect(nameIn(await expand('~'))).toBe('/dir')
    expect(nameIn(await expand('~/inner'))).toBe('/dir/inner')
    expect(nameIn(await expand('~/../file'))).toBe('/file')
    expect(nameIn(await expand('inner'))).toBe('/dir/inner')
    expect(nameIn(await expand('/dirlink'))).toBe('/dir')
    expect(nameIn(await expand(''))).toBe('/dir')
    expect(statusIn(await expand('~root')).code).toBe(statusCode.noSuchFile)
    const home = (user: string) =>
      client.askExtended((writer, id) => extended.homeDirectory.encode(writer, { id, username: path(user) }))
    expect(nameIn(await home(''))).toBe('/dir')
    expect(statusIn(await home('root')).code).toBe(statusCode.noSuchFile)
  })

  test('users-groups-by-id@openssh.com names who it knows, in order', async () => {
    const { client } = await start()
    const reply = await client.askExtended((writer, id) =>
      extended.usersGroupsById.encode(writer, { id, uids: [0, 4_000_000_000], gids: [4_000_000_000, 0, 0] }),
    )
    expect(extended.usersGroupsById.decodeReply(extended.extendedReply.decode(reply.payload).data)).toEqual({
      usernames: ['root', ''],
      groupnames: ['', 'root', 'root'],
    })
  })

  test('an answer longer than clients take is a FAILURE, not a broken stream', async () => {
    const { client } = await start()
    const uids = new Array<number>(60_000).fill(0)
    const reply = await client.askExtended((writer, id) =>
      extended.usersGroupsById.encode(writer, { id, uids, gids: [] }),
    )
    expect(statusIn(reply).code).toBe(statusCode.failure)
    expect(await client.code(requests.stat, { path: path('/missing') })).toBe(statusCode.noSuchFile)
  })

  test('no request changes anything in a read-only session', async () => {
    const backend = make()
    const { client, extensions } = await served(backend, { readOnly: true })
    for (const name of [
      'posix-rename@openssh.com',
      'hardlink@openssh.com',
      'fsync@openssh.com',
      'lsetstat@openssh.com',
      'copy-data',
    ])
      expect(extensions.has(name)).toBe(false)
    const before = await client.list('/')
    const open = (pflags: number) =>
      client.code(requests.open, { filename: path('/file'), pflags, attrs: {} })
    for (const pflags of [
      write,
      read | write,
      read | creat,
      read | trunc,
      write | append,
      write | creat | excl,
    ]) {
      expect(await open(pflags)).toBe(statusCode.permissionDenied)
    }
    const handle = await client.open('/file', read)
    const attrs = { permissions: 0o600, size: 1 }
    const [a, b] = [path('/file'), path('/other')]
    const codes = [
      await client.write(handle, 0, bytes('x')),
      await client.code(requests.setstat, { path: a, attrs }),
      await client.code(requests.fsetstat, { handle, attrs }),
      await client.code(requests.remove, { filename: a }),
      await client.code(requests.mkdir, { path: b, attrs: {} }),
      await client.code(requests.rmdir, { path: path('/dir') }),
      await client.code(requests.rename, { oldpath: a, newpath: b }),
      await client.code(requests.symlink, { linkpath: a, targetpath: b }),
    ]
    const writers: ((writer: Writer, id: number) => void)[] = [
      (writer, id) => extended.posixRename.encode(writer, { id, oldpath: a, newpath: b }),
      (writer, id) => extended.hardlink.encode(writer, { id, oldpath: a, newpath: b }),
      (writer, id) => extended.lsetstat.encode(writer, { id, path: a, attrs }),
      (writer, id) => extended.fsync.encode(writer, { id, handle }),
      (writer, id) =>
        extended.copyData.encode(writer, {
          id,
          readFromHandle: handle,
          readFromOffset: 0,
          readDataLength: 0,
          writeToHandle: handle,
          writeToOffset: 50,
        }),
    ]
    for (const encode of writers) codes.push(statusIn(await client.askExtended(encode)).code)
    expect(new Set(codes)).toEqual(new Set([statusCode.permissionDenied]))
    expect(await client.read(handle, 0, 99)).toHaveLength(13)
    expect(await client.list('/')).toEqual(before)
  })

  test('every request cut at every byte is answered BAD_MESSAGE with its id, and the session goes on', async () => {
    const { client } = await start()
    const handle = await client.open('/file', read | write)
    const [a, b] = [path('/file'), path('/b')]
    const whole = (id: number) => [
      requests.open.bytes({ id, filename: a, pflags: read, attrs: { size: 1, permissions: 0o600 } }),
      requests.close.bytes({ id, handle }),
      requests.read.bytes({ id, handle, offset: 0, len: 1 }),
      requests.write.bytes({ id, handle, offset: 0, data: bytes('data') }),
      requests.lstat.bytes({ id, path: a }),
      requests.fstat.bytes({ id, handle }),
      requests.setstat.bytes({ id, path: a, attrs: { atime: 1, mtime: 1 } }),
      requests.fsetstat.bytes({ id, handle, attrs: { uid: 0, gid: 0 } }),
      requests.opendir.bytes({ id, path: a }),
      requests.readdir.bytes({ id, handle }),
      requests.remove.bytes({ id, filename: a }),
      requests.mkdir.bytes({ id, path: b, attrs: { extended: [{ type: 'x', data: bytes('y') }] } }),
      requests.rmdir.bytes({ id, path: a }),
      requests.realpath.bytes({ id, path: a }),
      requests.stat.bytes({ id, path: a }),
      requests.rename.bytes({ id, oldpath: a, newpath: b }),
      requests.readlink.bytes({ id, path: a }),
      requests.symlink.bytes({ id, linkpath: a, targetpath: b }),
      ...[
        (writer: Writer) => extended.posixRename.encode(writer, { id, oldpath: a, newpath: b }),
        (writer: Writer) => extended.statvfs.encode(writer, { id, path: a }),
        (writer: Writer) => extended.fstatvfs.encode(writer, { id, handle }),
        (writer: Writer) => extended.hardlink.encode(writer, { id, oldpath: a, newpath: b }),
        (writer: Writer) => extended.fsync.encode(writer, { id, handle }),
        (writer: Writer) => extended.lsetstat.encode(writer, { id, path: a, attrs: { atime: 1, mtime: 1 } }),
        (writer: Writer) => extended.expandPath.encode(writer, { id, path: a }),
        (writer: Writer) => extended.homeDirectory.encode(writer, { id, username: a }),
        (writer: Writer) => extended.usersGroupsById.encode(writer, { id, uids: [1], gids: [2] }),
        (writer: Writer) =>
          extended.copyData.encode(writer, {
            id,
            readFromHandle: handle,
            readFromOffset: 0,
            readDataLength: 1,
            writeToHandle: handle,
            writeToOffset: 5,
          }),
      ].map(encoded),
    ]
    const count = whole(1).length
    for (let which = 0; which < count; which++) {
      const length = whole(0)[which]!.length
      for (let end = 5; end < length; end++) {
        const id = client.id()
        const cut = whole(id)[which]!.subarray(0, end)
        // Inside the name of an extension the request is a whole one, for an extension nobody knows.
        client.sendRaw(framed(cut))
        expect([statusCode.badMessage, statusCode.opUnsupported]).toContain(await client.status(id))
      }
    }
    expect(await client.read(handle, 0, 99)).toHaveLength(13)
  })

  test('paths that are empty or hold NUL are refused', async () => {
    const { client } = await start()
    expect(await client.code(requests.stat, { path: path('') })).toBe(statusCode.noSuchFile)
    expect(await client.code(requests.open, { filename: path('/file\0x'), pflags: read, attrs: {} })).toBe(
      statusCode.badMessage,
    )
    expect(await client.code(requests.symlink, { linkpath: path('a\0'), targetpath: path('/l') })).toBe(
      statusCode.badMessage,
    )
    expect(await client.code(requests.mkdir, { path: path(`/${'n'.repeat(256)}`), attrs: {} })).toBe(
      statusCode.badMessage,
    )
    expect(await client.code(requests.stat, { path: path('/x'.repeat(5000)) })).toBe(statusCode.badMessage)
  })

  test('names that are not UTF-8 are listed, opened and removed by the same bytes', async () => {
    const { client } = await start()
    const name = Uint8Array.of(0x2f, 0x64, 0x69, 0x72, 0x2f, 0xff, 0xe4, 0x2e, 0x80)
    const reply = await client.ask(requests.open, { filename: name, pflags: write | creat, attrs: {} })
    expect(reply.type).toBe(packetType.handle)
    const listed = await client.list('/dir')
    expect(listed.map(({ filename }) => [...filename])).toContainEqual([0xff, 0xe4, 0x2e, 0x80])
    expect(nameIn(await client.ask(requests.realpath, { path: name }))).toBe(text(name))
    expect(await client.code(requests.remove, { filename: name })).toBe(statusCode.ok)
    expect(await client.code(requests.lstat, { path: name })).toBe(statusCode.noSuchFile)
  })
})

function encoded(encode: (writer: Writer) => void): Uint8Array {
  const writer = new Writer()
  encode(writer)
  return writer.copy()
}

describe('the start of a session', () => {
  test.each([0, 1, 2, 3, 4, 6, 2 ** 32 - 1])(
    'INIT with version %d is answered with version 3',
    async (version) => {
      const { client } = unserved()
      client.send(requests.init, { version, extensions: [] })
      expect((await client.receive())!.id).toBe(3)
    },
  )

  test('INIT with extensions, well-formed or not, is answered', async () => {
    const { client } = unserved()
    client.send(requests.init, { version: 3, extensions: [{ name: '__proto__', data: bytes('x') }] })
    expect((await client.receive())!.id).toBe(3)
    client.sendRaw(framed(Uint8Array.of(1, 0, 0, 0, 3, 0, 0, 0)))
    expect((await client.receive())!.id).toBe(3)
  })

  test('a second INIT is answered in its turn, as OpenSSH does', async () => {
    const { client } = await served()
    const id = client.id()
    client.send(requests.realpath, { id, path: bytes('.') })
    client.send(requests.init, { version: 3, extensions: [] })
    expect((await client.receive())!.type).toBe(packetType.name)
    expect((await client.receive())!.type).toBe(packetType.version)
  })

  test('any request before INIT closes the channel', async () => {
    const { client, session } = unserved()
    client.send(requests.realpath, { id: 1, path: bytes('.') })
    const { reason, error } = await session.finished
    expect(reason).toBe('error')
    expect(error?.message).toContain('REALPATH before INIT')
    await client.closed
    expect(await client.receive()).toBeUndefined()
  })
})

describe('what nobody knows', () => {
  test('every unknown packet type is OP_UNSUPPORTED with its id', async () => {
    const { client } = await served()
    const known = new Set<number>(Object.values(requests).map(({ number }) => number))
    for (let type = 0; type < 256; type++) {
      if (known.has(type) || type === packetType.extended) continue
      const id = client.id() + 0x8000_0000
      client.sendWritten((writer) => writer.u8(type).u32(id).text('anything'))
      const reply = await client.answer(id)
      expect(statusIn(reply)).toMatchObject({
        code: statusCode.opUnsupported,
        message: 'Operation unsupported',
      })
    }
  })

  test.each(['', 'nonsense@example.com', '__proto__', 'constructor', 'toString', 'fsync@openssh.com\0'])(
    'the unknown extension %j is OP_UNSUPPORTED',
    async (name) => {
      const { client } = await served()
      const reply = await client.askExtended((writer, id) =>
        writer.u8(packetType.extended).u32(id).text(name),
      )
      expect(statusIn(reply).code).toBe(statusCode.opUnsupported)
    },
  )

  test('an extension that the back end cannot do is neither announced nor done', async () => {
    const backend = new MemoryBackend()
    const bare = new Proxy(backend, {
      get(target, key) {
        if (key === 'posixRename' || key === 'statvfs') return undefined
        const value = Reflect.get(target, key, target)
        return typeof value === 'function' ? value.bind(target) : value
      },
    }) as SftpBackend
    const { client, extensions } = await served(bare)
    expect(extensions.has('posix-rename@openssh.com')).toBe(false)
    expect(extensions.has('statvfs@openssh.com')).toBe(false)
    expect(extensions.has('fsync@openssh.com')).toBe(true)
    const reply = await client.askExtended((writer, id) =>
      extended.statvfs.encode(writer, { id, path: bytes('/') }),
    )
    expect(statusIn(reply).code).toBe(statusCode.opUnsupported)
  })
})

describe('permitted requests', () => {
  test('denied requests are PERMISSION_DENIED and their extensions not announced', async () => {
    const { client, extensions } = await served(undefined, {
      denyRequests: ['stat', 'fsync', 'read', 'copy-data'],
    })
    expect(extensions.has('fsync@openssh.com')).toBe(false)
    expect(extensions.has('copy-data')).toBe(false)
    expect(extensions.has('limits@openssh.com')).toBe(true)
    expect(await client.code(requests.stat, { path: bytes('/') })).toBe(statusCode.permissionDenied)
    expect((await client.ask(requests.lstat, { path: bytes('/') })).type).toBe(packetType.attrs)
    const handle = await client.open('/x', read | write | creat)
    expect(await client.read(handle, 0, 1)).toBe(statusCode.permissionDenied)
    expect(await client.write(handle, 0, bytes('x'))).toBe(statusCode.ok)
    const reply = await client.askExtended((writer, id) => extended.fsync.encode(writer, { id, handle }))
    expect(statusIn(reply).code).toBe(statusCode.permissionDenied)
  })

  test('with a list of allowed ones all others are refused, and a denied one stays denied', async () => {
    const { client, extensions } = await served(undefined, {
      allowRequests: ['open', 'write', 'close', 'stat'],
      denyRequests: ['stat'],
    })
    expect(extensions.size).toBe(0)
    const handle = await client.open('/x', write | creat)
    expect(await client.write(handle, 0, bytes('x'))).toBe(statusCode.ok)
    expect(await client.code(requests.close, { handle })).toBe(statusCode.ok)
    expect(await client.code(requests.stat, { path: bytes('/x') })).toBe(statusCode.permissionDenied)
    expect(await client.code(requests.lstat, { path: bytes('/x') })).toBe(statusCode.permissionDenied)
  })
})
