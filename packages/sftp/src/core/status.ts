// What a STATUS packet says, as an error (draft-ietf-secsh-filexfer-02 s7).

import { SftpProtocolError, SftpStatusError, type SftpSubject } from '../errors.ts'
import { status } from '../messages/replies.ts'

/** The error of a STATUS packet that refused a request. Throws WireError where the packet is malformed. */
export function statusError(packet: Uint8Array, operation: string, subject: SftpSubject): SftpStatusError {
  const { code, message } = status.decode(packet)
  return new SftpStatusError(code, message, operation, subject)
}

/** For a request that STATUS OK does not answer. */
export function unexpectedOk(operation: string): SftpProtocolError {
  return new SftpProtocolError(`STATUS OK in answer to ${operation}`, {
    messageName: 'STATUS',
    field: 'code',
    offset: 5,
  })
}
