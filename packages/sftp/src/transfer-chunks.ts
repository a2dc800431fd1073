// A part of a file as chunks in order, read ahead.

import type { SftpClient } from './client.ts'
import { expectedBytes, readAheadOf, shrank } from './transfer.ts'
import { type Chunk, readAhead } from './transfer-read.ts'

/** Opens the file with the first chunk that is asked for, and closes it at the end. Ends with the file, or before `wantedEnd`. */
export async function* fileChunks(
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
