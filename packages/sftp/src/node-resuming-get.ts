// A download over one connection after the other: what was received is kept where it belongs to the file that is there now.

import type { FileHandle } from 'node:fs/promises'
import type { SftpClient } from './client.ts'
import type { RemoteFile } from './file.ts'
import { samplesAgree } from './node-agreement.ts'
import { applyLocally, writeLocal } from './node-local-file.ts'
import { changed, maxRestarts, Outdated } from './node-resuming-options.ts'
import type { FileTransferOptions } from './node-transfer-options.ts'
import type { Stats } from './stats.ts'
import { expectedBytes, readAheadOf, shrank } from './transfer.ts'
import { emptyFileBytes, readAhead } from './transfer-read.ts'
import { withFile } from './with-file.ts'

export type DownloadOptions = Pick<
  FileTransferOptions,
  'signal' | 'onProgress' | 'preserve' | 'allowSpecialModes'
>

export class Download {
  readonly #path: string
  readonly #makeLocal: (originalMode: number | undefined) => Promise<FileHandle>
  readonly #options: DownloadOptions
  /** What the copy grows in; whoever owns the download closes it. */
  local: FileHandle | undefined
  /** The file that the copy began with. */
  #source: Stats | undefined
  /** Bytes that are there, without a gap. */
  at = 0
  restarts = 0
  /** Bytes received, those of a copy that was given up included. */
  progress = 0

  /** @param makeLocal called once, when the server has told the permission bits of the file at `path`, or that it does not */
  constructor(
    path: string,
    makeLocal: (originalMode: number | undefined) => Promise<FileHandle>,
    options: DownloadOptions,
  ) {
    this.#path = path
    this.#makeLocal = makeLocal
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
    await this.local?.truncate(0)
  }

  async #attempt(client: SftpClient): Promise<void> {
    const { signal, onProgress } = this.#options
    await withFile(await client.open(this.#path, 'r', { signal }), async (remote) => {
      const stats = await remote.stat({ signal })
      const expected = expectedBytes(stats, 0)
      this.local ??= await this.#makeLocal(stats.mode)
      const { local } = this
      if (this.#source !== undefined) await this.#checkKept(local, remote, stats)
      this.#source = stats
      const ahead = readAhead(remote, {
        ...readAheadOf(client),
        start: this.at,
        end: expected ?? Number.MAX_SAFE_INTEGER,
        firstBytes: expected === undefined ? emptyFileBytes : undefined,
        signal,
      })
      for await (const { bytes, offset } of ahead) {
        await writeLocal(local, bytes, offset)
        this.at = offset + bytes.length
        this.progress += bytes.length
        onProgress?.({ transferredBytes: this.at, totalBytes: expected })
      }
      if (!isSameVersion(stats, await remote.stat({ signal }))) throw new Outdated()
      if (expected !== undefined && this.at < expected) throw shrank(this.#path, this.at, expected)
      if (this.#options.preserve) await applyLocally(local, stats, this.#options.allowSpecialModes ?? false)
    })
  }

  /** What was received before the loss belongs to the file that is there now. */
  async #checkKept(local: FileHandle, remote: RemoteFile, stats: Stats): Promise<void> {
    const known = this.#source!
    // Without a size and a time nobody can tell.
    if (stats.size === undefined || stats.mtime === undefined || !isSameVersion(known, stats))
      throw new Outdated()
    if (expectedBytes(stats, 0) === undefined) throw new Outdated()
    if (!(await samplesAgree(local, remote, this.at, this.#options.signal))) throw new Outdated()
  }
}

function isSameVersion(one: Stats, other: Stats): boolean {
  return one.size === other.size && one.mtime === other.mtime && one.type === other.type
}
