// A local directory that is written to by names from a server. It is held open, and everything is done relative to the
// open directory, so that a symbolic link that somebody plants or swaps meanwhile leads nowhere. Node has no openat():
// on Linux /proc/self/fd does its work without a gap; elsewhere the directory's identity is checked before each step,
// which leaves a moment to a local attacker who may write there.

import { constants } from 'node:fs'
import { type FileHandle, lstat, mkdir, open, rename, rmdir, stat, symlink, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { SshError } from '@sshblock/transport/errors'

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_RDONLY, O_RDWR } = constants
/** Absent on Windows, where links need rights that few have. */
const noFollow = O_NOFOLLOW ?? 0

export class LocalDirectory {
  /** For people. */
  readonly path: string
  /** Undefined where directories cannot be opened. */
  readonly #handle: FileHandle | undefined
  readonly #device: number
  readonly #inode: number

  private constructor(path: string, handle: FileHandle | undefined, identity: { dev: number; ino: number }) {
    this.path = path
    this.#handle = handle
    this.#device = identity.dev
    this.#inode = identity.ino
  }

  /** The directory that the user named; links in its own path are the user's business. */
  static async open(path: string): Promise<LocalDirectory> {
    if (process.platform === 'win32') return new LocalDirectory(path, undefined, await stat(path))
    const handle = await open(path, O_RDONLY | O_DIRECTORY)
    return new LocalDirectory(path, handle, await handle.stat())
  }

  /** Path of an entry that is resolved from the open directory. `name` is one component. */
  async #entry(name: string): Promise<string> {
    if (this.#handle !== undefined && process.platform === 'linux')
      return `/proc/self/fd/${this.#handle.fd}/${name}`
    const now = await lstat(this.path)
    if (now.dev !== this.#device || now.ino !== this.#inode) {
      throw new SshError('ERR_SFTP_LOCAL', `${this.path} was replaced while it was written to`)
    }
    return join(this.path, name)
  }

  /** The directory `name` in this one, made where it does not exist. A symbolic link to one is refused. */
  async child(name: string, mode = 0o777): Promise<LocalDirectory> {
    const entry = await this.#entry(name)
    await mkdir(entry, { mode }).catch((error) => {
      if (error.code !== 'EEXIST') throw error
    })
    const path = join(this.path, name)
    const there = await lstat(entry)
    if (!there.isDirectory()) throw new SshError('ERR_SFTP_LOCAL', `${path} exists and is not a directory`)
    if (this.#handle === undefined) return new LocalDirectory(path, undefined, there)
    // Between lstat and here it may have become a link: O_NOFOLLOW refuses that.
    const handle = await open(entry, O_RDONLY | O_DIRECTORY | noFollow)
    return new LocalDirectory(path, handle, await handle.stat())
  }

  /** Makes a new file, in place of what has the name unless that is a directory. */
  async create(name: string, mode = 0o666): Promise<FileHandle> {
    const entry = await this.#entry(name)
    const flags = O_RDWR | O_CREAT | O_EXCL | noFollow
    try {
      return await open(entry, flags, mode)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
    await unlink(entry)
    return open(entry, flags, mode)
  }

  /** Permission bits (without setuid, setgid and sticky) of a regular file; undefined where there is none. */
  async modeOf(name: string): Promise<number | undefined> {
    try {
      const stats = await lstat(await this.#entry(name))
      return stats.isFile() ? stats.mode & 0o777 : undefined
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw error
    }
  }

  /** An existing regular file for reading and writing, undefined where there is none. */
  async reopen(name: string): Promise<FileHandle | undefined> {
    let handle: FileHandle
    try {
      // O_NONBLOCK: a fifo that has the name must not hold us up.
      handle = await open(await this.#entry(name), O_RDWR | noFollow | (constants.O_NONBLOCK ?? 0))
    } catch {
      return undefined
    }
    const stats = await handle.stat()
    if (stats.isFile()) return handle
    await handle.close()
    return undefined
  }

  async rename(from: string, to: string): Promise<void> {
    await rename(await this.#entry(from), await this.#entry(to))
  }

  async unlink(name: string): Promise<void> {
    await unlink(await this.#entry(name))
  }

  async rmdir(name: string): Promise<void> {
    await rmdir(await this.#entry(name))
  }

  /** Makes a symbolic link; fails where the name exists. */
  async symlink(target: string, name: string): Promise<void> {
    await symlink(target, await this.#entry(name))
  }

  /** Sets the directory's own mode and times, in seconds. */
  async setAttributes(
    mode: number | undefined,
    times: { atime: number; mtime: number } | undefined,
  ): Promise<void> {
    if (this.#handle === undefined) return
    if (mode !== undefined) await this.#handle.chmod(mode)
    if (times !== undefined) await this.#handle.utimes(times.atime, times.mtime)
  }

  async close(): Promise<void> {
    await this.#handle?.close()
  }
}
