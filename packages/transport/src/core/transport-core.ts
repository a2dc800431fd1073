// The transport layer (RFC 4253) without I/O: identification, packets, generic messages; key exchange is key-exchange.ts.
// Bytes go in through `buffer`, events come out of `next()`, bytes come out of `take()`, time comes in by `tick()`.
// Owns both directions' packet layers and the phase. What is asynchronous (WebCrypto, signatures, the verdict on a host
// key) parks the machine; `wake` says that it goes on. Layers above send through the PacketSink methods and never see keys.

import type { Clock, CryptoProvider, MaybePromise, RandomSource } from '../crypto/provider.ts'
import { ConnectionLost, PeerDisconnected, ProtocolError, SshError, TimeoutError } from '../errors.ts'
import type { AlgorithmOffer } from '../kex/algorithms.ts'
import type { KeyLog } from '../kex/key-log.ts'
import type { Signer } from '../keys/signer.ts'
import * as limits from '../limits.ts'
import * as number from '../messages/numbers.ts'
import { debug, disconnect, ping, pong, unimplemented } from '../messages/transport.ts'
import { IdentificationReader, identificationLine } from '../packet/identification.ts'
import { Inbound } from '../packet/inbound.ts'
import { Outbound } from '../packet/outbound.ts'
import type { PacketSink } from '../packet/packet-sink.ts'
import { plaintextSuite } from '../packet/plaintext.ts'
import { ReceiveBuffer } from '../packet/receive-buffer.ts'
import type { Trace } from '../trace.ts'
import { WireError } from '../wire/wire-error.ts'
import { Writer } from '../wire/writer.ts'
import { disconnectReasonFor } from './disconnect-reason.ts'
import { writeExtensions } from './extension-info.ts'
import type { AlgorithmsInUse, ExchangeProof, KeyExchangeOwner, ShownHostKey } from './key-exchange.ts'
import { KeyExchange } from './key-exchange.ts'
import type { Phase } from './phase.ts'
import { phaseName, verdict } from './phase.ts'

export interface RekeyLimits {
  /** Bytes in one direction under one key. */
  bytes: number
  packets: number
  ms: number
}

export interface TransportOptions {
  role: 'client' | 'server'
  crypto: CryptoProvider
  random: RandomSource
  now: Clock
  /** Our identification line without CR LF. */
  identification: string
  offer: AlgorithmOffer
  /** Server role: the keys that prove who we are. */
  hostKeys?: readonly Signer[]
  /** Allows ciphers open to CVE-2023-48795 with a peer that lacks strict key exchange. */
  allowTerrapin?: boolean
  rekey?: Partial<RekeyLimits>
  /** How long one key exchange may take, in milliseconds. */
  kexTimeoutMs?: number
  trace?: Trace
  /** Told the secret of each key exchange, for a key log; see kex/key-log.ts. */
  onKeyLog?: KeyLog
  /** `next()` or `take()` may have more, because asynchronous work ended. */
  wake: () => void
}

export type TransportEvent =
  /** Question: is this host key trusted? Parks until `trustHostKey()` or `fail()`. */
  | ({ type: 'host-key' } & ShownHostKey)
  /** New keys are in force in both directions. */
  | { type: 'keys'; first: boolean }
  /** A message for the layers above; a view valid until the next `next()`. */
  | { type: 'message'; number: number; payload: Uint8Array }
  /** Packets were handled that concern nobody; there may be more. Lets the caller look at the clock during a flood. */
  | { type: 'more' }
  /** The connection is over; nothing follows. */
  | { type: 'failed'; error: SshError }

export class TransportCore implements PacketSink {
  readonly buffer: ReceiveBuffer = new ReceiveBuffer()
  readonly phase: Phase
  readonly crypto: CryptoProvider
  readonly #options: TransportOptions
  readonly #inbound: Inbound
  readonly #outbound: Outbound
  readonly #identification: IdentificationReader
  readonly #keyExchange: KeyExchange
  #theirIdentification: string | undefined
  #parked = false
  #events: TransportEvent[] = []
  #failure: SshError | undefined
  #queue: Uint8Array[] = []
  #queuedBytes = 0
  /** Messages queued while `handling` a message of the peer: those a peer could make us hold. */
  #queuedReplies = 0
  #handling = false
  #side: Writer | undefined
  /** Packets of the client before it was authenticated (server role). */
  #preAuthPackets = 0

