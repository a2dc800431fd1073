// A file system in memory, for tests, demos and pages: POSIX semantics of names, links and open files, sparse content.
// There is one user, who may do everything; permission bits are kept and shown, not enforced. Access times do not move.
// Every method answers at once, so serving it costs no promise per read or write.

import { utf8Bytes } from '@sshblock/transport/wire'
import {
  climbsAboveRoot,
  type Finding,
  type Place,
  placePath,
  resolvePath,
  type WalkMode,
} from './backend/path-walk.ts'
import { SparseBytes } from './backend/sparse-bytes.ts'
import {
  type AttributeChanges,
  type BackendDirectory,
  type BackendEntry,
  BackendError,
  type BackendFile,
  type BackendOpenFlags,
  type FileStat,
  type FileSystemStat,
  type SftpBackend,
} from './backend.ts'
import { fileTypeBits } from './messages/attributes.ts'
import { pathBytes } from './path-text.ts'

/** Linux's NAME_MAX, in bytes. */
const maxNameBytes = 255
const blockBytes = 4096
const umask = 0o022

interface NodeCommon {
  permissions: number
  uid: number
  gid: number
  atime: number
  mtime: number
  /** Names that lead here; the content is freed when there are none and no file is open. */
  nlink: number
  openFiles: number
}
interface FileNode extends NodeCommon {
  readonly kind: 'file'
  readonly content: SparseBytes
}
interface DirectoryNode extends NodeCommon {
  readonly kind: 'directory'
  readonly entries: Map<string, Node>
}
interface SymlinkNode extends NodeCommon {
  readonly kind: 'symlink'
  readonly target: string
}
type Node = FileNode | DirectoryNode | SymlinkNode

const typeBits = {
  file: fileTypeBits.file,
  directory: fileTypeBits.directory,
  symlink: fileTypeBits.symlink,
} as const

function statOf(node: Node): FileStat {
  const { uid, gid, atime, mtime, nlink } = node
  const size =
    node.kind === 'file'
      ? node.content.size
      : node.kind === 'symlink'
        ? pathBytes(node.target).length
        : blockBytes
  return { size, permissions: typeBits[node.kind] | node.permissions, uid, gid, atime, mtime, nlink }
}

function isInside(node: Node, directory: DirectoryNode): boolean {
  if (node === directory) return true
  for (const entry of directory.entries.values()) {
    if (entry.kind === 'directory' && isInside(node, entry)) return true
  }
  return false
}

export interface MemoryBackendOptions {
  /** Bytes of content that may be held; more is ENOSPC. Holes cost nothing. Default 1 GiB. */
  readonly capacityBytes?: number
  /** Owner of what is made. Default 0. */
  readonly uid?: number
  readonly gid?: number
  /** Seconds since 1970. Default: the system's clock. */
  readonly now?: () => number
  /** Names of owners and groups, for listings. */
  readonly users?: ReadonlyMap<number, string>
  readonly groups?: ReadonlyMap<number, string>
}

export class MemoryBackend implements SftpBackend {
  readonly #capacityBytes: number
  readonly #uid: number
  readonly #gid: number
  readonly #now: () => number
  readonly #users: ReadonlyMap<number, string>
  readonly #groups: ReadonlyMap<number, string>
  readonly #root: DirectoryNode
  #heldBytes = 0
  #nodes = 0

  constructor(options: MemoryBackendOptions = {}) {
    this.#capacityBytes = options.capacityBytes ?? 2 ** 30
    this.#uid = options.uid ?? 0
    this.#gid = options.gid ?? 0
    this.#now = options.now ?? (() => Math.floor(Date.now() / 1000))
    this.#users = options.users ?? new Map([[0, 'root']])
    this.#groups = options.groups ?? new Map([[0, 'root']])
    this.#root = { kind: 'directory', entries: new Map(), ...this.#common(0o755, 2) }
  }

  /** Bytes of content held at this moment. */
  get heldBytes(): number {
    return this.#heldBytes
  }

  // ---- For the program that owns the memory: no server, no handles. ----

  /** Makes a file with this content, and the directories on the way. */
  writeFile(path: string, content: Uint8Array | string): void {
    this.makeDirectories(path.slice(0, path.lastIndexOf('/') + 1))
    const flags = { read: false, write: true, append: false, create: true, truncate: true, exclusive: false }
    const file = this.open(path, flags, 0o666)
    file.write(0, typeof content === 'string' ? utf8Bytes(content) : content)
    file.close()
  }

