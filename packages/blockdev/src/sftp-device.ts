// Opening and creating a disk image over SFTP: which file may be one, with which flags, and what is checked before the
// device is handed out. Works on any SftpClient: over an SSH channel, or over a pipe to an `sftp-server`.

import { type SftpClient, type SftpLimits, SftpStatusError } from '@sshblock/sftp'
import { quote } from '@sshblock/transport/errors'
import { findDeviceEnd } from './device-end.ts'
import { BlockDeviceError } from './errors.ts'
import { FileDevice } from './file-device.ts'
import type { DeviceBehaviour, FileDeviceOptions } from './file-device-options.ts'
import type { ConnectionInfo } from './image/options.ts'
import { checkSize, roundUpToBlock } from './layers/bounds.ts'
import { growFile } from './layers/file-size.ts'
import type { FlushPolicy } from './layers/flush-barrier.ts'
import { storageErrorCode } from './layers/storage-error.ts'
import type { FileKind, FileStatus } from './random-access-file.ts'
import { canSync, fileStatus, isSameFile, SftpFile } from './sftp-file.ts'
import { SftpZeroCopier } from './sftp-zero-copier.ts'

/** What is known about the SSH server behind a device. */
export interface ServerInfo {
  readonly host: string
  readonly port: number
  readonly user: string
  /** Identification line, raw, e.g. 'SSH-2.0-OpenSSH_9.2p1'. */
  readonly identification: string
  /** Type of the host key, e.g. 'ssh-ed25519'. */
  readonly hostKeyType: string
  /** 'SHA256:...' */
  readonly hostKeyFingerprint: string
  /** What both sides agreed on. */
  readonly algorithms: {
    readonly kex: string
    readonly hostKey: string
    readonly cipherClientToServer: string
    readonly cipherServerToClient: string
    /** Undefined where the cipher brings its own. */
    readonly macClientToServer: string | undefined
    readonly macServerToClient: string | undefined
    /** Strict key exchange. */
    readonly strict: boolean
  }
  /** How the user got in: method and key, agent or prompt. */
  readonly authentication: string
}

/** For people, logs and programs. */
export interface DeviceInfo {
  readonly path: string
  /** Bytes. */
  readonly size: number
  readonly kind: FileKind
  readonly readOnly: boolean
  readonly hasZeroInit: boolean
  readonly flushPolicy: FlushPolicy
  /** 'volatile': flush does not reach stable storage, and the user accepted it. */
  readonly durability: 'durable' | 'volatile'
  /** SFTP extensions that the server announced: name and data. */
  readonly extensions: ReadonlyMap<string, string>
  readonly limits: SftpLimits
  /** SFTP channels in use by reads and writes. */
  readonly channels: number
  /** Where the way to the server stands; undefined where the device cannot connect again by itself. */
  readonly connection: ConnectionInfo | undefined
  /** Undefined where the device was opened on an SFTP client that somebody else made. */
  readonly server: ServerInfo | undefined
}

export interface SftpDeviceOptions extends DeviceBehaviour {
  /** Open for writing too. Default false. */
  writable?: boolean
  /** Bytes. SFTP cannot tell the size of a block device: it is searched for by reading, unless given. For a file it must be right. */
  size?: number
  signal?: AbortSignal
  /**
   * Opens one more SFTP channel to the same server. With it reads go on while the first channel is busy with a flush, and
   * long zeros are copied on the server. The device closes what it opened.
   */
  openChannel?: () => Promise<SftpClient>
  /** Names the server in messages, e.g. its host name. */
  serverName?: string
  serverInfo?: ServerInfo
  /** Is called last when the device is closed. */
  release?: () => Promise<void>
}

export interface CreateOptions extends Omit<SftpDeviceOptions, 'writable' | 'size'> {
  /** Bytes. */
  size: number
  /** Replace a file that exists. Default false: EEXIST. */
  overwrite?: boolean
  /** Take the size as it is. Default false: rounded up to whole blocks of 512 bytes. */
  exactSize?: boolean
  /** Permission bits of the new file, less the server's umask. Default 0o644. */
  mode?: number
}

