// One channel of a scripted peer (RFC 4254 s5): ids, windows and data, counted as they pass but not enforced on what is
// sent. What the peer sends is held against what it was promised: more than the window or the largest packet is Unexpected.

import {
  channelClose,
  channelData,
  channelEof,
  channelExtendedData,
  channelOpen,
  channelOpenConfirmation,
  channelRequest,
  channelSuccess,
  channelWindowAdjust,
  globalRequest,
  subsystemFields,
} from '../messages/connection.ts'
import * as number from '../messages/numbers.ts'
import { concat, readU32 } from '../wire/bytes.ts'
import { encodeFields } from '../wire/codec.ts'
import { type ArrivedMessage, decodeArrived, NotApplicable, Unexpected } from './arrival.ts'
import type { ScriptedPeer } from './scripted-peer.ts'

export interface ScriptedChannelOptions {
  /** Our id of the channel; the next free one where left out. */
  readonly localId?: number
  /** What the peer may send at first, in bytes. */
  readonly windowBytes?: number
  /** Largest data of one packet that the peer may send, in bytes. */
  readonly maxPacketBytes?: number
}

const nothing = new Uint8Array(0)
const defaultWindowBytes = 1024 * 1024
const defaultMaxPacketBytes = 32_768

export class ScriptedChannel {
  readonly #peer: ScriptedPeer
  readonly localId: number
  /** The peer's id of the channel. */
  remoteId = 0
  /** What we promised and the peer has not used, in bytes. */
  windowBytes: number
  readonly maxPacketBytes: number
  /** What the peer promised and we have not used, in bytes. Below 0 where the script sent more. */
  sendWindowBytes = 0
  /** Largest data of one packet that the peer takes, in bytes. */
  maxSendBytes = 0
  isOpen = false
  eofCame = false
  closeCame = false
  /** The first thing that the peer did against its promises. */
  excess: string | undefined
  /** Data that came and that nobody asked for yet. */
  #data: Uint8Array[] = []
  /** All data that came, in bytes. */
  receivedBytes = 0

  /** Made by `ScriptedPeer.channel`. */
  constructor(peer: ScriptedPeer, options: ScriptedChannelOptions = {}) {
    this.#peer = peer
    this.localId = options.localId ?? peer.channels.length
    this.windowBytes = options.windowBytes ?? defaultWindowBytes
    this.maxPacketBytes = options.maxPacketBytes ?? defaultMaxPacketBytes
  }

  // --- opening ---

