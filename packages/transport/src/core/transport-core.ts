// The transport layer (RFC 4253) without I/O: identification, packets, key exchange and rekeying, generic messages.
// Bytes go in through `buffer`, events come out of `next()`, bytes come out of `take()`, time comes in by `tick()`.
// Owns both directions' packet layers and the phase. What is asynchronous (WebCrypto, signatures, the verdict on a host
// key) parks the machine; `wake` says that it goes on. Layers above send through the PacketSink methods and never see keys.

import type { Clock, CryptoProvider, MaybePromise, RandomSource } from '../crypto/provider.ts'
import {
  ConnectionLost,
  HostKeyError,
  NegotiationError,
  PeerDisconnected,
  ProtocolError,
  SshError,
  TimeoutError,
} from '../errors.ts'
import type { AlgorithmOffer } from '../kex/algorithms.ts'
import { exchangeHash } from '../kex/exchange-hash.ts'
import { verifyHostKeySignature } from '../kex/host-key.ts'
import type { KeyMaterial } from '../kex/key-derivation.ts'
import { deriveDirectionKeys } from '../kex/key-derivation.ts'
import type { KexMethod } from '../kex/method.ts'
import { kexMethod } from '../kex/methods.ts'
import type { KexInit, Negotiated } from '../kex/negotiate.ts'
import { extInfoMarker, isTerrapinProne, negotiate, strictMarker } from '../kex/negotiate.ts'
import { opensshFingerprint } from '../keys/fingerprint.ts'
import type { Signer } from '../keys/signer.ts'
import * as limits from '../limits.ts'
import { kexInit, kexMethodInit, kexMethodReply, newKeys } from '../messages/kex.ts'
import * as number from '../messages/numbers.ts'
import { debug, disconnect, ignore, ping, pong, unimplemented } from '../messages/transport.ts'
import type { CipherSuite, Opener } from '../packet/cipher.ts'
import { IdentificationReader, identificationLine } from '../packet/identification.ts'
import { Inbound } from '../packet/inbound.ts'
import { Outbound } from '../packet/outbound.ts'
import type { PacketSink } from '../packet/packet-sink.ts'
import { plaintextSuite } from '../packet/plaintext.ts'
import { ReceiveBuffer } from '../packet/receive-buffer.ts'
import { cipherSuite } from '../packet/suites.ts'
import type { Trace } from '../trace.ts'
import { equalBytes } from '../wire/bytes.ts'
import { WireError } from '../wire/wire-error.ts'
import { Writer } from '../wire/writer.ts'
import { disconnectReasonFor } from './disconnect-reason.ts'
import { writeExtensions } from './extension-info.ts'
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
  /** `next()` or `take()` may have more, because asynchronous work ended. */
  wake: () => void
}

/** How the connection is protected, once the first key exchange ended. */
export interface AlgorithmsInUse {
  kex: string
  hostKey: string
  cipherClientToServer: string
  cipherServerToClient: string
  macClientToServer: string | undefined
  macServerToClient: string | undefined
  strict: boolean
}

/** The outcome of the first key exchange that later layers bind to. */
export interface ExchangeProof {
  sessionId: Uint8Array
  hostKey: Uint8Array
  /** The server's signature over the first exchange hash. */
  signature: Uint8Array
}

export type TransportEvent =
  /** Question: is this host key trusted? Parks until `trustHostKey()` or `fail()`. */
  | { type: 'host-key'; hostKey: Uint8Array; algorithm: string; fingerprint: string }
  /** New keys are in force in both directions. */
  | { type: 'keys'; first: boolean }
  /** A message for the layers above; a view valid until the next `next()`. */
  | { type: 'message'; number: number; payload: Uint8Array }
  /** Packets were handled that concern nobody; there may be more. Lets the caller look at the clock during a flood. */
  | { type: 'more' }
  /** The connection is over; nothing follows. */
  | { type: 'failed'; error: SshError }

