// The command line of the conformance tests.

import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { UsageError } from '@sshblock/transport'
import { nodeCrypto, parsePrivateKey, type Signer, signerFromPrivateKey } from '@sshblock/transport/node'

export const usage = `usage:
  npm run conformance -- --server HOST:PORT [--user USER (--key FILE | --password-file FILE)] [options]
  npm run conformance -- --client 'COMMAND with {host} and {port}' [options]
  npm run conformance -- --compare EXPECTATION-FILE...

  --server HOST:PORT    runs the checks of servers. Without --user only those that need nobody to log in, and no SFTP.
  --client COMMAND      runs the checks of clients: the command is started once for each connection, with 100 000 bytes on its
                        standard input. It must take any host key, log in by any means, and run anything.
  --folder PATH         where the SFTP checks make a folder to work in; where paths start, if left out
  --only ID[,ID...]     only checks whose id begins so: --only strict,sftp.read
  --full                tables try all 256 message numbers, not a sample
  --at-once N           checks at once (4)
  --patience MS         how long to wait for an answer (3000)
  --json                the results as JSON
  --save FILE           writes outcome and id of each check to a file
  --expect FILE         compares with such a file; the exit status tells whether they agree
  --compare FILE...     prints such files side by side as a table of Markdown

The exit status is 0 where every check passed (or is as expected), 1 where not, 2 where the checks could not be run.
Give this a server that may be overrun and locked up: hundreds of connections break every rule there is.
`

export interface Options {
  readonly mode: 'server' | 'client' | 'compare'
  readonly host: string
  readonly port: number
  readonly command: string
  readonly user: string | undefined
  readonly signer: Signer | undefined
  readonly password: string | undefined
  readonly folder: string | undefined
  readonly only: ((id: string) => boolean) | undefined
  readonly full: boolean
  readonly atOnce: number
  readonly patienceMs: number
  readonly json: boolean
  readonly save: string | undefined
  readonly expect: string | undefined
  readonly files: readonly string[]
}

/** @throws UsageError, or the errors of the files that are named. */
export async function readOptions(args: readonly string[]): Promise<Options> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      server: { type: 'string' },
      client: { type: 'string' },
      compare: { type: 'boolean' },
      user: { type: 'string' },
      key: { type: 'string' },
      'password-file': { type: 'string' },
      folder: { type: 'string' },
      only: { type: 'string' },
      full: { type: 'boolean' },
      'at-once': { type: 'string' },
      patience: { type: 'string' },
      json: { type: 'boolean' },
      save: { type: 'string' },
      expect: { type: 'string' },
    },
  })
  const modes = (['server', 'client', 'compare'] as const).filter((name) => values[name] !== undefined)
  const mode = modes[0]
  if (mode === undefined || modes.length > 1)
    throw new UsageError('expected one of --server, --client and --compare')
  if (mode !== 'compare' && positionals.length > 0)
    throw new UsageError(`unexpected ${positionals.join(' ')}`)
  const { host, port } = mode === 'server' ? hostAndPort(values.server!) : { host: '', port: 0 }
  const prefixes = values.only?.split(',')
  return {
    mode,
    host,
    port,
    command: values.client ?? '',
    user: values.user,
    signer: values.key === undefined ? undefined : await readSigner(values.key),
    password: values['password-file'] === undefined ? undefined : firstLine(values['password-file']),
    folder: values.folder,
    only: prefixes === undefined ? undefined : (id) => prefixes.some((prefix) => id.startsWith(prefix)),
    full: values.full === true,
    atOnce: positive('--at-once', values['at-once'], 4),
    patienceMs: positive('--patience', values.patience, 3000),
    json: values.json === true,
    save: values.save,
    expect: values.expect,
    files: positionals,
  }
}

/** 'host:port', '[::1]:22', or a host alone. */
function hostAndPort(text: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d{1,5}))?$/.exec(text)
  if (match === null) throw new UsageError(`--server: expected HOST:PORT, got ${JSON.stringify(text)}`)
  return { host: (match[1] ?? match[2])!, port: match[3] === undefined ? 22 : Number(match[3]) }
}

function positive(name: string, text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1)
    throw new UsageError(`${name}: expected a whole number above 0, got ${JSON.stringify(text)}`)
  return value
}

async function readSigner(file: string): Promise<Signer> {
  return signerFromPrivateKey(nodeCrypto, await parsePrivateKey(nodeCrypto, readFileSync(file)))
}

function firstLine(file: string): string {
  return readFileSync(file, 'utf8').split(/\r?\n/, 1)[0] ?? ''
}
