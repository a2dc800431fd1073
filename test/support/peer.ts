/** What every started server tells a test, whatever program it is. */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Scope } from './cleanup.ts'
import { freePort } from './free-port.ts'
import { clientKey, hostKey, type KeyPair, type KeyType } from './keys.ts'
import { ServerStartError } from './server-process.ts'
import { tempDir } from './temp-dir.ts'

export interface Peer {
  readonly host: string
  readonly port: number
  /** The listening process. Its sessions are below it: see sessionsOf in server-process.ts. */
  readonly pid: number
  /** A user who may log in with {@link clientKeys}. */
  readonly user: string
  /** In the order in which they were configured. */
  readonly hostKeys: readonly KeyPair[]
  readonly paths: PeerPaths
  /** Everything the server logged so far. */
  log(): string
  waitForLog(pattern: RegExp, timeoutMs?: number): Promise<RegExpExecArray>
  /** Ends the server and its sessions at once, as a crash would. Happens by itself at the end of its scope. */
  stop(): Promise<void>
}

export interface PeerPaths {
  /** The private folder that holds everything else. */
  readonly dir: string
  /** An empty folder for the files of the test, writable by every user of this server. */
  readonly data: string
  /** The home folder of {@link Peer.user}: where relative paths start. */
  readonly home: string
  /** Names this server and its host keys, as OpenSSH's clients want it in UserKnownHostsFile. */
  readonly knownHosts: string
  readonly authorizedKeys: string
}

export interface PeerOptions {
  /** Host keys in the order of the configuration; each server has its own default. */
  readonly hostKeyTypes?: readonly KeyType[] | undefined
  /** Lines of authorized_keys, with options where wanted. By default the client key of every type. */
  readonly authorizedKeys?: readonly string[] | undefined
  /** 'test' by default inside a test, else 'file'. */
  readonly scope?: Scope | undefined
}

/** Client key types that every default authorized_keys accepts. */
export const CLIENT_KEY_TYPES: readonly KeyType[] = [
  'ed25519',
  'ecdsa-256',
  'ecdsa-384',
  'ecdsa-521',
  'rsa-2048',
]

export const LOOPBACK = '127.0.0.1'

export interface PeerFolder {
  readonly dir: string
  readonly data: string
  readonly home: string
  readonly authorizedKeys: string
  readonly hostKeys: readonly KeyPair[]
}

/** Lays out the private folder of a server: data/, home/.ssh/authorized_keys; and makes the keys. */
export async function peerFolder(
  name: string,
  hostKeyTypes: readonly KeyType[],
  options: PeerOptions,
): Promise<PeerFolder> {
  // Other users pass through on their way to data/; what is secret has modes of its own.
  const dir = tempDir(name, { scope: options.scope, mode: 0o711 })
  const data = join(dir, 'data')
  const home = join(dir, 'home')
  mkdirSync(data)
  chmodSync(data, 0o777)
  mkdirSync(join(home, '.ssh'), { recursive: true, mode: 0o755 })
  const hostKeys = await Promise.all((options.hostKeyTypes ?? hostKeyTypes).map(hostKey))
  const lines =
    options.authorizedKeys ??
    (await Promise.all(CLIENT_KEY_TYPES.map((type) => clientKey(type)))).map((key) => key.publicLine)
  const authorizedKeys = join(home, '.ssh', 'authorized_keys')
  writeFileSync(authorizedKeys, lines.map((line) => `${line}\n`).join(''), { mode: 0o644 })
  return { dir, data, home, authorizedKeys, hostKeys }
}

/** The name of a server in known_hosts: OpenSSH puts the host in brackets where the port is not 22. */
export function knownHostsName(host: string, port: number): string {
  return port === 22 ? host : `[${host}]:${port}`
}

/** Writes the known_hosts file of a started server and returns its path. */
export function writeKnownHosts(
  dir: string,
  host: string,
  port: number,
  hostKeys: readonly KeyPair[],
): string {
  const file = join(dir, 'known_hosts')
  const name = knownHostsName(host, port)
  writeFileSync(
    file,
    hostKeys.map((key) => `${name} ${key.publicLine.split(' ').slice(0, 2).join(' ')}\n`).join(''),
  )
  return file
}

/**
 * Starts a server on a free port, and on another one where somebody else was quicker to take it.
 *
 * @param start called with the port; its {@link ServerStartError} is looked at for the words of a failed bind
 */
export async function onFreePort<T>(start: (port: number) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await start(await freePort(LOOPBACK))
    } catch (error) {
      const taken = error instanceof ServerStartError && /address already in use/i.test(error.log)
      if (!taken || attempt === 5) throw error
    }
  }
}
