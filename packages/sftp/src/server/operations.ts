// What each request of version 3 does with the back end (draft-ietf-secsh-filexfer-02 s6), in the draft's order.
// An operation decodes its request before its first await, because the request's bytes do not last longer; then it
// calls the back end and answers once. What it throws becomes a status.
// READ and WRITE are not here: session.ts runs them without promises where the back end answers at once.

import { BackendError, type BackendOpenFlags, type FileStat, type SftpBackend } from '../backend.ts'
import type { ServerCore, ServerRequest } from '../core/server-core.ts'
import { namesPerReply } from '../core/server-limits.ts'

import { packetType } from '../messages/numbers.ts'
import { openFlag } from '../messages/open-flags.ts'
import * as replies from '../messages/replies.ts'
import * as requests from '../messages/requests.ts'
import { statusCode } from '../messages/status.ts'
import { pathBytes, pathText } from '../path-text.ts'
import { attributesOf, changesOf, listedAttributesOf } from './attributes-of.ts'
import { longname } from './longname.ts'
import type { ObservedRequest, SftpServerObserver } from './observer.ts'
import type { OpenDirectory, OpenFile, OpenHandle } from './open-handle.ts'
import type { EpochMember, SessionEpochs } from './session-epochs.ts'
import { RequestRefused } from './status-of.ts'

/** What operations have to work with. */
export interface OperationContext {
  readonly core: ServerCore<OpenHandle>
  readonly backend: SftpBackend
  readonly observer: SftpServerObserver
  /** The sessions of devices, where this session takes part. */
  readonly epochs: SessionEpochs | undefined
  /** This session. */
  readonly member: EpochMember
  /** Absolute; where relative paths start. */
  readonly startDirectory: string
  readonly homeDirectory: string
  readonly readOnly: boolean
  readonly maxHandles: number
  /** Permission bits that clients may set. */
  readonly modeMask: number
  /** Which argument of SYMLINK this client sends first. */
  readonly symlinkOrder: 'target' | 'link'
  /** The channel is gone: long operations stop. */
  readonly isClosed: boolean
}

export type Request = ServerRequest<OpenHandle>

export interface Operation {
  /** OpenSSH's name of the request, as in its -p and -P options. */
  readonly name: string
  /** Changes something: refused where the session is read-only. */
  readonly writes: boolean
  run(context: OperationContext, request: Request): Promise<void>
}

/** A path or name from the wire. @throws BackendError EINVAL where it holds NUL */
export function textOf(bytes: Uint8Array): string {
  if (bytes.includes(0)) throw new BackendError('EINVAL')
  return pathText(bytes)
}

/** A path as the back end gets it: absolute. */
export function absolutePath(context: OperationContext, path: string): string {
  if (path.startsWith('/')) return path
  return `${context.startDirectory === '/' ? '' : context.startDirectory}/${path}`
}

/** An absolute path that must not be empty, which POSIX calls ENOENT. */
export function pathOf(context: OperationContext, bytes: Uint8Array): string {
  const path = textOf(bytes)
  if (path === '') throw new BackendError('ENOENT')
  return absolutePath(context, path)
}

/** @throws RequestRefused FAILURE for a handle that is closed, of another channel, made up, or not a file. */
export function fileOf(context: OperationContext, handle: Uint8Array): OpenFile {
  const open = context.core.handles.find(handle)
  if (open?.kind !== 'file') throw new RequestRefused(statusCode.failure, 'Invalid handle')
  return open
}

function directoryOf(context: OperationContext, handle: Uint8Array): OpenDirectory {
  const open = context.core.handles.find(handle)
  if (open?.kind !== 'directory') throw new RequestRefused(statusCode.failure, 'Invalid handle')
  return open
}

export function observe(context: OperationContext, request: ObservedRequest): void {
  context.observer.request?.(request)
}

/** Answers NAME with one name and no attributes, as REALPATH and READLINK do. */
export function answerName(context: OperationContext, request: Request, name: string): void {
  const filename = pathBytes(name)
  context.core.reply(request, replies.name, {
    id: request.id,
    names: [{ filename, longname: filename, attrs: {} }],
  })
}

function answerStat(context: OperationContext, request: Request, stat: FileStat): void {
  context.core.reply(request, replies.attrs, { id: request.id, attrs: attributesOf(stat) })
}

/** The handle for what was opened; what does not fit is closed again. */
function answerHandle(context: OperationContext, request: Request, open: OpenHandle): void {
  const handle = context.core.handles.add(open)
  observeHandle(context, open, 'open')
  context.core.reply(request, replies.handle, { id: request.id, handle })
}

