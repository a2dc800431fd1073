// A local file as a random-access file.

import type { Stats } from 'node:fs'
import { type FileHandle, open, statfs } from 'node:fs/promises'
import type {
  AccessOptions,
  FileKind,
  FileStatus,
  FileSystemSpace,
  RandomAccessFile,
} from './random-access-file.ts'

/** Longest single read or write handed to the system, in bytes; it takes no more than 2 GiB at once. */
const maxPieceBytes = 1024 * 1024 * 1024

export class NodeRandomAccessFile implements RandomAccessFile {
  readonly canSync = true
  readonly #handle: FileHandle
  readonly #path: string

  private constructor(handle: FileHandle, path: string) {
    this.#handle = handle
    this.#path = path
  }

  /** Opens with flags of fs.open. Errors are the system's. */
  static async open(
    path: string,
    flags: 'r' | 'r+' | 'wx+' | 'w+',
    mode?: number,
  ): Promise<NodeRandomAccessFile> {
    return new NodeRandomAccessFile(await open(path, flags, mode), path)
  }

  async read(offset: number, into: Uint8Array, options: AccessOptions = {}): Promise<number> {
    let done = 0
    while (done < into.length) {
      const { bytesRead } = await this.#handle.read(
        into,
        done,
        Math.min(maxPieceBytes, into.length - done),
        offset + done,
      )
      if (bytesRead === 0) break
      done += bytesRead
      options.signal?.throwIfAborted()
    }
    return done
  }

  async write(offset: number, from: Uint8Array): Promise<number> {
    const { bytesWritten } = await this.#handle.write(from, 0, Math.min(maxPieceBytes, from.length), offset)
    return bytesWritten
  }

  async status(): Promise<FileStatus> {
    const stats = await this.#handle.stat()
    return { size: stats.size, kind: fileKind(stats) }
  }

  async setSize(size: number): Promise<void> {
    await this.#handle.truncate(size)
  }

  async sync(): Promise<void> {
    await this.#handle.sync()
  }

  async space(): Promise<FileSystemSpace> {
    const { bavail, bsize } = await statfs(this.#path)
    return { availableBytes: bavail * bsize }
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }
}

/** What a file of this machine is. */
export function fileKind(stats: Stats): FileKind {
  if (stats.isFile()) return 'file'
  if (stats.isDirectory()) return 'directory'
  if (stats.isFIFO()) return 'fifo'
  if (stats.isSocket()) return 'socket'
  if (stats.isBlockDevice()) return 'block-device'
  if (stats.isCharacterDevice()) return 'character-device'
  return stats.isSymbolicLink() ? 'symlink' : 'unknown'
}
