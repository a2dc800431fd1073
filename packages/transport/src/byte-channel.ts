/**
 * One ordered byte stream each way, as SFTP needs it: an SSH channel, or a pipe to an `sftp-server` process.
 * Synchronous on purpose: no promise per packet.
 */
export interface ByteChannel {
  /** Registers the receiver; called once. Data that came before is delivered inside this call or later, never dropped. */
  start(receiver: ByteReceiver): void
  /**
   * Appends bytes to the outgoing stream; copied (or sealed) before this returns, so the caller may reuse them at once.
   * What is written in one turn leaves together. Beyond `writableBytes` it is queued: callers with bulk data must look first.
   * After `closed` it does nothing.
   */
  write(bytes: Uint8Array): void
  /** Bytes that can be written now without queueing (window and socket permitting). 0 while keys are exchanged. */
  readonly writableBytes: number
  /** Bytes that the peer lets us send still, whatever the socket takes; undefined where nothing counts them (a pipe). */
  readonly peerWindowBytes?: number | undefined
  /** Withholds credit: at most one window more arrives, then the peer must wait. `data` goes on being called for it. */
  pause(): void
  /** Gives the withheld credit back. */
  resume(): void
  /** Ends our direction (EOF); the peer may go on. */
  end(): void
  /** Closes both directions. `closed` of the receiver follows. Idempotent. */
  close(): void
  /** For people. */
  readonly description?: string
}

export interface ByteReceiver {
  /** The next bytes, a view valid only during the call. Credit goes back to the peer when this returns, unless paused. */
  data(view: Uint8Array): void
  /** `writableBytes` grew from 0, or from less than was asked for. */
  writable(): void
  /** The peer ended its direction. */
  end(): void
  /** The channel is gone; `cause` where it was not closed in an orderly way. Called exactly once, last. */
  closed(cause?: Error): void
}
