// From a location to a connector: the one file that joins SSH and SFTP to the device. Host-independent: whoever uses it hands
// in how to connect and what to believe by default (node.ts does, for Node).
// Every connection of a device is made here in the same way: at open, for more connections, and after a loss. Knows nothing
// of what is done with them.

import { takesRequestsBehindInit } from '@sshblock/sftp'
import {
  AuthError,
  type AuthMethod,
  type ClientOptions,
  type CryptoProvider,
  HostKeyError,
  type HostKeyPolicy,
  insecureAcceptAnyHostKey,
  matchesFingerprint,
  pinnedFingerprint,
  quote,
  type Session,
} from '@sshblock/transport'
import { BlockDeviceError } from './errors.ts'
import { type HostKeyCheck, isOpenSshFingerprint } from './host-key-check.ts'
import { type Location, type LocationInput, parseLocation } from './location.ts'
import type { CommandResult, SftpConnection, SftpConnector } from './sftp-connector.ts'
import type { OpenOnConnectorOptions } from './sftp-connector-device.ts'
import type { ServerInfo } from './sftp-device.ts'

/**
 * What the driver needs of a session; the transport's Session has it. Without `closed` a loss is noticed by the channels alone,
 * without `exec` old sessions cannot be fenced by their processes.
 */
export type DriverSession = Pick<Session, 'info' | 'openSubsystem' | 'close'> &
  Partial<Pick<Session, 'exec' | 'closed' | 'failure' | 'destroy'>>

/** What the driver asks a connection for; the rest is up to whoever connects. */
export type ConnectTarget = Pick<
  ClientOptions,
  'host' | 'username' | 'hostKeyPolicy' | 'auth' | 'signal' | 'trace' | 'keepalive' | 'earlyChannels'
> & { port: number }

/** What differs from host to host. */
export interface DriverHost {
  readonly crypto: CryptoProvider
  connect(target: ConnectTarget): Promise<DriverSession>
  /** User where the location names none. */
  loginName(): string
  /** Policy for the host key check 'yes'. */
  knownHosts(server: { host: string; port: number }): Promise<HostKeyPolicy>
  /** Ways to get in where the caller gives none, in the order to be tried. */
  authentication(): Promise<readonly AuthMethod[]>
}

/** How to reach the server, beyond what the location says. */
export interface ConnectionOptions {
  /** Ways to get in, in the order to be tried, instead of the host's default. */
  auth?: readonly AuthMethod[]
  /** Judges the host key instead of the location's host key check. */
  hostKeyPolicy?: HostKeyPolicy
  trace?: ClientOptions['trace']
  /**
   * Connects in the place of the host's way: for a server in the same process (`() => server.connect()`), a jump host, a
   * WebSocket. It is called again for more connections and after a loss, and has to bring a new session each time. Whoever
   * connects here answers for host key and authentication; the device closes the session.
   */
  connect?: (target: ConnectTarget) => Promise<DriverSession>
  /** When a silent connection counts as lost. Default: asked after 5000 ms without a byte, lost after 3 questions. */
  keepalive?: ClientOptions['keepalive']
}

/** Where a location leads, and how. */
export interface LocatedImage {
  readonly connector: SftpConnector
  readonly path: string
  /** What the device takes where its user says nothing else. */
  readonly defaults: Pick<OpenOnConnectorOptions, 'serverName' | 'maxConnections'>
}

/** Reads a location; nothing is connected yet. @throws LocationError */
export function locateImage(
  input: LocationInput,
  options: ConnectionOptions & Pick<OpenOnConnectorOptions, 'onWarning'>,
  host: DriverHost,
): LocatedImage {
  const location = parseLocation(
    input,
    options.onWarning === undefined ? {} : { onWarning: options.onWarning },
  )
  return {
    connector: {
      connect: async (signal, { channels } = { channels: () => 1 }) =>
        sftpConnection(
          location,
          await connect(location, { ...options, earlyChannels: channels }, host, signal),
        ),
    },
    path: location.path,
    defaults: {
      serverName: location.server.host,
      // Nobody shall be asked for a password in the middle of a transfer.
      ...(options.auth?.some(asksSomebody) === true ? { maxConnections: 1 } : {}),
    },
  }
}

function asksSomebody(method: AuthMethod): boolean {
  return (
    method.type === 'keyboard-interactive' ||
    (method.type === 'password' && typeof method.password === 'function')
  )
}

