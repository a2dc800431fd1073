// Removing files and trees. Symbolic links are removed, never followed: nothing outside the tree is touched, whatever a
// server lists, because only names that are one component are joined to the path.

import { UsageError } from '@sshblock/transport/errors'
import type { SftpClient } from './client.ts'
import type { CallOptions } from './client-session.ts'
import { isMissing, joinPath } from './directory.ts'
import { SftpTransferError } from './errors.ts'
import { maxTreeDepth } from './limits.ts'

export interface RemoveOptions extends CallOptions {
  /** Remove directories with all they hold. */
  recursive?: boolean
  /** Be content where there is nothing. */
  force?: boolean
}

/** Files of one directory that are removed at once. */
const maxUnderWay = 64

export async function removeTree(client: SftpClient, path: string, options: RemoveOptions): Promise<void> {
  const { recursive = false, force = false, signal } = options
  if (/^\/*$/.test(path) || /(^|\/)\.{1,2}\/*$/.test(path))
    throw new UsageError(`refusing to remove ${JSON.stringify(path)}`)
  try {
    const stats = await client.lstat(path, { signal })
    if (!stats.isDirectory()) await client.unlink(path, { signal })
    else if (recursive) await removeDirectory(client, path, 0, signal)
    else
      throw new UsageError(`${JSON.stringify(path)} is a directory: remove it with recursive`, {
        code: 'EISDIR',
      })
  } catch (error) {
    if (!(force && isMissing(error))) throw error
  }
}

async function removeDirectory(
  client: SftpClient,
  path: string,
  depth: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (depth > maxTreeDepth)
    throw new SftpTransferError('ERR_SFTP_TOO_DEEP', `directories deeper than ${maxTreeDepth}`, path, 0)
  const underWay = new Set<Promise<void>>()
  let failure: unknown
  let failed = false
  for await (const entry of client.readdir(path, { signal })) {
    if (failed) break
    const child = joinPath(path, entry.name)
    const type = entry.type === 'unknown' ? (await client.lstat(child, { signal })).type : entry.type
    if (type === 'directory') {
      await removeDirectory(client, child, depth + 1, signal)
      continue
    }
    const removal = client
      .unlink(child, { signal })
      .catch((error) => {
        // Somebody else was faster: gone is gone.
        if (isMissing(error)) return
        failed = true
        failure ??= error
      })
      .finally(() => underWay.delete(removal))
    underWay.add(removal)
    if (underWay.size >= maxUnderWay) await Promise.race(underWay)
  }
  await Promise.all(underWay)
  if (failed) throw failure
  await client.rmdir(path, { signal })
}
