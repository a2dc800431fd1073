// Bundles what Node loads: for each published package, the entries that its `exports` and `bin` name below dist/bundle, made of what
// tsc left in dist/, with what they share in chunks of their own. A package of 140 modules then is a handful of files: Node starts in a fifth of
// the time, most of which goes by the number of modules (resolution, reading, linking), not by their size. Each package stays
// by itself, so that a class is the same one whoever imports it. Bundlers take dist/ as tsc made it, and drop what is not used.
//
//     node scripts/bundle-for-node.mjs [FOLDER]     FOLDER: the root of the monorepo, default this one

import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { rolldown } from 'rolldown'

const root = resolve(process.argv[2] ?? join(dirname(fileURLToPath(import.meta.url)), '..'))
const bundled = /^\.\/dist\/bundle\/([^/]+)\.js$/

/** All strings of a manifest's `exports` and `bin`. @param {unknown} value @returns {string[]} */
function targets(value) {
  if (typeof value === 'string') return [value]
  if (typeof value !== 'object' || value === null) return []
  return Object.values(value).flatMap(targets)
}

/** Names of the entries to bundle: dist/NAME.js becomes dist/bundle/NAME.js. @param {string} folder */
function entriesOf(folder) {
  const { exports, bin } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  const names = targets([exports, bin]).flatMap((target) => bundled.exec(target)?.[1] ?? [])
  return [...new Set(names)]
}

/** @param {string} folder @param {string[]} names */
async function bundle(folder, names) {
  const dir = join(folder, 'dist/bundle')
  rmSync(dir, { recursive: true, force: true })
  const build = await rolldown({
    input: Object.fromEntries(names.map((name) => [name, join(folder, 'dist', `${name}.js`)])),
    external: (id) => !id.startsWith('.') && !id.startsWith('/'),
    platform: 'node',
    // What pages fetch late may well be here at once.
    onLog: (level, log, report) => log.code === 'INEFFECTIVE_DYNAMIC_IMPORT' || report(level, log),
  })
  await build.write({
    dir,
    format: 'esm',
    sourcemap: true,
    entryFileNames: '[name].js',
    chunkFileNames: '[name]-[hash].js',
  })
  await build.close()
}

for (const name of readdirSync(join(root, 'packages'))) {
  const folder = join(root, 'packages', name)
  if (!existsSync(join(folder, 'package.json'))) continue
  const names = entriesOf(folder)
  if (names.length > 0) await bundle(folder, names)
}
