// A ByteDuplex over a WebSocket: binary messages, whose borders mean nothing (RFC 6455; the `binary` sub-protocol of
// websockify).
//
// A WebSocket takes everything at once and only tells `bufferedAmount`, without an event when it falls. So a slab is given
// back when less than `highWaterBytes` wait, looked at on a timer and whenever a message comes (timers of hidden pages fire
// once a second). On receive there is no back-pressure: SSH's windows bound what a peer that keeps the protocol sends, and
// `maxHeldBytes` bounds the others.
// Chromium's WebSocketStream has back-pressure both ways. It is used only for those who ask for it: Chromium 156 crashes the
// page where the connection fails while a write waits in one, which is what happens when a relay dies.
//
// The core's slab is one message, up to 256 KiB: what is produced while one is on its way goes into the next.

import { AbortedError, ConnectionLost, safeText, TimeoutError, UsageError } from '../errors.ts'
import { bytesOf, deliverChunk } from './chunk-delivery.ts'
import type { ByteDuplex, ByteSink } from './duplex.ts'
import { defaultHighWaterBytes } from './streams-duplex.ts'
import { closeCause, WebSocketClosedError } from './websocket-error.ts'
import { openWebSocketStream, type WebSocketStreamConstructor } from './websocket-stream.ts'

/** Largest message that we send; smaller ones cost a renderer more than their bytes. */
const maxMessageBytes = 256 * 1024
/** How often to look whether `bufferedAmount` fell, in milliseconds. */
const pollMs = 4
/** Bytes held at most for a reader that is paused. */
export const defaultMaxHeldBytes = 32 * 1024 * 1024
/** A code that a page may close with (RFC 6455 s7.4.2): the relay sent what we cannot take. */
const unusableCode = 4400

/** What is used of a WebSocket: the browser's, that of Deno, Bun and newer Node, or the `ws` package's. */
export interface WebSocketLike {
  readonly readyState: number
  readonly bufferedAmount: number
  readonly url: string
  binaryType: string
  send(data: Uint8Array<ArrayBuffer>, done?: (error?: Error | null) => void): void
  close(code?: number, reason?: string): void
  addEventListener(type: 'open' | 'message' | 'close' | 'error', listener: (event: never) => void): void
  removeEventListener(type: 'open' | 'message' | 'close' | 'error', listener: (event: never) => void): void
}

export type WebSocketConstructor = new (url: string, protocols?: string[]) => WebSocketLike

export interface WebSocketDuplexOptions {
  /** Sub-protocols to offer; default ['binary']. The relay must choose one of them. */
  protocols?: readonly string[]
  /**
   * A ticket that lets us in at the relay, sent as a second sub-protocol ('ticket.' and this), never in the URL: URLs end
   * up in logs. Characters of an HTTP token.
   */
  ticket?: string
  /** How long connecting to the relay may take, in milliseconds; default 30 000. */
  connectTimeoutMs?: number
  signal?: AbortSignal
  /** Bytes that may wait in the WebSocket before the next ones are held back; default 512 KiB. */
  highWaterBytes?: number
  /** Bytes held for a reader that is paused, beyond which the connection ends; default 32 MiB. */
  maxHeldBytes?: number
  /** Used in place of the runtime's own classes, e.g. `WebSocket` of the `ws` package where Node has none. */
  WebSocket?: WebSocketConstructor
  /**
   * Used in place of a WebSocket, as `globalThis.WebSocketStream`: back-pressure on receive too. Not by default, because Chromium
   * 156 crashes the page where the connection fails while a write waits in one.
   */
  WebSocketStream?: WebSocketStreamConstructor | undefined
}

/**
 * Connects to a relay that joins WebSockets with TCP connections, or takes over a WebSocket that is open or opening.
 * Pass it to `connectOver` or to the browser's `connect`: the relay sees ciphertext only, host keys are checked here.
 *
 * @param target 'wss://relay.example/host:22', or a WebSocket on which nothing was received yet
 * @returns a duplex that ends without a cause where the relay closed with 1000, else with a WebSocketClosedError
 * @throws WebSocketClosedError where the WebSocket does not open, TimeoutError, AbortedError, UsageError for a URL that is
 *   none and where the runtime has no WebSocket
 */
export async function webSocketDuplex(
  target: string | URL | WebSocketLike,
  options: WebSocketDuplexOptions = {},
): Promise<ByteDuplex> {
  const { signal } = options
  const given = typeof target === 'string' || target instanceof URL ? relayUrl(target) : target
  const where = description(given)
  if (signal?.aborted === true) throw new AbortedError(`connecting to ${where}`, signal.reason)
  if (given instanceof URL) {
    const protocols = offeredProtocols(options)
    const { WebSocketStream: StreamClass } = options
    if (StreamClass !== undefined)
      return openWebSocketStream(StreamClass, { ...options, url: given.href, protocols, where })
    return opened(construct(given, protocols, options), where, options)
  }
  return opened(given, where, options)
}

