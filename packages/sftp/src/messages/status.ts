// Status codes (draft-ietf-secsh-filexfer-02 s7) and the later drafts' codes that servers send at version 3 all the same
// (draft-ietf-secsh-filexfer-13 s9.1), with the POSIX error that says the same.

export const statusCode = {
  ok: 0,
  eof: 1,
  noSuchFile: 2,
  permissionDenied: 3,
  failure: 4,
  badMessage: 5,
  noConnection: 6,
  connectionLost: 7,
  opUnsupported: 8,
} as const

interface StatusMeaning {
  readonly name: string
  readonly posix: string
}

const meanings: readonly StatusMeaning[] = [
  { name: 'OK', posix: 'OK' },
  { name: 'EOF', posix: 'EOF' },
  { name: 'NO_SUCH_FILE', posix: 'ENOENT' },
  { name: 'PERMISSION_DENIED', posix: 'EACCES' },
  { name: 'FAILURE', posix: 'EIO' },
  { name: 'BAD_MESSAGE', posix: 'EBADMSG' },
  { name: 'NO_CONNECTION', posix: 'ENOTCONN' },
  { name: 'CONNECTION_LOST', posix: 'ECONNRESET' },
  { name: 'OP_UNSUPPORTED', posix: 'ENOTSUP' },
  // From here on version 4 to 6.
  { name: 'INVALID_HANDLE', posix: 'EBADF' },
  { name: 'NO_SUCH_PATH', posix: 'ENOENT' },
  { name: 'FILE_ALREADY_EXISTS', posix: 'EEXIST' },
  { name: 'WRITE_PROTECT', posix: 'EROFS' },
  { name: 'NO_MEDIA', posix: 'ENOMEDIUM' },
  { name: 'NO_SPACE_ON_FILESYSTEM', posix: 'ENOSPC' },
  { name: 'QUOTA_EXCEEDED', posix: 'EDQUOT' },
  { name: 'UNKNOWN_PRINCIPAL', posix: 'EINVAL' },
  { name: 'LOCK_CONFLICT', posix: 'EBUSY' },
  { name: 'DIR_NOT_EMPTY', posix: 'ENOTEMPTY' },
  { name: 'NOT_A_DIRECTORY', posix: 'ENOTDIR' },
  { name: 'INVALID_FILENAME', posix: 'EINVAL' },
  { name: 'LINK_LOOP', posix: 'ELOOP' },
  { name: 'CANNOT_DELETE', posix: 'EPERM' },
  { name: 'INVALID_PARAMETER', posix: 'EINVAL' },
  { name: 'FILE_IS_A_DIRECTORY', posix: 'EISDIR' },
  { name: 'BYTE_RANGE_LOCK_CONFLICT', posix: 'EAGAIN' },
  { name: 'BYTE_RANGE_LOCK_REFUSED', posix: 'EAGAIN' },
  { name: 'DELETE_PENDING', posix: 'EBUSY' },
  { name: 'FILE_CORRUPT', posix: 'EIO' },
  { name: 'OWNER_INVALID', posix: 'EINVAL' },
  { name: 'GROUP_INVALID', posix: 'EINVAL' },
  { name: 'NO_MATCHING_BYTE_RANGE_LOCK', posix: 'ENOLCK' },
]

/** The drafts' name of a status code without SSH_FX_, e.g. 'NO_SUCH_FILE'; 'status N' where there is none. */
export function statusName(code: number): string {
  return meanings[code]?.name ?? `status ${code}`
}

/** The POSIX error name of a status code, e.g. 'ENOENT'; 'EIO' (generic failure) where there is none. */
export function posixCode(code: number): string {
  return meanings[code]?.posix ?? 'EIO'
}
