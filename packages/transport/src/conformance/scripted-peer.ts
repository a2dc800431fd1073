// A peer under a script: client or server, over any ByteDuplex, honest up to a phase of your choice and yours from there.
//
//     const peer = new ScriptedPeer(await connectTcp({ host, port }), { role: 'client', crypto: nodeCrypto, login })
//     await peer.upTo('authenticated')
//     peer.send(channelOpen, { channelType: 'session', senderChannel: 7, initialWindow: 0, maxPacket: 32768, payload: none })
//     await peer.expect(CHANNEL_OPEN_CONFIRMATION)
//     peer.send(Uint8Array.of(94, 1, 2), { corrupt: 'tag end' })
//     await peer.expectDisconnect(disconnectReason.macError)
//
// It sends what it is told and checks only what it is asked to. One script at a time: its waits do not overlap.

import type { CryptoProvider, RandomSource } from '../crypto/provider.ts'
import { systemRandom } from '../crypto/random.ts'
import { type AlgorithmOffer, resolveOffer } from '../kex/algorithms.ts'
import { extInfoMarker, type KexInit, strictMarker } from '../kex/negotiate.ts'
import type { Signer } from '../keys/signer.ts'
import { globalRequest } from '../messages/connection.ts'
import * as number from '../messages/numbers.ts'
import { disconnect } from '../messages/transport.ts'
import type { ByteDuplex } from '../session/duplex.ts'
import { utf8Bytes } from '../wire/bytes.ts'
import type { Fields, Message, ValueOf } from '../wire/codec.ts'
import { type Arrival, type ArrivedMessage, describeArrival, Unexpected } from './arrival.ts'
import { type ExchangeOptions, type ExchangeOutcome, ScriptedExchange } from './key-exchange.ts'
import type { PacketEdit } from './packet-writer.ts'
import { type Phase, reach } from './phases.ts'
import { ScriptedChannel, type ScriptedChannelOptions } from './scripted-channel.ts'
import { WireEnd } from './wire-end.ts'

/** How a scripted client proves who it is. With several, a key comes before the password, and 'none' is the last resort. */
export interface ScriptedLogin {
  readonly user: string
  readonly signer?: Signer
  readonly password?: string
}

export interface ScriptedPeerOptions {
  /** The role of the scripted peer: a scripted client tests servers. */
  readonly role: 'client' | 'server'
  readonly crypto: CryptoProvider
  readonly random?: RandomSource
  /** Our identification line without CR LF. */
  readonly identification?: string
  /** Lists to offer instead of the defaults. */
  readonly algorithms?: Partial<AlgorithmOffer>
  /** Whether we say that we know strict key exchange; true where left out. */
  readonly strict?: boolean
  /** Whether we say that we understand EXT_INFO; true where left out. */
  readonly extInfo?: boolean
  /** Client role: how to log in. */
  readonly login?: ScriptedLogin
  /** Server role: keys that prove who we are. */
  readonly hostKeys?: readonly Signer[]
  /** How long to wait for anything, in milliseconds. */
  readonly patienceMs?: number
  /** The KEXINIT to send instead of the honest one. */
  readonly kexInit?: (honest: KexInit) => KexInit
  /** Of the channel that phase 'channel' opens or accepts. */
  readonly channel?: ScriptedChannelOptions
}

/** What a wait can ask for: a message number, a declared message, several of these, or any condition. */
export type Wanted = number | Message<Fields> | readonly number[] | ((message: ArrivedMessage) => boolean)

/** What an override makes of an honest message: another payload, a packet with something wrong, or nothing at all. */
export type Altered = Uint8Array | { readonly payload?: Uint8Array; readonly edit: PacketEdit } | undefined

/** Messages that may come at any time. */
const defaultBackground = [
  number.IGNORE,
  number.DEBUG,
  number.EXT_INFO,
  number.USERAUTH_BANNER,
  number.CHANNEL_WINDOW_ADJUST,
]

const defaultPatienceMs = 3000

