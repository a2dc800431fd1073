// A ByteDuplex over any pair of Web Streams: WebTransport's streams, Deno.connect, sockets of edge runtimes, a
// WebSocketStream.
// Back-pressure is the streams' own: on receive we do not ask for the next chunk, on send we wait for `write()`.
// What is written is copied once. A stream keeps what it was given until its sink took it, and a sink may transfer (detach)
// the buffer, which is the core's. The copy also lets the core fill its next slab while this one is on its way.

import { ConnectionLost, safeText } from '../errors.ts'
import { bytesOf, deliverChunk } from './chunk-delivery.ts'
import type { ByteDuplex, ByteSink } from './duplex.ts'

/** Two streams of bytes. Chunks are Uint8Array, or what shares its memory: ArrayBuffer and its other views. */
export interface StreamPair {
  readonly readable: ReadableStream<unknown>
  readonly writable: WritableStream<Uint8Array<ArrayBuffer>>
}

export interface StreamsDuplexOptions {
  /** For people, e.g. 'host:port'. */
  description?: string
  /** Bytes that may wait in the writable stream before the next ones are held back; default 512 KiB. */
  highWaterBytes?: number
  /**
   * Asked when the streams ended, with the error where there was one: what to tell as the cause of the end. Where left out
   * the error itself becomes the cause of a ConnectionLost, and an end without error is an orderly one.
   */
  ended?: (error: unknown) => Error | undefined | Promise<Error | undefined>
  /** Closes what the streams belong to, after both were closed, or at once where `abort` is true. */
  close?: (abort: boolean) => void
}

/** Bytes waiting in a stream or socket before more are held back. */
export const defaultHighWaterBytes = 512 * 1024

/**
 * A duplex over a pair of Web Streams, which it locks and takes over.
 * @throws TypeError where one of the streams is locked already
 */
export function streamsDuplex(pair: StreamPair, options: StreamsDuplexOptions = {}): ByteDuplex {
  return new StreamsDuplex(pair, options)
}

class StreamsDuplex implements ByteDuplex {
  readonly description: string
  readonly #reader: ReadableStreamDefaultReader<unknown>
  readonly #writer: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>
  readonly #options: StreamsDuplexOptions
  readonly #highWaterBytes: number
  #sink: ByteSink | undefined
  #queuedBytes = 0
  #done: (() => void) | undefined
  #paused = false
  #reading = false
  #closing = false
  #ending = false
  #ended = false

  constructor(pair: StreamPair, options: StreamsDuplexOptions) {
    this.#reader = pair.readable.getReader()
    this.#writer = pair.writable.getWriter()
    this.#options = options
    this.#highWaterBytes = options.highWaterBytes ?? defaultHighWaterBytes
    this.description = options.description ?? 'streams'
    // A writable that fails while nothing is written must not become an unhandled rejection.
    this.#writer.closed.catch((error: unknown) => void this.#over(error))
  }

  start(sink: ByteSink): void {
    this.#sink = sink
    void this.#read()
  }

  write(slab: Uint8Array, done: () => void): void {
    if (this.#ended || this.#closing) return
    const bytes = slab.slice()
    this.#queuedBytes += bytes.length
    this.#done = done
    this.#writer.write(bytes).then(
      () => {
        this.#queuedBytes -= bytes.length
        this.#room()
      },
      (error: unknown) => void this.#over(error),
    )
    if (this.#queuedBytes <= this.#highWaterBytes) queueMicrotask(() => this.#room())
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    void this.#read()
  }

  close(abort = false): void {
    if (abort) {
      this.#closing = true
      this.#writer.abort().catch(ignore)
      this.#reader.cancel().catch(ignore)
      this.#options.close?.(true)
      this.#end()
      return
    }
    if (this.#closing) return
    this.#closing = true
    const closed = (): void => {
      this.#options.close?.(false)
      this.#reader.cancel().catch(ignore)
      this.#end()
    }
    // Resolves when everything written before was taken.
    this.#writer.close().then(closed, closed)
  }

  #room(): void {
    if (this.#queuedBytes > this.#highWaterBytes) return
    const done = this.#done
    this.#done = undefined
    done?.()
  }

  async #read(): Promise<void> {
    const sink = this.#sink
    if (this.#reading || sink === undefined) return
    this.#reading = true
    try {
      while (!this.#paused && !this.#ended) {
        const { done, value } = await this.#reader.read()
        if (this.#ended) return
        if (done) return void (await this.#over(undefined))
        const bytes = bytesOf(value)
        if (bytes === undefined)
          return void (await this.#over(new TypeError(`expected chunks of bytes, got ${typeof value}`), true))
        deliverChunk(sink, bytes)
      }
    } catch (error) {
      await this.#over(error)
    } finally {
      this.#reading = false
    }
  }

  /** The streams ended; `ours` where we refuse them. */
  async #over(error: unknown, ours = false): Promise<void> {
    if (this.#ending || this.#ended) return
    this.#ending = true
    let cause: Error | undefined
    try {
      cause =
        this.#options.ended === undefined || ours
          ? lost(error, this.description)
          : await this.#options.ended(error)
    } catch (failure) {
      cause = lost(failure, this.description)
    }
    this.#end(cause)
    if (ours) this.close(true)
  }

  #end(cause?: Error): void {
    if (this.#ended) return
    this.#ended = true
    this.#sink?.end(cause)
  }
}

function ignore(): void {}

function lost(error: unknown, where: string): Error | undefined {
  if (error === undefined) return undefined
  if (error instanceof ConnectionLost) return error
  const text = error instanceof Error ? error.message : String(error)
  return new ConnectionLost('transfer', `${where}: ${safeText(text)}`, {
    cause: error,
    code: 'ERR_STREAM_FAILED',
  })
}
