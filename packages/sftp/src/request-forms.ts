// The requests of SFTP as values: what is sent, what may answer, and what the answer means (draft-ietf-secsh-filexfer-02
// s6 to s8, OpenSSH PROTOCOL). One function a shape of answer; client.ts, file.ts and directory.ts fill in the rest.
// Nothing of an answer's view is kept: handles, names and texts are copies.

import { UsageError } from '@sshblock/transport/errors'
import type { Writer } from '@sshblock/transport/wire'
import type { ClientSession } from './client-session.ts'
import type { Request } from './core/call.ts'
import { SftpProtocolError, SftpStatusError, type SftpSubject } from './errors.ts'
import { maxHandleBytes } from './limits.ts'
import { extendedReply, statvfs, statvfsFlag } from './messages/extended.ts'
import { packetType } from './messages/numbers.ts'
import { attrs, handle, name } from './messages/replies.ts'
import { close } from './messages/requests.ts'
import { statusCode } from './messages/status.ts'
import { pathBytes, pathText } from './path-text.ts'
import { Stats } from './stats.ts'

type Encode = (writer: Writer, id: number) => void

/**
 * Bytes of a path for the wire. UsageError for a NUL: no server has such a path, and some end the session for it.
 */
export function wirePath(path: string): Uint8Array {
  if (path.includes('\0')) throw new UsageError('a path cannot contain NUL')
  return pathBytes(path)
}

/** Answered by STATUS OK. */
export function statusRequest(operation: string, subject: SftpSubject, encode: Encode): Request<void> {
  return { operation, subject, expects: packetType.status, encode, decode: () => undefined }
}

/** Answered by HANDLE. One that comes after the caller left is closed. */
export function handleRequest(
  session: ClientSession,
  operation: string,
  subject: SftpSubject,
  encode: Encode,
): Request<Uint8Array> {
  return {
    operation,
    subject,
    expects: packetType.handle,
    encode,
    decode: (packet) => {
      const value = handle.decode(packet).handle
      if (value.length === 0 || value.length > maxHandleBytes) {
        throw new SftpProtocolError(`handle of ${value.length} bytes, expected 1 to ${maxHandleBytes}`, {
          messageName: 'HANDLE',
          field: 'handle',
          offset: 5,
        })
      }
      return value.slice()
    },
    unclaimed: (value) => {
      session.request(closeRequest(value, subject)).catch(() => {})
    },
  }
}

export function closeRequest(value: Uint8Array, subject: SftpSubject): Request<void> {
  return statusRequest('CLOSE', subject, (writer, id) => close.encode(writer, { id, handle: value }))
}

/** Answered by ATTRS. */
export function statsRequest(operation: string, subject: SftpSubject, encode: Encode): Request<Stats> {
  return {
    operation,
    subject,
    expects: packetType.attrs,
    encode,
    decode: (packet) => new Stats(attrs.decode(packet).attrs),
  }
}

/** Answered by NAME with exactly one name that is not empty. */
export function nameRequest(operation: string, subject: SftpSubject, encode: Encode): Request<string> {
  return {
    operation,
    subject,
    expects: packetType.name,
    encode,
    decode: (packet) => {
      const { names } = name.decode(packet)
      const [only] = names
      if (only === undefined || names.length > 1) {
        throw new SftpProtocolError(`${names.length} names in answer to ${operation}`, {
          messageName: 'NAME',
          field: 'names',
          offset: 5,
        })
      }
      if (only.filename.length === 0) {
        throw new SftpProtocolError(`an empty name in answer to ${operation}`, {
          messageName: 'NAME',
          field: 'filename',
          offset: 9,
        })
      }
      return pathText(only.filename)
    },
  }
}

/** A file system, as statvfs(3) tells. Counts are exact: bigint. */
export interface FileSystemStats {
  /** Preferred block size, bytes. */
  readonly blockSize: bigint
  /** Unit of the block counts, bytes. */
  readonly fragmentSize: bigint
  readonly blocks: bigint
  readonly freeBlocks: bigint
  /** Free blocks for users other than root. */
  readonly availableBlocks: bigint
  readonly files: bigint
  readonly freeFiles: bigint
  readonly availableFiles: bigint
  readonly fileSystemId: bigint
  readonly readOnly: boolean
  readonly ignoresSetuid: boolean
  /** Longest file name, bytes. */
  readonly maxNameBytes: bigint
}

/** Answered by EXTENDED_REPLY with struct statvfs. */
export function fileSystemRequest(
  operation: string,
  subject: SftpSubject,
  encode: Encode,
): Request<FileSystemStats> {
  return {
    operation,
    subject,
    expects: packetType.extendedReply,
    encode,
    decode: (packet) => {
      const value = statvfs.decodeReply(extendedReply.decode(packet).data)
      return {
        blockSize: value.bsize,
        fragmentSize: value.frsize,
        blocks: value.blocks,
        freeBlocks: value.bfree,
        availableBlocks: value.bavail,
        files: value.files,
        freeFiles: value.ffree,
        availableFiles: value.favail,
        fileSystemId: value.fsid,
        readOnly: (value.flag & statvfsFlag.rdonly) !== 0n,
        ignoresSetuid: (value.flag & statvfsFlag.nosuid) !== 0n,
        maxNameBytes: value.namemax,
      }
    },
  }
}

/** The error for an extension that the server does not announce: code 'ENOTSUP', nothing was sent. */
export function notOffered(extension: { readonly name: string }, subject: SftpSubject): SftpStatusError {
  return new SftpStatusError(
    statusCode.opUnsupported,
    'the server does not announce it',
    extension.name,
    subject,
  )
}
