// Confinement on Linux, without races: every directory on the way is held by a descriptor (O_PATH), and names are looked up
// in it through /proc/self/fd/N/name, which is openat(2) by another name. Links are never followed by the kernel but read,
// and resolved from our own root. Whoever swaps a directory for a link meanwhile changes what a name means, never where we
// are: '..' is not looked up but taken from the components walked.
//
// The fast way opens the whole parent at once and asks the kernel where it is: exactly root/a/b, or it does not count and
// the path is walked step by step. An O_PATH descriptor to a place outside, closed unused, touches nothing.

import fs from 'node:fs'
import { lstat } from 'node:fs/promises'
import { promisify } from 'node:util'
import { BackendError, type FileStat } from '../backend.ts'
import {
  closeDescriptor,
  fileStatOf,
  type HostPath,
  hostPath,
  isCode,
  O_DIRECTORY,
  O_HARMLESS,
  O_NOFOLLOW,
  O_PATH,
  openDescriptor,
  readLink,
} from './node-host-path.ts'
import type { HostPaths, LinkMode, PinnedDirectory } from './node-paths.ts'
import {
  endsInDirectory,
  type Finding,
  type Place,
  type Probe,
  resolvePathAsync,
  type WalkMode,
} from './path-walk.ts'

const fstat = promisify(fs.fstat) as (fd: number) => Promise<fs.Stats>
const directoryFlags = O_PATH | O_DIRECTORY | O_NOFOLLOW
/** Attempts when a name turns into a link between looking and opening. */
const maxAttempts = 8

function inDirectory(descriptor: number, name: string): HostPath {
  return hostPath(`/proc/self/fd/${descriptor}/${name}`)
}

/** A directory below the root, held open. */
interface Position {
  /** The root's own descriptor is not ours to close. */
  readonly descriptor: number
  readonly names: readonly string[]
}

/** A resolved path: an entry of a directory held open. */
interface Pinned {
  readonly place: Place
  readonly position: Position
  readonly host: HostPath
}

/** The last component of a path that can be looked up without walking: no '..', and no '/' at its end. */
function simpleSplit(path: string): { directory: string[]; name: string } | undefined {
  const components = path.split('/').filter((component) => component !== '' && component !== '.')
  if (components.includes('..') || endsInDirectory(path)) return undefined
  const name = components.pop()
  return name === undefined ? undefined : { directory: components, name }
}

function sameNames(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name, i) => name === b[i])
}

export class DescriptorPaths implements HostPaths {
  readonly #root: number
  /** Where the root was when it was opened: '' for '/'. */
  readonly #rootPath: string

