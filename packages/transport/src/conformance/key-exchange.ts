// One key exchange, step by step (RFC 4253 s7 and s8), in either role. Each step is one method, so a script can do
// something else before, between or instead. The honest order is in `ScriptedPeer.exchangeKeys`.
// Built on the methods, suites and derivation of the product, not on its core: nothing here checks what it sends.

import type { CryptoProvider, RandomSource } from '../crypto/provider.ts'
import { randomBytes } from '../crypto/random.ts'
import type { AlgorithmOffer } from '../kex/algorithms.ts'
import { exchangeHash } from '../kex/exchange-hash.ts'
import { verifyHostKeySignature } from '../kex/host-key.ts'
import { deriveDirectionKeys, type KeyMaterial } from '../kex/key-derivation.ts'
import type { KexClient, KexMethod } from '../kex/method.ts'
import { kexMethod } from '../kex/methods.ts'
import { extInfoMarker, type KexInit, type Negotiated, negotiate, strictMarker } from '../kex/negotiate.ts'
import type { Signer } from '../keys/signer.ts'
import { kexInit, kexMethodInit, kexMethodReply, newKeys } from '../messages/kex.ts'
import { KEX_INIT, KEX_REPLY, KEXINIT, NEWKEYS } from '../messages/numbers.ts'
import type { Opener, Sealer } from '../packet/cipher.ts'
import { cipherSuite } from '../packet/suites.ts'
import { decodeArrived, NotApplicable } from './arrival.ts'
import type { ScriptedPeer } from './scripted-peer.ts'

/** What a scripted peer needs for its key exchanges. */
export interface ExchangeOptions {
  readonly role: 'client' | 'server'
  readonly crypto: CryptoProvider
  readonly random: RandomSource
  readonly offer: AlgorithmOffer
  /** Whether our first KEXINIT says that we know strict key exchange. */
  readonly strict: boolean
  /** Whether our first KEXINIT says that we understand EXT_INFO. */
  readonly extInfo: boolean
  /** Server role: keys that prove who we are. */
  readonly hostKeys: readonly Signer[]
}

/** What an exchange established, and what it was made from. */
export interface ExchangeOutcome {
  readonly exchangeHash: Uint8Array
  readonly sessionId: Uint8Array
  readonly hostKey: Uint8Array
  /** The signature blob over the exchange hash. */
  readonly signature: Uint8Array
  readonly negotiated: Negotiated
  readonly serverValue: Uint8Array
}

