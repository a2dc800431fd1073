import { type ErrorDetails, SshError } from '@sshblock/transport/errors'

/** The client broke the protocol so that its requests cannot be told apart any more; the channel is closed. */
export class SftpClientError extends SshError {
  constructor(message: string, details: ErrorDetails = {}) {
    super('ERR_SFTP_PROTOCOL', `the SFTP client broke the protocol: ${message}`, details)
  }
}
