// Results on disk: latest.json holds the latest measurement of every row, latest.md and plots.html are made from it. A run of
// some rows replaces these and leaves the others.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { plotPage } from './plots.mjs'
import { rowMarkdown } from './table.mjs'

/** @param {string} folder @param {object} machine @param {any[]} results @param {string[]} order names of all rows */
export function store(folder, machine, results, order) {
  mkdirSync(folder, { recursive: true })
  const path = join(folder, 'latest.json')
  const before = existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')).rows : []
  const kept = before.filter((/** @type {any} */ row) => !results.some(({ name }) => name === row.name))
  const place = (/** @type {any} */ { name }) => order.indexOf(name)
  const rows = [...kept, ...results].sort((a, b) => place(a) - place(b))
  writeFileSync(path, `${JSON.stringify({ machine, rows }, null, 1)}\n`)
  writeFileSync(join(folder, 'latest.md'), markdown(rows))
  writeFileSync(join(folder, 'plots.html'), plotPage(rows))
  return path
}

/** @param {any[]} rows */
function markdown(rows) {
  const [first] = rows
  const head = `# Figures\n\nMade by \`npm run bench\`; each row says when and on what. Newest machine: ${describe(first?.machine)}.\n`
  return `${head}\n${rows.map(rowMarkdown).join('\n')}`
}

/** @param {any} machine */
function describe(machine) {
  return machine === undefined
    ? 'none'
    : `${machine.cpu}, ${machine.cores} cores, Node ${machine.node}, ${machine.server}`
}
