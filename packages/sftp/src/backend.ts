// What a file system must offer to be served over SFTP. Implement it to serve anything: a folder, memory, a database.
// A back end never sees packets, ids or handles, and is called for one session's requests in order: only reads run
// beside other reads, and writes beside writes to disjoint ranges of the same open file.
// Paths are absolute ('/...'), may hold '.', '..', '//' and a trailing '/', and never hold NUL; see path-text.ts for
// names that are not UTF-8. Confinement is the back end's business: the server passes paths on as they came.

import { SshError } from '@sshblock/transport/errors'

/** A result that is there already, or comes later. Back ends in memory answer at once and cost no promise. */
export type Awaitable<T> = T | Promise<T>

/** How OPEN wants a file (draft-ietf-secsh-filexfer-02 s6.3). */
export interface BackendOpenFlags {
  readonly read: boolean
  readonly write: boolean
  /** Every write goes to the end, whatever its offset. */
  readonly append: boolean
  readonly create: boolean
  readonly truncate: boolean
  /** With `create`: fail with EEXIST where the name exists, even as a dangling symbolic link. */
  readonly exclusive: boolean
}

/** struct stat, as far as SFTP version 3 and `ls -l` show it. */
export interface FileStat {
  /** Bytes, a safe integer. */
  readonly size: number
  /** POSIX st_mode, the file type included. */
  readonly permissions: number
  readonly uid: number
  readonly gid: number
  /** Seconds since 1970 UTC. What does not fit 32 bits unsigned is clamped on the wire. */
  readonly atime: number
  readonly mtime: number
  /** Number of hard links. */
  readonly nlink: number
}

/** Which attributes to change; those that are absent stay. Applied in the order size, permissions, times, owner. */
export interface AttributeChanges {
  /** Bytes; extending fills with zeros. */
  readonly size?: number
  /** Permission bits, at most 0o7777. */
  readonly permissions?: number
  /** Seconds since 1970 UTC; both or neither. */
  readonly atime?: number
  readonly mtime?: number
  /** Both or neither. */
  readonly uid?: number
  readonly gid?: number
}

/** struct statvfs (OpenSSH PROTOCOL s4.4). */
export interface FileSystemStat {
  readonly bsize: bigint
  readonly frsize: bigint
  readonly blocks: bigint
  readonly bfree: bigint
  readonly bavail: bigint
  readonly files: bigint
  readonly ffree: bigint
  readonly favail: bigint
  readonly fsid: bigint
  /** Bit 0: read-only, bit 1: nosuid. */
  readonly flag: bigint
  readonly namemax: bigint
}

/** An open file. All calls that are under way have settled before `close` is called; nothing is called after it. */
export interface BackendFile {
  /**
   * Reads at most `into.length` bytes at `offset` and returns how many; 0 means the end of the file.
   * `into` is lent until the result settles; only the bytes counted are sent.
   */
  read(offset: number, into: Uint8Array): Awaitable<number>
  /** Writes all of `from` at `offset`, or fails. `from` is lent until the result settles. */
  write(offset: number, from: Uint8Array): Awaitable<void>
  stat(): Awaitable<FileStat>
  setstat(changes: AttributeChanges): Awaitable<void>
  /** The file's bytes are on stable storage when this settles (fsync@openssh.com). */
  sync?(): Awaitable<void>
  statvfs?(): Awaitable<FileSystemStat>
  /** Whether `other`, a file of the same back end, is the same file; copy-data needs to know. */
  sameFile(other: BackendFile): Awaitable<boolean>
  close(): Awaitable<void>
}

export interface BackendEntry {
  /** Exactly one path component. */
  readonly name: string
  /** As lstat; undefined where it could not be had. */
  readonly stat: FileStat | undefined
}

export interface BackendDirectory {
  /** The next entries, at most `max` of them (100 and more are asked for); none at the end. */
  read(max: number): Awaitable<readonly BackendEntry[]>
  close(): Awaitable<void>
}

/**
 * A file system. Every failure is an Error with a POSIX `code` ('ENOENT', ...): a BackendError, or what node:fs throws.
 * Anything else counts as a fault of the back end: the client is told FAILURE without details, the observer gets it.
 *
 * The extensions that optional methods stand for are announced only where the method is there.
 */
