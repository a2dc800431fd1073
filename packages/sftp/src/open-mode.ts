// How a file is opened, as fs writes it and as the wire has it. Pure.

import { UsageError } from '@sshblock/transport/errors'
import { openFlag } from './messages/open-flags.ts'

/** Flags of fs.open. */
export type OpenMode = 'r' | 'r+' | 'w' | 'w+' | 'wx' | 'wx+' | 'a' | 'a+' | 'ax' | 'ax+'

/** The flags one by one (draft-ietf-secsh-filexfer-02 s6.3). */
export interface OpenFlags {
  read?: boolean
  write?: boolean
  /** Every write goes to the end of the file. */
  append?: boolean
  /** Make the file where it does not exist. */
  create?: boolean
  /** With `create`: fail where it exists. */
  exclusive?: boolean
  /** With `create`: empty the file where it exists. */
  truncate?: boolean
}

const modes = new Map<string, OpenFlags>([
  ['r', { read: true }],
  ['r+', { read: true, write: true }],
  ['w', { write: true, create: true, truncate: true }],
  ['w+', { read: true, write: true, create: true, truncate: true }],
  ['wx', { write: true, create: true, exclusive: true }],
  ['wx+', { read: true, write: true, create: true, exclusive: true }],
  ['a', { write: true, append: true, create: true }],
  ['a+', { read: true, write: true, append: true, create: true }],
  ['ax', { write: true, append: true, create: true, exclusive: true }],
  ['ax+', { read: true, write: true, append: true, create: true, exclusive: true }],
])

/** The flags of a mode. UsageError where there is no such mode, or nothing could be done with the file. */
export function openFlags(mode: OpenMode | OpenFlags): OpenFlags {
  const flags = typeof mode === 'string' ? modes.get(mode) : mode
  if (flags === undefined)
    throw new UsageError(`open mode must be one of ${[...modes.keys()].join(', ')}, got ${String(mode)}`)
  if (!flags.read && !flags.write && !flags.append)
    throw new UsageError('a file is opened to read, write or append')
  if ((flags.exclusive || flags.truncate) && !flags.create)
    throw new UsageError('exclusive and truncate need create')
  return flags
}

/** pflags of OPEN. */
export function wireOpenFlags(flags: OpenFlags): number {
  return (
    (flags.read ? openFlag.read : 0) |
    (flags.write || flags.append ? openFlag.write : 0) |
    (flags.append ? openFlag.append : 0) |
    (flags.create ? openFlag.creat : 0) |
    (flags.truncate ? openFlag.trunc : 0) |
    (flags.exclusive ? openFlag.excl : 0)
  )
}
