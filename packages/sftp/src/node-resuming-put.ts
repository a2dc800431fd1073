// An upload over one connection after the other: it goes on behind its last fsync, or behind what was read back and compared.

import type { FileHandle } from 'node:fs/promises'
import { throwIfAborted } from './abort.ts'
import type { SftpClient } from './client.ts'
import { isMissing } from './directory.ts'
import { SftpStatusError } from './errors.ts'
import type { RemoteFile } from './file.ts'
import { allAgrees, samplesAgree } from './node-agreement.ts'
import { applyRemoteMode, newCopyMode, replacedRemoteMode } from './node-copy-mode.ts'
import { readLocal } from './node-local-file.ts'
import { changed, maxRestarts, Outdated, type ResumingTransferOptions } from './node-resuming-options.ts'
import { partSuffix } from './node-transfer-options.ts'
import { replace } from './node-upload.ts'
import { UploadLanes } from './transfer-lanes.ts'
import type { RetryOptions } from './transfer-retry.ts'
import { PipelinedWriter } from './transfer-write.ts'
import { withFile } from './with-file.ts'

const sendBytes = 1024 * 1024

interface LocalVersion {
  readonly size: number
  readonly mtimeNs: bigint
  readonly ctimeNs: bigint
}

export type UploadOptions = Omit<ResumingTransferOptions, keyof RetryOptions>

export class Upload {
  readonly #local: FileHandle
  readonly #path: string
  readonly #syncEveryBytes: number
  readonly #options: UploadOptions
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

  constructor(local: FileHandle, path: string, syncEveryBytes: number, options: UploadOptions) {
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
    const [file, replacedMode] = await Promise.all([
      this.#hasPart ? this.#reopen(client) : this.#make(client),
      replacedRemoteMode(client, this.#path, signal),
    ])
    await withFile(file, async (remote) => {
      const start = this.#hasPart ? await this.#keptBytes(client, remote, now.size) : 0
      this.#hasPart = true
      await applyRemoteMode(remote, replacedMode, signal)
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
    const options = { mode: newCopyMode((await this.#local.stat()).mode), signal }
    try {
      return await client.open(this.#part, flags, options)
    } catch (error) {
      if (!(error instanceof SftpStatusError) || isMissing(error)) throw error
      if ((await client.lstat(this.#part, { signal }).catch(() => undefined)) === undefined) throw error
      await client.unlink(this.#part, { signal })
      return client.open(this.#part, flags, options)
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
      openChannel: openChannel === undefined ? undefined : (wanted) => openChannel(client, wanted),
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
    await lanes.ended
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
