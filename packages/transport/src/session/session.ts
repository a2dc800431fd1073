// An SSH session as applications use it, once it is authenticated: opens channels, answers what the peer asks, stays
// alive, and ends. One class for both roles: what a server does with channels the client opens is handed in.

import type { Channel, IncomingRequest } from '../connection/channel.ts'
import type { IncomingGlobalRequest, IncomingOpen } from '../connection/mux.ts'
import type { WindowLimits } from '../connection/window.ts'
import type { AlgorithmsInUse } from '../core/key-exchange.ts'
import type { SessionCore, SessionEvent } from '../core/session-core.ts'
import { AbortedError, ClosedError, ConnectionLost, quote, type SshError } from '../errors.ts'
import {
  directStreamlocalFields,
  directTcpipFields,
  envFields,
  execFields,
  signalFields,
  subsystemFields,
} from '../messages/connection.ts'
import { openFailure } from '../messages/numbers.ts'
import { encodeFields } from '../wire/codec.ts'
import type { AuthOutcome } from './authenticate.ts'
import type { EarlyChannels } from './early-channels.ts'
import type { Pump } from './pump.ts'
import { SessionChannel } from './session-channel.ts'

/** What is known about an authenticated session. */
export interface SessionInfo {
  /** The peer's identification line, raw, e.g. 'SSH-2.0-OpenSSH_9.2p1 Debian-2'. */
  peerIdentification: string
  algorithms: AlgorithmsInUse
  /** Ciphers in the order in which they are fast in this runtime, which is the order of the default offer, and why. */
  cipherOrder: { readonly names: readonly string[]; readonly reason: string }
  hostKey: { type: string; blob: Uint8Array; fingerprint: string }
  user: string
  /** How we got in (client role). */
  authentication: AuthOutcome | undefined
  /** Names the peer announced in EXT_INFO (RFC 8308). */
  extensions: readonly string[]
  /** Shortest round trip seen, in milliseconds. */
  roundTripMs: number | undefined
}

export interface KeepaliveOptions {
  /** Quiet time after which the peer is asked for a sign of life, in milliseconds; 0 for never. */
  intervalMs: number
  /** Unanswered questions after which the connection counts as lost. */
  maxMissed: number
}

/** What is done with things the peer starts; everything left out is refused. */
export interface SessionHandlers {
  onChannelOpen?: (incoming: IncomingOpen) => void
  onGlobalRequest?: (incoming: IncomingGlobalRequest) => void
}

export class Session {
  readonly #core: SessionCore
  readonly #pump: Pump
  readonly #now: () => number
  readonly #handlers: SessionHandlers
  readonly #hostKey: { type: string; blob: Uint8Array; fingerprint: string }
  readonly #outcome: AuthOutcome | undefined
  readonly #early: EarlyChannels | undefined
  readonly #channels = new Map<Channel, SessionChannel>()
  readonly #keepalive: KeepaliveOptions
  #keepaliveTimer: ReturnType<typeof setInterval> | undefined
  #heardBytes = 0
  #missed = 0
  #failure: SshError | undefined
  #closing = false
  #resolveClosed!: () => void
  /** Resolves when the connection is over, for whatever reason; `failure` says which. */
  readonly closed: Promise<void>

