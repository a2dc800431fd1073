import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type Report, summarize } from '../../.ci/summary.mjs'
import { run } from '../support/program.ts'
import { tempDir } from '../support/temp-dir.ts'
import { ROOT } from './workspace.ts'

const passed = { status: 'passed', assertionResults: [{ status: 'passed' }] }
const good: Report = {
  numPassedTests: 12,
  numFailedTests: 0,
  numPendingTests: 0,
  success: true,
  testResults: [passed],
}

describe('the closing line of CI', () => {
  test.each<[string, Partial<Report>, string, boolean]>([
    ['all passed', {}, '12 passed, 0 failed', true],
    ['some skipped', { numPendingTests: 2, numTodoTests: 1 }, '12 passed, 0 failed, 3 skipped', true],
    ['one failed', { numFailedTests: 1, success: false }, '12 passed, 1 failed', false],
    [
      'a file could not be loaded',
      { success: false, testResults: [passed, { status: 'failed', assertionResults: [] }] },
      '12 passed, 1 failed',
      false,
    ],
    [
      'a failed test is not counted with its file',
      {
        numFailedTests: 1,
        success: false,
        testResults: [{ status: 'failed', assertionResults: [{ status: 'failed' }] }],
      },
      '12 passed, 1 failed',
      false,
    ],
    ['an error outside of all tests', { success: false }, '12 passed, 1 failed', false],
    ['no test at all', { numPassedTests: 0, testResults: [] }, '0 passed, 0 failed', false],
  ])('counts: %s', (_title, change, line, ok) => {
    expect(summarize({ ...good, ...change })).toEqual({ line, ok })
  })

  test('counts a run without a report as failed', () => {
    expect(summarize(undefined)).toEqual({ line: '0 passed, 1 failed', ok: false })
  })

  test('stands alone in what the script prints, and its status tells the same', async () => {
    const file = join(tempDir(), 'report.json')
    const script = join(ROOT, '.ci/summary.mjs')
    writeFileSync(file, JSON.stringify(good))
    expect(await run('node', [script, file])).toMatchObject({ code: 0, stdout: '12 passed, 0 failed\n' })
    writeFileSync(file, JSON.stringify({ ...good, numFailedTests: 3, success: false }))
    expect(await run('node', [script, file])).toMatchObject({ code: 1, stdout: '12 passed, 3 failed\n' })
    expect(await run('node', [script, `${file}-not`])).toMatchObject({
      code: 1,
      stdout: '0 passed, 1 failed\n',
    })
  })
})
