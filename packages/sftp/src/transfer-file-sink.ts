// What a stream into a file writes to. The file is opened before the first chunk; whatever fails closes it.

import { UsageError } from '@sshblock/transport/errors'
import type { SftpClient } from './client.ts'
import type { RemoteFile } from './file.ts'
import { UploadLanes } from './transfer-lanes.ts'
import type { WriteStreamOptions } from './transfer-streams.ts'
import { PipelinedWriter } from './transfer-write.ts'

export class FileSink {
  readonly #file: RemoteFile
  readonly #lanes: UploadLanes
  readonly #writer: PipelinedWriter

  private constructor(file: RemoteFile, options: WriteStreamOptions) {
    this.#file = file
    this.#lanes = new UploadLanes(file, options)
    this.#writer = new PipelinedWriter(this.#lanes, options.start ?? 0, { signal: options.signal })
  }

  static async open(client: SftpClient, path: string, options: WriteStreamOptions): Promise<FileSink> {
    const { mode, signal } = options
    const flags = options.flags ?? (options.start === undefined ? 'w' : 'r+')
    const file = await client.open(path, flags, { signal, ...(mode === undefined ? {} : { mode }) })
    return new FileSink(file, options)
  }

  async write(chunk: Uint8Array, controller: WritableStreamDefaultController): Promise<void> {
    if (!(chunk instanceof Uint8Array)) throw new UsageError('a file is written in Uint8Arrays')
    try {
      await this.#writer.write(chunk)
    } catch (error) {
      await this.giveUp()
      controller.error(error)
      throw error
    }
  }

  async close(): Promise<void> {
    try {
      await this.#writer.finish()
      await Promise.all([this.#lanes.close(), this.#file.close()])
    } catch (error) {
      await this.giveUp()
      throw error
    }
    await this.#lanes.ended
  }

  async giveUp(): Promise<void> {
    await this.#lanes.close().catch(() => {})
    await this.#file.close().catch(() => {})
  }
}
