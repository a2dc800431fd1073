// Key exchange and rekeying (RFC 4253 s7, s8, s9), without I/O: one exchange after the other on one connection.
// Owns the exchange in progress, the outcome of the first (session id, host key) and the counters that make the next one due.
// Keys are prepared here and activated at one line a direction: ours behind our NEWKEYS, the peer's behind its own. What is
// asynchronous (signatures) and the question of trust are handed to the owner, which parks the machine.

import type { CryptoProvider, MaybePromise } from '../crypto/provider.ts'
import { HostKeyError, NegotiationError, ProtocolError, SshError } from '../errors.ts'
import type { AlgorithmOffer } from '../kex/algorithms.ts'
import { withoutTerrapinProne } from '../kex/algorithms.ts'
import { exchangeHash } from '../kex/exchange-hash.ts'
import { verifyHostKeySignature } from '../kex/host-key.ts'
import type { KeyMaterial } from '../kex/key-derivation.ts'
import { deriveDirectionKeys } from '../kex/key-derivation.ts'
import { keyLogLine } from '../kex/key-log.ts'
import type { KexClient, KexMethod } from '../kex/method.ts'
import { kexMethod } from '../kex/methods.ts'
import type { KexInit, Negotiated } from '../kex/negotiate.ts'
import { extInfoMarker, isTerrapinProne, negotiate, strictMarker } from '../kex/negotiate.ts'
import { opensshFingerprint } from '../keys/fingerprint.ts'
import * as limits from '../limits.ts'
import { kexInit, kexMethodInit, kexMethodReply, newKeys } from '../messages/kex.ts'
import type { CipherSuite, Opener } from '../packet/cipher.ts'
import type { Inbound } from '../packet/inbound.ts'
import type { Outbound } from '../packet/outbound.ts'
import { cipherSuite } from '../packet/suites.ts'
import { equalBytes } from '../wire/bytes.ts'
import type { Phase } from './phase.ts'
import { phaseName } from './phase.ts'
import type { RekeyLimits, TransportOptions } from './transport-core.ts'

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

interface Exchange {
  ourInit: KexInit
  ourInitPayload: Uint8Array
  /** Whether the peer spoke first. */
  byPeer: boolean
  startedAt: number
  theirInitPayload?: Uint8Array
  negotiated?: Negotiated
  method?: KexMethod
  clientHalf?: KexClient
  /** When our half left, and how long the server took to answer it. */
  askedAt?: number
  answerMs?: number
  inboundOpener?: Opener
}

/** A host key shown and proved, to be trusted or not. */
export interface ShownHostKey {
  hostKey: Uint8Array
  algorithm: string
  fingerprint: string
  /** How long the server took to answer our half of the exchange, in milliseconds: a round trip, and its own work. */
  answerMs: number
}

/** What key exchange needs of the transport it serves. */
export interface KeyExchangeOwner {
  readonly phase: Phase
  readonly inbound: Inbound
  readonly outbound: Outbound
  readonly theirIdentification: string
  /** Sends a payload whatever is under way. */
  send(payload: Uint8Array): void
  /** Goes on with a result that may be asynchronous; nothing else is handled until then. */
  whenSettled<T>(result: MaybePromise<T>, then: (value: T) => void): void
  /** Asks whether the host key is trusted; nothing else is handled until `trusted` is called. */
  askTrust(shown: ShownHostKey, trusted: () => void): void
  /** Our new keys are in force: what waited for them may go. */
  unblocked(): void
}

export class KeyExchange {
  readonly #options: TransportOptions
  readonly #owner: KeyExchangeOwner
  readonly #limits: RekeyLimits
  readonly #timeoutMs: number
  #exchange: Exchange | undefined
  #dropNextPacket = false
  #keyedAt: number
  #emptyExchanges = 0
  #algorithms: AlgorithmsInUse | undefined
  #proof: ExchangeProof | undefined
  #peerWantsExtInfo = false
  /** Server role: when our first KEXINIT goes out although the client's has not come. */
  #startAt: number | undefined
  #offer: AlgorithmOffer

