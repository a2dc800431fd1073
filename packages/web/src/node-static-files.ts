// The built page over HTTP: the files of one folder, read at the start, so that no request can name another one.

import { readdirSync, readFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { extname, join, posix, sep } from 'node:path'
import { gzipSync } from 'node:zlib'

export interface ServedFile {
  readonly type: string
  readonly body: Uint8Array
  /** Compressed, where that is worth it. */
  readonly gzip: Uint8Array | undefined
}

const types: ReadonlyMap<string, string> = new Map([
  ['.html', 'text/html; charset=utf-8'],
  ['.js', 'text/javascript; charset=utf-8'],
  ['.css', 'text/css; charset=utf-8'],
  ['.json', 'application/json; charset=utf-8'],
  ['.svg', 'image/svg+xml'],
  ['.wasm', 'application/wasm'],
])

/**
 * Scripts from here alone and nothing inline; the workers of session and downloads from here, a timer of the emulator from a
 * blob, and its WebAssembly; WebSockets to wherever the relay is, for a page may use another one. No other page may frame
 * this one. A worker gets the same policy, with its own script.
 */
const contentPolicy = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "worker-src 'self' blob:",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data: blob:",
  "connect-src 'self' ws: wss:",
  "frame-src 'self'",
  "form-action 'none'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join('; ')

export function servedFile(name: string, body: Uint8Array): ServedFile {
  const type = types.get(extname(name)) ?? 'application/octet-stream'
  const gzip = body.length > 1024 && type !== 'application/octet-stream' ? gzipSync(body) : undefined
  return { type, body, gzip }
}

/** Every file below a folder, by the path of its URL; 'index.html' also as '/'. */
export function filesBelow(folder: string): Map<string, ServedFile> {
  const files = new Map<string, ServedFile>()
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const path = join(entry.parentPath, entry.name)
    const name = posix.join('/', path.slice(folder.length).split(sep).join('/'))
    const file = servedFile(name, readFileSync(path))
    files.set(name, file)
    if (name === '/index.html') files.set('/', file)
  }
  return files
}

/** Answers with one of the files, or 404, or 405. */
export function serveFile(
  files: ReadonlyMap<string, ServedFile>,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.writeHead(405, { allow: 'GET, HEAD' }).end()
    return
  }
  const [path = '/'] = (request.url ?? '/').split('?')
  const file = files.get(path)
  if (file === undefined) {
    response.writeHead(404, { 'content-type': 'text/plain' }).end('not found\n')
    return
  }
  const acceptsGzip = /\bgzip\b/.test(String(request.headers['accept-encoding'] ?? ''))
  const body = acceptsGzip && file.gzip !== undefined ? file.gzip : file.body
  // Names of built files hold a hash of their content.
  const isHashed = path.startsWith('/assets/')
  response.writeHead(200, {
    'content-type': file.type,
    'content-length': body.length,
    'cache-control': isHashed ? 'public, max-age=31536000, immutable' : 'no-cache',
    'content-security-policy': contentPolicy,
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
    vary: 'accept-encoding',
    ...(body === file.gzip ? { 'content-encoding': 'gzip' } : {}),
  })
  response.end(request.method === 'HEAD' ? undefined : body)
}
