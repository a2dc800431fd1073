// What a client's connection needs of whatever carries its bytes, and how it says goodbye. A socket in node-server.ts.

/** What carries the bytes of one client. */
export interface Wire {
  /**
   * Sends pieces in order, in one system call where that is possible; they stay untouched until `done`, which is called
   * when the operating system has taken them, and may never be called once the wire is gone. One write at a time.
   */
  write(pieces: readonly Uint8Array[], done: () => void): void
  /** Takes back a chunk that was received and is used up; nobody looks at it afterwards. */
  usedUp(chunk: Uint8Array): void
  pause(): void
  resume(): void
  /** Closes after what was written. */
  end(): void
  /** Closes at once. */
  destroy(): void
}

/** Why a client is gone. */
export type FarewellReason =
  /** NBD_CMD_DISC or NBD_OPT_ABORT. */
  | 'disconnected'
  /** The connection ended without a word. */
  | 'vanished'
  /** It broke the protocol. */
  | 'protocol error'
  /** It asked, by the option that has no error reply, for an export that it cannot have. */
  | 'refused'
  /** It was not done with negotiation in time. */
  | 'negotiation timeout'
  | 'server shutdown'

export interface Farewell {
  readonly reason: FarewellReason
  readonly error: Error | undefined
}
