// Local files to and from the server: written beside their place as '.part', renamed over it when complete, resumed where
// an earlier try ended. A '.part' is trusted only as far as samples of it, read back from both sides, agree with the
// source; what was still in flight when the earlier try ended is sent again.

import type { FileHandle } from 'node:fs/promises'
import { open } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { equalBytes } from '@sshblock/transport/wire'
import { throwIfAborted } from './abort.ts'
import type { SftpClient } from './client.ts'
import { isMissing } from './directory.ts'
import type { RemoteFile } from './file.ts'
import { defaultMaxBytesInFlight } from './limits.ts'
import { LocalDirectory } from './node-local-directory.ts'
import type { Stats } from './stats.ts'
import {
  expectedBytes,
  readAheadOf,
  shrank,
  type TransferOptions,
  transferError,
  withFile,
} from './transfer.ts'
import { type LaneOptions, UploadLanes } from './transfer-lanes.ts'
import { chunkBytesFor, readAhead } from './transfer-read.ts'
import { PipelinedWriter, partBytes } from './transfer-write.ts'

export interface FileTransferOptions extends TransferOptions, LaneOptions {
  /** Go on behind what an earlier, interrupted try left in '.part', and leave it there when this one is interrupted. */
  resume?: boolean
  /** Give the copy the mode (without setuid, setgid and sticky) and times of the original. */
  preserve?: boolean
  /** fsync the copy before it gets its name; ENOTSUP where a server cannot. */
  sync?: boolean
  /** Let the mode's setuid, setgid and sticky bits pass with `preserve`. */
  allowSpecialModes?: boolean
}

export interface FileTransferResult {
  /** Size of the whole file. */
  readonly bytes: number
  /** Bytes of an earlier try that were kept. */
  readonly resumedFrom: number
}

const partSuffix = '.part'
const sampleBytes = 64 * 1024
/** The end of what is kept is where an interruption shows: compared in full. */
const overlapBytes = 1024 * 1024
const localBufferBytes = 4 * partBytes

/** READs gathered into one write to the disk at most, and as a part of what may be under way. */
const readsPerWrite = 4
const budgetPart = 8

/** Bytes that are read, and written to the disk, at once: a write costs a turn of Node's thread pool, whatever its size. */
function diskChunkBytes(maxReadBytes: number, budgetBytes: number): number {
  const chunk = chunkBytesFor(maxReadBytes)
  return chunk * Math.max(1, Math.min(readsPerWrite, Math.floor(budgetBytes / budgetPart / chunk)))
}

/** Buffers of chunks that are on the disk, for the next ones: memory that was used lately is faster than fresh memory. */
class ChunkBuffers {
  #free: Uint8Array[] = []

  take(length: number): Uint8Array {
    const free = this.#free[0]?.length === length ? this.#free.pop() : undefined
    return free ?? new Uint8Array(length)
  }

  /** Nobody else holds a view of its memory. */
  give(bytes: Uint8Array): void {
    if (bytes.length !== bytes.buffer.byteLength) return
    if (this.#free[0]?.length !== bytes.length) this.#free = []
    this.#free.push(bytes)
  }
}

/** Permission bits that a copy gets. */
export function copiedMode(
  stats: { mode: number | undefined },
  allowSpecialModes: boolean,
): number | undefined {
  return stats.mode === undefined ? undefined : stats.mode & (allowSpecialModes ? 0o7777 : 0o777)
}

export async function readLocal(file: FileHandle, into: Uint8Array, offset: number): Promise<number> {
  let count = 0
  while (count < into.length) {
    const { bytesRead } = await file.read(into, count, into.length - count, offset + count)
    if (bytesRead === 0) break
    count += bytesRead
  }
  return count
}

export async function writeLocal(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, at, bytes.length - at, offset + at)
    at += bytesWritten
  }
}

/** Whether the first `length` bytes of both files agree at the start, in the middle and at the end. */
async function samplesAgree(
  local: FileHandle,
  remote: RemoteFile,
  length: number,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const tail = Math.min(length, overlapBytes)
  const sample = Math.min(length, sampleBytes)
  const ranges = [
    [length - tail, tail],
    [0, sample],
    [Math.floor((length - sample) / 2), sample],
  ] as const
  for (const [offset, bytes] of ranges) {
    const ours = new Uint8Array(bytes)
    const theirs = new Uint8Array(bytes)
    const counts = await Promise.all([
      readLocal(local, ours, offset),
      remote.read(offset, theirs, { signal }),
    ])
    if (counts.some((count) => count < bytes) || !equalBytes(ours, theirs)) return false
  }
  return true
}

