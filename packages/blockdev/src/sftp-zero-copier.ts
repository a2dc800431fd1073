// Zeros that never cross the wire: copy-data (OpenSSH PROTOCOL, draft-ietf-secsh-filexfer-extensions-00 s7) from an empty,
// sparse scratch file on the server. On an SFTP channel of its own, because a copy blocks everything behind it, and with
// its own handle of the image. The scratch file loses its name as soon as it is open.
// "Cannot" is an answer here, never an error: zeros on the wire always work.

import { type RemoteFile, type SftpClient, SftpStatusError } from '@sshblock/sftp'
import { BlockDeviceError } from './errors.ts'
import type { ZeroCopier } from './layers/zeroing.ts'
import { answered, SftpFile } from './sftp-file.ts'

/** Longest piece of one copy-data, in bytes: a server does nothing else on the channel meanwhile. */
export const copyPieceBytes = 16 * 1024 * 1024

export interface ZeroCopierOptions {
  /** Path of the image. */
  path: string
  /** One more SFTP channel to the same server; the copier closes it. */
  openChannel: () => Promise<SftpClient>
  /** Where a scratch file could not be removed. */
  onWarning: (message: string) => void
}

interface Prepared {
  readonly sftp: SftpClient
  readonly target: SftpFile
  readonly source: RemoteFile
}

export class SftpZeroCopier implements ZeroCopier {
  readonly #options: ZeroCopierOptions
  #prepared: Promise<Prepared | undefined> | undefined

  constructor(options: ZeroCopierOptions) {
    this.#options = options
  }

  async prepare(isImage: (handle: SftpFile) => Promise<boolean>): Promise<SftpFile | undefined> {
    this.#prepared ??= this.#prepare(isImage)
    return (await this.#prepared)?.target
  }

  async copy(offset: number, length: number, signal: AbortSignal | undefined): Promise<void> {
    const prepared = await this.#prepared
    if (prepared === undefined)
      throw new BlockDeviceError('ENOTSUP', 'this server cannot copy zeros', { offset, length })
    const { sftp, source, target } = prepared
    await copyZeros(sftp, source, target.remote, offset, length, signal)
  }

  async close(): Promise<void> {
    const prepared = await this.#prepared
    if (prepared === undefined) return
    const { sftp, source, target } = prepared
    try {
      await target.close()
      await source.close()
    } finally {
      await sftp.close()
    }
  }

  async #prepare(isImage: (handle: SftpFile) => Promise<boolean>): Promise<Prepared | undefined> {
    let sftp: SftpClient | undefined
    try {
      sftp = await this.#options.openChannel()
      if (!sftp.supports('copy-data', '1')) return await giveUp(sftp)
      const target = new SftpFile(sftp, await sftp.open(this.#options.path, 'r+'))
      if (!(await isImage(target))) return await giveUp(sftp)
      const { path, onWarning } = this.#options
      return { sftp, target, source: await scratchFile(sftp, path, onWarning) }
    } catch {
      return await giveUp(sftp)
    }
  }
}

/**
 * Zeroes a range by copying from a scratch file, in pieces.
 * @throws OutcomeUnknownError where no answer came; BlockDeviceError, SftpStatusError.
 */
export async function copyZeros(
  sftp: SftpClient,
  source: RemoteFile,
  target: RemoteFile,
  offset: number,
  length: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  // A range beyond the source's end can be answered with OK though nothing was copied.
  const { size } = await source.stat()
  if (size !== copyPieceBytes) {
    const message = `the scratch file has ${size} bytes, not ${copyPieceBytes}`
    throw new BlockDeviceError('EIO', message, { offset, length })
  }
  for (let done = 0; done < length; ) {
    signal?.throwIfAborted()
    const piece = Math.min(copyPieceBytes, length - done)
    const from = { file: source, offset: 0, length: piece }
    await answered(sftp.copyData(from, { file: target, offset: offset + done }))
    done += piece
  }
}

/** An empty, sparse file of `copyPieceBytes` beside the image, open and without a name. */
export async function scratchFile(
  sftp: SftpClient,
  path: string,
  onWarning: (message: string) => void,
): Promise<RemoteFile> {
  const random = crypto.getRandomValues(new Uint8Array(8))
  const name = Array.from(random, (byte) => byte.toString(16).padStart(2, '0')).join('')
  const scratch = `${path}.zeros-${name}`
  const source = await sftp.open(scratch, 'wx+', { mode: 0o600 })
  try {
    await source.truncate(copyPieceBytes)
  } finally {
    await sftp.unlink(scratch).catch((error: unknown) => {
      const reason = error instanceof SftpStatusError ? error.serverMessage : String(error)
      onWarning(`the empty scratch file ${scratch} could not be removed on the server: ${reason}`)
    })
  }
  return source
}

// Closing the channel closes its handles.
async function giveUp(sftp: SftpClient | undefined): Promise<undefined> {
  await sftp?.close().catch(() => {})
  return undefined
}
