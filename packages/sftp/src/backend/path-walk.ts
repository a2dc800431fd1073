// Resolves a path inside a virtual root, component by component, as the kernel does after chroot(2): '..' stops at the
// root, an absolute symbolic link starts at the root again, '..' behind a link leaves the link's target. Never compares
// prefixes, never collapses '..' textually.
// Does no I/O: it asks what a name in a directory is and is answered, so one walk serves memory and disks, and containment
// is proved once: every directory it names is a list of components that are neither '', '.', '..' nor hold a '/'.

import { BackendError } from '../backend.ts'

/** Linux's MAXSYMLINKS. */
const maxLinks = 40
/** Linux's PATH_MAX, in UTF-16 units here: each is one byte at least. */
export const maxPathLength = 4096

/** What is the entry `name` of `directory`? Where `last`, it is the end of the path. */
export interface Probe {
  /** Components below the root, none of them a link; valid until the next step of the walk. */
  readonly directory: readonly string[]
  readonly name: string
  readonly last: boolean
}

/** The answer: a directory, anything else, nothing, or a symbolic link and what it holds. */
export type Finding = 'directory' | 'other' | 'absent' | { readonly target: string }

/** Where a path leads. */
export interface Place {
  /** Components below the root of the directory that holds the name, or that is the place itself. */
  readonly directory: readonly string[]
  /** The entry in it; undefined where the path leads to `directory` itself ('/', '.', 'a/..'). */
  readonly name: string | undefined
  /** The path ended in '/' or '/.': only a directory will do. */
  readonly mustBeDirectory: boolean
}

function* componentsOf(path: string): Generator<string> {
  let start = 0
  while (start <= path.length) {
    const slash = path.indexOf('/', start)
    const end = slash === -1 ? path.length : slash
    yield path.slice(start, end)
    start = end + 1
  }
}

/** Pushes the components of `path` so that the first is on top. */
function pushComponents(pending: string[], path: string): void {
  const components = [...componentsOf(path)]
  for (let i = components.length - 1; i >= 0; i--) {
    const component = components[i]!
    if (component !== '' && component !== '.') pending.push(component)
  }
}

/** Whether only a directory will do at the end of this path. */
export function endsInDirectory(path: string): boolean {
  return path.endsWith('/') || path.endsWith('/.') || path === '.' || path === ''
}

/**
 * What becomes of a symbolic link at the end of the path. 'follow': stat, open. 'nofollow': lstat, where 'link/' is the
 * directory behind the link all the same. 'entry': the name itself, as unlink, rename and mkdir need it; a trailing '/'
 * changes nothing.
 */
export type WalkMode = 'follow' | 'nofollow' | 'entry'

/**
 * Walks `path` from the root. Yields each question; the caller answers through `next(finding)`.
 * @throws BackendError ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG
 */
export function* walkPath(path: string, mode: WalkMode): Generator<Probe, Place, Finding> {
  if (path.length > maxPathLength) throw new BackendError('ENAMETOOLONG')
  const pending: string[] = []
  pushComponents(pending, path)
  let mustBeDirectory = endsInDirectory(path)
  const directory: string[] = []
  let links = 0
  for (;;) {
    const name = pending.pop()
    if (name === undefined) return { directory, name: undefined, mustBeDirectory }
    if (name === '..') {
      directory.pop()
      continue
    }
    const last = pending.length === 0
    if (last && (mode === 'entry' || (mode === 'nofollow' && !mustBeDirectory)))
      return { directory, name, mustBeDirectory }
    const finding = yield { directory, name, last }
    if (typeof finding === 'object') {
      if (++links > maxLinks) throw new BackendError('ELOOP')
      const { target } = finding
      if (target === '') throw new BackendError('ENOENT')
      if (target.length > maxPathLength) throw new BackendError('ENAMETOOLONG')
      if (target.startsWith('/')) directory.length = 0
      if (last && endsInDirectory(target)) mustBeDirectory = true
      pushComponents(pending, target)
      // Links may multiply components; the sum stays bounded by the two limits above and this one.
      if (pending.length + directory.length > maxPathLength) throw new BackendError('ENAMETOOLONG')
      continue
    }
    if (last) {
      if (finding === 'other' && mustBeDirectory) throw new BackendError('ENOTDIR')
      return { directory, name, mustBeDirectory }
    }
    if (finding === 'absent') throw new BackendError('ENOENT')
    if (finding === 'other') throw new BackendError('ENOTDIR')
    directory.push(name)
  }
}

/** Runs a walk whose questions are answered at once. */
export function resolvePath(path: string, mode: WalkMode, answer: (probe: Probe) => Finding): Place {
  const walk = walkPath(path, mode)
  let step = walk.next()
  while (step.done !== true) step = walk.next(answer(step.value))
  return step.value
}

/** Runs a walk whose questions take time. */
export async function resolvePathAsync(
  path: string,
  mode: WalkMode,
  answer: (probe: Probe) => Promise<Finding>,
): Promise<Place> {
  const walk = walkPath(path, mode)
  let step = walk.next()
  while (step.done !== true) step = walk.next(await answer(step.value))
  return step.value
}

/** The absolute path of a place. */
export function placePath({ directory, name }: Place): string {
  const parent = directory.join('/')
  if (name === undefined) return `/${parent}`
  return parent === '' ? `/${name}` : `/${parent}/${name}`
}

/** Whether a symbolic link in `directory` that holds `target` leads, read literally, above the root. */
export function climbsAboveRoot(directory: readonly string[], target: string): boolean {
  if (target.startsWith('/')) return false
  let depth = directory.length
  for (const component of componentsOf(target)) {
    if (component === '..') depth--
    else if (component !== '' && component !== '.') depth++
    if (depth < 0) return true
  }
  return false
}