interface Exchange {
  ourInit: KexInit
  ourInitPayload: Uint8Array
  /** Whether the peer spoke first. */
  byPeer: boolean
  startedAt: number
  theirInitPayload?: Uint8Array
  negotiated?: Negotiated
  method?: KexMethod
  clientHalf?: { publicValue: Uint8Array; finish(serverValue: Uint8Array): Uint8Array }
  inboundOpener?: Opener
}

export class TransportCore implements PacketSink {
  readonly buffer: ReceiveBuffer = new ReceiveBuffer()
  readonly phase: Phase
  readonly crypto: CryptoProvider
  readonly #options: TransportOptions
  readonly #inbound: Inbound
  readonly #outbound: Outbound
  readonly #identification: IdentificationReader
  readonly #rekey: RekeyLimits
  readonly #kexTimeoutMs: number
  #theirIdentification: string | undefined
  #exchange: Exchange | undefined
  #dropNextPacket = false
  #parked = false
  #events: TransportEvent[] = []
  #failure: SshError | undefined
  #queue: Uint8Array[] = []
  #queuedBytes = 0
  /** Messages queued while `handling` a message of the peer: those a peer could make us hold. */
  #queuedReplies = 0
  #handling = false
  #side: Writer | undefined
  #keyedAt = 0
  #emptyExchanges = 0
  /** Packets of the client before it was authenticated (server role). */
  #preAuthPackets = 0
  #algorithms: AlgorithmsInUse | undefined
  #proof: ExchangeProof | undefined
  #peerWantsExtInfo = false

