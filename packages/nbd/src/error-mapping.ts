// From a device's failure to NBD's error values ("Error values"), and to the text that goes with it.
// Codes are compared as strings: any error with a POSIX code is understood, not only a BlockDeviceError.

import { SshError } from '@sshblock/transport/errors'
import { command, nbdError } from './protocol.ts'
import { shownText } from './shown-text.ts'

/**
 * The NBD error value for a device's failure.
 * @param type the request that failed: NBD_ENOTSUP is for TRIM and WRITE_ZEROES alone
 */
export function nbdErrorOf(error: unknown, type: number): number {
  switch (errorCode(error)) {
    case 'EPERM':
    case 'EACCES':
    case 'EROFS':
      return nbdError.eperm
    case 'EINVAL':
      return nbdError.einval
    // "It also SHOULD map the EDQUOT and EFBIG errors to NBD_ENOSPC".
    case 'ENOSPC':
    case 'EDQUOT':
    case 'EFBIG':
      return nbdError.enospc
    case 'ENOMEM':
      return nbdError.enomem
    // The device has failed for good: "server is in the process of being shut down" is what comes nearest.
    case 'ESHUTDOWN':
      return nbdError.eshutdown
    case 'ENOTSUP':
    case 'EOPNOTSUPP':
      return type === command.trim || type === command.writeZeroes ? nbdError.enotsup : nbdError.einval
    default:
      // "Array buffer allocation failed".
      return error instanceof RangeError ? nbdError.enomem : nbdError.eio
  }
}

/** Whether a device says that it cannot do something at all. */
export function isNotSupported(error: unknown): boolean {
  const code = errorCode(error)
  return code === 'ENOTSUP' || code === 'EOPNOTSUPP'
}

/**
 * What an error reply tells people. Only errors of this project speak: the text of any other could hold what is not the
 * client's business.
 */
export function errorText(error: unknown): Uint8Array {
  return shownText(error instanceof SshError ? error.message : 'the device failed')
}

function errorCode(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null) return undefined
  const code: unknown = (error as { code?: unknown }).code
  return typeof code === 'string' ? code : undefined
}
