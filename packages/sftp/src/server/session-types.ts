// What a user of the server sees: options, how a session ended, and the session itself.

import type { RandomFill } from '../core/handle-table.ts'
import type { SftpServerObserver } from './observer.ts'
import type { SessionEpochs } from './session-epochs.ts'

export interface SftpServerOptions {
  /** Refuse every change with PERMISSION_DENIED, as `sftp-server -R`. Default false. */
  readonly readOnly?: boolean
  /** Absolute path in the back end where relative paths start. Default '/'. */
  readonly startDirectory?: string
  /** What '~' means; default the start directory. */
  readonly homeDirectory?: string
  /** Requests by OpenSSH's names ('open', 'posix-rename', ...): only these are permitted; as `sftp-server -p`. */
  readonly allowRequests?: Iterable<string>
  /** These are refused with PERMISSION_DENIED, whatever `allowRequests` says; as `sftp-server -P`. */
  readonly denyRequests?: Iterable<string>
  /** Permission bits that clients may set. Default 0o7777, as OpenSSH; 0o777 takes set-user-id and the like away. */
  readonly modeMask?: number
  /** Open files and directories at once, 1 to 65536. Default 256. */
  readonly maxHandles?: number
  /** Bytes of replies, taken from the disk or about to be, beyond which no further request is begun. Default 4 MiB. */
  readonly maxQueuedReplyBytes?: number
  /**
   * The client's SSH identification line, where it is known: a few clients (AsyncSSH, ssh2) send the arguments of SYMLINK
   * in the draft's order to every server that does not call itself OpenSSH.
   */
  readonly clientIdentification?: string
  /**
   * Lets clients end their own lost sessions (session-epoch@sshblock): one object for all sessions that may serve the same
   * client. Default: not offered.
   */
  readonly epochs?: SessionEpochs
  readonly observer?: SftpServerObserver
  /** For handles. Default: crypto.getRandomValues. */
  readonly random?: RandomFill
  /**
   * Called once just before the session closes the channel: the moment to send an SSH channel its exit status. Not
   * called where the channel was closed from outside.
   */
  readonly onFinish?: (outcome: SftpServerOutcome) => void
}

/** How a session ended. */
export interface SftpServerOutcome {
  /**
   * 'end': the client ended its direction and got all its answers. 'closed': the channel is gone, or `close` was called.
   * 'error': the client broke the protocol, or an observer threw.
   */
  readonly reason: 'end' | 'closed' | 'error'
  readonly error?: Error
}

export interface SftpServerStatistics {
  /** Requests begun. */
  readonly requests: number
  /** Bytes of file content sent and received. */
  readonly bytesRead: number
  readonly bytesWritten: number
  readonly openHandles: number
  /** Bytes of replies that wait for the channel. */
  readonly queuedReplyBytes: number
  /** Bytes of requests not yet begun. */
  readonly bufferedBytes: number
  /** Whether the channel is paused. */
  readonly isPaused: boolean
}

export interface SftpServerSession {
  /** Resolves when the session is over and every handle is closed; never rejects. */
  readonly finished: Promise<SftpServerOutcome>
  readonly statistics: SftpServerStatistics
  /** Ends the session now: requests under way finish in the back end, nothing more is sent. Idempotent. */
  close(): void
}
