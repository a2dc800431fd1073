// Which requests are legal, and with which error the others are answered ("Request types", "Command flags",
// "Error values", "Block size constraints" in the NBD protocol document). Pure: one function, tested with tables.

import { maxRequestBytes } from './limits.ts'
import { command, commandFlag, nbdError } from './protocol.ts'

/** What of a connection and its device decides whether a request is legal. */
export interface RequestRules {
  /** Size of the device now; it may have grown or shrunk since the client chose the export. */
  readonly sizeBytes: number
  readonly readOnly: boolean
  readonly canTrim: boolean
  readonly structuredReplies: boolean
  /** base:allocation was selected. */
  readonly blockStatus: boolean
  readonly shuttingDown: boolean
}

export interface Refusal {
  /** One of `nbdError`. */
  readonly error: number
  /** For people. */
  readonly message: string
}

/** Flags that are documented for a command. FUA is valid for all, "even by ignoring the bit". */
function allowedFlags(type: number, rules: RequestRules): number {
  switch (type) {
    case command.read:
      return commandFlag.fua | (rules.structuredReplies ? commandFlag.df : 0)
    case command.writeZeroes:
      return commandFlag.fua | commandFlag.noHole | commandFlag.fastZero
    case command.blockStatus:
      return commandFlag.fua | commandFlag.reqOne
    default:
      return commandFlag.fua
  }
}

function refuse(error: number, message: string): Refusal {
  return { error, message }
}

/**
 * Why a request must be refused, or undefined where it is legal.
 * @param offset as the client sent it; above 2^53 it may be rounded, which is outside every device either way
 */
export function checkRequest(
  type: number,
  flags: number,
  offset: number,
  length: number,
  rules: RequestRules,
): Refusal | undefined {
  if (rules.shuttingDown) return refuse(nbdError.eshutdown, 'the server is shutting down')
  if (type > command.blockStatus || type === command.disc)
    return refuse(nbdError.einval, `unknown command ${type}`)
  const unknownFlags = flags & ~allowedFlags(type, rules)
  if (unknownFlags !== 0)
    return refuse(nbdError.einval, `flags 0x${unknownFlags.toString(16)} are not for command ${type}`)

  if (type === command.flush) {
    // "length and offset are reserved, and MUST be set to all-zero".
    if (offset !== 0 || length !== 0) return refuse(nbdError.einval, 'a flush has neither offset nor length')
    return undefined
  }
  const writes = type === command.write || type === command.writeZeroes || type === command.trim
  if (writes && rules.readOnly) return refuse(nbdError.eperm, 'the export is read-only')
  if (type === command.trim && !rules.canTrim) return refuse(nbdError.einval, 'trim was not offered')
  if (type === command.blockStatus) {
    if (!rules.blockStatus) return refuse(nbdError.einval, 'no metadata context was selected')
    if (length === 0) return refuse(nbdError.einval, 'block status of an empty range')
  }
  if ((type === command.read || type === command.write) && length > maxRequestBytes) {
    // "if the length is too large to send without fragmentation": the one place of NBD_EOVERFLOW.
    const unfragmented = (flags & commandFlag.df) !== 0
    const error = unfragmented ? nbdError.eoverflow : nbdError.einval
    return refuse(error, `${length} bytes in one request, at most ${maxRequestBytes}`)
  }
  // Both sides are exact: length is below 2^32 and the size a safe integer.
  if (offset > rules.sizeBytes - length) {
    const error = type === command.write || type === command.writeZeroes ? nbdError.enospc : nbdError.einval
    return refuse(error, `${length} bytes at ${offset} are outside the device of ${rules.sizeBytes} bytes`)
  }
  return undefined
}
