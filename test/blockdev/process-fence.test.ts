// The commands of the fence by processes, run by real shells against real processes, and what is made of their output.

import { execFileSync, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import {
  fenceCommand,
  learnCommand,
  learnedProcesses,
  provesGone,
} from '../../packages/blockdev/src/image/process-fence.ts'
import { registerCleanup } from '../support/cleanup.ts'
import { isAlive } from '../support/process-tree.ts'
import { findProgram } from '../support/program.ts'

const bytes = (text: string) => new TextEncoder().encode(text)
const output = (text: string) => ({ status: 0, stdout: bytes(text) })

/** As sshd does: the login shell with -c. */
const shells = ['sh', 'bash', 'dash', 'busybox'].filter((name) => findProgram(name) !== undefined)
const run = (shell: string, command: string) =>
  execFileSync(shell, [...(shell === 'busybox' ? ['sh'] : []), '-c', command], { encoding: 'utf8' })

function startTime(pid: number): string {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]!
}

function sleeper(): number {
  const child = spawn('sleep', ['600'], { stdio: 'ignore' })
  registerCleanup(() => void child.kill('SIGKILL'))
  return child.pid!
}

describe.each(shells)('with %s as the login shell', (shell) => {
  test('every process is listed with its parent and start time', () => {
    const pid = sleeper()
    const listed = run(shell, learnCommand)
    expect(listed).toContain(`\n${pid} ${process.pid} ${startTime(pid)}\n`)
    expect(listed).toMatch(/^sshblock-processes\n[0-9a-f-]{36}\npid:\[\d+\]\nself (\d+) \d+ \1\ncomm .+\n/)
    expect(listed).toMatch(/\nsshblock-end\n$/)
  })

  test('a process that lives is killed and proved gone; others are left alone', () => {
    const target = sleeper()
    const other = sleeper()
    const said = run(shell, fenceCommand(new Map([[target, startTime(target)]]), 2))
    const [, boot, namespace] = said.split('\n')
    expect(provesGone(output(said), `${boot} ${namespace}`)).toBe(true)
    expect(isAlive(target)).toBe(false)
    expect(isAlive(other)).toBe(true)
  })

  test('a number that was given to another process since is not killed', () => {
    const pid = sleeper()
    const said = run(shell, fenceCommand(new Map([[pid, '1']]), 2))
    const [, boot, namespace] = said.split('\n')
    expect(provesGone(output(said), `${boot} ${namespace}`)).toBe(true)
    expect(isAlive(pid)).toBe(true)
  })
})

test('a stopped process is killed too', () => {
  const pid = sleeper()
  process.kill(pid, 'SIGSTOP')
  run('sh', fenceCommand(new Map([[pid, startTime(pid)]]), 2))
  expect(isAlive(pid)).toBe(false)
})

const boot = '01234567-89ab-cdef-0123-456789abcdef'
const list = (comm: string, rows: string[], self = 'self 60 50 60') =>
  output(
    `Welcome!\nsshblock-processes\n${boot}\npid:[42]\n${self}\ncomm ${comm}\n${rows.join('\n')}\nsshblock-end\n`,
  )

describe('what is made of the list', () => {
  const rows = ['1 0 1', '50 1 100', '60 50 300', '51 50 200', '52 51 210', '99 1 400']

  test('all below the parent of the command, without the command itself', () => {
    expect(learnedProcesses(list('sshd', rows))).toEqual({
      machine: `${boot} pid:[42]`,
      processes: new Map([
        [51, '200'],
        [52, '210'],
      ]),
    })
  })

  const nothing: [name: string, text: ReturnType<typeof output>][] = [
    ['a server that serves everybody in one process', list('python3', rows)],
    ['a /proc of another process namespace', list('sshd', rows, 'self 60 50 1060')],
    [
      'a command that was not run to its end',
      output(`sshblock-processes\n${boot}\npid:[42]\nself 60 50 60\n`),
    ],
    ['something else than our command', output('This account is for SFTP only.\n')],
    ['no machine', output('sshblock-processes\n\n\nself 60 50 60\ncomm sshd\nsshblock-end\n')],
    ['no output', output('')],
  ]
  for (const [name, text] of nothing)
    test(`nothing is learned from ${name}`, () => expect(learnedProcesses(text)).toBeUndefined())
})

describe('what proves that they are gone', () => {
  const fence = (left: string, machine = `${boot}\npid:[42]`) =>
    output(`sshblock-fence\n${machine}\n${left}\nsshblock-end\n`)
  const machine = `${boot} pid:[42]`
  test('nothing left, on the same machine', () => expect(provesGone(fence('left '), machine)).toBe(true))
  test('not: one that is left', () => expect(provesGone(fence('left 51'), machine)).toBe(false))
  test('not: another boot', () =>
    expect(provesGone(fence('left', '11111111-89ab-cdef-0123-456789abcdef\npid:[42]'), machine)).toBe(false))
  test('not: another process namespace', () =>
    expect(provesGone(fence('left', `${boot}\npid:[43]`), machine)).toBe(false))
  test('not: an output that breaks off', () =>
    expect(provesGone(output(`sshblock-fence\n${boot}\npid:[42]\nleft\n`), machine)).toBe(false))
})
