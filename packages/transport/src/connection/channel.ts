// One channel (RFC 4254 s5) without I/O: its ids, windows, outgoing stream, requests and the way it ends.
// Owns what is queued beyond the peer's window. Data is encoded once, straight into the outbox: writes of one turn share
// a CHANNEL_DATA packet that stays open until it is full or something else must follow it.

import { ChannelClosedError, ProtocolError } from '../errors.ts'
import {
  channelClose,
  channelEof,
  channelFailure,
  channelRequest,
  channelSuccess,
  channelWindowAdjust,
} from '../messages/connection.ts'
import { CHANNEL_DATA, CHANNEL_EXTENDED_DATA } from '../messages/numbers.ts'
import { writeU32 } from '../wire/bytes.ts'
import type { Writer } from '../wire/writer.ts'
import type { Mux } from './mux.ts'
import type { ReceiveWindow } from './window.ts'
import { SendWindow } from './window.ts'

/** Byte + channel id + length, before the data of CHANNEL_DATA. */
const dataHeaderBytes = 9
/** Largest data of one packet that we send, whatever the peer allows: a packet stays below 256 KiB. */
const maxDataBytes = 261_120
const maxPendingRequests = 256

/** Plain channel data; every other type is extended data (RFC 4254 s5.2). */
const plainData = 0

/** Called once with the peer's answer, or with the error that ended the channel. */
export type Settle = (answer: boolean | Error) => void

/** A request of the peer; `reply` is a no-op where no reply is wanted. Replies leave in the order of the requests. */
export interface IncomingRequest {
  request: string
  wantReply: boolean
  payload: Uint8Array
  reply(ok: boolean): void
}

export class Channel {
  readonly type: string
  readonly localId: number
  remoteId = 0
  readonly receiveWindow: ReceiveWindow
  /** Largest data of one packet that we accept. */
  readonly maxReceiveBytes: number
  sendWindow: SendWindow = new SendWindow(0)
  #maxSendBytes = 0
  state: 'opening' | 'open' | 'closed' = 'opening'
  eofReceived = false
  closeReceived = false
  #eofWanted = false
  #eofSent = false
  closeSent = false
  /** Bytes accepted by `write` that the window (or a key exchange) does not let go yet. */
  #queue: { bytes: Uint8Array; dataType: number }[] = []
  #queueAt = 0
  queuedBytes = 0
  /** Waits for the queue to empty. */
  #afterFlush: (() => void) | undefined
  /** Someone found less room than wanted: tell when there is more. */
  starved = false
  #settles: Settle[] = []
  #incoming: { ok: boolean | undefined }[] = []
  /** Bytes in the CHANNEL_DATA packet left open. */
  #openBytes = 0
  #isOpen = false
  readonly #mux: Mux

  constructor(
    mux: Mux,
    type: string,
    localId: number,
    receiveWindow: ReceiveWindow,
    maxReceiveBytes: number,
  ) {
    this.#mux = mux
    this.type = type
    this.localId = localId
    this.receiveWindow = receiveWindow
    this.maxReceiveBytes = maxReceiveBytes
  }

  /** The peer's half is known. */
  opened(remoteId: number, window: number, maxPacket: number): void {
    this.remoteId = remoteId
    this.sendWindow = new SendWindow(window)
    this.#maxSendBytes = Math.min(maxPacket, maxDataBytes)
    this.state = 'open'
  }

  // --- outgoing data ---

