// A file's bytes in order, with many READs under way: what readFile, get and read streams share. Reads ahead as far as the
// channel's window of bytes in flight has grown, and somewhat further; chunks that wait for a slow consumer count in it, so
// memory is bounded by it. Each chunk lies in a buffer of its own that is never touched again once handed out.

import type { CallOptions } from './client-session.ts'
import type { RemoteFile } from './file.ts'

export interface Chunk {
  /** Position in the file. */
  readonly offset: number
  readonly bytes: Uint8Array
}

export interface ReadAheadOptions extends CallOptions {
  /** First byte, and the byte behind the last one wanted. The file may end before. */
  start: number
  end: number
  /** Bytes that may be under way or waiting to be consumed; asked each time, because it grows. */
  budgetBytes: () => number
  /**
   * Where nobody knows how long the file is: bytes asked for before the first answer, and twice as many after each chunk that was
   * full. Default: all that `budgetBytes` allows.
   */
  firstBytes?: number | undefined
  /** Largest chunk; asked each time, because the server's limits come late. */
  chunkBytes: () => number
  /** Where a chunk shall lie; a new array where not given. */
  place?: (offset: number, length: number) => Uint8Array
}

/** `firstBytes` for files of which the server says that they are empty: most are, but not those in /proc. */
export const emptyFileBytes = 16 * 1024

/** Pieces below this are gathered into chunks of several, so that a chunk is worth its promise. */
const pieceAloneBytes = 128 * 1024
const alignment = 4096

/** Bytes of a chunk for servers that give `maxReadBytes` a READ: one READ, page-aligned, or eight small ones. */
export function chunkBytesFor(maxReadBytes: number): number {
  if (maxReadBytes < pieceAloneBytes) return 8 * maxReadBytes
  return maxReadBytes - (maxReadBytes % alignment)
}

/** The chunks from `start` to `end` or the end of the file, in order. Leaving the loop early cancels what is under way. */
export async function* readAhead(
  file: RemoteFile,
  options: ReadAheadOptions,
): AsyncGenerator<Chunk, void, undefined> {
  const {
    start,
    end,
    budgetBytes,
    chunkBytes,
    signal,
    firstBytes = Number.POSITIVE_INFINITY,
    place = (_offset, length) => new Uint8Array(length),
  } = options
  const underWay: { offset: number; into: Uint8Array; read: Promise<number> }[] = []
  const leaving = new AbortController()
  const stop = (): void => leaving.abort(signal?.reason)
  if (signal?.aborted) stop()
  else signal?.addEventListener('abort', stop, { once: true })
  let next = start
  let bytes = 0
  let allowed = firstBytes
  try {
    for (;;) {
      while (next < end) {
        const length = Math.min(chunkBytes(), end - next, allowed)
        if (underWay.length > 0 && bytes + length > Math.min(budgetBytes(), allowed)) break
        const into = place(next, length)
        const read = file.read(next, into, { signal: leaving.signal })
        // Its failure is seen when its turn comes, if it comes.
        read.catch(() => {})
        underWay.push({ offset: next, into, read })
        next += length
        bytes += length
      }
      const head = underWay.shift()
      if (head === undefined) return
      const count = await head.read
      const { length } = head.into
      if (count > 0)
        yield { offset: head.offset, bytes: count === length ? head.into : head.into.subarray(0, count) }
      bytes -= length
      if (count < length) return
      allowed = 2 * Math.max(allowed, length)
    }
  } finally {
    signal?.removeEventListener('abort', stop)
    leaving.abort()
  }
}