/**
 * Downloads `remotePath` to the local file `localPath`, replacing it when all is there.
 * @throws SftpTransferError with `transferredBytes` ('ERR_SFTP_LOCAL' where the local side failed,
 *   'ERR_SFTP_FILE_SHRANK'); SftpStatusError where the remote file cannot be opened; AbortedError.
 */
export async function getFile(
  client: SftpClient,
  remotePath: string,
  localPath: string,
  options: FileTransferOptions = {},
): Promise<FileTransferResult> {
  const directory = await LocalDirectory.open(dirname(localPath)).catch((error) => {
    throw transferError(error, remotePath, 0)
  })
  try {
    return await getInto(client, remotePath, directory, basename(localPath), options)
  } finally {
    await directory.close()
  }
}

/** `getFile` into an open directory. */
export async function getInto(
  client: SftpClient,
  remotePath: string,
  directory: LocalDirectory,
  name: string,
  options: FileTransferOptions,
): Promise<FileTransferResult> {
  const { signal, resume = false } = options
  const part = name + partSuffix
  return withFile(await client.open(remotePath, 'r', { signal }), async (remote) => {
    let at = 0
    try {
      const stats = await remote.stat({ signal })
      const expected = expectedBytes(stats, 0)
      const kept = resume ? await keptDownload(directory, part, remote, expected, signal) : undefined
      const resumedFrom = kept?.length ?? 0
      const local = kept?.file ?? (await directory.create(part))
      at = resumedFrom
      try {
        const end = expected ?? Number.MAX_SAFE_INTEGER
        const { budgetBytes } = readAheadOf(client)
        const chunkBytes = (): number => diskChunkBytes(client.limits.maxReadBytes, budgetBytes())
        const buffers = new ChunkBuffers()
        const place = (_offset: number, length: number): Uint8Array => buffers.take(length)
        for await (const { bytes, offset } of readAhead(remote, {
          budgetBytes,
          chunkBytes,
          place,
          start: at,
          end,
          signal,
        })) {
          await writeLocal(local, bytes, offset)
          buffers.give(bytes)
          at = offset + bytes.length
          options.onProgress?.({ transferredBytes: at, totalBytes: expected })
        }
        if (expected !== undefined && at < expected) throw shrank(remotePath, at, expected)
        if (options.preserve) await applyLocally(local, stats, options.allowSpecialModes ?? false)
        if (options.sync) await local.sync()
      } finally {
        await local.close()
      }
      await directory.rename(part, name)
      return { bytes: at, resumedFrom }
    } catch (error) {
      if (!resume) await directory.unlink(part).catch(() => {})
      throw transferError(error, remotePath, at)
    }
  })
}

/** The '.part' of an earlier try, cut to what can be trusted. */
async function keptDownload(
  directory: LocalDirectory,
  part: string,
  remote: RemoteFile,
  expected: number | undefined,
  signal: AbortSignal | undefined,
): Promise<{ file: FileHandle; length: number } | undefined> {
  if (expected === undefined) return undefined
  const file = await directory.reopen(part)
  if (file === undefined) return undefined
  try {
    const { size } = await file.stat()
    if (size > 0 && size <= expected && (await samplesAgree(file, remote, size, signal)))
      return { file, length: size }
  } catch (error) {
    await file.close()
    throw error
  }
  await file.close()
  return undefined
}

export async function applyLocally(
  file: FileHandle,
  stats: Stats,
  allowSpecialModes: boolean,
): Promise<void> {
  const mode = copiedMode(stats, allowSpecialModes)
  if (mode !== undefined) await file.chmod(mode)
  if (stats.atime !== undefined && stats.mtime !== undefined) await file.utimes(stats.atime, stats.mtime)
}

/**
 * Uploads the local file `localPath` to `remotePath`, replacing it when all is there.
 * @throws SftpTransferError with `transferredBytes`, as `getFile`; AbortedError.
 */
export async function putFile(
  client: SftpClient,
  localPath: string,
  remotePath: string,
  options: FileTransferOptions = {},
): Promise<FileTransferResult> {
  let local: FileHandle
  try {
    local = await open(localPath, 'r')
  } catch (error) {
    throw transferError(error, remotePath, 0)
  }
  try {
    return await putFrom(client, local, remotePath, options)
  } finally {
    await local.close()
  }
}