  /** Bytes that can be written now without queueing. */
  get writableBytes(): number {
    const { sink } = this.#mux
    const room =
      this.state !== 'open' || sink.blocked || this.queuedBytes > 0 || this.#eofWanted
        ? 0
        : Math.min(this.sendWindow.available, Math.max(0, this.#mux.outboxHighWater - sink.pendingBytes))
    if (room < this.#mux.outboxHighWater / 2) this.starved = true
    return room
  }

  /** Appends to the outgoing stream. The bytes are copied before this returns. */
  write(bytes: Uint8Array): void {
    if (this.state !== 'open' || this.#eofWanted || this.closeSent) return
    this.#enqueue(bytes, this.queuedBytes === 0 ? this.#send(bytes, 0) : 0, plainData)
  }

  /** As `write`, for extended data such as stderr (RFC 4254 s5.2). It keeps its place among what `write` was given. */
  writeExtended(dataType: number, bytes: Uint8Array): void {
    if (this.state !== 'open' || this.#eofWanted || this.closeSent) return
    this.#enqueue(bytes, this.queuedBytes === 0 ? this.#sendExtended(bytes, 0, dataType) : 0, dataType)
  }

  #enqueue(bytes: Uint8Array, sent: number, dataType: number): void {
    if (sent === bytes.length) return
    this.#queue.push({ bytes: bytes.slice(sent), dataType })
    this.queuedBytes += bytes.length - sent
  }

  /** Sends as much as the window allows from `from` on; returns where it stopped. */
  #send(bytes: Uint8Array, from: number): number {
    const { sink } = this.#mux
    let at = from
    while (at < bytes.length && this.sendWindow.available > 0 && !sink.blocked) {
      const writer = this.#openPacket()
      const count = Math.min(
        bytes.length - at,
        this.sendWindow.available,
        this.#maxSendBytes - this.#openBytes,
      )
      writer.raw(count === bytes.length ? bytes : bytes.subarray(at, at + count))
      at += count
      this.#openBytes += count
      this.sendWindow.available -= count
      // A full packet is sealed at once, so that sealing does not pile up at the end of the turn.
      if (this.#openBytes === this.#maxSendBytes) this.#mux.finishOpenPacket()
    }
    return at
  }

  /** The CHANNEL_DATA packet being filled, begun when there is none of ours. */
  #openPacket(): Writer {
    if (this.#isOpen) return this.#mux.openWriter!
    const writer = this.#mux.beginOpenPacket(
      dataHeaderBytes + Math.min(this.#maxSendBytes, this.sendWindow.available, 65_536),
    )
    writer.u8(CHANNEL_DATA).u32(this.remoteId).u32(0)
    this.#openBytes = 0
    this.#isOpen = true
    this.#mux.leaveOpen(writer, () => {
      // Positions may have moved with the packet, so count back from its end.
      writeU32(writer.buffer, writer.length - this.#openBytes - 4, this.#openBytes)
      this.#isOpen = false
    })
    return writer
  }

  #sendExtended(bytes: Uint8Array, from: number, dataType: number): number {
    const { sink } = this.#mux
    let at = from
    while (at < bytes.length && this.sendWindow.available > 0 && !sink.blocked) {
      const count = Math.min(bytes.length - at, this.sendWindow.available, this.#maxSendBytes)
      const writer = sink.begin(13 + count)
      writer
        .u8(CHANNEL_EXTENDED_DATA)
        .u32(this.remoteId)
        .u32(dataType)
        .string(bytes.subarray(at, at + count))
      sink.end()
      at += count
      this.sendWindow.available -= count
    }
    return at
  }

  /** Sends what is queued as far as it goes. Returns whether nothing is left. */
  flushQueue(): boolean {
    while (this.#queue.length > 0) {
      const { bytes, dataType } = this.#queue[0]!
      const at =
        dataType === plainData
          ? this.#send(bytes, this.#queueAt)
          : this.#sendExtended(bytes, this.#queueAt, dataType)
      this.queuedBytes -= at - this.#queueAt
      if (at < bytes.length) {
        this.#queueAt = at
        return false
      }
      this.#queue.shift()
      this.#queueAt = 0
    }
    this.#maybeSendEof()
    const then = this.#afterFlush
    this.#afterFlush = undefined
    then?.()
    return true
  }

  /** Calls `then` once everything written so far went out: now, or later. Never where the channel closes before. */
  afterFlush(then: () => void): void {
    if (this.queuedBytes === 0) then()
    else this.#afterFlush = then
  }

  /** Ends our direction once everything written went out. */
  end(): void {
    if (this.state !== 'open' || this.#eofWanted) return
    this.#eofWanted = true
    this.#maybeSendEof()
  }

  #maybeSendEof(): void {
    if (!this.#eofWanted || this.#eofSent || this.closeSent || this.queuedBytes > 0) return
    this.#eofSent = true
    this.#mux.send((writer) => channelEof.encode(writer, { recipientChannel: this.remoteId }))
  }

  /** Sends CLOSE; what is queued is dropped. Idempotent. */
  close(): void {
    if (this.state !== 'open' || this.closeSent) return
    this.closeSent = true
    this.#queue = []
    this.queuedBytes = 0
    this.#mux.send((writer) => channelClose.encode(writer, { recipientChannel: this.remoteId }))
    if (this.closeReceived) this.#mux.forget(this)
  }

  // --- incoming data ---

  /** Checks data that came against what was promised (RFC 4254 s5.2). */
  accept(length: number): void {
    if (this.eofReceived)
      throw new ProtocolError(`data after EOF on channel ${this.localId}`, { phase: 'connection' })
    if (length > this.maxReceiveBytes)
      throw new ProtocolError(
        `${length} bytes of channel data in one packet, at most ${this.maxReceiveBytes} were promised`,
        { phase: 'connection' },
      )
    this.receiveWindow.receive(length)
  }

  /** The application took `count` bytes: credit goes back to the peer, sooner or later. */
  consumed(count: number): void {
    const adjust = this.receiveWindow.consume(count, this.#mux.now(), this.#mux.roundTripMs)
    if (adjust === 0 || this.state !== 'open' || this.closeSent || this.eofReceived) return
    this.#mux.send((writer) =>
      channelWindowAdjust.encode(writer, { recipientChannel: this.remoteId, bytes: adjust }),
    )
  }

  // --- requests ---

  /** Sends a channel request (RFC 4254 s5.4); `settle` is called with the answer where one is wanted. */
  request(request: string, payload: Uint8Array, settle?: Settle): void {
    if (this.state !== 'open' || this.closeSent) {
      settle?.(new ChannelClosedError(`channel ${this.localId} is closed`))
      return
    }
    if (settle !== undefined) this.#settles.push(settle)
    this.#mux.send((writer) =>
      channelRequest.encode(writer, {
        recipientChannel: this.remoteId,
        request,
        wantReply: settle !== undefined,
        payload,
      }),
    )
  }

  /** The peer answered our oldest open request. An unsolicited answer is dropped (Go CVE-2026-39830 deadlocked on one). */
  answered(ok: boolean): void {
    this.#settles.shift()?.(ok)
  }

  /** Makes the object that answers a request of the peer. */
  incoming(request: string, wantReply: boolean, payload: Uint8Array): IncomingRequest {
    if (!wantReply) return { request, wantReply, payload, reply: () => {} }
    if (this.#incoming.length >= maxPendingRequests)
      throw new ProtocolError(`more than ${maxPendingRequests} unanswered channel requests`, {
        phase: 'connection',
      })
    const slot: { ok: boolean | undefined } = { ok: undefined }
    this.#incoming.push(slot)
    const reply = (ok: boolean): void => {
      if (slot.ok !== undefined) return
      slot.ok = ok
      while (this.#incoming[0]?.ok !== undefined) {
        const answer = this.#incoming.shift()!
        if (this.state !== 'open' || this.closeSent) continue
        const message = answer.ok === true ? channelSuccess : channelFailure
        this.#mux.send((writer) => message.encode(writer, { recipientChannel: this.remoteId }))
      }
    }
    return { request, wantReply, payload, reply }
  }

  /** Ends every pending request; called once by the mux when the channel is gone. */
  settleAll(error: Error): void {
    this.state = 'closed'
    this.#afterFlush = undefined
    this.#queue = []
    this.queuedBytes = 0
    const settles = this.#settles
    this.#settles = []
    for (const settle of settles) settle(error)
  }
}
