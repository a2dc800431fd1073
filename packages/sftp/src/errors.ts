// Errors of SFTP: a STATUS that refused one call, and a server that broke the protocol, which ends the channel.
// Cancelled calls, time-outs and closed channels raise the transport's AbortedError, TimeoutError, ClosedError and
// ChannelClosedError; misuse raises UsageError.

import { type ErrorDetails, quote, SshError } from '@sshblock/transport/errors'
import { posixCode, statusName } from './messages/status.ts'

/** What a failed call was about, for messages and programs. */
export interface SftpSubject {
  /** Remote path, where the call had one. */
  readonly path?: string
  /** Second path of rename, link and symlink. */
  readonly target?: string
  /** Server's handle, where the call had one; never shown. */
  readonly handle?: Uint8Array
}

/** The server refused one call (draft-ietf-secsh-filexfer-02 s7); the client goes on. */
export class SftpStatusError extends SshError {
  /** Status number as the server sent it. */
  readonly status: number
  /** The server's text, raw. */
  readonly serverMessage: string
  /** The request that was refused, e.g. 'OPEN' or 'fsync@openssh.com'. */
  readonly operation: string
  readonly path: string | undefined
  readonly target: string | undefined
  readonly handle: Uint8Array | undefined
  /** For writes: bytes from the start of the call that the server acknowledged without a gap; what follows is undefined. */
  confirmedBytes: number | undefined

  /** `code` is the POSIX name of the status ('ENOENT', 'EACCES', 'EIO' for FAILURE, 'ENOTSUP') unless given. */
  constructor(
    status: number,
    serverMessage: string,
    operation: string,
    subject: SftpSubject,
    details: ErrorDetails & { code?: string } = {},
  ) {
    const where = subject.path === undefined ? '' : ` ${quote(subject.path)}`
    const to = subject.target === undefined ? '' : ` to ${quote(subject.target)}`
    const said = serverMessage === '' ? '' : `, ${quote(serverMessage)}`
    super(
      details.code ?? posixCode(status),
      `${operation}${where}${to} failed: ${statusName(status)}${said}`,
      details,
    )
    this.status = status
    this.serverMessage = serverMessage
    this.operation = operation
    this.path = subject.path
    this.target = subject.target
    this.handle = subject.handle
    this.confirmedBytes = undefined
  }
}

/** The server broke the protocol. The channel is closed, and every pending and later call fails with this error. */
export class SftpProtocolError extends SshError {
  /** The packet that was wrong, e.g. 'DATA', where known. */
  readonly messageName: string | undefined
  readonly field: string | undefined
  /** Offset in the packet after its length field, where known. */
  readonly offset: number | undefined

  constructor(
    message: string,
    details: ErrorDetails & { messageName?: string; field?: string; offset?: number } = {},
  ) {
    super('ERR_SFTP_PROTOCOL', `the SFTP server broke the protocol: ${message}`, details)
    this.messageName = details.messageName
    this.field = details.field
    this.offset = details.offset
  }
}

export type TransferProblem =
  /** The file ended before the size it had when the transfer began. */
  | 'ERR_SFTP_FILE_SHRANK'
  /** The file is larger than the caller allowed. */
  | 'ERR_SFTP_FILE_TOO_LARGE'
  /** The local side failed: source, sink or file. */
  | 'ERR_SFTP_LOCAL'
  /** A tree deeper than the limit. */
  | 'ERR_SFTP_TOO_DEEP'

/** A whole-file transfer ended early; `cause` is the error that ended it, where there is one. */
export class SftpTransferError extends SshError {
  /** Remote path. */
  readonly path: string
  /** Bytes from the start of the transfer that certainly arrived. */
  readonly transferredBytes: number

  constructor(
    code: TransferProblem | (string & {}),
    message: string,
    path: string,
    transferredBytes: number,
    details: ErrorDetails = {},
  ) {
    super(code, `${quote(path)}: ${message}`, details)
    this.path = path
    this.transferredBytes = transferredBytes
  }
}
