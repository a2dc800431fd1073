/** Foreign programs: finding them, and running one to its end with its output collected. */
import { spawn, spawnSync } from 'node:child_process'
import { accessSync, constants, existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'

// Servers live outside an ordinary user's PATH.
const MORE_FOLDERS = [
  '/usr/sbin',
  '/sbin',
  '/usr/local/sbin',
  '/usr/lib/openssh', // Debian's sftp-server
  '/usr/libexec/openssh', // Fedora's
  '/usr/lib/ssh', // Arch's
  '/usr/libexec',
]

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** The absolute path of a program, or undefined where it is not installed. */
export function findProgram(name: string): string | undefined {
  const folders = [
    ...(process.env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== ''),
    ...MORE_FOLDERS,
  ]
  return folders.map((folder) => join(folder, name)).find(isExecutable)
}

/**
 * A Python that can import `module`. Debian's own comes first, as another one earlier in PATH does not see the modules
 * that apt installed.
 */
export function findPython(module: string): string | undefined {
  if (existsSync(join('/usr/lib/python3/dist-packages', module)) && isExecutable('/usr/bin/python3'))
    return '/usr/bin/python3'
  const python = findProgram('python3')
  if (python === undefined) return undefined
  return spawnSync(python, ['-c', `import ${module}`], { timeout: 10_000 }).status === 0 ? python : undefined
}

export interface RunOptions {
  /** Written to stdin, which is then closed. */
  readonly input?: string | Uint8Array
  /** Added to the environment; undefined takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly cwd?: string
  /** The program is killed after this time, 20 000 ms by default. */
  readonly timeoutMs?: number
}

export interface Finished {
  /** Exit status; null when a signal ended it. */
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
  readonly stdoutBytes: Uint8Array
}

/** Runs a program to its end. A non-zero exit status is a result, not an error; see {@link runOrThrow}. */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      timeout: options.timeoutMs ?? 20_000,
      killSignal: 'SIGKILL',
    })
    const out: Buffer[] = []
    const err: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk))
    child.on('error', reject)
    child.on('close', (code, signal) => {
      const stdoutBytes = Buffer.concat(out)
      resolve({
        code,
        signal,
        stdout: stdoutBytes.toString(),
        stderr: Buffer.concat(err).toString(),
        stdoutBytes,
      })
    })
    child.stdin.on('error', () => {}) // EPIPE: the program ended without reading its input, which its status tells.
    child.stdin.end(options.input ?? '')
  })
}

/** Like {@link run}, but an exit status other than 0 throws an Error that shows the command and its output. */
export async function runOrThrow(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Finished> {
  const finished = await run(command, args, options)
  if (finished.code !== 0) {
    const how = finished.signal === null ? `exit status ${finished.code}` : `signal ${finished.signal}`
    throw new Error(`${command} ${args.join(' ')}: ${how}\n${finished.stdout}${finished.stderr}`)
  }
  return finished
}
