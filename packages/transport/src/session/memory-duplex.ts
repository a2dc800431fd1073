// Two duplexes joined in memory: what one writes the other reads, in later turns, in order. For tests, embedded servers
// and anything in one process. A chunk is handed over only when the reader is not paused, so back-pressure is real.

import type { ByteDuplex, ByteSink } from './duplex.ts'

class MemoryDuplex implements ByteDuplex {
  peer: MemoryDuplex | undefined
  readonly description: string
  #sink: ByteSink | undefined
  #incoming: { bytes: Uint8Array; done: () => void }[] = []
  #peerEnded = false
  #endDelivered = false
  #paused = false
  #closed = false
  #scheduled = false

  constructor(description: string) {
    this.description = description
  }

  start(sink: ByteSink): void {
    this.#sink = sink
    this.#schedule()
  }

  write(slab: Uint8Array, done: () => void): void {
    if (this.#closed) return
    this.peer?.receive(slab, done)
  }

  receive(bytes: Uint8Array, done: () => void): void {
    if (this.#closed) return
    this.#incoming.push({ bytes, done })
    this.#schedule()
  }

  peerClosed(): void {
    this.#peerEnded = true
    this.#schedule()
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    queueMicrotask(() => {
      this.#scheduled = false
      this.#deliver()
    })
  }

  #deliver(): void {
    const sink = this.#sink
    if (sink === undefined) return
    while (!this.#paused && !this.#endDelivered) {
      const chunk = this.#incoming.shift()
      if (chunk === undefined) break
      let at = 0
      while (at < chunk.bytes.length) {
        const into = sink.reserve(1)
        const count = Math.min(into.length, chunk.bytes.length - at)
        into.set(chunk.bytes.subarray(at, at + count))
        at += count
        sink.commit(count)
      }
      chunk.done()
    }
    if ((this.#peerEnded || this.#closed) && this.#incoming.length === 0 && !this.#endDelivered) {
      this.#endDelivered = true
      sink.end()
    }
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    this.#schedule()
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#incoming = []
    this.peer?.peerClosed()
    this.#schedule()
  }
}

/** A pair of connected duplexes. */
export function memoryDuplexPair(): [ByteDuplex, ByteDuplex] {
  const a = new MemoryDuplex('memory')
  const b = new MemoryDuplex('memory')
  a.peer = b
  b.peer = a
  return [a, b]
}
