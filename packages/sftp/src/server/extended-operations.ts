// OpenSSH's extensions (its PROTOCOL file s4; copy-data and home-directory: draft-ietf-secsh-filexfer-extensions-00).
// An extension is announced, and answered, only where the back end can do it and the session permits it.

import { utf8Bytes } from '@sshblock/transport/wire'
import { BackendError, type FileSystemStat, type SftpBackend } from '../backend.ts'
import { announcedWriteBytes, maxReadBytes, maxRequestBytes } from '../core/server-limits.ts'
import * as extended from '../messages/extended.ts'
import { statusCode } from '../messages/status.ts'
import { changesOf } from './attributes-of.ts'
import { copyData } from './copy-data.ts'
import {
  absolutePath,
  answerName,
  fileOf,
  type Operation,
  type OperationContext,
  observe,
  pathOf,
  type Request,
  textOf,
} from './operations.ts'
import type { SessionEpochs } from './session-epochs.ts'
import { RequestRefused } from './status-of.ts'

export interface ExtendedOperation extends Operation {
  readonly extension: { readonly name: string; readonly version: string }
  /** Whether this back end, or session, can do it; `run` may rely on that. */
  isAvailable(backend: SftpBackend, epochs: SessionEpochs | undefined): boolean
  /** `data` is the extension's part of the request. */
  runExtended(context: OperationContext, request: Request, data: Uint8Array): Promise<void>
}

const always = () => true

/** Names of devices: long enough not to be guessed. */
const minDeviceBytes = 16
const maxDeviceBytes = 64

function operation(
  name: string,
  extension: { name: string; version: string },
  writes: boolean,
  isAvailable: ExtendedOperation['isAvailable'],
  runExtended: ExtendedOperation['runExtended'],
): ExtendedOperation {
  return {
    name,
    writes,
    extension,
    isAvailable,
    runExtended,
    run: (context, request) => runExtended(context, request, extended.extended.decode(request.body).data),
  }
}

function answerStatvfs(context: OperationContext, request: Request, stat: FileSystemStat): void {
  const flag = context.readOnly ? stat.flag | extended.statvfsFlag.rdonly : stat.flag
  context.core.extendedReply(request, (writer) => {
    extended.statvfs.encodeReply(writer, { ...stat, flag, id: request.id })
  })
}

/** PROTOCOL s4.9, and '~user' for home-directory. */
async function homeOf(context: OperationContext, user: string): Promise<string> {
  if (user === '') return context.homeDirectory
  const { backend } = context
  if (backend.homeDirectory === undefined) throw new RequestRefused(statusCode.noSuchFile, 'No such user')
  return backend.homeDirectory(user)
}

const posixRename = operation(
  'posix-rename',
  extended.posixRename,
  true,
  (backend) => backend.posixRename !== undefined,
  async (context, request, data) => {
    const { oldpath, newpath } = extended.posixRename.decode(data)
    const from = pathOf(context, oldpath)
    const to = pathOf(context, newpath)
    observe(context, { name: 'posix-rename', path: textOf(oldpath), target: textOf(newpath) })
    await context.backend.posixRename!(from, to)
    context.core.ok(request)
  },
)

const statvfs = operation(
  'statvfs',
  extended.statvfs,
  false,
  (backend) => backend.statvfs !== undefined,
  async (context, request, data) => {
    const path = pathOf(context, extended.statvfs.decode(data).path)
    observe(context, { name: 'statvfs', path })
    answerStatvfs(context, request, await context.backend.statvfs!(path))
  },
)

const fstatvfs = operation(
  'fstatvfs',
  extended.fstatvfs,
  false,
  (backend) => backend.statvfs !== undefined,
  async (context, request, data) => {
    const open = fileOf(context, extended.fstatvfs.decode(data).handle)
    observe(context, { name: 'fstatvfs', path: open.path })
    if (open.file.statvfs === undefined) throw new BackendError('ENOSYS')
    answerStatvfs(context, request, await open.file.statvfs())
  },
)

const hardlink = operation(
  'hardlink',
  extended.hardlink,
  true,
  (backend) => backend.hardlink !== undefined,
  async (context, request, data) => {
    const { oldpath, newpath } = extended.hardlink.decode(data)
    const existing = pathOf(context, oldpath)
    const link = pathOf(context, newpath)
    observe(context, { name: 'hardlink', path: textOf(oldpath), target: textOf(newpath) })
    await context.backend.hardlink!(existing, link)
    context.core.ok(request)
  },
)

