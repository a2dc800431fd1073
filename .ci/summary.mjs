// The last line of .ci/run, from Vitest's JSON report: "N passed, N failed", and ", N skipped" where there are any.
// Exits with 1 where something failed or nothing passed.

import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/**
 * @typedef {object} Report
 * @property {number} numPassedTests
 * @property {number} numFailedTests
 * @property {number} numPendingTests
 * @property {number} [numTodoTests]
 * @property {boolean} success
 * @property {{ status: string, assertionResults: { status: string }[] }[]} testResults
 */

/**
 * @param {Report | undefined} report undefined where the run ended without one
 * @returns {{ line: string, ok: boolean }}
 */
export function summarize(report) {
  if (report === undefined) return { line: '0 passed, 1 failed', ok: false }
  // A file that cannot be loaded, or whose hooks fail, has failed though none of its tests has.
  const brokenFiles = report.testResults.filter(
    ({ status, assertionResults }) =>
      status === 'failed' && assertionResults.every((test) => test.status !== 'failed'),
  ).length
  let failed = report.numFailedTests + brokenFiles
  // An error outside of all tests, such as an unhandled rejection, fails the run as well.
  if (failed === 0 && !report.success) failed = 1
  const skipped = report.numPendingTests + (report.numTodoTests ?? 0)
  const line = `${report.numPassedTests} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`
  return { line, ok: failed === 0 && report.numPassedTests > 0 }
}

/** @param {string} file @returns {Report | undefined} */
function read(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'))
  } catch {
    return undefined
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { line, ok } = summarize(read(process.argv[2] ?? ''))
  console.log(line)
  process.exitCode = ok ? 0 : 1
}