  /** The content of a file, as a new array. @throws BackendError */
  readFile(path: string): Uint8Array {
    const node = this.#node(path, 'follow')
    if (node.kind !== 'file') throw new BackendError('EISDIR')
    const bytes = new Uint8Array(node.content.size)
    node.content.read(0, bytes)
    return bytes
  }

  /** Makes a directory and those above it where they are missing. */
  makeDirectories(path: string): void {
    let made = ''
    for (const component of path.split('/')) {
      if (component === '') continue
      made += `/${component}`
      try {
        this.mkdir(made, 0o777)
      } catch (error) {
        if (!(error instanceof BackendError) || error.code !== 'EEXIST') throw error
      }
    }
  }

  // ---- SftpBackend ----

  open(
    path: string,
    flags: BackendOpenFlags,
    mode: number,
  ): BackendFile & { write(offset: number, from: Uint8Array): void; close(): void } {
    const exclusive = flags.create && flags.exclusive
    const place = this.#resolve(path, exclusive ? 'entry' : 'follow')
    let node = this.#entry(place)
    if (node === undefined) {
      if (!flags.create) throw new BackendError('ENOENT')
      if (place.mustBeDirectory) throw new BackendError('EISDIR')
      node = { kind: 'file', content: this.#content(), ...this.#common(mode & 0o7777 & ~umask, 0) }
      this.#attach(place, node)
    } else {
      if (exclusive) throw new BackendError('EEXIST')
      if (node.kind === 'directory' && (flags.write || flags.create || flags.truncate))
        throw new BackendError('EISDIR')
      if (flags.truncate && node.kind === 'file') {
        node.content.truncate(0)
        node.mtime = this.#now()
      }
    }
    node.openFiles++
    return this.#openFile(node, flags)
  }

  #openFile(node: Node, flags: BackendOpenFlags) {
    const backend = this
    const content = (): SparseBytes => {
      if (node.kind !== 'file') throw new BackendError('EISDIR')
      return node.content
    }
    return {
      node,
      read(offset: number, into: Uint8Array): number {
        if (!flags.read) throw new BackendError('EBADF')
        return content().read(offset, into)
      },
      write(offset: number, from: Uint8Array): void {
        if (!flags.write) throw new BackendError('EBADF')
        const bytes = content()
        bytes.write(flags.append ? bytes.size : offset, from)
        node.mtime = backend.#now()
      },
      stat: () => statOf(node),
      setstat(changes: AttributeChanges): void {
        backend.#change(node, changes, flags.write)
      },
      sync(): void {},
      statvfs: () => backend.#statvfs(),
      sameFile: (other: BackendFile) => (other as { node?: Node }).node === node,
      close(): void {
        node.openFiles--
        backend.#release(node)
      },
    }
  }

  opendir(path: string): BackendDirectory {
    const place = this.#resolve(path, 'follow')
    const directory = this.#entry(place)
    if (directory === undefined) throw new BackendError('ENOENT')
    if (directory.kind !== 'directory') throw new BackendError('ENOTDIR')
    const above = place.name === undefined ? place.directory.slice(0, -1) : place.directory
    const parent = this.#directory(above)
    const names = ['.', '..', ...directory.entries.keys()]
    let at = 0
    return {
      read(max: number): BackendEntry[] {
        const entries: BackendEntry[] = []
        while (at < names.length && entries.length < max) {
          const name = names[at++]!
          const node = name === '.' ? directory : name === '..' ? parent : directory.entries.get(name)
          if (node !== undefined) entries.push({ name, stat: statOf(node) })
        }
        return entries
      },
      close(): void {},
    }
  }

