// The connection that all files of a tree share. Where the caller knows a way to another one, it is replaced when it is lost: by
// whoever notices first, for all. Files go on behind what is proved to be there (node-resume.ts), lists begin anew and leave
// out what was told, and what makes directories and links takes those that are there for its own.

import type { FileHandle } from 'node:fs/promises'
import type { SftpClient } from './client.ts'
import type { DirectoryEntry } from './directory.ts'
import { getInto } from './node-download.ts'
import type { LocalDirectory } from './node-local-directory.ts'
import { getIntoResuming, putFromResuming } from './node-resume.ts'
import type { ResumingTransferOptions } from './node-resuming-options.ts'
import type { FileTransferOptions } from './node-transfer-options.ts'
import { putFrom } from './node-upload.ts'
import { type LostTransfer, RetriedTransfer, type RetryOptions } from './transfer-retry.ts'

export interface TreeRetryOptions extends RetryOptions, Pick<ResumingTransferOptions, 'openChannel'> {}

export class TreeConnection {
  readonly #options: FileTransferOptions
  readonly #retry: TreeRetryOptions | undefined
  #client: SftpClient
  #reconnecting: Promise<SftpClient> | undefined
  /** Which attempt to replace the present client was told last. */
  #told = 0

  constructor(client: SftpClient, options: FileTransferOptions, retry: TreeRetryOptions | undefined) {
    this.#client = client
    this.#options = options
    this.#retry = retry && {
      ...retry,
      reconnect: (lost) => this.#reconnect(retry, lost),
      onRetry: (event) => {
        // All files lose the same connection.
        if (event.attempt <= this.#told) return
        this.#told = event.attempt
        retry.onRetry?.(event)
      },
    }
  }

  /** Whether it may be that something was done already by an attempt that got no answer. */
  get triesAgain(): boolean {
    return this.#retry !== undefined
  }

  /** Calls `work`, and again with another client after each loss. */
  run<T>(work: (client: SftpClient) => Promise<T>): Promise<T> {
    if (this.#retry === undefined) return work(this.#client)
    return new RetriedTransfer(this.#client, this.#retry, this.#options.signal).run(work, () => 0)
  }

  /** Every entry once. */
  async *readdir(path: string, onRejectedName: (name: string) => void): AsyncGenerator<DirectoryEntry> {
    const { signal } = this.#options
    if (this.#retry === undefined) return yield* this.#client.readdir(path, { signal, onRejectedName })
    const seen = new Set<string>()
    const rejected = (name: string): void => {
      if (!seen.has(name)) onRejectedName(name)
      seen.add(name)
    }
    let reading: { client: SftpClient; entries: AsyncIterator<DirectoryEntry> } | undefined
    const list = (client: SftpClient) => {
      const entries = client.readdir(path, { signal, onRejectedName: rejected })
      return { client, entries: entries[Symbol.asyncIterator]() }
    }
    const transfer = new RetriedTransfer(this.#client, this.#retry, signal)
    const next = async (client: SftpClient): Promise<IteratorResult<DirectoryEntry>> => {
      if (reading?.client !== client) reading = list(client)
      for (;;) {
        const result = await reading.entries.next()
        if (result.done === true || !seen.has(result.value.name)) return result
      }
    }
    try {
      for (;;) {
        const result = await transfer.run(next, () => seen.size)
        if (result.done === true) return
        seen.add(result.value.name)
        yield result.value
      }
    } finally {
      await reading?.entries.return?.().catch(() => {})
    }
  }

  /** A file into an open directory. Resolves to its bytes. */
  async get(path: string, local: LocalDirectory, name: string): Promise<number> {
    const options = this.#options
    if (this.#retry === undefined || options.resume === true)
      return this.run(async (client) => (await getInto(client, path, local, name, options)).bytes)
    return (await getIntoResuming(this.#client, path, local, name, this.#resuming(this.#retry))).bytes
  }

  /** An open file to the server. Resolves to its bytes. */
  async put(local: FileHandle, path: string): Promise<number> {
    const options = this.#options
    const openBeside = this.#retry?.openChannel
    if (this.#retry === undefined) return (await putFrom(this.#client, local, path, options)).bytes
    if (options.resume !== true)
      return (await putFromResuming(this.#client, local, path, this.#resuming(this.#retry))).bytes
    return this.run(async (client) => {
      const openChannel =
        openBeside && ((wanted?: Parameters<typeof openBeside>[1]) => openBeside(client, wanted))
      return (await putFrom(client, local, path, { ...options, openChannel })).bytes
    })
  }

  #resuming(retry: TreeRetryOptions): ResumingTransferOptions {
    const { resume: _, openChannel: __, ...options } = this.#options
    return { ...options, ...retry }
  }

  #reconnect(retry: TreeRetryOptions, lost: LostTransfer): Promise<SftpClient> {
    // Somebody else was quicker.
    if (lost.client !== this.#client) return Promise.resolve(this.#client)
    this.#reconnecting ??= retry
      .reconnect(lost)
      .then((client) => {
        this.#client = client
        this.#told = 0
        return client
      })
      .finally(() => {
        this.#reconnecting = undefined
      })
    return this.#reconnecting
  }
}
