// Whole files to and from memory, streams and iterables. Pipelined by transfer-read and transfer-write; here is what a
// transfer means: its size, its end, its progress, its errors, and what becomes of the file when it fails.

import { AbortedError, SshError, UsageError } from '@sshblock/transport/errors'
import { throwIfAborted } from './abort.ts'
import type { SftpClient } from './client.ts'
import type { CallOptions } from './client-session.ts'
import { SftpTransferError } from './errors.ts'
import { defaultMaxFileBytes } from './limits.ts'
import type { Stats } from './stats.ts'
import { type LaneOptions, UploadLanes } from './transfer-lanes.ts'
import { chunkBytesFor, emptyFileBytes, type ReadAheadOptions, readAhead } from './transfer-read.ts'
import { PipelinedWriter } from './transfer-write.ts'
import { withFile } from './with-file.ts'

export interface TransferProgress {
  /** Bytes that arrived: taken by the sink, or acknowledged by the server. */
  readonly transferredBytes: number
  /** Bytes of the whole transfer, where known. */
  readonly totalBytes: number | undefined
}

export interface TransferOptions extends CallOptions {
  onProgress?: (progress: TransferProgress) => void
}

export interface TransferResult {
  readonly bytes: number
}

export type TransferSink =
  | Uint8Array
  | WritableStream<Uint8Array>
  | ((chunk: Uint8Array, offset: number) => void | Promise<void>)

export type TransferSource =
  | Uint8Array
  | ReadableStream<Uint8Array>
  | AsyncIterable<Uint8Array>
  | Iterable<Uint8Array>

export interface GetOptions extends TransferOptions {
  /** First byte of the file that is wanted; default 0. */
  offset?: number
  /** Most bytes that are wanted; default to the end. */
  length?: number
  /** Leave a WritableStream open at the end. */
  preventClose?: boolean
}

export interface PutOptions extends TransferOptions, LaneOptions {
  /** Where the first byte goes. The file is emptied first unless this is given; 0 overwrites in place. */
  offset?: number
  /** Permission bits of a file that is made. */
  mode?: number
  /** Write to `path` + '.part' and rename over `path` when all is there; nobody ever sees half a file. */
  atomic?: boolean
  /** fsync before it is called done; ENOTSUP where the server cannot. */
  sync?: boolean
  /** For progress, where the source does not tell. */
  totalBytes?: number
}

export interface ReadFileOptions extends CallOptions {
  /** Larger files are refused; default 2 GiB - 1. */
  maxBytes?: number
}

/** The error of a transfer that ended at `transferredBytes`. A cancelled one stays an AbortedError. */
export function transferError(error: unknown, path: string, transferredBytes: number): Error {
  if (error instanceof AbortedError || error instanceof SftpTransferError) return error
  if (error instanceof SshError) {
    return new SftpTransferError(
      error.code,
      `transfer ended after ${transferredBytes} bytes: ${error.message}`,
      path,
      transferredBytes,
      { cause: error },
    )
  }
  const reason = error instanceof Error ? error.message : String(error)
  return new SftpTransferError(
    'ERR_SFTP_LOCAL',
    `transfer ended after ${transferredBytes} bytes by its other side: ${reason}`,
    path,
    transferredBytes,
    {
      cause: error,
    },
  )
}

export function shrank(path: string, transferredBytes: number, expectedBytes: number): SftpTransferError {
  return new SftpTransferError(
    'ERR_SFTP_FILE_SHRANK',
    `the file ended after ${transferredBytes} of ${expectedBytes} bytes: it became shorter during the transfer`,
    path,
    transferredBytes,
  )
}

/**
 * Read-ahead of this client: chunks as the server's limits allow, and half as many again as may be in flight, and two: what
 * came and is being consumed shall not keep requests from waiting to be sent, which is what makes bytes in flight grow.
 */