const fsync = operation('fsync', extended.fsync, true, always, async (context, request, data) => {
  const open = fileOf(context, extended.fsync.decode(data).handle)
  observe(context, { name: 'fsync', path: open.path })
  if (open.file.sync === undefined) throw new BackendError('ENOSYS')
  await open.file.sync()
  context.core.ok(request)
})

const lsetstat = operation(
  'lsetstat',
  extended.lsetstat,
  true,
  (backend) => backend.lsetstat !== undefined,
  async (context, request, data) => {
    const { path, attrs } = extended.lsetstat.decode(data)
    const absolute = pathOf(context, path)
    observe(context, { name: 'lsetstat', path: textOf(path) })
    // A symbolic link has no size to set: OpenSSH answers BAD_MESSAGE.
    if (attrs.size !== undefined) throw new BackendError('EINVAL')
    await context.backend.lsetstat!(absolute, changesOf(attrs, context.modeMask))
    context.core.ok(request)
  },
)

const limits = operation('limits', extended.limits, false, always, async (context, request) => {
  context.core.extendedReply(request, (writer) => {
    extended.limits.encodeReply(writer, {
      id: request.id,
      maxPacketLength: BigInt(maxRequestBytes),
      maxReadLength: BigInt(maxReadBytes),
      maxWriteLength: BigInt(announcedWriteBytes),
      maxOpenHandles: BigInt(context.maxHandles),
    })
  })
})

const expandPath = operation(
  'expand-path',
  extended.expandPath,
  false,
  always,
  async (context, request, data) => {
    const path = textOf(extended.expandPath.decode(data).path)
    observe(context, { name: 'expand-path', path })
    let absolute = absolutePath(context, path)
    if (path.startsWith('~')) {
      const slash = path.indexOf('/')
      const user = path.slice(1, slash === -1 ? undefined : slash)
      absolute = (await homeOf(context, user)) + (slash === -1 ? '' : path.slice(slash))
    }
    answerName(context, request, await context.backend.realpath(absolute))
  },
)

const homeDirectory = operation(
  'home-directory',
  extended.homeDirectory,
  false,
  always,
  async (context, request, data) => {
    const user = textOf(extended.homeDirectory.decode(data).username)
    observe(context, { name: 'home-directory', path: user })
    answerName(context, request, await homeOf(context, user))
  },
)

const usersGroupsById = operation(
  'users-groups-by-id',
  extended.usersGroupsById,
  false,
  (backend) => backend.userName !== undefined && backend.groupName !== undefined,
  async (context, request, data) => {
    const { uids, gids } = extended.usersGroupsById.decode(data)
    const { backend } = context
    const usernames = uids.map((uid) => backend.userName!(uid) ?? '')
    const groupnames = gids.map((gid) => backend.groupName!(gid) ?? '')
    context.core.extendedReply(request, (writer) => {
      extended.usersGroupsById.encodeReply(writer, { id: request.id, usernames, groupnames })
    })
  },
)

const sessionEpoch = operation(
  'session-epoch',
  extended.sessionEpoch,
  false,
  (_backend, epochs) => epochs !== undefined,
  async (context, request, data) => {
    const { device, epoch, serial } = extended.sessionEpoch.decode(data)
    const name = device.slice()
    if (name.length < minDeviceBytes || name.length > maxDeviceBytes)
      throw new RequestRefused(statusCode.badMessage, 'Bad device')
    const ended = await context.epochs!.join(name, epoch, serial, context.member)
    context.core.extendedReply(request, (writer) => {
      extended.sessionEpoch.encodeReply(writer, { id: request.id, ended })
    })
  },
)

/** In OpenSSH's order. */
export const extendedOperations: readonly ExtendedOperation[] = [
  posixRename,
  statvfs,
  fstatvfs,
  hardlink,
  fsync,
  lsetstat,
  limits,
  expandPath,
  operation('copy-data', extended.copyData, true, always, copyData),
  homeDirectory,
  usersGroupsById,
  sessionEpoch,
]

/** By extension name: wire strings are keys of a Map only. */
export const extendedOperationsByName: ReadonlyMap<string, ExtendedOperation> = new Map(
  extendedOperations.map((entry) => [entry.extension.name, entry]),
)

/** The data of an extension's pair in VERSION. */
export function announcement({ extension }: ExtendedOperation): { name: string; data: Uint8Array } {
  return { name: extension.name, data: utf8Bytes(extension.version) }
}
