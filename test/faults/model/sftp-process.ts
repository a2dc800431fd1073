// One `sftp-server` process on the model's machine: our own SFTP server on a back end over the model's disk. It goes on with
// what it got when its client is gone, can be stopped and killed, and can be told to fail.

import {
  type AttributeChanges,
  BackendError,
  type BackendFile,
  type BackendOpenFlags,
  type FileStat,
  type FileSystemStat,
  type SessionEpochs,
  type SftpBackend,
  serveSftp,
} from '@sshblock/sftp'
import { blockBytes } from './block-stamp.ts'
import type { Disk, DiskFile } from './disk.ts'
import type { Link } from './link.ts'
import type { Random } from './random.ts'
import type { VirtualTime } from './virtual-time.ts'

/** What is wrong with the machine; shared by all its processes and changed by the history. */
export interface DiskTrouble {
  /** Writes that fail, by their POSIX name, each after a part was written. */
  failingWrites: ('ENOSPC' | 'EIO')[]
  failingReads: number
  failingSyncs: number
  /** Milliseconds that each takes. */
  writeMs: () => number
  syncMs: () => number
  /** Is told of each that fails. */
  onRefusal: (what: 'write' | 'read' | 'sync') => void
}

export interface ProcessOptions {
  readonly time: VirtualTime
  readonly random: Random
  readonly disk: Disk
  readonly trouble: DiskTrouble
  /** Of all sessions of a server that is ours. */
  readonly epochs?: SessionEpochs
  /** Is told of each WRITE that takes effect. */
  readonly onWrite?: (file: DiskFile, offset: number, length: number) => void
}

export class SftpProcess {
  readonly pid: number
  readonly link: Link
  /** It is gone, and nothing that it was sent can take effect any more. */
  isDead = false
  isStopped = false
  exitStatus = 0
  readonly #session: ReturnType<typeof serveSftp>
  #resolveDead!: () => void
  readonly dead: Promise<void>

  constructor(pid: number, link: Link, options: ProcessOptions) {
    this.pid = pid
    this.link = link
    this.dead = new Promise((resolve) => {
      this.#resolveDead = resolve
    })
    this.#session = serveSftp(link.server, backendOf(this, options), {
      random: options.random.fill,
      ...(options.epochs === undefined ? {} : { epochs: options.epochs }),
    })
    void this.#session.finished.then(() => this.#died())
  }

  stop(): void {
    if (this.isStopped || this.isDead) return
    this.isStopped = true
    this.link.holdServer()
  }

  goOn(): void {
    if (!this.isStopped) return
    this.isStopped = false
    this.link.releaseServer()
  }

  /** SIGKILL. A system call under way still ends; nothing else does. */
  kill(): void {
    this.exitStatus = 137
    this.link.killServer()
    this.#session.close()
  }

  /** Power failure. */
  crash(): void {
    this.isDead = true
    this.link.vanish()
    this.#session.close()
    this.#resolveDead()
  }

  #died(): void {
    this.isDead = true
    this.#resolveDead()
  }
}

/** Whoever the disk is served by; nothing that a dead one still does takes effect. */
export interface Life {
  readonly isDead: boolean
}

/** The model's disk as a back end of our SFTP server. */
export function backendOf(process: Life, options: ProcessOptions): SftpBackend {
  const { disk } = options
  const now = () => 1_700_000_000 + Math.floor(options.time.now() / 1000)
  const find = (path: string): DiskFile => {
    const file = disk.names.get(path)
    if (file === undefined) throw new BackendError('ENOENT')
    return file
  }
  const change = (file: DiskFile, changes: AttributeChanges) => {
    alive(process)
    if (changes.size !== undefined) file.setSize(changes.size, now())
    if (changes.permissions !== undefined) file.mode = 0o100_000 | changes.permissions
    if (changes.mtime !== undefined) file.mtime = changes.mtime
    if (changes.atime !== undefined) file.atime = changes.atime
  }
  const backend: SftpBackend = {
    open(path, flags, mode) {
      alive(process)
      const there = disk.names.get(path)
      if (there !== undefined && flags.create && flags.exclusive) throw new BackendError('EEXIST')
      if (there === undefined) {
        if (!flags.create) throw new BackendError('ENOENT')
        const file = disk.create(path, new Uint8Array(0), now())
        file.mode = 0o100_000 | mode
        return new OpenDiskFile(process, file, flags, options, change)
      }
      if ((there.mode & 0o600) === 0) throw new BackendError('EACCES')
      if (flags.truncate) there.setSize(0, now())
      return new OpenDiskFile(process, there, flags, options, change)
    },
    opendir: () => {
      throw new BackendError('ENOENT')
    },
    stat: (path) => statOf(find(path)),
    lstat: (path) => statOf(find(path)),
    setstat: (path, changes) => change(find(path), changes),
    remove(path) {
      alive(process)
      find(path).links--
      disk.names.delete(path)
    },
    mkdir: () => {
      throw new BackendError('EACCES')
    },
    rmdir: () => {
      throw new BackendError('ENOENT')
    },
    rename(oldPath, newPath) {
      alive(process)
      if (disk.names.has(newPath)) throw new BackendError('EEXIST')
      disk.names.set(newPath, find(oldPath))
      disk.names.delete(oldPath)
    },
    posixRename(oldPath, newPath) {
      alive(process)
      const file = find(oldPath)
      disk.names.delete(oldPath)
      const replaced = disk.names.get(newPath)
      if (replaced !== undefined) replaced.links--
      disk.names.set(newPath, file)
    },
    realpath: (path) => path,
    readlink: () => {
      throw new BackendError('EINVAL')
    },
    symlink: () => {
      throw new BackendError('EACCES')
    },
    statvfs: () => spaceOf(options),
  }
  return backend
}

