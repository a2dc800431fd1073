// Bundles main.ts from the packages' sources and runs it: no build needed, in any Node that the packages run in.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { rolldown } from 'rolldown'

const folder = mkdtempSync(join(tmpdir(), 'sshblock-faults-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
const bundle = await rolldown({
  input: fileURLToPath(new URL('main.ts', import.meta.url)),
  platform: 'node',
  resolve: { conditionNames: ['@sshblock/source', 'node', 'import', 'module', 'default'] },
})
const { output } = await bundle.write({
  dir: folder,
  format: 'esm',
  sourcemap: 'inline',
  entryFileNames: 'main.mjs',
})
await bundle.close()
await import(pathToFileURL(join(folder, output[0].fileName)).href)
