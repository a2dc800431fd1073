// What an application hands to a server, and what it hears from it. Everything that is not enabled here is refused.

import type { AuthMethodName } from '../auth/method-order.ts'
import type { WindowLimits } from '../connection/window.ts'
import type { RekeyLimits } from '../core/transport-core.ts'
import type { Clock, CryptoProvider, MaybePromise, RandomSource } from '../crypto/provider.ts'
import type { SshError } from '../errors.ts'
import type { AlgorithmOffer } from '../kex/algorithms.ts'
import type { Signer } from '../keys/signer.ts'
import type { Trace } from '../trace.ts'
import type { LoginAttempt } from './login-engine.ts'
import type { ServerConnection } from './server.ts'
import type { Login, ServerAuthPolicy } from './server-auth-policy.ts'
import type { ServerChannel } from './server-channel.ts'
import type { KeepaliveOptions, Session } from './session.ts'
import type { Terminal } from './terminal.ts'

/** What a handler knows about the connection. */
export interface ServerContext {
  readonly connection: ServerConnection
  readonly session: Session
  readonly login: Login
}

/** What a handler of a session channel knows besides. */
export interface SessionRequestContext extends ServerContext {
  /** Variables the client set, as far as they are allowed, over those of the user's authorized_keys. */
  readonly environment: ReadonlyMap<string, string>
  /** The terminal the client has at first; see also `channel.terminal`. */
  readonly terminal: Terminal | undefined
  /** What the client asked for, raw, where a forced command took its place: a command, a subsystem's name, or '' for a shell. */
  readonly originalCommand: string | undefined
  /** Fires when the channel or the connection is over. */
  readonly signal: AbortSignal
}

/**
 * Serves one channel. A number that is returned (or resolves) is the exit status and ends the channel; any other result
 * leaves the channel to the handler, which ends it by `channel.exitWith()` or `channel.close()`. A handler that throws or rejects
 * ends the channel with status 1; the client is told nothing else.
 */
export type SubsystemHandler = (channel: ServerChannel, context: SessionRequestContext) => unknown
/** As SubsystemHandler. `command` is the client's text, or the forced command: treat it as hostile, never hand it to a shell unasked. */
export type ExecHandler = (channel: ServerChannel, command: string, context: SessionRequestContext) => unknown

export interface DirectTcpipRequest {
  /** Where to, raw: a name or an address. */
  readonly host: string
  readonly port: number
  readonly originHost: string
  readonly originPort: number
}

/** Serves the channel of a forwarding; it is open when this is called. */
export type ForwardHandler = (channel: ServerChannel) => unknown
/** Decides about a forwarding: a handler accepts it, undefined refuses it, an exception says that connecting failed. */
export type ForwardDecision<T> = (
  request: T,
  context: ServerContext,
) => MaybePromise<ForwardHandler | undefined>

/** What happens on a server, for logs and statistics. Texts are raw where the type says so: show them through safeText. */
export type ServerEvent =
  | ({ type: 'login-attempt' } & LoginAttempt)
  | { type: 'login'; login: Login }
  /** A subsystem, command or shell was asked for; `detail` is its name or text, raw. */
  | { type: 'request'; request: 'subsystem' | 'exec' | 'shell'; detail: string; accepted: boolean }
  /** A handler or callback of the application threw. */
  | { type: 'fault'; error: unknown }
  /** The connection is over. `failure` is never undefined: ClosedError where we ended it. */
  | { type: 'closed'; failure: SshError }

export interface ServerOptions {
  crypto: CryptoProvider
  /** Keys that prove who the server is; at least one, at most one of a type. */
  hostKeys: readonly Signer[]
  /** Whom to let in; `{}` lets nobody in. */
  auth: ServerAuthPolicy

  /** Subsystems by name: `{ sftp: (channel) => serveSftp(channel, backend) }`. */
  subsystems?: Readonly<Record<string, SubsystemHandler>> | ReadonlyMap<string, SubsystemHandler>
  exec?: ExecHandler
  shell?: SubsystemHandler
  /** Allows pty-req; the handler sees what the client says about its terminal. */
  terminals?: boolean
  /** Names of variables that clients may set, as patterns (AcceptEnv): ['LANG', 'LC_*']. */
  acceptEnvironment?: readonly string[]
  /** Allows auth-agent-req@openssh.com: handlers may then open 'auth-agent@openssh.com' channels by `context.session.openChannel`. */
  agentForwarding?: boolean
  directTcpip?: ForwardDecision<DirectTcpipRequest>
  directStreamlocal?: ForwardDecision<{ readonly socketPath: string }>
  /** Global requests that the server does not know; `false` or undefined refuses, bytes are the reply's payload. */
  globalRequest?: (
    request: { name: string; payload: Uint8Array },
    context: ServerContext,
  ) => MaybePromise<boolean | Uint8Array | undefined>

  /** Lists to offer instead of the defaults. */
  algorithms?: Partial<AlgorithmOffer>
  /** Accepts ciphers open to CVE-2023-48795 with clients that lack strict key exchange. */
  allowTerrapin?: boolean
  /** Shown by clients before they authenticate. */
  banner?: string
  /** Whether clients are told all host keys after authentication (hostkeys-00@openssh.com); true where left out. */
  announceHostKeys?: boolean
  /** A client must be authenticated this many milliseconds after it connected; 30 000 where left out. */
  handshakeTimeoutMs?: number
  /** Channels per connection, and session channels among them; 64 and 10 where left out. */
  maxChannels?: number
  maxSessions?: number
  rekey?: Partial<RekeyLimits>
  window?: Partial<WindowLimits>
  /** Largest channel packet accepted, in bytes of data. */
  maxPacketBytes?: number
  /** Signs of life asked of quiet clients; every 60 s, lost after 3 without an answer, where left out. */
  keepalive?: Partial<KeepaliveOptions>
  /** Identification line to send instead of ours. */
  identification?: string

  onEvent?: (event: ServerEvent, connection: ServerConnection) => void
  trace?: Trace
  random?: RandomSource
  /** Milliseconds on a monotonic clock. */
  now?: Clock
  /** Milliseconds since 1970, for expiry times. */
  wallClock?: () => number
  /** Waits; for tests with a clock of their own. */
  sleep?: (ms: number) => Promise<void>
}

/** Methods that a policy can check. */
export function availableMethods(policy: ServerAuthPolicy): AuthMethodName[] {
  const methods: AuthMethodName[] = []
  if (
    policy.authorizedKeys !== undefined ||
    policy.trustedUserCas !== undefined ||
    policy.publicKey !== undefined
  )
    methods.push('publickey')
  if (policy.password !== undefined) methods.push('password')
  if (policy.keyboardInteractive !== undefined) methods.push('keyboard-interactive')
  return methods
}
