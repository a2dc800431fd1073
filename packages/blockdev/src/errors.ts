// What a call on a block device, or the opening of one, can fail with. One class with POSIX codes, so that an NBD export
// or a file system on top can map it without knowing SSH; the error of the layer below is always the `cause`.

import { SshError } from '@sshblock/transport/errors'

export type BlockDeviceErrorCode =
  | 'EIO'
  | 'EROFS'
  | 'EINVAL'
  | 'ENOSPC'
  | 'ENOTSUP'
  | 'EPERM'
  | 'EACCES'
  | 'ENOENT'
  | 'EEXIST'
  | 'EISDIR'
  | 'EBADF'
  /** The device failed for good and must be opened again. */
  | 'ESHUTDOWN'
  | 'ABORT_ERR'

/** A call on a block device failed. The device goes on, unless the message says otherwise. */
export class BlockDeviceError extends SshError {
  declare readonly code: BlockDeviceErrorCode
  /** Byte offset of the call, where it had one. */
  readonly offset: number | undefined
  /** Length of the call in bytes, where it had one. */
  readonly length: number | undefined

  constructor(
    code: BlockDeviceErrorCode,
    message: string,
    details: { offset?: number; length?: number; cause?: unknown } = {},
  ) {
    super(code, message, details)
    this.offset = details.offset
    this.length = details.length
  }
}

/** A location or an option cannot be used. `code` is 'EINVAL'; the message names the field and what was expected. */
export class LocationError extends BlockDeviceError {
  /** Which field: 'scheme', 'host', 'port', 'path', 'user', 'host_key_check', or the offending key itself. */
  readonly field: string

  constructor(field: string, message: string, details: { cause?: unknown } = {}) {
    super('EINVAL', `${field}: ${message}`, details)
    this.field = field
  }
}
