// A file of the server as a local one: written beside its place as '.part', renamed over it when complete, resumed where an
// earlier try ended. A '.part' is trusted only as far as samples of it, read back from both sides, agree with the source.

import type { FileHandle } from 'node:fs/promises'
import type { SftpClient } from './client.ts'
import type { RemoteFile } from './file.ts'
import { samplesAgree } from './node-agreement.ts'
import { createLocalCopy } from './node-copy-mode.ts'
import type { LocalDirectory } from './node-local-directory.ts'
import { applyLocally, withDirectoryOf, writeLocal } from './node-local-file.ts'
import { type FileTransferOptions, type FileTransferResult, partSuffix } from './node-transfer-options.ts'
import { expectedBytes, readAheadOf, shrank, transferError } from './transfer.ts'
import { chunkBytesFor, emptyFileBytes, readAhead } from './transfer-read.ts'
import { withFile } from './with-file.ts'

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
  return withDirectoryOf(localPath, remotePath, (directory, name) =>
    getInto(client, remotePath, directory, name, options),
  )
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
      const local = kept?.file ?? (await createLocalCopy(directory, part, name, stats.mode))
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
          firstBytes: expected === undefined ? emptyFileBytes : undefined,
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
