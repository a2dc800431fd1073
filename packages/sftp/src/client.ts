// The SFTP version 3 client (draft-ietf-secsh-filexfer-02, OpenSSH PROTOCOL): files by path, with the names of
// fs/promises. Works over any byte channel: an SSH channel with the sftp subsystem, or a pipe to an `sftp-server`.
// Paths are the server's, '/' separates; relative ones start where the server put the session. All methods take a
// `signal`; all fail with SftpStatusError where the server refused, AbortedError, TimeoutError where no answer came,
// ClosedError and ChannelClosedError after the end, and SftpProtocolError where the server broke the protocol, which ends
// the client.

import type { ByteChannel } from '@sshblock/transport/byte-channel'
import { UsageError } from '@sshblock/transport/errors'
import { utf8Bytes, utf8Text } from '@sshblock/transport/wire'
import { attributeSteps, wireSeconds } from './attribute-steps.ts'
import { type CallOptions, ClientSession, type SftpClientOptions } from './client-session.ts'
import type { SftpLimits } from './core/peer-limits.ts'
import {
  type DirectoryEntry,
  lstatPath,
  type ReadDirectoryOptions,
  readDirectory,
  type WalkEntry,
  type WalkOptions,
} from './directory.ts'
import { SftpStatusError } from './errors.ts'
import {
  type CopySource,
  type CopyTarget,
  copyOnServer,
  type DeviceSession,
  expandPathOnServer,
  homeDirectoryOf,
  joinDevice,
  linkPath,
  namesOfIds,
  statvfsPath,
  type UserAndGroupNames,
} from './extension-calls.ts'
import { bulk } from './fetched-bulk.ts'
import { RemoteFile } from './file.ts'
import type { Attributes } from './messages/attributes.ts'
import { expandPath, lsetstat, posixRename } from './messages/extended.ts'
import { protocolVersion } from './messages/numbers.ts'
import * as requests from './messages/requests.ts'
import { statusCode } from './messages/status.ts'
import { type OpenFlags, type OpenMode, openFlags, wireOpenFlags } from './open-mode.ts'
import type { RemoveOptions } from './remove.ts'
import {
  type FileSystemStats,
  handleRequest,
  nameRequest,
  notOffered,
  statsRequest,
  statusRequest,
  wirePath,
} from './request-forms.ts'
import type { Stats } from './stats.ts'
import { symlinkOrder } from './symlink-order.ts'
import type {
  GetOptions,
  PutOptions,
  ReadFileOptions,
  TransferResult,
  TransferSink,
  TransferSource,
} from './transfer.ts'
import {
  createReadStream,
  createWriteStream,
  type ReadStreamOptions,
  type WriteStreamOptions,
} from './transfer-streams.ts'
import { withFile } from './with-file.ts'

export interface OpenOptions extends CallOptions {
  /** Permission bits of a file that is made; the server's default (0666 less its umask) where not given. */
  mode?: number
}

export interface RenameOptions extends CallOptions {
  /**
   * true: replace an existing `newPath` in one step (posix-rename@openssh.com), ENOTSUP where the server cannot;
   * false: RENAME, which fails where `newPath` exists; default: the first where the server has it, else the second.
   */
  replace?: boolean
}

export interface MakeDirectoryOptions extends CallOptions {
  /** Permission bits; the server's default where not given. */
  mode?: number
  /** Make missing parents too, and be content where the directory exists. */
  recursive?: boolean
}

export interface WriteFileOptions extends OpenOptions {
  /** How the file is opened; default 'w'. */
  flag?: 'w' | 'wx' | 'a' | 'ax' | 'r+'
}

export class SftpClient {
  readonly #session: ClientSession
  readonly #serverIdentification: string | undefined
  readonly #extensions = new Map<string, Uint8Array>()
  /** Always 3. */
  readonly version = protocolVersion
  /** Resolves when the server has said that it speaks SFTP; rejects with what came instead. Need not be looked at. */
  readonly opened: Promise<void>
  /**
   * Resolves when the channel is gone after close(); rejects with what ended it otherwise. Need not be looked at.
   */
  readonly closed: Promise<void>

