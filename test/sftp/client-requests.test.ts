/** Which requests a call makes, and what it does where a server has, refuses or misnames something. */
import { utf8Bytes, utf8Text } from '@sshblock/transport/wire'
import { describe, expect, test } from 'vitest'
import { SftpClient } from '../../packages/sftp/src/index.ts'
import {
  type Attributes,
  extended,
  fileTypeBits,
  packetType,
  replies,
  requests,
} from '../../packages/sftp/src/messages/index.ts'
import {
  nameEntry,
  packetOf,
  pattern,
  ScriptedServer,
  type ScriptedServerOptions,
  settle,
} from './scripted-server.ts'

async function opened(options: ScriptedServerOptions = {}, serverIdentification?: string) {
  const server = new ScriptedServer({ files: [['/f', pattern(1000)]], ...options })
  const client = await SftpClient.open(
    server.channel,
    serverIdentification === undefined ? {} : { serverIdentification },
  )
  return { server, client }
}

/** A server that refuses one kind of request. */
const refusing = (name: string, status: number): ScriptedServerOptions => ({
  onRequest: (request, server) => {
    if (request.name !== name && request.extension !== name) return false
    server.status(request, status, 'no')
    return true
  },
})

describe('open', () => {
  test.each([
    ['r', 0x01],
    ['r+', 0x03],
    ['w', 0x1a],
    ['w+', 0x1b],
    ['wx', 0x2a],
    ['wx+', 0x2b],
    ['a', 0x0e],
    ['a+', 0x0f],
    ['ax', 0x2e],
    ['ax+', 0x2f],
  ] as const)('%s is pflags 0x%s', async (mode, pflags) => {
    const { server, client } = await opened()
    await client.open(mode.includes('x') ? '/new' : '/f', mode, { mode: 0o640 })
    expect(requests.open.decode(server.requests('OPEN')[0]!.packet)).toMatchObject({
      pflags,
      attrs: { permissions: 0o640 },
    })
  })

  test('takes the flags one by one, and sends no attributes that were not given', async () => {
    const { server, client } = await opened()
    await client.open('/f', { read: true, write: true, create: true })
    expect(requests.open.decode(server.requests('OPEN')[0]!.packet)).toMatchObject({
      pflags: 0x0b,
      attrs: {},
    })
  })

  test.each([
    ['rw'],
    [{}],
    [{ create: true }],
    [{ write: true, truncate: true }],
    [{ read: true, exclusive: true }],
  ])('refuses %o before anything is sent', async (flags) => {
    const { server, client } = await opened()
    await expect(client.open('/f', flags as 'r')).rejects.toMatchObject({ code: 'ERR_USAGE' })
    expect(server.requests('OPEN')).toHaveLength(0)
  })
})

