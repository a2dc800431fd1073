/** The packages and the scenarios in page/, bundled once for a test file, as a page's build would. */
import { fileURLToPath } from 'node:url'
import { rolldown } from 'rolldown'

const entries = {
  page: fileURLToPath(new URL('../page/page.ts', import.meta.url)),
  worker: fileURLToPath(new URL('../page/worker.ts', import.meta.url)),
}

/** Code by file name, 'page.js' and 'worker.js' among them. */
export async function bundlePages(): Promise<ReadonlyMap<string, string>> {
  const build = await rolldown({
    input: entries,
    platform: 'browser',
    logLevel: 'silent',
    resolve: { conditionNames: ['@sshblock/source', 'browser', 'import', 'module', 'default'] },
  })
  const { output } = await build.generate({ format: 'esm', chunkFileNames: '[name]-[hash].js' })
  await build.close()
  return new Map(output.flatMap((each) => (each.type === 'chunk' ? [[each.fileName, each.code]] : [])))
}
