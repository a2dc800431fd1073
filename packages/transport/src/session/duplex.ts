/**
 * A pair of byte streams to the peer: a TCP socket, a WebSocket, a Web Streams pair, an in-memory pipe, or a channel of
 * another session. Push on receive (the duplex writes into our buffer), one slab at a time on send.
 */
export interface ByteDuplex {
  /** Begins reading. Called once. `end` is called exactly once, after the last `commit`. */
  start(sink: ByteSink): void
  /**
   * Sends `slab`; the bytes belong to the duplex until it calls `done`. At most one write is in flight: the caller waits
   * for `done`. After `end` was called, `done` may never come.
   */
  write(slab: Uint8Array, done: () => void): void
  /** Stops reading (back-pressure) and goes on. */
  pause(): void
  resume(): void
  /** Ends the connection. Sends what was written before; `abort` drops it. Calls `end` if it was not called yet. */
  close(abort?: boolean): void
  /** For people: 'host:port' or such. */
  readonly description?: string
}

export interface ByteSink {
  /** At least `min` bytes into which the next read goes; valid until `commit` or the next `reserve`. */
  reserve(min: number): Uint8Array
  /** The first `count` bytes of what `reserve` gave were filled. */
  commit(count: number): void
  /** Nothing more comes; `cause` where it was not an orderly end. */
  end(cause?: Error): void
}
