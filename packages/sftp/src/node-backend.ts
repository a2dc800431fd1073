// Files of the host over SFTP: node:fs confined to a root. Paths mean what they mean after chroot(2) to the root, absolute
// symbolic links included; confinement is by components and, on Linux, free of races (backend/node-descriptor-paths.ts).
// Rights are those of this process: permission bits, owners and quotas are the kernel's business.

import fs from 'node:fs'
import {
  chmod,
  chown,
  lchown,
  link,
  lstat,
  lutimes,
  mkdir,
  rename,
  rmdir,
  symlink,
  truncate,
  unlink,
  utimes,
} from 'node:fs/promises'
import { quote, UsageError } from '@sshblock/transport/errors'
import { HostAccounts } from './backend/node-accounts.ts'
import { CheckedPaths } from './backend/node-checked-paths.ts'
import { DescriptorPaths } from './backend/node-descriptor-paths.ts'
import { DirectPaths } from './backend/node-direct-paths.ts'
import { NodeDirectory } from './backend/node-directory.ts'
import { applyChanges, fileSystemStatOf, NodeFile } from './backend/node-file.ts'
import { fileStatOf, type HostPath, hostPath, isCode, readLink } from './backend/node-host-path.ts'
import type { HostPaths } from './backend/node-paths.ts'
import { climbsAboveRoot } from './backend/path-walk.ts'
import {
  type AttributeChanges,
  type BackendDirectory,
  BackendError,
  type BackendFile,
  type BackendOpenFlags,
  type FileStat,
  type FileSystemStat,
  type SftpBackend,
} from './backend.ts'

export { userRoot } from './backend/node-user-root.ts'

/**
 * How clients are kept inside the root. 'descriptors': Linux, no races. 'checked': anywhere, with a window for local
 * attackers. 'none': the whole host.
 */
export type Containment = 'descriptors' | 'checked' | 'none'

export interface NodeBackendOptions {
  /** Folder that clients see as '/'. '/' itself means no confinement: all that this process may reach. */
  readonly root: string
  /** Default: 'none' for the root '/', else the best that works here. */
  readonly containment?: Containment
  /**
   * Read and write files without leaving the thread. Fastest for one client on a local disk; a slow disk then stops
   * everything else in this process. Default false.
   */
  readonly synchronousIo?: boolean
}

function openFlagsOf({ read, write, append, create, truncate, exclusive }: BackendOpenFlags): number {
  const { O_RDONLY, O_WRONLY, O_RDWR, O_APPEND, O_CREAT, O_TRUNC, O_EXCL } = fs.constants
  let flags = write ? (read ? O_RDWR : O_WRONLY) : O_RDONLY
  if (append) flags |= O_APPEND
  if (create) flags |= O_CREAT
  if (truncate) flags |= O_TRUNC
  if (exclusive) flags |= O_EXCL
  return flags
}

/** Where link(2) cannot do what rename needs, and rename(2) after a look is the next best. */
const linkUnsupported = ['ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EXDEV', 'EPERM', 'EMLINK']

export class NodeBackend implements SftpBackend {
  /** How clients are kept inside the root. */
  readonly containment: Containment
  readonly #paths: HostPaths
  readonly #accounts = new HostAccounts()
  readonly #synchronous: boolean
  /** Of a user by name; only where the client sees the whole host. */
  readonly homeDirectory?: (user: string) => string

  /** @throws UsageError where the root is not a folder that this process can open */
  constructor(options: NodeBackendOptions) {
    let root: string
    try {
      root = fs.realpathSync(options.root)
      if (!fs.statSync(root).isDirectory()) throw new BackendError('ENOTDIR')
    } catch (cause) {
      throw new UsageError(`the root ${quote(options.root)} is not a folder that can be opened`, { cause })
    }
    this.#synchronous = options.synchronousIo ?? false
    const [paths, containment] = pathsFor(root, options.containment)
    this.#paths = paths
    this.containment = containment
    if (containment === 'none') {
      this.homeDirectory = (user) => {
        const home = this.#accounts.homeDirectory(user)
        if (home === undefined) throw new BackendError('ENOENT', 'No such user')
        return home
      }
    }
  }

