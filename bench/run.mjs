// `npm run bench`: all rows, or some, each side by side with its peers in the same rounds. See README.md.

import { execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { cpus } from 'node:os'
import { fileURLToPath } from 'node:url'
import { Ground } from './harness/ground.mjs'
import { parseOptions } from './harness/options.mjs'
import { store } from './harness/store.mjs'
import { evaluate, rowMarkdown } from './harness/table.mjs'

const options = parseOptions(process.argv.slice(2))

/** @returns {Promise<any[]>} */
async function allRows() {
  const folder = new URL('./workloads/', import.meta.url)
  const files = readdirSync(folder)
    .filter((name) => name.endsWith('.mjs'))
    .sort()
  const modules = await Promise.all(files.map((name) => import(new URL(name, folder).href)))
  return modules.flatMap(({ rows }) => rows)
}

function machine() {
  const version = () => {
    try {
      return execFileSync('ssh', ['-V'], { stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' })
    } catch {
      return ''
    }
  }
  const said = version() || 'OpenSSH'
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    node: process.version,
    server: said.trim(),
  }
}

/** @param {any} row @param {Ground} ground */
async function measureRow(row, ground) {
  const contestants = await row.prepare(ground, options)
  const measured = contestants.map((/** @type {any} */ contestant) => ({
    ...contestant,
    samples: /** @type {any[]} */ ([]),
  }))
  for (let round = 0; round < options.pairs; round++) {
    // Whoever was first in this round is last in the next: drifts of the machine hit everybody.
    const turn = row.fixedOrder ? 0 : round % measured.length
    for (const contestant of [...measured.slice(turn), ...measured.slice(0, turn)]) {
      if (contestant.missing !== undefined) continue
      try {
        contestant.samples.push(await contestant.run())
        process.stderr.write('.')
      } catch (error) {
        contestant.missing = `failed: ${String(error).split('\n')[0].slice(0, 200)}`
        process.stderr.write(`\n${contestant.name}: ${error}\n`)
      }
    }
  }
  process.stderr.write('\n')
  return {
    ...evaluate(row, measured),
    pairs: options.pairs,
    sizeBytes: options.size,
    date: new Date().toISOString().slice(0, 10),
    machine: machine(),
  }
}

const rows = await allRows()
const chosen = rows.filter(({ name, slow }) => {
  if (options.only.length > 0) return options.only.some((begin) => name.startsWith(begin))
  return !(options.quick && slow)
})
if (options.list) {
  for (const { name, title, slow } of rows) console.log(`${name.padEnd(24)}${title}${slow ? ' (slow)' : ''}`)
  process.exit()
}
if (chosen.length === 0) throw new Error(`no row begins with ${options.only.join(', ')}; --list names them`)

const ground = await Ground.start()
process.once('SIGINT', () => void ground.stop().then(() => process.exit(130)))
const folder =
  options.out || fileURLToPath(new URL(options.quick ? './results/quick' : './results', import.meta.url))
const order = rows.map(({ name }) => name)
const results = []
let stored = folder
try {
  for (const row of chosen) {
    process.stderr.write(`${row.name} `)
    const result = await measureRow(row, ground)
    results.push(result)
    // After each row: what was measured is kept, however the run ends.
    stored = store(folder, machine(), results, order)
    console.log(rowMarkdown(result))
  }
} finally {
  await ground.stop()
}
console.log(`stored in ${stored}`)
const missed = results.flatMap(({ name, goals }) =>
  goals
    .filter((/** @type {any} */ { met }) => met === false)
    .map((/** @type {any} */ goal) => `${name}: ${goal.of}`),
)
if (missed.length > 0) console.log(`missed: ${missed.join('; ')}`)