export class ScriptedPeer {
  readonly wire: WireEnd
  readonly role: 'client' | 'server'
  readonly options: ScriptedPeerOptions
  /** Our identification without CR LF, as it enters the exchange hash. */
  readonly identification: string
  readonly offer: AlgorithmOffer
  readonly patienceMs: number
  /** The peer's identification line, once it came. */
  theirIdentification: string | undefined
  /** Lines that came before it. */
  readonly linesBefore: string[] = []
  /** The peer's identification with its line end. */
  theirIdentificationLine: Uint8Array | undefined
  /** Both sides know strict key exchange, so sequence numbers start over behind NEWKEYS. */
  isStrict = false
  theirFirstInit: KexInit | undefined
  sessionId: Uint8Array | undefined
  /** The last exchange that got as far as keys. */
  outcome: ExchangeOutcome | undefined
  /** The exchange under way. */
  exchange: ScriptedExchange | undefined
  phase: Phase = 'connected'
  /** Everything that came, in order, also what waits passed over. */
  readonly seen: ArrivedMessage[] = []
  readonly channels: ScriptedChannel[] = []
  /**
   * Messages that a wait passes over unless it asks for them: IGNORE, DEBUG, EXT_INFO, banners and window adjusts at first.
   * Global requests that want no reply are passed over as well.
   */
  readonly background: Set<number> = new Set(defaultBackground)
  readonly #alterations = new Map<number, (payload: Uint8Array) => Altered>()
  #exchanges = 0

  constructor(duplex: ByteDuplex, options: ScriptedPeerOptions) {
    this.options = options
    this.role = options.role
    this.identification = options.identification ?? 'SSH-2.0-conformance'
    this.patienceMs = options.patienceMs ?? defaultPatienceMs
    const offer = resolveOffer(options.crypto, options.role, options.algorithms)
    const served = new Set(options.hostKeys?.flatMap((key) => [...key.algorithms]))
    this.offer =
      options.role === 'client'
        ? offer
        : { ...offer, hostKeys: offer.hostKeys.filter((name) => served.has(name)) }
    this.wire = new WireEnd(duplex, options.random ?? systemRandom)
  }

  // --- phases ---

  /** Does the honest handshake up to `phase`, then hands over. Goes on from wherever the peer is. @throws Unexpected */
  async upTo(phase: Phase): Promise<this> {
    await reach(this, phase)
    return this
  }

  /** Does the honest handshake until keys are in force in both directions. @throws Unexpected */
  withKeys(): Promise<this> {
    return this.upTo('keys')
  }