  /** Lets go of the root. Sessions must be over. */
  close(): void {
    this.#paths.close()
  }

  async open(path: string, flags: BackendOpenFlags, mode: number): Promise<BackendFile> {
    const descriptor = await this.#paths.open(path, openFlagsOf(flags), mode)
    return new NodeFile(descriptor, {
      flags,
      synchronous: this.#synchronous,
      statvfs: (fd) =>
        process.platform === 'linux' ? fileSystemStatOf(`/proc/self/fd/${fd}`) : this.statvfs(path),
    })
  }

  async opendir(path: string): Promise<BackendDirectory> {
    return NodeDirectory.open(await this.#paths.openDirectory(path))
  }

  stat(path: string): Promise<FileStat> {
    return this.#paths.stat(path)
  }

  lstat(path: string): Promise<FileStat> {
    return this.#paths.withEntry(path, 'nofollow', undefined, async (host) => fileStatOf(await lstat(host)))
  }

  setstat(path: string, changes: AttributeChanges): Promise<void> {
    return this.#paths.withTarget(path, 'follow', (host) =>
      applyChanges(changes, {
        truncate: (size) => truncate(host, size),
        chmod: (mode) => chmod(host, mode),
        utimes: (atime, mtime) => utimes(host, atime, mtime),
        chown: (uid, gid) => chown(host, uid, gid),
      }),
    )
  }

  async lsetstat(path: string, changes: AttributeChanges): Promise<void> {
    const entry = (use: (host: HostPath) => Promise<void>) =>
      this.#paths.withEntry(path, 'nofollow', undefined, use)
    await applyChanges(changes, {
      truncate: async () => {
        throw new BackendError('EINVAL')
      },
      chmod: (mode) => this.#paths.withTarget(path, 'nofollow', (host) => chmod(host, mode)),
      utimes: (atime, mtime) => entry((host) => lutimes(host, atime, mtime)),
      chown: (uid, gid) => entry((host) => lchown(host, uid, gid)),
    })
  }

