// Runs one contestant as a whole process and tells what it cost: wall time, CPU seconds and peak memory of the process and
// those it waited for (getrusage by GNU time). What a program prints as its last line of JSON is merged into the sample.

import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const gnuTime = '/usr/bin/time'

/**
 * @typedef {object} Sample
 * @property {number} seconds
 * @property {number} [cpuSeconds]
 * @property {number} [rssBytes]
 * @property {number} [value] what the row is about, where that is not bytes a second
 */

/**
 * @param {string[]} command
 * @param {{ env?: Record<string, string>, input?: string, timeoutSeconds?: number }} [options]
 * @returns {Promise<Sample & Record<string, any>>}
 */
export async function measure(command, { env = {}, input, timeoutSeconds = 600 } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'sshblock-bench-time-'))
  const report = join(folder, 'time')
  const timed = existsSync(gnuTime) ? [gnuTime, '-q', '-f', '%U %S %M', '-o', report] : []
  const [program, ...args] = [...timed, ...command]
  try {
    const startedAt = performance.now()
    const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'] })
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutSeconds * 1000)
    let out = ''
    let errors = ''
    child.stdout.on('data', (chunk) => {
      out += chunk
    })
    child.stderr.on('data', (chunk) => {
      errors = (errors + chunk).slice(-4000)
    })
    child.stdin.on('error', () => {})
    child.stdin.end(input ?? '')
    const [code, signal] = await new Promise((resolve, reject) => {
      child.once('error', reject)
      child.once('close', (...ended) => resolve(ended))
    })
    clearTimeout(timer)
    const seconds = (performance.now() - startedAt) / 1000
    if (code !== 0)
      throw new Error(
        `${command.slice(0, 6).join(' ')} ended with ${signal ?? code}: ${errors}${out.slice(-1000)}`,
      )
    return { seconds, ...cost(report), ...lastJson(out), output: out }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** @param {string} report */
function cost(report) {
  if (!existsSync(report)) return {}
  const [user, system, kibibytes] = readFileSync(report, 'utf8')
    .trim()
    .split('\n')
    .at(-1)
    .split(' ')
    .map(Number)
  return { cpuSeconds: user + system, rssBytes: kibibytes * 1024 }
}

/** @param {string} out */
function lastJson(out) {
  const line = out.trimEnd().split('\n').at(-1) ?? ''
  return line.startsWith('{') ? JSON.parse(line) : {}
}
