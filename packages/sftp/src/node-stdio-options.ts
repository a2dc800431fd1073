// The command line of our sftp-server, which is OpenSSH's (sftp-server(8)) and two long options of our own.

import { quote, UsageError } from '@sshblock/transport/errors'
import { requestNames } from './server/request-names.ts'

/** In the order of OpenSSH's LogLevel. */
export const logLevels = ['QUIET', 'FATAL', 'ERROR', 'INFO', 'VERBOSE', 'DEBUG', 'DEBUG2', 'DEBUG3'] as const
export type LogLevel = (typeof logLevels)[number]

export interface StdioServerOptions {
  /** -R */
  readonly readOnly: boolean
  /** -d, not yet expanded. */
  readonly startDirectory: string | undefined
  /** -p and -P */
  readonly allowRequests: readonly string[] | undefined
  readonly denyRequests: readonly string[]
  /** -e: log to standard error; there is no syslog. */
  readonly logToStderr: boolean
  /** -l */
  readonly logLevel: LogLevel
  /** -u */
  readonly umask: number | undefined
  /** --root: confine to this folder. */
  readonly root: string
  /** -h, -Q requests: print and end. */
  readonly print: 'usage' | 'requests' | undefined
}

export const usage = `usage: sftp-server-stdio [-ehR] [-d start_directory] [-f log_facility] [-l log_level]
                         [-P denied_requests] [-p allowed_requests] [-u umask] [--root folder]
       sftp-server-stdio -Q requests
Serves SFTP version 3 on standard input and output, as OpenSSH's sftp-server does.
  -R         refuse every change
  -d DIR     start here; %d is the home folder, %u the user's name
  -p, -P     permit only, or refuse, these requests (comma-separated; -Q requests lists them)
  -e         log to standard error; without it nothing is logged
  -l LEVEL   ${logLevels.join(', ')} (default ERROR)
  -u MASK    umask, octal
  --root DIR confine clients to this folder, which they see as /
`

const withValue = new Set(['d', 'f', 'l', 'P', 'p', 'Q', 'u'])
const withoutValue = new Set(['e', 'h', 'R'])

function requestList(option: string, value: string): string[] {
  const names = value.split(',').filter((name) => name !== '')
  for (const name of names) {
    if (!requestNames.includes(name))
      throw new UsageError(`-${option}: unknown request ${quote(name)}, see -Q requests`)
  }
  return names
}

function logLevel(value: string): LogLevel {
  const upper = value.toUpperCase()
  const level = logLevels.find((name) => name === (upper === 'DEBUG1' ? 'DEBUG' : upper))
  if (level === undefined)
    throw new UsageError(`-l: unknown log level ${quote(value)}, expected one of ${logLevels.join(', ')}`)
  return level
}

function umask(value: string): number {
  if (!/^0*[0-7]{1,3}$/.test(value))
    throw new UsageError(`-u: expected an octal umask up to 777, got ${quote(value)}`)
  return Number.parseInt(value, 8)
}

/**
 * Parses the arguments behind the program's name. Letters may be bundled and values attached, as getopt(3) takes them.
 * @throws UsageError that names the option and what was expected
 */
export function parseStdioOptions(args: readonly string[]): StdioServerOptions {
  const options: { -readonly [K in keyof StdioServerOptions]: StdioServerOptions[K] } = {
    readOnly: false,
    startDirectory: undefined,
    allowRequests: undefined,
    denyRequests: [],
    logToStderr: false,
    logLevel: 'ERROR',
    umask: undefined,
    root: '/',
    print: undefined,
  }
  // As a login shell ("-c command") sftp-server ignores its arguments.
  if (args[0] === '-c') return options
  const rest = [...args]
  const takeValue = (option: string, attached: string): string => {
    const value = attached !== '' ? attached : rest.shift()
    if (value === undefined) throw new UsageError(`${option}: a value is missing`)
    return value
  }
  for (let arg = rest.shift(); arg !== undefined; arg = rest.shift()) {
    if (arg === '--root' || arg.startsWith('--root=')) {
      options.root = takeValue('--root', arg.slice('--root='.length))
      continue
    }
    if (!/^-[A-Za-z]/.test(arg)) throw new UsageError(`unexpected argument ${quote(arg)}`)
    for (let at = 1; at < arg.length; at++) {
      const letter = arg[at]!
      if (withoutValue.has(letter)) {
        if (letter === 'e') options.logToStderr = true
        else if (letter === 'R') options.readOnly = true
        else options.print = 'usage'
        continue
      }
      if (!withValue.has(letter)) throw new UsageError(`unknown option ${quote(`-${letter}`)}`)
      const value = takeValue(`-${letter}`, arg.slice(at + 1))
      if (letter === 'd') options.startDirectory = value
      else if (letter === 'l') options.logLevel = logLevel(value)
      else if (letter === 'u') options.umask = umask(value)
      else if (letter === 'P') options.denyRequests = requestList(letter, value)
      else if (letter === 'p') options.allowRequests = requestList(letter, value)
      else if (letter === 'Q') {
        if (value !== 'requests') throw new UsageError(`-Q: expected "requests", got ${quote(value)}`)
        options.print = 'requests'
      }
      break
    }
  }
  return options
}