/** Checked before anything is opened; nothing else opens in between, because these requests run alone. */
function checkRoomForHandle(context: OperationContext): void {
  if (context.core.handles.isFull) throw new RequestRefused(statusCode.failure, 'Too many open handles')
}

export function observeHandle(
  context: OperationContext,
  open: OpenHandle,
  what: 'open' | 'close',
  forced = false,
): void {
  const { observer } = context
  const { kind, path } = open
  const bytesRead = open.kind === 'file' ? open.bytesRead : 0
  const bytesWritten = open.kind === 'file' ? open.bytesWritten : 0
  if (what === 'open') observer.open?.({ kind, path, bytesRead, bytesWritten })
  else observer.close?.({ kind, path, bytesRead, bytesWritten }, forced)
}

/** pflags as OpenSSH reads them: neither READ nor WRITE means reading. */
function flagsOf(pflags: number): BackendOpenFlags {
  const write = (pflags & openFlag.write) !== 0
  return {
    read: (pflags & openFlag.read) !== 0 || !write,
    write,
    append: (pflags & openFlag.append) !== 0,
    create: (pflags & openFlag.creat) !== 0,
    truncate: (pflags & openFlag.trunc) !== 0,
    exclusive: (pflags & openFlag.excl) !== 0,
  }
}

const open: Operation = {
  name: 'open',
  writes: false,
  async run(context, request) {
    const { filename, pflags, attrs } = requests.open.decode(request.body)
    const path = pathOf(context, filename)
    const flags = flagsOf(pflags)
    const mode = (attrs.permissions ?? 0o666) & context.modeMask
    observe(context, { name: 'open', path: textOf(filename), flags, mode })
    if (context.readOnly && (flags.write || flags.create || flags.truncate)) throw new BackendError('EACCES')
    checkRoomForHandle(context)
    const file = await context.backend.open(path, flags, mode)
    answerHandle(context, request, {
      kind: 'file',
      path,
      file,
      flags,
      bytesRead: 0,
      bytesWritten: 0,
    })
  },
}

const close: Operation = {
  name: 'close',
  writes: false,
  async run(context, request) {
    const { handle } = requests.close.decode(request.body)
    const open = context.core.handles.remove(handle)
    if (open === undefined) throw new RequestRefused(statusCode.failure, 'Invalid handle')
    observeHandle(context, open, 'close')
    await (open.kind === 'file' ? open.file.close() : open.directory.close())
    context.core.ok(request)
  },
}

const lstat: Operation = {
  name: 'lstat',
  writes: false,
  async run(context, request) {
    const { path } = requests.lstat.decode(request.body)
    const absolute = pathOf(context, path)
    observe(context, { name: 'lstat', path: textOf(path) })
    answerStat(context, request, await context.backend.lstat(absolute))
  },
}

const fstat: Operation = {
  name: 'fstat',
  writes: false,
  async run(context, request) {
    const { handle } = requests.fstat.decode(request.body)
    const open = fileOf(context, handle)
    observe(context, { name: 'fstat', path: open.path })
    answerStat(context, request, await open.file.stat())
  },
}

const setstat: Operation = {
  name: 'setstat',
  writes: true,
  async run(context, request) {
    const { path, attrs } = requests.setstat.decode(request.body)
    const absolute = pathOf(context, path)
    observe(context, { name: 'setstat', path: textOf(path) })
    await context.backend.setstat(absolute, changesOf(attrs, context.modeMask))
    context.core.ok(request)
  },
}

const fsetstat: Operation = {
  name: 'fsetstat',
  writes: true,
  async run(context, request) {
    const { handle, attrs } = requests.fsetstat.decode(request.body)
    const open = fileOf(context, handle)
    observe(context, { name: 'fsetstat', path: open.path })
    await open.file.setstat(changesOf(attrs, context.modeMask))
    context.core.ok(request)
  },
}

const opendir: Operation = {
  name: 'opendir',
  writes: false,
  async run(context, request) {
    const path = pathOf(context, requests.opendir.decode(request.body).path)
    observe(context, { name: 'opendir', path })
    checkRoomForHandle(context)
    const directory = await context.backend.opendir(path)
    answerHandle(context, request, { kind: 'directory', path, directory })
  },
}

