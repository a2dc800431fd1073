// A local disk image as a block device: the other end of a copy, and the same layers without a network.

import { stat, unlink } from 'node:fs/promises'
import { quote } from '@sshblock/transport/errors'
import { findDeviceEnd } from './device-end.ts'
import { BlockDeviceError } from './errors.ts'
import { FileDevice } from './file-device.ts'
import type { DeviceBehaviour } from './file-device-options.ts'
import { checkSize, roundUpToBlock } from './layers/bounds.ts'
import { growFile } from './layers/file-size.ts'
import { storageErrorCode } from './layers/storage-error.ts'
import { fileKind, NodeRandomAccessFile } from './node-random-access-file.ts'
import type { FileKind } from './random-access-file.ts'

export interface FileDeviceOpenOptions extends DeviceBehaviour {
  /** Open for writing too. Default false. */
  writable?: boolean
  /** Bytes. Node does not tell the size of a block device: it is searched for by reading, unless given. */
  size?: number
}

export interface FileDeviceCreateOptions extends DeviceBehaviour {
  /** Bytes. */
  size: number
  /** Replace a file that exists. Default false: EEXIST. */
  overwrite?: boolean
  /** Take the size as it is. Default false: rounded up to whole blocks of 512 bytes. */
  exactSize?: boolean
  /** Permission bits of the new file, less the umask. Default 0o644. */
  mode?: number
}

/**
 * Opens a local disk image.
 * @throws BlockDeviceError ENOENT, EACCES, EISDIR, EINVAL (fifo, socket, wrong size), EIO.
 */
export async function openFileDevice(path: string, options: FileDeviceOpenOptions = {}): Promise<FileDevice> {
  const { writable = false, size: given } = options
  try {
    // By path first: opening a fifo waits for a writer.
    checkKind(path, fileKind(await stat(path)))
    const file = await NodeRandomAccessFile.open(path, writable ? 'r+' : 'r')
    try {
      const { kind, size } = await file.status()
      checkKind(path, kind)
      if (kind === 'file' && given !== undefined && given !== size) {
        throw new BlockDeviceError(
          'EINVAL',
          `cannot open ${quote(path)}: it has ${size} bytes, and "size" says ${given}`,
        )
      }
      return new FileDevice({
        ...options,
        files: [file],
        size:
          given ??
          (kind === 'block-device'
            ? await findDeviceEnd((offset) => file.read(offset, new Uint8Array(1)))
            : size) ??
          0,
        kind,
        readOnly: !writable,
        storageName: quote(path),
      })
    } catch (error) {
      await file.close()
      throw error
    }
  } catch (error) {
    throw pathError('open', path, error)
  }
}

/**
 * Creates a local disk image that reads as zeros and opens it for writing. A file made by a call that fails is removed.
 * @throws BlockDeviceError EEXIST, ENOENT (of the folder), EACCES, EISDIR, EINVAL, ENOSPC, EIO.
 */
export async function createFileDevice(path: string, options: FileDeviceCreateOptions): Promise<FileDevice> {
  const { overwrite = false, exactSize = false, mode = 0o644 } = options
  checkSize('create', options.size)
  const size = exactSize ? options.size : roundUpToBlock(options.size)
  try {
    const before = overwrite ? await stat(path).catch(() => undefined) : undefined
    if (before !== undefined && !before.isFile()) throw wrongKind(path, fileKind(before))
    const file = await NodeRandomAccessFile.open(path, overwrite ? 'w+' : 'wx+', mode)
    try {
      const { kind } = await file.status()
      if (size > 0) await growFile(file, 0, size)
      await file.sync()
      return new FileDevice({
        ...options,
        files: [file],
        size,
        kind,
        readOnly: false,
        fresh: true,
        storageName: quote(path),
      })
    } catch (error) {
      await file.close()
      if (before === undefined) await unlink(path).catch(() => {})
      throw error
    }
  } catch (error) {
    throw pathError('create', path, error)
  }
}

function checkKind(path: string, kind: FileKind): void {
  if (kind === 'directory' || kind === 'fifo' || kind === 'socket') throw wrongKind(path, kind)
}

function wrongKind(path: string, kind: FileKind): BlockDeviceError {
  const code = kind === 'directory' ? 'EISDIR' : 'EINVAL'
  return new BlockDeviceError(
    code,
    `cannot use ${quote(path)}: it is a ${kind.replace('-', ' ')}, and no disk image`,
  )
}

function pathError(what: string, path: string, error: unknown): BlockDeviceError {
  if (error instanceof BlockDeviceError) return error
  const reason = error instanceof Error ? error.message : String(error)
  return new BlockDeviceError(storageErrorCode(error), `cannot ${what} ${quote(path)}: ${reason}`, {
    cause: error,
  })
}
