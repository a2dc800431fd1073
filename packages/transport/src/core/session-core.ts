// One SSH connection without I/O: transport, authentication and connection layer put together.
// Routes what passed the phase gate to the layer it belongs to, moves the phase on, and ends everything when one of them
// fails. Events of all layers come out of `next()`; views in them are valid until the next call.

import type { ClientAuthEvent } from '../auth/client-auth.ts'
import { ClientAuth } from '../auth/client-auth.ts'
import type { AuthAnswer, ServerAuth, ServerAuthEvent } from '../auth/server-auth.ts'
import { AuthTriesError } from '../auth/server-auth.ts'
import type { Channel } from '../connection/channel.ts'
import type { MuxEvent, MuxOptions } from '../connection/mux.ts'
import { Mux } from '../connection/mux.ts'
import { ClosedError, SshError, TimeoutError } from '../errors.ts'
import * as number from '../messages/numbers.ts'
import { disconnectReason } from '../messages/numbers.ts'
import { ping, pong } from '../messages/transport.ts'
import type { Extensions } from './extension-info.ts'
import { readExtensions } from './extension-info.ts'
import type { TransportEvent, TransportOptions } from './transport-core.ts'
import { TransportCore } from './transport-core.ts'

/** Messages handled in one call of `next` without an event. */
const maxSilentMessages = 64

export interface SessionCoreOptions extends Omit<TransportOptions, 'wake'> {
  mux?: Omit<MuxOptions, 'role' | 'now'>
  /** Server role: makes the authentication half, bound to this connection. */
  serverAuth?: (core: SessionCore, onReady: (error?: unknown) => void) => ServerAuth
  /** Server role: what EXT_INFO tells the client after the first key exchange. */
  extensions?: ReadonlyMap<string, string>
  /**
   * Server role: authentication must be over this many milliseconds after the start. Client role: how long the server may
   * take over any one answer until then; the time that people take over questions does not count.
   */
  handshakeTimeoutMs?: number
  wake: () => void
}

export type SessionEvent =
  | Extract<TransportEvent, { type: 'host-key' | 'keys' | 'more' }>
  | ClientAuthEvent
  | ServerAuthEvent
  | MuxEvent
  /** The reply to `ping()`. */
  | { type: 'pong' }
  /** The connection is over; `channels` are those that were still there. */
  | { type: 'failed'; error: SshError; channels: readonly Channel[] }

export class SessionCore {
  readonly transport: TransportCore
  readonly mux: Mux
  readonly #options: SessionCoreOptions
  readonly #startedAt: number
  /** When the last event came, or the last question was answered. */
  #progressAt: number
  clientAuth: ClientAuth | undefined
  readonly serverAuth: ServerAuth | undefined
  #extensions: Extensions = new Map()
  #user: string | undefined
  #pingsSent: number[] = []
  #failed = false

  constructor(options: SessionCoreOptions) {
    this.#options = options
    this.#startedAt = options.now()
    this.#progressAt = this.#startedAt
    this.transport = new TransportCore(options)
    this.mux = new Mux(this.transport, { ...options.mux, role: options.role, now: options.now })
    this.serverAuth = options.serverAuth?.(this, (error) => {
      if (error !== undefined)
        this.fail(
          error instanceof SshError
            ? error
            : new SshError('ERR_SSH_INTERNAL', 'verifying a signature failed', { cause: error }),
        )
      options.wake()
    })
  }

  /** What the peer said in EXT_INFO. */
  get extensions(): Extensions {
    return this.#extensions
  }

  /** Who is authenticated. */
  get user(): string | undefined {
    return this.#user
  }

  get authenticated(): boolean {
    return this.transport.phase.layer === 'connection'
  }

  /** The next event, or undefined when more bytes, an answer or asynchronous work is needed. */
  next(): SessionEvent | undefined {
    for (let silent = 0; ; silent++) {
      if (this.#failed) return undefined
      const ready = this.serverAuth?.next() ?? this.mux.next()
      if (ready !== undefined) return ready
      if (this.serverAuth?.parked === true && this.transport.failure === undefined) return undefined
      if (silent >= maxSilentMessages) return { type: 'more' }
      const event = this.transport.next()
      if (event === undefined) return undefined
      if (!this.authenticated) this.#progressAt = this.#options.now()
      const found = this.#onTransport(event)
      if (found !== undefined) return found
    }
  }

  #onTransport(event: TransportEvent): SessionEvent | undefined {
    switch (event.type) {
      case 'failed':
        this.#failed = true
        return { type: 'failed', error: event.error, channels: this.mux.end(event.error) }
      case 'keys':
        if (event.first) this.#greet()
        else this.mux.refillAll()
        return event
      case 'host-key':
      case 'more':
        return event
      case 'message':
        try {
          return this.#onMessage(event.number, event.payload)
        } catch (error) {
          this.#failWith(error)
          return undefined
        }
    }
  }