describe('attributes', () => {
  const sent = (server: ScriptedServer, name: 'SETSTAT' | 'FSETSTAT'): Attributes[] => {
    const message = name === 'SETSTAT' ? requests.setstat : requests.fsetstat
    return server.requests(name).map(({ packet }) => message.decode(packet).attrs)
  }

  test('are set one thing at a time: size, owner, mode, times', async () => {
    const { server, client } = await opened()
    const file = await client.open('/f', 'r+')
    const attributes = { atime: 1, mtime: 2, permissions: 0o600, uid: 3, gid: 4, size: 5 }
    await client.setstat('/f', attributes)
    await file.setstat(attributes)
    const expected = [{ size: 5 }, { uid: 3, gid: 4 }, { permissions: 0o600 }, { atime: 1, mtime: 2 }]
    expect(sent(server, 'SETSTAT')).toEqual(expected)
    expect(sent(server, 'FSETSTAT')).toEqual(expected)
  })

  test('chmod, chown, utimes and truncate send exactly their own field', async () => {
    const { server, client } = await opened()
    await client.chmod('/f', 0o4755)
    await client.chown('/f', 1, 2)
    await client.utimes('/f', new Date(1_500_000_000_900), 7.9)
    await client.truncate('/f', 3)
    expect(sent(server, 'SETSTAT')).toEqual([
      { permissions: 0o4755 },
      { uid: 1, gid: 2 },
      { atime: 1_500_000_000, mtime: 7 },
      { size: 3 },
    ])
  })

  test('that do not fit are a UsageError, and the session goes on', async () => {
    const { server, client } = await opened()
    const before = server.log.length
    await expect(client.truncate('/f', -1)).rejects.toMatchObject({ code: 'ERR_USAGE' })
    await expect(client.setstat('/f', { uid: 1 })).rejects.toMatchObject({ code: 'ERR_USAGE' })
    await expect(client.utimes('/f', new Date('2200-01-01'), 0)).rejects.toMatchObject({ code: 'ERR_USAGE' })
    expect(server.log.length).toBe(before)
    await expect(client.stat('/f')).resolves.toMatchObject({ size: 1000 })
  })

  test('come empty where a server sends none', async () => {
    const { server, client } = await opened()
    server.setAttributes('/bare', {})
    const stats = await client.stat('/bare')
    expect(stats).toMatchObject({
      size: undefined,
      permissions: undefined,
      type: 'unknown',
      mode: undefined,
      modifiedAt: undefined,
    })
    expect([stats.isFile(), stats.isDirectory(), stats.isSymbolicLink()]).toEqual([false, false, false])
  })
})

describe('symlink', () => {
  const order = async (options: ScriptedServerOptions, identification?: string): Promise<string> => {
    const { server, client } = await opened(options, identification)
    await client.symlink('target', '/link')
    const { linkpath } = requests.symlink.decode(server.requests('SYMLINK')[0]!.packet)
    return utf8Text(linkpath) === 'target' ? 'target' : 'link'
  }
  const announcing = (data: string): ScriptedServerOptions => ({
    extensions: [['symlink-order@rjk.greenend.org.uk', data]],
  })

  test.each([
    ['SSH-2.0-OpenSSH_9.2p1', 'target'],
    ['SSH-2.0-dropbear_2022.83', 'target'],
    ['SSH-2.0-mod_sftp/0.9.9', 'target'],
    ['SSH-2.0-paramiko_2.12.0', 'target'],
    ['SSH-2.0-Go', 'target'],
    ['SSH-2.0-libssh_0.10.5', 'target'],
    [undefined, 'target'],
    ['SSH-2.0-lshd-2.1 lsh - a GNU ssh', 'link'],
    ['SSH-2.0-Twisted_22.4.0', 'link'],
    ['SSH-2.0-Erlang/4.15', 'link'],
    ['SSH-2.0-AsyncSSH_2.10.1', 'link'],
    ['SSH-2.0-ssh2js1.17.0srv', 'link'],
  ])('on %s sends the %s first', async (identification, first) => {
    expect(await order({}, identification)).toBe(first)
  })

  test('the extension decides over the identification', async () => {
    expect(await order(announcing('linkpath-targetpath'), 'SSH-2.0-OpenSSH_9.2p1')).toBe('link')
    expect(await order(announcing('targetpath-linkpath'), 'SSH-2.0-Twisted_22.4.0')).toBe('target')
  })
})

