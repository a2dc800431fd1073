/** Our own SSH and SFTP server on loopback, for tests with real clients: a folder served to one user with keys. */

import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import type { ReadableStream as WebReadable } from 'node:stream/web'
import { NodeBackend, SessionEpochs, serveSftp } from '@sshblock/sftp/node'
import type { ListenOptions, ServerChannel, SshServer } from '@sshblock/transport/node'
import {
  AuthorizedKeys,
  listen,
  nodeCrypto,
  parsePrivateKey,
  signerFromPrivateKey,
} from '@sshblock/transport/node'
import { registerCleanup, type Scope } from './cleanup.ts'
import { clientKey, hostKey, type KeyPair, type KeyType } from './keys.ts'
import { CLIENT_KEY_TYPES, LOOPBACK, writeKnownHosts } from './peer.ts'
import { tempDir } from './temp-dir.ts'

export interface OurServer {
  readonly host: string
  readonly port: number
  readonly user: string
  readonly hostKeys: readonly KeyPair[]
  readonly server: SshServer
  /** `data` is the folder that clients see as '/'. */
  readonly paths: { readonly dir: string; readonly data: string; readonly knownHosts: string }
}

export interface OurServerOptions extends Partial<ListenOptions> {
  readonly hostKeyTypes?: readonly KeyType[]
  /** Clients see this machine's own paths instead of a confined folder. */
  readonly unconfined?: boolean
  readonly scope?: Scope
}

export async function startOurServer(options: OurServerOptions = {}): Promise<OurServer> {
  const { hostKeyTypes = ['ed25519', 'ecdsa-256', 'rsa-2048'], unconfined = false, scope, ...rest } = options
  const dir = tempDir('our-server', { scope })
  const data = join(dir, 'data')
  mkdirSync(data)
  const hostKeys = await Promise.all(hostKeyTypes.map((type) => hostKey(type)))
  const signers = await Promise.all(
    hostKeys.map(async ({ privateFile }) =>
      signerFromPrivateKey(nodeCrypto, await parsePrivateKey(nodeCrypto, readFileSync(privateFile))),
    ),
  )
  const lines = (await Promise.all(CLIENT_KEY_TYPES.map((type) => clientKey(type)))).map(
    ({ publicLine }) => publicLine,
  )
  const authorized = AuthorizedKeys.parse(lines.join('\n'))
  const backend = new NodeBackend({ root: unconfined ? '/' : data })
  const epochs = new SessionEpochs()
  const user = 'tester'
  const server = await listen({
    host: LOOPBACK,
    hostKeys: signers,
    auth: { authorizedKeys: (name) => (name === user ? authorized : undefined) },
    subsystems: {
      sftp: (channel, { session }) =>
        serveSftp(channel, backend, {
          clientIdentification: session.info.peerIdentification,
          epochs,
          ...(unconfined ? { startDirectory: data } : {}),
        }).finished,
    },
    exec: (channel, command) => runCommand(channel, command, data),
    ...rest,
  })
  registerCleanup(() => server.close({ graceMs: 0 }), { scope })
  const knownHosts = writeKnownHosts(dir, LOOPBACK, server.port, hostKeys)
  return { host: LOOPBACK, port: server.port, user, hostKeys, server, paths: { dir, data, knownHosts } }
}

/** Runs a command of a client in a shell, as sshd does; for tests only. */
async function runCommand(channel: ServerChannel, command: string, cwd: string): Promise<number> {
  const child = spawn('/bin/sh', ['-c', command], { cwd, stdio: 'pipe' })
  // A connection that is lost ends the input; a command that does not read it ends the pipe.
  const input = Readable.fromWeb(channel.readable() as WebReadable).on('error', () => child.stdin.destroy())
  input.pipe(child.stdin).on('error', () => {})
  const output = channel.writable().getWriter()
  const stdout = (async () => {
    for await (const chunk of child.stdout) await output.write(chunk as Uint8Array)
  })()
  child.stderr.on('data', (chunk: Uint8Array) => channel.writeStderr(chunk))
  const [status] = await Promise.all([
    new Promise<number>((resolve) => child.on('close', (code) => resolve(code ?? 1))),
    stdout.catch(() => {}),
  ])
  return status
}

/** A file with deterministic bytes. */
export function writeNoise(path: string, length: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(length)
  let state = seed
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    bytes[i] = state >>> 16
  }
  writeFileSync(path, bytes)
  return bytes
}
