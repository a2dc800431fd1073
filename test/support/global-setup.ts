/**
 * Runs once per test run, in the main process: a folder that the whole run shares, for what is slow to make and safe
 * to share (generated keys), and for the private folders of the tests. The workers learn its path from the environment.
 */
import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { RUN_DIR_VARIABLE } from './temp-dir.ts'

/** What a test process that was killed left mounted below `dir`, the innermost first. */
function mountsBelow(dir: string): string[] {
  if (!existsSync('/proc/self/mountinfo')) return []
  const points = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
  return points.filter((point) => point.startsWith(`${dir}/`)).reverse()
}

export default function setup(): () => void {
  const dir = mkdtempSync(join(tmpdir(), 'sshblock-run-'))
  chmodSync(dir, 0o711) // The servers' users pass through to their own folders.
  process.env[RUN_DIR_VARIABLE] = dir
  return () => {
    for (const point of mountsBelow(dir)) execFileSync('umount', ['--lazy', point])
    rmSync(dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 20 })
  }
}