/** Where a device learns what its info tells. */
export interface DeviceSource {
  readonly path: string
  /** The client in use, or the last one that was. */
  readonly sftp: () => SftpClient
  readonly server: () => ServerInfo | undefined
  readonly connection: () => ConnectionInfo | undefined
}

/** A disk image over SFTP. */
export class SftpDevice extends FileDevice {
  readonly #source: DeviceSource

  /** Made by the functions that open and create devices. */
  constructor(source: DeviceSource, options: FileDeviceOptions) {
    super(options)
    this.#source = source
  }

  get info(): DeviceInfo {
    const sftp = this.#source.sftp()
    const connection = this.#source.connection()
    const extensions = new Map<string, string>()
    for (const [name, data] of sftp.extensions) extensions.set(name, new TextDecoder().decode(data))
    return {
      path: this.#source.path,
      size: this.size,
      kind: this.kind,
      readOnly: this.readOnly,
      hasZeroInit: this.hasZeroInit,
      flushPolicy: this.flushPolicy,
      durability: this.durability,
      extensions,
      limits: sftp.limits,
      channels: connection?.channels ?? this.handles,
      connection,
      server: this.#source.server(),
    }
  }
}

/**
 * Opens a disk image.
 * @throws BlockDeviceError ENOENT, EACCES (also where the server is read-only), EISDIR, EINVAL (a fifo or socket, another
 *   size than given), ENOTSUP (for writing, on a server without fsync@openssh.com, by the
 *   flush policy 'strict'), EIO; the message names the path.
 */
export async function openDeviceOnSftp(
  sftp: SftpClient,
  path: string,
  options: SftpDeviceOptions = {},
): Promise<SftpDevice> {
  const { file, kind, size } = await openImageFile(sftp, path, options)
  return device(sftp, path, file, { ...options, readOnly: options.writable !== true, kind, size })
}

/** An image that was opened, before there is a device on it. */
export interface OpenedImage {
  readonly file: SftpFile
  readonly kind: FileKind
  /** Bytes. */
  readonly size: number
  /**
   * Its first bytes, as far as they were asked for and could be read: by which it is known again, and which the first read gets
   * without a round trip of its own.
   */
  readonly head: Uint8Array
}

/** Bytes that are read from the start of a file when it is opened: one READ, whatever the server. */
const headBytes = 32 * 1024

async function readHead(file: SftpFile): Promise<Uint8Array> {
  const head = new Uint8Array(headBytes)
  const count = await file.read(0, head).catch(() => 0)
  return head.subarray(0, count)
}

/**
 * Opens the file of a disk image and checks that it may be one. `wants.onOpenable` is called when it is known to be of a kind that
 * can be opened. @throws as openDeviceOnSftp.
 */
export async function openImageFile(
  sftp: SftpClient,
  path: string,
  options: SftpDeviceOptions,
  wants: { head?: boolean; onOpenable?: () => void } = {},
): Promise<OpenedImage> {
  const { writable = false, signal } = options
  try {
    // By path first: opening a fifo would block the server until somebody writes into it.
    checkKind(path, fileStatus(await sftp.stat(path, { signal })))
    wants.onOpenable?.()
    const file = new SftpFile(sftp, await sftp.open(path, writable ? 'r+' : 'r', { signal }))
    try {
      // After the opening, so that a read-only server (which hides fsync too) is told by its own answer.
      if (writable) checkFlushPolicy(sftp, options)
      const head = wants.head === true ? readHead(file) : new Uint8Array(0)
      const status = await file.status()
      checkKind(path, status)
      const size = await deviceSize(path, file, status, options)
      return { file, kind: status.kind, size, head: (await head).subarray(0, size) }
    } catch (error) {
      await file.close().catch(() => {})
      throw error
    }
  } catch (error) {
    throw pathError('open', path, error, writable)
  }
}

/**
 * Creates a disk image that reads as zeros, and opens it for writing. Where that fails half-way a file made by this call
 * is removed again; one that was there before and was to be overwritten stays, empty or with its new size.
 * @throws BlockDeviceError EEXIST, ENOENT (of the folder), EACCES, EISDIR, EINVAL, ENOSPC, ENOTSUP, EIO; the message names
 *   the path.
 */