describe('rename', () => {
  const withPosix: ScriptedServerOptions = { extensions: [['posix-rename@openssh.com', '1']] }
  const names = (server: ScriptedServer) =>
    server.log.slice(1).map(({ name, extension }) => extension ?? name)

  test('replaces in one step where the server can, plainly where it cannot', async () => {
    const posix = await opened({
      ...withPosix,
      onRequest: (request, server) => {
        if (request.extension !== extended.posixRename.name) return false
        server.status(request, 0)
        return true
      },
    })
    await posix.client.rename('/a', '/b')
    expect(names(posix.server)).toEqual(['posix-rename@openssh.com'])
    const plain = await opened()
    await plain.client.rename('/a', '/b')
    expect(names(plain.server)).toEqual(['RENAME'])
  })

  test('falls back only where the server does not know the extension after all', async () => {
    const unknown = await opened({ ...withPosix, ...refusing('posix-rename@openssh.com', 8) })
    await unknown.client.rename('/a', '/b')
    expect(names(unknown.server)).toEqual(['posix-rename@openssh.com', 'RENAME'])
    const denied = await opened({ ...withPosix, ...refusing('posix-rename@openssh.com', 3) })
    await expect(denied.client.rename('/a', '/b')).rejects.toMatchObject({
      code: 'EACCES',
      path: '/a',
      target: '/b',
    })
    expect(names(denied.server)).toEqual(['posix-rename@openssh.com'])
  })

  test('does what `replace` says', async () => {
    const { server, client } = await opened(withPosix)
    await client.rename('/a', '/b', { replace: false })
    expect(names(server)).toEqual(['RENAME'])
    const without = await opened()
    await expect(without.client.rename('/a', '/b', { replace: true })).rejects.toMatchObject({
      code: 'ENOTSUP',
    })
  })
})

test('what the server does not announce is ENOTSUP, and nothing is sent', async () => {
  const { server, client } = await opened()
  const file = await client.open('/f', 'r+')
  const before = server.log.length
  for (const call of [
    file.sync(),
    file.statvfs(),
    client.statvfs('/'),
    client.link('/a', '/b'),
    client.lsetstat('/a', { permissions: 0 }),
    client.copyData({ file }, { file, offset: 10 }),
    client.homeDirectory('root'),
    client.usersGroupsById({ uids: [0] }),
    client.expandPath('~root/x'),
  ]) {
    await expect(call).rejects.toMatchObject({ code: 'ENOTSUP', status: 8 })
  }
  expect(server.log.length).toBe(before)
})

test('an extension of another version is not used', async () => {
  const { client } = await opened({ extensions: [['statvfs@openssh.com', '1']] })
  await expect(client.statvfs('/')).rejects.toMatchObject({ code: 'ENOTSUP' })
})

test('the home directory and "~" come from REALPATH where there is no extension for them', async () => {
  const { server, client } = await opened({
    onRequest: (request, scripted) => {
      if (request.name !== 'REALPATH') return false
      const path = utf8Text(requests.realpath.decode(request.packet).path)
      const real = path === '.' ? '/home/u' : path
      scripted.answer(request, packetOf(replies.name, { id: request.id, names: [nameEntry(real)] }))
      return true
    },
  })
  await expect(client.homeDirectory()).resolves.toBe('/home/u')
  await expect(client.expandPath('~')).resolves.toBe('/home/u')
  await expect(client.expandPath('~/x')).resolves.toBe('/home/u/x')
  await expect(client.expandPath('/y')).resolves.toBe('/y')
  expect(server.requests('EXTENDED')).toHaveLength(0)
})

test('users and groups by id come as lists of names', async () => {
  const { client } = await opened({
    extensions: [['users-groups-by-id@openssh.com', '1']],
    onRequest: (request, server) => {
      if (request.extension !== extended.usersGroupsById.name) return false
      const { data } = extended.extended.decode(request.packet)
      expect(extended.usersGroupsById.decode(data)).toEqual({ uids: [0, 77], gids: [5] })
      const lists = [
        [0, 0, 0, 12, 0, 0, 0, 4, 0x72, 0x6f, 0x6f, 0x74, 0, 0, 0, 0],
        [0, 0, 0, 7, 0, 0, 0, 3, 0x74, 0x74, 0x79],
      ]
      server.answer(
        request,
        packetOf(extended.extendedReply, { id: request.id, data: new Uint8Array(lists.flat()) }),
      )
      return true
    },
  })
  await expect(client.usersGroupsById({ uids: [0, 77], gids: [5] })).resolves.toEqual({
    users: ['root', ''],
    groups: ['tty'],
  })
})

