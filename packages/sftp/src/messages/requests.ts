// Requests of SFTP version 3 in the order of draft-ietf-secsh-filexfer-02 (s4, s6, s8), field names as there.
// A packet is uint32 length, then what is declared here (type byte first). Paths and handles are bytes (views when
// decoded); the draft leaves the encoding of paths open, UTF-8 is what everybody uses.
// Bytes after the last field are ignored: clients exist whose last WRITE carries thousands of them.

import { message, string, u32, u64Number } from '@sshblock/transport/wire'
import { attributes } from './attributes.ts'
import { extensionPairs } from './extension-pairs.ts'
import { packetType } from './numbers.ts'

const trailing = { trailing: 'ignore' } as const

/** s4. The only request without an id; answered by VERSION. */
export const init = message('INIT', packetType.init, { version: u32, extensions: extensionPairs })

/** s6.3. Answered by HANDLE or STATUS. */
export const open = message(
  'OPEN',
  packetType.open,
  { id: u32, filename: string, pflags: u32, attrs: attributes },
  trailing,
)

/** s6.3. Answered by STATUS. */
export const close = message('CLOSE', packetType.close, { id: u32, handle: string }, trailing)

/** s6.4. Answered by DATA with 1 to `len` bytes, or STATUS (EOF at the end of the file). */
export const read = message(
  'READ',
  packetType.read,
  { id: u32, handle: string, offset: u64Number, len: u32 },
  trailing,
)

/** s6.4. Answered by STATUS. */
export const write = message(
  'WRITE',
  packetType.write,
  { id: u32, handle: string, offset: u64Number, data: string },
  trailing,
)

/** s6.8: like STAT, but does not follow a symbolic link. Answered by ATTRS or STATUS. */
export const lstat = message('LSTAT', packetType.lstat, { id: u32, path: string }, trailing)

/** s6.8. Answered by ATTRS or STATUS. */
export const fstat = message('FSTAT', packetType.fstat, { id: u32, handle: string }, trailing)

/** s6.9. Answered by STATUS. */
export const setstat = message(
  'SETSTAT',
  packetType.setstat,
  { id: u32, path: string, attrs: attributes },
  trailing,
)

/** s6.9. Answered by STATUS. */
export const fsetstat = message(
  'FSETSTAT',
  packetType.fsetstat,
  { id: u32, handle: string, attrs: attributes },
  trailing,
)

/** s6.7. Answered by HANDLE or STATUS. */
export const opendir = message('OPENDIR', packetType.opendir, { id: u32, path: string }, trailing)

/** s6.7. Answered by NAME, or STATUS (EOF after the last name). */
export const readdir = message('READDIR', packetType.readdir, { id: u32, handle: string }, trailing)

/** s6.5: removes a file, not a directory. Answered by STATUS. */
export const remove = message('REMOVE', packetType.remove, { id: u32, filename: string }, trailing)

/** s6.6. Answered by STATUS. */
export const mkdir = message(
  'MKDIR',
  packetType.mkdir,
  { id: u32, path: string, attrs: attributes },
  trailing,
)

/** s6.6. Answered by STATUS. */
export const rmdir = message('RMDIR', packetType.rmdir, { id: u32, path: string }, trailing)

/** s6.11. Answered by NAME with one name and no attributes that mean anything, or STATUS. */
export const realpath = message('REALPATH', packetType.realpath, { id: u32, path: string }, trailing)

/** s6.8: follows symbolic links. Answered by ATTRS or STATUS. */
export const stat = message('STAT', packetType.stat, { id: u32, path: string }, trailing)

/** s6.5: fails where `newpath` exists. Answered by STATUS. */
export const rename = message(
  'RENAME',
  packetType.rename,
  { id: u32, oldpath: string, newpath: string },
  trailing,
)

/** s6.10. Answered by NAME with one name, or STATUS. */
export const readlink = message('READLINK', packetType.readlink, { id: u32, path: string }, trailing)

/**
 * s6.10, in the draft's order. OpenSSH and those who follow it send and expect the target first
 * (OpenSSH PROTOCOL, "Argument order of SSH_FXP_SYMLINK"): with them `linkpath` holds the target.
 * Answered by STATUS.
 */
export const symlink = message(
  'SYMLINK',
  packetType.symlink,
  { id: u32, linkpath: string, targetpath: string },
  trailing,
)
