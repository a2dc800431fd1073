/**
 * The command as a person has it: bundled, in a process and a session of its own, with a home folder of its own. Without a
 * terminal (`sshblock`), or on one (`onTerminal`, by Python's pty module).
 */
import { spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { registerCleanup } from '../support/cleanup.ts'
import { clientKey } from '../support/keys.ts'
import type { Peer } from '../support/peer.ts'
import { runOrThrow } from '../support/program.ts'
import { needsPrograms, type Requirement } from '../support/requirements.ts'
import { tempDir } from '../support/temp-dir.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
/** For node. */
export const main = join(root, 'packages/cli/dist/bundle/main.js')
const series = fileURLToPath(new URL('series.mjs', import.meta.url))

export function needsPty(): Requirement {
  return needsPrograms('a terminal for tests', ['python3'], 'python3')
}

/** A home folder in which 'peer' names a server that lets the key in it in. */
export interface Home {
  readonly dir: string
  /** Path below it. */
  path(...names: string[]): string
}

export interface HomeOptions {
  /** More lines for the Host block of 'peer', before all others. */
  readonly config?: readonly string[]
  /** Whether the server's keys are in known_hosts already; default true. */
  readonly known?: boolean
  /** Another port than the server's own: of a proxy. */
  readonly port?: number
}

export async function homeFor(peer: Peer, options: HomeOptions = {}): Promise<Home> {
  const dir = tempDir('home')
  const key = await clientKey('ed25519')
  const known = options.known === false ? join(dir, '.ssh', 'known_hosts') : peer.paths.knownHosts
  mkdirSync(join(dir, '.ssh'), { mode: 0o700 })
  const lines = [
    'Host peer',
    ...(options.config ?? []).map((line) => `  ${line}`),
    `  HostName ${peer.host}`,
    `  Port ${options.port ?? peer.port}`,
    `  User ${peer.user}`,
    `  IdentityFile ${key.privateFile}`,
    '  IdentitiesOnly yes',
    `  UserKnownHostsFile ${known}`,
  ]
  writeFileSync(join(dir, '.ssh', 'config'), `${lines.join('\n')}\n`)
  return { dir, path: (...names) => join(dir, ...names) }
}

export interface CommandOptions {
  readonly home?: Home
  readonly input?: string | Uint8Array
  /** Stdin has no end behind `input`. */
  readonly openInput?: boolean
  /** Where the command runs. */
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly timeoutMs?: number
}

export interface Outcome {
  readonly code: number | null
  readonly stdout: string
  readonly bytes: Uint8Array
  readonly stderr: string
}

function environment({ home, env }: CommandOptions): Record<string, string> {
  const merged: Record<string, string | undefined> = {
    PATH: process.env['PATH'],
    HOME: home?.dir ?? tempDir('home'),
    TERM: 'xterm',
    ...env,
  }
  return Object.fromEntries(
    Object.entries(merged).filter((entry): entry is [string, string] => entry[1] !== undefined),
  )
}

export interface Running {
  readonly pid: number | undefined
  readonly finished: Promise<Outcome>
  /** Resolves when stdout matches. */
  printed(pattern: RegExp): Promise<RegExpExecArray>
  kill(signal: NodeJS.Signals): void
}

/** Starts the command without a terminal. */
export function start(args: readonly string[], options: CommandOptions = {}): Running {
  // A session of its own: there is no terminal that could be asked, wherever the tests run.
  const child = spawn(process.execPath, [main, ...args], {
    env: environment(options),
    cwd: options.cwd,
    detached: true,
  })
  registerCleanup(
    () => {
      child.kill('SIGKILL')
    },
    { onExit: () => child.kill('SIGKILL') },
  )
  const out: Buffer[] = []
  let stderr = ''
  const timer = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? 45_000)
  child.stdout.on('data', (chunk: Buffer) => out.push(chunk))
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  child.stdin.on('error', () => {})
  if (options.openInput === true) child.stdin.write(options.input ?? '')
  else child.stdin.end(options.input ?? '')
  const finished = new Promise<Outcome>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => {
      clearTimeout(timer)
      const bytes = Buffer.concat(out)
      resolve({ code, stdout: bytes.toString(), bytes, stderr })
    })
  })
  const printed = (pattern: RegExp): Promise<RegExpExecArray> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        const match = pattern.exec(Buffer.concat(out).toString())
        if (match !== null) resolve(match)
      }
      child.stdout.on('data', look)
      look()
      void finished.then((outcome) => reject(new Error(`ended: ${JSON.stringify(outcome)}`)))
    })
  return { pid: child.pid, finished, printed, kill: (signal) => child.kill(signal) }
}

/** Runs the command to its end without a terminal. */
export function sshblock(args: readonly string[], options: CommandOptions = {}): Promise<Outcome> {
  return start(args, options).finished
}

/**
 * Runs the command several times, one after the other, in one process: `run`, as the program calls it. For calls that are
 * about what the command says and does, and not about being a process.
 */
export async function sshblockSeries(
  calls: readonly (readonly string[])[],
  options: CommandOptions = {},
): Promise<Pick<Outcome, 'code' | 'stdout' | 'stderr'>[]> {
  const child = spawn(process.execPath, [series, JSON.stringify(calls)], {
    env: environment(options),
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  registerCleanup(
    () => {
      child.kill('SIGKILL')
    },
    { onExit: () => child.kill('SIGKILL') },
  )
  const timer = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? 40_000)
  let out = ''
  let problem = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    problem += text
  })
  const code = await new Promise((resolve) => child.on('close', resolve))
  clearTimeout(timer)
  if (code !== 0) throw new Error(`the series ended with ${code}: ${problem}`)
  return JSON.parse(out)
}

/** What is printed, and what is typed then. */
export interface Step {
  readonly expect: string
  readonly send: string
}

/** Ctrl-C. */
export const interruptKey = '\u0003'

/** Runs the command on a terminal of its own. */
export async function onTerminal(
  args: readonly string[],
  steps: readonly Step[],
  options: CommandOptions = {},
): Promise<{ output: string; code: number }> {
  const job = {
    argv: [process.execPath, main, ...args],
    env: environment(options),
    steps,
    timeoutMs: options.timeoutMs ?? 45_000,
  }
  const script = fileURLToPath(new URL('on-terminal.py', import.meta.url))
  const { stdout } = await runOrThrow('python3', [script], { input: JSON.stringify(job), timeoutMs: 55_000 })
  const { output, code, problem } = JSON.parse(stdout) as {
    output: string
    code: number
    problem: string | null
  }
  if (problem !== null) throw new Error(`${problem}; printed so far: ${output}`)
  return { output, code }
}
