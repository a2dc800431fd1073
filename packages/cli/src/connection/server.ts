// From a location to a server that we are logged in to, by the settings of ssh_config: over TCP, through jump hosts, or
// through a ProxyCommand. Whoever opens a server closes it.

import { type DeviceBehaviour, openDeviceOnSftp, type ServerInfo, type SftpDevice } from '@sshblock/blockdev'
import { type SftpClient, sftpChannels } from '@sshblock/sftp'
import { HostKeyError } from '@sshblock/transport/errors'
import {
  channelDuplex,
  connectOver,
  connectTcp,
  nodeCrypto,
  type OpenDuplex,
  type Session,
} from '@sshblock/transport/node'
import { attempt } from '../failure.ts'
import { type Invocation, tell } from '../invocation.ts'
import { traceTo } from '../output/trace-lines.ts'
import { promptText, remembered } from '../questions.ts'
import { type HostSettings, hostSettings } from '../ssh-config/settings.ts'
import { parseRemoteTarget, type RemoteTarget } from '../target.ts'
import { UsageProblem } from '../usage-problem.ts'
import { wantedAlgorithms } from './algorithms.ts'
import { authentication } from './authentication.ts'
import { type ConnectionFlags, configSources } from './flags.ts'
import { hostKeyTrust } from './host-key-trust.ts'
import { keyLogOf } from './key-log.ts'
import { proxyCommandDuplex } from './proxy-command.ts'

/** A way to a server, which can be gone again. */
export interface Connection {
  /** The first session. */
  readonly session: Session
  /** Somebody typed something for it. */
  readonly wasAsked: boolean
  /** Makes another session, without asking anybody: what was typed for the first is known. */
  again(signal: AbortSignal): Promise<Session>
}

