// Every error this project raises, by whose fault it was and how far it reaches.
// `code` is stable and meant for programs; `message` is for people and may change. Text from the peer is quoted, capped
// and made visible before it enters a message.

import { quote, safeText } from './safe-text.ts'

export { quote, safeText }

export interface ErrorDetails {
  cause?: unknown
}

/** Base of all errors of this project. */
export class SshError extends Error {
  /** Stable identifier, such as 'ERR_SSH_PROTOCOL' or 'ENOENT'. */
  readonly code: string

  constructor(code: string, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = code
    this.name = new.target.name
  }
}

/** The caller broke a rule of this API; only that call is affected. */
export class UsageError extends SshError {
  constructor(message: string, details: ErrorDetails & { code?: string } = {}) {
    super(details.code ?? 'ERR_USAGE', message, details)
  }
}

/** A call was cancelled by its AbortSignal; `cause` is the signal's reason. */
export class AbortedError extends SshError {
  constructor(what: string, reason?: unknown) {
    super('ABORT_ERR', `${what} was cancelled`, { cause: reason })
  }
}

/** The peer broke the protocol; the connection ends with DISCONNECT 2. */
export class ProtocolError extends SshError {
  /** What the connection was doing, e.g. 'key exchange'. */
  readonly phase: string | undefined
  readonly messageName: string | undefined
  readonly field: string | undefined
  readonly offset: number | undefined

  constructor(
    message: string,
    details: ErrorDetails & {
      code?: string
      phase?: string
      messageName?: string
      field?: string
      offset?: number
    } = {},
  ) {
    super(
      details.code ?? 'ERR_SSH_PROTOCOL',
      details.phase === undefined ? message : `${message} (during ${details.phase})`,
      details,
    )
    this.phase = details.phase
    this.messageName = details.messageName
    this.field = details.field
    this.offset = details.offset
  }
}

/** A packet failed its MAC or tag: the peer or the network altered it; DISCONNECT 5. */
export class IntegrityError extends SshError {
  readonly sequence: number

  constructor(sequence: number) {
    super(
      'ERR_SSH_INTEGRITY',
      `packet ${sequence} failed its integrity check: it was altered on the way, or keys differ`,
    )
    this.sequence = sequence
  }
}

export type NegotiationCategory =
  | 'kex'
  | 'host key'
  | 'cipher client to server'
  | 'cipher server to client'
  | 'mac client to server'
  | 'mac server to client'
  | 'compression client to server'
  | 'compression server to client'
  | 'service'

/** Nothing in common with the peer; DISCONNECT 3. Carries both lists. */
export class NegotiationError extends SshError {
  readonly category: NegotiationCategory
  readonly ours: readonly string[]
  readonly theirs: readonly string[]

  constructor(category: NegotiationCategory, ours: readonly string[], theirs: readonly string[], hint = '') {
    super(
      'ERR_SSH_NEGOTIATION',
      `no common ${category} algorithm: we offer [${ours.join(', ')}], the peer offers [${safeText(theirs.join(', '))}]${hint}`,
    )
    this.category = category
    this.ours = ours
    this.theirs = theirs
  }
}

export type HostKeyProblem =
  | 'unknown'
  | 'changed'
  | 'revoked'
  | 'mismatch'
  | 'certificate'
  | 'signature'
  | 'no-policy'

/** The host key is not trusted, or its signature is wrong; no authentication was attempted; DISCONNECT 9. */
export class HostKeyError extends SshError {
  readonly problem: HostKeyProblem
  /** Algorithm name of the key shown, e.g. 'ssh-ed25519'. */
  readonly keyType: string | undefined
  /** The key blob the server showed (RFC 4253 s6.6). */
  readonly hostKey: Uint8Array | undefined
  /** 'SHA256:...' of the key shown. */
  readonly fingerprint: string | undefined

  constructor(
    problem: HostKeyProblem,
    message: string,
    details: ErrorDetails & { keyType?: string; hostKey?: Uint8Array; fingerprint?: string } = {},
  ) {
    super(`ERR_SSH_HOST_KEY_${problem.toUpperCase().replace('-', '_')}`, message, details)
    this.problem = problem
    this.keyType = details.keyType
    this.hostKey = details.hostKey
    this.fingerprint = details.fingerprint
  }
}

/** One authentication attempt and what became of it. */
export interface AuthAttempt {
  /** 'none', 'publickey', 'password', 'keyboard-interactive', ... */
  method: string
  /** Which key, agent or prompt: for people. */
  source: string
  /** Why it did not get us in. */
  reason: string
}

/** The server did not let us in, or we had nothing left to try; DISCONNECT 14. */
export class AuthError extends SshError {
  readonly attempts: readonly AuthAttempt[]
  /** Methods that the server says can continue. */
  readonly allowed: readonly string[]

  constructor(
    message: string,
    attempts: readonly AuthAttempt[],
    allowed: readonly string[],
    details: ErrorDetails & { code?: string } = {},
  ) {
    super(details.code ?? 'ERR_SSH_AUTH', message, details)
    this.attempts = attempts
    this.allowed = allowed
  }
}

/** The peer sent DISCONNECT (RFC 4253 s11.1). */
export class PeerDisconnected extends SshError {
  readonly reason: number
  /** The peer's text, raw. */
  readonly text: string

  constructor(reason: number, text: string) {
    super('ERR_SSH_DISCONNECTED', `the peer disconnected: reason ${reason}, ${quote(text)}`)
    this.reason = reason
    this.text = text
  }
}

/** The connection's I/O ended; `cause` is the socket's error, if any. */
export class ConnectionLost extends SshError {
  /** What the connection was doing. */
  readonly phase: string

  constructor(phase: string, what: string, details: ErrorDetails & { code?: string } = {}) {
    super(details.code ?? 'ERR_SSH_CONNECTION_LOST', `connection lost (during ${phase}): ${what}`, details)
    this.phase = phase
  }
}

/** A deadline of ours passed. */
export class TimeoutError extends SshError {
  readonly phase: string

  constructor(phase: string, timeoutMs: number) {
    super('ERR_SSH_TIMEOUT', `no answer within ${timeoutMs} ms (during ${phase})`)
    this.phase = phase
  }
}

/** The session or channel was closed by us while the call was pending, or before it. */
export class ClosedError extends SshError {
  constructor(what: string) {
    super('ERR_CLOSED', `${what} is closed`)
  }
}

/** The peer refused to open a channel (RFC 4254 s5.1). */
export class ChannelOpenError extends SshError {
  readonly reason: number

  constructor(channelType: string, reason: number, text: string) {
    super(
      'ERR_SSH_CHANNEL_OPEN',
      `the peer refused a ${quote(channelType)} channel: reason ${reason}, ${quote(text)}`,
    )
    this.reason = reason
  }
}

/** A channel ended while something was pending on it, or the peer refused a request on it. */
export class ChannelClosedError extends SshError {
  constructor(message: string, details: ErrorDetails & { code?: string } = {}) {
    super(details.code ?? 'ERR_SSH_CHANNEL_CLOSED', message, details)
  }
}

/** A key, certificate, signature or known_hosts text that cannot be used; says what was expected. */
export class KeyFormatError extends SshError {
  constructor(message: string, details: ErrorDetails & { code?: string } = {}) {
    super(details.code ?? 'ERR_SSH_KEY_FORMAT', message, details)
  }
}

/** The agent failed, refused, or broke its protocol. */
export class AgentError extends SshError {
  constructor(message: string, details: ErrorDetails & { code?: string } = {}) {
    super(details.code ?? 'ERR_SSH_AGENT', message, details)
  }
}