describe('paths', () => {
  test('with NUL are refused before anything is sent', async () => {
    const { server, client } = await opened()
    const before = server.log.length
    for (const call of [
      client.open('/a\0b'),
      client.stat('\0'),
      client.rename('/a', '/b\0'),
      client.symlink('\0', '/b'),
      client.readdir('/\0').next(),
      client.put(new Uint8Array(1), '\0'),
    ]) {
      await expect(call).rejects.toMatchObject({ code: 'ERR_USAGE' })
    }
    expect(server.log.length).toBe(before)
  })

  test('too long for a packet are refused, and the session goes on', async () => {
    const { server, client } = await opened()
    await expect(client.stat(`/${'a'.repeat(262_144)}`)).rejects.toMatchObject({ code: 'ERR_USAGE' })
    await expect(client.stat('/f')).resolves.toBeDefined()
    expect(server.requests('STAT')).toHaveLength(1)
  })

  test('that are not UTF-8 go back as they came', async () => {
    const name = new Uint8Array([0x66, 0xff, 0xfe, 0xc3, 0xa4])
    const { server, client } = await opened({
      list: (_path, call) => (call === 0 ? [nameEntry(name), nameEntry('ü')] : []),
    })
    const listed: string[] = []
    for await (const entry of client.readdir('/d')) listed.push(entry.name)
    expect(listed[1]).toBe('ü')
    await client.unlink(`/d/${listed[0]}`)
    const { filename } = requests.remove.decode(server.requests('REMOVE')[0]!.packet)
    expect([...filename]).toEqual([...utf8Bytes('/d/'), ...name])
  })
})

describe('readdir', () => {
  test('gives no "." and "..", and leaves out and reports what is not one component', async () => {
    const hostile = ['', 'a/b', '/etc', '../x', 'nul\0', 'good', '..', '.', '...', 'x\\y']
    const { client } = await opened({
      list: (_path, call) => (call === 0 ? hostile.map((name) => nameEntry(name)) : []),
    })
    const rejected: string[] = []
    const listed: string[] = []
    for await (const { name } of client.readdir('/', { onRejectedName: (name) => rejected.push(name) }))
      listed.push(name)
    expect(listed).toEqual(['good', '...', 'x\\y'])
    expect(rejected).toEqual(['', 'a/b', '/etc', '../x', 'nul\0'])
  })

  test('ends at a NAME without names as at EOF', async () => {
    let calls = 0
    const { client } = await opened({
      onRequest: (request, server) => {
        if (request.type !== packetType.readdir) return false
        server.answer(
          request,
          packetOf(replies.name, { id: request.id, names: calls++ === 0 ? [nameEntry('a')] : [] }),
        )
        return true
      },
    })
    const listed: string[] = []
    for await (const { name } of client.readdir('/')) listed.push(name)
    expect(listed).toEqual(['a'])
  })

  test('passes on a refusal in the middle, with the path, and closes the handle', async () => {
    let calls = 0
    const { server, client } = await opened({
      list: () => [nameEntry('a')],
      onRequest: (request, scripted) => {
        if (request.type !== packetType.readdir || calls++ < 2) return false
        scripted.status(request, 4, 'I/O error')
        return true
      },
    })
    const list = (async () => {
      for await (const _entry of client.readdir('/d')) {
      }
    })()
    await expect(list).rejects.toMatchObject({ code: 'EIO', operation: 'READDIR', path: '/d' })
    await settle()
    expect(server.requests('CLOSE')).toHaveLength(1)
  })
})

describe('mkdir', () => {
  test('recursive makes missing parents, whatever the server calls "missing" and "exists"', async () => {
    const made = new Set(['/a', '/f'])
    for (const missing of [2, 4]) {
      const { server, client } = await opened({
        onRequest: (request, scripted) => {
          if (request.name !== 'MKDIR') return false
          const path = utf8Text(requests.mkdir.decode(request.packet).path)
          const parent = path.slice(0, path.lastIndexOf('/')) || '/'
          if (made.has(path)) scripted.status(request, 4, 'exists')
          else if (parent !== '/' && !made.has(parent)) scripted.status(request, missing)
          else {
            made.add(path)
            scripted.status(request, 0)
          }
          return true
        },
      })
      const stat = server.setAttributes.bind(server)
      stat('/a', { permissions: fileTypeBits.directory | 0o755 })
      await client.mkdir(`/a/b${missing}/c/d`, { recursive: true })
      expect(made.has(`/a/b${missing}/c/d`)).toBe(true)
      await client.mkdir('/a', { recursive: true })
      await expect(client.mkdir('/a')).rejects.toMatchObject({ code: 'EIO' })
      // A file in the way is no directory.
      await expect(client.mkdir('/f', { recursive: true })).rejects.toBeDefined()
    }
  })
})