export interface Server extends Connection {
  readonly sftp: SftpClient
  readonly info: ServerInfo
  /** Opens one more SFTP channel. */
  openSftp(): Promise<SftpClient>
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/** The settings for the host of a location. */
export function settingsFor(
  target: Pick<RemoteTarget, 'host' | 'user' | 'port'>,
  flags: ConnectionFlags,
  invocation: Invocation,
): HostSettings {
  return hostSettings(configSources(flags, invocation), target, invocation.env)
}

/** How long an interrupted command may take to close its files on a server that says nothing, in milliseconds. */
const interruptGraceMs = 3000

/** Connects and logs in. Errors name the location. Whoever opens a connection closes its session. */
export async function openConnection(
  target: RemoteTarget,
  flags: ConnectionFlags,
  invocation: Invocation,
): Promise<Connection> {
  const questions = remembered(invocation.questions)
  const connect = async (signal: AbortSignal): Promise<Session> => {
    const settings = watched(settingsFor(target, flags, invocation))
    return openSession(settings, target, flags, { ...invocation, questions, signal }, 1)
  }
  const session = await attempt('cannot connect to', target.text, () => connect(invocation.signal))
  questions.answerAlone = true
  return { session, wasAsked: questions.size > 0, again: connect }
}

/** A server that says nothing is noticed also where the settings do not ask for it: what is lost can be mended. */
function watched(settings: HostSettings): HostSettings {
  const { serverAliveIntervalMs = 5000, serverAliveCountMax = 3 } = settings
  return { ...settings, serverAliveIntervalMs, serverAliveCountMax }
}

/** Connects, logs in and opens SFTP. Errors name the location. After Ctrl-C the connection is ended. */
export async function openServer(
  target: RemoteTarget,
  flags: ConnectionFlags,
  invocation: Invocation,
): Promise<Server> {
  const connection = await openConnection(target, flags, invocation)
  const { session } = connection
  const cutOff = (): void => {
    setTimeout(() => session.destroy(), interruptGraceMs).unref()
  }
  invocation.signal.addEventListener('abort', cutOff, { once: true })
  try {
    return await attempt('cannot connect to', target.text, async () => {
      const openSftp = (): Promise<SftpClient> => openSftpOn(session, flags, invocation)
      const sftp = await openSftp()
      const close = async (): Promise<void> => {
        await sftp.close()
        await session.close()
      }
      const info = serverInfo(session, settingsFor(target, flags, invocation))
      return { ...connection, sftp, openSftp, close, info, [Symbol.asyncDispose]: close }
    })
  } catch (error) {
    await session.close()
    throw error
  }
}

/** SFTP on one more channel. */
export async function openSftpOn(
  session: Session,
  { verbose = 0 }: ConnectionFlags,
  invocation: Invocation,
): Promise<SftpClient> {
  const trace = traceTo(invocation, verbose)
  return sftpChannels(session, trace === undefined ? {} : { trace })()
}

function serverInfo({ info }: Session, { hostName, port }: HostSettings): ServerInfo {
  const { algorithms, hostKey, authentication: login } = info
  return {
    host: hostName,
    port,
    user: info.user,
    identification: info.peerIdentification,
    hostKeyType: hostKey.type,
    hostKeyFingerprint: hostKey.fingerprint,
    algorithms,
    authentication:
      login === undefined
        ? ''
        : login.source === login.method
          ? login.method
          : `${login.method} (${login.source})`,
  }
}

/** A session by settings; closes the jump hosts when it is over. `earlyChannels` will be asked of it at once. */
export async function openSession(
  settings: HostSettings,
  target: Pick<RemoteTarget, 'hostKeyCheck'>,
  flags: ConnectionFlags,
  invocation: Invocation,
  earlyChannels = 0,
): Promise<Session> {
  const trace = traceTo(invocation, flags.verbose ?? 0)
  const onKeyLog = keyLogOf(invocation)
  const jumps: Session[] = []
  try {
    const session = await connectOver(opener(settings, flags, invocation, jumps), {
      ...connectOptions(settings),
      hostKeyPolicy: await hostKeyTrust(invocation, settings, target.hostKeyCheck),
      auth: await authentication(invocation, settings),
      onBanner: (text) => invocation.stderr.write(`${promptText(text.replace(/\s+$/, ''))}\n`),
      signal: invocation.signal,
      crypto: nodeCrypto,
      earlyChannels,
      ...(trace === undefined ? {} : { trace }),
      ...(onKeyLog === undefined ? {} : { onKeyLog }),
    })
    void session.closed.then(() => closeAll(jumps))
    return session
  } catch (error) {
    await closeAll(jumps)
    throw error instanceof HostKeyError ? withAdvice(error, settings) : error
  }
}

async function closeAll(sessions: readonly Session[]): Promise<void> {
  for (const session of sessions.toReversed()) await session.close()
}

/** What the settings say about the connection itself. */
export function connectOptions(settings: HostSettings) {
  const { serverAliveIntervalMs: intervalMs, serverAliveCountMax: maxMissed } = settings
  return {
    host: settings.hostName,
    port: settings.port,
    username: settings.user,
    algorithms: wantedAlgorithms(settings),
    keepalive: {
      ...(intervalMs === undefined ? {} : { intervalMs }),
      ...(maxMissed === undefined ? {} : { maxMissed }),
    },
  }
}

/** How bytes reach the server. Sessions to jump hosts are put into `jumps`. */
export function opener(
  settings: HostSettings,
  flags: ConnectionFlags,
  invocation: Invocation,
  jumps: Session[],
): OpenDuplex {
  const { hostName: host, port, proxyJump, proxyCommand, connectTimeoutMs } = settings
  if (proxyCommand !== undefined)
    return async () => proxyCommandDuplex(proxyCommand, configSources(flags, invocation).shell)
  const last = proxyJump.at(-1)
  if (last === undefined) {
    return (signal) =>
      connectTcp(
        { host, port },
        {
          ...(signal === undefined ? {} : { signal }),
          ...(connectTimeoutMs === undefined ? {} : { connectTimeoutMs }),
        },
      )
  }
  return async () => {
    const hop = jumpTarget(last)
    const own = settingsFor(hop, flags, invocation)
    // As ssh -J: the hosts before the last one are its own way.
    const before = proxyJump.slice(0, -1)
    const jump = await openSession(
      before.length === 0 ? own : { ...own, proxyJump: before },
      hop,
      flags,
      invocation,
    )
    jumps.push(jump)
    return channelDuplex(await jump.openDirectTcpip(host, port, { signal: invocation.signal }))
  }
}

/** '[user@]host[:port]' or an ssh:// URI. */
function jumpTarget(text: string): RemoteTarget {
  if (/^ssh:\/\//i.test(text)) return parseRemoteTarget(/^ssh:\/\/[^/]*$/i.test(text) ? `${text}/` : text)
  const match = /^(?:([^@]+)@)?(\[[^\]]+\]|[^:@]+)(?::(\d+))?$/.exec(text)
  if (match === null) throw new UsageProblem(`ProxyJump '${text}': expected [user@]host[:port]`)
  const [, user, host = '', port] = match
  if (host.startsWith('-')) throw new UsageProblem(`ProxyJump '${text}': a host name must not begin with '-'`)
  return {
    kind: 'remote',
    text,
    host: host.replace(/^\[(.*)\]$/, '$1'),
    user,
    port: port === undefined ? undefined : Number(port),
    path: '.',
    hostKeyCheck: undefined,
  }
}

/** Where nobody could be asked: how to add the key. */
function withAdvice(
  error: HostKeyError,
  { hostName, port, userKnownHostsFiles }: HostSettings,
): HostKeyError {
  const [file] = userKnownHostsFiles
  if (error.problem !== 'unknown' || file === undefined) return error
  const place = port === 22 ? hostName : `-p ${port} ${hostName}`
  return new HostKeyError(
    'unknown',
    `${error.message} (sshblock keyscan ${place} >> ${shellWord(file)}), or connect once on a terminal and answer yes`,
    {
      cause: error,
    },
  )
}

/** A path for a shell, in quotes where it needs them. */
function shellWord(path: string): string {
  return /^[\w./~-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`
}

export interface ImageFlags {
  unsafeFlush?: boolean
}

/** What the flags say about a device. */
export function imageBehaviour({ unsafeFlush }: ImageFlags, invocation: Invocation): DeviceBehaviour {
  return {
    flushPolicy: unsafeFlush === true ? 'unsafe' : 'strict',
    onWarning: (message) => tell(invocation, `warning: ${message}`),
  }
}

/** Options of a device on this server; what every opening and creating needs. */
export function deviceOptions(server: Server, flags: ImageFlags, invocation: Invocation) {
  return {
    ...imageBehaviour(flags, invocation),
    openChannel: () => server.openSftp(),
    serverName: server.info.host,
    serverInfo: server.info,
    signal: invocation.signal,
  }
}

/** Opens an image on a server. Errors name the location. */
export function openImage(
  server: Server,
  target: RemoteTarget,
  flags: ImageFlags & { writable: boolean },
  invocation: Invocation,
): Promise<SftpDevice> {
  return attempt('cannot open', target.text, () =>
    openDeviceOnSftp(server.sftp, target.path, {
      ...deviceOptions(server, flags, invocation),
      writable: flags.writable,
    }),
  )
}
