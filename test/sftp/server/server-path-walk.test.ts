import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  climbsAboveRoot,
  type Finding,
  type Probe,
  placePath,
  resolvePath,
  type WalkMode,
} from '../../../packages/sftp/src/backend/path-walk.ts'
import { BackendError } from '../../../packages/sftp/src/backend.ts'

/** A tree as nested objects: an object is a directory, a string a link, true a file. */
type Tree = { [name: string]: Tree | string | true }

function lookIn(root: Tree): (probe: Probe) => Finding {
  return ({ directory, name }) => {
    let at: Tree | string | true | undefined = root
    for (const component of directory) {
      if (typeof at !== 'object')
        throw new Error(`asked inside ${directory.join('/')}, which is no directory`)
      at = Object.hasOwn(at, component) ? at[component] : undefined
    }
    if (typeof at !== 'object') throw new Error(`asked inside ${directory.join('/')}, which is no directory`)
    const entry = Object.hasOwn(at, name) ? at[name] : undefined
    if (entry === undefined) return 'absent'
    if (entry === true) return 'other'
    return typeof entry === 'string' ? { target: entry } : 'directory'
  }
}

const tree: Tree = {
  srv: {
    u: { file: true, up: '..', 'up-and-out': '../../../../etc', root: '/', inner: { deep: true } },
    u2: { x: true },
  },
  etc: { passwd: true },
  'to-etc': 'etc',
  'abs-etc': '/etc/',
  dangling: 'nowhere/at/all',
  self: 'self',
  ping: 'pong',
  pong: 'ping',
  empty: '',
}

const walk = (path: string, mode: WalkMode = 'follow') => placePath(resolvePath(path, mode, lookIn(tree)))

describe('a path inside a virtual root', () => {
  test.each([
    ['/', '/'],
    ['', '/'],
    ['/srv/u/file', '/srv/u/file'],
    ['srv//u/./file', '/srv/u/file'],
    ['/../../etc/passwd', '/etc/passwd'],
    ['/srv/u/../u2/x', '/srv/u2/x'],
    ['/srv/u/up', '/srv'],
    ['/srv/u/up/..', '/'],
    ['/srv/u/up-and-out/passwd', '/etc/passwd'],
    ['/srv/u/root/etc', '/etc'],
    ['/abs-etc/passwd', '/etc/passwd'],
    ['/to-etc/../srv', '/srv'],
    ['/srv/new', '/srv/new'],
    ['/srv/u/root/../../srv', '/srv'],
  ])('%s leads to %s, as after chroot', (path, expected) => {
    expect(walk(path)).toBe(expected)
  })

  test('a link at the end is itself unless followed, but what it leads to behind a slash', () => {
    expect(walk('/to-etc', 'nofollow')).toBe('/to-etc')
    expect(walk('/to-etc/', 'nofollow')).toBe('/etc')
    expect(walk('/to-etc/', 'entry')).toBe('/to-etc')
    expect(walk('/to-etc', 'follow')).toBe('/etc')
  })

  test.each([
    ['/nowhere/x', 'ENOENT'],
    ['/srv/u/file/x', 'ENOTDIR'],
    ['/srv/u/file/..', 'ENOTDIR'],
    ['/srv/u/file/', 'ENOTDIR'],
    ['/dangling/x', 'ENOENT'],
    ['/self', 'ELOOP'],
    ['/ping/x', 'ELOOP'],
    ['/empty', 'ENOENT'],
    [`/${'a/'.repeat(3000)}`, 'ENAMETOOLONG'],
  ])('%s fails with %s', (path, code) => {
    let error: unknown
    try {
      walk(path)
    } catch (thrown) {
      error = thrown
    }
    expect(error).toBeInstanceOf(BackendError)
    expect((error as BackendError).code).toBe(code)
  })

  test('links that multiply end in ELOOP or ENAMETOOLONG, not in time', () => {
    const bomb: Tree = { d: {} }
    for (let i = 0; i < 30; i++) bomb[`l${i}`] = `l${i + 1}/../l${i + 1}`
    bomb['l30'] = 'd'
    expect(() => resolvePath('/l0', 'follow', lookIn(bomb))).toThrow(BackendError)
  })
})

const component = fc.constantFrom(
  'srv',
  'u',
  'u2',
  'file',
  'up',
  'up-and-out',
  'root',
  'etc',
  'to-etc',
  'abs-etc',
  'dangling',
  'self',
  '..',
  '.',
  '',
  'x',
  '...',
  '..x',
  '__proto__',
  'constructor',
  '%2e%2e',
  '..\\..',
  '\u2025',
  '\udc2f',
)
const anyPath = fc
  .tuple(
    fc.constantFrom('', '/', '//', '/../'),
    fc.array(component, { maxLength: 12 }),
    fc.constantFrom('', '/'),
  )
  .map(([start, components, end]) => start + components.join('/') + end)

test('100 000 random paths stay inside the root or fail with a POSIX error', () => {
  const look = lookIn(tree)
  let resolved = 0
  fc.assert(
    fc.property(anyPath, fc.constantFrom<WalkMode>('follow', 'nofollow', 'entry'), (path, mode) => {
      // Every question and every answer names real components only: nothing that could climb.
      const checked = (probe: Probe): Finding => {
        for (const name of [...probe.directory, probe.name]) {
          if (name === '' || name === '.' || name === '..' || name.includes('/'))
            throw new Error(`asked for ${name}`)
        }
        return look(probe)
      }
      try {
        const { directory, name } = resolvePath(path, mode, checked)
        resolved++
        for (const part of name === undefined ? directory : [...directory, name]) {
          if (part === '' || part === '.' || part === '..' || part.includes('/'))
            throw new Error(`led to ${part}`)
        }
      } catch (error) {
        if (!(error instanceof BackendError)) throw error
      }
    }),
    { numRuns: 100_000 },
  )
  expect(resolved).toBeGreaterThan(10_000)
})

test.each([
  ['a link in the root may not climb at all', [], '../x', true],
  ['nor after going down', [], 'a/../../x', true],
  ['one level down, one up is the root', ['d'], '../x', false],
  ['two up is outside', ['d'], '../../x', true],
  ['absolute targets start at the root', ['d'], '/../../x', false],
  ['dots in names are names', [], '..x/...', false],
])('%s', (_what, directory, target, expected) => {
  expect(climbsAboveRoot(directory, target)).toBe(expected)
})
