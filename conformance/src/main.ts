// `npm run conformance`: runs the conformance checks against a server or a client and prints what came.

import { readFileSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import { sftpChecks } from '@sshblock/sftp/conformance'
import { safeText, UsageError } from '@sshblock/transport'
import {
  type CheckResult,
  clientChecks,
  formatComparison,
  formatExpectation,
  formatTable,
  parseExpectation,
  serverChecks,
  summarize,
  summaryLine,
} from '@sshblock/transport/conformance'
import { runAgainstClient } from './client-command.ts'
import { type Options, readOptions, usage } from './options.ts'
import { identificationOf, runAgainstServer } from './server-run.ts'

/** The checks whose outcome is another than in the file, one line each. */
function differences(results: readonly CheckResult[], file: string): string[] {
  const expected = parseExpectation(readFileSync(file, 'utf8'))
  const changed = results
    .filter(({ id, outcome }) => expected.get(id) !== outcome)
    .map(
      ({ id, outcome, came }) =>
        `${id}: expected ${expected.get(id) ?? 'no such check'}, got ${outcome}: ${came}`,
    )
  const ran = new Set(results.map(({ id }) => id))
  const gone = [...expected.keys()].filter((id) => !ran.has(id)).map((id) => `${id}: expected, but not run`)
  return [...changed, ...gone]
}

function compare(files: readonly string[]): void {
  const peers = files.map((file) => ({
    name: basename(file)
      .replace(/\.txt$/, '')
      .replaceAll('_', ' '),
    outcomes: parseExpectation(readFileSync(file, 'utf8')),
  }))
  const ids = new Set(peers.flatMap(({ outcomes }) => [...outcomes.keys()]))
  const suites = [[...serverChecks, ...sftpChecks], clientChecks]
  // Servers and clients share ids, but not every claim.
  const suite = suites.find((checks) => [...ids].every((id) => checks.some((check) => check.id === id)))
  if (suite === undefined) throw new UsageError('--compare: expected files of servers, or files of clients')
  console.log(
    formatComparison(
      suite.filter(({ id }) => ids.has(id)),
      peers,
    ),
  )
}

async function run(options: Options): Promise<number> {
  if (options.mode === 'compare') {
    compare(options.files)
    return 0
  }
  const startedAt = performance.now()
  const peer = options.mode === 'server' ? await identificationOf(options) : options.command
  const results = await (options.mode === 'server' ? runAgainstServer(options) : runAgainstClient(options))
  const elapsedMs = Math.round(performance.now() - startedAt)
  if (options.save !== undefined) writeFileSync(options.save, formatExpectation(results))
  const changed = options.expect === undefined ? undefined : differences(results, options.expect)
  if (options.json) {
    console.log(
      JSON.stringify(
        { peer, elapsedMs, summary: summarize(results), differences: changed, results },
        undefined,
        2,
      ),
    )
  } else {
    console.log(
      `${safeText(peer)}\n\n${formatTable(results)}\n\n${summaryLine(results)}, in ${(elapsedMs / 1000).toFixed(1)} s`,
    )
    if (changed !== undefined)
      console.log(changed.length === 0 ? 'as expected' : `\nnot as expected:\n${changed.join('\n')}`)
  }
  const isGood = changed === undefined ? summarize(results).failed === 0 : changed.length === 0
  return isGood ? 0 : 1
}

try {
  const options = await readOptions(process.argv.slice(2))
  process.exitCode = await run(options)
} catch (error) {
  console.error(`conformance: ${error instanceof Error ? error.message : String(error)}`)
  // What parseArgs throws has such a code.
  const isOurs =
    error instanceof UsageError || String((error as { code?: unknown }).code).startsWith('ERR_PARSE_ARGS')
  if (isOurs) console.error(`\n${usage}`)
  process.exitCode = 2
}
