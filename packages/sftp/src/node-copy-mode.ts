// The permissions that a copy begins with, before a byte of it is there: a private file must not lie open meanwhile, nor
// because its copy took the place of another one. As rsync does without -p: what is replaced keeps its permissions, what is
// new gets those of the original less the umask of the side that makes it.

import type { FileHandle } from 'node:fs/promises'
import type { SftpClient } from './client.ts'
import { SftpStatusError } from './errors.ts'
import type { RemoteFile } from './file.ts'
import type { LocalDirectory } from './node-local-directory.ts'

/** What an interrupted copy must allow its owner, to be gone on with. */
const ownerReadWrite = 0o600
/** What a directory must allow its owner, to be filled. */
const ownerAll = 0o700

/** Permission bits to make a copy with, less the umask; without setuid, setgid and sticky. */
export function newCopyMode(originalMode: number): number {
  return (originalMode & 0o777) | ownerReadWrite
}

/** Permission bits to make a directory of a copy with, less the umask; undefined where the original's are not known. */
export function newDirectoryMode(originalMode: number | undefined): number | undefined {
  return originalMode === undefined ? undefined : (originalMode & 0o777) | ownerAll
}

/** Makes the local file that a copy grows in, which will get the name `name`. `originalMode` is undefined where nobody tells. */
export async function createLocalCopy(
  directory: LocalDirectory,
  part: string,
  name: string,
  originalMode: number | undefined,
): Promise<FileHandle> {
  const replacedMode = await directory.modeOf(name)
  const mode = replacedMode ?? (originalMode === undefined ? undefined : newCopyMode(originalMode))
  const file = await directory.create(part, mode)
  if (replacedMode === undefined) return file
  try {
    // The umask has nothing to say about what was decided before.
    await file.chmod(replacedMode)
  } catch (error) {
    await file.close()
    throw error
  }
  return file
}

/** Permission bits of the file on the server that a copy will replace; undefined where there is none, or nobody tells. */
export async function replacedRemoteMode(
  client: SftpClient,
  path: string,
  signal: AbortSignal | undefined,
): Promise<number | undefined> {
  // What else can go wrong ends the opening beside it too.
  const there = await client.lstat(path, { signal }).catch(() => undefined)
  return there?.type === 'file' && there.mode !== undefined ? there.mode & 0o777 : undefined
}

/** Gives a copy that was just made the permissions of what it will replace. Servers that cannot have no use for them. */
export async function applyRemoteMode(
  file: RemoteFile,
  mode: number | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (mode === undefined) return
  try {
    await file.setstat({ permissions: mode }, { signal })
  } catch (error) {
    if (!(error instanceof SftpStatusError)) throw error
  }
}