  private constructor(session: ClientSession, options: SftpClientOptions) {
    this.#session = session
    this.opened = session.opened
    this.closed = session.closed
    this.#serverIdentification = options.serverIdentification
  }

  /** What the server announced in VERSION: name and data; of a name given twice, the first. Empty before `opened`. */
  get extensions(): ReadonlyMap<string, Uint8Array> {
    if (this.#extensions.size === 0)
      for (const { name, data } of this.#session.extensions)
        if (!this.#extensions.has(name)) this.#extensions.set(name, data)
    return this.#extensions
  }

  /**
   * Starts SFTP on a channel that nobody has started yet: INIT, VERSION. The client owns the channel from now on. The
   * server's limits are asked for, not waited for: see `limitsKnown`.
   * @throws SftpProtocolError where the other side does not speak SFTP version 3; TimeoutError; AbortedError;
   *   ChannelClosedError.
   */
  static async open(
    channel: ByteChannel,
    options: SftpClientOptions & CallOptions = {},
  ): Promise<SftpClient> {
    const client = new SftpClient(ClientSession.begin(channel, options, false), options)
    await client.opened
    return client
  }

  /**
   * As `open`, but gives the client out at once: what it is asked for leaves right behind INIT, one round trip earlier. Only for
   * servers that are known to take that (see `takesRequestsBehindInit`), and only for what needs no extension: before `opened`
   * none is known. Where opening fails, all calls do, with its error.
   */
  static begin(channel: ByteChannel, options: SftpClientOptions & CallOptions = {}): SftpClient {
    return new SftpClient(ClientSession.begin(channel, options, true), options)
  }

  /** How much one READ or WRITE carries; 32 KiB until the server told more. */
  get limits(): SftpLimits {
    return this.#session.limits
  }

  /** `limits`, when the server told them or has none to tell. */
  get limitsKnown(): Promise<SftpLimits> {
    return this.#session.limitsKnown
  }

  /** Whether the server announced an extension, in the given version where one is given. */
  supports(name: string, version?: string): boolean {
    if (version !== undefined) return this.#session.supports({ name, version })
    return this.extensions.has(name)
  }

  /** Ends the session: what is pending fails with ClosedError. Resolves when the channel is gone. Idempotent. */
  close(): Promise<void> {
    return this.#session.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /** Opens a file; see OpenMode. A directory is opened by `readdir` instead. */
  async open(
    path: string,
    flags: OpenMode | OpenFlags = 'r',
    options: OpenOptions = {},
  ): Promise<RemoteFile> {
    const filename = wirePath(path)
    const wanted = openFlags(flags)
    const pflags = wireOpenFlags(wanted)
    const attrs: Attributes = options.mode === undefined ? {} : { permissions: options.mode }
    const request = handleRequest(this.#session, 'OPEN', { path }, (writer, id) =>
      requests.open.encode(writer, { id, filename, pflags, attrs }),
    )
    const handle = await this.#session.request(request, options)
    return new RemoteFile(this.#session, handle, path, wanted.append === true)
  }

  /** Attributes of a file; symbolic links are followed. */
  async stat(path: string, options: CallOptions = {}): Promise<Stats> {
    const bytes = wirePath(path)
    const request = statsRequest('STAT', { path }, (writer, id) =>
      requests.stat.encode(writer, { id, path: bytes }),
    )
    return this.#session.request(request, options)
  }

  /** Attributes of a file, or of the symbolic link itself. */
  async lstat(path: string, options: CallOptions = {}): Promise<Stats> {
    return lstatPath(this.#session, path, options)
  }

  /** Sets attributes one thing at a time: size, owner, mode, times. Stops at the first that fails. */
  async setstat(path: string, attributes: Attributes, options: CallOptions = {}): Promise<void> {
    const bytes = wirePath(path)
    for (const attrs of attributeSteps(attributes)) {
      const request = statusRequest('SETSTAT', { path }, (writer, id) =>
        requests.setstat.encode(writer, { id, path: bytes, attrs }),
      )
      await this.#session.request(request, options)
    }
  }

  /** `setstat` that does not follow a symbolic link. ENOTSUP where the server has no lsetstat@openssh.com. */
  async lsetstat(path: string, attributes: Attributes, options: CallOptions = {}): Promise<void> {
    const bytes = wirePath(path)
    if (!this.#session.supports(lsetstat)) throw notOffered(lsetstat, { path })
    for (const attrs of attributeSteps(attributes)) {
      const request = statusRequest(lsetstat.name, { path }, (writer, id) =>
        lsetstat.encode(writer, { id, path: bytes, attrs }),
      )
      await this.#session.request(request, options)
    }
  }

  /** Sets the size in bytes. */
  truncate(path: string, size = 0, options: CallOptions = {}): Promise<void> {
    return this.setstat(path, { size }, options)
  }

  /** Sets the permission bits. */
  chmod(path: string, mode: number, options: CallOptions = {}): Promise<void> {
    return this.setstat(path, { permissions: mode }, options)
  }

  chown(path: string, uid: number, gid: number, options: CallOptions = {}): Promise<void> {
    return this.setstat(path, { uid, gid }, options)
  }

  /** Times as Date or seconds since 1970; whole seconds reach the server. */
  utimes(path: string, atime: Date | number, mtime: Date | number, options: CallOptions = {}): Promise<void> {
    return this.setstat(path, { atime: wireSeconds(atime), mtime: wireSeconds(mtime) }, options)
  }

  /** The entries of a directory, as they come, without '.' and '..'. Memory stays bounded however long the list is. */
  readdir(path: string, options: ReadDirectoryOptions = {}): AsyncGenerator<DirectoryEntry, void, undefined> {
    return readDirectory(this.#session, path, options)
  }

  /** Everything below a directory; symbolic links are not followed. */
  async *walk(path: string, options: WalkOptions = {}): AsyncGenerator<WalkEntry, void, undefined> {
    const { walkTree } = await bulk()
    yield* walkTree(this.#session, path, options)
  }

  /** What matches a shell pattern ('*', '?', '[a-z]', '{a,b}', '**', '\'); symbolic links to directories are not entered. */
  async *glob(pattern: string, options: WalkOptions = {}): AsyncGenerator<WalkEntry, void, undefined> {
    const { globTree } = await bulk()
    yield* globTree(this.#session, pattern, options)
  }

  async mkdir(path: string, options: MakeDirectoryOptions = {}): Promise<void> {
    const { mode, recursive = false } = options
    const bytes = wirePath(path)
    const attrs: Attributes = mode === undefined ? {} : { permissions: mode }
    const request = statusRequest('MKDIR', { path }, (writer, id) =>
      requests.mkdir.encode(writer, { id, path: bytes, attrs }),
    )
    try {
      await this.#session.request(request, options)
    } catch (error) {
      if (!recursive || !(error instanceof SftpStatusError)) throw error
      // Servers say FAILURE for "exists" and not always NO_SUCH_FILE for a missing parent: look.
      const there = await this.stat(path, options).catch(() => undefined)
      if (there?.isDirectory()) return
      const parent = path.replace(/\/+[^/]*\/*$/, '')
      if (there !== undefined || parent === '' || parent === path) throw error
      await this.mkdir(parent, options)
      await this.#session.request(request, options)
    }
  }

  async rmdir(path: string, options: CallOptions = {}): Promise<void> {
    const bytes = wirePath(path)
    await this.#session.request(
      statusRequest('RMDIR', { path }, (writer, id) => requests.rmdir.encode(writer, { id, path: bytes })),
      options,
    )
  }

  /** Removes a file or symbolic link. */
  async unlink(path: string, options: CallOptions = {}): Promise<void> {
    const filename = wirePath(path)
    await this.#session.request(
      statusRequest('REMOVE', { path }, (writer, id) => requests.remove.encode(writer, { id, filename })),
      options,
    )
  }

  /** Removes a file, or with `recursive` a tree; links in it are removed, not followed. */
  async rm(path: string, options: RemoveOptions = {}): Promise<void> {
    const { removeTree } = await bulk()
    return removeTree(this, path, options)
  }

  async rename(oldPath: string, newPath: string, options: RenameOptions = {}): Promise<void> {
    const oldpath = wirePath(oldPath)
    const newpath = wirePath(newPath)
    const subject = { path: oldPath, target: newPath }
    const offered = this.#session.supports(posixRename)
    if (options.replace === true && !offered) throw notOffered(posixRename, subject)
    if (options.replace ?? offered) {
      try {
        const request = statusRequest(posixRename.name, subject, (writer, id) =>
          posixRename.encode(writer, { id, oldpath, newpath }),
        )
        return await this.#session.request(request, options)
      } catch (error) {
        const unsupported = error instanceof SftpStatusError && error.status === statusCode.opUnsupported
        if (options.replace === true || !unsupported) throw error
      }
    }
    const request = statusRequest('RENAME', subject, (writer, id) =>
      requests.rename.encode(writer, { id, oldpath, newpath }),
    )
    await this.#session.request(request, options)
  }

  /** The canonical absolute path; whether it must exist is the server's choice. */
  async realpath(path: string, options: CallOptions = {}): Promise<string> {
    const bytes = wirePath(path)
    const request = nameRequest('REALPATH', { path }, (writer, id) =>
      requests.realpath.encode(writer, { id, path: bytes }),
    )
    return this.#session.request(request, options)
  }

  /** What a symbolic link points to, as it is written in it. */
  async readlink(path: string, options: CallOptions = {}): Promise<string> {
    const bytes = wirePath(path)
    const request = nameRequest('READLINK', { path }, (writer, id) =>
      requests.readlink.encode(writer, { id, path: bytes }),
    )
    return this.#session.request(request, options)
  }

  /** Makes the symbolic link `path` that points to `target`, in the argument order that this server reads. */
  async symlink(target: string, path: string, options: CallOptions = {}): Promise<void> {
    const link = wirePath(path)
    const to = wirePath(target)
    const order = symlinkOrder(this.#session.extensions, this.#serverIdentification)
    const [linkpath, targetpath] = order === 'link' ? [link, to] : [to, link]
    const request = statusRequest('SYMLINK', { path, target }, (writer, id) =>
      requests.symlink.encode(writer, { id, linkpath, targetpath }),
    )
    await this.#session.request(request, options)
  }

  /** Makes `newPath` a second name of the file `existingPath`. ENOTSUP where the server has no hardlink@openssh.com. */
  link(existingPath: string, newPath: string, options: CallOptions = {}): Promise<void> {
    return linkPath(this.#session, existingPath, newPath, options)
  }

  /** The file system that holds a path. ENOTSUP where the server has no statvfs@openssh.com. */
  statvfs(path: string, options: CallOptions = {}): Promise<FileSystemStats> {
    return statvfsPath(this.#session, path, options)
  }

  /**
   * The canonical path with a leading '~' or '~user' expanded. Without expand-path@openssh.com only '~' itself is known,
   * as the directory where the session started; '~user' is ENOTSUP then.
   */
  async expandPath(path: string, options: CallOptions = {}): Promise<string> {
    if (this.#session.supports(expandPath)) return expandPathOnServer(this.#session, path, options)
    if (!path.startsWith('~')) return this.realpath(path, options)
    if (path !== '~' && !path.startsWith('~/')) throw notOffered(expandPath, { path })
    const home = await this.realpath('.', options)
    return this.realpath(home + path.slice(1), options)
  }

  /**
   * Home directory of a user, by home-directory where the server has it (else ENOTSUP). Without a name, our own: where the
   * session started, which every server tells.
   */
  homeDirectory(username?: string, options: CallOptions = {}): Promise<string> {
    if (username === undefined) return this.realpath('.', options)
    return homeDirectoryOf(this.#session, username, options)
  }

  /** Names of user and group ids, '' where there is none. ENOTSUP where the server has no users-groups-by-id@openssh.com. */
  usersGroupsById(
    ids: { uids?: readonly number[]; gids?: readonly number[] },
    options: CallOptions = {},
  ): Promise<UserAndGroupNames> {
    return namesOfIds(this.#session, ids, options)
  }

  /**
   * Copies bytes between two open files on the server, or within one where the ranges do not overlap. Without `length`,
   * to the end of the source. A range beyond the source's end can be answered with success: check sizes first. The server
   * does nothing else on this channel meanwhile, and the time-out of requests holds: copy large files in pieces.
   * ENOTSUP where the server has no copy-data.
   */
  copyData(from: CopySource, to: CopyTarget, options: CallOptions = {}): Promise<void> {
    return copyOnServer(this.#session, from, to, options)
  }

  /**
   * Makes this session one of a device (session-epoch@sshblock, ENOTSUP where the server has it not). Resolves, when no session
   * of an earlier epoch of the device can do anything any more, to the numbers of those that are over.
   * @throws SftpStatusError 'EACCES' where a later epoch has begun.
   */
  joinDevice(session: DeviceSession, options: CallOptions = {}): Promise<readonly number[]> {
    return joinDevice(this.#session, session, options)
  }

  /** The whole file. @throws SftpTransferError where it is larger than `maxBytes`, or shrank meanwhile. */
  readFile(path: string, options: ReadFileOptions & { encoding: 'utf8' }): Promise<string>
  readFile(path: string, options?: ReadFileOptions): Promise<Uint8Array>
  async readFile(
    path: string,
    options: ReadFileOptions & { encoding?: 'utf8' } = {},
  ): Promise<string | Uint8Array> {
    const { readWholeFile } = await bulk()
    const bytes = await readWholeFile(this, path, options)
    return options.encoding === 'utf8' ? utf8Text(bytes) : bytes
  }

  /** Replaces the file's contents, or as `flag` says. */
  async writeFile(path: string, data: string | Uint8Array, options: WriteFileOptions = {}): Promise<void> {
    const bytes = typeof data === 'string' ? utf8Bytes(data) : data
    if (!(bytes instanceof Uint8Array)) throw new UsageError('writeFile takes a string or a Uint8Array')
    await withFile(await this.open(path, options.flag ?? 'w', options), (file) =>
      file.write(0, bytes, options),
    )
  }

  /**
   * Downloads a file into `sink`: a Uint8Array that it must fit into, a WritableStream (closed at the end), or a function
   * that is given each chunk in order and may return a promise. Many requests are under way at once.
   * @throws SftpTransferError with `transferredBytes`: where the file shrank, or the sink failed.
   */
  async get(path: string, sink: TransferSink, options: GetOptions = {}): Promise<TransferResult> {
    const { download } = await bulk()
    return download(this, path, sink, options)
  }

  /**
   * Uploads `source`: a Uint8Array, a ReadableStream or any (async) iterable of Uint8Arrays, each free to be reused when
   * the next is asked for.
   * @throws SftpTransferError with `transferredBytes`, the prefix that the server acknowledged.
   */
  async put(source: TransferSource, path: string, options: PutOptions = {}): Promise<TransferResult> {
    const { upload } = await bulk()
    return upload(this, source, path, options)
  }

  /** A stream of the file's bytes from `start` to `end` inclusive, read ahead; also an async iterable. */
  createReadStream(path: string, options: ReadStreamOptions = {}): ReadableStream<Uint8Array> {
    return createReadStream(this, path, options)
  }

  /** A stream into a file, whose writes are under way together. Chunks may be reused when `write` resolved. */
  createWriteStream(path: string, options: WriteStreamOptions = {}): WritableStream<Uint8Array> {
    return createWriteStream(this, path, options)
  }

  /** Bytes in flight that each direction has grown to. */
  get bytesInFlightLimit(): { readonly read: number; readonly write: number } {
    return this.#session.maxBytesInFlight
  }
}
