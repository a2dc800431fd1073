// Lists of directories (draft-ietf-secsh-filexfer-02 s6.7), trees walked from them, and trees removed.
// A server chooses every name here: a name that is not exactly one component is never handed on. Memory is bounded
// however long a list is, and depth however deep a tree claims to be.

import { AbortedError } from '@sshblock/transport/errors'
import { throwIfAborted } from './abort.ts'
import type { CallOptions, ClientSession } from './client-session.ts'
import type { Request } from './core/call.ts'
import { SftpStatusError, SftpTransferError } from './errors.ts'
import { maxTreeDepth } from './limits.ts'
import { type FileType, fileType } from './messages/attributes.ts'
import { packetType } from './messages/numbers.ts'
import { name as nameReply } from './messages/replies.ts'
import { lstat, opendir, readdir } from './messages/requests.ts'
import { statusCode } from './messages/status.ts'
import { pathText } from './path-text.ts'
import { closeRequest, handleRequest, statsRequest, wirePath } from './request-forms.ts'
import { Stats } from './stats.ts'

export interface DirectoryEntry {
  /** One path component. Bytes that are not UTF-8 are kept as lone surrogates, so that the name opens the file again. */
  readonly name: string
  /** Of the entry itself, not of what a symbolic link points to. */
  readonly stats: Stats
  /** 'unknown' where the server does not tell it in the permissions. */
  readonly type: FileType
}

export interface ReadDirectoryOptions extends CallOptions {
  /** Told each name that is not one component ('', 'a/b', with NUL), which is left out of the list. */
  onRejectedName?: (name: string) => void
}

export interface WalkEntry extends DirectoryEntry {
  readonly path: string
  /** 0 for what lies in the directory that was asked for. */
  readonly depth: number
}

export interface WalkOptions extends ReadDirectoryOptions {
  /** Directories below this depth are an error; default and maximum 64. */
  maxDepth?: number
}

/** `name` below `directory`. */
export function joinPath(directory: string, name: string): string {
  if (directory === '') return name
  return directory.endsWith('/') ? directory + name : `${directory}/${name}`
}

/** Whether a name from a server is one component of a path (RFC 4251 has no say in it; POSIX: no '/', no NUL). */
export function isOneComponent(name: string): boolean {
  return name !== '' && name !== '.' && name !== '..' && !name.includes('/') && !name.includes('\0')
}

/**
 * One READDIR: its entries with '.' and '..', none at the end of the list. A NAME without names ends it too, as in
 * OpenSSH's client: it would be asked for again for ever.
 */
function readdirRequest(handle: Uint8Array, path: string): Request<DirectoryEntry[]> {
  return {
    operation: 'READDIR',
    subject: { path, handle },
    expects: packetType.name,
    encode: (writer, id) => readdir.encode(writer, { id, handle }),
    decode: (packet) => {
      const { names } = nameReply.decode(packet)
      return names.map(({ filename, attrs }) => ({
        name: pathText(filename),
        stats: new Stats(attrs),
        type: fileType(attrs),
      }))
    },
    statusValue: (code) => (code === statusCode.eof ? [] : undefined),
  }
}

/**
 * The entries of a directory as the server gives them, without '.' and '..', in no order. One READDIR is asked for ahead.
 * @throws SftpStatusError, AbortedError, ...; leaving the loop early closes the handle.
 */
export async function* readDirectory(
  session: ClientSession,
  path: string,
  options: ReadDirectoryOptions = {},
): AsyncGenerator<DirectoryEntry, void, undefined> {
  const { signal } = options
  const filename = wirePath(path)
  const open = handleRequest(session, 'OPENDIR', { path }, (writer, id) =>
    opendir.encode(writer, { id, path: filename }),
  )
  const handle = await session.request(open, { signal })
  const ask = (): Promise<DirectoryEntry[]> => {
    const batch = session.request(readdirRequest(handle, path), { signal })
    // Whoever leaves the loop does not wait for the batch that was asked for ahead.
    batch.catch(() => {})
    return batch
  }
  try {
    let next = ask()
    for (;;) {
      const batch = await next
      if (batch.length === 0) return
      next = ask()
      for (const entry of batch) {
        if (entry.name === '.' || entry.name === '..') continue
        throwIfAborted(signal, 'READDIR')
        if (isOneComponent(entry.name)) yield entry
        else options.onRejectedName?.(entry.name)
      }
    }
  } finally {
    // A directory handle that cannot be closed loses nothing, and a dead session already told why.
    await session.request(closeRequest(handle, { path, handle })).catch(() => {})
  }
}