function relayUrl(target: string | URL): URL {
  let url: URL
  try {
    url = new URL(target, (globalThis as { location?: { href: string } }).location?.href)
  } catch (error) {
    throw new UsageError(
      `expected the URL of a relay such as wss://relay.example/host:22, got ${JSON.stringify(safeText(String(target)))}`,
      { cause: error },
    )
  }
  // Constructors that are a few years old take ws: and wss: only.
  if (url.protocol === 'http:') url.protocol = 'ws:'
  if (url.protocol === 'https:') url.protocol = 'wss:'
  if (url.protocol !== 'ws:' && url.protocol !== 'wss:')
    throw new UsageError(`expected a URL with ws: or wss:, got ${url.protocol}`)
  if (url.username !== '' || url.password !== '')
    throw new UsageError('a URL with a user or password is not taken: URLs end up in logs')
  url.hash = ''
  return url
}

/** Without the query, which may hold what is not for logs. */
function description(target: URL | WebSocketLike): string {
  if (target instanceof URL) return `${target.protocol}//${target.host}${target.pathname}`
  return URL.canParse(target.url) ? description(new URL(target.url)) : 'WebSocket'
}

const httpToken = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/

function offeredProtocols({ protocols = ['binary'], ticket }: WebSocketDuplexOptions): string[] {
  const offered = ticket === undefined ? [...protocols] : [...protocols, `ticket.${ticket}`]
  // The text itself stays out of the message: it may be the ticket.
  if (!offered.every((name) => httpToken.test(name)))
    throw new UsageError('sub-protocols and tickets: expected characters of an HTTP token (RFC 9110 s5.6.2)')
  return offered
}

function construct(url: URL, protocols: string[], options: WebSocketDuplexOptions): WebSocketLike {
  const SocketClass = options.WebSocket ?? (globalThis as { WebSocket?: WebSocketConstructor }).WebSocket
  if (SocketClass === undefined)
    throw new UsageError('this runtime has no WebSocket: pass one as the option WebSocket (package ws)')
  try {
    return new SocketClass(url.href, protocols)
  } catch (error) {
    throw new UsageError(
      `a WebSocket to ${description(url)} cannot be made: ${error instanceof Error ? safeText(error.message) : 'unknown'}`,
      { cause: error },
    )
  }
}

function opened(socket: WebSocketLike, where: string, options: WebSocketDuplexOptions): Promise<ByteDuplex> {
  const { signal, connectTimeoutMs = 30_000 } = options
  const what = `connecting to ${where}`
  return new Promise((resolve, reject) => {
    let settled = false
    const settle = (error?: Error): void => {
      if (settled) return
      settled = true
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
      if (error === undefined) {
        resolve(duplex)
      } else {
        duplex.close(true)
        reject(error)
      }
    }
    const onAbort = (): void => settle(new AbortedError(what, signal?.reason))
    const timer = setTimeout(() => settle(new TimeoutError(what, connectTimeoutMs)), connectTimeoutMs)
    // It listens from the beginning: the server's first bytes may come in the same turn as 'open'.
    const duplex = new WebSocketDuplex(socket, where, options, (cause) =>
      settle(cause ?? new WebSocketClosedError(where, 1000, '')),
    )
    signal?.addEventListener('abort', onAbort, { once: true })
    if (socket.readyState === 1) settle()
    else if (socket.readyState > 1) settle(new ConnectionLost('relay', `${where}: the WebSocket is closed`))
    else socket.addEventListener('open', () => settle())
  })
}

class WebSocketDuplex implements ByteDuplex {
  readonly description: string
  readonly #socket: WebSocketLike
  readonly #highWaterBytes: number
  readonly #maxHeldBytes: number
  /** Told of an end that comes before `start`. */
  readonly #onEarlyEnd: (cause: Error | undefined) => void
  /** pause() and resume(), and a callback of send(): the `ws` package. */
  readonly #pausable: { pause(): void; resume(): void } | undefined
  #sink: ByteSink | undefined
  /** Messages for a reader that has not started or is paused. */
  #held: Uint8Array[] = []
  #heldBytes = 0
  #paused = false
  #delivering = false
  #done: (() => void) | undefined
  #timer: ReturnType<typeof setTimeout> | undefined
  #failure: unknown
  #end: { cause: Error | undefined } | undefined
  #endDelivered = false

