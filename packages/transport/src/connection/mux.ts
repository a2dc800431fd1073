// The connection protocol (RFC 4254) without I/O: the table of channels, global requests, and the events of both.
// Messages arrive after the phase gate, so only their content is checked here. What the peer asks (a channel, a request)
// becomes an event with a way to answer; what we ask takes a callback that is called exactly once.

import type { Clock } from '../crypto/provider.ts'
import { ChannelClosedError, ChannelOpenError, ProtocolError, type SshError } from '../errors.ts'
import * as limits from '../limits.ts'
import {
  channelClose,
  channelEof,
  channelFailure,
  channelOpen,
  channelOpenConfirmation,
  channelOpenFailure,
  channelRequest,
  channelSuccess,
  channelWindowAdjust,
  globalRequest,
  requestFailure,
  requestSuccess,
} from '../messages/connection.ts'
import * as number from '../messages/numbers.ts'
import type { PacketSink } from '../packet/packet-sink.ts'
import { readU32 } from '../wire/bytes.ts'
import { WireError } from '../wire/wire-error.ts'
import type { Writer } from '../wire/writer.ts'
import type { IncomingRequest } from './channel.ts'
import { Channel } from './channel.ts'
import type { WindowLimits } from './window.ts'
import { defaultWindowLimits, ReceiveWindow } from './window.ts'

export interface MuxOptions {
  role: 'client' | 'server'
  now: Clock
  window?: Partial<WindowLimits>
  /** Largest data of one packet that we accept, in bytes. */
  maxPacketBytes?: number
  /** Channels at once; the peer's further ones are refused with RESOURCE_SHORTAGE. */
  maxChannels?: number
}

/** A channel the peer wants; exactly one of the answers is to be given. */
export interface IncomingOpen {
  channelType: string
  payload: Uint8Array
  /** The open channel; one in state 'closed' where the question was answered already or the connection is over. */
  accept(): Channel
  refuse(reason: number, description: string): void
}

/** A global request of the peer. Replies leave in the order of the requests. */
export interface IncomingGlobalRequest {
  request: string
  wantReply: boolean
  payload: Uint8Array
  reply(ok: boolean, payload?: Uint8Array): void
}

export type MuxEvent =
  /** `data` is a view valid until the next `next()`; call `channel.consumed` when it is taken. */
  | { type: 'channel-data'; channel: Channel; data: Uint8Array }
  | { type: 'channel-extended-data'; channel: Channel; dataType: number; data: Uint8Array }
  | { type: 'channel-eof'; channel: Channel }
  | { type: 'channel-closed'; channel: Channel }
  | { type: 'channel-writable'; channel: Channel }
  | { type: 'channel-request'; channel: Channel; incoming: IncomingRequest }
  | { type: 'channel-open'; incoming: IncomingOpen }
  | { type: 'global-request'; incoming: IncomingGlobalRequest }

type OpenSettle = (result: Channel | Error) => void
/** `sentAt` is undefined where the time until the answer says nothing of the way. */
interface Opening {
  settle: OpenSettle
  sentAt: number | undefined
}
type GlobalSettle = (answer: Uint8Array | false | Error) => void

const defaultMaxPacketBytes = 131_072
const maxPendingGlobals = 256

export class Mux {
  readonly sink: PacketSink
  readonly now: Clock
  /** Channel data encoded ahead of the socket at most, in bytes. */
  readonly outboxHighWater = 1024 * 1024
  /** Shortest round trip seen, in milliseconds: what windows grow by. */
  roundTripMs: number | undefined
  readonly #window: WindowLimits
  readonly #maxPacketBytes: number
  readonly #maxChannels: number
  readonly #channels = new Map<number, Channel>()
  readonly #opening = new Map<number, Opening>()
  #nextId = 0
  #globals: { settle: GlobalSettle; sentAt: number }[] = []
  /** Channels that the peer asked for and that nobody answered yet. */
  #unansweredOpens = 0
  #incomingGlobals: { answer: { ok: boolean; payload: Uint8Array } | undefined }[] = []
  openWriter: Writer | undefined
  #events: MuxEvent[] = []
  #ended: SshError | undefined