export function readAheadOf(client: SftpClient): Pick<ReadAheadOptions, 'budgetBytes' | 'chunkBytes'> {
  const chunkBytes = (): number => chunkBytesFor(client.limits.maxReadBytes)
  return { budgetBytes: () => 1.5 * client.bytesInFlightLimit.read + 2 * chunkBytes(), chunkBytes }
}

/**
 * Bytes of a file from `start` on, where they are known: the size of a regular file when the transfer begins. Files whose
 * size says nothing (0 in /proc, devices, no size told) are read to their end: undefined.
 */
export function expectedBytes({ size, type }: Stats, start: number): number | undefined {
  if (size === undefined || size === 0) return undefined
  if (type !== 'file' && type !== 'unknown') return undefined
  return Math.max(0, size - start)
}

/** Most files that are read whole are not longer. */
const firstReadBytes = 1024 * 1024

export async function readWholeFile(
  client: SftpClient,
  path: string,
  options: ReadFileOptions,
): Promise<Uint8Array> {
  const { maxBytes = defaultMaxFileBytes, signal } = options
  const tooLarge = (): SftpTransferError =>
    new SftpTransferError(
      'ERR_SFTP_FILE_TOO_LARGE',
      `larger than the ${maxBytes} bytes that were allowed`,
      path,
      0,
    )
  return withFile(await client.open(path, 'r', { signal }), async (file) => {
    const size = expectedBytes(await file.stat({ signal }), 0)
    if (size !== undefined) {
      if (size > maxBytes) throw tooLarge()
      const bytes = new Uint8Array(size)
      const count = await file.read(0, bytes, { signal })
      if (count < size) throw shrank(path, count, size)
      return bytes
    }
    const chunks: Uint8Array[] = []
    let length = 0
    for await (const { bytes } of readAhead(file, {
      ...readAheadOf(client),
      start: 0,
      end: maxBytes + 1,
      firstBytes: firstReadBytes,
      signal,
    })) {
      length += bytes.length
      if (length > maxBytes) throw tooLarge()
      chunks.push(bytes)
    }
    const whole = new Uint8Array(length)
    let at = 0
    for (const chunk of chunks) {
      whole.set(chunk, at)
      at += chunk.length
    }
    return whole
  })
}

/** What becomes of the chunks of a download. */
interface Sink {
  /** Where a chunk shall be read to, where the sink lends the place. */
  readonly place?: (offset: number, length: number) => Uint8Array
  take(chunk: Uint8Array, offset: number): void | Promise<void>
  end(): Promise<void>
  abort(error: unknown): Promise<void>
}

async function nothing(): Promise<void> {}

function sinkOf(sink: TransferSink, start: number, preventClose: boolean): Sink {
  if (typeof sink === 'function') return { take: sink, end: nothing, abort: nothing }
  if (sink instanceof Uint8Array) {
    return {
      place: (offset, length) => sink.subarray(offset - start, offset - start + length),
      take: () => {},
      end: nothing,
      abort: nothing,
    }
  }
  const writer = sink.getWriter()
  // Failures are seen by `ready` or `close`.
  writer.closed.catch(() => {})
  return {
    take: async (chunk) => {
      await writer.ready
      writer.write(chunk).catch(() => {})
    },
    end: async () => {
      if (preventClose) {
        await writer.ready
        writer.releaseLock()
      } else await writer.close()
    },
    abort: async (error) => {
      await writer.abort(error).catch(() => {})
    },
  }
}

