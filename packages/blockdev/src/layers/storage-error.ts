// From what the storage raised to the error of the call: POSIX code, range, cause. By `code` and nothing else, so that an
// SFTP status, a Node error and a lost connection all come through without this file knowing them.

import { SshError } from '@sshblock/transport/errors'
import { BlockDeviceError, type BlockDeviceErrorCode } from '../errors.ts'
import { OutcomeUnknownError, type RandomAccessFile } from '../random-access-file.ts'

const codes: ReadonlyMap<string, BlockDeviceErrorCode> = new Map([
  ['EIO', 'EIO'],
  ['EROFS', 'EROFS'],
  ['EINVAL', 'EINVAL'],
  ['ENOSPC', 'ENOSPC'],
  ['EDQUOT', 'ENOSPC'],
  ['ENOTSUP', 'ENOTSUP'],
  ['EOPNOTSUPP', 'ENOTSUP'],
  ['ENOSYS', 'ENOTSUP'],
  ['EPERM', 'EPERM'],
  ['EACCES', 'EACCES'],
  ['ENOENT', 'ENOENT'],
  ['EEXIST', 'EEXIST'],
  ['EISDIR', 'EISDIR'],
  ['EBADF', 'EBADF'],
  ['ABORT_ERR', 'ABORT_ERR'],
])

/** The POSIX code for an error of the storage; EIO where it says nothing better. */
export function storageErrorCode(error: unknown): BlockDeviceErrorCode {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return (typeof code === 'string' ? codes.get(code) : undefined) ?? 'EIO'
}

/** The error of a call: the storage's, with code and range. An error of this package keeps its code and message. */
export function callError(
  what: string,
  error: unknown,
  range: { offset?: number; length?: number } = {},
): BlockDeviceError {
  if (error instanceof BlockDeviceError) {
    if (range.offset === undefined || (error.offset === range.offset && error.length === range.length))
      return error
    return new BlockDeviceError(error.code, error.message, { ...range, cause: error.cause ?? error })
  }
  const at = range.offset === undefined ? '' : ` of ${range.length} bytes at ${range.offset}`
  const reason = error instanceof Error ? error.message : String(error)
  const cause = error instanceof OutcomeUnknownError ? error.cause : error
  return new BlockDeviceError(storageErrorCode(error), `${what}${at} failed: ${reason}`, { ...range, cause })
}

/**
 * The error of a failed write. SFTP v3 has one FAILURE for everything, so a failure without a reason is ENOSPC where the
 * file system has less room than the write is long, and EIO else. In both cases the range is undefined until it is
 * written again: part of it can be on disk.
 */
export async function writeError(
  what: string,
  error: unknown,
  file: RandomAccessFile,
  range: { offset: number; length: number },
): Promise<BlockDeviceError> {
  const failed = callError(what, error, range)
  if (failed.code !== 'EIO' || error instanceof OutcomeUnknownError || connectionGone(error)) return failed
  const space = await file.space().catch(() => undefined)
  if (space === undefined || space.availableBytes >= range.length) return failed
  const message = `${what} of ${range.length} bytes at ${range.offset} failed: no space left, the file system has ${space.availableBytes} bytes available`
  return new BlockDeviceError('ENOSPC', message, { ...range, cause: error })
}

// Nothing more can be asked over a connection that is gone.
function connectionGone(error: unknown): boolean {
  return error instanceof SshError && /^ERR_(SSH_|CLOSED)/.test(error.code)
}