  remove(path: string): Promise<void> {
    return this.#paths.withEntry(path, 'entry', 'EBUSY', async (host, place) => {
      if (place?.mustBeDirectory && !(await lstat(host)).isDirectory()) throw new BackendError('ENOTDIR')
      await unlink(host)
    })
  }

  mkdir(path: string, mode: number): Promise<void> {
    return this.#paths.withEntry(path, 'entry', 'EEXIST', async (host) => {
      await mkdir(host, { mode })
    })
  }

  rmdir(path: string): Promise<void> {
    return this.#paths.withEntry(path, 'entry', 'EBUSY', (host) => rmdir(host))
  }

  rename(oldPath: string, newPath: string): Promise<void> {
    return this.#withTwoEntries(oldPath, newPath, 'EBUSY', undefined, renameWithoutReplacing)
  }

  posixRename(oldPath: string, newPath: string): Promise<void> {
    return this.#withTwoEntries(oldPath, newPath, 'EBUSY', 'EBUSY', async (from, to, wanted) => {
      if (wanted !== undefined && !(await lstat(from)).isDirectory()) throw new BackendError('ENOTDIR')
      await rename(from, to)
    })
  }

  hardlink(existingPath: string, newPath: string): Promise<void> {
    return this.#withTwoEntries(existingPath, newPath, 'EPERM', undefined, async (from, to, wanted) => {
      if (wanted === 'second') {
        await lstat(from)
        await refuseLink(to, 'ENOENT')
      }
      await link(from, to)
    })
  }

  /** `wanted` tells which path ended in '/', so that it has to be a directory. */
  #withTwoEntries(
    firstPath: string,
    secondPath: string,
    firstItself: string,
    secondItself: string | undefined,
    use: (first: HostPath, second: HostPath, wanted: 'first' | 'second' | undefined) => Promise<void>,
  ): Promise<void> {
    return this.#paths.withEntry(firstPath, 'entry', firstItself, (first, firstPlace) =>
      this.#paths.withEntry(secondPath, 'entry', secondItself, (second, secondPlace) => {
        const slash = firstPlace?.mustBeDirectory
          ? 'first'
          : secondPlace?.mustBeDirectory
            ? 'second'
            : undefined
        return use(first, second, slash)
      }),
    )
  }

  realpath(path: string): Promise<string> {
    return this.#paths.realpath(path)
  }

  readlink(path: string): Promise<string> {
    return this.#paths.withEntry(path, 'nofollow', undefined, (host) => readLink(host))
  }

  /**
   * The target is stored as it is, and read by us from the root; other programs on the host read it their way. A relative
   * one that climbs out of the root is refused: it has no honest use.
   */
  async symlink(target: string, linkPath: string): Promise<void> {
    if (target === '') throw new BackendError('ENOENT')
    await this.#paths.withEntry(linkPath, 'entry', 'EEXIST', async (host, place) => {
      if (place?.mustBeDirectory) await refuseLink(host, 'ENOENT')
      if (place !== undefined && climbsAboveRoot(place.directory, target)) await refuseLink(host, 'EPERM')
      await symlink(hostPath(target), host)
    })
  }

  statvfs(path: string): Promise<FileSystemStat> {
    return this.#paths.withTarget(path, 'follow', fileSystemStatOf)
  }

  userName(uid: number): string | undefined {
    return this.#accounts.userName(uid)
  }

  groupName(gid: number): string | undefined {
    return this.#accounts.groupName(gid)
  }
}

function pathsFor(root: string, wanted: Containment | undefined): [HostPaths, Containment] {
  const containment = wanted ?? (root === '/' ? 'none' : 'descriptors')
  if (containment === 'none') {
    if (root !== '/') throw new UsageError(`containment 'none' is for the root '/', not for ${quote(root)}`)
    return [new DirectPaths(), containment]
  }
  if (containment === 'descriptors') {
    try {
      return [new DescriptorPaths(root), containment]
    } catch (cause) {
      if (wanted !== undefined)
        throw new UsageError('descriptors cannot be looked up in /proc here', { cause })
    }
  }
  return [new CheckedPaths(root), 'checked']
}

async function exists(host: HostPath): Promise<boolean> {
  try {
    await lstat(host)
    return true
  } catch {
    return false
  }
}

/** A link that is not made: because the name is taken, or else for the reason given. */
async function refuseLink(host: HostPath, reason: string): Promise<never> {
  throw new BackendError((await exists(host)) ? 'EEXIST' : reason)
}

/**
 * draft-ietf-secsh-filexfer-02 s6.5: it is an error if newpath exists. For a file link(2) makes that certain, for everything
 * else there is a look and then the rename, as OpenSSH does it.
 */
async function renameWithoutReplacing(
  from: HostPath,
  to: HostPath,
  wanted: 'first' | 'second' | undefined,
): Promise<void> {
  const stats = await lstat(from)
  if (wanted !== undefined && !stats.isDirectory()) {
    throw new BackendError(wanted === 'second' && (await exists(to)) ? 'EEXIST' : 'ENOTDIR')
  }
  if (stats.isFile()) {
    try {
      await link(from, to)
    } catch (error) {
      if (!isCode(error, ...linkUnsupported)) throw error
      return renameAfterLook(from, to)
    }
    try {
      await unlink(from)
    } catch (error) {
      await unlink(to)
      throw error
    }
    return
  }
  await renameAfterLook(from, to)
}

async function renameAfterLook(from: HostPath, to: HostPath): Promise<void> {
  if (await exists(to)) throw new BackendError('EEXIST')
  await rename(from, to)
}