describe('rm', () => {
  test.each(['/', '//', '', '.', '..', '/a/..', '/a/.', 'x/../'])('refuses to remove %j', async (path) => {
    const { server, client } = await opened()
    await expect(client.rm(path, { recursive: true, force: true })).rejects.toMatchObject({
      code: 'ERR_USAGE',
    })
    expect(server.log).toHaveLength(1)
  })

  test('removes links and hostile names’ neighbours, follows nothing, leaves the directory last', async () => {
    const directory = { permissions: fileTypeBits.directory | 0o755 }
    const { server, client } = await opened({
      list: (path, call) => {
        if (call > 0) return []
        if (path !== '/d') return [nameEntry('inner')]
        return [
          nameEntry('link', { permissions: fileTypeBits.symlink | 0o777 }),
          nameEntry('../../etc'),
          nameEntry('sub', directory),
          nameEntry('file'),
        ]
      },
    })
    server.setAttributes('/d', directory)
    await client.rm('/d', { recursive: true })
    const removed = server.log
      .filter(({ name }) => name === 'REMOVE' || name === 'RMDIR')
      .map(
        ({ name, packet }) =>
          `${name} ${utf8Text(requests.rmdir.decode(new Uint8Array([packetType.rmdir, ...packet.subarray(1)])).path)}`,
      )
    expect(new Set(removed)).toEqual(
      new Set(['REMOVE /d/link', 'REMOVE /d/sub/inner', 'RMDIR /d/sub', 'REMOVE /d/file', 'RMDIR /d']),
    )
    expect(removed.at(-1)).toBe('RMDIR /d')
  })

  test('force is content with nothing; without it, and without recursive, errors come through', async () => {
    const { server, client } = await opened()
    await client.rm('/none', { force: true })
    await expect(client.rm('/none')).rejects.toMatchObject({ code: 'ENOENT' })
    server.setAttributes('/d', { permissions: fileTypeBits.directory | 0o755 })
    await expect(client.rm('/d')).rejects.toMatchObject({ code: 'EISDIR' })
    const denied = await opened(refusing('REMOVE', 3))
    await expect(denied.client.rm('/f', { force: true })).rejects.toMatchObject({ code: 'EACCES' })
  })
})

describe('walk', () => {
  const directory = { permissions: fileTypeBits.directory | 0o755 }

  test('ends at a depth of 64 in a tree without end', async () => {
    const { client } = await opened({
      list: (_path, call) => (call === 0 ? [nameEntry('deeper', directory)] : []),
    })
    let deepest = 0
    const walk = (async () => {
      for await (const { depth } of client.walk('/d')) deepest = Math.max(deepest, depth)
    })()
    await expect(walk).rejects.toMatchObject({ code: 'ERR_SFTP_TOO_DEEP' })
    expect(deepest).toBe(64)
  })

  test('does not follow links, and asks for types that a list does not tell', async () => {
    const { server, client } = await opened({
      list: (path, call) => {
        if (call > 0) return []
        if (path === '/d')
          return [
            nameEntry('loop', { permissions: fileTypeBits.symlink | 0o777 }),
            nameEntry('untold', {}),
            nameEntry('gone', {}),
          ]
        return [nameEntry('inside')]
      },
    })
    server.setAttributes('/d/untold', directory)
    const seen: string[] = []
    for await (const { path, type } of client.walk('/d')) seen.push(`${path} ${type}`)
    expect(seen).toEqual(['/d/loop symlink', '/d/untold directory', '/d/untold/inside file'])
  })
})
