// Serving one SSH connection over any ByteDuplex: handshake, authentication by policy, then a Session whose channels go to
// the application's handlers. Default deny: a client gets what ServerOptions enables and the login's permissions leave.
//
//     const connection = serveSsh(duplex, { crypto, hostKeys, auth: { authorizedKeys }, subsystems: { sftp } })
//     await connection.closed

import type { ServerAuthEvent } from '../auth/server-auth.ts'
import { ServerAuth } from '../auth/server-auth.ts'
import { normalizeAddress } from '../auth/source-address.ts'
import type { IncomingGlobalRequest } from '../connection/mux.ts'
import type { SessionEvent } from '../core/session-core.ts'
import { SessionCore } from '../core/session-core.ts'
import type { Clock } from '../crypto/provider.ts'
import { systemRandom } from '../crypto/random.ts'
import type { SshError } from '../errors.ts'
import { ClosedError } from '../errors.ts'
import { opensshFingerprint } from '../keys/fingerprint.ts'
import { peekKeyType } from '../keys/public-key.ts'
import { verifySignature } from '../keys/signature.ts'
import { preAuthMs } from '../limits.ts'
import { ourIdentification } from '../packet/identification.ts'
import { WireError } from '../wire/wire-error.ts'
import { ChannelOpens } from './channel-opens.ts'
import type { ByteDuplex } from './duplex.ts'
import { HostKeyProof, hostKeysProveRequest, hostKeysRequest } from './host-key-proof.ts'
import { LoginEngine } from './login-engine.ts'
import type { PreparedServer } from './prepared-server.ts'
import { prepareServer } from './prepared-server.ts'
import { readShownKey } from './public-key-admission.ts'
import { Pump } from './pump.ts'
import type { Login } from './server-auth-policy.ts'
import type { ServerContext, ServerEvent, ServerOptions } from './server-options.ts'
import { Session } from './session.ts'

/** Quiet clients are asked for a sign of life this often, in milliseconds. */
const keepaliveIntervalMs = 60_000

/**
 * Serves one client. Returns at once; nothing that the client does makes this throw.
 * @param remoteAddress the client's address, for `from=` and the like; without one no such restriction is met.
 * @throws UsageError for options that cannot work.
 */
export function serveSsh(
  duplex: ByteDuplex,
  options: ServerOptions,
  remoteAddress?: string,
): ServerConnection {
  return new ServerConnection(duplex, prepareServer(options), remoteAddress)
}

/** One client of a server. */
export class ServerConnection {
  /** The client's address, without IPv6's way of writing IPv4; undefined where there is none. */
  readonly remoteAddress: string | undefined
  /** Resolves when the connection is over, for whatever reason; `failure` says which. */
  readonly closed: Promise<void>
  readonly #prepared: PreparedServer
  readonly #core: SessionCore
  readonly #pump: Pump
  readonly #engine: LoginEngine
  readonly #hostKeyProof: HostKeyProof
  readonly #now: Clock
  #session: Session | undefined
  #context: ServerContext | undefined
  #opens: ChannelOpens | undefined
  #failure: SshError | undefined
  #bannerSent = false
  #isDraining = false
  #isOver = false
  #resolveClosed!: () => void

