/** Our sftp-server as one file that plain `node` can run, made from the sources: no build needed. */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { rolldown } from 'rolldown'
import { runDir } from '../../support/temp-dir.ts'

const entry = fileURLToPath(new URL('../../../packages/sftp/src/sftp-server-stdio.ts', import.meta.url))

let made: Promise<string> | undefined

/** The path of the bundled program; made once per process. */
export function stdioServerProgram(): Promise<string> {
  made ??= bundle()
  return made
}

async function bundle(): Promise<string> {
  const file = join(runDir(), `sftp-server-stdio-${process.pid}.mjs`)
  const build = await rolldown({
    input: entry,
    platform: 'node',
    resolve: { conditionNames: ['@sshblock/source', 'node', 'import', 'default'] },
  })
  try {
    await build.write({ file, format: 'esm' })
  } finally {
    await build.close()
  }
  return file
}