export interface SftpBackend {
  /** `mode` holds the permission bits of a file that gets created, before any umask. */
  open(path: string, flags: BackendOpenFlags, mode: number): Awaitable<BackendFile>
  opendir(path: string): Awaitable<BackendDirectory>
  /** Follows symbolic links. */
  stat(path: string): Awaitable<FileStat>
  lstat(path: string): Awaitable<FileStat>
  /** Follows symbolic links. */
  setstat(path: string, changes: AttributeChanges): Awaitable<void>
  /** lsetstat@openssh.com; never with a size. */
  lsetstat?(path: string, changes: AttributeChanges): Awaitable<void>
  /** Removes a name that is not a directory. */
  remove(path: string): Awaitable<void>
  mkdir(path: string, mode: number): Awaitable<void>
  rmdir(path: string): Awaitable<void>
  /** Fails with EEXIST where `newPath` exists. */
  rename(oldPath: string, newPath: string): Awaitable<void>
  /** posix-rename@openssh.com: replaces `newPath` where it exists. */
  posixRename?(oldPath: string, newPath: string): Awaitable<void>
  /** The absolute path without symbolic links, '.' and '..'; the last component need not exist. */
  realpath(path: string): Awaitable<string>
  readlink(path: string): Awaitable<string>
  /** Makes `linkPath` a symbolic link that holds `target`, which is any text. */
  symlink(target: string, linkPath: string): Awaitable<void>
  /** hardlink@openssh.com */
  hardlink?(existingPath: string, newPath: string): Awaitable<void>
  /** statvfs@openssh.com */
  statvfs?(path: string): Awaitable<FileSystemStat>
  /** Home directory of a user other than the session's own, for '~user' and home-directory. */
  homeDirectory?(user: string): Awaitable<string>
  /** Name of an owner or group for `ls -l` and users-groups-by-id@openssh.com; undefined where it has none. */
  userName?(uid: number): string | undefined
  groupName?(gid: number): string | undefined
}

/** The errors that file systems report, with the text of strerror(3). */
const errorTexts = new Map<string, string>([
  ['E2BIG', 'Argument list too long'],
  ['EACCES', 'Permission denied'],
  ['EAGAIN', 'Resource temporarily unavailable'],
  ['EBADF', 'Bad file descriptor'],
  ['EBUSY', 'Device or resource busy'],
  ['EDQUOT', 'Disk quota exceeded'],
  ['EEXIST', 'File exists'],
  ['EFAULT', 'Bad address'],
  ['EFBIG', 'File too large'],
  ['EINTR', 'Interrupted system call'],
  ['EINVAL', 'Invalid argument'],
  ['EIO', 'Input/output error'],
  ['EISDIR', 'Is a directory'],
  ['ELOOP', 'Too many levels of symbolic links'],
  ['EMFILE', 'Too many open files'],
  ['EMLINK', 'Too many links'],
  ['ENAMETOOLONG', 'File name too long'],
  ['ENFILE', 'Too many open files in system'],
  ['ENODEV', 'No such device'],
  ['ENOENT', 'No such file or directory'],
  ['ENOMEM', 'Cannot allocate memory'],
  ['ENOSPC', 'No space left on device'],
  ['ENOSYS', 'Function not implemented'],
  ['ENOTDIR', 'Not a directory'],
  ['ENOTEMPTY', 'Directory not empty'],
  ['ENOTSUP', 'Operation not supported'],
  ['ENXIO', 'No such device or address'],
  ['EOPNOTSUPP', 'Operation not supported'],
  ['EOVERFLOW', 'Value too large for defined data type'],
  ['EPERM', 'Operation not permitted'],
  ['EROFS', 'Read-only file system'],
  ['ESPIPE', 'Illegal seek'],
  ['ESTALE', 'Stale file handle'],
  ['ETXTBSY', 'Text file busy'],
  ['EXDEV', 'Invalid cross-device link'],
])

/** strerror(3) of a POSIX error name; undefined for a name that is not one. */
export function posixErrorText(code: string): string | undefined {
  return errorTexts.get(code)
}

/** A file system operation that failed, by its POSIX error name. */
export class BackendError extends SshError {
  /** @param text Goes to the client as the text of the status, so it must not tell what the client may not know. */
  constructor(code: string, text: string = posixErrorText(code) ?? code, details: { cause?: unknown } = {}) {
    super(code, text, details)
  }
}

/** The POSIX error name that an error carries, undefined where it carries none. */
export function posixErrorCode(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined
  const { code } = error as { code?: unknown }
  return typeof code === 'string' && errorTexts.has(code) ? code : undefined
}
