// Trees, walked from lists of directories: all of one, or what a pattern selects. Depth is bounded however deep a tree claims
// to be.

import { AbortedError } from '@sshblock/transport/errors'
import type { CallOptions, ClientSession } from './client-session.ts'
import {
  type DirectoryEntry,
  isMissing,
  joinPath,
  lstatPath,
  readDirectory,
  type WalkEntry,
  type WalkOptions,
} from './directory.ts'
import { SftpStatusError, SftpTransferError } from './errors.ts'
import { expandBraces, parseGlob } from './glob.ts'
import { maxTreeDepth } from './limits.ts'

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

/**
 * Entries below `root` whose path relative to it matches, each once, in no order.
 * `matches` is told the relative path; `descends` whether anything below a directory can match.
 */
async function* selectTree(
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

/** What matches a shell pattern, each once. @throws UsageError for a pattern that cannot be read */
export async function* globTree(
  session: ClientSession,
  pattern: string,
  options: WalkOptions,
): AsyncGenerator<WalkEntry, void, undefined> {
  const seen = new Set<string>()
  for (const alternative of expandBraces(pattern)) {
    const matcher = parseGlob(alternative)
    for await (const entry of selectTree(session, matcher.root, matcher, options)) {
      if (seen.has(entry.path)) continue
      seen.add(entry.path)
      yield entry
    }
  }
}