/** The KEXINIT that an honest peer with these options would send. */
export function honestKexInit(options: ExchangeOptions, first: boolean): KexInit {
  const { role, offer, random, strict, extInfo } = options
  const markers = first
    ? [...(extInfo ? [extInfoMarker[role]] : []), ...(strict ? [strictMarker[role]] : [])]
    : []
  return {
    cookie: randomBytes(random, 16),
    kexAlgorithms: [...offer.kex, ...markers],
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
}

export class ScriptedExchange {
  readonly #peer: ScriptedPeer
  readonly #options: ExchangeOptions
  readonly first: boolean
  ourInit: KexInit | undefined
  /** Our KEXINIT as it left: what enters the exchange hash. */
  ourInitPayload: Uint8Array | undefined
  theirInit: KexInit | undefined
  theirInitPayload: Uint8Array | undefined
  #negotiated: Negotiated | undefined
  outcome: ExchangeOutcome | undefined
  /** Whether the peer proved that it holds its host key (client role); undefined before its reply. */
  hostKeyProved: boolean | undefined
  #clientHalf: KexClient | undefined
  /** The method message of the other side (server role). */
  #clientValue: Uint8Array | undefined
  #sealer: Sealer | undefined
  #opener: Opener | undefined

  /** Made by `ScriptedPeer.startExchange`. */
  constructor(peer: ScriptedPeer, options: ExchangeOptions, first: boolean) {
    this.#peer = peer
    this.#options = options
    this.first = first
  }

  /** Sends our KEXINIT; `change` edits the honest one. */
  sendInit(change: (honest: KexInit) => KexInit = (honest) => honest): void {
    this.ourInit = change(honestKexInit(this.#options, this.first))
    this.ourInitPayload = this.#peer.sendHonest(KEXINIT, kexInit.bytes(this.ourInit))
  }

  /** Sends bytes of the caller's as our KEXINIT. They enter the exchange hash as they are. */
  sendInitPayload(payload: Uint8Array): void {
    this.ourInitPayload = payload
    this.ourInit = kexInit.decode(payload)
    this.#peer.send(payload)
  }

  /** Waits for the peer's KEXINIT. @throws Unexpected */
  async receiveInit(): Promise<KexInit> {
    const arrived = await this.#peer.expect(KEXINIT)
    this.theirInitPayload = arrived.payload
    this.theirInit = decodeArrived(kexInit, arrived)
    if (this.first) this.#peer.noteFirstInits(this.ourInit, this.theirInit)
    return this.theirInit
  }

  /** What both KEXINITs lead to. @throws NegotiationError where they have nothing in common. */
  get negotiated(): Negotiated {
    this.#negotiated ??= negotiate(this.#options.role, needed(this.ourInit), needed(this.theirInit))
    return this.#negotiated
  }

  get #method(): KexMethod {
    const { kex } = this.negotiated
    const method = kexMethod(kex)
    if (method === undefined) throw new NotApplicable(`no method ${kex} here`)
    return method
  }

  /** Client role: sends a method message before the peer's KEXINIT came (RFC 4253 s7, a guess). */
  async sendGuess(name: string): Promise<void> {
    const method = kexMethod(name)
    if (method === undefined) throw new NotApplicable(`no method ${name} here`)
    this.#clientHalf = await method.client(this.#options.crypto, this.#options.random)
    this.#peer.sendHonest(KEX_INIT, kexMethodInit.bytes({ clientValue: this.#clientHalf.publicValue }))
  }

  /** Client role: KEX_INIT with our public value. `change` edits the value; then the exchange cannot be finished. */
  async sendMethodInit(change?: (honest: Uint8Array) => Uint8Array): Promise<void> {
    const half = await this.#method.client(this.#options.crypto, this.#options.random)
    this.#clientHalf = half
    const clientValue = change === undefined ? half.publicValue : change(half.publicValue)
    this.#peer.sendHonest(KEX_INIT, kexMethodInit.bytes({ clientValue }))
  }

  /** Client role: waits for KEX_REPLY, verifies its signature, derives the keys. @throws Unexpected */
  async receiveMethodReply(): Promise<ExchangeOutcome> {
    const reply = decodeArrived(kexMethodReply, await this.#peer.expect(KEX_REPLY))
    const half = this.#clientHalf
    if (half === undefined) throw new Error('the reply answers a KEX_INIT that was not sent')
    const encodedSecret = await half.finish(reply.serverValue.slice())
    const hash = this.#hash(reply.hostKey, half.publicValue, reply.serverValue, encodedSecret)
    const { crypto } = this.#options
    const { hostKey: algorithm } = this.negotiated
    try {
      this.hostKeyProved = await verifyHostKeySignature(
        crypto,
        algorithm,
        reply.hostKey,
        hash,
        reply.signature,
      )
    } catch {
      // A key of another type than negotiated, or one that cannot be parsed, proves nothing.
      this.hostKeyProved = false
    }
    await this.#prepareCiphers()
    return this.#derive(hash, reply.hostKey, reply.signature, reply.serverValue, encodedSecret)
  }

  /** Server role: waits for KEX_INIT; the packet of a wrong guess is dropped (RFC 4253 s7). @throws Unexpected */
  async receiveMethodInit(): Promise<Uint8Array> {
    if (this.negotiated.dropGuess) await this.#peer.expect(KEX_INIT)
    this.#clientValue = decodeArrived(kexMethodInit, await this.#peer.expect(KEX_INIT)).clientValue
    return this.#clientValue
  }

  /**
   * Server role: sends KEX_REPLY and derives the keys. `change` edits what the reply holds; the keys are derived from the
   * honest values.
   */
  async sendMethodReply(
    change: (honest: HonestReply) => HonestReply | Promise<HonestReply> = (honest) => honest,
  ): Promise<void> {
    const { crypto, random, hostKeys } = this.#options
    const method = this.#method
    const clientValue = this.#clientValue
    if (clientValue === undefined) throw new Error('KEX_REPLY needs the KEX_INIT first')
    if (method.server === undefined) throw new NotApplicable(`${method.name} has no server half here`)
    const { hostKey: algorithm } = this.negotiated
    const signer = hostKeys.find((key) => key.algorithms.includes(algorithm))
    if (signer === undefined) throw new NotApplicable(`no host key for ${algorithm}`)
    const half = await method.server(crypto, random, clientValue)
    const hash = this.#hash(signer.publicKeyBlob, clientValue, half.publicValue, half.encodedSecret)
    const signature = await signer.sign(algorithm, hash)
    const honest: HonestReply = {
      hostKey: signer.publicKeyBlob,
      serverValue: half.publicValue,
      signature,
      exchangeHash: hash,
    }
    this.#peer.sendHonest(KEX_REPLY, kexMethodReply.bytes(await change(honest)))
    await this.#prepareCiphers()
    this.#derive(hash, signer.publicKeyBlob, signature, half.publicValue, half.encodedSecret)
  }

  #hash(
    hostKey: Uint8Array,
    clientValue: Uint8Array,
    serverValue: Uint8Array,
    encodedSecret: Uint8Array,
  ): Uint8Array {
    const { role, crypto } = this.#options
    const ours = { identification: this.#peer.identification, init: needed(this.ourInitPayload) }
    const theirs = {
      identification: this.#peer.theirIdentification ?? '',
      init: needed(this.theirInitPayload),
    }
    const [client, server] = role === 'client' ? [ours, theirs] : [theirs, ours]
    return exchangeHash(crypto, this.#method.hash, {
      clientIdentification: client.identification,
      serverIdentification: server.identification,
      clientKexInit: client.init,
      serverKexInit: server.init,
      hostKey,
      clientValue,
      serverValue,
      encodedSecret,
    })
  }

  async #prepareCiphers(): Promise<void> {
    const { clientToServer, serverToClient } = this.negotiated
    for (const { cipher } of [clientToServer, serverToClient])
      await this.#options.crypto.prepareCipher?.(cipher)
  }

  #derive(
    hash: Uint8Array,
    hostKey: Uint8Array,
    signature: Uint8Array,
    serverValue: Uint8Array,
    encodedSecret: Uint8Array,
  ): ExchangeOutcome {
    const { crypto, role } = this.#options
    const negotiated = this.negotiated
    const sessionId = this.#peer.sessionId ?? hash
    const material: KeyMaterial = { hash: this.#method.hash, encodedSecret, exchangeHash: hash, sessionId }
    const suites = {
      'client to server': cipherSuite(
        crypto,
        negotiated.clientToServer.cipher,
        negotiated.clientToServer.mac,
      ),
      'server to client': cipherSuite(
        crypto,
        negotiated.serverToClient.cipher,
        negotiated.serverToClient.mac,
      ),
    }
    const outward = role === 'client' ? 'client to server' : 'server to client'
    const inward = role === 'client' ? 'server to client' : 'client to server'
    this.#sealer = suites[outward].sealer(deriveDirectionKeys(crypto, material, outward, suites[outward]))
    this.#opener = suites[inward].opener(deriveDirectionKeys(crypto, material, inward, suites[inward]))
    this.outcome = { exchangeHash: hash, sessionId, hostKey, signature, negotiated, serverValue }
    this.#peer.noteOutcome(this.outcome)
    return this.outcome
  }

  /** Sends NEWKEYS; what follows it is sealed with the new keys. */
  sendNewKeys(): void {
    this.#peer.sendHonest(NEWKEYS, newKeys.bytes({}))
    this.activateOutbound()
  }

  /** Seals what follows with the new keys, whether NEWKEYS was sent or not. */
  activateOutbound(): void {
    if (this.#sealer === undefined) throw new Error('there are no new keys before the method messages')
    this.#peer.wire.activateOutbound(this.#sealer, this.#peer.isStrict)
    this.#sealer = undefined
  }

  /** Waits for NEWKEYS; what follows it is opened with the new keys. @throws Unexpected */
  async receiveNewKeys(): Promise<void> {
    decodeArrived(newKeys, await this.#peer.expect(NEWKEYS))
    this.#peer.noteExchangeOver(this)
  }

  /** NEWKEYS came: called by the peer as soon as it is read, whoever asked for it. */
  activateInbound(): void {
    if (this.#opener === undefined) return
    this.#peer.wire.activateInbound(this.#opener, this.#peer.isStrict)
    this.#opener = undefined
  }
}

function needed<T>(value: T | undefined): T {
  if (value === undefined)
    throw new Error('this step of the key exchange comes too early: a KEXINIT is missing')
  return value
}

/** What an honest KEX_REPLY holds, with the hash that its signature is over. */
export interface HonestReply {
  readonly hostKey: Uint8Array
  readonly serverValue: Uint8Array
  readonly signature: Uint8Array
  readonly exchangeHash: Uint8Array
}