/** LSTAT. */
export function lstatPath(session: ClientSession, path: string, options: CallOptions): Promise<Stats> {
  const bytes = wirePath(path)
  return session.request(
    statsRequest('LSTAT', { path }, (writer, id) => lstat.encode(writer, { id, path: bytes })),
    options,
  )
}

/** The entry with a type, asked for where the list did not tell it. */
async function typed(
  session: ClientSession,
  path: string,
  entry: DirectoryEntry,
  options: CallOptions,
): Promise<DirectoryEntry> {
  if (entry.type !== 'unknown') return entry
  const stats = await lstatPath(session, path, options)
  return { name: entry.name, stats, type: stats.type }
}

/**
 * Everything below a directory, each directory before what it holds. Symbolic links are entries, never followed, so a
 * loop ends. Entries that vanish meanwhile are left out.
 * @throws SftpTransferError 'ERR_SFTP_TOO_DEEP' below `maxDepth`.
 */
export async function* walkTree(
  session: ClientSession,
  root: string,
  options: WalkOptions = {},
): AsyncGenerator<WalkEntry, void, undefined> {
  const { maxDepth = maxTreeDepth } = options
  yield* walkDirectory(session, root, 0, Math.min(maxDepth, maxTreeDepth), options)
}

async function* walkDirectory(
  session: ClientSession,
  directory: string,
  depth: number,
  maxDepth: number,
  options: WalkOptions,
): AsyncGenerator<WalkEntry, void, undefined> {
  if (depth > maxDepth)
    throw new SftpTransferError('ERR_SFTP_TOO_DEEP', `directories deeper than ${maxDepth}`, directory, 0)
  for await (const listed of readDirectory(session, directory, options)) {
    const path = joinPath(directory, listed.name)
    let entry: DirectoryEntry
    try {
      entry = await typed(session, path, listed, { signal: options.signal })
    } catch (error) {
      if (isMissing(error)) continue
      throw error
    }
    yield { ...entry, path, depth }
    if (entry.type !== 'directory') continue
    try {
      yield* walkDirectory(session, path, depth + 1, maxDepth, options)
    } catch (error) {
      if (!(isMissing(error) && error.path === path)) throw error
    }
  }
}

/** Whether an error says that there is no such file. */
export function isMissing(error: unknown): error is SftpStatusError {
  return error instanceof SftpStatusError && error.code === 'ENOENT'
}

/**
 * Entries below `root` whose path relative to it matches, each once, in no order.
 * `matches` is told the relative path; `descends` whether anything below a directory can match.
 */
export async function* selectTree(
  session: ClientSession,
  root: string,
  matcher: { matches(relative: readonly string[]): boolean; descends(relative: readonly string[]): boolean },
  options: WalkOptions,
): AsyncGenerator<WalkEntry, void, undefined> {
  const maxDepth = Math.min(options.maxDepth ?? maxTreeDepth, maxTreeDepth)
  const pending: { path: string; relative: readonly string[] }[] = [{ path: root, relative: [] }]
  for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
    const depth = directory.relative.length
    try {
      for await (const listed of readDirectory(
        session,
        directory.path === '' ? '.' : directory.path,
        options,
      )) {
        const path = joinPath(directory.path, listed.name)
        const relative = [...directory.relative, listed.name]
        const matched = matcher.matches(relative)
        const descends = depth < maxDepth && matcher.descends(relative)
        if (!matched && !descends) continue
        const entry = await typed(session, path, listed, { signal: options.signal })
        if (matched) yield { ...entry, path, depth }
        if (descends && entry.type === 'directory') pending.push({ path, relative })
      }
    } catch (error) {
      if (error instanceof AbortedError || !(error instanceof SftpStatusError)) throw error
      // What cannot be listed matches nothing, as in a shell; the root itself must be there.
      if (depth === 0 && !isMissing(error)) throw error
    }
  }
}
