// The service worker of downloads: a page tells a name and a port from which the bytes come, and asks for it by a URL of its
// own. Nothing else of the page goes through here, and nothing is cached.

import { type DownloadPort, streamFrom } from '../session-worker/download-port.ts'

interface OfferedStream {
  readonly name: string
  readonly size: number | undefined
  readonly stream: ReadableStream<Uint8Array>
}

/** What is used of ServiceWorkerGlobalScope, which the DOM types do not have. */
interface WorkerScope {
  skipWaiting(): void
  readonly clients: { claim(): Promise<void> }
  addEventListener(type: 'install', listener: () => void): void
  addEventListener(
    type: 'activate',
    listener: (event: { waitUntil(done: Promise<void>): void }) => void,
  ): void
  addEventListener(type: 'message', listener: (event: MessageEvent) => void): void
  addEventListener(
    type: 'fetch',
    listener: (event: { readonly request: Request; respondWith(response: Response): void }) => void,
  ): void
}

const scope = self as unknown as WorkerScope
const offered = new Map<string, OfferedStream>()

scope.addEventListener('install', () => scope.skipWaiting())
scope.addEventListener('activate', (event) => event.waitUntil(scope.clients.claim()))

scope.addEventListener('message', ({ data }) => {
  if (typeof data?.id !== 'string') return // A ping, which only keeps this worker alive.
  const { id, name, size } = data
  const { ready, source } = data as { ready: MessagePort; source: DownloadPort }
  offered.set(id, { name, size, stream: streamFrom(source) })
  ready.postMessage('ready')
})

scope.addEventListener('fetch', (event) => {
  const { pathname, origin } = new URL(event.request.url)
  const id = /^\/download\/([0-9a-f-]{36})$/.exec(pathname)?.[1]
  if (id === undefined || origin !== location.origin) return
  const found = offered.get(id)
  offered.delete(id)
  if (found === undefined) {
    event.respondWith(new Response('this download is over', { status: 404 }))
    return
  }
  event.respondWith(answer(found))
})

function answer({ name, size, stream }: OfferedStream): Response {
  return new Response(stream, {
    headers: {
      'content-type': 'application/octet-stream',
      // RFC 6266 and RFC 8187: any name, without a way out of the header.
      'content-disposition': `attachment; filename*=UTF-8''${encodeName(name)}`,
      'x-content-type-options': 'nosniff',
      'content-security-policy': "default-src 'none'; sandbox",
      ...(size === undefined ? {} : { 'content-length': String(size) }),
    },
  })
}

function encodeName(name: string): string {
  // Lone surrogates have no UTF-8 form.
  const text = name.replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, '_')
  return encodeURIComponent(text).replace(
    /['()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16)}`,
  )
}
