// Which status an error becomes, as OpenSSH's sftp-server maps errno: clients are written against that. The text says more
// than the code, but never what the client may not know: strerror's words, no paths of the host.

import { WireError } from '@sshblock/transport/wire'
import { BackendError, posixErrorCode, posixErrorText } from '../backend.ts'
import { statusCode } from '../messages/status.ts'

/** A request that the server itself refuses, with the status to answer. */
export class RequestRefused extends Error {
  override readonly name = 'RequestRefused'
  readonly status: number

  constructor(status: number, text: string) {
    super(text)
    this.status = status
  }
}

const statusByPosixCode = new Map<string, number>([
  ['ENOENT', statusCode.noSuchFile],
  ['ENOTDIR', statusCode.noSuchFile],
  ['EBADF', statusCode.noSuchFile],
  ['ELOOP', statusCode.noSuchFile],
  ['EPERM', statusCode.permissionDenied],
  ['EACCES', statusCode.permissionDenied],
  ['EFAULT', statusCode.permissionDenied],
  ['ENAMETOOLONG', statusCode.badMessage],
  ['EINVAL', statusCode.badMessage],
  ['ENOSYS', statusCode.opUnsupported],
])

export interface StatusAnswer {
  readonly code: number
  readonly text: string
  /** The error is none that a file system reports: a fault of the back end, for the observer. */
  readonly isFault: boolean
}

/** The status for an error that a back end, a decoder or the server itself threw. */
export function statusOf(error: unknown): StatusAnswer {
  if (error instanceof RequestRefused) return { code: error.status, text: error.message, isFault: false }
  if (error instanceof WireError) {
    return { code: statusCode.badMessage, text: `Bad message: ${error.message}`, isFault: false }
  }
  const posix = posixErrorCode(error)
  if (posix === undefined) return { code: statusCode.failure, text: 'Failure', isFault: true }
  const text = error instanceof BackendError ? error.message : posixErrorText(posix)!
  return { code: statusByPosixCode.get(posix) ?? statusCode.failure, text, isFault: false }
}
