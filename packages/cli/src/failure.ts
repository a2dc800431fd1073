// What ends a command, and how it is told: one line, "sshblock: what 'object': reason", and an exit status by whose
// fault it was.

import { BlockDeviceError, LocationError } from '@sshblock/blockdev'
import { SftpStatusError, SftpTransferError } from '@sshblock/sftp'
import {
  AuthError,
  ChannelClosedError,
  ChannelOpenError,
  ConnectionLost,
  HostKeyError,
  IntegrityError,
  NegotiationError,
  PeerDisconnected,
  ProtocolError,
  SshError,
  safeText,
  TimeoutError,
} from '@sshblock/transport/errors'
import { exitStatus, UsageProblem } from './usage-problem.ts'

/** A step of a command failed: what was tried, with what. */
export class CommandFailure extends Error {
  constructor(what: string, object: string, cause: unknown) {
    super(`${what} '${safeText(object)}': ${reasonOf(cause)}`, { cause })
  }
}

/** Runs a step; its error becomes a CommandFailure that names the step and its object. */
export async function attempt<T>(what: string, object: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (caught) {
    const error = firstOf(caught)
    if (error instanceof CommandFailure || error instanceof UsageProblem) throw error
    throw new CommandFailure(what, object, error)
  }
}

/** What went wrong first, where closing things failed too (SuppressedError, which `await using` makes). */
export function firstOf(error: unknown): unknown {
  let first = error
  while (first instanceof Error && first.name === 'SuppressedError' && 'suppressed' in first)
    first = first.suppressed
  return first
}

const connectionErrors = [
  HostKeyError,
  AuthError,
  NegotiationError,
  ProtocolError,
  IntegrityError,
  ConnectionLost,
  PeerDisconnected,
  TimeoutError,
  ChannelOpenError,
  ChannelClosedError,
]

/** The exit status for an error. */
export function statusOf(error: unknown): number {
  if (error instanceof UsageProblem) return exitStatus.usage
  for (const each of causes(error)) {
    if (each instanceof LocationError) return exitStatus.usage
    if (connectionErrors.some((type) => each instanceof type)) return exitStatus.connection
    // As ssh has it for a configuration that it cannot use.
    if (each instanceof SshError && each.code === 'ERR_SSH_CONFIG') return exitStatus.connection
  }
  return exitStatus.failure
}

/** An error and what led to it, the outermost first. */
export function* causes(error: unknown): Generator<unknown> {
  let current = error
  for (let depth = 0; current !== undefined && current !== null && depth < 16; depth++) {
    yield current
    current = current instanceof Error ? current.cause : undefined
  }
}

const reasons: ReadonlyMap<string, string> = new Map([
  ['ENOENT', 'no such file or folder'],
  ['EACCES', 'permission denied'],
  ['EPERM', 'operation not permitted'],
  ['EEXIST', 'exists already'],
  ['EISDIR', 'is a folder'],
  ['ENOTDIR', 'not a folder'],
  ['ENOTEMPTY', 'the folder is not empty'],
  ['ENOSPC', 'no space left'],
  ['EROFS', 'read-only'],
  ['EADDRINUSE', 'the address is in use already'],
])

/** The reason as a person wants to read it, on one line. */
export function reasonOf(error: unknown): string {
  if (error instanceof SftpStatusError) return statusReason(error)
  if (error instanceof SftpTransferError && error.cause !== undefined) {
    const after = error.transferredBytes === 0 ? '' : ` (after ${error.transferredBytes} bytes)`
    return reasonOf(error.cause) + after
  }
  if (error instanceof BlockDeviceError && error.cause !== undefined && error.offset === undefined) {
    if (error.code === 'EEXIST') return 'exists already; --overwrite replaces it'
    if (error.cause instanceof SftpStatusError || isSystemError(error.cause)) return reasonOf(error.cause)
  }
  if (isSystemError(error)) return reasons.get(error.code) ?? safeText(error.message)
  const message = (error instanceof Error ? error.message : String(error)).replace(
    /^connection lost \(during connecting\): /,
    '',
  )
  // What was being done, with what, stands before the reason already.
  const isStep = error instanceof BlockDeviceError || error instanceof SftpTransferError
  return safeText(isStep ? message.replace(/^cannot \w+ "(?:[^"\\]|\\.)*": /, '') : message, 4096)
}

function statusReason(error: SftpStatusError): string {
  const known = error.code === 'EIO' ? undefined : reasons.get(error.code)
  const said = safeText(error.serverMessage)
  if (known !== undefined) return known
  return said === '' ? `the server says failure to ${error.operation}` : `the server says "${said}"`
}

/** Of node:fs and node:net, not of this project. */
function isSystemError(error: unknown): error is NodeJS.ErrnoException & { code: string } {
  return error instanceof Error && 'syscall' in error && 'code' in error && typeof error.code === 'string'
}
