// The local side of a copy: whole reads and writes at a place, mode and times, opening and closing around its use.

import { type FileHandle, open } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { LocalDirectory } from './node-local-directory.ts'
import type { Stats } from './stats.ts'
import { transferError } from './transfer.ts'

/**
 * Opens a local file for reading while it is used.
 * @param remotePath for the error
 * @throws SftpTransferError 'ERR_SFTP_LOCAL' where it cannot be opened, and what `use` throws
 */
export async function withLocalFile<T>(
  localPath: string,
  remotePath: string,
  use: (file: FileHandle) => Promise<T>,
): Promise<T> {
  const file = await open(localPath, 'r').catch((error) => {
    throw transferError(error, remotePath, 0)
  })
  try {
    return await use(file)
  } finally {
    await file.close()
  }
}

/**
 * Opens the directory that a local file is to lie in while it is used.
 * @param remotePath for the error
 * @throws SftpTransferError 'ERR_SFTP_LOCAL' where it cannot be opened, and what `use` throws
 */
export async function withDirectoryOf<T>(
  localPath: string,
  remotePath: string,
  use: (directory: LocalDirectory, name: string) => Promise<T>,
): Promise<T> {
  const directory = await LocalDirectory.open(dirname(localPath)).catch((error) => {
    throw transferError(error, remotePath, 0)
  })
  try {
    return await use(directory, basename(localPath))
  } finally {
    await directory.close()
  }
}

/** Fills `into`; resolves to fewer bytes at the end of the file only. */
export async function readLocal(file: FileHandle, into: Uint8Array, offset: number): Promise<number> {
  let count = 0
  while (count < into.length) {
    const { bytesRead } = await file.read(into, count, into.length - count, offset + count)
    if (bytesRead === 0) break
    count += bytesRead
  }
  return count
}

/** Writes all of `bytes`. */
export async function writeLocal(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, at, bytes.length - at, offset + at)
    at += bytesWritten
  }
}

/** Permission bits that a copy gets. */
export function copiedMode(
  stats: { mode: number | undefined },
  allowSpecialModes: boolean,
): number | undefined {
  return stats.mode === undefined ? undefined : stats.mode & (allowSpecialModes ? 0o7777 : 0o777)
}

/** Gives a local copy the mode and times of the original. */
export async function applyLocally(
  file: FileHandle,
  stats: Stats,
  allowSpecialModes: boolean,
): Promise<void> {
  const mode = copiedMode(stats, allowSpecialModes)
  if (mode !== undefined) await file.chmod(mode)
  if (stats.atime !== undefined && stats.mtime !== undefined) await file.utimes(stats.atime, stats.mtime)
}
