/** Progress in the room that a terminal has, and beside lines that appear meanwhile. */
import { expect, test } from 'vitest'
import { type Invocation, tell } from '../../packages/cli/src/invocation.ts'
import { progressLine, startProgress } from '../../packages/cli/src/output/progress.ts'

const facts = ['512.3 MiB', '100.1 MiB/s', '1:02:03 left']

test.each([12, 15, 20, 24, 30, 40, 50, 60, 72, 80, 100, 120, 200])(
  'a line of progress stays within %i columns, and says how far it is',
  (columns) => {
    const line = progressLine('copy', 0.5, facts, columns)
    expect(line.length).toBeLessThan(columns)
    expect(line).toMatch(/^copy {2}.*50 %/)
  },
)

test('an ordinary terminal shows everything, and half of a bar', () => {
  expect(progressLine('copy', 0.5, facts, 80)).toBe(
    `copy  ${'#'.repeat(15)}${'-'.repeat(14)}  50 %  512.3 MiB  100.1 MiB/s  1:02:03 left`,
  )
  expect(progressLine('copy', 1, facts)).toBe(`copy  ${'#'.repeat(40)}  100 %  ${facts.join('  ')}`)
})

test('a line that appears meanwhile takes the place of the bar, which takes nothing back of it', () => {
  let shown = ''
  const stderr = {
    isTTY: true,
    columns: 80,
    write: (text: string) => {
      shown += text
      return true
    },
  }
  const invocation = { stderr } as unknown as Invocation
  const progress = startProgress(invocation, {}, 'copy', 1000)
  tell(invocation, 'lost the connection')
  progress.update(500)
  progress.stop()
  tell(invocation, 'done')
  const visible = shown.replaceAll('\u001b', 'ESC')
  // Nothing returns to a place that was right before the line came, and wrapping stays as it was.
  expect(visible).not.toMatch(/ESC[78]|ESC\[\?7/)
  expect(visible).toMatch(/leftESC\[0K\rESC\[Ksshblock: lost the connection\nESC\[1Gcopy/)
  expect(visible).toMatch(/ESC\[1GESC\[2Ksshblock: done\n$/)
})
