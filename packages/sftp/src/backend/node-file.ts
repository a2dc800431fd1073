// An open file of the host, by its descriptor. Reads and writes carry their offset, so any number may run at once.

import fs from 'node:fs'
import { statfs } from 'node:fs/promises'
import { promisify } from 'node:util'
import {
  type AttributeChanges,
  type Awaitable,
  BackendError,
  type BackendFile,
  type BackendOpenFlags,
  type FileStat,
  type FileSystemStat,
} from '../backend.ts'
import { closeDescriptor, fileStatOf, type HostPath } from './node-host-path.ts'

const fstat = promisify(fs.fstat) as (fd: number) => Promise<fs.Stats>
const fstatBig = promisify(fs.fstat) as (fd: number, options: { bigint: true }) => Promise<fs.BigIntStats>
const fsync = promisify(fs.fsync)

/** Tries every change, in OpenSSH's order; throws the first error when all were tried. */
export async function applyChanges(
  changes: AttributeChanges,
  apply: {
    truncate(size: number): Promise<void>
    chmod(mode: number): Promise<void>
    utimes(atime: number, mtime: number): Promise<void>
    chown(uid: number, gid: number): Promise<void>
  },
): Promise<void> {
  const errors: unknown[] = []
  const attempt = async (change: () => Promise<void>): Promise<void> => {
    try {
      await change()
    } catch (error) {
      errors.push(error)
    }
  }
  const { size, permissions, atime, mtime, uid, gid } = changes
  if (size !== undefined) await attempt(() => apply.truncate(size))
  if (permissions !== undefined) await attempt(() => apply.chmod(permissions))
  if (atime !== undefined && mtime !== undefined) await attempt(() => apply.utimes(atime, mtime))
  if (uid !== undefined && gid !== undefined) await attempt(() => apply.chown(uid, gid))
  if (errors.length > 0) throw errors[0]
}

export async function fileSystemStatOf(host: HostPath): Promise<FileSystemStat> {
  const { bsize, blocks, bfree, bavail, files, ffree } = await statfs(host, { bigint: true })
  // statfs(2) as Node gives it has neither an id nor flags.
  return {
    bsize,
    frsize: bsize,
    blocks,
    bfree,
    bavail,
    files,
    ffree,
    favail: ffree,
    fsid: 0n,
    flag: 0n,
    namemax: 255n,
  }
}

export interface NodeFileOptions {
  readonly flags: BackendOpenFlags
  /** Read and write without leaving the thread. */
  readonly synchronous: boolean
  /** Gives struct statvfs of the file's file system. */
  readonly statvfs: (descriptor: number) => Promise<FileSystemStat>
}

export class NodeFile implements BackendFile {
  readonly descriptor: number
  readonly #flags: BackendOpenFlags
  readonly #synchronous: boolean
  readonly #statvfs: (descriptor: number) => Promise<FileSystemStat>

  /** Takes over the descriptor. */
  constructor(descriptor: number, options: NodeFileOptions) {
    this.descriptor = descriptor
    this.#flags = options.flags
    this.#synchronous = options.synchronous
    this.#statvfs = options.statvfs
  }

  read(offset: number, into: Uint8Array): Awaitable<number> {
    if (this.#synchronous) return fs.readSync(this.descriptor, into, 0, into.length, offset)
    return new Promise((resolve, reject) => {
      fs.read(this.descriptor, into, 0, into.length, offset, (error, count) => {
        if (error === null) resolve(count)
        else reject(error)
      })
    })
  }

  write(offset: number, from: Uint8Array): Awaitable<void> {
    // Node does not ask the kernel about 0 bytes.
    if (!this.#flags.write) throw new BackendError('EBADF')
    if (offset + from.length > Number.MAX_SAFE_INTEGER) throw new BackendError('EFBIG')
    if (this.#synchronous) {
      for (let done = 0; done < from.length; ) {
        const count = fs.writeSync(
          this.descriptor,
          from,
          done,
          from.length - done,
          this.#position(offset + done),
        )
        if (count === 0) throw new BackendError('EIO')
        done += count
      }
      return undefined
    }
    return new Promise((resolve, reject) => this.#write(offset, from, 0, resolve, reject))
  }

  /** In append mode the kernel chooses the place. */
  #position(offset: number): number | null {
    return this.#flags.append ? null : offset
  }

  #write(
    offset: number,
    from: Uint8Array,
    done: number,
    resolve: () => void,
    reject: (error: Error) => void,
  ): void {
    fs.write(
      this.descriptor,
      from,
      done,
      from.length - done,
      this.#position(offset + done),
      (error, count) => {
        if (error !== null) reject(error)
        else if (done + count === from.length) resolve()
        else if (count === 0) reject(new BackendError('EIO'))
        // Short: a full disk says so at the next attempt.
        else this.#write(offset, from, done + count, resolve, reject)
      },
    )
  }

  async stat(): Promise<FileStat> {
    return fileStatOf(await fstat(this.descriptor))
  }

  setstat(changes: AttributeChanges): Promise<void> {
    const { descriptor } = this
    return applyChanges(changes, {
      truncate: (size) => promisify(fs.ftruncate)(descriptor, size),
      chmod: (mode) => promisify(fs.fchmod)(descriptor, mode),
      utimes: (atime, mtime) => promisify(fs.futimes)(descriptor, atime, mtime),
      chown: (uid, gid) => promisify(fs.fchown)(descriptor, uid, gid),
    })
  }

  sync(): Promise<void> {
    return fsync(this.descriptor)
  }

  statvfs(): Promise<FileSystemStat> {
    return this.#statvfs(this.descriptor)
  }

  async sameFile(other: BackendFile): Promise<boolean> {
    if (!(other instanceof NodeFile)) return false
    const [ours, theirs] = await Promise.all([
      fstatBig(this.descriptor, { bigint: true }),
      fstatBig(other.descriptor, { bigint: true }),
    ])
    return ours.ino === theirs.ino && ours.dev === theirs.dev
  }

  close(): Promise<void> {
    return closeDescriptor(this.descriptor)
  }
}