  constructor(options: TransportOptions) {
    this.#options = options
    this.crypto = options.crypto
    this.#rekey = {
      bytes: limits.rekeyBytes,
      packets: limits.rekeyPackets,
      ms: limits.rekeyMs,
      ...options.rekey,
    }
    this.#kexTimeoutMs = options.kexTimeoutMs ?? 30_000
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
    this.#keyedAt = options.now()
    this.#outbound.raw(identificationLine(options.identification))
    // RFC 4253 s4.2: KEXINIT may follow the identification at once; it saves half a round trip.
    this.#startExchange(false)
  }

  // --- what others ask ---

  get theirIdentification(): string | undefined {
    return this.#theirIdentification
  }

  get algorithms(): AlgorithmsInUse | undefined {
    return this.#algorithms
  }

  /** What authentication signatures and agents bind to; there once the first exchange ended. */
  get proof(): ExchangeProof | undefined {
    return this.#proof
  }

  /** Whether the peer understands EXT_INFO (RFC 8308 s2.1). */
  get peerWantsExtInfo(): boolean {
    return this.#peerWantsExtInfo
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
          this.#options.trace?.({
            level: 1,
            layer: 'transport',
            event: 'identification',
            detail: { theirs: line },
          })
          continue
        }
        if (silent >= maxSilentPackets) return { type: 'more' }
        this.#rekeyWhenDue()
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
    if (this.#dropNextPacket) {
      this.#dropNextPacket = false
      if (type < 30 || type > 49) throw this.violation(type)
      return undefined
    }
    const decision = verdict(phase, type)
    if (type === number.EXT_INFO && decision === 'accept')
      phase.successMustFollow = phase.layer === 'auth' && !phase.firstAfterNewKeys
    else phase.successMustFollow = false
    phase.firstAfterNewKeys = false
    if (type > 49) this.#emptyExchanges = 0
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
        ignore.decode(payload)
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
        this.#onKexInit(payload)
        return undefined
      case number.KEX_INIT:
        this.#onKexMethodInit(payload)
        return undefined
      case number.KEX_REPLY:
        this.#onKexMethodReply(payload)
        return undefined
      case number.NEWKEYS:
        return this.#onNewKeys(payload)
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

  // --- key exchange (RFC 4253 s7) ---

  /** Starts a key exchange now; without effect while one is under way. */
  rekey(): void {
    if (this.phase.exchange === 'idle' && this.phase.layer !== 'transport' && this.#failure === undefined)
      this.#startExchange(false)
  }

  #rekeyWhenDue(): void {
    if (this.phase.exchange !== 'idle' || this.phase.layer !== 'connection') return
    const { bytes, packets } = this.#rekey
    const inbound = this.#inbound
    const outbound = this.#outbound
    if (
      inbound.bytesUnderKey >= bytes ||
      outbound.bytesUnderKey >= bytes ||
      inbound.packetsUnderKey >= packets ||
      outbound.packetsUnderKey >= packets
    ) {
      this.#startExchange(false)
    }
  }

  #startExchange(byPeer: boolean): void {
    const { role, offer, random, now } = this.#options
    const first = this.phase.layer === 'transport'
    const cookie = new Uint8Array(16)
    random(cookie)
    const ourInit: KexInit = {
      cookie,
      kexAlgorithms: first ? [...offer.kex, extInfoMarker[role], strictMarker[role]] : offer.kex,
      hostKeyAlgorithms: offer.hostKeys,
      ciphersClientToServer: offer.ciphers,
      ciphersServerToClient: offer.ciphers,
      macsClientToServer: offer.macs,
      macsServerToClient: offer.macs,
      compressionClientToServer: offer.compression,
      compressionServerToClient: offer.compression,
      languagesClientToServer: [],
      languagesServerToClient: [],
      firstKexPacketFollows: false,
      reserved: 0,
    }
    const ourInitPayload = kexInit.bytes(ourInit)
    this.#send(ourInitPayload)
    this.#exchange = { ourInit, ourInitPayload, byPeer, startedAt: now() }
    this.phase.exchange = 'kexinit'
    this.#inbound.singleFile = true
    this.#options.trace?.({ level: 2, layer: 'kex', event: 'started', detail: { byPeer } })
  }

  #onKexInit(payload: Uint8Array): void {
    if (payload.length > limits.maxKexInitBytes)
      throw new ProtocolError(`KEXINIT of ${payload.length} bytes, at most ${limits.maxKexInitBytes}`, {
        phase: this.phaseName,
      })
    const { role } = this.#options
    const theirs = kexInit.decode(payload)
    const first = this.phase.layer === 'transport'
    if (first) {
      const peer = role === 'client' ? 'server' : 'client'
      this.phase.strict = theirs.kexAlgorithms.includes(strictMarker[peer])
      this.#peerWantsExtInfo = theirs.kexAlgorithms.includes(extInfoMarker[peer])
      // OpenSSH PROTOCOL 1.10: with strict key exchange KEXINIT must be the first packet.
      if (this.phase.strict && this.#inbound.sequence !== 0) {
        throw new ProtocolError(
          `strict key exchange: KEXINIT came as packet ${this.#inbound.sequence}, expected 0`,
          { phase: this.phaseName },
        )
      }
    }
    if (this.phase.exchange === 'idle') {
      if (++this.#emptyExchanges > maxEmptyExchanges) {
        throw new ProtocolError(`${maxEmptyExchanges} key exchanges in a row with nothing between them`, {
          phase: 'rekeying',
        })
      }
      this.#startExchange(true)
    }
    const exchange = this.#exchange!
    const negotiated = negotiate(role, exchange.ourInit, theirs)
    const method = kexMethod(negotiated.kex)
    if (method === undefined)
      throw new SshError('ERR_SSH_INTERNAL', `negotiated an unknown method ${negotiated.kex}`)
    if (first) this.#refuseTerrapin(negotiated)
    exchange.theirInitPayload = payload.slice()
    exchange.negotiated = negotiated
    exchange.method = method
    this.#dropNextPacket = negotiated.dropGuess
    this.phase.exchange = 'method'
    if (role === 'client') {
      exchange.clientHalf = method.client(this.crypto, this.#options.random)
      this.#send(kexMethodInit.bytes({ clientValue: exchange.clientHalf.publicValue }))
    }
  }

  #refuseTerrapin(negotiated: Negotiated): void {
    if (this.phase.strict || this.#options.allowTerrapin === true) return
    for (const direction of [negotiated.clientToServer, negotiated.serverToClient]) {
      if (!isTerrapinProne(direction)) continue
      throw new TerrapinError(direction.mac ?? direction.cipher)
    }
  }

  #onKexMethodInit(payload: Uint8Array): void {
    const { crypto, random, hostKeys = [] } = this.#options
    const exchange = this.#exchange!
    const { clientValue } = kexMethodInit.decode(payload)
    const { negotiated, method } = exchange as Required<Exchange>
    if (method.server === undefined)
      throw new SshError('ERR_SSH_INTERNAL', `${method.name} has no server half`)
    const half = method.server(crypto, random, clientValue)
    const signer = hostKeys.find((key) => key.algorithms.includes(negotiated.hostKey))
    if (signer === undefined) throw new SshError('ERR_SSH_INTERNAL', `no host key for ${negotiated.hostKey}`)
    const hostKey = signer.publicKeyBlob
    const hash = this.#hash(
      exchange as Required<Exchange>,
      hostKey,
      clientValue.slice(),
      half.publicValue,
      half.encodedSecret,
    )
    this.#await(signer.sign(negotiated.hostKey, hash), (signature) => {
      this.#send(kexMethodReply.bytes({ hostKey, serverValue: half.publicValue, signature }))
      this.#proof ??= { sessionId: hash, hostKey, signature }
      this.#finishExchange(hash, half.encodedSecret)
    })
  }

  #onKexMethodReply(payload: Uint8Array): void {
    const exchange = this.#exchange as Required<Exchange>
    const reply = kexMethodReply.decode(payload)
    const hostKey = reply.hostKey.slice()
    const signature = reply.signature.slice()
    const serverValue = reply.serverValue.slice()
    // RFC 4253 s9 leaves a changed host key open; a changed one in mid-session has no honest use.
    if (this.#proof !== undefined && !equalBytes(this.#proof.hostKey, hostKey)) {
      throw new HostKeyError('changed', 'the server showed another host key in a later key exchange', {
        hostKey,
      })
    }
    const encodedSecret = exchange.clientHalf.finish(serverValue)
    const hash = this.#hash(exchange, hostKey, exchange.clientHalf.publicValue, serverValue, encodedSecret)
    const { hostKey: algorithm } = exchange.negotiated
    const first = this.#proof === undefined
    this.#await(verifyHostKeySignature(this.crypto, algorithm, hostKey, hash, signature), (valid) => {
      const shown = opensshFingerprint(this.crypto, hostKey)
      if (!valid) {
        throw new HostKeyError(
          'signature',
          `the server could not prove that it holds the host key ${shown}: its ${algorithm} signature is wrong`,
          {
            hostKey,
            keyType: algorithm,
            fingerprint: shown,
          },
        )
      }
      if (!first) return this.#finishExchange(hash, encodedSecret)
      this.#proof = { sessionId: hash, hostKey, signature }
      this.#parked = true
      this.#onTrusted = () => this.#finishExchange(hash, encodedSecret)
      this.#events.push({ type: 'host-key', hostKey, algorithm, fingerprint: shown })
    })
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

  #hash(
    exchange: Required<Exchange>,
    hostKey: Uint8Array,
    clientValue: Uint8Array,
    serverValue: Uint8Array,
    encodedSecret: Uint8Array,
  ): Uint8Array {
    const isClient = this.#options.role === 'client'
    const ours = this.#options.identification
    const theirs = this.#theirIdentification!
    return exchangeHash(this.crypto, exchange.method.hash, {
      clientIdentification: isClient ? ours : theirs,
      serverIdentification: isClient ? theirs : ours,
      clientKexInit: isClient ? exchange.ourInitPayload : exchange.theirInitPayload,
      serverKexInit: isClient ? exchange.theirInitPayload : exchange.ourInitPayload,
      hostKey,
      clientValue,
      serverValue,
      encodedSecret,
    })
  }

  /** Our part is done: NEWKEYS goes out, our keys are in force behind it, the peer's wait for its NEWKEYS. */
  #finishExchange(hash: Uint8Array, encodedSecret: Uint8Array): void {
    const exchange = this.#exchange as Required<Exchange>
    const { negotiated, method } = exchange
    const { crypto } = this
    const isClient = this.#options.role === 'client'
    const material: KeyMaterial = {
      hash: method.hash,
      encodedSecret,
      exchangeHash: hash,
      sessionId: this.#proof!.sessionId,
    }
    const make = (
      direction: 'client to server' | 'server to client',
    ): { suite: CipherSuite; keys: ReturnType<typeof deriveDirectionKeys> } => {
      const algorithms =
        direction === 'client to server' ? negotiated.clientToServer : negotiated.serverToClient
      const suite = cipherSuite(crypto, algorithms.cipher, algorithms.mac)
      return { suite, keys: deriveDirectionKeys(crypto, material, direction, suite) }
    }
    const outward = make(isClient ? 'client to server' : 'server to client')
    const inward = make(isClient ? 'server to client' : 'client to server')
    encodedSecret.fill(0)
    exchange.inboundOpener = inward.suite.opener(inward.keys)
    this.#send(newKeys.bytes({}))
    this.#outbound.activate(outward.suite.sealer(outward.keys), this.phase.strict)
    // Suites keep copies of their own, which destroy() wipes.
    for (const keys of [inward.keys, outward.keys])
      for (const part of [keys.iv, keys.key, keys.macKey]) part.fill(0)
    this.phase.exchange = 'newkeys'
    this.#algorithms = {
      kex: negotiated.kex,
      hostKey: negotiated.hostKey,
      cipherClientToServer: negotiated.clientToServer.cipher,
      cipherServerToClient: negotiated.serverToClient.cipher,
      macClientToServer: negotiated.clientToServer.mac,
      macServerToClient: negotiated.serverToClient.mac,
      strict: this.phase.strict,
    }
    this.#sendQueued()
  }

  #onNewKeys(payload: Uint8Array): TransportEvent {
    newKeys.decode(payload)
    const first = this.phase.layer === 'transport'
    this.#inbound.activate(this.#exchange!.inboundOpener!, this.phase.strict)
    this.#inbound.singleFile = false
    this.#exchange = undefined
    this.phase.exchange = 'idle'
    this.#keyedAt = this.#options.now()
    if (first) {
      this.phase.layer = 'service'
      this.phase.firstAfterNewKeys = true
    }
    this.#options.trace?.({
      level: first ? 1 : 2,
      layer: 'kex',
      event: 'new keys',
      detail: { kex: this.#algorithms!.kex, cipher: this.#algorithms!.cipherServerToClient },
    })
    return { type: 'keys', first }
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
    if (this.#failure === undefined) this.#guard(() => this.#rekeyWhenDue())
    return this.#outbound.take()
  }

  release(taken: Uint8Array): void {
    this.#outbound.outbox.release(taken)
  }

  // --- time and ends ---

  /** When `tick` wants to be called next, on the injected clock; undefined for never. */
  get deadline(): number | undefined {
    if (this.#failure !== undefined) return undefined
    if (this.#exchange !== undefined)
      return this.#onTrusted === undefined ? this.#exchange.startedAt + this.#kexTimeoutMs : undefined
    return this.phase.layer === 'connection' ? this.#keyedAt + this.#rekey.ms : undefined
  }

  tick(now: number): void {
    const { deadline } = this
    if (deadline === undefined || now < deadline) return
    if (this.#exchange === undefined) this.#startExchange(false)
    else this.fail(new TimeoutError(this.phaseName, this.#kexTimeoutMs))
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
    this.#exchange?.inboundOpener?.destroy()
  }

  /** For tests of the wrap-around (RFC 4253 s6.4). */
  setSequencesForTest(inbound: number, outbound: number): void {
    this.#inbound.setSequenceForTest(inbound)
    this.#outbound.setSequenceForTest(outbound)
  }
}

/** A peer that starts exchange after exchange with nothing between them only burns our time. */
const maxEmptyExchanges = 32
/** Packets handled in one call of `next` without an event. */
const maxSilentPackets = 64

/** What was negotiated is open to prefix truncation (CVE-2023-48795) because the peer lacks strict key exchange. */
export class TerrapinError extends NegotiationError {
  override readonly code: string = 'ERR_SSH_TERRAPIN'

  constructor(algorithm: string) {
    super(
      'kex',
      [strictMarker.client, strictMarker.server],
      [],
      `; without strict key exchange ${algorithm} is open to CVE-2023-48795 (allowTerrapin: true accepts that)`,
    )
  }
}
