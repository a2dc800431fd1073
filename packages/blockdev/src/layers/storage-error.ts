// From what the storage raised to the error of the call: POSIX code, range, cause. By `code` and nothing else, so that an
// SFTP status, a Node error and a lost connection all come through without this file knowing them.

import { SshError } from '@sshblock/transport/errors'
import { BlockDeviceError, type BlockDeviceErrorCode } from '../errors.ts'
import { NotSyncedYetError, OutcomeUnknownError, type RandomAccessFile } from '../random-access-file.ts'

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
  ['ESHUTDOWN', 'ESHUTDOWN'],
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
  const isWrapped = error instanceof OutcomeUnknownError || error instanceof NotSyncedYetError
  const cause = isWrapped ? error.cause : error
  const code = storageErrorCode(cause instanceof BlockDeviceError ? cause : error)
  const message = `${what}${at} failed: ${reason}${advice(code, error)}`
  return new BlockDeviceError(code, message, { ...range, cause })
}

// A sentence on what can be done. Only where the storage itself refused: other errors say it themselves.
function advice(code: BlockDeviceErrorCode, error: unknown): string {
  if (error instanceof SshError && /^ERR_/.test(error.code)) return ''
  if (error instanceof NotSyncedYetError)
    return '; what was written is kept, and the next flush tries again to make it durable'
  switch (code) {
    case 'EACCES':
    case 'EPERM':
      return '; the server does not permit it (any more): look at the permissions of the file'
    case 'EROFS':
      return '; the file system on the server is read-only (now): look at its log for the reason'
    case 'ENOSPC':
      return '; make room on the server, or raise the quota, and write the range again'
    case 'ENOTSUP':
      return '; the server cannot do it'
    default:
      return ''
  }
}

/**
 * The error of a failed write. SFTP v3 has one FAILURE for everything, so the file system is asked: a failure is EROFS
 * where it is read-only, ENOSPC where it has less room than the write is long, and EIO else. In all cases the range is
 * undefined until it is written again: part of it can be on disk.
 */
export async function writeError(
  what: string,
  error: unknown,
  file: RandomAccessFile,
  range: { offset: number; length: number },
): Promise<BlockDeviceError> {
  const failed = callError(what, error, range)
  if (failed.code !== 'EIO' || error instanceof BlockDeviceError) return failed
  if (error instanceof OutcomeUnknownError || connectionGone(error)) return failed
  const at = `${what} of ${range.length} bytes at ${range.offset} failed`
  const said = error instanceof Error ? error.message : ''
  // A few servers do say it, though the protocol has no number for it.
  if (/quota/i.test(said))
    return new BlockDeviceError('ENOSPC', `${at}: ${said}${advice('ENOSPC', error)}`, {
      ...range,
      cause: error,
    })
  const space = await file.space().catch(() => undefined)
  if (space?.readOnly === true) {
    const message = `${at}: the file system is read-only${advice('EROFS', error)}`
    return new BlockDeviceError('EROFS', message, { ...range, cause: error })
  }
  if (/no space left/i.test(said) || (space !== undefined && space.availableBytes < range.length)) {
    const left = space === undefined ? '' : `, the file system has ${space.availableBytes} bytes available`
    const message = `${at}: no space left${left}${advice('ENOSPC', error)}`
    return new BlockDeviceError('ENOSPC', message, { ...range, cause: error })
  }
  const hint =
    '; the server gives no reason: a disk error, a quota, or a limit on the size of files; its log may tell'
  return new BlockDeviceError(failed.code, `${failed.message}${hint}`, { ...range, cause: error })
}

// Nothing more can be asked over a connection that is gone.
function connectionGone(error: unknown): boolean {
  return error instanceof SshError && /^ERR_(SSH_|CLOSED)/.test(error.code)
}
