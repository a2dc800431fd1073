// The one file that joins SSH, SFTP and the device: from a location to a disk. Host-independent: whoever uses it hands in
// how to connect and what to believe by default (node.ts does, for Node).
// Owns the session: closing the device says goodbye, and a failed opening leaves nothing behind.

import { SftpClient } from '@sshblock/sftp'
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
import {
  type CreateOptions,
  createDeviceOnSftp,
  openDeviceOnSftp,
  type ServerInfo,
  type SftpDevice,
  type SftpDeviceOptions,
} from './sftp-device.ts'

/** What the driver needs of a session; the transport's Session has it. */
export type DriverSession = Pick<Session, 'info' | 'openSubsystem' | 'close'>

/** What the driver asks a connection for; the rest is up to whoever connects. */
export type ConnectTarget = Pick<
  ClientOptions,
  'host' | 'username' | 'hostKeyPolicy' | 'auth' | 'signal' | 'trace'
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
   * WebSocket. Whoever connects here answers for host key and authentication; the device closes the session.
   */
  connect?: (target: ConnectTarget) => Promise<DriverSession>
  /** How long an SFTP request may go unanswered, in milliseconds. */
  requestTimeoutMs?: number
  /**
   * Whether more SFTP channels may be opened on the connection than one: reads go on while a flush is under way, and long
   * zeros are copied on the server. Default true; a server that refuses is no error.
   */
  moreChannels?: boolean
}

/** Options of an opening by location; what the driver itself fills in is left out. */
type ByLocation<T> = Omit<T, 'openChannel' | 'serverName' | 'serverInfo' | 'release'> & ConnectionOptions

export type OpenBlockDeviceOptions = ByLocation<SftpDeviceOptions>
export type CreateBlockDeviceOptions = ByLocation<CreateOptions>

/**
 * Opens a disk image on an SSH server.
 * @throws LocationError (EINVAL); BlockDeviceError EPERM where the host key is not the right one or the user is not let in
 *   (`cause` is the HostKeyError or AuthError), and as openDeviceOnSftp; ConnectionLost with the system's code
 *   ('ECONNREFUSED', 'ENOTFOUND', ...), ProtocolError where it is no SSH server, ChannelClosedError where it has no sftp
 *   subsystem, and the other errors of the transport.
 */
export function openSshDevice(
  location: LocationInput,
  options: OpenBlockDeviceOptions,
  host: DriverHost,
): Promise<SftpDevice> {
  return onServer(location, options, host, (sftp, path, connection) =>
    openDeviceOnSftp(sftp, path, { ...options, ...connection }),
  )
}

/**
 * Creates a disk image on an SSH server and opens it for writing.
 * @throws as openSshDevice and createDeviceOnSftp.
 */
export function createSshDevice(
  location: LocationInput,
  options: CreateBlockDeviceOptions,
  host: DriverHost,
): Promise<SftpDevice> {
  return onServer(location, options, host, (sftp, path, connection) =>
    createDeviceOnSftp(sftp, path, { ...options, ...connection }),
  )
}

type Opener = (
  sftp: SftpClient,
  path: string,
  connection: Pick<SftpDeviceOptions, 'openChannel' | 'serverName' | 'serverInfo' | 'release'>,
) => Promise<SftpDevice>

async function onServer(
  input: LocationInput,
  options: ConnectionOptions & Pick<SftpDeviceOptions, 'signal' | 'onWarning'>,
  host: DriverHost,
  open: Opener,
): Promise<SftpDevice> {
  const location = parseLocation(
    input,
    options.onWarning === undefined ? {} : { onWarning: options.onWarning },
  )
  const session = await connect(location, options, host)
  try {
    // The signal is for this opening, not for channels that are opened later.
    const openChannel = () => openSftp(session, options, undefined)
    const sftp = await openSftp(session, options, options.signal)
    return await open(sftp, location.path, {
      ...(options.moreChannels === false ? {} : { openChannel }),
      serverName: location.server.host,
      serverInfo: serverInfo(location, session),
      release: async () => {
        await sftp.close()
        await session.close()
      },
    })
  } catch (error) {
    await session.close().catch(() => {})
    throw error
  }
}

async function connect(
  { server, user, hostKeyCheck }: Location,
  options: ConnectionOptions & Pick<SftpDeviceOptions, 'signal'>,
  host: DriverHost,
): Promise<DriverSession> {
  const { signal, trace } = options
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
      ...(signal === undefined ? {} : { signal }),
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

async function openSftp(
  session: DriverSession,
  { trace, requestTimeoutMs }: ConnectionOptions,
  signal: AbortSignal | undefined,
): Promise<SftpClient> {
  const channel = await session.openSubsystem('sftp', signal === undefined ? {} : { signal })
  return SftpClient.open(channel, {
    serverIdentification: session.info.peerIdentification,
    ...(signal === undefined ? {} : { signal }),
    ...(trace === undefined ? {} : { trace }),
    ...(requestTimeoutMs === undefined ? {} : { requestTimeoutMs }),
  })
}

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