  /** Made by `connect` and by the server; not by applications. */
  constructor(parts: {
    core: SessionCore
    pump: Pump
    now: () => number
    hostKey: { type: string; blob: Uint8Array; fingerprint: string }
    outcome?: AuthOutcome
    handlers?: SessionHandlers
    keepalive?: Partial<KeepaliveOptions>
    /** Session channels that were asked for already. */
    early?: EarlyChannels
  }) {
    this.#core = parts.core
    this.#pump = parts.pump
    this.#now = parts.now
    this.#hostKey = parts.hostKey
    this.#outcome = parts.outcome
    this.#handlers = parts.handlers ?? {}
    this.#early = parts.early
    this.#keepalive = { intervalMs: 15_000, maxMissed: 3, ...parts.keepalive }
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve
    })
    this.#startKeepalive()
  }

  get info(): SessionInfo {
    const { transport, extensions, user, mux } = this.#core
    return {
      peerIdentification: transport.theirIdentification ?? '',
      algorithms: transport.algorithms!,
      cipherOrder: {
        names: transport.crypto.fastestCiphers,
        reason: transport.crypto.cipherOrderReason,
      },
      hostKey: this.#hostKey,
      user: user ?? '',
      authentication: this.#outcome,
      extensions: [...extensions.keys()],
      roundTripMs: mux.roundTripMs,
    }
  }

  /** Why the connection is over; undefined while it lives. ClosedError where we closed it. */
  get failure(): SshError | undefined {
    return this.#failure
  }

  // --- channels ---

  /**
   * Opens a session channel and starts a subsystem on it (RFC 4254 s6.5).
   * @throws ChannelOpenError, ChannelClosedError 'ERR_SSH_REQUEST_REFUSED' where the server has no such subsystem, AbortedError,
   *   or what ended the connection.
   */
  async openSubsystem(name: string, options: OpenChannelOptions = {}): Promise<SessionChannel> {
    const channel = await this.openSession(`subsystem ${quote(name)}`, options)
    return this.#start(channel, 'subsystem', encodeFields(subsystemFields, { subsystem: name }), options)
  }

  /** Opens a session channel and runs a command on it (RFC 4254 s6.5). The command is the remote shell's text, as is. */
  async exec(
    command: string,
    options: OpenChannelOptions & { env?: Readonly<Record<string, string>> } = {},
  ): Promise<SessionChannel> {
    const channel = await this.openSession(`command ${quote(command, 80)}`, options)
    for (const [name, value] of Object.entries(options.env ?? {}))
      channel.notify('env', encodeFields(envFields, { name, value }))
    return this.#start(channel, 'exec', encodeFields(execFields, { command }), options)
  }

  async #start(
    channel: SessionChannel,
    request: string,
    payload: Uint8Array,
    options: OpenChannelOptions,
  ): Promise<SessionChannel> {
    if (options.pipelined === true) {
      channel.request(request, payload).catch((error: Error) => channel.refused(error))
      return channel
    }
    try {
      await abortable(channel.request(request, payload), options.signal, channel.description)
      return channel
    } catch (error) {
      channel.close()
      throw error
    }
  }

  /** Opens a bare session channel (RFC 4254 s6.1). */
  openSession(description: string, options: OpenChannelOptions = {}): Promise<SessionChannel> {
    return this.openChannel('session', new Uint8Array(0), description, options)
  }

  /** Opens a stream to a TCP port as seen from the server (RFC 4254 s7.2); for jump hosts. */
  openDirectTcpip(host: string, port: number, options: OpenChannelOptions = {}): Promise<SessionChannel> {
    const payload = encodeFields(directTcpipFields, { host, port, originHost: '127.0.0.1', originPort: 0 })
    return this.openChannel('direct-tcpip', payload, `stream to ${host}:${port}`, options)
  }

  /** Opens a stream to a UNIX socket on the server (OpenSSH PROTOCOL 2.4). */
  openDirectStreamlocal(socketPath: string, options: OpenChannelOptions = {}): Promise<SessionChannel> {
    const payload = encodeFields(directStreamlocalFields, {
      socketPath,
      reserved: new Uint8Array(0),
      reservedPort: 0,
    })
    return this.openChannel('direct-streamlocal@openssh.com', payload, `stream to ${socketPath}`, options)
  }

  /** Opens a channel of any type. */
  openChannel(
    channelType: string,
    payload: Uint8Array,
    description: string,
    options: OpenChannelOptions = {},
  ): Promise<SessionChannel> {
    const opened = new Promise<SessionChannel>((resolve, reject) => {
      const settle = (result: Channel | Error): void => {
        if (result instanceof Error) return reject(result)
        // Somebody who gave up while the peer thought about it does not want the channel any more.
        if (options.signal?.aborted === true) result.close()
        resolve(this.adopt(result, description))
      }
      const { window } = options
      const wasAskedFor =
        channelType === 'session' && window === undefined && this.#early?.take(settle) === true
      if (!wasAskedFor)
        this.#core.mux.open(channelType, payload, settle, window === undefined ? {} : { window })
      this.#pump.schedule()
    })
    return abortable(opened, options.signal, description)
  }

  /** Wraps a channel of the core, so that its events are delivered. */
  adopt(channel: Channel, description: string): SessionChannel {
    return this.attach(channel, new SessionChannel(channel, this.#pump, description))
  }

  /** Delivers the events of a channel of the core to `wrapped`. */
  attach<T extends SessionChannel>(channel: Channel, wrapped: T): T {
    this.#channels.set(channel, wrapped)
    return wrapped
  }

  // --- requests and time ---

  /** Sends a global request (RFC 4254 s4); resolves to the reply's payload, or false where the peer refused. */
  globalRequest(request: string, payload: Uint8Array = new Uint8Array(0)): Promise<Uint8Array | false> {
    return new Promise((resolve, reject) => {
      this.#core.mux.globalRequest(request, payload, (answer) =>
        answer instanceof Error ? reject(answer) : resolve(answer),
      )
      this.#pump.schedule()
    })
  }

  /** Asks for a sign of life; resolves to the round trip in milliseconds. Any answer will do (OpenSSH keepalive@openssh.com). */
  async ping(): Promise<number> {
    const sentAt = this.#now()
    await this.globalRequest('keepalive@openssh.com')
    return this.#now() - sentAt
  }

  /** Exchanges new keys now. Traffic goes on. */
  rekey(): void {
    this.#core.transport.rekey()
    this.#pump.schedule()
  }

  /** Sends a signal to the command of a channel (RFC 4254 s6.9), e.g. 'TERM'. */
  signal(channel: SessionChannel, signal: string): void {
    channel.notify('signal', encodeFields(signalFields, { signal }))
  }

  #startKeepalive(): void {
    const { intervalMs } = this.#keepalive
    if (intervalMs <= 0) return
    this.#keepaliveTimer = setInterval(() => this.#lookAlive(), intervalMs)
    const handle: unknown = this.#keepaliveTimer
    if (
      typeof handle === 'object' &&
      handle !== null &&
      'unref' in handle &&
      typeof handle.unref === 'function'
    )
      handle.unref()
  }

  #lookAlive(): void {
    const heard = this.#core.transport.buffer.totalBytes
    if (heard !== this.#heardBytes) {
      this.#heardBytes = heard
      this.#missed = 0
      return
    }
    if (this.#missed >= this.#keepalive.maxMissed) {
      const quietMs = this.#keepalive.intervalMs * (this.#missed + 1)
      this.#core.transport.lost(
        new ConnectionLost(this.#core.transport.phaseName, `the peer was silent for ${quietMs} ms`, {
          code: 'ERR_SSH_KEEPALIVE',
        }),
      )
      this.#pump.run()
      return
    }
    this.#missed++
    this.#core.mux.globalRequest('keepalive@openssh.com', new Uint8Array(0), () => {})
    this.#pump.schedule()
  }

  // --- events ---

  /** Takes what the core reports; called by the pump's owner. */
  handle(event: SessionEvent): void {
    switch (event.type) {
      case 'channel-data':
        this.#channels.get(event.channel)?.deliverData(event.data)
        return
      case 'channel-extended-data':
        this.#channels.get(event.channel)?.deliverExtendedData(event.dataType, event.data)
        return
      case 'channel-writable':
        this.#channels.get(event.channel)?.deliverWritable()
        return
      case 'channel-eof':
        this.#channels.get(event.channel)?.deliverEof()
        return
      case 'channel-closed': {
        const channel = this.#channels.get(event.channel)
        this.#channels.delete(event.channel)
        channel?.deliverClosed()
        return
      }
      case 'channel-request':
        this.#onChannelRequest(event.channel, event.incoming)
        return
      case 'channel-open':
        if (this.#handlers.onChannelOpen !== undefined) this.#handlers.onChannelOpen(event.incoming)
        else event.incoming.refuse(openFailure.administrativelyProhibited, 'not allowed')
        return
      case 'global-request':
        if (this.#handlers.onGlobalRequest !== undefined) this.#handlers.onGlobalRequest(event.incoming)
        else event.incoming.reply(false)
        return
      case 'failed':
        this.#onFailed(event.error)
        return
    }
  }

  #onChannelRequest(channel: Channel, incoming: IncomingRequest): void {
    const wrapped = this.#channels.get(channel)
    if (wrapped === undefined) return incoming.reply(false)
    try {
      wrapped.deliverRequest(incoming)
    } catch (error) {
      this.#core.transport.failTyped(error)
    }
  }

  #onFailed(error: SshError): void {
    this.#failure = error
    if (this.#keepaliveTimer !== undefined) clearInterval(this.#keepaliveTimer)
    const channels = [...this.#channels.values()]
    this.#channels.clear()
    const cause = this.#closing ? new ClosedError('the session') : error
    for (const channel of channels) channel.deliverClosed(cause)
  }

  /** The duplex is closed and nothing more will happen; called by the pump's owner. */
  over(): void {
    this.#resolveClosed()
  }

  /** Says goodbye (DISCONNECT 11) and ends the connection; pending calls end with ClosedError. Idempotent. */
  async close(): Promise<void> {
    if (!this.#closing) {
      this.#closing = true
      this.#core.goodbye()
      this.#pump.run()
    }
    await this.closed
  }

  /** Ends the connection at once, without goodbye. */
  destroy(error: SshError = new ClosedError('the session')): void {
    this.#core.transport.lost(error)
    this.#pump.run()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

export interface OpenChannelOptions {
  signal?: AbortSignal
  /**
   * Gives out the channel of a subsystem or command as soon as it is asked for, one round trip earlier; what is written leaves
   * behind the request. Where the server refuses, the channel closes with the ChannelClosedError that would have been thrown.
   * OpenSSH's server gives a channel no window before it took the request, so that nothing can leave earlier there.
   */
  pipelined?: boolean
  /** Flow control of this channel; the session's where left out. */
  window?: Partial<WindowLimits>
}

/** Rejects when the signal fires; the work itself goes on and is cleaned up by its owner. */
function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined, what: string): Promise<T> {
  if (signal === undefined) return work
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(new AbortedError(what, signal.reason))
    if (signal.aborted) onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}
