// No confinement (`root: '/'`): the host's kernel resolves, with the rights of this process, as sftp-server does.

import { lstat, stat } from 'node:fs/promises'
import { BackendError, type FileStat } from '../backend.ts'
import {
  fileStatOf,
  type HostPath,
  hostPath,
  isCode,
  O_HARMLESS,
  openDescriptor,
  readLink,
} from './node-host-path.ts'
import type { HostPaths, LinkMode, PinnedDirectory } from './node-paths.ts'
import { type Finding, type Place, type Probe, placePath, resolvePathAsync } from './path-walk.ts'

async function look({ directory, name }: Probe): Promise<Finding> {
  const path = hostPath(placePath({ directory, name, mustBeDirectory: false }))
  try {
    const stats = await lstat(path)
    if (stats.isSymbolicLink()) return { target: await readLink(path) }
    return stats.isDirectory() ? 'directory' : 'other'
  } catch (error) {
    if (isCode(error, 'ENOENT')) return 'absent'
    throw error
  }
}

export class DirectPaths implements HostPaths {
  open(path: string, flags: number, mode: number): Promise<number> {
    return openDescriptor(hostPath(path), flags | O_HARMLESS, mode)
  }

  withEntry<T>(
    path: string,
    _mode: LinkMode,
    _directoryItself: string | undefined,
    use: (host: HostPath, place: Place | undefined) => Promise<T>,
  ): Promise<T> {
    return use(hostPath(path), undefined)
  }

  async withTarget<T>(
    path: string,
    mode: 'follow' | 'nofollow',
    use: (host: HostPath) => Promise<T>,
  ): Promise<T> {
    const host = hostPath(path)
    if (mode === 'nofollow' && (await lstat(host)).isSymbolicLink()) throw new BackendError('EOPNOTSUPP')
    return use(host)
  }

  async stat(path: string): Promise<FileStat> {
    return fileStatOf(await stat(hostPath(path)))
  }

  async realpath(path: string): Promise<string> {
    return placePath(await resolvePathAsync(path, 'follow', look))
  }

  async openDirectory(path: string): Promise<PinnedDirectory> {
    const self = await this.stat(path)
    const parent = await this.stat(`${path}/..`)
    return {
      host: hostPath(path),
      entry: (name) => hostPath(`${path}/${name}`),
      self,
      parent,
      close: async () => {},
    }
  }

  close(): void {}
}
