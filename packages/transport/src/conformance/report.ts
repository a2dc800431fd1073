// Results as people and programs read them: a table, a summary line, a short list to be kept in a repository, and the
// comparison of several peers as a table of Markdown.

import type { CheckResult, Outcome } from './check.ts'

export interface Summary {
  readonly passed: number
  readonly failed: number
  readonly notApplicable: number
}

export function summarize(results: readonly { outcome: Outcome }[]): Summary {
  const count = (outcome: Outcome): number => results.filter((result) => result.outcome === outcome).length
  return { passed: count('pass'), failed: count('fail'), notApplicable: count('not-applicable') }
}

/** '171 checks: 160 passed, 9 failed, 2 not applicable'. */
export function summaryLine(results: readonly { outcome: Outcome }[]): string {
  const { passed, failed, notApplicable } = summarize(results)
  return `${results.length} checks: ${passed} passed, ${failed} failed, ${notApplicable} not applicable`
}

const shown: Record<Outcome, string> = { pass: 'pass', fail: 'FAIL', 'not-applicable': 'n/a' }

/** A table of check, clause, result and what came, in plain text. */
export function formatTable(results: readonly CheckResult[]): string {
  const rows = [
    ['check', 'clause', 'result', 'what came'],
    ...results.map(({ id, claim, clause, level, outcome, came }) => [
      `${id}: ${claim}`,
      `${clause} (${level})`,
      shown[outcome],
      came,
    ]),
  ]
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column]!.length)))
  const line = (row: readonly string[]): string =>
    row.map((cell, column) => (column === 3 ? cell : cell.padEnd(widths[column]!))).join('  ')
  const [head, ...body] = rows.map(line)
  return [head, widths.map((width) => '-'.repeat(width)).join('  '), ...body].join('\n')
}

/** One line for each check, 'pass id', in their order: stable from run to run, made to be kept and compared. */
export function formatExpectation(results: readonly { id: string; outcome: Outcome }[]): string {
  return results.map(({ id, outcome }) => `${outcome.padEnd('not-applicable'.length)} ${id}\n`).join('')
}

/** Reads what `formatExpectation` wrote; lines of another form are left out. */
export function parseExpectation(text: string): Map<string, Outcome> {
  const found = new Map<string, Outcome>()
  for (const line of text.split('\n')) {
    const match = /^(pass|fail|not-applicable) +(\S+)$/.exec(line)
    if (match !== null) found.set(match[2]!, match[1] as Outcome)
  }
  return found
}

/** One row for each check, one column for each peer, as a table of Markdown. */
export function formatComparison(
  checks: readonly { id: string; claim: string; clause: string; level: string }[],
  peers: readonly { name: string; outcomes: ReadonlyMap<string, Outcome> }[],
): string {
  const marks = new Map<Outcome | undefined, string>([
    ['pass', 'pass'],
    ['fail', '**fail**'],
    ['not-applicable', 'n/a'],
  ])
  const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  const names = peers.map(({ name }) => name)
  return [
    row(['check', 'claim', 'clause', ...names]),
    row(['---', '---', '---', ...names.map(() => '---')]),
    ...checks.map(({ id, claim, clause, level }) =>
      row([
        `\`${id}\``,
        claim.replaceAll('|', '\\|'),
        `${clause} (${level})`,
        ...peers.map(({ outcomes }) => marks.get(outcomes.get(id)) ?? ''),
      ]),
    ),
  ].join('\n')
}