  constructor(options: TransportOptions) {
    this.#options = options
    this.crypto = options.crypto
    this.#identification = new IdentificationReader(options.role)
    const noKeys = { iv: new Uint8Array(0), key: new Uint8Array(0), macKey: new Uint8Array(0) }
    this.#inbound = new Inbound(this.buffer, plaintextSuite.opener(noKeys), options.wake)
    this.#outbound = new Outbound(plaintextSuite.sealer(noKeys), options.random, (error) => {
      if (error !== undefined) this.failTyped(error)
      options.wake()
    })
    this.phase = {
      role: options.role,
      layer: 'transport',
      exchange: 'idle',
      strict: false,
      firstAfterNewKeys: false,
      successMustFollow: false,
    }
    this.#keyExchange = new KeyExchange(options, this.#keyExchangeOwner())
    this.#outbound.raw(identificationLine(options.identification))
    // RFC 4253 s4.2: KEXINIT may follow the identification at once; it saves half a round trip. A server waits a moment
    // for the client's: what it says of strict key exchange decides what can be offered safely.
    if (options.role === 'client') this.#keyExchange.start()
  }

  #keyExchangeOwner(): KeyExchangeOwner {
    const core = this
    return {
      phase: this.phase,
      inbound: this.#inbound,
      outbound: this.#outbound,
      get theirIdentification() {
        return core.#theirIdentification ?? ''
      },
      send: (payload) => this.#send(payload),
      whenSettled: (result, then) => this.#await(result, then),
      askTrust: (shown, trusted) => {
        this.#parked = true
        this.#onTrusted = trusted
        this.#events.push({ type: 'host-key', ...shown })
      },
      unblocked: () => this.#sendQueued(),
    }
  }

  // --- what others ask ---

  get theirIdentification(): string | undefined {
    return this.#theirIdentification
  }

  get algorithms(): AlgorithmsInUse | undefined {
    return this.#keyExchange.algorithms
  }

  /** What authentication signatures and agents bind to; there once the first exchange ended. */
  get proof(): ExchangeProof | undefined {
    return this.#keyExchange.proof
  }

  /** Whether the peer understands EXT_INFO (RFC 8308 s2.1). */
  get peerWantsExtInfo(): boolean {
    return this.#keyExchange.peerWantsExtInfo
  }

  get failure(): SshError | undefined {
    return this.#failure
  }

  get phaseName(): string {
    return this.#theirIdentification === undefined ? 'identification' : phaseName(this.phase)
  }

  /** How many bytes at least must come before `next()` can give more. */
  get missing(): number {
    return this.#inbound.missing
  }

  /** The machine waits for an answer or for asynchronous work, not for bytes. */
  get busy(): boolean {
    return this.#parked || this.#inbound.busy
  }

  // --- events out ---

  /** The next event, or undefined when more bytes, an answer or asynchronous work is needed. */
  next(): TransportEvent | undefined {
    this.#handling = false
    for (let silent = 0; ; silent++) {
      const event = this.#events.shift()
      if (event !== undefined) return event
      if (this.#failure !== undefined || this.#parked) return undefined
      try {
        if (this.#theirIdentification === undefined) {
          const line = this.#identification.read(this.buffer)
          if (line === undefined) return undefined
          this.#theirIdentification = line
          this.#keyExchange.identified()
          this.#options.trace?.({
            level: 1,
            layer: 'transport',
            event: 'identification',
            detail: { theirs: line },
          })
          continue
        }
        if (silent >= maxSilentPackets) return { type: 'more' }
        this.#keyExchange.startWhenDue()
        const payload = this.#inbound.next()
        if (payload === undefined) return undefined
        if (this.phase.role === 'server' && this.phase.layer !== 'connection') this.#countPreAuth()
        const found = this.#receive(payload)
        if (found !== undefined) return found
      } catch (error) {
        this.fail(this.#typed(error))
      }
    }
  }

  /** Whatever its packets are, also those that the gate lets pass without a word, a stranger gets only so many. */
  #countPreAuth(): void {
    if (++this.#preAuthPackets > limits.preAuthPackets || this.buffer.totalBytes > limits.preAuthBytes) {
      throw new SshError('ERR_SSH_PRE_AUTH_LIMIT', 'the client sent too much before authentication')
    }
  }

  #receive(payload: Uint8Array): TransportEvent | undefined {
    const { phase } = this
    const type = payload[0]!
    this.#options.trace?.({
      level: 3,
      layer: 'transport',
      event: 'received',
      detail: { message: number.messageName(type), bytes: payload.length },
    })
    if (this.#keyExchange.takeDropped()) {
      if (type < 30 || type > 49) throw this.violation(type)
      return undefined
    }
    const decision = verdict(phase, type)
    if (type === number.EXT_INFO && decision === 'accept')
      phase.successMustFollow = phase.layer === 'auth' && !phase.firstAfterNewKeys
    else phase.successMustFollow = false
    phase.firstAfterNewKeys = false
    if (type > 49) this.#keyExchange.noteTraffic()
    switch (decision) {
      case 'violation':
        throw this.violation(type)
      case 'ignore':
        return undefined
      case 'unimplemented':
        this.#handling = true
        unimplemented.encode(this.begin(), { sequence: this.#inbound.sequence })
        this.end()
        return undefined
      case 'accept':
        break
    }
    switch (type) {
      case number.DISCONNECT: {
        const { reason, description } = disconnect.decode(payload)
        this.#end(new PeerDisconnected(reason, description))
        return undefined
      }
      case number.IGNORE:
        // RFC 4253 s11.2: ignored, whatever is in it; paramiko fills it without a length.
        return undefined
      case number.UNIMPLEMENTED:
        unimplemented.decode(payload)
        return undefined
      case number.DEBUG: {
        const { text } = debug.decode(payload)
        this.#options.trace?.({ level: 2, layer: 'transport', event: 'debug from peer', detail: { text } })
        return undefined
      }
      case number.KEXINIT:
        this.#keyExchange.onKexInit(payload)
        return undefined
      case number.KEX_INIT:
        this.#keyExchange.onMethodInit(payload)
        return undefined
      case number.KEX_REPLY:
        this.#keyExchange.onMethodReply(payload)
        return undefined
      case number.NEWKEYS:
        return { type: 'keys', first: this.#keyExchange.onNewKeys(payload) }
      case number.PING: {
        const { data } = ping.decode(payload)
        this.#handling = true
        pong.encode(this.begin(), { data })
        this.end()
        return undefined
      }
      default:
        this.#handling = true
        return { type: 'message', number: type, payload }
    }
  }

  /** The error for a message that is not allowed now. */
  violation(type: number): ProtocolError {
    return new ProtocolError(`${number.messageName(type)} is not allowed now`, {
      phase: this.phaseName,
      messageName: number.messageName(type),
    })
  }

  #typed(error: unknown): SshError {
    if (error instanceof WireError) {
      const details = { cause: error, phase: this.phaseName, offset: error.offset }
      return new ProtocolError(`malformed message: ${error.message}`, {
        ...details,
        ...(error.messageName === undefined ? {} : { messageName: error.messageName }),
        ...(error.field === undefined ? {} : { field: error.field }),
      })
    }
    if (error instanceof SshError) return error
    // Fail closed: an exception in a primitive ends the connection (libssh CVE-2023-6918 and its kind went on).
    return new SshError(
      'ERR_SSH_INTERNAL',
      `internal error during ${this.phaseName}: ${error instanceof Error ? error.message : String(error)}`,
      { cause: error },
    )
  }

  // --- questions and asynchronous work ---

  /** Starts a key exchange now; without effect while one is under way. */
  rekey(): void {
    if (this.phase.exchange === 'idle' && this.phase.layer !== 'transport' && this.#failure === undefined)
      this.#keyExchange.start()
  }

  #onTrusted: (() => void) | undefined

  /** Whether 'host-key' is waiting for its answer. */
  get asksHostKey(): boolean {
    return this.#onTrusted !== undefined
  }

  /** Answers 'host-key': the key is trusted. The other answer is `fail(HostKeyError)`. */
  trustHostKey(): void {
    const go = this.#onTrusted
    if (go === undefined || this.#failure !== undefined) return
    this.#onTrusted = undefined
    this.#parked = false
    this.#guard(go)
  }

  /** Goes on with the result of what may be asynchronous; parked until then. */
  #await<T>(result: MaybePromise<T>, then: (value: T) => void): void {
    if (!(result instanceof Promise)) {
      then(result)
      return
    }
    this.#parked = true
    result.then(
      (value) => {
        this.#parked = false
        if (this.#failure === undefined) this.#guard(() => then(value))
        this.#options.wake()
      },
      (error) => {
        this.#parked = false
        this.failTyped(error)
        this.#options.wake()
      },
    )
  }

  #guard(work: () => void): void {
    try {
      work()
    } catch (error) {
      this.fail(this.#typed(error))
    }
  }

  // --- messages out ---

  get blocked(): boolean {
    return this.phase.exchange === 'kexinit' || this.phase.exchange === 'method'
  }

  get pendingBytes(): number {
    return this.#outbound.pendingBytes
  }

  begin(room = 0): Writer {
    if (!this.blocked) return this.#outbound.begin(room)
    this.#side = new Writer(Math.max(64, room))
    return this.#side
  }

  end(): void {
    const side = this.#side
    if (side === undefined) {
      if (this.#failure === undefined) this.#outbound.end()
      else this.#outbound.outbox.dropPacket()
      return
    }
    this.#side = undefined
    // RFC 4253 s7.1: nothing but the exchange's messages between our KEXINIT and our NEWKEYS.
    this.#queue.push(side.copy())
    this.#queuedBytes += side.length
    if (
      this.#handling &&
      (++this.#queuedReplies > limits.maxQueuedPacketsInKex || this.#queuedBytes > limits.maxQueuedBytesInKex)
    ) {
      this.fail(
        new ProtocolError(
          `the peer caused more than ${limits.maxQueuedPacketsInKex} replies while keys are exchanged`,
          { phase: this.phaseName },
        ),
      )
    }
  }

  leaveOpen(finish: () => void): void {
    this.#outbound.leaveOpen(finish)
  }

  finishOpenPacket(): void {
    this.#outbound.finishOpenPacket()
  }

  /** Sends EXT_INFO (RFC 8308 s2.3). */
  sendExtensions(extensions: ReadonlyMap<string, string>): void {
    this.#send(writeExtensions(extensions))
  }

  #sendQueued(): void {
    const queue = this.#queue
    this.#queue = []
    this.#queuedBytes = 0
    this.#queuedReplies = 0
    for (const payload of queue) this.#send(payload)
  }

  /** Sends a payload whatever is under way: the exchange's own messages and DISCONNECT. */
  #send(payload: Uint8Array): void {
    this.#outbound.begin().raw(payload)
    this.#outbound.end()
  }

  /** The next bytes for the duplex, or undefined while there are none; give them back by `release`. */
  take(): Uint8Array | undefined {
    if (this.#failure === undefined) this.#guard(() => this.#keyExchange.startWhenDue())
    return this.#outbound.take()
  }

  release(taken: Uint8Array): void {
    this.#outbound.outbox.release(taken)
  }

  // --- time and ends ---

  /** When `tick` wants to be called next, on the injected clock; undefined for never. */
  get deadline(): number | undefined {
    if (this.#failure !== undefined) return undefined
    // However long people think about a host key, the exchange is not late.
    return this.#onTrusted === undefined ? this.#keyExchange.deadline : undefined
  }

  tick(now: number): void {
    const { deadline } = this
    if (deadline === undefined || now < deadline) return
    if (this.#keyExchange.underWay) this.fail(new TimeoutError(this.phaseName, this.#keyExchange.timeoutMs))
    else this.#keyExchange.start()
  }

  /** The I/O ended. */
  ended(cause?: Error): void {
    if (this.#failure !== undefined) return
    const what = cause === undefined ? 'the peer closed the connection' : cause.message
    this.#end(new ConnectionLost(this.phaseName, what, cause === undefined ? {} : { cause }))
  }

  /** Ends the connection for a reason of ours: DISCONNECT goes out, 'failed' comes from `next()`. First one wins. */
  fail(error: SshError): void {
    if (this.#failure !== undefined) return
    const { reason, text } = disconnectReasonFor(error)
    this.disconnect(reason, text, error)
  }

  /** Ends the connection without a word to the peer: it does not listen any more. */
  lost(error: SshError): void {
    this.#end(error)
  }

  /** Says DISCONNECT (RFC 4253 s11.1) and ends with `error`. */
  disconnect(reason: number, description: string, error: SshError): void {
    if (this.#failure !== undefined) return
    try {
      // The language tag: RFC 4253 s11.1 has it, though the declaration leaves it out for peers that do not.
      const writer = this.#outbound.begin()
      disconnect.encode(writer, { reason, description })
      writer.text('')
      this.#outbound.end()
    } catch {
      // A broken sealer cannot say goodbye.
    }
    this.#end(error)
  }

  /** `fail` for anything thrown: what is not typed becomes so. */
  failTyped(error: unknown): void {
    this.fail(this.#typed(error))
  }

  #end(error: SshError): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    this.#events = [{ type: 'failed', error }]
    this.#onTrusted = undefined
    this.#queue = []
    this.#side = undefined
    this.#options.trace?.({
      level: 1,
      layer: 'transport',
      event: 'ended',
      detail: { code: error.code, message: error.message },
    })
  }

  /** Wipes keys; after the last `take`. */
  destroy(): void {
    this.#inbound.destroy()
    this.#outbound.destroy()
    this.#keyExchange.destroy()
  }

  /** For tests of the wrap-around (RFC 4253 s6.4). */
  setSequencesForTest(inbound: number, outbound: number): void {
    this.#inbound.setSequenceForTest(inbound)
    this.#outbound.setSequenceForTest(outbound)
  }
}

/** Packets handled in one call of `next` without an event. */
const maxSilentPackets = 64