  stat(path: string): FileStat {
    return statOf(this.#node(path, 'follow'))
  }

  lstat(path: string): FileStat {
    return statOf(this.#node(path, 'nofollow'))
  }

  setstat(path: string, changes: AttributeChanges): void {
    this.#change(this.#node(path, 'follow'), changes)
  }

  lsetstat(path: string, changes: AttributeChanges): void {
    const node = this.#node(path, 'nofollow')
    // As Linux: a symbolic link has no permissions of its own.
    if (changes.permissions !== undefined && node.kind === 'symlink') throw new BackendError('EOPNOTSUPP')
    this.#change(node, changes)
  }

  remove(path: string): void {
    const place = this.#resolve(path, 'entry')
    const node = this.#existing(place)
    if (node.kind === 'directory') throw new BackendError('EISDIR')
    if (place.mustBeDirectory) throw new BackendError('ENOTDIR')
    this.#detach(place, node)
  }

  mkdir(path: string, mode: number): void {
    const place = this.#resolve(path, 'entry')
    if (this.#entry(place) !== undefined) throw new BackendError('EEXIST')
    this.#attach(place, {
      kind: 'directory',
      entries: new Map(),
      ...this.#common(mode & 0o1777 & ~umask, 1),
    })
  }

  rmdir(path: string): void {
    const place = this.#resolve(path, 'entry')
    const node = this.#existing(place)
    if (node.kind !== 'directory') throw new BackendError('ENOTDIR')
    if (node.entries.size > 0) throw new BackendError('ENOTEMPTY')
    this.#detach(place, node)
  }

  rename(oldPath: string, newPath: string): void {
    const from = this.#resolve(oldPath, 'entry')
    const node = this.#existing(from)
    if (from.mustBeDirectory && node.kind !== 'directory') throw new BackendError('ENOTDIR')
    if (this.#entry(this.#resolve(newPath, 'entry')) !== undefined) throw new BackendError('EEXIST')
    this.posixRename(oldPath, newPath)
  }

  posixRename(oldPath: string, newPath: string): void {
    const from = this.#resolve(oldPath, 'entry')
    if (from.name === undefined) throw new BackendError('EBUSY')
    const to = this.#resolve(newPath, 'entry')
    if (to.name === undefined) throw new BackendError('EBUSY')
    const node = this.#existing(from)
    if (node.kind !== 'directory' && (from.mustBeDirectory || to.mustBeDirectory))
      throw new BackendError('ENOTDIR')
    const target = this.#entry(to)
    if (target === node) return
    if (node.kind === 'directory') {
      if (isInside(this.#directory(to.directory), node)) throw new BackendError('EINVAL')
      if (target !== undefined && target.kind !== 'directory') throw new BackendError('ENOTDIR')
      if (target?.kind === 'directory' && target.entries.size > 0) throw new BackendError('ENOTEMPTY')
    } else if (target?.kind === 'directory') {
      // Linux says ENOTEMPTY where the target holds the source.
      throw new BackendError(isInside(this.#directory(from.directory), target) ? 'ENOTEMPTY' : 'EISDIR')
    }
    this.#checkName(to)
    if (target !== undefined) this.#detach(to, target)
    node.nlink++
    this.#detach(from, node)
    node.nlink--
    this.#attach(to, node)
  }

  realpath(path: string): string {
    return placePath(this.#resolve(path, 'follow'))
  }

  readlink(path: string): string {
    const node = this.#node(path, 'nofollow')
    if (node.kind !== 'symlink') throw new BackendError('EINVAL')
    return node.target
  }

  symlink(target: string, linkPath: string): void {
    if (target === '') throw new BackendError('ENOENT')
    const place = this.#resolve(linkPath, 'entry')
    if (this.#entry(place) !== undefined) throw new BackendError('EEXIST')
    if (place.mustBeDirectory) throw new BackendError('ENOENT')
    if (climbsAboveRoot(place.directory, target)) throw new BackendError('EPERM')
    this.#attach(place, { kind: 'symlink', target, ...this.#common(0o777, 0) })
  }

  hardlink(existingPath: string, newPath: string): void {
    const node = this.#existing(this.#resolve(existingPath, 'entry'), 'EPERM')
    const place = this.#resolve(newPath, 'entry')
    if (this.#entry(place) !== undefined) throw new BackendError('EEXIST')
    if (node.kind === 'directory') throw new BackendError('EPERM')
    if (place.mustBeDirectory) throw new BackendError('ENOENT')
    this.#attach(place, node)
  }

  statvfs(path: string): FileSystemStat {
    this.#node(path, 'follow')
    return this.#statvfs()
  }

  userName(uid: number): string | undefined {
    return this.#users.get(uid)
  }

  groupName(gid: number): string | undefined {
    return this.#groups.get(gid)
  }

  // ---- Nodes ----

  #common(permissions: number, nlink: number): NodeCommon {
    const now = this.#now()
    this.#nodes++
    return { permissions, uid: this.#uid, gid: this.#gid, atime: now, mtime: now, nlink, openFiles: 0 }
  }

  #content(): SparseBytes {
    return new SparseBytes((bytes) => {
      if (bytes > 0 && this.#heldBytes + bytes > this.#capacityBytes) throw new BackendError('ENOSPC')
      this.#heldBytes += bytes
    })
  }

  #directory(names: readonly string[]): DirectoryNode {
    let directory = this.#root
    for (const name of names) {
      const entry = directory.entries.get(name)
      if (entry === undefined) throw new BackendError('ENOENT')
      if (entry.kind !== 'directory') throw new BackendError('ENOTDIR')
      directory = entry
    }
    return directory
  }

  #resolve(path: string, mode: WalkMode): Place {
    return resolvePath(path, mode, ({ directory, name }): Finding => {
      const entry = this.#directory(directory).entries.get(name)
      if (entry === undefined) return 'absent'
      if (entry.kind === 'symlink') return { target: entry.target }
      return entry.kind === 'directory' ? 'directory' : 'other'
    })
  }

  #entry(place: Place): Node | undefined {
    const directory = this.#directory(place.directory)
    return place.name === undefined ? directory : directory.entries.get(place.name)
  }

  /** The entry that a name stands for; the root itself, and '.', can neither be moved nor removed. */
  #existing(place: Place, ofDirectoryItself = 'EBUSY'): Node {
    if (place.name === undefined) throw new BackendError(ofDirectoryItself)
    const node = this.#entry(place)
    if (node === undefined) throw new BackendError('ENOENT')
    return node
  }

  #node(path: string, mode: WalkMode): Node {
    const node = this.#entry(this.#resolve(path, mode))
    if (node === undefined) throw new BackendError('ENOENT')
    return node
  }

  #checkName(place: Place): string {
    if (place.name === undefined) throw new BackendError('EEXIST')
    if (pathBytes(place.name).length > maxNameBytes) throw new BackendError('ENAMETOOLONG')
    return place.name
  }

  #attach(place: Place, node: Node): void {
    const name = this.#checkName(place)
    const directory = this.#directory(place.directory)
    directory.entries.set(name, node)
    directory.mtime = this.#now()
    node.nlink++
    if (node.kind === 'directory') directory.nlink++
  }

  #detach(place: Place, node: Node): void {
    const directory = this.#directory(place.directory)
    directory.entries.delete(place.name!)
    directory.mtime = this.#now()
    node.nlink--
    if (node.kind === 'directory') directory.nlink--
    this.#release(node)
  }

  #release(node: Node): void {
    const lastLink = node.kind === 'directory' ? 1 : 0
    if (node.nlink > lastLink || node.openFiles > 0) return
    if (node.kind === 'file') node.content.truncate(0)
    this.#nodes--
  }

