// Files to and from the server that survive lost connections: after a loss they go on over a new connection, behind what is
// proved to be there, until all is done. A copy gets its name only when it is whole; a file that changed while it was copied
// is copied anew.
// What makes that more than "go on at the size of the '.part'":
//   - A server may forget, when it goes down, what it acknowledged; so a put goes on behind its last fsync only, and where
//     there is none reads back what is there and compares all of it.
//   - A server that lost its client may still do later what it had been told, also beside a new session. So nothing is ever
//     asked for that would hurt then: no TRUNC, no SETSTAT of a size, CREAT with EXCL only, and bytes are written to a place
//     of a '.part' only once or again the same; a copy that begins anew gets a '.part' of another name.
// Times of SFTP version 3 are whole seconds: a change of the source in the second of its last look goes unnoticed.

import type { FileHandle } from 'node:fs/promises'
import { UsageError } from '@sshblock/transport/errors'
import type { SftpClient } from './client.ts'
import { SftpStatusError } from './errors.ts'
import { createLocalCopy } from './node-copy-mode.ts'
import type { LocalDirectory } from './node-local-directory.ts'
import { withDirectoryOf, withLocalFile } from './node-local-file.ts'
import { Download } from './node-resuming-get.ts'
import type { ResumingTransferOptions, ResumingTransferResult } from './node-resuming-options.ts'
import { Upload } from './node-resuming-put.ts'
import { partSuffix } from './node-transfer-options.ts'
import { transferError } from './transfer.ts'
import { RetriedTransfer } from './transfer-retry.ts'

const defaultSyncEveryBytes = 64 * 1024 * 1024

/**
 * Downloads `remotePath` to the local file `localPath`, replacing it when all is there, over as many connections as it takes.
 * Where the file at `remotePath` is another one after a loss (by size, time, and compared bytes), or changed while it was
 * read, the copy begins anew. What was received lies in `localPath` + '.part', which is removed when the transfer fails.
 * @param client for the first connection. It is not closed, nor are those that `reconnect` gives.
 * @throws SftpTransferError with `transferredBytes` and the code of its cause: when patience is over, the loss; what
 *   `reconnect` rejected with; 'ERR_SFTP_LOCAL' where the local side failed; 'ERR_SFTP_FILE_CHANGED' where the file never
 *   stood still. SftpStatusError where the remote file cannot be opened. AbortedError.
 */
export async function getFileResuming(
  client: SftpClient,
  remotePath: string,
  localPath: string,
  options: ResumingTransferOptions,
): Promise<ResumingTransferResult> {
  return withDirectoryOf(localPath, remotePath, (directory, name) =>
    getIntoResuming(client, remotePath, directory, name, options),
  )
}

/** `getFileResuming` into an open directory. */
export async function getIntoResuming(
  client: SftpClient,
  remotePath: string,
  directory: LocalDirectory,
  name: string,
  options: ResumingTransferOptions,
): Promise<ResumingTransferResult> {
  let at = 0
  try {
    const part = name + partSuffix
    const make = (mode: number | undefined) => createLocalCopy(directory, part, name, mode)
    const download = new Download(remotePath, make, options)
    try {
      const transfer = new RetriedTransfer(client, options, options.signal)
      await transfer.run(
        (current) => download.goOn(current),
        () => download.progress,
      )
      at = download.at
      if (options.sync) await download.local?.sync()
      await download.local?.close()
      await directory.rename(part, name)
      return { bytes: at, resumedFrom: 0, retries: transfer.retries, restarts: download.restarts }
    } catch (error) {
      at = download.at
      if (download.local !== undefined) {
        await download.local.close().catch(() => {})
        await directory.unlink(part).catch(() => {})
      }
      throw error
    }
  } catch (error) {
    throw error instanceof SftpStatusError && at === 0 ? error : transferError(error, remotePath, at)
  }
}

/**
 * Uploads the local file `localPath` to `remotePath`, replacing it when all is there, over as many connections as it takes.
 * What was sent lies in `remotePath` + '.part' (after a change of the source '.part1', ...), which is removed when the
 * transfer fails and the server can be reached. After a loss it goes on behind the last fsync; on a server without
 * fsync@openssh.com what is there is read back and compared in full first.
 * @param client for the first connection. It is not closed, nor are those that `reconnect` gives.
 * @throws as getFileResuming. SftpStatusError where a '.part' cannot be made, or the server refuses a write or an fsync (as
 *   `cause` of an SftpTransferError once bytes were sent).
 */
export async function putFileResuming(
  client: SftpClient,
  localPath: string,
  remotePath: string,
  options: ResumingTransferOptions,
): Promise<ResumingTransferResult> {
  return withLocalFile(localPath, remotePath, (local) => putFromResuming(client, local, remotePath, options))
}

/** `putFileResuming` from an open file. */
export async function putFromResuming(
  client: SftpClient,
  local: FileHandle,
  remotePath: string,
  options: ResumingTransferOptions,
): Promise<ResumingTransferResult> {
  const { syncEveryBytes = defaultSyncEveryBytes } = options
  if (!(syncEveryBytes > 0)) throw new UsageError(`syncEveryBytes must be above 0, got ${syncEveryBytes}`)
  const put = new Upload(local, remotePath, syncEveryBytes, options)
  try {
    const transfer = new RetriedTransfer(client, options, options.signal)
    const bytes = await transfer.run(
      (current) => put.goOn(current),
      () => put.progress,
    )
    return { bytes, resumedFrom: 0, retries: transfer.retries, restarts: put.restarts }
  } catch (error) {
    await put.removePart().catch(() => {})
    throw error instanceof SftpStatusError && put.confirmed === 0
      ? error
      : transferError(error, remotePath, put.confirmed)
  }
}
