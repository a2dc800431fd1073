// Web Streams of files, pipelined: as fast as whole-file transfers, because they are the same read-ahead and the same
// writes under way. The file is opened with the first pull or write and closed with the stream.

import { UsageError } from '@sshblock/transport/errors'
import type { SftpClient } from './client.ts'
import type { CallOptions } from './client-session.ts'
import type { RemoteFile } from './file.ts'
import { expectedBytes, readAheadOf, shrank } from './transfer.ts'
import { type LaneOptions, UploadLanes } from './transfer-lanes.ts'
import { type Chunk, readAhead } from './transfer-read.ts'
import { PipelinedWriter } from './transfer-write.ts'

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
  client: SftpClient,
  path: string,
  start: number,
  wantedEnd: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Chunk, void, undefined> {
  const file = await client.open(path, 'r', { signal })
  try {
    const there = expectedBytes(await file.stat({ signal }), start)
    const end = there === undefined ? wantedEnd : Math.min(wantedEnd, start + there)
    let at = start
    for await (const chunk of readAhead(file, { ...readAheadOf(client), start, end, signal })) {
      at = chunk.offset + chunk.bytes.length
      yield chunk
    }
    if (there !== undefined && at < end) throw shrank(path, at - start, end - start)
  } finally {
    await file.close().catch(() => {})
  }
}

/** `write` resolves when the channel took the chunk; `close` when the server acknowledged everything. */
export function createWriteStream(
  client: SftpClient,
  path: string,
  options: WriteStreamOptions,
): WritableStream<Uint8Array> {
  const { start = 0, mode, signal } = options
  const flags = options.flags ?? (options.start === undefined ? 'w' : 'r+')
  let file: RemoteFile | undefined
  let lanes: UploadLanes | undefined
  let writer: PipelinedWriter | undefined
  const giveUp = async (): Promise<void> => {
    await lanes?.close().catch(() => {})
    await file?.close().catch(() => {})
  }
  return new WritableStream<Uint8Array>({
    async start() {
      file = await client.open(path, flags, { signal, ...(mode === undefined ? {} : { mode }) })
      lanes = new UploadLanes(file, options)
      writer = new PipelinedWriter(lanes, start, { signal })
    },
    async write(chunk, controller) {
      if (!(chunk instanceof Uint8Array)) throw new UsageError('a file is written in Uint8Arrays')
      try {
        await writer!.write(chunk)
      } catch (error) {
        await giveUp()
        controller.error(error)
        throw error
      }
    },
    async close() {
      try {
        await writer!.finish()
        await Promise.all([lanes!.close(), file!.close()])
      } catch (error) {
        await giveUp()
        throw error
      }
      await lanes!.ended
    },
    abort: giveUp,
  })
}