  constructor(sink: PacketSink, options: MuxOptions) {
    this.sink = sink
    this.now = options.now
    this.#window = { ...defaultWindowLimits, ...options.window }
    this.#maxPacketBytes = options.maxPacketBytes ?? defaultMaxPacketBytes
    this.#maxChannels =
      options.maxChannels ?? (options.role === 'client' ? limits.maxChannelsClient : limits.maxChannelsServer)
  }

  get channelCount(): number {
    return this.#channels.size
  }

  // --- sending ---

  send(encode: (writer: Writer) => void): void {
    if (this.#ended !== undefined) return
    encode(this.sink.begin())
    this.sink.end()
  }

  beginOpenPacket(room: number): Writer {
    return this.sink.begin(room)
  }

  leaveOpen(writer: Writer, finish: () => void): void {
    this.openWriter = writer
    this.sink.leaveOpen(() => {
      this.openWriter = undefined
      finish()
    })
  }

  finishOpenPacket(): void {
    this.sink.finishOpenPacket()
  }

  /**
   * Opens a channel (RFC 4254 s5.1). `settle` is called once, with the channel or ChannelOpenError. Returns our number of the
   * channel, for `withdraw`. `early`: the answer waits for something else too, so that its time says nothing of the way.
   */
  open(
    channelType: string,
    payload: Uint8Array,
    settle: OpenSettle,
    { window = {}, early = false }: { window?: Partial<WindowLimits>; early?: boolean } = {},
  ): number {
    if (this.#ended !== undefined) {
      settle(this.#ended)
      return -1
    }
    if (this.#channels.size >= this.#maxChannels) {
      settle(
        new ChannelOpenError(
          channelType,
          number.openFailure.resourceShortage,
          `we hold ${this.#maxChannels} channels already`,
        ),
      )
      return -1
    }
    const channel = this.#newChannel(channelType, { ...this.#window, ...window })
    this.#opening.set(channel.localId, { settle, sentAt: early ? undefined : this.now() })
    this.send((writer) =>
      channelOpen.encode(writer, {
        channelType,
        senderChannel: channel.localId,
        initialWindow: channel.receiveWindow.available,
        maxPacket: channel.maxReceiveBytes,
        payload,
      }),
    )
    return channel.localId
  }

  /** Forgets an opening that the peer will never answer; `settle` is not called. The number is not given to another channel. */
  withdraw(localId: number): void {
    if (this.#opening.delete(localId)) this.#channels.delete(localId)
  }

  #newChannel(channelType: string, window: WindowLimits): Channel {
    while (this.#channels.has(this.#nextId)) this.#nextId = (this.#nextId + 1) >>> 0
    const channel = new Channel(
      this,
      channelType,
      this.#nextId,
      new ReceiveWindow(window),
      this.#maxPacketBytes,
    )
    this.#channels.set(channel.localId, channel)
    this.#nextId = (this.#nextId + 1) >>> 0
    return channel
  }

  /** A channel that never was: it is in no table, and nothing can be done with it. */
  #deadChannel(channelType: string): Channel {
    const channel = new Channel(this, channelType, 0, new ReceiveWindow(this.#window), this.#maxPacketBytes)
    channel.settleAll(new ChannelClosedError('the channel was answered already, or the connection is over'))
    return channel
  }

  /** Sends a global request (RFC 4254 s4); `settle` gets the reply's payload, false for failure, or the error that ended the connection. */
  globalRequest(request: string, payload: Uint8Array, settle?: GlobalSettle): void {
    if (this.#ended !== undefined) return settle?.(this.#ended)
    if (settle !== undefined) this.#globals.push({ settle, sentAt: this.now() })
    this.send((writer) => globalRequest.encode(writer, { request, wantReply: settle !== undefined, payload }))
  }

  measured(sentAt: number): void {
    this.measuredMs(this.now() - sentAt)
  }

  /** The peer answered something after so many milliseconds. */
  measuredMs(elapsed: number): void {
    if (this.roundTripMs === undefined || elapsed < this.roundTripMs) this.roundTripMs = elapsed
  }

  // --- receiving ---

  /** An event that is already there (channels that can go on writing). */
  next(): MuxEvent | undefined {
    return this.#events.shift()
  }

  /** Handles one message of 80 to 127. Throws ProtocolError or WireError. */
  receive(type: number, payload: Uint8Array): MuxEvent | undefined {
    switch (type) {
      case number.CHANNEL_DATA:
        return this.#onData(payload)
      case number.CHANNEL_WINDOW_ADJUST:
        return this.#onWindowAdjust(payload)
      case number.CHANNEL_EXTENDED_DATA:
        return this.#onExtendedData(payload)
      case number.CHANNEL_EOF: {
        const channel = this.#confirmed(channelEof.decode(payload).recipientChannel)
        if (channel.eofReceived)
          throw new ProtocolError(`second EOF on channel ${channel.localId}`, { phase: 'connection' })
        channel.eofReceived = true
        return { type: 'channel-eof', channel }
      }
      case number.CHANNEL_CLOSE:
        return this.#onClose(payload)
      case number.CHANNEL_REQUEST: {
        const { recipientChannel, request, wantReply, payload: fields } = channelRequest.decode(payload)
        const channel = this.#confirmed(recipientChannel)
        if (channel.closeSent) return undefined
        return { type: 'channel-request', channel, incoming: channel.incoming(request, wantReply, fields) }
      }
      case number.CHANNEL_SUCCESS:
        this.#confirmed(channelSuccess.decode(payload).recipientChannel).answered(true)
        return undefined
      case number.CHANNEL_FAILURE:
        this.#confirmed(channelFailure.decode(payload).recipientChannel).answered(false)
        return undefined
      case number.CHANNEL_OPEN:
        return this.#onOpen(payload)
      case number.CHANNEL_OPEN_CONFIRMATION:
        return this.#onOpenConfirmation(payload)
      case number.CHANNEL_OPEN_FAILURE:
        return this.#onOpenFailure(payload)
      case number.GLOBAL_REQUEST:
        return this.#onGlobalRequest(payload)
      case number.REQUEST_SUCCESS: {
        const answer = requestSuccess.decode(payload)
        this.#globalAnswered(answer.payload.slice())
        return undefined
      }
      case number.REQUEST_FAILURE:
        requestFailure.decode(payload)
        this.#globalAnswered(false)
        return undefined
      default:
        throw new ProtocolError(`${number.messageName(type)} is not a connection message`, {
          phase: 'connection',
        })
    }
  }

  /** A channel that is open on both sides; anything else from the peer is a violation (RFC 4254 s5). */
  #confirmed(localId: number): Channel {
    const channel = this.#channels.get(localId)
    if (channel === undefined || channel.state !== 'open' || channel.closeReceived) {
      const why =
        channel === undefined
          ? 'is not open'
          : channel.closeReceived
            ? 'was closed by the peer'
            : 'is not confirmed'
      throw new ProtocolError(`message for channel ${localId}, which ${why}`, { phase: 'connection' })
    }
    return channel
  }

  /** Hand-written path of CHANNEL_DATA: one view, no object but the event. */
  #onData(payload: Uint8Array): MuxEvent | undefined {
    if (payload.length < 9)
      throw new WireError(`expected at least 9 bytes, got ${payload.length}`, payload.length).within(
        'CHANNEL_DATA',
      )
    const length = readU32(payload, 5)
    if (length !== payload.length - 9)
      throw new WireError(`data of ${length} bytes in a message with ${payload.length - 9}`, 5).within(
        'CHANNEL_DATA',
        'data',
      )
    const channel = this.#confirmed(readU32(payload, 1))
    channel.accept(length)
    if (length === 0) return undefined
    const data = payload.subarray(9)
    if (!channel.closeSent) return { type: 'channel-data', channel, data }
    // We closed; the peer has not seen it yet. RFC 4254 s5.3 lets us drop this.
    channel.consumed(length)
    return undefined
  }

  #onExtendedData(payload: Uint8Array): MuxEvent | undefined {
    if (payload.length < 13)
      throw new WireError(`expected at least 13 bytes, got ${payload.length}`, payload.length).within(
        'CHANNEL_EXTENDED_DATA',
      )
    const length = readU32(payload, 9)
    if (length !== payload.length - 13)
      throw new WireError(`data of ${length} bytes in a message with ${payload.length - 13}`, 9).within(
        'CHANNEL_EXTENDED_DATA',
        'data',
      )
    const channel = this.#confirmed(readU32(payload, 1))
    channel.accept(length)
    if (length === 0) return undefined
    if (!channel.closeSent)
      return {
        type: 'channel-extended-data',
        channel,
        dataType: readU32(payload, 5),
        data: payload.subarray(13),
      }
    channel.consumed(length)
    return undefined
  }

  #onWindowAdjust(payload: Uint8Array): MuxEvent | undefined {
    const { recipientChannel, bytes } = channelWindowAdjust.decode(payload)
    // A peer whose reader runs beside its CLOSE (paramiko) may give window back to a channel that is gone. OpenSSH lets that
    // pass, too; nothing follows from it.
    if (recipientChannel < this.#nextId && !this.#channels.has(recipientChannel)) return undefined
    const channel = this.#confirmed(recipientChannel)
    channel.sendWindow.adjust(bytes)
    return this.#refill(channel)
  }

  /** The channel has more room: its queue goes first, then whoever waits is told. */
  #refill(channel: Channel): MuxEvent | undefined {
    if (channel.state !== 'open' || !channel.flushQueue()) return undefined
    if (!channel.starved || channel.writableBytes === 0) return undefined
    channel.starved = false
    return { type: 'channel-writable', channel }
  }

  /** After a key exchange, or after the socket took bytes: channels that wait for room get it. */
  refillAll(): void {
    for (const channel of this.#channels.values()) {
      if (!channel.starved && channel.queuedBytes === 0) continue
      const event = this.#refill(channel)
      if (event !== undefined) this.#events.push(event)
    }
  }

  #onClose(payload: Uint8Array): MuxEvent | undefined {
    const channel = this.#confirmed(channelClose.decode(payload).recipientChannel)
    channel.closeReceived = true
    if (!channel.closeSent) channel.close()
    else this.forget(channel)
    return { type: 'channel-closed', channel }
  }

