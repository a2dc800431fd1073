// A stream as a download of the browser, without holding it in memory: a service worker answers a request for it with the
// stream, and the browser writes it to the disk. Where there is none (pages over plain http, some private windows), the
// bytes are collected and saved at the end, up to a limit.

import { UsageError } from '@sshblock/transport/errors'

export interface Download {
  readonly name: string
  readonly size: number | undefined
}

/** Without a service worker more than this is refused, in bytes. */
const maxInMemory = 1024 ** 3
/** A service worker with nothing to do is ended after 30 s, and its stream with it. */
const keepAliveMs = 10_000
const scriptUrl = '/download-worker.js'

let registration: Promise<ServiceWorker | undefined> | undefined

/** Prepares for downloads; to be called early, for the worker takes a moment. */
export function prepareDownloads(): Promise<ServiceWorker | undefined> {
  registration ??= register()
  return registration
}

async function register(): Promise<ServiceWorker | undefined> {
  const container = navigator.serviceWorker as ServiceWorkerContainer | undefined
  if (container === undefined || !canTransferStreams()) return undefined
  try {
    await container.register(scriptUrl, { type: 'module', scope: '/' })
    const { active } = await container.ready
    return active ?? undefined
  } catch {
    return undefined
  }
}

function canTransferStreams(): boolean {
  const { port1, port2 } = new MessageChannel()
  try {
    const stream = new ReadableStream()
    port1.postMessage(stream, [stream])
    return true
  } catch {
    return false
  } finally {
    port1.close()
    port2.close()
  }
}

/**
 * Saves what `write` writes. Resolves when everything was taken over by the browser.
 * @throws what `write` throws; AbortError where the user ended the download in the browser
 */
export async function saveAs(
  { name, size }: Download,
  write: (sink: WritableStream<Uint8Array>) => Promise<void>,
): Promise<void> {
  const worker = await prepareDownloads()
  if (worker === undefined) return saveFromMemory(name, size, write)
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>(
    undefined,
    new ByteLengthQueuingStrategy({ highWaterMark: 1024 * 1024 }),
  )
  const id = crypto.randomUUID()
  const { port1, port2 } = new MessageChannel()
  const ready = new Promise<void>((resolve) => {
    port1.onmessage = () => resolve()
  })
  worker.postMessage({ id, name, size, stream: readable, port: port2 }, [readable, port2])
  await ready
  // Not a link that is clicked: the page must not be left, whatever the answer is.
  const frame = document.createElement('iframe')
  frame.hidden = true
  frame.src = `/download/${id}`
  document.body.append(frame)
  const alive = setInterval(() => worker.postMessage({ ping: id }), keepAliveMs)
  try {
    await write(writable)
  } finally {
    clearInterval(alive)
    port1.close()
    // The browser has taken the answer over by now.
    setTimeout(() => frame.remove(), keepAliveMs)
  }
}

async function saveFromMemory(
  name: string,
  size: number | undefined,
  write: (sink: WritableStream<Uint8Array>) => Promise<void>,
): Promise<void> {
  const tooLarge = (): UsageError =>
    new UsageError(
      'this page has no service worker (it needs https, or localhost), and the file is too large to be held in memory',
    )
  if (size !== undefined && size > maxInMemory) throw tooLarge()
  const parts: BlobPart[] = []
  let bytes = 0
  await write(
    new WritableStream({
      write(chunk) {
        bytes += chunk.length
        if (bytes > maxInMemory) throw tooLarge()
        parts.push(chunk.slice())
      },
    }),
  )
  const url = URL.createObjectURL(new Blob(parts))
  const link = document.createElement('a')
  link.href = url
  link.download = name
  link.click()
  setTimeout(() => URL.revokeObjectURL(url), 60_000)
}
