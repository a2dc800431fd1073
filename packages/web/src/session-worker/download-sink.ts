// Where the bytes of a download go: over a port to the service worker, so that nothing of them goes through the page's thread;
// where there is no service worker they are collected, and the page gets a Blob, which is a handle and not the bytes.

import { UsageError } from '@sshblock/transport/errors'
import type { DownloadTarget, Saved } from './calls.ts'
import { type DownloadPort, sinkInto } from './download-port.ts'

/**
 * Gives `write` a sink, which it closes; where it fails the sink is aborted, if it has not done so itself.
 * @throws what `write` throws, among it what the browser ended the stream with; UsageError where a Blob would be too large
 */
export async function saveTo(
  target: DownloadTarget,
  size: number | undefined,
  write: (sink: WritableStream<Uint8Array>) => Promise<void>,
): Promise<Saved> {
  if (target.to === 'blob') return collect(target.maxBytes, size, write)
  const sink = sinkInto(target.port as unknown as DownloadPort)
  try {
    await write(sink)
  } catch (error) {
    await sink.abort(error).catch(() => {})
    throw error
  }
  return undefined
}

async function collect(
  maxBytes: number,
  size: number | undefined,
  write: (sink: WritableStream<Uint8Array>) => Promise<void>,
): Promise<Blob> {
  const tooLarge = (): UsageError =>
    new UsageError(
      'this page has no service worker (it needs https, or localhost), and the file is too large to be held in memory',
    )
  if (size !== undefined && size > maxBytes) throw tooLarge()
  const parts: BlobPart[] = []
  let bytes = 0
  await write(
    new WritableStream({
      write(chunk) {
        bytes += chunk.length
        if (bytes > maxBytes) throw tooLarge()
        parts.push(chunk.slice())
      },
    }),
  )
  return new Blob(parts)
}
