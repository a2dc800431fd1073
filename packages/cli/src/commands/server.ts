// `sshblock server`: our own SSH and SFTP server for a folder. Keys alone let in; there is no shell and no forwarding.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { homedir, userInfo } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { NodeBackend, SessionEpochs, serveSftp } from '@sshblock/sftp/node'
import {
  AuthorizedKeys,
  formatPrivateKey,
  generateKeyPair,
  listen,
  nodeCrypto,
  opensshFingerprint,
  type PrivateKey,
  parsePrivateKey,
  type ServerEvent,
  safeText,
  signerFromPrivateKey,
  systemRandom,
} from '@sshblock/transport/node'
import { Command } from 'commander'
import { attempt } from '../failure.ts'
import { type Invocation, printJson, printLine, tell } from '../invocation.ts'
import { traceTo } from '../output/trace-lines.ts'
import { parseWhole } from '../sizes.ts'
import { untilInterrupted } from './until-interrupted.ts'

interface ServerFlags {
  host: string
  port: number
  hostKey?: string
  authorizedKeys?: string
  user: string
  readOnly?: boolean
  verbose?: number
  json?: boolean
}

/** How long transfers under way may take to end after Ctrl-C, in milliseconds. */
const graceMs = 5000

export function serverCommand(invocation: Invocation): Command {
  return new Command('server')
    .description(
      'Our own SSH server for the files of a folder, until Ctrl-C. Keys let in, passwords never; no shell.',
    )
    .argument('[folder]', 'what clients see as /', '.')
    .option('--host <address>', 'address to listen on; :: for everywhere', '127.0.0.1')
    .option('--port <port>', 'port to listen on; 0 for any free one', parseWhole(0, 65_535), 2222)
    .option('--host-key <file>', 'private key that proves who the server is; made where it does not exist')
    .option('--authorized-keys <file>', 'public keys that let in; ~/.ssh/authorized_keys by default')
    .option('--user <name>', 'the one name that clients log in with', userInfo().username)
    .option('--read-only', 'refuse every change')
    .option('--json', 'print the address and the host key as JSON')
    .option(
      '-v, --verbose',
      'say on stderr what happens; -vv and -vvv say more',
      (_, before: number | undefined) => (before ?? 0) + 1,
    )
    .addHelpText(
      'after',
      `
Examples:
  sshblock server /srv/images
  sshblock server --host :: --port 2022 --host-key ~/.config/sshblock/host_key --read-only .`,
    )
    .action((folder: string, flags: ServerFlags) => serve(folder, flags, invocation))
}

async function serve(folder: string, flags: ServerFlags, invocation: Invocation): Promise<void> {
  const { host, port, user } = flags
  const keysFile = flags.authorizedKeys ?? join(homedir(), '.ssh', 'authorized_keys')
  const keysText = await attempt('cannot read', keysFile, () => readFileSync(keysFile, 'utf8'))
  const authorized = AuthorizedKeys.parse(keysText)
  const hostKey = await hostKeyOf(flags)
  const backend = await attempt('cannot serve', folder, () => new NodeBackend({ root: folder }))
  const epochs = new SessionEpochs()
  const trace = traceTo(invocation, Math.max(0, (flags.verbose ?? 0) - 1))
  const server = await attempt('cannot listen on', `${host}:${port}`, () =>
    listen({
      host,
      port,
      hostKeys: [signerFromPrivateKey(nodeCrypto, hostKey)],
      auth: { authorizedKeys: (name) => (name === user ? authorized : undefined) },
      subsystems: {
        sftp: (channel) =>
          serveSftp(channel, backend, { readOnly: flags.readOnly ?? false, epochs }).finished,
      },
      onEvent: (event) => tellEvent(invocation, flags, event),
      ...(trace === undefined ? {} : { trace }),
    }),
  )
  const fingerprint = opensshFingerprint(nodeCrypto, hostKey.publicKey.blob)
  const name = host === '::' || host === '0.0.0.0' ? 'localhost' : host
  const location = `ssh://${encodeURIComponent(user)}@${name.includes(':') ? `[${name}]` : name}:${server.port}/`
  if (flags.json === true)
    printJson(invocation, { host, port: server.port, user, fingerprint, folder: resolve(folder), location })
  else {
    printLine(invocation, `${resolve(folder)} is served at ${location}`)
    printLine(invocation, `  host key:    ED25519 ${fingerprint}`.replace('ED25519', hostKey.publicKey.type))
    printLine(invocation, `  known_hosts: sshblock keyscan -p ${server.port} ${name} >> ~/.ssh/known_hosts`)
    printLine(invocation, `  sshblock:    sshblock ls ${location}`)
    printLine(invocation, `  sftp:        sftp -P ${server.port} ${user}@${name}`)
  }
  await untilInterrupted(invocation)
  await server.close({ graceMs })
  backend.close()
}

/** The key of a file, made where there is none; without a file a fresh one, which clients will not know. */
async function hostKeyOf({ hostKey: file }: ServerFlags): Promise<PrivateKey> {
  if (file === undefined) return generateKeyPair(nodeCrypto, 'ed25519', systemRandom)
  return attempt('cannot use', file, async () => {
    try {
      return await parsePrivateKey(nodeCrypto, readFileSync(file))
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error
    }
    const key = generateKeyPair(nodeCrypto, 'ed25519', systemRandom)
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
    writeFileSync(file, formatPrivateKey(nodeCrypto, key, systemRandom), { mode: 0o600, flag: 'wx' })
    return key
  })
}

function tellEvent(invocation: Invocation, { verbose = 0 }: ServerFlags, event: ServerEvent): void {
  if (event.type === 'fault') {
    tell(invocation, `warning: ${event.error instanceof Error ? event.error.message : String(event.error)}`)
  } else if (verbose > 0 && event.type === 'login') {
    tell(invocation, `'${safeText(event.login.user)}' is in, from ${event.login.address ?? 'here'}`)
  } else if (verbose > 0 && event.type === 'closed')
    tell(invocation, `a connection is over: ${safeText(event.failure.message)}`)
}