  /** Both CLOSEs passed: the id is free, and nothing of the channel stays pending. */
  forget(channel: Channel): void {
    this.#channels.delete(channel.localId)
    channel.settleAll(new ChannelClosedError(`the peer closed channel ${channel.localId} (${channel.type})`))
  }

  #onOpen(payload: Uint8Array): MuxEvent | undefined {
    const {
      channelType,
      senderChannel,
      initialWindow,
      maxPacket,
      payload: fields,
    } = channelOpen.decode(payload)
    const refuse = (reason: number, description: string): void => {
      this.send((writer) => {
        channelOpenFailure.encode(writer, { recipientChannel: senderChannel, reason, description })
        writer.text('')
      })
    }
    if (maxPacket === 0) {
      refuse(number.openFailure.administrativelyProhibited, 'maximum packet size is 0')
      return undefined
    }
    if (this.#channels.size + this.#unansweredOpens >= this.#maxChannels) {
      refuse(number.openFailure.resourceShortage, 'too many channels')
      return undefined
    }
    let answered = false
    this.#unansweredOpens++
    const once = (): boolean => {
      if (answered) return false
      answered = true
      this.#unansweredOpens--
      return this.#ended === undefined
    }
    const accept = (): Channel => {
      if (!once()) return this.#deadChannel(channelType)
      const channel = this.#newChannel(channelType, this.#window)
      channel.opened(senderChannel, initialWindow, maxPacket)
      this.send((writer) =>
        channelOpenConfirmation.encode(writer, {
          recipientChannel: senderChannel,
          senderChannel: channel.localId,
          initialWindow: channel.receiveWindow.available,
          maxPacket: channel.maxReceiveBytes,
          payload: new Uint8Array(0),
        }),
      )
      return channel
    }
    const refuseOnce = (reason: number, description: string): void => {
      if (once()) refuse(reason, description)
    }
    return {
      type: 'channel-open',
      incoming: { channelType, payload: fields.slice(), accept, refuse: refuseOnce },
    }
  }

  #onOpenConfirmation(payload: Uint8Array): undefined {
    const { recipientChannel, senderChannel, initialWindow, maxPacket } =
      channelOpenConfirmation.decode(payload)
    const { channel, opening } = this.#takeOpening(recipientChannel)
    if (opening.sentAt !== undefined) this.measured(opening.sentAt)
    if (maxPacket === 0) {
      // Nothing could ever be sent. The channel is open on the peer's side, so it must be closed there.
      channel.opened(senderChannel, initialWindow, 1)
      channel.close()
      opening.settle(
        new ChannelOpenError(channel.type, number.openFailure.connectFailed, 'maximum packet size is 0'),
      )
      return undefined
    }
    channel.opened(senderChannel, initialWindow, maxPacket)
    opening.settle(channel)
    return undefined
  }

  #onOpenFailure(payload: Uint8Array): undefined {
    const { recipientChannel, reason, description } = channelOpenFailure.decode(payload)
    const { channel, opening } = this.#takeOpening(recipientChannel)
    this.#channels.delete(channel.localId)
    opening.settle(new ChannelOpenError(channel.type, reason, description))
    return undefined
  }

  #takeOpening(localId: number): { channel: Channel; opening: Opening } {
    const channel = this.#channels.get(localId)
    const opening = this.#opening.get(localId)
    if (channel === undefined || opening === undefined)
      throw new ProtocolError(`answer to a channel open ${localId} that is not pending`, {
        phase: 'connection',
      })
    this.#opening.delete(localId)
    return { channel, opening }
  }

  #onGlobalRequest(payload: Uint8Array): MuxEvent {
    const { request, wantReply, payload: fields } = globalRequest.decode(payload)
    if (!wantReply)
      return { type: 'global-request', incoming: { request, wantReply, payload: fields, reply: () => {} } }
    if (this.#incomingGlobals.length >= maxPendingGlobals)
      throw new ProtocolError(`more than ${maxPendingGlobals} unanswered global requests`, {
        phase: 'connection',
      })
    const slot: { answer: { ok: boolean; payload: Uint8Array } | undefined } = { answer: undefined }
    this.#incomingGlobals.push(slot)
    const reply = (ok: boolean, answer: Uint8Array = new Uint8Array(0)): void => {
      if (slot.answer !== undefined) return
      slot.answer = { ok, payload: answer }
      while (this.#incomingGlobals[0]?.answer !== undefined) {
        const { answer: first } = this.#incomingGlobals.shift() as {
          answer: { ok: boolean; payload: Uint8Array }
        }
        this.send((writer) =>
          first.ok
            ? requestSuccess.encode(writer, { payload: first.payload })
            : requestFailure.encode(writer, {}),
        )
      }
    }
    return { type: 'global-request', incoming: { request, wantReply, payload: fields, reply } }
  }

  #globalAnswered(answer: Uint8Array | false): void {
    const pending = this.#globals.shift()
    if (pending === undefined) return
    this.measured(pending.sentAt)
    pending.settle(answer)
  }

  /** The connection is over: every pending call ends with `error`, every channel is closed. Returns the channels that were there. */
  end(error: SshError): Channel[] {
    if (this.#ended !== undefined) return []
    this.#ended = error
    const channels = [...this.#channels.values()]
    this.#channels.clear()
    for (const { settle } of this.#opening.values()) settle(error)
    this.#opening.clear()
    for (const channel of channels) channel.settleAll(error)
    const globals = this.#globals
    this.#globals = []
    for (const { settle } of globals) settle(error)
    return channels
  }
}