/** `putFile` from an open file. */
export async function putFrom(
  client: SftpClient,
  local: FileHandle,
  remotePath: string,
  options: FileTransferOptions,
): Promise<FileTransferResult> {
  const { signal, resume = false } = options
  const part = remotePath + partSuffix
  let resumedFrom = 0
  let writer: PipelinedWriter | undefined
  let lanes: UploadLanes | undefined
  let closing: Promise<void> | undefined
  try {
    const { size, mode, atimeMs, mtimeMs } = await local.stat()
    if (resume) resumedFrom = await keptUpload(client, local, part, size, signal)
    const remote = await client.open(
      part,
      { read: true, write: true, create: true, truncate: resumedFrom === 0 },
      { signal },
    )
    await withFile(remote, async () => {
      const onConfirmed = (bytes: number): void => {
        options.onProgress?.({ transferredBytes: resumedFrom + bytes, totalBytes: size })
      }
      lanes = new UploadLanes(remote, options)
      writer = new PipelinedWriter(lanes, resumedFrom, { signal, onConfirmed })
      try {
        const end = await sendLocal(local, resumedFrom, writer, signal)
        if (end < size) throw shrank(remotePath, end, size)
        await writer.finish()
        // Together with the first file, which is closed when this is left.
        closing = lanes.close()
        closing.catch(() => {})
        // An earlier try may have left more than the file has now.
        if (resumedFrom > 0) await remote.truncate(end, { signal })
      } catch (error) {
        await writer.finish().catch(() => {})
        await lanes.close().catch(() => {})
        throw error
      }
      if (options.preserve) {
        await remote.setstat({ permissions: mode & (options.allowSpecialModes ? 0o7777 : 0o777) }, { signal })
        await remote.setstat(
          { atime: Math.floor(atimeMs / 1000), mtime: Math.floor(mtimeMs / 1000) },
          { signal },
        )
      }
      if (options.sync) await remote.sync({ signal })
    })
    await closing
    await replace(client, part, remotePath, signal)
    await (lanes as UploadLanes | undefined)?.ended
    return { bytes: resumedFrom + (writer as PipelinedWriter | undefined)!.confirmedBytes, resumedFrom }
  } catch (error) {
    if (!resume) await client.unlink(part).catch(() => {})
    throw transferError(error, remotePath, resumedFrom + (writer?.confirmedBytes ?? 0))
  }
}

/** Sends the file from `start` to its end, reading the next buffer while one is sent. Returns where it ended. */
async function sendLocal(
  file: FileHandle,
  start: number,
  writer: PipelinedWriter,
  signal: AbortSignal | undefined,
): Promise<number> {
  const buffers = [new Uint8Array(localBufferBytes), new Uint8Array(localBufferBytes)] as const
  let at = start
  let reading = readLocal(file, buffers[0], at)
  for (let turn = 0; ; turn ^= 1) {
    const count = await reading
    if (count === 0) return at
    at += count
    reading = readLocal(file, buffers[turn ^ 1]!, at)
    try {
      throwIfAborted(signal, 'put')
      await writer.write(buffers[turn]!.subarray(0, count))
    } catch (error) {
      await reading.catch(() => {})
      throw error
    }
  }
}

/** How much of an earlier try's '.part' is kept: what was in flight when it ended may have holes, and is sent again. */
async function keptUpload(
  client: SftpClient,
  local: FileHandle,
  part: string,
  size: number,
  signal: AbortSignal | undefined,
): Promise<number> {
  let remote: RemoteFile
  try {
    remote = await client.open(part, 'r', { signal })
  } catch (error) {
    if (isMissing(error)) return 0
    throw error
  }
  return withFile(remote, async () => {
    const there = (await remote.stat({ signal })).size ?? 0
    const kept = Math.min(there, size) - defaultMaxBytesInFlight
    if (kept <= 0) return 0
    return (await samplesAgree(local, remote, kept, signal)) ? kept : 0
  })
}

/** Renames over an existing file, also where the server's only rename refuses to. */
export async function replace(
  client: SftpClient,
  from: string,
  to: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  try {
    await client.rename(from, to, { signal })
  } catch (error) {
    if (client.supports('posix-rename@openssh.com', '1')) throw error
    const there = await client.lstat(to, { signal }).catch(() => undefined)
    if (there === undefined || there.isDirectory()) throw error
    await client.unlink(to, { signal })
    await client.rename(from, to, { signal })
  }
}
