// An open SFTP file as a random-access file. What it adds is knowledge of when a write is over: the SFTP client gives a
// cancelled or timed-out write up at once, though the server may still apply it; here a cancelled write is waited for, and
// one that was never answered is told apart from one that was refused.

import { type RemoteFile, type SftpClient, SftpStatusError, type Stats } from '@sshblock/sftp'
import { UsageError } from '@sshblock/transport/errors'
import {
  type AccessOptions,
  type FileStatus,
  type FileSystemSpace,
  OutcomeUnknownError,
  type RandomAccessFile,
  type WriteAccessOptions,
} from './random-access-file.ts'

const fsyncExtension = 'fsync@openssh.com'
const fstatvfsExtension = 'fstatvfs@openssh.com'

/** A write that can be cancelled goes out in parts of this many bytes, so many at a time. */
const cancellablePart = 1024 * 1024
const cancellableParts = 4

export class SftpFile implements RandomAccessFile {
  readonly canSync: boolean
  readonly remote: RemoteFile
  readonly #sftp: SftpClient

  constructor(sftp: SftpClient, remote: RemoteFile) {
    this.#sftp = sftp
    this.remote = remote
    this.canSync = canSync(sftp)
  }

  get roundTripMs(): number | undefined {
    return this.remote.roundTripMs
  }

  read(offset: number, into: Uint8Array, options: AccessOptions = {}): Promise<number> {
    return this.remote.read(offset, into, { signal: options.signal })
  }

  async write(offset: number, from: Uint8Array, options: WriteAccessOptions = {}): Promise<number> {
    const { signal, onSent } = options
    if (signal === undefined || from.length <= cancellablePart) await this.#send(offset, from, onSent)
    else await this.#sendParts(offset, from, signal, onSent)
    return from.length
  }

  async status(): Promise<FileStatus> {
    return fileStatus(await this.remote.stat())
  }

  async setSize(size: number): Promise<void> {
    await answered(this.remote.truncate(size))
  }

  async sync(): Promise<void> {
    await this.remote.sync()
  }

  async space(): Promise<FileSystemSpace | undefined> {
    if (!this.#sftp.supports(fstatvfsExtension)) return undefined
    const { availableBlocks, fragmentSize, readOnly } = await this.remote.statvfs()
    return { availableBytes: Number(availableBlocks * fragmentSize), readOnly }
  }

  async close(): Promise<void> {
    await this.remote.close()
  }

  // Without the caller's signal: a WRITE that left cannot be called back, and its range is not free before its answer.
  async #send(offset: number, from: Uint8Array, onSent: (() => void) | undefined): Promise<void> {
    const { sent, acknowledged } = this.remote.startWrite(offset, from)
    if (onSent !== undefined) void sent.then(onSent)
    await answered(acknowledged)
  }

  async #sendParts(
    offset: number,
    from: Uint8Array,
    signal: AbortSignal,
    onSent: (() => void) | undefined,
  ): Promise<void> {
    let next = 0
    let unsent = 0
    let firstError: unknown
    const stopped = () => next >= from.length || firstError !== undefined || signal.aborted
    const partSent = () => {
      if (--unsent === 0 && stopped()) onSent?.()
    }
    const sendOn = async () => {
      while (!stopped()) {
        const at = next
        next = Math.min(from.length, at + cancellablePart)
        unsent++
        try {
          await this.#send(offset + at, from.subarray(at, next), partSent)
        } catch (error) {
          firstError ??= error
        }
      }
    }
    const abort = () => {
      if (unsent === 0) onSent?.()
    }
    signal.addEventListener('abort', abort, { once: true })
    await Promise.all(Array.from({ length: cancellableParts }, sendOn))
    signal.removeEventListener('abort', abort)
    if (firstError !== undefined) throw firstError
    if (next < from.length) throw signal.reason
  }
}

/** Whether the server of this client can sync files. */
export function canSync(sftp: SftpClient): boolean {
  return sftp.supports(fsyncExtension, '1')
}

/** What the server tells of a file. */
export function fileStatus(stats: Stats): FileStatus {
  return { size: stats.size, kind: stats.type }
}

/** How often the proof is tried where something else changes the file's time meanwhile. */
const proofAttempts = 6

/**
 * Whether two handles, perhaps of different sessions, are of one file. SFTP v3 tells no inode number, and equal sizes and
 * contents prove nothing: so a time that nobody else would set is set through one and looked for through the other. Writes
 * meanwhile can hide the proof, never fake it. The time of change is the present one afterwards.
 */
export async function isSameFile(one: RemoteFile, other: RemoteFile): Promise<boolean> {
  const now = Math.floor(Date.now() / 1000)
  try {
    for (let attempt = 0; attempt < proofAttempts; attempt++) {
      const [random = 0] = crypto.getRandomValues(new Uint32Array(1))
      const mark = now - (random % 2 ** 28) - 86_400
      if ((await other.stat()).mtime === mark) continue
      await one.setstat({ atime: mark, mtime: mark })
      if ((await other.stat()).mtime === mark) return true
    }
    return false
  } finally {
    await one.setstat({ atime: now, mtime: now })
  }
}

/**
 * A request that changes something, sent without the caller's signal: what left cannot be called back.
 * @throws OutcomeUnknownError where no answer came; else what the server answered.
 */
export async function answered(request: Promise<void>): Promise<void> {
  try {
    await request
  } catch (error) {
    // A refusal is an answer, and misuse was never sent. All else means that nobody knows.
    if (error instanceof SftpStatusError || error instanceof UsageError) throw error
    throw new OutcomeUnknownError(error)
  }
}
