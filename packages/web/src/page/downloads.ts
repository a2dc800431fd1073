// A stream as a download of the browser, without holding it in memory: a service worker answers a request for it with the
// stream, and the browser writes it to the disk. The bytes come to it from another worker, over a port that this page
// only passes on. Where there is no service worker (pages over plain http, some private windows), the bytes are collected
// over there and saved at the end, up to a limit.

import type { DownloadTarget, Saved } from '../session-worker/calls.ts'

export interface Download {
  readonly name: string
  readonly size: number | undefined
}

/** Without a service worker more than this is refused, in bytes. */
const maxInMemory = 1024 ** 3
/** A service worker with nothing to do is ended after 30 s, and its stream with it. */
const keepAliveMs = 10_000
const scriptUrl = '/download-worker.js'

let registration: Promise<ServiceWorkerRegistration | undefined> | undefined

/** Prepares for downloads; to be called early, for the worker takes a moment. */
export function prepareDownloads(): Promise<ServiceWorkerRegistration | undefined> {
  registration ??= register()
  return registration
}

async function register(): Promise<ServiceWorkerRegistration | undefined> {
  const container = navigator.serviceWorker as ServiceWorkerContainer | undefined
  if (container === undefined) return undefined
  try {
    await container.register(scriptUrl, { type: 'module', scope: '/' })
    return await container.ready
  } catch {
    return undefined
  }
}

/**
 * Saves what `write` gives to the target that it is told; `transfer` is to be moved along with it. Bytes go from wherever
 * `write` makes them to the service worker, not through this thread. Resolves when everything was taken over by the browser.
 * @throws what `write` throws; AbortError where the user ended the download in the browser
 */
export async function saveAs(
  { name, size }: Download,
  write: (target: DownloadTarget, transfer: Transferable[]) => Promise<Saved>,
): Promise<void> {
  // The active one as it is now: the one of an earlier version of this page has been replaced meanwhile.
  const worker = (await prepareDownloads())?.active ?? undefined
  if (worker === undefined) {
    const blob = await write({ to: 'blob', maxBytes: maxInMemory }, [])
    if (blob !== undefined) saveBlob(blob, name)
    return
  }
  const id = crypto.randomUUID()
  const [ready, source] = [new MessageChannel(), new MessageChannel()]
  const isReady = new Promise<void>((resolve) => {
    ready.port1.onmessage = () => resolve()
  })
  const ports = { ready: ready.port2, source: source.port2 }
  worker.postMessage({ id, name, size, ...ports }, [ready.port2, source.port2])
  await isReady
  ready.port1.close()
  // Not a link that is clicked: the page must not be left, whatever the answer is.
  const frame = document.createElement('iframe')
  frame.hidden = true
  frame.src = `/download/${id}`
  document.body.append(frame)
  const alive = setInterval(() => worker.postMessage({ ping: id }), keepAliveMs)
  try {
    await write({ to: 'port', port: source.port1 }, [source.port1])
  } finally {
    clearInterval(alive)
    // The browser has taken the answer over by now.
    setTimeout(() => frame.remove(), keepAliveMs)
  }
}

function saveBlob(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob)
  const link = document.createElement('a')
  link.href = url
  link.download = name
  link.click()
  setTimeout(() => URL.revokeObjectURL(url), 60_000)
}