export async function download(
  client: SftpClient,
  path: string,
  sink: TransferSink,
  options: GetOptions,
): Promise<TransferResult> {
  const {
    offset: start = 0,
    length: wanted = Number.POSITIVE_INFINITY,
    onProgress,
    signal,
    preventClose = false,
  } = options
  if (!Number.isSafeInteger(start) || start < 0)
    throw new UsageError(`offset must be an integer from 0 to 2^53 - 1, got ${start}`)
  if (!(wanted >= 0)) throw new UsageError(`length must not be negative, got ${wanted}`)
  return withFile(await client.open(path, 'r', { signal }), async (file) => {
    const there = expectedBytes(await file.stat({ signal }), start)
    const expected = there === undefined ? undefined : Math.min(there, wanted)
    let most = expected ?? Math.min(wanted, Number.MAX_SAFE_INTEGER - start)
    if (sink instanceof Uint8Array) {
      if (expected !== undefined && expected > sink.length) {
        throw new SftpTransferError(
          'ERR_SFTP_FILE_TOO_LARGE',
          `${expected} bytes do not fit into ${sink.length}`,
          path,
          0,
        )
      }
      most = Math.min(most, sink.length)
    }
    const target = sinkOf(sink, start, preventClose)
    let transferred = 0
    try {
      const place = target.place === undefined ? {} : { place: target.place }
      for await (const { offset, bytes } of readAhead(file, {
        ...readAheadOf(client),
        ...place,
        start,
        end: start + most,
        firstBytes: expected === undefined ? emptyFileBytes : undefined,
        signal,
      })) {
        await target.take(bytes, offset)
        transferred += bytes.length
        onProgress?.({ transferredBytes: transferred, totalBytes: expected })
      }
      if (expected !== undefined && transferred < expected) throw shrank(path, transferred, expected)
      await target.end()
    } catch (error) {
      await target.abort(error)
      throw transferError(error, path, transferred)
    }
    return { bytes: transferred }
  })
}

/** Progress of a source in memory is told this often. */
const memoryChunkBytes = 1024 * 1024

async function* chunksOf(source: TransferSource): AsyncGenerator<Uint8Array, void, undefined> {
  if (source instanceof Uint8Array) {
    for (let at = 0; at < source.length; at += memoryChunkBytes)
      yield source.subarray(at, at + memoryChunkBytes)
  } else if ('getReader' in source) {
    const reader = source.getReader()
    let done = false
    try {
      for (;;) {
        const next = await reader.read()
        done = next.done
        if (next.done) return
        yield next.value
      }
    } finally {
      if (!done) await reader.cancel().catch(() => {})
      reader.releaseLock()
    }
  } else yield* source
}

export async function upload(
  client: SftpClient,
  source: TransferSource,
  path: string,
  options: PutOptions,
): Promise<TransferResult> {
  const { offset, mode, atomic = false, sync = false, onProgress, signal } = options
  if (atomic && offset !== undefined)
    throw new UsageError('an atomic put writes the whole file: it takes no offset')
  const totalBytes = options.totalBytes ?? (source instanceof Uint8Array ? source.length : undefined)
  const target = atomic ? `${path}.part` : path
  const flags = { write: true, create: true, truncate: offset === undefined }
  const file = await client.open(target, flags, { signal, ...(mode === undefined ? {} : { mode }) })
  const onConfirmed =
    onProgress && ((transferredBytes: number) => onProgress({ transferredBytes, totalBytes }))
  const lanes = new UploadLanes(file, options)
  const writer = new PipelinedWriter(lanes, offset ?? 0, { signal, onConfirmed })
  let closing: Promise<void> | undefined
  try {
    await withFile(file, async () => {
      try {
        for await (const chunk of chunksOf(source)) {
          throwIfAborted(signal, 'put')
          if (!(chunk instanceof Uint8Array))
            throw new UsageError('a source gives chunks that are Uint8Arrays')
          await writer.write(chunk)
        }
        await writer.finish()
        // Together with the first file, which is closed when this is left.
        closing = lanes.close()
        closing.catch(() => {})
      } catch (error) {
        // What was sent shall be answered before the file is closed, whatever ended the source.
        await writer.finish().catch(() => {})
        await lanes.close().catch(() => {})
        throw error
      }
      if (sync) await file.sync({ signal })
    })
    await closing
    if (atomic) await client.rename(target, path, { signal })
    await lanes.ended
  } catch (error) {
    if (atomic) await client.unlink(target).catch(() => {})
    throw transferError(error, path, writer.confirmedBytes)
  }
  return { bytes: writer.confirmedBytes }
}
