// Why the way back to the server is closed.

import { BlockDeviceError } from '../errors.ts'

/** Somebody else answers, or it is another file: host key, user, size or content. The device fails for good. */
export class IdentityError extends BlockDeviceError {
  constructor(message: string, cause?: unknown) {
    super('EIO', message, { cause })
  }
}

/** The server does not let us in any more. The device fails for good when the outage budget is over. */
export class AccessRefusedError extends BlockDeviceError {
  constructor(message: string, cause?: unknown) {
    super('EIO', message, { cause })
  }
}