  /** Sends CHANNEL_OPEN for a session. */
  sendOpen(channelType = 'session', payload: Uint8Array = nothing): void {
    this.#peer.send(channelOpen, {
      channelType,
      senderChannel: this.localId,
      initialWindow: this.windowBytes,
      maxPacket: this.maxPacketBytes,
      payload,
    })
  }

  /** Waits for the confirmation of what `sendOpen` asked. @throws Unexpected */
  async confirmed(): Promise<void> {
    const message = await this.#peer.expect(channelOpenConfirmation)
    const { recipientChannel, senderChannel, initialWindow, maxPacket } = decodeArrived(
      channelOpenConfirmation,
      message,
    )
    if (recipientChannel !== this.localId)
      throw new Unexpected(`a confirmation of channel ${this.localId}`, `one of channel ${recipientChannel}`)
    this.remoteId = senderChannel
    this.sendWindowBytes += initialWindow
    this.maxSendBytes = maxPacket
    this.isOpen = true
  }

  /** Opens a session channel (RFC 4254 s6.1). @throws Unexpected */
  async open(): Promise<void> {
    this.sendOpen()
    await this.confirmed()
  }

  /** Waits for the peer to open a session channel. Global requests that want a reply are refused meanwhile. @throws Unexpected */
  async awaitOpen(): Promise<void> {
    const message = await expectRefusingGlobals(this.#peer, channelOpen.number)
    const open = decodeArrived(channelOpen, message)
    if (open.channelType !== 'session')
      throw new Unexpected('CHANNEL_OPEN of a session', `one of ${open.channelType}`)
    this.remoteId = open.senderChannel
    this.sendWindowBytes += open.initialWindow
    this.maxSendBytes = open.maxPacket
  }

  /** Confirms what `awaitOpen` brought. */
  sendConfirmation(): void {
    const { remoteId, localId, windowBytes, maxPacketBytes } = this
    this.#peer.sendHonest(
      number.CHANNEL_OPEN_CONFIRMATION,
      channelOpenConfirmation.bytes({
        recipientChannel: remoteId,
        senderChannel: localId,
        initialWindow: windowBytes,
        maxPacket: maxPacketBytes,
        payload: nothing,
      }),
    )
    this.isOpen = true
  }

  /** Waits for a session channel and confirms it. @throws Unexpected */
  async accept(): Promise<void> {
    await this.awaitOpen()
    this.sendConfirmation()
  }

  // --- requests ---

  /** Sends a channel request (RFC 4254 s5.4). */
  request(request: string, payload: Uint8Array = nothing, wantReply = true): void {
    this.#peer.send(channelRequest, { recipientChannel: this.remoteId, request, wantReply, payload })
  }

  /** Asks for a subsystem, 'sftp' where left out. @throws NotApplicable where the peer has none */
  async startSubsystem(subsystem = 'sftp'): Promise<void> {
    this.request('subsystem', encodeFields(subsystemFields, { subsystem }))
    const answer = await this.#peer.expect([number.CHANNEL_SUCCESS, number.CHANNEL_FAILURE])
    if (answer.number === number.CHANNEL_FAILURE)
      throw new NotApplicable(`the server has no subsystem ${subsystem}`)
  }

  /** Waits for the peer to start something (exec, shell, subsystem) and grants it; refuses env and what else comes before. */
  async acceptStart(): Promise<string> {
    for (;;) {
      const message = await expectRefusingGlobals(this.#peer, channelRequest.number)
      const { request, wantReply } = decodeArrived(channelRequest, message)
      const starts = ['exec', 'shell', 'subsystem'].includes(request)
      if (wantReply) {
        const payload = channelSuccess.bytes({ recipientChannel: this.remoteId })
        this.#peer.sendHonest(number.CHANNEL_SUCCESS, payload)
      }
      if (starts) return request
    }
  }

  // --- data ---

  /** Sends data in one packet, window or not. */
  sendData(bytes: Uint8Array): void {
    this.sendWindowBytes -= bytes.length
    this.#peer.send(channelData, { recipientChannel: this.remoteId, data: bytes })
  }

  /** Promises more to the peer (RFC 4254 s5.2). */
  adjust(bytes: number): void {
    this.windowBytes += bytes
    this.#peer.send(channelWindowAdjust, { recipientChannel: this.remoteId, bytes })
  }

  sendEof(): void {
    this.#peer.send(channelEof, { recipientChannel: this.remoteId })
  }

  sendClose(): void {
    this.#peer.send(channelClose, { recipientChannel: this.remoteId })
  }

  /** Waits until at least `count` bytes of data came, and takes all that are there. @throws Unexpected */
  async readAtLeast(count: number): Promise<Uint8Array> {
    let held = this.#data.reduce((sum, part) => sum + part.length, 0)
    while (held < count) {
      const message = await this.#peer.expect([
        number.CHANNEL_DATA,
        number.CHANNEL_EXTENDED_DATA,
        number.CHANNEL_SUCCESS,
        number.CHANNEL_FAILURE,
        // exit-status may overtake data that the window holds back.
        number.CHANNEL_REQUEST,
      ])
      if (message.number === number.CHANNEL_DATA) held += message.payload.length - 9
      this.checkPromises()
    }
    return this.takeData()
  }

  /** Data that came while something else was waited for; an empty array where there was none. */
  takeData(): Uint8Array {
    const data = concat(...this.#data)
    this.#data = []
    return data
  }

  /** @throws Unexpected where the peer sent more than it was promised. */
  checkPromises(): void {
    if (this.excess !== undefined) throw new Unexpected('no more data than was promised', this.excess)
  }

  /** Counts a message of this channel; called by the peer for everything that comes. */
  note(message: ArrivedMessage): void {
    if (message.payload.length < 5 || message.number < number.CHANNEL_WINDOW_ADJUST) return
    if (message.number > number.CHANNEL_FAILURE || readU32(message.payload, 1) !== this.localId) return
    switch (message.number) {
      case number.CHANNEL_WINDOW_ADJUST:
        this.sendWindowBytes += decodeArrived(channelWindowAdjust, message).bytes
        return
      case number.CHANNEL_DATA: {
        const { data } = decodeArrived(channelData, message)
        this.#count(data.length)
        this.#data.push(data)
        return
      }
      case number.CHANNEL_EXTENDED_DATA:
        this.#count(decodeArrived(channelExtendedData, message).data.length)
        return
      case number.CHANNEL_EOF:
        this.eofCame = true
        return
      case number.CHANNEL_CLOSE:
        this.closeCame = true
        return
    }
  }

  #count(bytes: number): void {
    this.windowBytes -= bytes
    this.receivedBytes += bytes
    if (bytes > this.maxPacketBytes)
      this.excess ??= `${bytes} bytes in one packet, where ${this.maxPacketBytes} were the most`
    if (this.windowBytes < 0) this.excess ??= `${-this.windowBytes} bytes beyond the window`
    if (this.eofCame) this.excess ??= `${bytes} bytes behind EOF`
    if (this.closeCame) this.excess ??= `${bytes} bytes behind CLOSE`
  }
}

/** Waits for a message; global requests that want a reply get REQUEST_FAILURE meanwhile (OpenSSH's client asks at once). */
async function expectRefusingGlobals(peer: ScriptedPeer, wanted: number): Promise<ArrivedMessage> {
  for (;;) {
    const message = await peer.expect([wanted, number.GLOBAL_REQUEST])
    if (message.number === wanted) return message
    const request = decodeArrived(globalRequest, message)
    if (request.wantReply) peer.send(Uint8Array.of(number.REQUEST_FAILURE))
  }
}