export async function createDeviceOnSftp(
  sftp: SftpClient,
  path: string,
  options: CreateOptions,
): Promise<SftpDevice> {
  const { file, kind, size } = await createImageFile(sftp, path, options)
  return device(sftp, path, file, { ...options, readOnly: false, fresh: true, kind, size })
}

/** Creates the file of a disk image. @throws as createDeviceOnSftp. */
export async function createImageFile(
  sftp: SftpClient,
  path: string,
  options: CreateOptions,
): Promise<OpenedImage> {
  const { overwrite = false, exactSize = false, mode = 0o644, signal } = options
  checkSize('create', options.size)
  const size = exactSize ? options.size : roundUpToBlock(options.size)
  checkSize('create', size)
  await sftp.opened
  checkFlushPolicy(sftp, options)
  try {
    const before = overwrite ? await statusOf(sftp, path, signal) : undefined
    if (before !== undefined) {
      checkKind(path, before)
      if (before.kind === 'block-device' || before.kind === 'character-device')
        throw wrongKind(path, before.kind, 'create')
    }
    const flags = { read: true, write: true, create: true, exclusive: !overwrite, truncate: overwrite }
    const remote = await sftp.open(path, flags, { mode, signal }).catch(async (error: unknown) => {
      // SFTP v3 has no status for "exists": look.
      if (
        !overwrite &&
        error instanceof SftpStatusError &&
        (await statusOf(sftp, path, signal)) !== undefined
      )
        throw exists(path, error)
      throw error
    })
    const file = new SftpFile(sftp, remote)
    try {
      const { kind } = await file.status()
      signal?.throwIfAborted()
      if (size > 0) await growFile(file, 0, size)
      if (file.canSync) await file.sync()
      signal?.throwIfAborted()
      return { file, kind, size, head: new Uint8Array(Math.min(headBytes, size)) }
    } catch (error) {
      await file.close().catch(() => {})
      if (before === undefined) await sftp.unlink(path).catch(() => {})
      throw error
    }
  } catch (error) {
    throw pathError('create', path, error, true)
  }
}

function device(
  sftp: SftpClient,
  path: string,
  file: SftpFile,
  options: Omit<SftpDeviceOptions, 'size'> & {
    size: number
    readOnly: boolean
    fresh?: boolean
    kind: FileKind
  },
): SftpDevice {
  const { openChannel, serverName, serverInfo, onWarning = () => {} } = options
  const extra: SftpClient[] = []
  const source: DeviceSource = {
    path,
    sftp: () => sftp,
    server: () => serverInfo,
    connection: () => undefined,
  }
  const made: SftpDevice = new SftpDevice(source, {
    ...options,
    files: [file],
    ...serverTraits(sftp, serverName),
    ...(openChannel === undefined
      ? {}
      : {
          isSameFile: (first, other) => isSameFile((first as SftpFile).remote, (other as SftpFile).remote),
          zeroCopier: new SftpZeroCopier({ path, openChannel, onWarning }),
          onFirstWrite: () => void addReader(made, path, openChannel, extra),
        }),
    release: async () => {
      for (const client of extra) await client.close()
      await options.release?.()
    },
  })
  return made
}

/** What a device is told about the server that keeps its image. */
export function serverTraits(
  sftp: SftpClient,
  serverName: string | undefined,
): Pick<FileDeviceOptions, 'storageName' | 'missingSync' | 'preferredBlockSize'> {
  return {
    storageName: serverName === undefined ? 'the server' : `server ${quote(serverName)}`,
    missingSync: 'fsync@openssh.com',
    preferredBlockSize: preferredBlockSize(sftp.limits),
  }
}

// fsync blocks its channel: from the first write on reads have another one. A server that gives only one is no error.
async function addReader(
  made: SftpDevice,
  path: string,
  openChannel: () => Promise<SftpClient>,
  extra: SftpClient[],
): Promise<void> {
  let client: SftpClient | undefined
  try {
    client = await openChannel()
    const file = new SftpFile(client, await client.open(path, 'r'))
    if (await made.addReader(file)) extra.push(client)
    else await client.close()
  } catch {
    await client?.close().catch(() => {})
  }
}

