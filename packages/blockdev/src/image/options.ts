// What a user chooses about lost connections and about how many ways to the server are opened, and what they are told of it.

import type { BlockDeviceError } from '../errors.ts'

/** Monotonic time and timers, replaceable in tests. */
export interface Clock {
  /** Milliseconds from any start; never goes back, and does not follow the wall clock. */
  now(): number
  setTimer(task: () => void, delayMs: number): unknown
  clearTimer(timer: unknown): void
}

/**
 * What becomes of writes that were sent and not answered when the connection was lost, where the old session cannot be
 * fenced (nobody knows whether its server still applies them later):
 * - 'fail' (default): they fail with EIO and the device fails for good; opening it again is up to the user.
 * - 'replay': they are sent again with the same bytes, and the device goes on. Risk: the old server may apply such a write
 *   once more at any later time, over data that was written to the same place since.
 */
export type OnLoss = 'fail' | 'replay'

/** SFTP channels on one connection at most, where nothing else is said. */
export const defaultMaxChannels = 8

/** How the device behaves when a connection or a channel is lost, and how many it opens. */
export interface ConnectionBehaviour {
  /**
   * How long calls wait for a lost connection to come back, in milliseconds from the loss; then they fail with EIO, as do
   * all further calls until it is back. The device goes on trying. On a line that comes and goes the time of a call counts
   * from its own first loss. 0: calls fail at once. Default 30 000.
   */
  reconnectDelayMs?: number
  /** See OnLoss. Default 'fail'. */
  onLoss?: OnLoss
  /**
   * 'auto' (default): after a loss with unanswered writes the old session is proved dead before they are sent again: by the
   * exit status of its channel, by the session epochs of a server of ours, or by a command on the server that looks for the
   * old processes and kills them. 'none': no command is ever run on the server, and no proof is asked for.
   */
  fence?: 'auto' | 'none'
  /**
   * Bytes of acknowledged writes that are kept until a flush made them durable, to be written again after a loss. When it
   * is full the image is flushed first. 0: nothing is kept; after a loss the next flush fails. Default 64 MiB.
   */
  journalBytes?: number
  /** SFTP channels on one connection at most. Default 8; the server's MaxSessions is respected whatever is set here. */
  maxChannels?: number
  /** SSH connections at most. Default 3. Further ones are opened only after all channels of the first are in use. */
  maxConnections?: number
  /**
   * Channels and connections that are opened at once, without waiting until there is need. Defaults 1 and 1. A device that is open
   * for writing opens all its channels with the first one where the round trip is 20 ms or more.
   */
  minChannels?: number
  minConnections?: number
  /** Is told when the connection is lost, comes back, or is given up. Must not throw. */
  onState?: (event: ConnectionEvent) => void
  /** Pause before the second attempt to connect again, and the longest pause, in milliseconds. Defaults 100 and 5000. */
  firstRetryMs?: number
  maxRetryMs?: number
  /** How long one attempt to connect, open and check may take, in milliseconds. Default 15 000. */
  attemptTimeoutMs?: number
  /** How long a request may go unanswered before its channel is given up, in milliseconds. Default 60 000. */
  requestTimeoutMs?: number
  /** How long a server that was asked to end a channel may take before it is fenced in another way. Default 5000. */
  orderlyEndMs?: number
  /** For tests. Default: performance.now and the runtime's timers. */
  clock?: Clock
  /** Randomness of the pauses between attempts, 0 to 1. Default Math.random-like, from crypto.getRandomValues. */
  random?: () => number
}

export type ConnectionState =
  /** All is well. */
  | 'connected'
  /** A connection, or a channel with unanswered writes, was lost; calls wait. */
  | 'reconnecting'
  /** Given up for good: every call fails. */
  | 'failed'

/** What happened to the way to the server. */
export type ConnectionEvent =
  /** The device was opened. */
  | { readonly type: 'connected' }
  /** Lost; the first attempt to come back begins now. `cause` is a ConnectionLost, PeerDisconnected, TimeoutError, ... */
  | { readonly type: 'lost'; readonly cause: Error }
  /** An attempt begins; the first has the number 1. */
  | { readonly type: 'reconnecting'; readonly attempt: number; readonly sinceMs: number }
  /** An attempt failed; the next begins in `nextTryInMs`. */
  | {
      readonly type: 'attempt-failed'
      readonly attempt: number
      readonly cause: Error
      readonly nextTryInMs: number
    }
  /** Calls go on. */
  | {
      readonly type: 'restored'
      readonly outageMs: number
      /** How the old session was proved dead; 'none' where there was nothing to prove, or no proof (onLoss 'replay'). */
      readonly fence: FenceProof | 'none'
      /** Acknowledged bytes that were written again. */
      readonly rewrittenBytes: number
    }
  /** The budget is over: waiting calls failed; the device goes on trying. */
  | { readonly type: 'budget-over'; readonly waitedMs: number }
  /** Given up for good. */
  | { readonly type: 'failed'; readonly error: BlockDeviceError }

/** How an old session was proved to be dead. */
export type FenceProof = 'exit-status' | 'session-epoch' | 'processes'

/** Where the way to the server stands; part of a device's info. */
export interface ConnectionInfo {
  readonly state: ConnectionState
  /** SSH connections, and SFTP channels on all of them that carry reads and writes. */
  readonly connections: number
  readonly channels: number
  /** Times that a channel or connection was lost, and that all was well again. */
  readonly losses: number
  readonly restored: number
  /** During an outage: milliseconds since its beginning, attempts so far, and why the last failed. */
  readonly outage:
    | { readonly sinceMs: number; readonly attempts: number; readonly lastError: string }
    | undefined
  /** Acknowledged bytes that are not durable yet and kept. */
  readonly journalBytes: number
  /** Whether an old session could be fenced if the connection were lost now; 'unknown' before the server was asked. */
  readonly fence: 'processes' | 'session-epoch' | 'none' | 'unknown'
  /** Why the device failed. */
  readonly error: BlockDeviceError | undefined
}