  /** @throws where the root cannot be opened, or /proc does not work; the caller falls back then */
  constructor(rootPath: string) {
    if (process.platform !== 'linux')
      throw new BackendError('ENOTSUP', 'Descriptors have paths on Linux only')
    this.#root = fs.openSync(rootPath, O_PATH | O_DIRECTORY)
    try {
      if (fs.readlinkSync(`/proc/self/fd/${this.#root}`) !== rootPath) throw new BackendError('ESTALE')
    } catch (error) {
      fs.closeSync(this.#root)
      throw error
    }
    this.#rootPath = rootPath === '/' ? '' : rootPath
  }

  close(): void {
    fs.closeSync(this.#root)
  }

  async #leave({ descriptor }: Position): Promise<void> {
    if (descriptor !== this.#root) await closeDescriptor(descriptor)
  }

  /** Opens a directory at once, if it is where its names say; undefined if not, or if it is not there. */
  async #enterAtOnce(names: readonly string[]): Promise<Position | undefined> {
    if (names.length === 0) return { descriptor: this.#root, names }
    const below = names.join('/')
    let descriptor: number
    try {
      descriptor = await openDescriptor(inDirectory(this.#root, below), directoryFlags)
    } catch {
      return undefined
    }
    try {
      if ((await readLink(`/proc/self/fd/${descriptor}`)) === `${this.#rootPath}/${below}`)
        return { descriptor, names }
    } catch {
      // Falls through: closed, and walked.
    }
    await closeDescriptor(descriptor)
    return undefined
  }

  /** Opens a directory whose names were walked; each must still be a directory, and no link. */
  async #enter(names: readonly string[]): Promise<Position> {
    const atOnce = await this.#enterAtOnce(names)
    if (atOnce !== undefined) return atOnce
    let position: Position = { descriptor: this.#root, names: [] }
    for (const name of names) {
      try {
        const descriptor = await openDescriptor(inDirectory(position.descriptor, name), directoryFlags)
        const next = { descriptor, names: [...position.names, name] }
        await this.#leave(position)
        position = next
      } catch (error) {
        await this.#leave(position)
        throw error
      }
    }
    return position
  }

  async #resolve(path: string, mode: WalkMode): Promise<Pinned> {
    const simple = simpleSplit(path)
    if (simple !== undefined) {
      const position = await this.#enterAtOnce(simple.directory)
      if (position !== undefined) {
        const host = inDirectory(position.descriptor, simple.name)
        if (mode !== 'follow' || !(await isLink(host))) {
          return { place: { ...simple, mustBeDirectory: false }, position, host }
        }
        await this.#leave(position)
      }
    }
    return this.#walk(path, mode)
  }

  async #walk(path: string, mode: WalkMode): Promise<Pinned> {
    let position: Position = { descriptor: this.#root, names: [] }
    const moveTo = async (names: readonly string[]): Promise<void> => {
      if (sameNames(position.names, names)) return
      const next = await this.#enter([...names])
      await this.#leave(position)
      position = next
    }
    const look = async ({ directory, name, last }: Probe): Promise<Finding> => {
      await moveTo(directory)
      const host = inDirectory(position.descriptor, name)
      try {
        const descriptor = await openDescriptor(host, directoryFlags)
        const next = { descriptor, names: [...directory, name] }
        // Most often the next question is about this directory.
        if (last) await closeDescriptor(descriptor)
        else {
          await this.#leave(position)
          position = next
        }
        return 'directory'
      } catch (error) {
        if (isCode(error, 'ENOENT')) return 'absent'
        if (!isCode(error, 'ENOTDIR', 'ELOOP')) throw error
      }
      try {
        return { target: await readLink(host) }
      } catch (error) {
        if (isCode(error, 'EINVAL')) return 'other'
        if (isCode(error, 'ENOENT')) return 'absent'
        throw error
      }
    }
    try {
      const place = await resolvePathAsync(path, mode, look)
      await moveTo(place.directory)
      return { place, position, host: inDirectory(position.descriptor, place.name ?? '.') }
    } catch (error) {
      await this.#leave(position)
      throw error
    }
  }

  async open(path: string, flags: number, mode: number): Promise<number> {
    const create = (flags & fs.constants.O_CREAT) !== 0
    const exclusive = create && (flags & fs.constants.O_EXCL) !== 0
    for (let attempt = 1; ; attempt++) {
      // Most files are no links: the first try finds out by opening, without asking.
      const walkMode = exclusive || (attempt === 1 && !endsInDirectory(path)) ? 'entry' : 'follow'
      const { place, position, host } = await this.#resolve(path, walkMode)
      try {
        if (place.mustBeDirectory && create && place.name !== undefined) throw new BackendError('EISDIR')
        return await openDescriptor(host, flags | O_NOFOLLOW | O_HARMLESS, mode)
      } catch (error) {
        if (!isCode(error, 'ELOOP') || exclusive || attempt === maxAttempts) throw error
      } finally {
        await this.#leave(position)
      }
    }
  }

  async withEntry<T>(
    path: string,
    mode: LinkMode,
    directoryItself: string | undefined,
    use: (host: HostPath, place: Place | undefined) => Promise<T>,
  ): Promise<T> {
    const { place, position, host } = await this.#resolve(path, mode)
    try {
      if (place.name === undefined && directoryItself !== undefined) throw new BackendError(directoryItself)
      return await use(host, place)
    } finally {
      await this.#leave(position)
    }
  }

  async withTarget<T>(
    path: string,
    mode: 'follow' | 'nofollow',
    use: (host: HostPath) => Promise<T>,
  ): Promise<T> {
    const { position, host } = await this.#resolve(path, mode)
    let descriptor: number
    try {
      descriptor = await openDescriptor(host, O_PATH | O_NOFOLLOW)
    } finally {
      await this.#leave(position)
    }
    try {
      // The descriptor's own link leads to this inode and no further, even where it is a symbolic link.
      if ((await fstat(descriptor)).isSymbolicLink())
        throw new BackendError(mode === 'follow' ? 'ELOOP' : 'EOPNOTSUPP')
      return await use(`/proc/self/fd/${descriptor}`)
    } finally {
      await closeDescriptor(descriptor)
    }
  }

  async stat(path: string): Promise<FileStat> {
    for (let attempt = 1; ; attempt++) {
      const walkMode = attempt === 1 && !endsInDirectory(path) ? 'nofollow' : 'follow'
      const { position, host } = await this.#resolve(path, walkMode)
      try {
        const stats = await lstat(host)
        if (!stats.isSymbolicLink()) return fileStatOf(stats)
      } finally {
        await this.#leave(position)
      }
      if (attempt === maxAttempts) throw new BackendError('ELOOP')
    }
  }

  async realpath(path: string): Promise<string> {
    const { place, position } = await this.#resolve(path, 'follow')
    await this.#leave(position)
    const { directory, name } = place
    return `/${(name === undefined ? directory : [...directory, name]).join('/')}`
  }

  async openDirectory(path: string): Promise<PinnedDirectory> {
    const { place, position, host } = await this.#resolve(path, 'follow')
    let descriptor: number | undefined
    try {
      descriptor = await openDescriptor(host, directoryFlags)
      const self = fileStatOf(await fstat(descriptor))
      const parent = await this.#parentStat(place, position)
      const pinned = descriptor
      descriptor = undefined
      return {
        host: `/proc/self/fd/${pinned}`,
        entry: (name) => inDirectory(pinned, name),
        self,
        parent,
        close: () => closeDescriptor(pinned),
      }
    } finally {
      if (descriptor !== undefined) await closeDescriptor(descriptor)
      await this.#leave(position)
    }
  }

  async #parentStat({ name }: Place, position: Position): Promise<FileStat> {
    if (name !== undefined || position.names.length === 0) return fileStatOf(await fstat(position.descriptor))
    const parent = await this.#enter(position.names.slice(0, -1))
    try {
      return fileStatOf(await fstat(parent.descriptor))
    } finally {
      await this.#leave(parent)
    }
  }
}

async function isLink(host: HostPath): Promise<boolean> {
  try {
    await readLink(host)
    return true
  } catch {
    // What else is wrong with it shows when it is used.
    return false
  }
}
