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
import { open } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { UsageError } from '@sshblock/transport/errors'
import { equalBytes } from '@sshblock/transport/wire'
import { throwIfAborted } from './abort.ts'
import type { SftpClient } from './client.ts'
import { isMissing } from './directory.ts'
import { SftpStatusError, SftpTransferError } from './errors.ts'
import type { RemoteFile } from './file.ts'
import {
  applyLocally,
  type FileTransferOptions,
  type FileTransferResult,
  readLocal,
  replace,
  writeLocal,
} from './node-files.ts'
import { LocalDirectory } from './node-local-directory.ts'
import type { Stats } from './stats.ts'
import { expectedBytes, readAheadOf, shrank, transferError, withFile } from './transfer.ts'
import { type LaneClient, UploadLanes } from './transfer-lanes.ts'
import { readAhead } from './transfer-read.ts'
import { RetriedTransfer, type RetryOptions } from './transfer-retry.ts'
import { PipelinedWriter } from './transfer-write.ts'

export interface ResumingTransferOptions
  extends Omit<FileTransferOptions, 'resume' | 'openChannel'>,
    RetryOptions {
  /** Opens one more SFTP channel on the connection of `client`, which may be one that `reconnect` gave; see PutOptions. */
  openChannel?: ((client: SftpClient) => Promise<LaneClient>) | undefined
  /** A put asks the server for an fsync each time so many bytes were acknowledged since the last. Default 64 MiB. */
  syncEveryBytes?: number
}

export interface ResumingTransferResult extends FileTransferResult {
  /** Times that it went on after a loss. */
  readonly retries: number
  /** Times that it began anew because its source changed, or because what was there could not be trusted. */
  readonly restarts: number
}

const partSuffix = '.part'
/** The end of what is kept is where an interruption shows: compared in full. */
const overlapBytes = 1024 * 1024
/** Samples compared elsewhere, evenly spread, and the bytes of each. */
const sampleCount = 16
const sampleBytes = 4096
const compareBytes = 1024 * 1024
const sendBytes = 1024 * 1024
const defaultSyncEveryBytes = 64 * 1024 * 1024
/** A source that changes more often than this while it is copied is not copied. */
const maxRestarts = 5

/** The source is another one than the copy began with, or what is there of the copy is not what was sent: begin anew. */
class Outdated extends Error {}

function changed(path: string, transferredBytes: number): SftpTransferError {
  return new SftpTransferError(
    'ERR_SFTP_FILE_CHANGED',
    `the file changed ${maxRestarts + 1} times while it was copied`,
    path,
    transferredBytes,
  )
}

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
  const directory = await LocalDirectory.open(dirname(localPath)).catch((error) => {
    throw transferError(error, remotePath, 0)
  })
  const name = basename(localPath)
  let at = 0
  try {
    const local = await directory.create(name + partSuffix)
    const download = new Download(remotePath, local, options)
    try {
      const transfer = new RetriedTransfer(client, options, options.signal)
      await transfer.run(
        (current) => download.goOn(current),
        () => download.progress,
      )
      at = download.at
      if (options.sync) await local.sync()
      await local.close()
      await directory.rename(name + partSuffix, name)
      return { bytes: at, resumedFrom: 0, retries: transfer.retries, restarts: download.restarts }
    } catch (error) {
      at = download.at
      await local.close().catch(() => {})
      await directory.unlink(name + partSuffix).catch(() => {})
      throw error
    }
  } catch (error) {
    throw error instanceof SftpStatusError && at === 0 ? error : transferError(error, remotePath, at)
  } finally {
    await directory.close()
  }
}

class Download {
  readonly #path: string
  readonly #local: FileHandle
  readonly #options: ResumingTransferOptions
  /** The file that the copy began with. */
  #source: Stats | undefined
  /** Bytes that are there, without a gap. */
  at = 0
  restarts = 0
  /** Bytes received, those of a copy that was given up included. */
  progress = 0

  constructor(path: string, local: FileHandle, options: ResumingTransferOptions) {
    this.#path = path
    this.#local = local
    this.#options = options
  }

