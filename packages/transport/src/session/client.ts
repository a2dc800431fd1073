// Connecting as a client over any ByteDuplex: handshake, the question of trust, authentication, then a Session.
// Without a host key policy there is no connection, and no path reaches authentication before the verdict "trusted".

import type { AuthReply } from '../auth/client-auth.ts'
import type { WindowLimits } from '../connection/window.ts'
import { serverSignatureAlgorithms } from '../core/extension-info.ts'
import { TerrapinError } from '../core/key-exchange.ts'
import type { SessionEvent } from '../core/session-core.ts'
import { SessionCore } from '../core/session-core.ts'
import type { RekeyLimits } from '../core/transport-core.ts'
import type { Clock, CryptoProvider, RandomSource } from '../crypto/provider.ts'
import { systemRandom } from '../crypto/random.ts'
import {
  AbortedError,
  AuthError,
  ConnectionLost,
  HostKeyError,
  PeerDisconnected,
  type SshError,
  UsageError,
} from '../errors.ts'
import type { AlgorithmOffer } from '../kex/algorithms.ts'
import { resolveOffer, withoutTerrapinProne } from '../kex/algorithms.ts'
import type { KeyLog } from '../kex/key-log.ts'
import type { HostKeyPolicy } from '../keys/host-key-policy.ts'
import { hostKeyError, orderHostKeyAlgorithms, presentHostKey } from '../keys/host-key-policy.ts'
import { disconnectReason } from '../messages/numbers.ts'
import { ourIdentification } from '../packet/identification.ts'
import type { Trace } from '../trace.ts'
import type { AuthContext, AuthMethod, AuthOutcome } from './authenticate.ts'
import { authenticate } from './authenticate.ts'
import type { ByteDuplex } from './duplex.ts'
import { type EarlyChannelCount, EarlyChannels } from './early-channels.ts'
import { Pump } from './pump.ts'
import type { KeepaliveOptions } from './session.ts'
import { Session } from './session.ts'

/** Options of a client connection that do not depend on how bytes travel. */
export interface ClientOptions {
  /** The name the user typed: what known_hosts is asked for. */
  host: string
  port?: number
  username: string
  /** Whom we believe to be the server; see knownHostsPolicy, pinnedFingerprint and insecureAcceptAnyHostKey. */
  hostKeyPolicy: HostKeyPolicy
  /** Ways to get in, in the order to be tried. */
  auth: readonly AuthMethod[]
  /** Lists to offer instead of the defaults. */
  algorithms?: Partial<AlgorithmOffer>
  /** Accepts ciphers open to CVE-2023-48795 with servers that lack strict key exchange. */
  allowTerrapin?: boolean
  /** Refuses a server that lets us in without checking what we would have shown (CVE-2021-36367 and its kind). */
  rejectTrivialAuth?: boolean
  /** Refused attempts after which to stop; 6, the usual limit of servers, ends after 5. */
  maxAuthTries?: number
  /** How long the server may take for any one answer until authentication ends, in milliseconds. */
  handshakeTimeoutMs?: number
  rekey?: Partial<RekeyLimits>
  window?: Partial<WindowLimits>
  /** Largest channel packet we accept, in bytes of data. */
  maxPacketBytes?: number
  keepalive?: Partial<KeepaliveOptions>
  /**
   * Session channels that are asked for a round trip early, together with what should let us in, where the server is one that
   * bears that (OpenSSH). `openSubsystem`, `exec` and `openSession` take them first; what nobody takes stays open, unused, and
   * counts for the server's MaxSessions. Default 0.
   */
  earlyChannels?: EarlyChannelCount
  /** The server's banner text, raw. */
  onBanner?: (text: string) => void
  signal?: AbortSignal
  trace?: Trace
  /**
   * Told a line for a key log (Wireshark's ssh.keylog_file) with the secret of each key exchange, without line end. Whoever has the
   * lines and a recording of the connection reads all of it.
   */
  onKeyLog?: KeyLog
  crypto?: CryptoProvider
  random?: RandomSource
  now?: Clock
  /** Identification line to send instead of ours. */
  identification?: string
}

/** Opens the byte streams to the server; called again where a second connection with a narrower offer is needed. */
export type OpenDuplex = (signal: AbortSignal | undefined) => Promise<ByteDuplex>

/**
 * Connects, checks the host key, authenticates.
 * A server without strict key exchange that would get an attackable cipher is connected to once more without these.
 * @throws HostKeyError, AuthError, NegotiationError, ProtocolError, IntegrityError, ConnectionLost, PeerDisconnected,
 *   TimeoutError, AbortedError, UsageError.
 */
