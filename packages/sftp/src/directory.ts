// Lists of directories (draft-ietf-secsh-filexfer-02 s6.7). A server chooses every name here: a name that is not exactly one
// component is never handed on. Memory is bounded however long a list is.

import { throwIfAborted } from './abort.ts'
import type { CallOptions, ClientSession } from './client-session.ts'
import type { Request } from './core/call.ts'
import { SftpStatusError } from './errors.ts'
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

/** Whether an error says that there is no such file. */
export function isMissing(error: unknown): error is SftpStatusError {
  return error instanceof SftpStatusError && error.code === 'ENOENT'
}
