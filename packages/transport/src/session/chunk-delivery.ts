// Hands chunks that lie in memory of somebody else to a sink: WebSocket messages and chunks of Web Streams.

import type { ByteSink } from './duplex.ts'

/** Copies `chunk` into the sink, in as many pieces as the sink has room for at a time. */
export function deliverChunk(sink: ByteSink, chunk: Uint8Array): void {
  let at = 0
  while (at < chunk.length) {
    const into = sink.reserve(1)
    const count = Math.min(into.length, chunk.length - at)
    into.set(at === 0 && count === chunk.length ? chunk : chunk.subarray(at, at + count))
    at += count
    sink.commit(count)
  }
}

/** The bytes of an ArrayBuffer or of a view of one, without copying; undefined for anything else. */
export function bytesOf(chunk: unknown): Uint8Array | undefined {
  if (chunk instanceof Uint8Array) return chunk
  if (ArrayBuffer.isView(chunk)) return new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength)
  // Not instanceof ArrayBuffer: a buffer may come from another realm (an iframe, a test environment).
  if (Object.prototype.toString.call(chunk) === '[object ArrayBuffer]')
    return new Uint8Array(chunk as ArrayBuffer)
  return undefined
}
