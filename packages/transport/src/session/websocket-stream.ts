// WebSocketStream (WHATWG websockets, "The WebSocketStream interface"; Chromium): a WebSocket as a pair of Web Streams, with
// back-pressure both ways.

import { AbortedError, TimeoutError } from '../errors.ts'
import type { ByteDuplex } from './duplex.ts'
import { streamsDuplex } from './streams-duplex.ts'
import { closeCause, WebSocketClosedError } from './websocket-error.ts'

export interface WebSocketStreamLike {
  readonly opened: Promise<{ readonly readable: ReadableStream<unknown>; readonly writable: WritableStream }>
  readonly closed: Promise<{ readonly closeCode?: number; readonly reason?: string }>
  close(info?: { closeCode?: number; reason?: string }): void
}

export type WebSocketStreamConstructor = new (
  url: string,
  options?: { protocols?: string[]; signal?: AbortSignal },
) => WebSocketStreamLike

export interface OpenWebSocketStreamOptions {
  readonly url: string
  readonly protocols: string[]
  /** For people. */
  readonly where: string
  readonly connectTimeoutMs?: number
  readonly highWaterBytes?: number
  readonly signal?: AbortSignal
}

/** Opens one. Errors as webSocketDuplex. */
export async function openWebSocketStream(
  StreamClass: WebSocketStreamConstructor,
  options: OpenWebSocketStreamOptions,
): Promise<ByteDuplex> {
  const { url, protocols, where, connectTimeoutMs = 30_000, highWaterBytes, signal } = options
  const what = `connecting to ${where}`
  const giveUp = new AbortController()
  const onAbort = (): void => giveUp.abort(new AbortedError(what, signal?.reason))
  const timer = setTimeout(() => giveUp.abort(new TimeoutError(what, connectTimeoutMs)), connectTimeoutMs)
  signal?.addEventListener('abort', onAbort, { once: true })
  const stream = new StreamClass(url, { protocols, signal: giveUp.signal })
  // It rejects together with whatever is looked at below.
  stream.closed.catch(() => {})
  try {
    const { readable, writable } = await stream.opened
    return streamsDuplex(
      { readable, writable },
      {
        description: where,
        ...(highWaterBytes === undefined ? {} : { highWaterBytes }),
        ended: (error) => endOf(stream, where, error),
        close: (abort) => {
          if (abort) stream.close({ closeCode: 1000 })
        },
      },
    )
  } catch (error) {
    if (giveUp.signal.aborted) throw giveUp.signal.reason
    throw new WebSocketClosedError(where, ...closeInfo(error), error)
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', onAbort)
  }
}

/** What `closed` says; of a WebSocket that failed it rejects with a WebSocketError that carries the code. */
async function endOf(stream: WebSocketStreamLike, where: string, error: unknown): Promise<Error | undefined> {
  try {
    const { closeCode = 1005, reason = '' } = await stream.closed
    return closeCause(where, closeCode, reason)
  } catch (failure) {
    return new WebSocketClosedError(where, ...closeInfo(failure), error ?? failure)
  }
}

function closeInfo(error: unknown): [code: number, reason: string] {
  const { closeCode, reason } = (typeof error === 'object' && error !== null ? error : {}) as {
    closeCode?: unknown
    reason?: unknown
  }
  return [typeof closeCode === 'number' ? closeCode : 1006, typeof reason === 'string' ? reason : '']
}
