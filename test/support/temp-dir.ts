/** Private folders that vanish with the test or file that made them. */
import { chmodSync, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { registerCleanup, type Scope } from './cleanup.ts'

/** Names the environment variable with the folder that all files of one test run share. */
export const RUN_DIR_VARIABLE = 'SSHBLOCK_TEST_RUN_DIR'

function sharedRunDir(): string | undefined {
  const dir = process.env[RUN_DIR_VARIABLE]
  return dir !== undefined && existsSync(dir) ? dir : undefined
}

/**
 * A fresh folder, removed with everything in it at the end of the scope. It lies in the folder of the run, which is
 * removed at the run's end, so that nothing stays even where a test process was killed.
 *
 * @param options.mode permission bits, 0700 unless another user has to pass through
 */
export function tempDir(name = 'test', options: { scope?: Scope | undefined; mode?: number } = {}): string {
  const run = sharedRunDir()
  const dir = mkdtempSync(run === undefined ? join(tmpdir(), `sshblock-${name}-`) : join(run, `${name}-`))
  chmodSync(dir, options.mode ?? 0o700)
  registerCleanup(() => rm(dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 20 }), {
    scope: options.scope,
    onExit: () => rmSync(dir, { recursive: true, force: true }),
  })
  return dir
}

let ownRunDir: string | undefined

/** The folder shared by the whole test run; outside a run, one for this process. Made things in it are never changed. */
export function runDir(): string {
  const shared = sharedRunDir()
  if (shared !== undefined) return shared
  ownRunDir ??= tempDir('run', { scope: 'file' })
  return ownRunDir
}