export async function connectOver(
  open: OpenDuplex,
  options: ClientOptions & { crypto: CryptoProvider },
): Promise<Session> {
  if (typeof options.hostKeyPolicy !== 'function') {
    throw new UsageError(
      'hostKeyPolicy: expected a policy (knownHostsPolicy, pinnedFingerprint, ...); without one there is no connection',
      {
        code: 'ERR_SSH_HOST_KEY_NO_POLICY',
      },
    )
  }
  if (options.username === '') throw new UsageError('username: expected a name, got an empty text')
  let offer = resolveOffer(options.crypto, 'client', options.algorithms)
  let earlyChannels = options.earlyChannels ?? 0
  let isTerrapinProof = false
  for (;;) {
    const connection = new ClientConnection(options, offer, earlyChannels)
    try {
      return await connection.connect(await open(options.signal))
    } catch (error) {
      let without: string
      if (error instanceof TerrapinError && !isTerrapinProof) {
        offer = withoutTerrapinProne(offer)
        if (offer.ciphers.length === 0) throw error
        isTerrapinProof = true
        without = 'algorithms that need strict key exchange'
      } else if (connection.bearsNoEarlyChannels) {
        earlyChannels = 0
        without = 'early channels'
      } else throw error
      options.trace?.({ level: 1, layer: 'kex', event: `connecting again without ${without}` })
    }
  }
}

class ClientConnection {
  readonly #options: ClientOptions & { crypto: CryptoProvider }
  readonly #core: SessionCore
  readonly #now: Clock
  readonly #early: EarlyChannels
  #pump!: Pump
  #session: Session | undefined
  #failure: SshError | undefined
  #onReply: { resolve: (reply: AuthReply) => void; reject: (error: Error) => void } | undefined
  #onReady!: { resolve: () => void; reject: (error: Error) => void }
  #hostKey: { type: string; blob: Uint8Array; fingerprint: string } | undefined
  #isOver = false
  #serviceAskedAt = 0
  /** The server hung up where one that bears no early channels would. */
  bearsNoEarlyChannels = false

