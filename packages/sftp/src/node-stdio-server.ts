// Our sftp-server: serves standard input and output with the host's files, in place of OpenSSH's, for `sftp -D`, for
// sshd's Subsystem line, and over any pipe. node-stdio-options.ts is its command line.

import { userInfo } from 'node:os'
import { resolve } from 'node:path'
import type { Writable } from 'node:stream'
import type { ByteChannel, ByteReceiver } from '@sshblock/transport/byte-channel'
import { quote, SshError, safeText, UsageError } from '@sshblock/transport/errors'
import type { BackendOpenFlags } from './backend.ts'
import { statusName } from './messages/status.ts'
import { NodeBackend } from './node-backend.ts'
import { pipeChannel } from './node-pipe.ts'
import {
  type LogLevel,
  logLevels,
  parseStdioOptions,
  type StdioServerOptions,
  usage,
} from './node-stdio-options.ts'
import type { SftpServerObserver } from './server/observer.ts'
import { requestNames } from './server/request-names.ts'
import { serveSftp } from './server.ts'

function flagText(flags: BackendOpenFlags): string {
  const names: string[] = []
  if (flags.read) names.push('READ')
  if (flags.write) names.push('WRITE')
  if (flags.append) names.push('APPEND')
  if (flags.create) names.push('CREATE')
  if (flags.truncate) names.push('TRUNCATE')
  if (flags.exclusive) names.push('EXCL')
  return names.join(',')
}

/** Logs as OpenSSH's sftp-server words it, at its levels. */
export function loggingObserver(level: LogLevel, log: (line: string) => void): SftpServerObserver {
  const rank = logLevels.indexOf(level)
  const at = (wanted: LogLevel, line: () => string) => {
    if (rank >= logLevels.indexOf(wanted)) log(line())
  }
  return {
    request({ name, path, target, flags, mode }) {
      const quiet =
        name === 'stat' || name === 'lstat' || name === 'realpath' || name === 'readlink' || name === 'fsync'
      at(quiet ? 'VERBOSE' : 'INFO', () => {
        const words = [name]
        if (path !== undefined) words.push(quote(path, 4096))
        if (target !== undefined) words.push('to', quote(target, 4096))
        if (flags !== undefined) words.push('flags', flagText(flags))
        if (mode !== undefined) words.push(`mode 0${mode.toString(8)}`)
        return words.join(' ')
      })
    },
    close({ kind, path, bytesRead, bytesWritten }, forced) {
      const word = `${forced ? 'forced ' : ''}${kind === 'file' ? 'close' : 'closedir'} ${quote(path, 4096)}`
      at('INFO', () => (kind === 'file' ? `${word} bytes read ${bytesRead} written ${bytesWritten}` : word))
    },
    read({ path }, offset, bytes) {
      at('DEBUG', () => `read ${quote(path, 4096)} off ${offset} len ${bytes}`)
    },
    write({ path }, offset, bytes) {
      at('DEBUG', () => `write ${quote(path, 4096)} off ${offset} len ${bytes}`)
    },
    refused(name, status, text) {
      at('INFO', () => `${name}: sent status ${statusName(status)} (${safeText(text)})`)
    },
    fault(error) {
      at(
        'ERROR',
        () => `internal error: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
      )
    },
  }
}

/** A pipe that is closed only when what was written before its end is out. */
class StdioChannel implements ByteChannel {
  readonly description = 'standard input and output'
  readonly #output: Writable = process.stdout
  readonly #pipe: ByteChannel = pipeChannel(process.stdin, process.stdout)
  #ended = false

  start(receiver: ByteReceiver): void {
    this.#pipe.start(receiver)
  }

  get writableBytes(): number {
    return this.#pipe.writableBytes
  }

  write(bytes: Uint8Array): void {
    this.#pipe.write(bytes)
  }

  pause(): void {
    this.#pipe.pause()
  }

  resume(): void {
    this.#pipe.resume()
  }

  end(): void {
    this.#ended = true
    this.#pipe.end()
  }

  close(): void {
    if (!this.#ended || this.#output.writableFinished || this.#output.destroyed) this.#pipe.close()
    else this.#output.once('finish', () => this.#pipe.close()).once('error', () => this.#pipe.close())
  }
}

function startDirectoryOf({ startDirectory, root }: StdioServerOptions): string {
  const { username, homedir } = userInfo()
  const confined = root !== '/'
  const expanded = startDirectory?.replace(/%[du%]/g, (code) =>
    code === '%d' ? (confined ? '/' : homedir) : code === '%u' ? username : '%',
  )
  if (confined) return expanded === undefined ? '/' : resolve('/', expanded)
  return expanded === undefined ? process.cwd() : resolve(expanded)
}

/**
 * Serves this process's standard input and output until they end.
 *
 * @param args behind the program's name
 * @returns the exit status: 0 after an orderly end, 1 for wrong arguments, 255 where the client broke the protocol
 */
export async function runStdioServer(args: readonly string[]): Promise<number> {
  let options: StdioServerOptions
  let backend: NodeBackend
  try {
    options = parseStdioOptions(args)
    if (options.print !== undefined) {
      process.stdout.write(
        options.print === 'usage' ? usage : requestNames.map((name) => `${name}\n`).join(''),
      )
      return 0
    }
    backend = new NodeBackend({ root: options.root, synchronousIo: true })
    if (options.umask !== undefined) process.umask(options.umask)
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    process.stderr.write(`${error.message}\n`)
    return 1
  }
  const startDirectory = startDirectoryOf(options)
  const log = (line: string) => void process.stderr.write(`${line}\n`)
  const session = serveSftp(new StdioChannel(), backend, {
    readOnly: options.readOnly,
    startDirectory,
    homeDirectory: options.root === '/' ? userInfo().homedir : startDirectory,
    ...(options.allowRequests === undefined ? {} : { allowRequests: options.allowRequests }),
    denyRequests: options.denyRequests,
    ...(options.logToStderr ? { observer: loggingObserver(options.logLevel, log) } : {}),
  })
  const { reason, error } = await session.finished
  backend.close()
  if (reason !== 'error') return 0
  if (options.logToStderr && options.logLevel !== 'QUIET')
    log(error instanceof SshError ? error.message : String(error))
  return 255
}

/** Runs as the process that it is; sets the exit status. */
export async function main(): Promise<void> {
  process.exitCode = await runStdioServer(process.argv.slice(2))
}
