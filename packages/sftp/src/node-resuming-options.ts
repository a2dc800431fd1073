// What a copy that survives lost connections is told and tells, and when it begins anew.

import type { SftpClient } from './client.ts'
import { SftpTransferError } from './errors.ts'
import type { FileTransferOptions, FileTransferResult } from './node-transfer-options.ts'
import type { ChannelWish, LaneClient } from './transfer-lanes.ts'
import type { RetryOptions } from './transfer-retry.ts'

export interface ResumingTransferOptions
  extends Omit<FileTransferOptions, 'resume' | 'openChannel'>,
    RetryOptions {
  /** Opens one more SFTP channel on the connection of `client`, which may be one that `reconnect` gave; see PutOptions. */
  openChannel?: ((client: SftpClient, wanted?: ChannelWish) => Promise<LaneClient>) | undefined
  /** A put asks the server for an fsync each time so many bytes were acknowledged since the last. Default 64 MiB. */
  syncEveryBytes?: number
}

export interface ResumingTransferResult extends FileTransferResult {
  /** Times that it went on after a loss. */
  readonly retries: number
  /** Times that it began anew because its source changed, or because what was there could not be trusted. */
  readonly restarts: number
}

/** A source that changes more often than this while it is copied is not copied. */
export const maxRestarts = 5

/** The source is another one than the copy began with, or what is there of the copy is not what was sent: begin anew. */
export class Outdated extends Error {}

export function changed(path: string, transferredBytes: number): SftpTransferError {
  return new SftpTransferError(
    'ERR_SFTP_FILE_CHANGED',
    `the file changed ${maxRestarts + 1} times while it was copied`,
    path,
    transferredBytes,
  )
}