  async goOn(client: SftpClient): Promise<void> {
    for (;;) {
      try {
        return await this.#attempt(client)
      } catch (error) {
        if (!(error instanceof Outdated)) throw error
        await this.#beginAnew()
      }
    }
  }

  async #beginAnew(): Promise<void> {
    if (++this.restarts > maxRestarts) throw changed(this.#path, this.at)
    this.#source = undefined
    this.at = 0
    await this.#local.truncate(0)
  }

  async #attempt(client: SftpClient): Promise<void> {
    const { signal, onProgress } = this.#options
    await withFile(await client.open(this.#path, 'r', { signal }), async (remote) => {
      const stats = await remote.stat({ signal })
      const expected = expectedBytes(stats, 0)
      if (this.#source !== undefined) await this.#checkKept(remote, stats)
      this.#source = stats
      const ahead = readAhead(remote, {
        ...readAheadOf(client),
        start: this.at,
        end: expected ?? Number.MAX_SAFE_INTEGER,
        signal,
      })
      for await (const { bytes, offset } of ahead) {
        await writeLocal(this.#local, bytes, offset)
        this.at = offset + bytes.length
        this.progress += bytes.length
        onProgress?.({ transferredBytes: this.at, totalBytes: expected })
      }
      if (!isSameVersion(stats, await remote.stat({ signal }))) throw new Outdated()
      if (expected !== undefined && this.at < expected) throw shrank(this.#path, this.at, expected)
      if (this.#options.preserve)
        await applyLocally(this.#local, stats, this.#options.allowSpecialModes ?? false)
    })
  }

  /** What was received before the loss belongs to the file that is there now. */
  async #checkKept(remote: RemoteFile, stats: Stats): Promise<void> {
    const known = this.#source!
    // Without a size and a time nobody can tell.
    if (stats.size === undefined || stats.mtime === undefined || !isSameVersion(known, stats))
      throw new Outdated()
    if (expectedBytes(stats, 0) === undefined) throw new Outdated()
    if (!(await samplesAgree(this.#local, remote, this.at, this.#options.signal))) throw new Outdated()
  }
}

function isSameVersion(one: Stats, other: Stats): boolean {
  return one.size === other.size && one.mtime === other.mtime && one.type === other.type
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
  const { syncEveryBytes = defaultSyncEveryBytes } = options
  if (!(syncEveryBytes > 0)) throw new UsageError(`syncEveryBytes must be above 0, got ${syncEveryBytes}`)
  let local: FileHandle
  try {
    local = await open(localPath, 'r')
  } catch (error) {
    throw transferError(error, remotePath, 0)
  }
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
  } finally {
    await local.close()
  }
}

interface LocalVersion {
  readonly size: number
  readonly mtimeNs: bigint
  readonly ctimeNs: bigint
}

class Upload {
  readonly #local: FileHandle
  readonly #path: string
  readonly #syncEveryBytes: number
  readonly #options: ResumingTransferOptions
  #source: LocalVersion | undefined
  #client: SftpClient | undefined
  /** The '.part' was made by this transfer. */
  #hasPart = false
  /** Behind a loss, the '.part' is whole and was to be renamed. */
  #renaming = false
  /** Bytes from the start that are on stable storage, and those that were acknowledged. */
  #durable = 0
  confirmed = 0
  restarts = 0
  progress = 0

  constructor(local: FileHandle, path: string, syncEveryBytes: number, options: ResumingTransferOptions) {
    this.#local = local
    this.#path = path
    this.#syncEveryBytes = syncEveryBytes
    this.#options = options
  }

  get #part(): string {
    return this.#path + partSuffix + (this.restarts === 0 ? '' : String(this.restarts))
  }

  /** Returns the bytes of the whole file. */
  async goOn(client: SftpClient): Promise<number> {
    this.#client = client
    for (;;) {
      try {
        return await this.#attempt(client)
      } catch (error) {
        if (!(error instanceof Outdated)) throw error
        await this.#beginAnew()
      }
    }
  }

  async removePart(): Promise<void> {
    if (this.#hasPart) await this.#client?.unlink(this.#part)
  }

  async #beginAnew(): Promise<void> {
    if (this.restarts >= maxRestarts) throw changed(this.#path, this.confirmed)
    // Also so that a rename of it that the server still has before it finds nothing.
    await this.removePart().catch((error: unknown) => {
      if (!isMissing(error)) throw error
    })
    this.restarts++
    this.#source = undefined
    this.#hasPart = this.#renaming = false
    this.#durable = this.confirmed = 0
  }

  async #attempt(client: SftpClient): Promise<number> {
    const { signal } = this.#options
    const now = await versionOf(this.#local)
    if (this.#source !== undefined && !isSameLocal(this.#source, now)) throw new Outdated()
    this.#source = now
    if (this.#renaming && (await this.#wasRenamed(client, now.size))) return now.size
    const file = this.#hasPart ? await this.#reopen(client) : await this.#make(client)
    await withFile(file, async (remote) => {
      const start = this.#hasPart ? await this.#keptBytes(client, remote, now.size) : 0
      this.#hasPart = true
      await this.#send(client, remote, start, now.size)
      await this.#finish(remote)
    })
    if (!isSameLocal(now, await versionOf(this.#local))) throw new Outdated()
    this.#renaming = true
    try {
      await replace(client, this.#part, this.#path, signal)
    } catch (error) {
      // Removed by somebody, or by an old session that did late what it had been told.
      if (isMissing(error)) throw new Outdated()
      throw error
    }
    return now.size
  }

  /** A '.part' of our own: one that is there belongs to nobody who is at work, or to an old session of ours. */
  async #make(client: SftpClient): Promise<RemoteFile> {
    const { signal } = this.#options
    const flags = { read: true, write: true, create: true, exclusive: true }
    try {
      return await client.open(this.#part, flags, { signal })
    } catch (error) {
      if (!(error instanceof SftpStatusError) || isMissing(error)) throw error
      if ((await client.lstat(this.#part, { signal }).catch(() => undefined)) === undefined) throw error
      await client.unlink(this.#part, { signal })
      return client.open(this.#part, flags, { signal })
    }
  }

  async #reopen(client: SftpClient): Promise<RemoteFile> {
    try {
      return await client.open(this.#part, { read: true, write: true }, { signal: this.#options.signal })
    } catch (error) {
      if (isMissing(error)) throw new Outdated()
      throw error
    }
  }

  /** How much of the '.part' is certainly there, on a new connection. */
  async #keptBytes(client: SftpClient, remote: RemoteFile, size: number): Promise<number> {
    const { signal } = this.#options
    const there = (await remote.stat({ signal })).size ?? 0
    if (there > size) throw new Outdated()
    const canSync = client.supports('fsync@openssh.com', '1')
    const kept = Math.min(there, canSync ? this.#durable : this.confirmed)
    // What was durable and is not there any more was taken away by somebody.
    if (canSync && there < this.#durable) throw new Outdated()
    const agrees = canSync ? samplesAgree : allAgrees
    if (!(await agrees(this.#local, remote, kept, signal))) throw new Outdated()
    return kept
  }

  async #send(client: SftpClient, remote: RemoteFile, start: number, size: number): Promise<void> {
    const { signal, onProgress, openChannel, maxChannels } = this.#options
    const canSync = client.supports('fsync@openssh.com', '1')
    let syncing: Promise<void> | undefined
    let syncError: unknown
    const syncSoon = (): void => {
      if (!canSync || syncing !== undefined || this.confirmed - this.#durable < this.#syncEveryBytes) return
      const covered = this.confirmed
      syncing = remote.sync({ signal }).then(
        () => {
          this.#durable = covered
          syncing = undefined
        },
        (error: unknown) => {
          syncError = error
          syncing = undefined
        },
      )
    }
    this.confirmed = start
    const onConfirmed = (bytes: number): void => {
      this.progress += start + bytes - this.confirmed
      this.confirmed = start + bytes
      onProgress?.({ transferredBytes: this.confirmed, totalBytes: size })
      syncSoon()
    }
    const lanes = new UploadLanes(remote, {
      signal,
      maxChannels,
      openChannel: openChannel === undefined ? undefined : () => openChannel(client),
    })
    const writer = new PipelinedWriter(lanes, start, { signal, onConfirmed })
    const buffers = [new Uint8Array(sendBytes), new Uint8Array(sendBytes)] as const
    let at = start
    try {
      for (let turn = 0; at < size; turn ^= 1) {
        throwIfAborted(signal, 'put')
        const buffer = buffers[turn]!.subarray(0, Math.min(sendBytes, size - at))
        const count = await readLocal(this.#local, buffer, at)
        if (count === 0) throw new Outdated()
        await writer.write(buffer.subarray(0, count))
        at += count
        if (syncError !== undefined) throw syncError
      }
    } catch (error) {
      await writer.finish().catch(() => {})
      await lanes.close().catch(() => {})
      // Its answer must not be taken for one about another '.part'.
      await syncing
      throw error
    }
    await writer.finish().finally(() => lanes.close())
    await syncing
    if (syncError !== undefined) throw syncError
  }

  async #finish(remote: RemoteFile): Promise<void> {
    const { signal, preserve, allowSpecialModes, sync } = this.#options
    const { size } = await remote.stat({ signal })
    if (size !== undefined && size !== this.#source!.size) throw new Outdated()
    if (preserve) {
      const { mode, atimeMs, mtimeMs } = await this.#local.stat()
      await remote.setstat({ permissions: mode & (allowSpecialModes ? 0o7777 : 0o777) }, { signal })
      await remote.setstat(
        { atime: Math.floor(atimeMs / 1000), mtime: Math.floor(mtimeMs / 1000) },
        { signal },
      )
    }
    if (sync) await remote.sync({ signal })
  }

  /** Whether the rename that got no answer was done: the '.part' is gone, and what has the name is ours. */
  async #wasRenamed(client: SftpClient, size: number): Promise<boolean> {
    const { signal } = this.#options
    try {
      await client.lstat(this.#part, { signal })
      return false
    } catch (error) {
      if (!isMissing(error)) throw error
    }
    let file: RemoteFile
    try {
      file = await client.open(this.#path, 'r', { signal })
    } catch (error) {
      if (isMissing(error)) throw new Outdated()
      throw error
    }
    return withFile(file, async (remote) => {
      if ((await remote.stat({ signal })).size !== size) throw new Outdated()
      const agrees = client.supports('fsync@openssh.com', '1') ? samplesAgree : allAgrees
      if (!(await agrees(this.#local, remote, size, signal))) throw new Outdated()
      return true
    })
  }
}

async function versionOf(file: FileHandle): Promise<LocalVersion> {
  const { size, mtimeNs, ctimeNs } = await file.stat({ bigint: true })
  return { size: Number(size), mtimeNs, ctimeNs }
}

function isSameLocal(one: LocalVersion, other: LocalVersion): boolean {
  return one.size === other.size && one.mtimeNs === other.mtimeNs && one.ctimeNs === other.ctimeNs
}

type Agreement = (
  local: FileHandle,
  remote: RemoteFile,
  length: number,
  signal: AbortSignal | undefined,
) => Promise<boolean>

/** The last part of the first `length` bytes in full, and samples of the rest. */
const samplesAgree: Agreement = async (local, remote, length, signal) => {
  const tail = Math.min(length, overlapBytes)
  if (!(await rangeAgrees(local, remote, length - tail, tail, signal))) return false
  const rest = length - tail
  const samples: Promise<boolean>[] = []
  for (let index = 0; index < sampleCount && rest > 0; index++) {
    const offset = Math.floor((rest * index) / sampleCount)
    samples.push(rangeAgrees(local, remote, offset, Math.min(sampleBytes, rest - offset), signal))
  }
  return (await Promise.all(samples)).every((agrees) => agrees)
}

/** All of the first `length` bytes. */
const allAgrees: Agreement = async (local, remote, length, signal) => {
  for (let at = 0; at < length; at += compareBytes) {
    if (!(await rangeAgrees(local, remote, at, Math.min(compareBytes, length - at), signal))) return false
  }
  return true
}

async function rangeAgrees(
  local: FileHandle,
  remote: RemoteFile,
  offset: number,
  length: number,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const ours = new Uint8Array(length)
  const theirs = new Uint8Array(length)
  const counts = await Promise.all([readLocal(local, ours, offset), remote.read(offset, theirs, { signal })])
  return counts.every((count) => count === length) && equalBytes(ours, theirs)
}