const readdir: Operation = {
  name: 'readdir',
  writes: false,
  async run(context, request) {
    const { handle } = requests.readdir.decode(request.body)
    const open = directoryOf(context, handle)
    const entries = await open.directory.read(namesPerReply)
    if (entries.length === 0) throw new RequestRefused(statusCode.eof, 'End of file')
    const { backend } = context
    const now = Math.floor(Date.now() / 1000)
    const names = entries.map(({ name, stat }) => {
      const filename = pathBytes(name)
      if (stat === undefined) return { filename, longname: filename, attrs: {} }
      const user = backend.userName?.(stat.uid) ?? String(stat.uid)
      const group = backend.groupName?.(stat.gid) ?? String(stat.gid)
      const line = pathBytes(longname(name, stat, user, group, now))
      return { filename, longname: line, attrs: listedAttributesOf(stat) }
    })
    context.core.reply(request, replies.name, { id: request.id, names })
  },
}

/** An operation that takes one path, changes something, and is answered by STATUS. */
function change(
  name: string,
  path: (body: Uint8Array) => Uint8Array,
  run: (context: OperationContext, absolute: string) => unknown,
): Operation {
  return {
    name,
    writes: true,
    async run(context, request) {
      const bytes = path(request.body)
      const absolute = pathOf(context, bytes)
      observe(context, { name, path: textOf(bytes) })
      await run(context, absolute)
      context.core.ok(request)
    },
  }
}

const remove = change(
  'remove',
  (body) => requests.remove.decode(body).filename,
  (context, path) => context.backend.remove(path),
)

const rmdir = change(
  'rmdir',
  (body) => requests.rmdir.decode(body).path,
  (context, path) => context.backend.rmdir(path),
)

const mkdir: Operation = {
  name: 'mkdir',
  writes: true,
  async run(context, request) {
    const { path, attrs } = requests.mkdir.decode(request.body)
    const absolute = pathOf(context, path)
    const mode = (attrs.permissions ?? 0o777) & context.modeMask
    observe(context, { name: 'mkdir', path: textOf(path), mode })
    await context.backend.mkdir(absolute, mode)
    context.core.ok(request)
  },
}

const realpath: Operation = {
  name: 'realpath',
  writes: false,
  async run(context, request) {
    // An empty path means the start directory: OpenSSH's sftp and others ask for it so.
    const path = textOf(requests.realpath.decode(request.body).path)
    observe(context, { name: 'realpath', path })
    answerName(context, request, await context.backend.realpath(absolutePath(context, path)))
  },
}

const stat: Operation = {
  name: 'stat',
  writes: false,
  async run(context, request) {
    const { path } = requests.stat.decode(request.body)
    const absolute = pathOf(context, path)
    observe(context, { name: 'stat', path: textOf(path) })
    answerStat(context, request, await context.backend.stat(absolute))
  },
}

const rename: Operation = {
  name: 'rename',
  writes: true,
  async run(context, request) {
    const { oldpath, newpath } = requests.rename.decode(request.body)
    const from = pathOf(context, oldpath)
    const to = pathOf(context, newpath)
    observe(context, { name: 'rename', path: textOf(oldpath), target: textOf(newpath) })
    await context.backend.rename(from, to)
    context.core.ok(request)
  },
}

const readlink: Operation = {
  name: 'readlink',
  writes: false,
  async run(context, request) {
    const { path } = requests.readlink.decode(request.body)
    const absolute = pathOf(context, path)
    observe(context, { name: 'readlink', path: textOf(path) })
    answerName(context, request, await context.backend.readlink(absolute))
  },
}

const symlink: Operation = {
  name: 'symlink',
  writes: true,
  async run(context, request) {
    const { linkpath: first, targetpath: second } = requests.symlink.decode(request.body)
    const [target, link] = context.symlinkOrder === 'target' ? [first, second] : [second, first]
    const linkPath = pathOf(context, link)
    const targetText = textOf(target)
    observe(context, { name: 'symlink', path: textOf(link), target: targetText })
    await context.backend.symlink(targetText, linkPath)
    context.core.ok(request)
  },
}

/** By packet type. */
export const operations: ReadonlyMap<number, Operation> = new Map([
  [packetType.open, open],
  [packetType.close, close],
  [packetType.lstat, lstat],
  [packetType.fstat, fstat],
  [packetType.setstat, setstat],
  [packetType.fsetstat, fsetstat],
  [packetType.opendir, opendir],
  [packetType.readdir, readdir],
  [packetType.remove, remove],
  [packetType.mkdir, mkdir],
  [packetType.rmdir, rmdir],
  [packetType.realpath, realpath],
  [packetType.stat, stat],
  [packetType.rename, rename],
  [packetType.readlink, readlink],
  [packetType.symlink, symlink],
])