  constructor(
    options: ClientOptions & { crypto: CryptoProvider },
    offer: AlgorithmOffer,
    earlyChannels: EarlyChannelCount,
  ) {
    this.#options = options
    this.#now = options.now ?? (() => performance.now())
    const { crypto, rekey, trace, onKeyLog, window, maxPacketBytes, allowTerrapin } = options
    this.#core = new SessionCore({
      role: 'client',
      crypto,
      random: options.random ?? systemRandom,
      now: this.#now,
      identification: options.identification ?? ourIdentification,
      offer: {
        ...offer,
        hostKeys: orderHostKeyAlgorithms(offer.hostKeys, options.hostKeyPolicy.preferredKeyTypes),
      },
      handshakeTimeoutMs: options.handshakeTimeoutMs ?? 30_000,
      mux: {
        ...(window === undefined ? {} : { window }),
        ...(maxPacketBytes === undefined ? {} : { maxPacketBytes }),
      },
      ...(rekey === undefined ? {} : { rekey }),
      ...(trace === undefined ? {} : { trace }),
      ...(onKeyLog === undefined ? {} : { onKeyLog }),
      ...(allowTerrapin === undefined ? {} : { allowTerrapin }),
      wake: () => this.#pump?.run(),
    })
    this.#early = new EarlyChannels(this.#core.mux, earlyChannels)
  }

  async connect(duplex: ByteDuplex): Promise<Session> {
    const { signal } = this.#options
    const ready = new Promise<void>((resolve, reject) => {
      this.#onReady = { resolve, reject }
    })
    this.#pump = new Pump({
      core: this.#core,
      duplex,
      now: this.#now,
      onEvent: (event) => this.#onEvent(event),
      onDone: () => {
        this.#isOver = true
        this.#session?.over()
      },
    })
    const what = `connecting to ${this.#options.host}`
    const onAbort = (): void => {
      this.#core.fail(new AbortedError(what, signal?.reason))
      this.#pump.run()
    }
    signal?.addEventListener('abort', onAbort, { once: true })
    try {
      this.#pump.start()
      if (signal?.aborted === true) onAbort()
      await ready
      const outcome = await this.#authenticate()
      if (this.#failure !== undefined) throw this.#failure
      return this.#begin(outcome)
    } catch (error) {
      // Whatever went wrong here also ends the connection, with the first error as its reason.
      this.#pump.held = false
      this.#core.transport.failTyped(error)
      this.#pump.run()
      throw this.#failure ?? error
    } finally {
      signal?.removeEventListener('abort', onAbort)
    }
  }

  #begin(outcome: AuthOutcome): Session {
    const { keepalive } = this.#options
    const session = new Session({
      core: this.#core,
      pump: this.#pump,
      now: this.#now,
      hostKey: this.#hostKey!,
      outcome,
      early: this.#early,
      ...(keepalive === undefined ? {} : { keepalive }),
    })
    this.#session = session
    if (this.#isOver) session.over()
    this.#pump.held = false
    this.#pump.run()
    return session
  }

  #onEvent(event: SessionEvent): void {
    switch (event.type) {
      case 'host-key':
        void this.#checkHostKey(event)
        return
      case 'keys':
        if (event.first) this.#onReady.resolve()
        return
      case 'auth-reply': {
        const waiting = this.#onReply
        this.#onReply = undefined
        // Not before the answer: what was asked for early is legal from success on, and unheard after everything else.
        if (event.reply.type === 'success') this.#early.confirm()
        else this.#early.withdraw()
        // What follows success belongs to the session, which is made in a later turn.
        if (event.reply.type === 'success') this.#pump.held = true
        waiting?.resolve(event.reply)
        return
      }
      case 'service-accepted':
        // Asked for with the first request, and answered without thinking about it.
        this.#core.mux.measured(this.#serviceAskedAt)
        return
      case 'banner':
        this.#options.onBanner?.(event.text)
        return
      case 'failed':
        this.#failure = event.error
        this.bearsNoEarlyChannels = this.#early.inDoubt && isHangingUp(event.error)
        this.#onReady.reject(event.error)
        this.#onReply?.reject(event.error)
        this.#session?.handle(event)
        return
      default:
        this.#session?.handle(event)
    }
  }

  async #checkHostKey(event: Extract<SessionEvent, { type: 'host-key' }>): Promise<void> {
    const { host, port = 22, crypto, hostKeyPolicy } = this.#options
    const transport = this.#core.transport
    this.#core.mux.measuredMs(event.answerMs)
    try {
      const presented = presentHostKey(crypto, {
        host,
        port,
        algorithm: event.algorithm,
        keyBlob: event.hostKey,
      })
      this.#hostKey = {
        type: presented.certificate?.type ?? presented.publicKey.type,
        blob: event.hostKey,
        fingerprint: presented.fingerprint,
      }
      const verdict = await hostKeyPolicy(presented)
      if (verdict === 'trusted') transport.trustHostKey()
      else if (typeof verdict === 'object' && verdict !== null)
        transport.fail(hostKeyError(presented, verdict))
      else
        transport.fail(
          new HostKeyError(
            'no-policy',
            `the host key policy must answer 'trusted' or a problem, not ${String(verdict)}`,
          ),
        )
    } catch (error) {
      transport.failTyped(error)
    }
    this.#pump.run()
  }

  async #authenticate(): Promise<AuthOutcome> {
    const { username, auth: methods, maxAuthTries, rejectTrivialAuth } = this.#options
    const core = this.#core
    const auth = core.startAuth(username)
    const ask: AuthContext['ask'] = (send, { mayBeLast = false } = {}) =>
      new Promise((resolve, reject) => {
        if (this.#failure !== undefined) return reject(this.#failure)
        this.#onReply = { resolve, reject }
        try {
          send()
          if (this.#serviceAskedAt === 0) this.#serviceAskedAt = this.#now()
          if (mayBeLast) this.#early.ask(core.transport.theirIdentification)
        } catch (error) {
          this.#onReply = undefined
          return reject(error)
        }
        this.#pump.schedule()
      })
    const outcome = await authenticate({
      auth,
      proof: core.transport.proof!,
      ask,
      hasFailed: () => core.transport.failure !== undefined,
      signatureAlgorithms: serverSignatureAlgorithms(core.extensions),
      hostBound: core.extensions.has('publickey-hostbound@openssh.com'),
      methods,
      ...(maxAuthTries === undefined ? {} : { maxTries: maxAuthTries }),
    })
    if (rejectTrivialAuth === true && !outcome.proved && methods.some((method) => method.type !== 'none')) {
      throw new AuthError('the server let us in without checking anything (rejectTrivialAuth)', [], [], {
        code: 'ERR_SSH_AUTH_TRIVIAL',
      })
    }
    return outcome
  }
}

/** Whether the server ended the connection of its own accord, and not because it was asked to let us in too often. */
function isHangingUp(error: SshError): boolean {
  if (error instanceof PeerDisconnected) {
    const { reason, text } = error
    return reason !== disconnectReason.noMoreAuthMethods && !/authentication failures/i.test(text)
  }
  return error instanceof ConnectionLost
}
