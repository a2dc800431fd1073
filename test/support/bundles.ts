/** The packages as Node loads them (`exports` and `bin` below dist/bundle), made as `npm run build` does, once for a test run. */
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { beforeAll } from 'vitest'
import { run, runOrThrow } from './program.ts'
import { runDir } from './temp-dir.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** Bundles them before the tests of a file; the first file that asks does it for all that run at the same time. */
export function bundlesPackages(): void {
  beforeAll(async () => {
    const done = join(runDir(), 'bundled')
    const lock = join(runDir(), 'bundle.lock')
    try {
      mkdirSync(lock)
    } catch {
      while (!existsSync(done)) {
        if (!existsSync(lock))
          throw new Error('the packages could not be bundled: another test file tells why')
        await delay(50)
      }
      return
    }
    try {
      // What is wrong with types is the type checker's business, and built all the same.
      await run(join(root, 'node_modules/.bin/tsc'), ['-b'], { cwd: root, timeoutMs: 110_000 })
      await runOrThrow(process.execPath, [join(root, 'scripts/bundle-for-node.mjs')], { timeoutMs: 60_000 })
      writeFileSync(done, '')
    } finally {
      if (!existsSync(done)) rmSync(lock, { recursive: true })
    }
  }, 120_000)
}
