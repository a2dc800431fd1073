// A local file as one of the server: written beside its place as '.part', renamed over it when complete, resumed where an
// earlier try ended: behind what samples, read back from both sides, prove to be there, less what was in flight then.

import type { FileHandle } from 'node:fs/promises'
import { throwIfAborted } from './abort.ts'
import type { SftpClient } from './client.ts'
import { isMissing } from './directory.ts'
import type { RemoteFile } from './file.ts'
import { defaultMaxBytesInFlight } from './limits.ts'
import { samplesAgree } from './node-agreement.ts'
import { applyRemoteMode, newCopyMode, replacedRemoteMode } from './node-copy-mode.ts'
import { copiedMode, readLocal, withLocalFile } from './node-local-file.ts'
import { type FileTransferOptions, type FileTransferResult, partSuffix } from './node-transfer-options.ts'
import { shrank, transferError } from './transfer.ts'
import { UploadLanes } from './transfer-lanes.ts'
import { PipelinedWriter, partBytes } from './transfer-write.ts'
import { withFile } from './with-file.ts'

const localBufferBytes = 4 * partBytes

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
  return withLocalFile(localPath, remotePath, (local) => putFrom(client, local, remotePath, options))
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
    const [remote, replacedMode] = await Promise.all([
      client.open(
        part,
        { read: true, write: true, create: true, truncate: resumedFrom === 0 },
        { mode: newCopyMode(mode), signal },
      ),
      replacedRemoteMode(client, remotePath, signal),
    ])
    await withFile(remote, async () => {
      await applyRemoteMode(remote, replacedMode, signal)
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
        await remote.setstat(
          { permissions: copiedMode({ mode }, options.allowSpecialModes ?? false)! },
          { signal },
        )
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