  /** Begins a key exchange whose steps are the script's. */
  startExchange(): ScriptedExchange {
    const { crypto, random = systemRandom, strict = true, extInfo = true, hostKeys = [] } = this.options
    const options: ExchangeOptions = {
      role: this.role,
      crypto,
      random,
      offer: this.offer,
      strict,
      extInfo,
      hostKeys,
    }
    this.exchange = new ScriptedExchange(this, options, this.#exchanges++ === 0)
    return this.exchange
  }

  /** A whole honest key exchange: the first one, or a later one (RFC 4253 s9). @throws Unexpected */
  async exchangeKeys(
    options: { change?: (honest: KexInit) => KexInit; theySpokeFirst?: boolean } = {},
  ): Promise<ScriptedExchange> {
    const exchange = this.startExchange()
    if (options.theySpokeFirst === true) await exchange.receiveInit()
    exchange.sendInit(options.change)
    if (options.theySpokeFirst !== true) await exchange.receiveInit()
    await this.finishExchange(exchange)
    return exchange
  }

  /** The honest rest of an exchange in which both KEXINITs passed. @throws Unexpected */
  async finishExchange(exchange: ScriptedExchange): Promise<void> {
    if (this.role === 'client') {
      await exchange.sendMethodInit()
      await exchange.receiveMethodReply()
    } else {
      await exchange.receiveMethodInit()
      await exchange.sendMethodReply()
    }
    exchange.sendNewKeys()
    await exchange.receiveNewKeys()
  }

  /** @internal Notes of the exchange. */
  noteFirstInits(ours: KexInit | undefined, theirs: KexInit): void {
    this.theirFirstInit = theirs
    const [mine, other] =
      this.role === 'client' ? (['client', 'server'] as const) : (['server', 'client'] as const)
    const weKnow =
      ours === undefined ? this.options.strict !== false : ours.kexAlgorithms.includes(strictMarker[mine])
    this.isStrict = weKnow && theirs.kexAlgorithms.includes(strictMarker[other])
    // A client that guesses sends the method message without being asked.
    if (this.role === 'server' && theirs.firstKexPacketFollows) this.background.add(number.KEX_INIT)
  }

  /** @internal */
  noteOutcome(outcome: ExchangeOutcome): void {
    this.outcome = outcome
    this.sessionId ??= outcome.sessionId
  }

  /** @internal */
  noteExchangeOver(exchange: ScriptedExchange): void {
    if (this.exchange === exchange) this.exchange = undefined
  }

  /** Whether the peer said that it understands EXT_INFO (RFC 8308 s2.1). */
  get theyWantExtInfo(): boolean {
    const marker = extInfoMarker[this.role === 'client' ? 'server' : 'client']
    return this.theirFirstInit?.kexAlgorithms.includes(marker) === true
  }

  // --- sending ---

  /** Sends a payload as one packet, or a declared message with its fields. `edit` makes the packet a wrong one. */
  send(payload: Uint8Array, edit?: PacketEdit): void
  send<F extends Fields>(message: Message<F>, value: ValueOf<F>, edit?: PacketEdit): void
  send<F extends Fields>(
    what: Uint8Array | Message<F>,
    valueOrEdit?: ValueOf<F> | PacketEdit,
    edit?: PacketEdit,
  ): void {
    if (what instanceof Uint8Array)
      this.wire.write(this.wire.writer.write(what, valueOrEdit as PacketEdit | undefined))
    else this.wire.write(this.wire.writer.write(what.bytes(valueOrEdit as ValueOf<F>), edit))
  }

  /** Sends bytes as they are: no packet, no encryption. */
  sendRaw(bytes: Uint8Array | string): void {
    this.wire.write(typeof bytes === 'string' ? utf8Bytes(bytes) : bytes)
  }

  /** Changes the next honest message of this number; `undefined` keeps it from being sent. */
  alter(messageNumber: number, change: (payload: Uint8Array) => Altered): this {
    this.#alterations.set(messageNumber, change)
    return this
  }

  /** Sends a message of the honest handshake, altered where a script asked for that. Returns the payload that left. */
  sendHonest(messageNumber: number, payload: Uint8Array): Uint8Array {
    const change = this.#alterations.get(messageNumber)
    if (change === undefined) {
      this.send(payload)
      return payload
    }
    this.#alterations.delete(messageNumber)
    const altered = change(payload)
    if (altered === undefined) return payload
    if (altered instanceof Uint8Array) {
      this.send(altered)
      return altered
    }
    this.send(altered.payload ?? payload, altered.edit)
    return altered.payload ?? payload
  }

  /** Says DISCONNECT (RFC 4253 s11.1). */
  sendDisconnect(reason: number = number.disconnectReason.byApplication, description = ''): void {
    // The language tag: the declaration leaves it out for peers that do.
    const payload = disconnect.bytes({ reason, description })
    const whole = new Uint8Array(payload.length + 4)
    whole.set(payload)
    this.send(whole)
  }

  /** Closes the connection behind what was sent. */
  close(): void {
    this.wire.close()
  }

  // --- waiting ---

  /** Whether a message may come at any time, so that a script need not expect it. */
  isBackground(message: ArrivedMessage): boolean {
    if (this.background.has(message.number)) return true
    if (message.number !== number.GLOBAL_REQUEST) return false
    try {
      return !globalRequest.decode(message.payload).wantReply
    } catch {
      return false
    }
  }

  /** Whatever comes next, nothing passed over; 'silence' after `timeoutMs`. */
  async next(timeoutMs: number = this.patienceMs): Promise<Arrival> {
    const arrival = await this.wire.next(timeoutMs)
    if (arrival.kind === 'message') {
      this.seen.push(arrival)
      if (arrival.number === number.NEWKEYS) this.exchange?.activateInbound()
      for (const channel of this.channels) channel.note(arrival)
    }
    return arrival
  }

  /**
   * The next message that is `wanted`, passing over what may come at any time (IGNORE, DEBUG, EXT_INFO, banners, window
   * adjusts, global requests without reply).
   * @throws Unexpected where another message, the end or nothing comes within `timeoutMs`.
   */
  async expect(wanted: Wanted, timeoutMs: number = this.patienceMs): Promise<ArrivedMessage> {
    const deadline = performance.now() + timeoutMs
    for (;;) {
      const arrival = await this.next(Math.max(1, deadline - performance.now()))
      if (arrival.kind === 'message' && isWanted(wanted, arrival)) return arrival
      if (arrival.kind === 'message' && this.isBackground(arrival)) continue
      throw new Unexpected(describeWanted(wanted), describeEnd(arrival, timeoutMs))
    }
  }

  /**
   * Waits for the end of the connection: DISCONNECT, or no word. Messages that come before it are passed over only where
   * they may come at any time.
   * @param reason the reason that a DISCONNECT must give, where that matters.
   * @returns how it ended, in words.
   * @throws Unexpected where the peer goes on, or is silent.
   */
  async expectDisconnect(reason?: number, timeoutMs: number = this.patienceMs): Promise<string> {
    const expected = reason === undefined ? 'the end of the connection' : `DISCONNECT ${reason}`
    const deadline = performance.now() + timeoutMs
    for (;;) {
      const arrival = await this.next(Math.max(1, deadline - performance.now()))
      if (arrival.kind === 'end') return describeArrival(arrival)
      if (arrival.kind === 'message' && arrival.number === number.DISCONNECT) {
        const given = disconnect.decode(arrival.payload).reason
        if (reason !== undefined && given !== reason) throw new Unexpected(expected, describeArrival(arrival))
        return describeArrival(arrival)
      }
      if (arrival.kind === 'message' && this.isBackground(arrival)) continue
      throw new Unexpected(expected, describeEnd(arrival, timeoutMs))
    }
  }

  /** Waits `ms` milliseconds for nothing to come, but what may come at any time. @throws Unexpected */
  async expectNothing(ms: number): Promise<void> {
    const deadline = performance.now() + ms
    for (;;) {
      const arrival = await this.next(Math.max(1, deadline - performance.now()))
      if (arrival.kind === 'silence') return
      if (arrival.kind === 'message' && this.isBackground(arrival)) continue
      throw new Unexpected('nothing', describeArrival(arrival))
    }
  }

  // --- channels ---

  /** A channel of this connection, not opened yet. */
  channel(options: ScriptedChannelOptions = {}): ScriptedChannel {
    const channel = new ScriptedChannel(this, options)
    this.channels.push(channel)
    return channel
  }
}

function isWanted(wanted: Wanted, message: ArrivedMessage): boolean {
  if (typeof wanted === 'function') return wanted(message)
  if (typeof wanted === 'number') return wanted === message.number
  return isList(wanted) ? wanted.includes(message.number) : wanted.number === message.number
}

function isList(wanted: Message<Fields> | readonly number[]): wanted is readonly number[] {
  return Array.isArray(wanted)
}

function describeWanted(wanted: Wanted): string {
  if (typeof wanted === 'function') return wanted.name === '' ? 'another message' : wanted.name
  if (typeof wanted === 'number') return number.messageName(wanted)
  return isList(wanted) ? wanted.map(number.messageName).join(' or ') : wanted.name
}

/** Silence is told with the whole time that was waited. */
function describeEnd(arrival: Arrival, timeoutMs: number): string {
  return arrival.kind === 'silence' ? `nothing for ${timeoutMs} ms` : describeArrival(arrival)
}
