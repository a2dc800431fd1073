// What the device needs of an image file, whoever keeps it: an SFTP handle, a local file, memory, a test that injects
// faults. Small on purpose; everything else (ordering, read-ahead, barriers, zero fill) is done once, above it.

import { SshError } from '@sshblock/transport/errors'

export type FileKind =
  | 'file'
  | 'directory'
  | 'symlink'
  | 'fifo'
  | 'socket'
  | 'block-device'
  | 'character-device'
  /** The storage did not say. */
  | 'unknown'

export interface FileStatus {
  /** Bytes; undefined where the storage did not say. */
  readonly size: number | undefined
  readonly kind: FileKind
}

export interface FileSystemSpace {
  /** Bytes that this user can still allocate. */
  readonly availableBytes: number
  /** Whether it is mounted read-only; undefined where the storage does not tell. */
  readonly readOnly?: boolean | undefined
}

export interface AccessOptions {
  signal?: AbortSignal | undefined
}

export interface WriteAccessOptions extends AccessOptions {
  /** Is called when the bytes were given away, so that the buffer is free, though no answer came yet. */
  onSent?: (() => void) | undefined
}

/**
 * A write, or a change of size, that was sent and not answered: it may have happened, not, in part, or may happen later.
 * `cause` is why no answer came.
 */
export class OutcomeUnknownError extends SshError {
  constructor(cause: unknown) {
    super('EIO', cause instanceof Error ? cause.message : String(cause), { cause })
  }
}

/**
 * A sync was not possible now. Nothing is lost by that: the storage keeps all that is not durable, and a later sync makes
 * it so. `cause` is why it was not possible.
 */
export class NotSyncedYetError extends SshError {
  constructor(cause: unknown) {
    super('EIO', cause instanceof Error ? cause.message : String(cause), { cause })
  }
}

/**
 * An open file with bytes at offsets. Calls may overlap in time; their order is up to the storage, so the caller keeps
 * overlapping ones apart. When the promise of a read or write settles, the buffer is the caller's again; when that of a
 * write settles, also after an abort, no request of it is under way any more, unless it rejects with OutcomeUnknownError.
 */
export interface RandomAccessFile {
  /** Whether `sync` reaches stable storage. */
  readonly canSync: boolean
  /** What the way to the storage and back costs when nothing waits, in milliseconds; undefined where unknown. */
  readonly roundTripMs?: number | undefined
  /** Fills `into` from `offset`. Returns the bytes read: fewer than asked only at the end of the file. */
  read(offset: number, into: Uint8Array, options?: AccessOptions): Promise<number>
  /**
   * Writes `from` at `offset`. Returns how many bytes from the start of it were acknowledged; fewer than all (also 0)
   * means that the rest was not taken and can be sent again. Rejects where the storage refused: then any part may be written.
   */
  write(offset: number, from: Uint8Array, options?: WriteAccessOptions): Promise<number>
  status(): Promise<FileStatus>
  /** Sets the size; what is added reads as zeros. */
  setSize(size: number): Promise<void>
  /** Brings what was written through this handle to stable storage. */
  sync(): Promise<void>
  /** Room on its file system; undefined where the storage cannot tell. */
  space(): Promise<FileSystemSpace | undefined>
  close(): Promise<void>
}