/** A session as a device's connector hands it out. */
function sftpConnection(location: Location, session: DriverSession): SftpConnection {
  const { info } = session
  const exec = session.exec?.bind(session)
  const over = session.closed ?? new Promise<void>(() => {})
  return {
    identity: { hostKey: info.hostKey.blob, user: info.user },
    serverInfo: serverInfo(location, session),
    serverIdentification: info.peerIdentification,
    get roundTripMs() {
      return session.info.roundTripMs
    },
    openChannel: (signal) =>
      session.openSubsystem('sftp', {
        pipelined: takesRequestsBehindInit(info.peerIdentification),
        ...(signal === undefined ? {} : { signal }),
      }),
    exec:
      exec === undefined
        ? undefined
        : async (command, signal): Promise<CommandResult> => {
            const channel = await exec(command, { signal })
            // Where something else than the command is run, it shall not wait for input.
            channel.end()
            const { stdout, exit } = await channel.collect({ maxBytes: maxCommandOutput, signal })
            return { status: exit.type === 'status' ? exit.status : undefined, stdout }
          },
    over: over.then(
      () => session.failure ?? new Error('the connection is closed'),
      (error: unknown) => (error instanceof Error ? error : new Error(String(error))),
    ),
    close: () => session.close(),
    destroy: () => {
      if (session.destroy !== undefined) session.destroy()
      else void session.close().catch(() => {})
    },
  }
}

/** Bytes that a command of ours prints at most. */
const maxCommandOutput = 4 * 1024 * 1024

const defaultKeepalive = { intervalMs: 5000, maxMissed: 3 }

async function connect(
  { server, user, hostKeyCheck }: Location,
  options: ConnectionOptions & Required<Pick<ConnectTarget, 'earlyChannels'>>,
  host: DriverHost,
  signal: AbortSignal,
): Promise<DriverSession> {
  const { trace, earlyChannels } = options
  try {
    // What the host would add is not looked up where somebody else connects.
    const own = options.connect
    return await (own ?? host.connect)({
      host: server.host,
      port: server.port,
      username: user ?? host.loginName(),
      hostKeyPolicy:
        options.hostKeyPolicy ??
        (own === undefined ? await policyFor(hostKeyCheck, server, host) : refuseEverybody),
      auth: options.auth ?? (own === undefined ? await host.authentication() : []),
      keepalive: { ...defaultKeepalive, ...options.keepalive },
      signal,
      earlyChannels,
      ...(trace === undefined ? {} : { trace }),
    })
  } catch (error) {
    if (error instanceof HostKeyError || error instanceof AuthError) {
      throw new BlockDeviceError('EPERM', error.message, { cause: error })
    }
    throw error
  }
}

/** Stands where whoever connects brings a policy of their own; one that is used by mistake lets nobody pass. */
const refuseEverybody: HostKeyPolicy = () => ({
  problem: 'no-policy',
  message: 'connect() was given no host key policy',
})

async function policyFor(
  check: HostKeyCheck,
  server: Location['server'],
  host: DriverHost,
): Promise<HostKeyPolicy> {
  if (check.mode === 'known_hosts') return host.knownHosts(server)
  if (check.mode === 'none') return insecureAcceptAnyHostKey()
  if (isOpenSshFingerprint(check.hash))
    return pinnedFingerprint(host.crypto, 'openssh', check.hash.replace(/=$/, ''))
  const { type, hash } = check
  // A text that is no hash at all is a mismatch too, as QEMU has it.
  return ({ host: name, publicKey, fingerprint }) =>
    matchesFingerprint(host.crypto, publicKey.blob, type, hash)
      ? 'trusted'
      : {
          problem: 'mismatch',
          message: `the server ${quote(name)} shows the host key ${publicKey.type} ${fingerprint}, which does not have the ${type} hash ${quote(hash)}`,
        }
}

function serverInfo({ server }: Location, { info }: DriverSession): ServerInfo {
  const { algorithms, hostKey, authentication } = info
  return {
    host: server.host,
    port: server.port,
    user: info.user,
    identification: info.peerIdentification,
    hostKeyType: hostKey.type,
    hostKeyFingerprint: hostKey.fingerprint,
    algorithms,
    authentication: authentication === undefined ? '' : `${authentication.method} (${authentication.source})`,
  }
}
