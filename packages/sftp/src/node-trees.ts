// Whole trees to and from the server. A download never leaves the local directory: names are checked, directories are
// held open (node-local-directory.ts), links of the server are made last or not at all, and nothing is followed.
// What is left out is reported, never silent. What is known of the server's side passes through a TreeConnection, which may be
// another one after each loss.

import { constants } from 'node:fs'
import { lstat, open, readdir, readlink, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { SshError } from '@sshblock/transport/errors'
import { throwIfAborted } from './abort.ts'
import type { SftpClient } from './client.ts'
import { type DirectoryEntry, joinPath } from './directory.ts'
import { SftpStatusError, SftpTransferError } from './errors.ts'
import { maxTreeDepth } from './limits.ts'
import { localNameProblem } from './local-names.ts'
import { newDirectoryMode } from './node-copy-mode.ts'
import { LocalDirectory } from './node-local-directory.ts'
import { copiedMode } from './node-local-file.ts'
import type { FileTransferOptions } from './node-transfer-options.ts'
import { TreeConnection, type TreeRetryOptions } from './node-tree-connection.ts'
import { transferError } from './transfer.ts'

export interface TreeOptions extends Omit<FileTransferOptions, 'onProgress'> {
  /** Symbolic links: left out and reported (default), or made anew with the same target when everything else is done. */
  symlinks?: 'skip' | 'copy'
  /** Files under way at once; default 8. */
  concurrency?: number
  /** Told each file when it is complete. */
  onFile?: (path: string, bytes: number) => void
  /**
   * Goes on after lost connections, with a way to another client: files behind what is proved to be there, all else where it
   * was. Default: a loss ends the transfer. Its `openChannel` takes the place of the one above.
   */
  retry?: TreeRetryOptions
}

export interface SkippedEntry {
  /** Path on the side that was read. */
  readonly path: string
  readonly reason: string
}

export interface TreeResult {
  readonly files: number
  readonly directories: number
  readonly links: number
  readonly bytes: number
  /** What was left out, and why. */
  readonly skipped: readonly SkippedEntry[]
}

class TreeTransfer {
  readonly connection: TreeConnection
  readonly options: TreeOptions
  readonly #concurrency: number
  readonly #underWay = new Set<Promise<void>>()
  readonly skipped: SkippedEntry[] = []
  files = 0
  directories = 0
  links = 0
  bytes = 0
  /** Links are made when no file or directory can be written through them any more. */
  readonly #links: (() => Promise<void>)[] = []
  #failed = false
  #failure: unknown

  constructor(client: SftpClient, options: TreeOptions) {
    const { retry, symlinks: _, concurrency: __, onFile: ___, ...fileOptions } = options
    this.connection = new TreeConnection(client, fileOptions, retry)
    this.options = options
    this.#concurrency = options.concurrency ?? 8
  }

  get result(): TreeResult {
    const { files, directories, links, bytes, skipped } = this
    return { files, directories, links, bytes, skipped }
  }

  skip(path: string, reason: string): void {
    this.skipped.push({ path, reason })
  }

  /**
   * Starts a file; resolves when there is room for another, so that no list of files makes a queue. `work` gives the
   * file's bytes, or undefined where it was left out. Its error is raised by `filesDone`.
   */
  async file(path: string, work: () => Promise<number | undefined>): Promise<void> {
    const transfer = this.#file(path, work)
      .catch((error) => {
        if (!this.#failed) this.#failure = error
        this.#failed = true
      })
      .finally(() => this.#underWay.delete(transfer))
    this.#underWay.add(transfer)
    if (this.#underWay.size >= this.#concurrency) await Promise.race(this.#underWay)
  }

  async #file(path: string, work: () => Promise<number | undefined>): Promise<void> {
    if (this.#failed) return
    const bytes = await work()
    if (bytes === undefined) return
    this.files++
    this.bytes += bytes
    this.options.onFile?.(path, bytes)
  }

  /** Waits for the files that were started. Raises the first error of any. */
  async filesDone(): Promise<void> {
    await Promise.all(this.#underWay)
    if (this.#failed) throw this.#failure
    throwIfAborted(this.options.signal, 'tree transfer')
  }

  later(path: string, make: () => Promise<void>): void {
    this.#links.push(async () => {
      try {
        await make()
        this.links++
      } catch (error) {
        this.skip(path, `link not made: ${error instanceof Error ? error.message : String(error)}`)
      }
    })
  }

  async makeLinks(): Promise<void> {
    for (const make of this.#links) await make()
  }
}

function checkDepth(path: string, depth: number): void {
  if (depth > maxTreeDepth)
    throw new SftpTransferError('ERR_SFTP_TOO_DEEP', `directories deeper than ${maxTreeDepth}`, path, 0)
}

/**
 * Downloads the directory `remotePath` into the local directory `localPath`, which is made where it does not exist.
 * Existing files are replaced, existing directories filled. Stops at the first file that fails.
 */
export async function getTree(
  client: SftpClient,
  remotePath: string,
  localPath: string,
  options: TreeOptions = {},
): Promise<TreeResult> {
  const transfer = new TreeTransfer(client, options)
  const open: LocalDirectory[] = []
  try {
    const { signal } = options
    const root = await openOrMake(localPath, async () => {
      const { mode } = await transfer.connection.run((current) => current.stat(remotePath, { signal }))
      return newDirectoryMode(mode)
    })
    open.push(root)
    await getDirectory(transfer, remotePath, root, 0, open)
    await transfer.makeLinks()
  } catch (error) {
    throw transferError(error, remotePath, transfer.bytes)
  } finally {
    for (const directory of open) await directory.close()
  }
  return transfer.result
}

async function openOrMake(path: string, newMode: () => Promise<number | undefined>): Promise<LocalDirectory> {
  try {
    return await LocalDirectory.open(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  const parent = await LocalDirectory.open(join(path, '..'))
  try {
    const name = path.replace(/\/+$/, '').split(/[\\/]/).at(-1)!
    await (await parent.child(name, await newMode())).close()
  } finally {
    await parent.close()
  }
  return LocalDirectory.open(path)
}

async function getDirectory(
  transfer: TreeTransfer,
  remotePath: string,
  local: LocalDirectory,
  depth: number,
  kept: LocalDirectory[],
): Promise<void> {
  checkDepth(remotePath, depth)
  const { connection, options } = transfer
  const { signal } = options
  transfer.directories++
  const directories: DirectoryEntry[] = []
  const onRejectedName = (name: string): void =>
    transfer.skip(joinPath(remotePath, name), 'not one path component')
  let linked = false
  for await (const entry of connection.readdir(remotePath, onRejectedName)) {
    const path = joinPath(remotePath, entry.name)
    const problem = localNameProblem(entry.name, process.platform)
    if (problem !== undefined) {
      transfer.skip(path, problem)
      continue
    }
    const lookUp = async () => (await connection.run((client) => client.lstat(path, { signal }))).type
    const type = entry.type === 'unknown' ? await lookUp() : entry.type
    if (type === 'directory') directories.push(entry)
    else if (type === 'file') await transfer.file(path, () => getEntry(transfer, path, local, entry.name))
    else if (type === 'symlink' && options.symlinks === 'copy') {
      linked = true
      const target = await connection.run((client) => client.readlink(path, { signal }))
      transfer.later(path, () => local.symlink(target, entry.name))
    } else transfer.skip(path, type === 'symlink' ? 'symbolic link' : `neither file nor directory: ${type}`)
  }
  await transfer.filesDone()
  for (const entry of directories) {
    const path = joinPath(remotePath, entry.name)
    let child: LocalDirectory
    try {
      child = await local.child(entry.name, newDirectoryMode(entry.stats.mode))
    } catch (error) {
      if (!(error instanceof SshError)) throw error
      transfer.skip(path, error.message)
      continue
    }
    let keep = false
    try {
      await getDirectory(transfer, path, child, depth + 1, kept)
      keep = kept.includes(child)
      if (options.preserve) await preserveDirectory(child, entry, options.allowSpecialModes ?? false)
    } finally {
      if (!keep) await child.close()
    }
  }
  // A directory in which links are to be made stays open until then.
  if (linked && depth > 0) kept.push(local)
}

async function getEntry(
  transfer: TreeTransfer,
  path: string,
  local: LocalDirectory,
  name: string,
): Promise<number | undefined> {
  try {
    return await transfer.connection.get(path, local, name)
  } catch (error) {
    // One file that may not be read, or vanished, does not end the tree; it is reported.
    if (!(error instanceof SftpStatusError)) throw error
    transfer.skip(path, error.message)
    return undefined
  }
}

async function preserveDirectory(
  local: LocalDirectory,
  { stats }: DirectoryEntry,
  allowSpecialModes: boolean,
): Promise<void> {
  const { atime, mtime } = stats
  await local.setAttributes(
    copiedMode(stats, allowSpecialModes),
    atime === undefined || mtime === undefined ? undefined : { atime, mtime },
  )
}

/**
 * Uploads the local directory `localPath` into the directory `remotePath`, which is made where it does not exist.
 * Existing files are replaced, existing directories filled. Stops at the first file that fails.
 */
export async function putTree(
  client: SftpClient,
  localPath: string,
  remotePath: string,
  options: TreeOptions = {},
): Promise<TreeResult> {
  const transfer = new TreeTransfer(client, options)
  try {
    await putDirectory(transfer, localPath, remotePath, 0)
    await transfer.makeLinks()
  } catch (error) {
    throw transferError(error, remotePath, transfer.bytes)
  }
  return transfer.result
}

async function putDirectory(
  transfer: TreeTransfer,
  localPath: string,
  remotePath: string,
  depth: number,
): Promise<void> {
  checkDepth(localPath, depth)
  const { connection, options } = transfer
  const { signal } = options
  const { mode } = await stat(localPath)
  await connection.run((client) =>
    makeRemoteDirectory(client, remotePath, newDirectoryMode(mode), depth === 0, signal),
  )
  transfer.directories++
  const directories: string[] = []
  for (const entry of await readdir(localPath, { withFileTypes: true })) {
    const { name } = entry
    const path = join(localPath, name)
    const remote = joinPath(remotePath, name)
    if (entry.isDirectory()) directories.push(name)
    else if (entry.isFile()) await transfer.file(path, () => putEntry(transfer, path, remote))
    else if (entry.isSymbolicLink() && options.symlinks === 'copy') {
      const target = await readlink(path)
      transfer.later(path, () => makeRemoteLink(connection, target, remote, signal))
    } else transfer.skip(path, entry.isSymbolicLink() ? 'symbolic link' : 'neither file nor directory')
  }
  await transfer.filesDone()
  for (const name of directories) {
    const path = join(localPath, name)
    const remote = joinPath(remotePath, name)
    await putDirectory(transfer, path, remote, depth + 1)
    if (!options.preserve) continue
    const { mode, atimeMs, mtimeMs } = await lstat(path)
    const changes = {
      permissions: mode & (options.allowSpecialModes ? 0o7777 : 0o777),
      atime: Math.floor(atimeMs / 1000),
      mtime: Math.floor(mtimeMs / 1000),
    }
    await connection.run((client) => client.setstat(remote, changes, { signal }))
  }
}

async function putEntry(transfer: TreeTransfer, path: string, remote: string): Promise<number> {
  // What was a file when listed and is a link by now is refused.
  const file = await open(path, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0))
  try {
    return await transfer.connection.put(file, remote)
  } finally {
    await file.close()
  }
}

function makeRemoteLink(
  connection: TreeConnection,
  target: string,
  path: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  return connection.run(async (client) => {
    try {
      await client.symlink(target, path, { signal })
    } catch (error) {
      if (!connection.triesAgain || !(error instanceof SftpStatusError)) throw error
      // Made, perhaps, by an attempt that got no answer.
      if ((await client.readlink(path, { signal }).catch(() => undefined)) !== target) throw error
    }
  })
}

async function makeRemoteDirectory(
  client: SftpClient,
  path: string,
  mode: number | undefined,
  isRoot: boolean,
  signal: AbortSignal | undefined,
): Promise<void> {
  try {
    await client.mkdir(path, mode === undefined ? { signal } : { mode, signal })
  } catch (error) {
    if (!(error instanceof SftpStatusError)) throw error
    // Below the root nothing is followed: a link that somebody put there leads elsewhere.
    const there = await (isRoot ? client.stat(path, { signal }) : client.lstat(path, { signal })).catch(
      () => undefined,
    )
    if (!there?.isDirectory()) throw error
  }
}
