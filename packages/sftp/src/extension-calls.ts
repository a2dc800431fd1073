// Calls by path that only some servers offer (OpenSSH PROTOCOL; draft-ietf-secsh-filexfer-extensions-00). Each is refused with
// code 'ENOTSUP' before anything is sent where the server did not announce the extension in the version known here.

import { utf8Bytes, type Writer } from '@sshblock/transport/wire'
import type { CallOptions, ClientSession } from './client-session.ts'
import type { SftpSubject } from './errors.ts'
import type { RemoteFile } from './file.ts'
import {
  copyData,
  expandPath,
  extendedReply,
  hardlink,
  homeDirectory,
  sessionEpoch,
  statvfs,
  usersGroupsById,
} from './messages/extended.ts'
import { packetType } from './messages/numbers.ts'
import {
  type FileSystemStats,
  fileSystemRequest,
  nameRequest,
  notOffered,
  statusRequest,
  wirePath,
} from './request-forms.ts'

export interface UserAndGroupNames {
  /** One name for each id asked for, '' where there is none. */
  readonly users: readonly string[]
  readonly groups: readonly string[]
}

export interface CopySource {
  readonly file: RemoteFile
  /** Default 0. */
  readonly offset?: number
  /** Bytes; default to the end. */
  readonly length?: number
}

export interface CopyTarget {
  readonly file: RemoteFile
  /** Default 0. */
  readonly offset?: number
}

function need(
  session: ClientSession,
  extension: { name: string; version: string },
  subject: SftpSubject,
): void {
  if (!session.supports(extension)) throw notOffered(extension, subject)
}

export async function linkPath(
  session: ClientSession,
  existing: string,
  added: string,
  options: CallOptions,
): Promise<void> {
  const oldpath = wirePath(existing)
  const newpath = wirePath(added)
  const subject = { path: existing, target: added }
  need(session, hardlink, subject)
  const request = statusRequest(hardlink.name, subject, (writer, id) =>
    hardlink.encode(writer, { id, oldpath, newpath }),
  )
  await session.request(request, options)
}

export async function statvfsPath(
  session: ClientSession,
  path: string,
  options: CallOptions,
): Promise<FileSystemStats> {
  const bytes = wirePath(path)
  need(session, statvfs, { path })
  const request = fileSystemRequest(statvfs.name, { path }, (writer, id) =>
    statvfs.encode(writer, { id, path: bytes }),
  )
  return session.request(request, options)
}

export async function expandPathOnServer(
  session: ClientSession,
  path: string,
  options: CallOptions,
): Promise<string> {
  const bytes = wirePath(path)
  const request = nameRequest(expandPath.name, { path }, (writer, id) =>
    expandPath.encode(writer, { id, path: bytes }),
  )
  return session.request(request, options)
}

export async function homeDirectoryOf(
  session: ClientSession,
  username: string,
  options: CallOptions,
): Promise<string> {
  need(session, homeDirectory, {})
  const name = utf8Bytes(username)
  const request = nameRequest(homeDirectory.name, {}, (writer, id) =>
    homeDirectory.encode(writer, { id, username: name }),
  )
  return session.request(request, options)
}

export async function namesOfIds(
  session: ClientSession,
  { uids = [], gids = [] }: { uids?: readonly number[]; gids?: readonly number[] },
  options: CallOptions,
): Promise<UserAndGroupNames> {
  need(session, usersGroupsById, {})
  const decode = (packet: Uint8Array): UserAndGroupNames => {
    const { usernames, groupnames } = usersGroupsById.decodeReply(extendedReply.decode(packet).data)
    return { users: usernames, groups: groupnames }
  }
  const request = {
    operation: usersGroupsById.name,
    subject: {},
    expects: packetType.extendedReply,
    encode: (writer: Writer, id: number) => usersGroupsById.encode(writer, { id, uids, gids }),
    decode,
  }
  return session.request(request, options)
}

export async function copyOnServer(
  session: ClientSession,
  from: CopySource,
  to: CopyTarget,
  options: CallOptions,
): Promise<void> {
  const subject = { path: from.file.path, target: to.file.path }
  need(session, copyData, subject)
  // On the wire 0 means "to the end": nothing to copy is nothing to ask.
  if (from.length === 0) return
  const value = {
    readFromHandle: from.file.handle,
    readFromOffset: from.offset ?? 0,
    readDataLength: from.length ?? 0,
    writeToHandle: to.file.handle,
    writeToOffset: to.offset ?? 0,
  }
  await session.request(
    statusRequest(copyData.name, subject, (writer, id) => copyData.encode(writer, { id, ...value })),
    options,
  )
}

/** A session of a device, for session-epoch@sshblock. */
export interface DeviceSession {
  /** Names the device: 16 to 64 random bytes that nobody else knows. */
  readonly device: Uint8Array
  /** Grows each time that the device gives up its sessions. */
  readonly epoch: number
  /** A number that no other session of the device has, 0 to 2^32 - 1. */
  readonly serial: number
}

/** Resolves, when no earlier epoch's session can do anything any more, to the numbers of those that are over. */
export async function joinDevice(
  session: ClientSession,
  value: DeviceSession,
  options: CallOptions,
): Promise<readonly number[]> {
  need(session, sessionEpoch, {})
  return session.request(
    {
      operation: sessionEpoch.name,
      subject: {},
      expects: packetType.extendedReply,
      encode: (writer: Writer, id: number) => sessionEpoch.encode(writer, { ...value, id }),
      decode: (packet: Uint8Array) => sessionEpoch.decodeReply(extendedReply.decode(packet).data).ended,
    },
    options,
  )
}
