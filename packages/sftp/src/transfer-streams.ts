// Web Streams of files, pipelined: as fast as whole-file transfers, because they are the same read-ahead and the same
// writes under way. The file is opened with the first pull or write and closed with the stream.

import { UsageError } from '@sshblock/transport/errors'
import type { SftpClient } from './client.ts'
import type { CallOptions } from './client-session.ts'
import { bulk } from './fetched-bulk.ts'
import type { FileSink } from './transfer-file-sink.ts'
import type { LaneOptions } from './transfer-lanes.ts'
import type { Chunk } from './transfer-read.ts'

export interface ReadStreamOptions extends CallOptions {
  /** First byte; default 0. */
  start?: number
  /** Last byte, inclusive as in fs; default to the end of the file. */
  end?: number
}

export interface WriteStreamOptions extends CallOptions, LaneOptions {
  /** How the file is opened; default 'w', or 'r+' where `start` is given. */
  flags?: 'w' | 'wx' | 'r+' | 'a' | 'ax'
  /** Permission bits of a file that is made. */
  mode?: number
  /** Where the first byte goes; default 0. */
  start?: number
}

/** Errors of the stream are those of open() and read(); SftpTransferError where the file shrank meanwhile. */
export function createReadStream(
  client: SftpClient,
  path: string,
  options: ReadStreamOptions,
): ReadableStream<Uint8Array> {
  const { start = 0, end = Number.MAX_SAFE_INTEGER - 1, signal } = options
  for (const [name, value] of Object.entries({ start, end })) {
    if (!Number.isSafeInteger(value) || value < 0)
      throw new UsageError(`${name} must be an integer from 0 to 2^53 - 2, got ${value}`)
  }
  let chunks: AsyncGenerator<Chunk, void, undefined> | undefined
  const source: UnderlyingByteSource = {
    // A byte stream queues nothing of its own, and its readers may lend their buffers.
    type: 'bytes',
    async pull(controller) {
      chunks ??= streamChunks(client, path, start, end + 1, signal)
      const next = await chunks.next()
      if (next.done) {
        controller.close()
        // A reader that lent a buffer is told the end by an answer without bytes.
        controller.byobRequest?.respond(0)
      } else controller.enqueue(next.value.bytes as Uint8Array<ArrayBuffer>)
    },
    async cancel() {
      await chunks?.return()
    },
  }
  return new ReadableStream(source)
}

async function* streamChunks(
  ...file: [
    client: SftpClient,
    path: string,
    start: number,
    wantedEnd: number,
    signal: AbortSignal | undefined,
  ]
): AsyncGenerator<Chunk, void, undefined> {
  const { fileChunks } = await bulk()
  yield* fileChunks(...file)
}

/** `write` resolves when the channel took the chunk; `close` when the server acknowledged everything. */
export function createWriteStream(
  client: SftpClient,
  path: string,
  options: WriteStreamOptions,
): WritableStream<Uint8Array> {
  let sink: FileSink | undefined
  return new WritableStream<Uint8Array>({
    async start() {
      sink = await (await bulk()).FileSink.open(client, path, options)
    },
    write: (chunk, controller) => sink!.write(chunk, controller),
    close: () => sink!.close(),
    abort: () => sink?.giveUp(),
  })
}
