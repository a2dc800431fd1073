import { spawn } from 'node:child_process'
import fs from 'node:fs'
import { readFile } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import path, { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { isHostName, isInside } from '../../../packages/sftp/src/backend/node-checked-paths.ts'
import type { BackendOpenFlags } from '../../../packages/sftp/src/backend.ts'
import { type Containment, NodeBackend, userRoot } from '../../../packages/sftp/src/node-backend.ts'
import { registerCleanup } from '../../support/cleanup.ts'
import { run } from '../../support/program.ts'
import { tempDir } from '../../support/temp-dir.ts'

const reading: BackendOpenFlags = {
  read: true,
  write: false,
  append: false,
  create: false,
  truncate: false,
  exclusive: false,
}
const making: BackendOpenFlags = { ...reading, write: true, create: true }

async function code(call: () => unknown): Promise<string> {
  try {
    await call()
    return 'OK'
  } catch (error) {
    return (error as { code?: string }).code ?? String(error)
  }
}

async function contentOf(backend: NodeBackend, name: string): Promise<string> {
  const file = await backend.open(name, reading, 0)
  try {
    const buffer = new Uint8Array(100)
    const count = await file.read(0, buffer)
    return Buffer.from(buffer.subarray(0, count)).toString()
  } finally {
    await file.close()
  }
}

/** base/root is served; base/root2 and base/outside are not. */
function layOut(containment: Containment): {
  base: string
  root: string
  outside: string
  backend: NodeBackend
} {
  const base = tempDir('confined')
  const root = join(base, 'root')
  const outside = join(base, 'outside')
  for (const dir of [root, `${root}2`, outside, join(outside, 'dir'), join(root, 'dir')]) fs.mkdirSync(dir)
  fs.writeFileSync(join(root, 'secret'), 'inside')
  fs.writeFileSync(join(root, 'dir', 'secret'), 'inside too')
  fs.writeFileSync(join(`${root}2`, 'secret'), 'OUTSIDE')
  fs.writeFileSync(join(outside, 'secret'), 'OUTSIDE')
  const backend = new NodeBackend({ root, containment })
  registerCleanup(() => backend.close())
  return { base, root, outside, backend }
}

function snapshot(dir: string): string {
  const lines: string[] = []
  for (const name of ['.', ...fs.readdirSync(dir, { recursive: true, encoding: 'utf8' }).sort()]) {
    const at = join(dir, name)
    const { mode, uid, size, mtimeMs, nlink } = fs.lstatSync(at)
    const content = fs.lstatSync(at).isFile() ? fs.readFileSync(at, 'utf8') : ''
    lines.push(`${name} ${mode} ${uid} ${size} ${mtimeMs} ${nlink} ${content}`)
  }
  return lines.join('\n')
}

describe.each(['descriptors', 'checked'] as const)('a node back end confined by %s', (containment) => {
  test('does not take a folder whose name begins like the root for a part of it', async () => {
    const { backend } = layOut(containment)
    for (const name of ['/../root2/secret', '/dir/../../root2/secret', '/../../../../../../etc/passwd']) {
      expect(await code(() => backend.open(name, reading, 0))).toBe('ENOENT')
    }
    expect(await contentOf(backend, '/../secret')).toBe('inside')
    expect(await contentOf(backend, '/dir/../../../secret')).toBe('inside')
  })

  test('resolves links from its own root, whoever made them and wherever they mean to lead', async () => {
    const { root, outside, backend } = layOut(containment)
    fs.symlinkSync(outside, join(root, 'absolute'))
    fs.symlinkSync('../outside', join(root, 'relative'))
    fs.symlinkSync('../../outside/secret', join(root, 'dir', 'file'))
    fs.symlinkSync('/secret', join(root, 'dir', 'chrooted'))
    fs.symlinkSync('/dir', join(root, 'way'))
    const before = snapshot(outside)
    const names = [
      '/absolute/secret',
      '/relative/secret',
      '/dir/file',
      '/absolute',
      '/relative',
      '/absolute/dir/../secret',
    ]
    for (const name of names) {
      expect(await code(() => backend.open(name, reading, 0))).toBe('ENOENT')
      expect(await code(() => backend.stat(name))).toBe('ENOENT')
      expect(
        await code(() =>
          backend.setstat(name, { permissions: 0o777, size: 0, atime: 1, mtime: 1, uid: 1, gid: 1 }),
        ),
      ).toBe('ENOENT')
      expect(await code(() => backend.opendir(name))).toBe('ENOENT')
      expect(await code(() => backend.statvfs(name))).toBe('ENOENT')
    }
    for (const parent of ['/absolute', '/relative', '/absolute/dir', '/relative/dir']) {
      const calls = [
        () => backend.mkdir(`${parent}/new`, 0o777),
        () => backend.rmdir(`${parent}/dir`),
        () => backend.remove(`${parent}/secret`),
        () => backend.rename(`${parent}/secret`, '/stolen'),
        () => backend.rename('/secret', `${parent}/planted`),
        () => backend.posixRename(`${parent}/secret`, '/stolen'),
        () => backend.posixRename('/secret', `${parent}/secret`),
        () => backend.hardlink(`${parent}/secret`, '/stolen'),
        () => backend.hardlink('/secret', `${parent}/planted`),
        () => backend.symlink('x', `${parent}/planted`),
        () => backend.readlink(`${parent}/secret`),
        () => backend.lstat(`${parent}/secret`),
        () => backend.lsetstat(`${parent}/secret`, { atime: 1, mtime: 1 }),
        () => backend.open(`${parent}/planted`, making, 0o666),
        () => backend.open(`${parent}/planted`, { ...making, exclusive: true }, 0o666),
      ]
      for (const call of calls) expect(await code(call)).toBe('ENOENT')
    }
    expect(snapshot(outside)).toBe(before)
    expect(await contentOf(backend, '/dir/chrooted')).toBe('inside')
    expect(await contentOf(backend, '/way/secret')).toBe('inside too')
    expect(await backend.realpath('/way/../dir/chrooted')).toBe('/secret')
    // Made through a dangling link: inside, where the link leads as seen from the root.
    expect(await code(() => backend.open('/relative', making, 0o666))).toBe('OK')
    expect(fs.existsSync(join(root, 'outside'))).toBe(true)
    expect(snapshot(outside)).toBe(before)
  })

  test('works on a link itself where POSIX does: remove, rename, readlink, lstat', async () => {
    const { root, outside, backend } = layOut(containment)
    fs.symlinkSync(outside, join(root, 'out'))
    const before = snapshot(outside)
    expect(await backend.readlink('/out')).toBe(outside)
    expect((await backend.lstat('/out')).permissions & 0o170000).toBe(0o120000)
    await backend.rename('/out', '/moved')
    await backend.posixRename('/moved', '/dir/moved')
    await backend.lsetstat('/dir/moved', { atime: 5, mtime: 7 })
    expect((await backend.lstat('/dir/moved')).mtime).toBe(7)
    await backend.hardlink('/dir/moved', '/again')
    await backend.remove('/dir/moved')
    await backend.remove('/again')
    expect(snapshot(outside)).toBe(before)
  })

  test('lets go of every descriptor, whatever a call ends in', async () => {
    const { root, backend } = layOut(containment)
    fs.symlinkSync('loop', join(root, 'loop'))
    fs.symlinkSync('dir', join(root, 'link'))
    const open = () => fs.readdirSync('/proc/self/fd').length
    const exercise = async () => {
      for (const name of [
        '/secret',
        '/dir/secret',
        '/link/secret',
        '/link/',
        '/loop/x',
        '/no/x',
        '/secret/x',
        '/a/../b',
        '/dir/..',
        '/',
      ]) {
        const file = await backend.open(name, reading, 0).catch(() => undefined)
        await file?.close()
        const dir = await backend.opendir(name).catch(() => undefined)
        await dir?.read(100)
        await dir?.close()
        for (const call of [
          () => backend.stat(name),
          () => backend.lstat(name),
          () => backend.realpath(name),
          () => backend.readlink(name),
          () => backend.statvfs(name),
          () => backend.setstat(name, { atime: 1, mtime: 1 }),
          () => backend.lsetstat(name, { atime: 1, mtime: 1, permissions: 0o755 }),
          () => backend.mkdir(name, 0o755),
          () => backend.rename(name, '/dir/x/y'),
        ]) {
          await code(call)
        }
      }
    }
    await exercise()
    const before = open()
    for (let i = 0; i < 5; i++) await exercise()
    expect(open()).toBe(before)
  })

  test('opening a FIFO holds nothing up', async () => {
    const { root, backend } = layOut(containment)
    expect((await run('mkfifo', [join(root, 'fifo')])).code).toBe(0)
    const file = await backend.open('/fifo', reading, 0)
    expect(await code(() => file.read(0, new Uint8Array(1)))).toBe('ESPIPE')
    await file.close()
    expect(await code(() => backend.open('/fifo', { ...reading, read: false, write: true }, 0))).toBe('ENXIO')
  })
})

test('checks notice a directory that became a link after it was looked at', async () => {
  const { root, outside, backend } = layOut('checked')
  fs.mkdirSync(join(root, 'd'))
  fs.writeFileSync(join(root, 'd', 'secret'), 'inside')
  const before = snapshot(outside)
  const { lstat } = fs.promises
  // The worst moment: right behind the look at root/d.
  fs.promises.lstat = (async (...args: Parameters<typeof lstat>) => {
    const stats = await lstat(...args)
    if (String(args[0]) === join(root, 'd') && stats.isDirectory()) {
      fs.renameSync(join(root, 'd'), join(root, 'd-before'))
      fs.symlinkSync(outside, join(root, 'd'))
    }
    return stats
  }) as typeof lstat
  syncBuiltinESMExports()
  registerCleanup(() => {
    fs.promises.lstat = lstat
    syncBuiltinESMExports()
  })
  const reset = () => {
    fs.unlinkSync(join(root, 'd'))
    fs.renameSync(join(root, 'd-before'), join(root, 'd'))
  }
  for (const call of [
    () => backend.open('/d/secret', reading, 0),
    () => backend.open('/d/new', making, 0o666),
    () => backend.stat('/d/secret'),
    () => backend.lstat('/d/secret'),
    () => backend.mkdir('/d/new', 0o777),
    () => backend.remove('/d/secret'),
    () => backend.setstat('/d/secret', { permissions: 0o777 }),
    () => backend.rename('/d/secret', '/stolen'),
  ]) {
    expect(await code(call)).toBe('EACCES')
    reset()
  }
  expect(snapshot(outside)).toBe(before)
})

test('checks notice a directory that was a link for just the moment of opening', async () => {
  const { root, outside, backend } = layOut('checked')
  fs.mkdirSync(join(root, 'd'))
  fs.writeFileSync(join(root, 'd', 'secret'), 'inside')
  const { realpath } = fs.promises
  let calls = 0
  fs.promises.realpath = (async (...args: Parameters<typeof realpath>) => {
    if (String(args[0]) !== join(root, 'd')) return realpath(...args)
    if (++calls === 2) {
      fs.unlinkSync(join(root, 'd'))
      fs.renameSync(join(root, 'd-before'), join(root, 'd'))
      return realpath(...args)
    }
    const real = await realpath(...args)
    fs.renameSync(join(root, 'd'), join(root, 'd-before'))
    fs.symlinkSync(outside, join(root, 'd'))
    return real
  }) as typeof realpath
  syncBuiltinESMExports()
  registerCleanup(() => {
    fs.promises.realpath = realpath
    syncBuiltinESMExports()
  })
  expect(await code(() => backend.open('/d/secret', { ...reading, write: true, truncate: true }, 0))).toBe(
    'EACCES',
  )
  expect(calls).toBe(2)
  expect(fs.readFileSync(join(outside, 'secret'), 'utf8')).toBe('OUTSIDE')
})

test('the root itself is a folder, or nothing is served', () => {
  const base = tempDir('root')
  fs.writeFileSync(join(base, 'file'), '')
  expect(() => new NodeBackend({ root: join(base, 'missing') })).toThrow(/is not a folder/)
  expect(() => new NodeBackend({ root: join(base, 'file') })).toThrow(/is not a folder/)
  expect(() => new NodeBackend({ root: base, containment: 'none' })).toThrow(/'none' is for the root '\/'/)
})

test('a root that is moved stays the root', async () => {
  const { base, root, backend } = layOut('descriptors')
  fs.renameSync(root, join(base, 'elsewhere'))
  fs.mkdirSync(root)
  fs.mkdirSync(join(root, 'dir'))
  fs.writeFileSync(join(root, 'dir', 'secret'), 'another')
  expect(await contentOf(backend, '/dir/secret')).toBe('inside too')
})

test('a root of / with containment is walked like any other', async () => {
  const backend = new NodeBackend({ root: '/', containment: 'descriptors' })
  registerCleanup(() => backend.close())
  expect(await contentOf(backend, '/../etc/hostname')).toBe(
    (await readFile('/etc/hostname', 'utf8')).slice(0, 100),
  )
  expect(await backend.realpath('/proc/../etc/./hostname')).toBe('/etc/hostname')
})

describe('a race against a process that swaps a directory for a link', () => {
  /** Swaps root/d between a directory and links to outside as fast as it can, until it is killed. */
  const swapper = `
    const fs = require('node:fs')
    const [root, outside] = process.argv.slice(1)
    process.chdir(root)
    fs.symlinkSync(outside, 'l1'); fs.symlinkSync('../outside', 'l2')
    process.stdout.write('ready')
    for (;;) for (const link of ['l1', 'l2']) {
      fs.renameSync('d', 'real'); fs.renameSync(link, 'd')
      fs.renameSync('d', link); fs.renameSync('real', 'd')
    }`
  let stop: (() => Promise<void>) | undefined
  afterEach(async () => {
    await stop?.()
    stop = undefined
  })

  async function startSwapping(root: string, outside: string): Promise<void> {
    const child = spawn(process.execPath, ['-e', swapper, root, outside], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))
    const cleanup = registerCleanup(
      async () => {
        child.kill('SIGKILL')
        await exited
      },
      { onExit: () => void child.kill('SIGKILL') },
    )
    stop = () => cleanup.run()
    await new Promise((resolve) => child.stdout.once('data', resolve))
  }

  function layOutRace(): { root: string; outside: string } {
    const base = tempDir('race')
    const root = join(base, 'root')
    const outside = join(base, 'outside')
    for (const dir of [
      root,
      outside,
      join(root, 'd'),
      join(root, 'd', 'deep'),
      join(outside, 'deep'),
      join(outside, 'sub'),
    ])
      fs.mkdirSync(dir)
    fs.writeFileSync(join(root, 'd', 'secret'), 'inside')
    fs.writeFileSync(join(root, 'd', 'deep', 'secret'), 'inside')
    fs.writeFileSync(join(outside, 'deep', 'secret'), 'OUTSIDE THE ROOT')
    fs.writeFileSync(join(root, 'mine'), 'mine')
    fs.writeFileSync(join(outside, 'secret'), 'OUTSIDE THE ROOT')
    fs.writeFileSync(join(outside, 'only-outside'), '')
    return { root, outside }
  }

  test('names alone lose it, so the race is a real one', async () => {
    const { root, outside } = layOutRace()
    await startSwapping(root, outside)
    const deadline = performance.now() + 5000
    let escapes = 0
    while (escapes === 0 && performance.now() < deadline) {
      // As a back end that looks first: no link in sight, then open by name.
      try {
        if (fs.lstatSync(join(root, 'd')).isSymbolicLink()) continue
        if ((await readFile(join(root, 'd', 'secret'), 'utf8')) !== 'inside') escapes++
      } catch {
        // Swapped in between.
      }
    }
    expect(escapes).toBeGreaterThan(0)
  })

  test('descriptors never do: nothing outside is read, listed, measured, made, changed or removed', async () => {
    const { root, outside } = layOutRace()
    const before = snapshot(outside)
    const backend = new NodeBackend({ root })
    expect(backend.containment).toBe('descriptors')
    await startSwapping(root, outside)
    const escapes: string[] = []
    let inside = 0
    let n = 0
    const attempt = async (call: () => Promise<unknown>) => {
      try {
        await call()
        inside++
      } catch (error) {
        if ((error as { code?: string }).code === undefined) throw error
      }
    }
    const attacks: (() => Promise<unknown>)[] = [
      async () => {
        const content = await contentOf(backend, '/d/secret')
        if (content !== 'inside') escapes.push(`read ${content}`)
      },
      async () => {
        const { size } = await backend.stat('/d/secret')
        if (size !== 6) escapes.push(`stat ${size}`)
      },
      async () => {
        const content = await contentOf(backend, '/d/deep/secret')
        if (content !== 'inside') escapes.push(`read ${content}`)
      },
      () => backend.mkdir(`/d/deep/dir${n++}`, 0o777),
      () => backend.setstat('/d/deep', { permissions: 0o711 }),
      async () => {
        const { size } = await backend.lstat('/d/secret')
        if (size !== 6) escapes.push(`lstat ${size}`)
      },
      async () => {
        const dir = await backend.opendir('/d')
        const names = (await dir.read(1000)).map(({ name }) => name)
        await dir.close()
        if (names.includes('only-outside')) escapes.push('listed')
      },
      () => backend.setstat('/d/secret', { permissions: 0o600 }),
      () => backend.setstat('/d', { atime: 1, mtime: 1 }),
      () => backend.lsetstat('/d/secret', { atime: 1, mtime: 1, uid: 0, gid: 0 }),
      async () => (await backend.open(`/d/new${n++}`, making, 0o666)).close(),
      async () => (await backend.open('/d/secret', { ...reading, write: true }, 0)).close(),
      () => backend.mkdir(`/d/dir${n++}`, 0o777),
      () => backend.rmdir('/d/sub'),
      () => backend.remove('/d/only-outside'),
      () => backend.symlink('x', `/d/link${n++}`),
      () => backend.hardlink('/mine', `/d/hard${n++}`),
      () => backend.hardlink('/d/only-outside', `/stolen${n++}`),
      () => backend.rename('/d/only-outside', `/stolen${n++}`),
      () => backend.posixRename('/d/only-outside', `/stolen${n++}`),
      () => backend.realpath('/d/secret'),
      () => backend.statvfs('/d'),
    ]
    const deadline = performance.now() + 3000
    let calls = 0
    while (performance.now() < deadline) {
      for (const attack of attacks) await attempt(attack)
      calls += attacks.length
    }
    await stop?.()
    backend.close()
    expect(escapes).toEqual([])
    expect(snapshot(outside)).toBe(before)
    expect(fs.readdirSync(root).filter((name) => name.startsWith('stolen'))).toEqual([])
    // The attacks did go through, with the directory and not only against a link.
    expect(calls).toBeGreaterThan(300)
    expect(inside).toBeGreaterThan(50)
  })
})

