/**
 * A small file system in memory: for "no space left on device", and for figures without a disk in them.
 *
 * Mount it before the server starts: a server in a namespace of its own does not see later mounts.
 */
import { execFileSync } from 'node:child_process'
import { registerCleanup, type Scope } from './cleanup.ts'
import { runOrThrow } from './program.ts'
import { needsRoot, requirePeers } from './requirements.ts'
import { tempDir } from './temp-dir.ts'

export { needsRoot as needsTmpfs } from './requirements.ts'

/**
 * Mounts a tmpfs in a fresh folder, which every user may write to, and returns the folder's path.
 *
 * @param sizeBytes a multiple of the page size, 4096
 */
export async function mountTmpfs(
  sizeBytes: number,
  options: { scope?: Scope | undefined } = {},
): Promise<string> {
  requirePeers([needsRoot])
  const dir = tempDir('tmpfs', options)
  await runOrThrow('mount', ['-t', 'tmpfs', '-o', `size=${sizeBytes},mode=1777`, 'tmpfs', dir])
  // Lazily: a process that was killed a moment ago may still have a file open.
  const unmount = ['--lazy', dir]
  registerCleanup(() => runOrThrow('umount', unmount).then(() => {}), {
    scope: options.scope,
    onExit: () => execFileSync('umount', unmount, { stdio: 'ignore' }),
  })
  return dir
}