  constructor(options: TransportOptions, owner: KeyExchangeOwner) {
    this.#options = options
    this.#owner = owner
    this.#limits = {
      bytes: limits.rekeyBytes,
      packets: limits.rekeyPackets,
      ms: limits.rekeyMs,
      ...options.rekey,
    }
    this.#timeoutMs = options.kexTimeoutMs ?? 30_000
    this.#keyedAt = options.now()
    this.#offer = options.offer
  }

  get algorithms(): AlgorithmsInUse | undefined {
    return this.#algorithms
  }

  get proof(): ExchangeProof | undefined {
    return this.#proof
  }

  get peerWantsExtInfo(): boolean {
    return this.#peerWantsExtInfo
  }

  get timeoutMs(): number {
    return this.#timeoutMs
  }

  get underWay(): boolean {
    return this.#exchange !== undefined
  }

  /** When the exchange in progress has taken too long, or the next one is due by time; undefined for never. */
  get deadline(): number | undefined {
    if (this.#exchange !== undefined) return this.#exchange.startedAt + this.#timeoutMs
    if (this.#owner.phase.layer === 'transport') return this.#startAt
    return this.#owner.phase.layer === 'connection' ? this.#keyedAt + this.#limits.ms : undefined
  }

  /**
   * The peer's identification came. Clients send KEXINIT with or right behind it; those that wait for the server's first
   * get ours after a moment.
   */
  identified(): void {
    if (this.#options.role !== 'server') return
    if (waitsForServer.test(this.#owner.theirIdentification)) this.start()
    else this.#startAt = this.#options.now() + patienceMs
  }

  /** Whether the packet at hand is the peer's wrong guess (RFC 4253 s7), asked once a packet. */
  takeDropped(): boolean {
    const dropped = this.#dropNextPacket
    this.#dropNextPacket = false
    return dropped
  }

  /** A message that belongs to no exchange came: the next exchange has a reason. */
  noteTraffic(): void {
    this.#emptyExchanges = 0
  }

  get #phaseName(): string {
    return phaseName(this.#owner.phase)
  }

  get #crypto(): CryptoProvider {
    return this.#options.crypto
  }

  /** Starts an exchange where bytes or packets under one key make it due. */
  startWhenDue(): void {
    const { phase, inbound, outbound } = this.#owner
    if (phase.exchange !== 'idle' || phase.layer !== 'connection') return
    const { bytes, packets } = this.#limits
    if (
      inbound.bytesUnderKey >= bytes ||
      outbound.bytesUnderKey >= bytes ||
      inbound.packetsUnderKey >= packets ||
      outbound.packetsUnderKey >= packets
    ) {
      this.start()
    }
  }

  /** Sends our KEXINIT. */
  start(byPeer = false): void {
    const { role, random, now } = this.#options
    const offer = this.#offer
    const first = this.#owner.phase.layer === 'transport'
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
    this.#owner.send(ourInitPayload)
    this.#exchange = { ourInit, ourInitPayload, byPeer, startedAt: now() }
    this.#owner.phase.exchange = 'kexinit'
    this.#owner.inbound.singleFile = true
    this.#options.trace?.({ level: 2, layer: 'kex', event: 'started', detail: { byPeer } })
  }

  onKexInit(payload: Uint8Array): void {
    if (payload.length > limits.maxKexInitBytes)
      throw new ProtocolError(`KEXINIT of ${payload.length} bytes, at most ${limits.maxKexInitBytes}`, {
        phase: this.#phaseName,
      })
    const { role } = this.#options
    const theirs = kexInit.decode(payload)
    const first = this.#owner.phase.layer === 'transport'
    if (first) {
      const peer = role === 'client' ? 'server' : 'client'
      this.#owner.phase.strict = theirs.kexAlgorithms.includes(strictMarker[peer])
      if (
        !this.#owner.phase.strict &&
        this.#owner.phase.exchange === 'idle' &&
        this.#options.allowTerrapin !== true
      ) {
        this.#offer = withoutTerrapinProne(this.#options.offer)
      }
      this.#peerWantsExtInfo = theirs.kexAlgorithms.includes(extInfoMarker[peer])
      // OpenSSH PROTOCOL 1.10: with strict key exchange KEXINIT must be the first packet.
      if (this.#owner.phase.strict && this.#owner.inbound.sequence !== 0) {
        throw new ProtocolError(
          `strict key exchange: KEXINIT came as packet ${this.#owner.inbound.sequence}, expected 0`,
          { phase: this.#phaseName },
        )
      }
    }
    if (this.#owner.phase.exchange === 'idle') {
      if (++this.#emptyExchanges > maxEmptyExchanges) {
        throw new ProtocolError(`${maxEmptyExchanges} key exchanges in a row with nothing between them`, {
          phase: 'rekeying',
        })
      }
      this.start(true)
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
    this.#owner.phase.exchange = 'method'
    const { clientToServer, serverToClient } = negotiated
    const preparing = [clientToServer, serverToClient].flatMap(
      ({ cipher }) => this.#crypto.prepareCipher?.(cipher) ?? [],
    )
    const prepared = preparing.length === 0 ? undefined : Promise.all(preparing)
    this.#owner.whenSettled(prepared, () => this.#sendMethodInit(exchange, method))
  }

  #sendMethodInit(exchange: Exchange, method: KexMethod): void {
    if (this.#options.role === 'client') {
      this.#owner.whenSettled(method.client(this.#crypto, this.#options.random), (half) => {
        exchange.clientHalf = half
        this.#owner.send(kexMethodInit.bytes({ clientValue: half.publicValue }))
        exchange.askedAt = this.#options.now()
      })
    }
  }

  #refuseTerrapin(negotiated: Negotiated): void {
    if (this.#owner.phase.strict || this.#options.allowTerrapin === true) return
    for (const direction of [negotiated.clientToServer, negotiated.serverToClient]) {
      if (!isTerrapinProne(direction)) continue
      throw new TerrapinError(direction.mac ?? direction.cipher)
    }
  }

  onMethodInit(payload: Uint8Array): void {
    const { crypto, random, hostKeys = [] } = this.#options
    const exchange = this.#exchange!
    const clientValue = kexMethodInit.decode(payload).clientValue.slice()
    const { negotiated, method } = exchange as Required<Exchange>
    if (method.server === undefined)
      throw new SshError('ERR_SSH_INTERNAL', `${method.name} has no server half`)
    const signer = hostKeys.find((key) => key.algorithms.includes(negotiated.hostKey))
    if (signer === undefined) throw new SshError('ERR_SSH_INTERNAL', `no host key for ${negotiated.hostKey}`)
    const hostKey = signer.publicKeyBlob
    this.#owner.whenSettled(
      method.server(crypto, random, clientValue),
      ({ publicValue: serverValue, encodedSecret }) => {
        const hash = this.#hash(
          exchange as Required<Exchange>,
          hostKey,
          clientValue,
          serverValue,
          encodedSecret,
        )
        this.#owner.whenSettled(signer.sign(negotiated.hostKey, hash), (signature) => {
          this.#owner.send(kexMethodReply.bytes({ hostKey, serverValue, signature }))
          this.#proof ??= { sessionId: hash, hostKey, signature }
          this.#finish(hash, encodedSecret)
        })
      },
    )
  }

  onMethodReply(payload: Uint8Array): void {
    const exchange = this.#exchange as Required<Exchange>
    exchange.answerMs = this.#options.now() - exchange.askedAt
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
    this.#owner.whenSettled(exchange.clientHalf.finish(serverValue), (encodedSecret) =>
      this.#checkReply(exchange, hostKey, signature, serverValue, encodedSecret),
    )
  }

  /** Whether the server signed this exchange, and is trusted; then our part is done. */
  #checkReply(
    exchange: Required<Exchange>,
    hostKey: Uint8Array,
    signature: Uint8Array,
    serverValue: Uint8Array,
    encodedSecret: Uint8Array,
  ): void {
    const hash = this.#hash(exchange, hostKey, exchange.clientHalf.publicValue, serverValue, encodedSecret)
    const { hostKey: algorithm } = exchange.negotiated
    const first = this.#proof === undefined
    this.#owner.whenSettled(
      verifyHostKeySignature(this.#crypto, algorithm, hostKey, hash, signature),
      (valid) => {
        const shown = opensshFingerprint(this.#crypto, hostKey)
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
        if (!first) return this.#finish(hash, encodedSecret)
        this.#proof = { sessionId: hash, hostKey, signature }
        this.#owner.askTrust({ hostKey, algorithm, fingerprint: shown, answerMs: exchange.answerMs }, () =>
          this.#finish(hash, encodedSecret),
        )
      },
    )
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
    const theirs = this.#owner.theirIdentification
    return exchangeHash(this.#crypto, exchange.method.hash, {
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
  #finish(hash: Uint8Array, encodedSecret: Uint8Array): void {
    const exchange = this.#exchange as Required<Exchange>
    const { negotiated, method } = exchange
    const crypto = this.#crypto
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
    this.#options.onKeyLog?.(keyLogLine(exchange.ourInit.cookie, encodedSecret))
    encodedSecret.fill(0)
    exchange.inboundOpener = inward.suite.opener(inward.keys)
    this.#owner.send(newKeys.bytes({}))
    this.#owner.outbound.activate(outward.suite.sealer(outward.keys), this.#owner.phase.strict)
    // Suites keep copies of their own, which destroy() wipes.
    for (const keys of [inward.keys, outward.keys])
      for (const part of [keys.iv, keys.key, keys.macKey]) part.fill(0)
    this.#owner.phase.exchange = 'newkeys'
    this.#algorithms = {
      kex: negotiated.kex,
      hostKey: negotiated.hostKey,
      cipherClientToServer: negotiated.clientToServer.cipher,
      cipherServerToClient: negotiated.serverToClient.cipher,
      macClientToServer: negotiated.clientToServer.mac,
      macServerToClient: negotiated.serverToClient.mac,
      strict: this.#owner.phase.strict,
    }
    this.#owner.unblocked()
  }

  /** The peer's new keys come into force. Returns whether they are the first. */
  onNewKeys(payload: Uint8Array): boolean {
    newKeys.decode(payload)
    const first = this.#owner.phase.layer === 'transport'
    this.#owner.inbound.activate(this.#exchange!.inboundOpener!, this.#owner.phase.strict)
    this.#owner.inbound.singleFile = false
    this.#exchange = undefined
    this.#owner.phase.exchange = 'idle'
    this.#keyedAt = this.#options.now()
    if (first) {
      this.#owner.phase.layer = 'service'
      this.#owner.phase.firstAfterNewKeys = true
    }
    this.#options.trace?.({
      level: first ? 1 : 2,
      layer: 'kex',
      event: 'new keys',
      detail: { kex: this.#algorithms!.kex, cipher: this.#algorithms!.cipherServerToClient },
    })
    return first
  }

  /** Wipes keys that were prepared and never came into force. */
  destroy(): void {
    this.#exchange?.inboundOpener?.destroy()
  }
}

/** A peer that starts exchange after exchange with nothing between them only burns our time. */
const maxEmptyExchanges = 32

/** How long a server waits for the client's KEXINIT before it sends its own, in milliseconds. */
const patienceMs = 100
/** Clients that send no KEXINIT before they have the server's. Those of today have strict key exchange. */
const waitsForServer = /^SSH-2\.0-libssh[_-]\d/

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
