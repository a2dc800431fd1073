// Paths of the host, as node:fs takes them: text where it is UTF-8, else bytes. Raw file descriptors, promised.

import fs from 'node:fs'
import { promisify } from 'node:util'
import type { FileStat } from '../backend.ts'
import { needsBytes, pathBytes, pathText } from '../path-text.ts'

/** A path of the host. */
export type HostPath = string | Buffer

export function hostPath(text: string): HostPath {
  return needsBytes(text) ? Buffer.from(pathBytes(text)) : text
}

/** Not in fs.constants: the same on every platform of Linux that Node runs on (asm-generic/fcntl.h). */
export const O_PATH = 0o10000000

// Windows has neither.
export const O_NOFOLLOW = fs.constants.O_NOFOLLOW ?? 0
export const O_DIRECTORY = fs.constants.O_DIRECTORY ?? 0
/** Opening a FIFO must not hold a thread for ever, nor a terminal become ours. */
export const O_HARMLESS = (fs.constants.O_NONBLOCK ?? 0) | (fs.constants.O_NOCTTY ?? 0)

export const openDescriptor = promisify(fs.open) as (
  path: HostPath,
  flags: number,
  mode?: number,
) => Promise<number>
export const closeDescriptor = promisify(fs.close)

const readlinkBytes = promisify(fs.readlink) as (
  path: HostPath,
  options: { encoding: 'buffer' },
) => Promise<Buffer>

/** What a symbolic link holds. */
export async function readLink(path: HostPath): Promise<string> {
  return pathText(await readlinkBytes(path, { encoding: 'buffer' }))
}

/** The error's code where it is one of these. */
export function isCode(error: unknown, ...codes: string[]): boolean {
  return codes.includes((error as { code?: string }).code ?? '')
}

export function fileStatOf(stats: fs.Stats): FileStat {
  const { size, mode, uid, gid, atimeMs, mtimeMs, nlink } = stats
  return { size, permissions: mode, uid, gid, atime: atimeMs / 1000, mtime: mtimeMs / 1000, nlink }
}
