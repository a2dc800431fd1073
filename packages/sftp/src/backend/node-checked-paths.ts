// Confinement where descriptors cannot be looked up by path (macOS, BSD, Windows, Linux without /proc): links are read and
// resolved from our own root, and what was found is checked against the real path before and after it is used. Between a
// check and its use a local attacker who may write inside the root can still win a race; a client alone, whose requests
// run one after the other, cannot. DescriptorPaths has no such window.

import fs from 'node:fs'
import { lstat, realpath } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { BackendError, type FileStat } from '../backend.ts'
import {
  closeDescriptor,
  fileStatOf,
  type HostPath,
  hostPath,
  isCode,
  O_HARMLESS,
  O_NOFOLLOW,
  openDescriptor,
  readLink,
} from './node-host-path.ts'
import type { HostPaths, LinkMode, PinnedDirectory } from './node-paths.ts'
import {
  type Finding,
  type Place,
  type Probe,
  placePath,
  resolvePathAsync,
  type WalkMode,
} from './path-walk.ts'

const fstat = promisify(fs.fstat) as (fd: number, options: { bigint: true }) => Promise<fs.BigIntStats>

/** Names that mean something else than themselves on Windows: devices, streams, separators, what it strips. */
const windowsName = /[\\/:*?"<>|\p{Cc}]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$)(\.|$)/iu

/** Whether a name may be handed to the host. */
export function isHostName(name: string, platform: string): boolean {
  return platform !== 'win32' || !windowsName.test(name)
}

/** Whether `inner` is `outer` or below it, by components. Both absolute and real. */
export function isInside(
  outer: string,
  inner: string,
  { relative, isAbsolute, sep }: path.PlatformPath = path,
): boolean {
  const way = relative(outer, inner)
  return way === '' || (!isAbsolute(way) && way.split(sep)[0] !== '..')
}

export class CheckedPaths implements HostPaths {
  readonly #root: string

  /** @param root real and absolute */
  constructor(root: string) {
    this.#root = root
  }

  #host(place: Pick<Place, 'directory' | 'name'>): HostPath {
    const { directory, name } = place
    for (const component of name === undefined ? directory : [...directory, name]) {
      if (!isHostName(component, process.platform)) throw new BackendError('ENOENT')
    }
    const below = placePath({ directory, name, mustBeDirectory: false })
    return hostPath(this.#root === '/' ? below : `${this.#root}${below === '/' ? '' : below}`)
  }

  async #resolve(clientPath: string, mode: WalkMode): Promise<Place> {
    const look = async ({ directory, name }: Probe): Promise<Finding> => {
      const host = this.#host({ directory, name })
      try {
        const stats = await lstat(host)
        if (stats.isSymbolicLink()) return { target: await readLink(host) }
        return stats.isDirectory() ? 'directory' : 'other'
      } catch (error) {
        if (isCode(error, 'ENOENT')) return 'absent'
        throw error
      }
    }
    return resolvePathAsync(clientPath, mode, look)
  }

  async #checkDirectory(directory: readonly string[]): Promise<void> {
    const real = await realpath(this.#host({ directory, name: undefined }))
    if (!isInside(this.#root, real)) throw new BackendError('EACCES')
  }

  async open(clientPath: string, flags: number, mode: number): Promise<number> {
    const { O_CREAT, O_EXCL, O_TRUNC } = fs.constants
    const create = (flags & O_CREAT) !== 0
    const exclusive = create && (flags & O_EXCL) !== 0
    const place = await this.#resolve(clientPath, exclusive ? 'entry' : 'follow')
    if (place.mustBeDirectory && create && place.name !== undefined) throw new BackendError('EISDIR')
    await this.#checkDirectory(place.directory)
    const host = this.#host(place)
    // Emptied only when it is known to be the right file.
    const truncate = (flags & O_TRUNC) !== 0
    const descriptor = await openDescriptor(host, (flags & ~O_TRUNC) | O_NOFOLLOW | O_HARMLESS, mode)
    try {
      await this.#checkDirectory(place.directory)
      const opened = await fstat(descriptor, { bigint: true })
      const named = await lstat(host, { bigint: true })
      if (opened.ino !== named.ino || opened.dev !== named.dev) throw new BackendError('EACCES')
      if (truncate) await promisify(fs.ftruncate)(descriptor, 0)
      return descriptor
    } catch (error) {
      await closeDescriptor(descriptor)
      throw error
    }
  }

  async withEntry<T>(
    clientPath: string,
    mode: LinkMode,
    directoryItself: string | undefined,
    use: (host: HostPath, place: Place | undefined) => Promise<T>,
  ): Promise<T> {
    const place = await this.#resolve(clientPath, mode)
    if (place.name === undefined && directoryItself !== undefined) throw new BackendError(directoryItself)
    await this.#checkDirectory(place.directory)
    return use(this.#host(place), place)
  }

  async withTarget<T>(
    clientPath: string,
    mode: 'follow' | 'nofollow',
    use: (host: HostPath) => Promise<T>,
  ): Promise<T> {
    const place = await this.#resolve(clientPath, mode)
    await this.#checkDirectory(place.directory)
    const host = this.#host(place)
    if ((await lstat(host)).isSymbolicLink())
      throw new BackendError(mode === 'follow' ? 'ELOOP' : 'EOPNOTSUPP')
    return use(host)
  }

  async stat(clientPath: string): Promise<FileStat> {
    const place = await this.#resolve(clientPath, 'follow')
    await this.#checkDirectory(place.directory)
    return fileStatOf(await lstat(this.#host(place)))
  }

  async realpath(clientPath: string): Promise<string> {
    return placePath(await this.#resolve(clientPath, 'follow'))
  }

  async openDirectory(clientPath: string): Promise<PinnedDirectory> {
    const place = await this.#resolve(clientPath, 'follow')
    await this.#checkDirectory(place.directory)
    const names = place.name === undefined ? place.directory : [...place.directory, place.name]
    const host = this.#host({ directory: names, name: undefined })
    const self = fileStatOf(await lstat(host))
    const parent = fileStatOf(await lstat(this.#host({ directory: names.slice(0, -1), name: undefined })))
    return {
      host,
      entry: (name) => this.#host({ directory: names, name }),
      self,
      parent,
      close: async () => {},
    }
  }

  close(): void {}
}
