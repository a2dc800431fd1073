// What the resilient image needs of the world: somebody who connects, connections, and on them lanes. Small interfaces, so
// that nothing here knows SSH or SFTP, and tests can script every accident.

import { SshError } from '@sshblock/transport/errors'
import type { RandomAccessFile } from '../random-access-file.ts'

/** Connects to whoever keeps the image: at open, for more connections, and after a loss. */
export interface ImageHost {
  connect(signal: AbortSignal): Promise<ImageConnection>
}

export interface ImageConnection {
  /** Who answered: host key and user as one text; must be the same on every connection of a device. */
  readonly identity: string
  /** Shortest round trip seen, in milliseconds; undefined where unknown. */
  readonly roundTripMs: number | undefined
  /** Lanes that were begun already: `openLane` gives them out first, and they cost the server nothing more. Default 0. */
  readonly begunLanes?: number | undefined
  /** Opens the image once more, never making or truncating it. Rejects where there are no more channels, or no such file. */
  openLane(options: OpenLaneOptions): Promise<Lane>
  /** Runs a command where the image is. Undefined, or rejects, where that cannot be done. */
  readonly exec: ((command: string, signal: AbortSignal) => Promise<CommandOutput>) | undefined
  /** Resolves when the connection is over, with what ended it. Never rejects. */
  readonly over: Promise<Error>
  close(): Promise<void>
  destroy(): void
}

export interface OpenLaneOptions {
  readonly signal: AbortSignal
  /** Which session of the device this is; grows with every loss of all connections. */
  readonly epoch: number
  /** A number that no other lane of this device has. */
  readonly serial: number
}

export interface CommandOutput {
  readonly status: number | undefined
  readonly stdout: Uint8Array
}

/**
 * An open handle of the image on a channel of its own. Reads and writes never wait behind those of another lane. All calls
 * reject with LaneLost where no answer came; then a write or a change of size may or may not have happened, or may happen
 * later. Rejections of other kinds are answers.
 */
export interface Lane extends RandomAccessFile {
  /** Resolves when the lane is of no use any more. */
  readonly lost: Promise<LaneLost>
  /**
   * Resolves when the channel is gone: true where the server told that its side has ended, so that nothing sent on this lane
   * can happen any more; false where nobody knows.
   */
  readonly exited: Promise<boolean>
  /** Bytes that could be sent at once. */
  readonly writableBytes: number
  /**
   * Serial numbers of lanes of older epochs that the server had ended when this one was opened, and that can do nothing any
   * more. Undefined where the server knows no epochs.
   */
  readonly endedOlder: ReadonlySet<number> | undefined
  /**
   * Makes a range read as zeros without sending them. Resolves to false where that cannot be done; then any part of it may
   * have been.
   */
  zero?(offset: number, length: number): Promise<boolean>
  /** What the server tells of the open file. */
  attributes(): Promise<LaneAttributes>
  /** Sets the file's times, in whole seconds since 1970. */
  setTimes(accessed: number, changed: number): Promise<void>
  /** Ends our direction: the server does what it was sent, and ends. */
  end(): void
  /** Ends both directions at once; everything pending rejects with LaneLost. */
  abandon(): void
}

/** Attributes by which files are told apart; undefined where the server does not tell. Times in seconds since 1970. */
export interface LaneAttributes {
  readonly size: number | undefined
  readonly accessed: number | undefined
  readonly changed: number | undefined
  /** Owner, group and mode as one text. */
  readonly ownership: string
}

/** No answer will come on this lane. */
export class LaneLost extends SshError {
  /** 'silence': a request was not answered in time, but the channel is there; 'gone': there is no channel any more. */
  readonly reason: 'silence' | 'gone'
  declare readonly cause: Error

  constructor(reason: 'silence' | 'gone', cause: Error) {
    super('EIO', cause.message, { cause })
    this.reason = reason
  }
}
