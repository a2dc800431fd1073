/** Holds a report against what it has to be: everything passed, or what a file says. */
import {
  type CheckResult,
  formatExpectation,
  formatTable,
  summaryLine,
} from '@sshblock/transport/conformance'
import { expect } from 'vitest'

/** Every check passes but these, which do not apply. */
export function expectConforming(results: readonly CheckResult[], notApplicable: readonly string[]): void {
  const others = results.filter(
    ({ id, outcome }) => outcome !== (notApplicable.includes(id) ? 'not-applicable' : 'pass'),
  )
  expect(results.length).toBeGreaterThan(50)
  expect(others, formatTable(others)).toEqual([])
}

/**
 * Fails where an outcome is another than in expected/NAME.txt. `vitest run test/conformance --update` writes the files
 * anew; SSHBLOCK_CONFORMANCE_REPORT=1 prints what did not pass, with what came.
 */
export async function expectReport(name: string, results: readonly CheckResult[]): Promise<void> {
  const report = `${formatTable(results.filter(({ outcome }) => outcome !== 'pass'))}\n${summaryLine(results)}`
  if (process.env['SSHBLOCK_CONFORMANCE_REPORT'] === '1') console.log(report)
  await expect(formatExpectation(results), report).toMatchFileSnapshot(`expected/${name}.txt`)
}