/** Largest power of two that one request carries, from 4 KiB to 128 KiB. */
function preferredBlockSize(limits: SftpLimits): number {
  const most = Math.min(limits.maxReadBytes, limits.maxWriteBytes, 128 * 1024)
  return Math.max(4096, 2 ** Math.floor(Math.log2(most)))
}

function checkFlushPolicy(sftp: SftpClient, options: SftpDeviceOptions | CreateOptions): void {
  if (canSync(sftp) || options.flushPolicy === 'unsafe') return
  const server = options.serverName === undefined ? 'the server' : `server ${quote(options.serverName)}`
  throw new BlockDeviceError(
    'ENOTSUP',
    `${server} has no fsync@openssh.com: a flush could not reach stable storage; open it read-only, or with flushPolicy "unsafe" if data may be lost on a crash`,
  )
}

async function statusOf(
  sftp: SftpClient,
  path: string,
  signal: AbortSignal | undefined,
): Promise<FileStatus | undefined> {
  try {
    return fileStatus(await sftp.stat(path, { signal }))
  } catch (error) {
    if (error instanceof SftpStatusError) return undefined
    throw error
  }
}

function checkKind(path: string, { kind }: FileStatus): void {
  if (kind === 'directory' || kind === 'fifo' || kind === 'socket' || kind === 'symlink')
    throw wrongKind(path, kind, 'open')
}

function wrongKind(path: string, kind: FileKind, what: string): BlockDeviceError {
  const code = kind === 'directory' ? 'EISDIR' : 'EINVAL'
  return new BlockDeviceError(
    code,
    `cannot ${what} ${quote(path)}: it is a ${kind.replace('-', ' ')}, and no disk image`,
  )
}

function exists(path: string, cause: unknown): BlockDeviceError {
  return new BlockDeviceError(
    'EEXIST',
    `cannot create ${quote(path)}: it exists already (overwrite: true replaces it)`,
    { cause },
  )
}

async function deviceSize(
  path: string,
  file: SftpFile,
  { size, kind }: FileStatus,
  { size: given, signal }: SftpDeviceOptions,
): Promise<number> {
  if (given !== undefined) checkSize('open', given)
  if (given !== undefined && (kind === 'block-device' || kind === 'character-device')) return given
  if (kind === 'block-device')
    return findDeviceEnd((offset) => file.read(offset, new Uint8Array(1), { signal }))
  if (size === undefined)
    throw new BlockDeviceError('EIO', `cannot open ${quote(path)}: the server does not tell its size`)
  if (given !== undefined && given !== size) {
    throw new BlockDeviceError(
      'EINVAL',
      `cannot open ${quote(path)}: it has ${size} bytes, and "size" says ${given}`,
    )
  }
  return size
}

const reasons: ReadonlyMap<string, string> = new Map([
  ['ENOENT', 'No such file'],
  ['EACCES', 'Permission denied'],
  ['EIO', 'Failure'],
])

/** The error of opening or creating: names the path, and what the server said. */
export function pathError(what: string, path: string, error: unknown, writing: boolean): BlockDeviceError {
  if (error instanceof BlockDeviceError) {
    return error.message.includes(quote(path))
      ? error
      : new BlockDeviceError(error.code, `cannot ${what} ${quote(path)}: ${error.message}`, { cause: error })
  }
  const code = storageErrorCode(error)
  if (!(error instanceof SftpStatusError)) {
    const reason = error instanceof Error ? error.message : String(error)
    return new BlockDeviceError(code, `cannot ${what} ${quote(path)}: ${reason}`, { cause: error })
  }
  const reason = reasons.get(error.code) ?? error.code
  const said =
    error.serverMessage === '' || error.serverMessage === reason ? '' : `, ${quote(error.serverMessage)}`
  const hint = writing && code === 'EACCES' ? '; the file, its folder or the server may be read-only' : ''
  return new BlockDeviceError(
    code,
    `cannot ${what} ${quote(path)}: ${reason} (SFTP status ${error.status}${said})${hint}`,
    { cause: error },
  )
}
