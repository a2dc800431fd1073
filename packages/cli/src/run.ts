// One call of the command from its arguments to its exit status: signals, errors in one line, and nothing left behind.

import { setMaxListeners } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { safeText } from '@sshblock/transport/errors'
import { type Invocation, lineStart } from './invocation.ts'
import { runProgram } from './program.ts'
import { Questions } from './questions.ts'
import { exitStatus, UsageProblem } from './usage-problem.ts'

const signals = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 } as const

/**
 * Runs the command in this process, on its streams and signals.
 * @param args what stands behind the command's name
 * @returns the exit status: 0, 1 failure, 2 usage, 255 connection, 128 and a signal's number where that ended it
 */
export async function run(args: readonly string[]): Promise<number> {
  const abort = new AbortController()
  setMaxListeners(0, abort.signal)
  const { stdin, stdout, stderr, env } = process
  let interruptedBy: number | undefined
  const interrupt = (signal: keyof typeof signals): void => {
    const status = 128 + signals[signal]
    // Whoever asks twice does not want to wait for an orderly end.
    if (interruptedBy !== undefined) {
      stderr.write(lineStart(stderr))
      process.exit(status)
    }
    interruptedBy = status
    abort.abort(new Error('interrupted'))
  }
  const handlers = (Object.keys(signals) as (keyof typeof signals)[]).map((signal) => {
    const handler = (): void => interrupt(signal)
    process.on(signal, handler)
    return () => process.off(signal, handler)
  })
  let outputError: Error | undefined
  const onOutputError = (error: NodeJS.ErrnoException): void => {
    // Whoever reads our output may have seen enough (head, less): that is no failure to talk about.
    if (error.code === 'EPIPE') process.exit(exitStatus.failure)
    outputError ??= error
  }
  stdout.on('error', onOutputError)
  const questions = new Questions({ env, signal: abort.signal, interrupt: () => interrupt('SIGINT') })
  const invocation: Invocation = { env, stdin, stdout, stderr, signal: abort.signal, questions }
  try {
    await runProgram(invocation, packageVersion(), args)
    await written(stdout)
    if (outputError !== undefined) {
      const { attempt } = await import('./failure.ts')
      await attempt('cannot write', 'standard output', () => Promise.reject(outputError))
    }
    return exitStatus.ok
  } catch (caught) {
    if (interruptedBy !== undefined) {
      stderr.write('sshblock: interrupted\n')
      return interruptedBy
    }
    if (caught instanceof UsageProblem) {
      stderr.write(`${errorText(caught, invocation)}\n`)
      return exitStatus.usage
    }
    // Whatever failed has loaded these libraries already.
    const { firstOf, statusOf } = await import('./failure.ts')
    const error = firstOf(caught)
    stderr.write(`${errorText(error, invocation)}\n`)
    return statusOf(error)
  } finally {
    for (const remove of handlers) remove()
    stdout.off('error', onOutputError)
  }
}

/** Resolves when all that was written before has left, or failed to. */
function written(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    // An 'error' event comes a moment behind the callback of the write that failed.
    if (!stream.writable) setImmediate(resolve)
    else stream.write('', () => setImmediate(resolve))
  })
}

function errorText(error: unknown, { stderr, env }: Invocation): string {
  const coloured = stderr.isTTY === true && (env['NO_COLOR'] ?? '') === '' && env['TERM'] !== 'dumb'
  const name = coloured ? '\u001b[1;31msshblock:\u001b[0m' : 'sshblock:'
  const message = safeText(error instanceof Error ? error.message : String(error), 8192)
  if (!(error instanceof UsageProblem)) return `${name} ${message}`
  const command = error.command === undefined ? '' : `${error.command} `
  return `${name} ${message}\nTry 'sshblock ${command}--help'.`
}

function packageVersion(): string {
  // This module may be in src, dist, or a chunk in dist/bundle.
  const places = ['../package.json', '../../package.json'].map((path) => new URL(path, import.meta.url))
  const text = readFileSync(places.find((place) => existsSync(place)) ?? places[0]!, 'utf8')
  return (JSON.parse(text) as { version: string }).version
}