describe('containment by components', () => {
  test.each([
    ['/srv/u', '/srv/u', true],
    ['/srv/u', '/srv/u/x', true],
    ['/srv/u', '/srv/u2', false],
    ['/srv/u', '/srv', false],
    ['/srv/u', '/srv/u/..x', true],
    ['/', '/etc', true],
  ])('%s holds %s: %s', (outer, inner, expected) => {
    expect(isInside(outer, inner, path.posix)).toBe(expected)
  })

  test.each([
    ['C:\\srv', 'C:\\srv\\x', true],
    ['C:\\srv', 'c:\\SRV\\x', true],
    ['C:\\srv', 'C:\\srv2', false],
    ['C:\\srv', 'D:\\srv\\x', false],
    ['C:\\srv', '\\\\server\\share\\x', false],
  ])('on Windows %s holds %s: %s', (outer, inner, expected) => {
    expect(isInside(outer, inner, path.win32)).toBe(expected)
  })

  test.each(['a\\b', 'C:', 'file:stream', 'CON', 'nul.txt', 'COM1', 'x.', 'x ', 'a*b', 'a\u0001b', '..\\x'])(
    'the name %j is not handed to Windows',
    (name) => {
      expect(isHostName(name, 'win32')).toBe(false)
      expect(isHostName(name, 'linux')).toBe(true)
    },
  )
})

describe('a root per user', () => {
  test('takes the name as one component', () => {
    expect(userRoot('/srv/%u/files', 'ann')).toBe('/srv/ann/files')
    expect(userRoot('/srv/100%%/%u', 'a.b-c_d@host')).toBe('/srv/100%/a.b-c_d@host')
    expect(userRoot('/srv/shared', '../../etc')).toBe('/srv/shared')
  })

  test.each([
    '../x',
    'a/b',
    'a\0',
    '',
    '.',
    '..',
    '.ssh',
    '-rf',
    'a\\b',
    'a b',
    'x'.repeat(256),
    'ä',
    '%u',
    'a\nb',
  ])('refuses the login of %j', (user) => {
    expect(() => userRoot('/srv/%u', user)).toThrow(/cannot be part of a path/)
  })

  test('refuses a template it does not understand', () => {
    expect(() => userRoot('/srv/%h', 'ann')).toThrow(/unknown "%h"/)
  })
})
