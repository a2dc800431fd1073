/** An NBD export as a file, by libnbd's nbdfuse. */
import { spawn } from 'node:child_process'
import { mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { until } from '../nbd/support/serve.ts'
import { registerCleanup } from '../support/cleanup.ts'
import { run, runOrThrow } from '../support/program.ts'

export interface FuseDisk {
  /** Its bytes are those of the export. */
  readonly file: string
  /** Resolves when everything was written to the export. */
  stop(): Promise<void>
}

export async function startFuse(uri: string, folder: string): Promise<FuseDisk> {
  mkdirSync(folder)
  const child = spawn('nbdfuse', [folder, uri], { stdio: 'ignore' })
  const ended = new Promise<void>((resolve) => child.on('close', () => resolve()))
  registerCleanup(async () => {
    await run('fusermount3', ['-u', '-z', folder])
    child.kill('SIGKILL')
  })
  const file = join(folder, 'nbd')
  await until(() => statSync(file, { throwIfNoEntry: false }) !== undefined, 20_000)
  return {
    file,
    async stop() {
      await runOrThrow('fusermount3', ['-u', folder])
      await ended
    },
  }
}
