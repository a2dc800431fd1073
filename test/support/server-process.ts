/** A server in the background: started, known to be ready by a line of its log, watched, and ended with all its children. */
import { type ChildProcess, spawn } from 'node:child_process'
import { registerCleanup, type Scope } from './cleanup.ts'
import type { Command } from './namespace.ts'
import { childrenOf, commandOf, descendantsOf, killTree } from './process-tree.ts'
import { findProgram } from './program.ts'

export interface ServerProcess {
  /** The server's own process, which it has been started as or has become. */
  readonly pid: number
  /** Everything it has written to its standard streams. */
  log(): string
  /** Resolves with the match as soon as the log (also the part already written) matches; rejects after `timeoutMs`. */
  waitForLog(pattern: RegExp, timeoutMs?: number): Promise<RegExpExecArray>
  /** Resolves when it has ended, by whatever cause. */
  readonly ended: Promise<void>
  /** Kills it and everything below it. */
  stop(): Promise<void>
}

export interface ServerProcessOptions {
  readonly name: string
  readonly command: Command
  /** The line of the log that says that clients can connect. */
  readonly ready: RegExp
  readonly env?: Readonly<Record<string, string | undefined>> | undefined
  readonly scope?: Scope | undefined
}

const READY_TIMEOUT_MS = 10_000
const MAX_LOG_CHARS = 16 * 1024 * 1024

/** Thrown when a server ends, or stays silent, instead of becoming ready. */
export class ServerStartError extends Error {
  override readonly name = 'ServerStartError'
  readonly log: string
  constructor(message: string, log: string) {
    super(`${message}\n${log}`)
    this.log = log
  }
}

/** The process that unshare(1) started, or the process itself where there is no namespace. */
function serverPid(child: ChildProcess): number {
  const pid = child.pid ?? 0
  return commandOf(pid).startsWith('unshare ') ? (childrenOf(pid)[0] ?? pid) : pid
}

export async function startServerProcess(options: ServerProcessOptions): Promise<ServerProcess> {
  // A test process that is killed takes its servers with it. setpriv replaces itself with the command.
  const dying = findProgram('setpriv') === undefined ? [] : ['setpriv', '--pdeathsig', 'KILL']
  const words = [...dying, options.command.command, ...options.command.args]
  const child = spawn(words[0] ?? '', words.slice(1), {
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })

  let text = ''
  const watchers = new Set<() => void>()
  const collect = (chunk: string): void => {
    text = (text + chunk).slice(-MAX_LOG_CHARS)
    for (const watcher of watchers) watcher()
  }
  child.stdout.setEncoding('utf8').on('data', collect)
  child.stderr.setEncoding('utf8').on('data', collect)

  let over = false
  const ended = new Promise<void>((resolve) => {
    const finish = (): void => {
      over = true
      for (const watcher of watchers) watcher()
      resolve()
    }
    child.once('error', (error) => {
      collect(`${error.message}\n`)
      finish()
    })
    // Not 'close': a session process that outlives the listener may keep the pipes open.
    child.once('exit', finish)
  })

  const cleanup = registerCleanup(
    async () => {
      if (child.pid !== undefined && !over) killTree(child.pid)
      await ended
      child.stdout.destroy()
      child.stderr.destroy()
    },
    { scope: options.scope, onExit: () => child.pid !== undefined && !over && killTree(child.pid) },
  )

  const waitForLog = (pattern: RegExp, timeoutMs = READY_TIMEOUT_MS): Promise<RegExpExecArray> =>
    new Promise((resolve, reject) => {
      const settle = (): void => {
        clearTimeout(timer)
        watchers.delete(look)
      }
      const look = (): void => {
        const match = pattern.exec(text)
        if (match !== null) {
          settle()
          resolve(match)
        } else if (over) {
          settle()
          // Its last words may still be in the pipe.
          setImmediate(() => {
            const late = pattern.exec(text)
            if (late !== null) resolve(late)
            else reject(new ServerStartError(`${options.name} ended without logging ${pattern}`, text))
          })
        }
      }
      const timer = setTimeout(() => {
        settle()
        reject(new ServerStartError(`${options.name} did not log ${pattern} within ${timeoutMs} ms`, text))
      }, timeoutMs)
      watchers.add(look)
      look()
    })

  try {
    await waitForLog(options.ready)
  } catch (error) {
    await cleanup.run()
    throw error
  }
  return { pid: serverPid(child), log: () => text, waitForLog, ended, stop: () => cleanup.run() }
}

/** The processes below a server, with their command lines: sessions, sftp-servers, shells. */
export function sessionsOf(server: { readonly pid: number }): { pid: number; command: string }[] {
  return descendantsOf(server.pid).map((pid) => ({ pid, command: commandOf(pid) }))
}