  /** Made by `serveSsh` and `listen`; not by applications. */
  constructor(duplex: ByteDuplex, prepared: PreparedServer, remoteAddress?: string) {
    const { options } = prepared
    this.#prepared = prepared
    this.#now = options.now ?? (() => performance.now())
    this.remoteAddress = remoteAddress === undefined ? undefined : normalizeAddress(remoteAddress)
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve
    })
    this.#hostKeyProof = new HostKeyProof(options.hostKeys)
    this.#engine = this.#makeEngine()
    this.#core = this.#makeCore()
    this.#pump = new Pump({
      core: this.#core,
      duplex,
      now: this.#now,
      onEvent: (event) => this.#onEvent(event),
      onDone: () => this.#onDone(),
    })
    this.#pump.start()
  }

  #makeEngine(): LoginEngine {
    const { options, order, algorithms } = this.#prepared
    return new LoginEngine({
      policy: options.auth,
      order,
      crypto: options.crypto,
      algorithms,
      address: this.remoteAddress,
      now: this.#now,
      wallClock: options.wallClock ?? (() => Date.now()),
      sleep: options.sleep ?? ((ms) => new Promise((resolve) => setTimeout(resolve, ms))),
      onAttempt: (attempt) => this.#emit({ type: 'login-attempt', ...attempt }),
      onFault: (error) => this.#emit({ type: 'fault', error }),
    })
  }

  #makeCore(): SessionCore {
    const { options, offer, extensions } = this.#prepared
    const { crypto, hostKeys, rekey, trace, window, maxPacketBytes, maxChannels, allowTerrapin } = options
    return new SessionCore({
      role: 'server',
      crypto,
      hostKeys,
      random: options.random ?? systemRandom,
      now: this.#now,
      identification: options.identification ?? ourIdentification,
      offer,
      extensions,
      handshakeTimeoutMs: options.handshakeTimeoutMs ?? preAuthMs,
      mux: {
        ...(window === undefined ? {} : { window }),
        ...(maxPacketBytes === undefined ? {} : { maxPacketBytes }),
        ...(maxChannels === undefined ? {} : { maxChannels }),
      },
      ...(rekey === undefined ? {} : { rekey }),
      ...(trace === undefined ? {} : { trace }),
      ...(allowTerrapin === undefined ? {} : { allowTerrapin }),
      serverAuth: (core, onReady) => this.#makeAuth(core, onReady),
      wake: () => this.#pump?.run(),
    })
  }

  #makeAuth(core: SessionCore, onReady: (error?: unknown) => void): ServerAuth {
    const { options, algorithms } = this.#prepared
    const { crypto, auth } = options
    return new ServerAuth(core.transport, {
      crypto,
      proof: () => core.transport.proof!,
      // Whether a touch is needed depends on the key's options: the engine looks at the flags once it knows these.
      verify: (algorithm, blob, data, signature) => {
        const shown = readShownKey(algorithm, blob, algorithms)
        if (shown === undefined) return false
        return verifySignature(crypto, shown.certificate ?? shown.publicKey, algorithm, data, signature, {
          requireUserPresence: false,
        })
      },
      methods: (passed) => this.#engine.advertised(passed),
      algorithms,
      onReady,
      ...(auth.maxTries === undefined ? {} : { maxTries: auth.maxTries }),
    })
  }

  // --- what applications ask ---

  /** The authenticated session; undefined before. */
  get session(): Session | undefined {
    return this.#session
  }

  /** Who is in; undefined before. */
  get login(): Login | undefined {
    return this.#context?.login
  }

  /** Why the connection is over; undefined while it lives. ClosedError where we closed it. */
  get failure(): SshError | undefined {
    return this.#failure
  }

  /** The client's identification line, raw; undefined before it came. */
  get clientIdentification(): string | undefined {
    return this.#core.transport.theirIdentification
  }

  /** Channels that are open. */
  get channelCount(): number {
    return this.#core.mux.channelCount
  }

  get bytesReceived(): number {
    return this.#core.transport.buffer.totalBytes
  }

  get bytesSent(): number {
    return this.#pump.bytesSent
  }

  // --- ends ---

  /** Says goodbye (DISCONNECT 11) and ends the connection; what channels wrote before goes out first. Idempotent. */
  close(): Promise<void> {
    this.#core.goodbye()
    this.#pump.run()
    return this.closed
  }

  /** Lets the channels that are open end by themselves, opens no more, then closes. A client that is not in yet is closed now. */
  drain(): Promise<void> {
    this.#isDraining = true
    if (this.#opens !== undefined) this.#opens.isDraining = true
    this.#closeWhenDrained()
    return this.closed
  }

  /** Ends the connection at once, without a word. */
  destroy(error: SshError = new ClosedError('the connection')): void {
    this.#core.transport.lost(error)
    this.#pump.run()
  }

  #closeWhenDrained(): void {
    if (this.#isDraining && this.#failure === undefined && this.channelCount === 0) void this.close()
  }

  // --- events ---

  #emit(event: ServerEvent): void {
    try {
      this.#prepared.options.onEvent?.(event, this)
    } catch (error) {
      // A listener that fails is no reason to let anybody in or out.
      this.#prepared.options.trace?.({
        level: 1,
        layer: 'connection',
        event: 'a listener threw',
        detail: { error: String(error) },
      })
    }
  }

  #onEvent(event: SessionEvent): void {
    switch (event.type) {
      case 'auth-request':
        void this.#decide(event)
        return
      case 'failed':
        this.#failure = event.error
        this.#engine.abandon()
        this.#deliver(event)
        return
      case 'channel-closed':
        this.#deliver(event)
        this.#closeWhenDrained()
        return
      default:
        this.#deliver(event)
    }
  }

  /** A handler's receiver that throws ends this connection, and nothing else. */
  #deliver(event: SessionEvent): void {
    try {
      this.#session?.handle(event)
    } catch (error) {
      // What the client wrote wrongly is its fault, not the application's.
      if (!(error instanceof WireError)) this.#emit({ type: 'fault', error })
      this.#core.transport.failTyped(error)
    }
  }

  #onDone(): void {
    this.#isOver = true
    this.#session?.over()
    this.#emit({ type: 'closed', failure: this.#failure ?? new ClosedError('the connection') })
    this.#resolveClosed()
  }

  async #decide({ request, passed }: Extract<ServerAuthEvent, { type: 'auth-request' }>): Promise<void> {
    this.#sendBanner()
    const answer = await this.#engine.decide(request, passed)
    if (this.#failure !== undefined) return
    this.#core.answerAuth(answer)
    if (this.#core.authenticated && this.#session === undefined) this.#begin()
    this.#pump.run()
  }

  #sendBanner(): void {
    const { banner } = this.#prepared.options
    if (this.#bannerSent || banner === undefined) return
    this.#bannerSent = true
    this.#core.serverAuth?.banner(banner)
  }

  #begin(): void {
    const { options } = this.#prepared
    const blob = this.#core.transport.proof!.hostKey
    const session = new Session({
      core: this.#core,
      pump: this.#pump,
      now: this.#now,
      hostKey: { type: peekKeyType(blob), blob, fingerprint: opensshFingerprint(options.crypto, blob) },
      handlers: {
        onChannelOpen: (incoming) => this.#opens?.handle(incoming),
        onGlobalRequest: (incoming) => this.#onGlobalRequest(incoming),
      },
      keepalive: { intervalMs: keepaliveIntervalMs, ...options.keepalive },
    })
    this.#session = session
    if (this.#isOver) session.over()
    const login = this.#engine.login!
    this.#context = { connection: this, session, login }
    this.#opens = new ChannelOpens({
      prepared: this.#prepared,
      context: this.#context,
      owner: this.#pump,
      emit: (event) => this.#emit(event),
    })
    this.#opens.isDraining = this.#isDraining
    this.#emit({ type: 'login', login })
    if (options.announceHostKeys === false) return
    const announcement = this.#hostKeyProof.announcement()
    if (announcement !== undefined) this.#core.mux.globalRequest(hostKeysRequest, announcement)
  }

  // --- global requests ---

  #onGlobalRequest(incoming: IncomingGlobalRequest): void {
    const { permissions } = this.#context!.login
    switch (incoming.request) {
      case hostKeysProveRequest:
        return this.#proveHostKeys(incoming)
      case 'no-more-sessions@openssh.com':
        this.#opens!.noMoreSessions = true
        return incoming.reply(true)
      case 'keepalive@openssh.com':
        // OpenSSH answers with failure, too: any answer is a sign of life.
        return incoming.reply(false)
      case 'tcpip-forward':
      case 'streamlocal-forward@openssh.com':
        if (!permissions.portForwarding || permissions.permitListen !== undefined)
          return incoming.reply(false)
        break
    }
    const { globalRequest } = this.#prepared.options
    if (globalRequest === undefined) return incoming.reply(false)
    const request = { name: incoming.request, payload: incoming.payload.slice() }
    void this.#answer(incoming, async () => globalRequest(request, this.#context!))
  }

  #proveHostKeys(incoming: IncomingGlobalRequest): void {
    const { proof, algorithms } = this.#core.transport
    const keys = this.#hostKeyProof.take(incoming.payload)
    if (keys === undefined) return incoming.reply(false)
    void this.#answer(incoming, () => this.#hostKeyProof.prove(keys, proof!.sessionId, algorithms!.hostKey))
  }

  async #answer(
    incoming: IncomingGlobalRequest,
    decide: () => Promise<boolean | Uint8Array | undefined>,
  ): Promise<void> {
    try {
      const answer = await decide()
      if (answer instanceof Uint8Array) incoming.reply(true, answer)
      else incoming.reply(answer === true)
    } catch (error) {
      this.#emit({ type: 'fault', error })
      incoming.reply(false)
    }
    this.#pump.schedule()
  }
}
