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
    // A range beyond the source's end can be answered with OK though nothing was copied.
    const { size } = await source.stat()
    if (size !== copyPieceBytes)
      throw new BlockDeviceError('EIO', `the scratch file has ${size} bytes, not ${copyPieceBytes}`, {
        offset,
        length,
      })
    for (let done = 0; done < length; ) {
      signal?.throwIfAborted()
      const piece = Math.min(copyPieceBytes, length - done)
      await answered(
        sftp.copyData(
          { file: source, offset: 0, length: piece },
          { file: target.remote, offset: offset + done },
        ),
      )
      done += piece
    }
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
      return { sftp, target, source: await this.#scratch(sftp) }
    } catch {
      return await giveUp(sftp)
    }
  }

  async #scratch(sftp: SftpClient): Promise<RemoteFile> {
    const name = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) =>
      byte.toString(16).padStart(2, '0'),
    ).join('')
    const path = `${this.#options.path}.zeros-${name}`
    const source = await sftp.open(path, 'wx+', { mode: 0o600 })
    try {
      await source.truncate(copyPieceBytes)
    } finally {
      await sftp.unlink(path).catch((error: unknown) => {
        const reason = error instanceof SftpStatusError ? error.serverMessage : String(error)
        this.#options.onWarning(
          `the empty scratch file ${path} could not be removed on the server: ${reason}`,
        )
      })
    }
    return source
  }
}

// Closing the channel closes its handles.
async function giveUp(sftp: SftpClient | undefined): Promise<undefined> {
  await sftp?.close().catch(() => {})
  return undefined
}