  constructor(
    socket: WebSocketLike,
    where: string,
    options: WebSocketDuplexOptions,
    onEarlyEnd: (cause: Error | undefined) => void,
  ) {
    this.#socket = socket
    this.description = where
    this.#highWaterBytes = options.highWaterBytes ?? defaultHighWaterBytes
    this.#maxHeldBytes = options.maxHeldBytes ?? defaultMaxHeldBytes
    this.#onEarlyEnd = onEarlyEnd
    const { pause, resume } = socket as { pause?: unknown; resume?: unknown }
    this.#pausable =
      typeof pause === 'function' && typeof resume === 'function'
        ? (socket as unknown as { pause(): void; resume(): void })
        : undefined
    socket.binaryType = 'arraybuffer'
    socket.addEventListener('message', this.#onMessage)
    socket.addEventListener('close', this.#onClose)
    socket.addEventListener('error', this.#onError)
  }

  start(sink: ByteSink): void {
    this.#sink = sink
    this.#deliver()
  }

  write(slab: Uint8Array, done: () => void): void {
    const socket = this.#socket
    if (this.#end !== undefined || socket.readyState !== 1) return
    // DOM types want to know that the memory is not shared; the core's never is.
    const bytes = slab as Uint8Array<ArrayBuffer>
    const last =
      this.#pausable === undefined
        ? undefined
        : (error?: Error | null): void => {
            if (error === undefined || error === null) done()
          }
    for (let at = 0; at < bytes.length; at += maxMessageBytes) {
      const end = Math.min(at + maxMessageBytes, bytes.length)
      const message = at === 0 && end === bytes.length ? bytes : bytes.subarray(at, end)
      // A WebSocket of the platform copies what it is given. `ws` may send the memory itself: its callback tells when it did.
      if (end === bytes.length && last !== undefined) socket.send(message, last)
      else socket.send(message)
    }
    if (last !== undefined) return
    this.#done = done
    queueMicrotask(this.#room)
  }

  pause(): void {
    this.#paused = true
    this.#pausable?.pause()
  }

  resume(): void {
    this.#paused = false
    if (this.#socket.readyState === 1) this.#pausable?.resume()
    this.#deliver()
  }

  close(abort = false): void {
    const socket = this.#socket
    // Sends what waits, then the close frame (RFC 6455 s7.1.2); a paused one would not see the answer.
    if (socket.readyState < 2) socket.close(1000)
    if (this.#pausable !== undefined && socket.readyState === 2) this.#pausable.resume()
    if (!abort) return
    const { terminate } = socket as { terminate?: unknown }
    if (typeof terminate === 'function' && socket.readyState !== 3) terminate.call(socket)
    this.#held = []
    this.#over(undefined)
  }

  readonly #room = (): void => {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const done = this.#done
    if (done === undefined || this.#end !== undefined) return
    if (this.#socket.bufferedAmount > this.#highWaterBytes) {
      this.#timer = setTimeout(this.#room, pollMs)
      return
    }
    this.#done = undefined
    done()
  }

  readonly #onMessage = (event: { data: unknown }): void => {
    if (this.#end !== undefined) return
    const bytes = bytesOf(event.data)
    if (bytes === undefined) {
      this.#refuse('ERR_WEBSOCKET_TEXT', 'the relay sent text; only binary messages carry bytes')
      return
    }
    if (this.#done !== undefined) this.#room()
    if (this.#sink !== undefined && !this.#paused && this.#held.length === 0 && !this.#delivering) {
      deliverChunk(this.#sink, bytes)
      return
    }
    this.#held.push(bytes)
    this.#heldBytes += bytes.length
    if (this.#heldBytes > this.#maxHeldBytes)
      this.#refuse(
        'ERR_WEBSOCKET_OVERFLOW',
        `the peer sent more than ${this.#maxHeldBytes} bytes that it was not asked for`,
      )
  }

  readonly #onError = (event: { error?: unknown; message?: unknown }): void => {
    // Says nothing in a browser; `ws` tells why. 'close' follows.
    this.#failure =
      event.error ?? (typeof event.message === 'string' ? new Error(safeText(event.message)) : undefined)
  }

  readonly #onClose = (event: { code: number; reason: string }): void => {
    const said = event.reason === '' && this.#failure instanceof Error ? this.#failure.message : event.reason
    this.#over(closeCause(this.description, event.code, said, this.#failure))
  }

  #refuse(code: string, text: string): void {
    this.#held = []
    this.#socket.close(unusableCode)
    this.#pausable?.resume()
    this.#over(new ConnectionLost('relay', `${this.description}: ${text}`, { code }))
  }

  #over(cause: Error | undefined): void {
    if (this.#end !== undefined) return
    this.#end = { cause }
    clearTimeout(this.#timer)
    this.#done = undefined
    this.#onEarlyEnd(cause)
    this.#deliver()
  }

  #deliver(): void {
    const sink = this.#sink
    if (sink === undefined || this.#delivering) return
    this.#delivering = true
    while (!this.#paused) {
      const bytes = this.#held.shift()
      if (bytes === undefined) break
      this.#heldBytes -= bytes.length
      deliverChunk(sink, bytes)
    }
    this.#delivering = false
    if (this.#end === undefined || this.#held.length > 0 || this.#endDelivered) return
    this.#endDelivered = true
    sink.end(this.#end.cause)
  }
}