  /** Makes every change that can be made, then throws what could not, as the node back end and OpenSSH do. */
  #change(node: Node, changes: AttributeChanges, writable?: boolean): void {
    const { size, permissions, atime, mtime, uid, gid } = changes
    let error: unknown
    try {
      if (size !== undefined) this.#truncate(node, size, writable)
    } catch (thrown) {
      error = thrown
    }
    if (permissions !== undefined) node.permissions = permissions & 0o7777
    if (atime !== undefined) node.atime = atime
    if (mtime !== undefined) node.mtime = mtime
    if (uid !== undefined) node.uid = uid
    if (gid !== undefined) node.gid = gid
    if (error !== undefined) throw error
  }

  /** By path, or by a handle that is writable or not: truncate(2) and ftruncate(2) word it differently. */
  #truncate(node: Node, size: number, writable: boolean | undefined): void {
    if (writable === undefined && node.kind === 'directory') throw new BackendError('EISDIR')
    if (writable === false || node.kind !== 'file') throw new BackendError('EINVAL')
    node.content.truncate(size)
    node.mtime = this.#now()
  }

  #statvfs(): FileSystemStat {
    const blocks = BigInt(Math.floor(Math.min(this.#capacityBytes, Number.MAX_SAFE_INTEGER) / blockBytes))
    const used = BigInt(Math.ceil(this.#heldBytes / blockBytes))
    const free = blocks > used ? blocks - used : 0n
    const files = 2n ** 32n
    const filesFree = files - BigInt(this.#nodes)
    return {
      bsize: BigInt(blockBytes),
      frsize: BigInt(blockBytes),
      blocks,
      bfree: free,
      bavail: free,
      files,
      ffree: filesFree,
      favail: filesFree,
      fsid: 0n,
      flag: 0n,
      namemax: BigInt(maxNameBytes),
    }
  }
}