  #failWith(error: unknown): void {
    if (error instanceof AuthTriesError)
      this.transport.disconnect(disconnectReason.noMoreAuthMethods, 'too many authentication failures', error)
    else this.transport.failTyped(error)
  }

  /** RFC 8308 s2.4: EXT_INFO is the first packet after the server's first NEWKEYS. */
  #greet(): void {
    const { extensions } = this.#options
    if (extensions === undefined || extensions.size === 0 || !this.transport.peerWantsExtInfo) return
    this.transport.sendExtensions(extensions)
  }

  #onMessage(type: number, payload: Uint8Array): SessionEvent | undefined {
    const { transport } = this
    const { phase } = transport
    if (type >= number.GLOBAL_REQUEST && type <= 127) return this.mux.receive(type, payload)
    switch (type) {
      case number.EXT_INFO:
        for (const [name, value] of readExtensions(payload)) this.#extensions.set(name, value)
        return undefined
      case number.SERVICE_REQUEST:
        this.serverAuth!.acceptService(payload)
        phase.layer = 'auth'
        return undefined
      case number.SERVICE_ACCEPT:
      case number.USERAUTH_FAILURE:
      case number.USERAUTH_SUCCESS:
      case number.USERAUTH_BANNER:
      case number.USERAUTH_METHOD_60: {
        if (this.clientAuth === undefined) throw transport.violation(type)
        const event = this.clientAuth.receive(type, payload)
        if (event.type === 'service-accepted') phase.layer = 'auth'
        if (event.type === 'auth-reply' && event.reply.type === 'success') {
          phase.layer = 'connection'
          this.#user = this.clientAuth.user
        }
        return event
      }
      case number.USERAUTH_REQUEST:
      case number.USERAUTH_INFO_RESPONSE:
        return this.serverAuth!.receive(type, payload)
      case number.PONG: {
        pong.decode(payload)
        const sentAt = this.#pingsSent.shift()
        if (sentAt === undefined) return undefined
        this.mux.measured(sentAt)
        return { type: 'pong' }
      }
      default:
        throw transport.violation(type)
    }
  }

  /** Client role: the half that sends authentication requests for `user`. */
  startAuth(user: string): ClientAuth {
    this.clientAuth ??= new ClientAuth(this.transport, user)
    return this.clientAuth
  }

  /** Server role: answers the open authentication request. */
  answerAuth(answer: AuthAnswer): void {
    if (this.transport.failure !== undefined || this.serverAuth === undefined) return
    try {
      const event = this.serverAuth.answer(answer)
      if (event?.type !== 'authenticated') return
      this.transport.phase.layer = 'connection'
      this.#user = event.user
      this.#authenticatedEvent = event
    } catch (error) {
      this.#failWith(error)
    }
  }

  #authenticatedEvent: ServerAuthEvent | undefined

  /** How the user got in; set by `answerAuth` with success. */
  get authentication(): Extract<ServerAuthEvent, { type: 'authenticated' }> | undefined {
    return this.#authenticatedEvent as Extract<ServerAuthEvent, { type: 'authenticated' }> | undefined
  }

  /** Sends ping@openssh.com (OpenSSH PROTOCOL 1.9); false where the peer did not announce it. */
  ping(): boolean {
    if (!this.authenticated || !this.#extensions.has('ping@openssh.com')) return false
    this.#pingsSent.push(this.#options.now())
    ping.encode(this.transport.begin(), { data: new Uint8Array(0) })
    this.transport.end()
    return true
  }

  /** Bytes for the duplex, or undefined; see TransportCore.take. */
  take(): Uint8Array | undefined {
    return this.transport.take()
  }

  /** Gives back what was taken, once sent: room for channels that wait. */
  release(taken: Uint8Array): void {
    this.transport.release(taken)
    this.mux.refillAll()
  }

  get deadline(): number | undefined {
    const handshake = this.#handshakeDeadline()
    const { deadline } = this.transport
    if (handshake === undefined) return deadline
    return deadline === undefined ? handshake : Math.min(handshake, deadline)
  }

  #handshakeDeadline(): number | undefined {
    const { handshakeTimeoutMs, role } = this.#options
    if (handshakeTimeoutMs === undefined || this.authenticated || this.transport.failure !== undefined)
      return undefined
    if (role === 'server') return this.#startedAt + handshakeTimeoutMs
    const waiting =
      this.transport.phase.layer === 'transport'
        ? !this.transport.asksHostKey
        : this.clientAuth?.waiting === true
    return waiting ? this.#progressAt + handshakeTimeoutMs : undefined
  }

  tick(now: number): void {
    const handshake = this.#handshakeDeadline()
    if (handshake !== undefined && now >= handshake)
      this.transport.fail(new TimeoutError(this.transport.phaseName, this.#options.handshakeTimeoutMs!))
    else this.transport.tick(now)
  }

  /** Ends the connection for a reason of ours. */
  fail(error: SshError): void {
    this.transport.fail(error)
  }

  /** Says goodbye (DISCONNECT 11, RFC 4253 s11.1). */
  goodbye(): void {
    this.transport.disconnect(disconnectReason.byApplication, '', new ClosedError('the session'))
  }

  /** The I/O ended. */
  ended(cause?: Error): void {
    this.transport.ended(cause)
  }
}