function alive(process: Life): void {
  if (process.isDead) throw new BackendError('EIO')
}

function statOf(file: DiskFile): FileStat {
  return {
    size: file.bytes.length,
    permissions: file.mode,
    uid: 1000,
    gid: 1000,
    atime: file.atime,
    mtime: file.mtime,
    nlink: file.links,
  }
}

function spaceOf({ trouble }: ProcessOptions): FileSystemStat {
  const free = trouble.failingWrites.includes('ENOSPC') || wasFull.has(trouble) ? 0n : 1_000_000n
  return {
    bsize: 512n,
    frsize: 512n,
    blocks: 2_000_000n,
    bfree: free,
    bavail: free,
    files: 1000n,
    ffree: 1000n,
    favail: 1000n,
    fsid: 1n,
    flag: 0n,
    namemax: 255n,
  }
}

/** Machines whose last failed write failed for want of space. */
const wasFull = new WeakSet<DiskTrouble>()

class OpenDiskFile implements BackendFile {
  readonly file: DiskFile
  readonly #process: Life
  readonly #flags: BackendOpenFlags
  readonly #options: ProcessOptions
  readonly #change: (file: DiskFile, changes: AttributeChanges) => void
  /** Failures of the file's write-back that were before its time, or that it has told of. */
  #knownFailures: number

  constructor(
    process: Life,
    file: DiskFile,
    flags: BackendOpenFlags,
    options: ProcessOptions,
    change: (file: DiskFile, changes: AttributeChanges) => void,
  ) {
    this.file = file
    this.#process = process
    this.#flags = flags
    this.#options = options
    this.#change = change
    this.#knownFailures = file.knownFailures
  }

  async read(offset: number, into: Uint8Array): Promise<number> {
    if (!this.#flags.read) throw new BackendError('EBADF')
    const { trouble } = this.#options
    if (trouble.failingReads > 0) {
      trouble.failingReads--
      trouble.onRefusal('read')
      throw new BackendError('EIO')
    }
    const found = this.file.bytes.subarray(offset, offset + into.length)
    into.set(found)
    return found.length
  }

  async write(offset: number, from: Uint8Array): Promise<void> {
    if (!this.#flags.write) throw new BackendError('EBADF')
    const { time, trouble, random, onWrite } = this.#options
    const delay = trouble.writeMs()
    if (delay > 0) await time.sleep(delay)
    alive(this.#process)
    const failure = trouble.failingWrites.shift()
    if (failure === undefined) {
      wasFull.delete(trouble)
      this.file.write(offset, from, this.#now())
      onWrite?.(this.file, offset, from.length)
      return
    }
    trouble.onRefusal('write')
    if (failure === 'ENOSPC') wasFull.add(trouble)
    else wasFull.delete(trouble)
    const part = blockBytes * random.below(Math.floor(from.length / blockBytes) + 1)
    this.file.write(offset, from.subarray(0, part), this.#now())
    throw new BackendError(failure)
  }

  stat(): FileStat {
    return statOf(this.file)
  }

  setstat(changes: AttributeChanges): void {
    this.#change(this.file, changes)
  }

  async sync(): Promise<void> {
    const { time, trouble } = this.#options
    const point = this.file.beginSync()
    const delay = trouble.syncMs()
    if (delay > 0) await time.sleep(delay)
    alive(this.#process)
    if (trouble.failingSyncs > 0) {
      trouble.failingSyncs--
      this.file.syncFailed(point)
    } else this.file.synced(point)
    const known = this.#knownFailures
    this.#knownFailures = this.file.tellFailures()
    if (known === this.#knownFailures) return
    trouble.onRefusal('sync')
    throw new BackendError('EIO')
  }

  statvfs(): FileSystemStat {
    return spaceOf(this.#options)
  }

  sameFile(other: BackendFile): boolean {
    return other instanceof OpenDiskFile && other.file === this.file
  }

  async close(): Promise<void> {}

  #now(): number {
    return 1_700_000_000 + Math.floor(this.#options.time.now() / 1000)
  }
}
