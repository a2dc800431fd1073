// One channel between a client and a process on a server, as bytes in flight: they take time, stall, get lost behind any
// byte, and, worst of all, arrive after the client has given up. Both ends are byte channels; the model pulls the strings.
//   up    client to server: after a loss, what is already on its way may still reach the server, now or much later
//   down  server to client: whole SFTP replies, which may be put out of order, withheld, doubled, or cut in the middle

import type { ByteChannel, ByteReceiver } from '@sshblock/transport/byte-channel'
import { ConnectionLost } from '@sshblock/transport/errors'
import type { Random } from './random.ts'
import type { VirtualTime } from './virtual-time.ts'

export interface LinkOptions {
  /** Milliseconds that bytes take. */
  readonly latencyMs: () => number
  /** Bytes in flight that a direction takes. */
  readonly windowBytes: number
  /** Largest piece in which bytes arrive. */
  readonly pieceBytes: () => number
  /** Whether replies may overtake each other. */
  readonly reorders: boolean
}

/** How a connection is lost. */
export interface Loss {
  /** 'reset': the client is told at once. 'silent': it is never told (half-open). 'end': an orderly close by the server. */
  readonly client: 'reset' | 'silent' | 'end'
  /** How much of what is under way to the server still arrives, 0 to 1. */
  readonly arriving: number
  /** When it does, in milliseconds from now. */
  readonly lateMs: number
  /** When the server learns that the client is gone, after that. */
  readonly serverSeesMs: number
}

type Item = { readonly bytes: Uint8Array } | 'end' | 'close'

/** One direction: items in order, each after its time. */
class Stream {
  readonly #time: VirtualTime
  readonly #deliver: (item: Item) => void
  #queue: Item[] = []
  queuedBytes = 0
  /** Bytes delivered so far. */
  deliveredBytes = 0
  #held = 0
  #timer: unknown
  #readyAt = 0
  #dead = false

  constructor(time: VirtualTime, deliver: (item: Item) => void) {
    this.#time = time
    this.#deliver = deliver
  }

  get isDead(): boolean {
    return this.#dead
  }

  put(item: Item, delayMs: number): void {
    if (this.#dead) return
    if (typeof item === 'object') this.queuedBytes += item.bytes.length
    this.#queue.push(item)
    if (this.#queue.length === 1) this.#readyAt = this.#time.now() + delayMs
    this.#arm()
  }

  hold(): void {
    this.#held++
    this.#time.clearTimer(this.#timer)
    this.#timer = undefined
  }

  release(): void {
    if (--this.#held === 0) this.#arm()
  }

  /** Nothing more goes in; of what is there only the first `bytes` go on, after `delayMs`. */
  truncate(bytes: number, delayMs: number): void {
    const kept: Item[] = []
    let room = bytes
    for (const item of this.#queue) {
      if (typeof item !== 'object') break
      if (room <= 0) break
      kept.push({ bytes: item.bytes.subarray(0, room) })
      room -= item.bytes.length
    }
    this.#queue = kept
    this.queuedBytes = kept.reduce((sum, item) => sum + (typeof item === 'object' ? item.bytes.length : 0), 0)
    this.#readyAt = this.#time.now() + delayMs
    this.#time.clearTimer(this.#timer)
    this.#timer = undefined
    this.#arm()
  }

  /** Everything in it is gone. */
  kill(): void {
    this.#dead = true
    this.#queue = []
    this.queuedBytes = 0
    this.#time.clearTimer(this.#timer)
  }

  #arm(): void {
    if (this.#timer !== undefined || this.#held > 0 || this.#queue.length === 0 || this.#dead) return
    this.#timer = this.#time.setTimer(() => this.#next(), Math.max(0, this.#readyAt - this.#time.now()))
  }

  #next(): void {
    this.#timer = undefined
    const item = this.#queue.shift()
    if (item === undefined || this.#dead) return
    if (typeof item === 'object') {
      this.queuedBytes -= item.bytes.length
      this.deliveredBytes += item.bytes.length
    }
    this.#deliver(item)
    this.#arm()
  }
}

class LinkEnd implements ByteChannel {
  readonly description = 'model link'
  receiver: ByteReceiver | undefined
  readonly early: (() => void)[] = []
  isClosed = false
  ended = false
  isPaused = false
  closing = false
  room: () => number = () => 0
  onWrite: (bytes: Uint8Array) => void = () => {}
  onEnd: () => void = () => {}
  onClose: () => void = () => {}
  onResume: () => void = () => {}
  onClosed: (cause: Error | undefined) => void = () => {}
  wantsRoom = false

  start(receiver: ByteReceiver): void {
    this.receiver = receiver
    for (const each of this.early.splice(0)) each()
  }

  write(bytes: Uint8Array): void {
    if (this.isClosed || this.ended || this.closing || bytes.length === 0) return
    this.onWrite(bytes.slice())
    if (this.room() <= 0) this.wantsRoom = true
  }

  get writableBytes(): number {
    if (this.isClosed || this.ended || this.closing) return 0
    const room = Math.max(0, this.room())
    this.wantsRoom = true
    return room
  }

  pause(): void {
    this.isPaused = true
  }

  resume(): void {
    if (!this.isPaused) return
    this.isPaused = false
    this.onResume()
  }

  end(): void {
    if (this.ended || this.isClosed || this.closing) return
    this.ended = true
    this.onEnd()
  }

  close(): void {
    if (this.isClosed || this.closing) return
    this.closing = true
    this.onClose()
  }

  deliver(bytes: Uint8Array): void {
    if (this.isClosed) return
    const receiver = this.receiver
    if (receiver === undefined) {
      this.early.push(() => this.deliver(bytes))
      return
    }
    receiver.data(bytes)
    // As a receive buffer that is used again.
    bytes.fill(0xee)
  }

  deliverEnd(): void {
    if (this.isClosed) return
    if (this.receiver === undefined) this.early.push(() => this.deliverEnd())
    else this.receiver.end()
  }

  deliverClosed(cause?: Error): void {
    if (this.isClosed) return
    if (this.receiver === undefined && !this.closing) {
      this.early.push(() => this.deliverClosed(cause))
      return
    }
    this.isClosed = true
    this.onClosed(cause)
    this.receiver?.closed(cause)
  }

  roomGrew(): void {
    if (!this.wantsRoom || this.isClosed || this.room() <= 0) return
    this.wantsRoom = false
    this.receiver?.writable()
  }
}

export class Link {
  readonly client: ByteChannel
  readonly server: ByteChannel
  readonly #time: VirtualTime
  readonly #random: Random
  readonly #options: LinkOptions
  readonly #client = new LinkEnd()
  readonly #server = new LinkEnd()
  readonly #up: Stream
  readonly #down: Stream
  /** Bytes of replies that are not whole yet. */
  #partial: Uint8Array = new Uint8Array(0)
  #lost: Loss | undefined
  /** The connection goes when so many bytes went up, or came down. */
  #cut: { direction: 'up' | 'down'; at: number; loss: Loss; cutNow: () => void } | undefined
  #upBytes = 0
  #downBytes = 0
  #doubleNext = false
  #stalls = 0
  /** The client's end is closed, with why, where that was not in order. */
  readonly clientClosed: Promise<Error | undefined>

  constructor(time: VirtualTime, random: Random, options: LinkOptions) {
    this.#time = time
    this.#random = random
    this.#options = options
    this.client = this.#client
    this.server = this.#server
    this.clientClosed = new Promise((resolve) => {
      this.#client.onClosed = resolve
    })
    this.#up = new Stream(time, (item) => this.#atServer(item))
    this.#down = new Stream(time, (item) => this.#atClient(item))
    this.#client.room = () => options.windowBytes - this.#up.queuedBytes
    this.#server.room = () => options.windowBytes - this.#down.queuedBytes
    this.#client.onWrite = (bytes) => this.#fromClient(bytes)
    this.#client.onEnd = () => this.#up.put('end', options.latencyMs())
    // CLOSE: what was sent before it still arrives; the peer's answer to it is the end, and on a connection that is lost
    // without a word there is none.
    this.#client.onClose = () => {
      if (this.#lost === undefined) this.#up.put('end', options.latencyMs())
    }
    this.#server.onWrite = (bytes) => this.#fromServer(bytes)
    this.#server.onEnd = () => this.#down.put('end', options.latencyMs())
    this.#server.onClose = () => {
      this.#down.put('close', options.latencyMs())
      this.#serverGone()
    }
  }

  /** Bytes that the client sent. */
  get upBytes(): number {
    return this.#upBytes
  }

  get isLost(): boolean {
    return this.#lost !== undefined
  }

  /** Neither direction moves until `release`. */
  hold(): void {
    this.#stalls++
    this.#up.hold()
    this.#down.hold()
  }

  release(): void {
    if (this.#stalls === 0) return
    this.#stalls--
    this.#up.release()
    this.#down.release()
  }

  /** The server's process is stopped: what the client sends piles up. */
  holdServer(): void {
    this.#up.hold()
  }

  releaseServer(): void {
    this.#up.release()
  }

  /** Replies do not come any more, and nobody says why. */
  holdReplies(): void {
    this.#down.hold()
  }

  releaseReplies(): void {
    this.#down.release()
  }

  /** The next reply comes twice. */
  doubleNextReply(): void {
    this.#doubleNext = true
  }

  /** The connection is lost when byte number `at` from now has gone up (down: come down); `cutNow` loses all of it. */
  cutAt(direction: 'up' | 'down', at: number, loss: Loss, cutNow: () => void): void {
    const base = direction === 'up' ? this.#upBytes : this.#downBytes
    this.#cut = { direction, at: base + at, loss, cutNow }
  }

  lose(loss: Loss, cause: Error): void {
    if (this.#lost !== undefined) return
    this.#lost = loss
    // What arrives at once is past the place where it stalled.
    if (loss.lateMs === 0) while (this.#stalls > 0) this.release()
    const arriving = Math.round(this.#up.queuedBytes * loss.arriving)
    this.#up.truncate(arriving, loss.lateMs)
    this.#down.kill()
    this.#partial = new Uint8Array(0)
    if (loss.client !== 'silent') this.#client.deliverClosed(loss.client === 'end' ? undefined : cause)
    this.#time.setTimer(() => {
      // Behind what arrives: the process sees the end of its input, and leaves.
      this.#up.put('end', 0)
      this.#time.setTimer(() => {
        if (!this.#server.isClosed && this.#up.queuedBytes === 0) this.#server.deliverEnd()
      }, 1)
    }, loss.lateMs + loss.serverSeesMs)
  }

  /** The server's process was killed: the client sees its channel close, unless the connection is lost. */
  killServer(): void {
    this.#up.kill()
    this.#server.deliverClosed()
    this.#serverGone()
    if (this.#lost === undefined) this.#down.put('close', this.#options.latencyMs())
  }

  /** The machine went down, and nobody tells the client. */
  vanish(): void {
    this.#up.kill()
    this.#down.kill()
    this.#lost ??= { client: 'silent', arriving: 0, lateMs: 0, serverSeesMs: 0 }
    this.#server.deliverClosed()
    this.#serverGone()
  }

  /** The client is told of a loss that was silent so far. */
  tell(cause: Error): void {
    this.#client.deliverClosed(cause)
  }

  #serverGone(): void {
    this.#server.isClosed = true
  }

  #fromClient(bytes: Uint8Array): void {
    if (this.#lost !== undefined) return
    const cut = this.#cut
    this.#upBytes += bytes.length
    if (cut?.direction === 'up' && this.#upBytes >= cut.at) {
      this.#cut = undefined
      const kept = bytes.length - (this.#upBytes - cut.at)
      this.#put(this.#up, bytes.subarray(0, kept))
      cut.cutNow()
      return
    }
    this.#put(this.#up, bytes)
  }

  #put(stream: Stream, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const piece = bytes.subarray(at, at + Math.max(1, this.#options.pieceBytes()))
      stream.put({ bytes: piece }, this.#options.latencyMs())
      at += piece.length
    }
  }

  /** Replies go on their way whole, so that they can overtake each other. */
  #fromServer(bytes: Uint8Array): void {
    if (this.#lost !== undefined) return
    const all = new Uint8Array(this.#partial.length + bytes.length)
    all.set(this.#partial)
    all.set(bytes, this.#partial.length)
    let at = 0
    const replies: Uint8Array[] = []
    while (all.length - at >= 4) {
      const length = 4 + new DataView(all.buffer, at).getUint32(0)
      if (all.length - at < length) break
      replies.push(all.subarray(at, at + length))
      at += length
    }
    this.#partial = all.subarray(at)
    for (const reply of replies) this.#reply(reply)
  }

  #reply(reply: Uint8Array): void {
    if (this.#options.reorders && this.#random.chance(0.5)) {
      const late = reply.slice()
      this.#time.setTimer(
        () => {
          if (this.#lost === undefined) this.#put(this.#down, late)
        },
        this.#random.between(1, 30),
      )
      return
    }
    this.#put(this.#down, reply.slice())
    if (this.#doubleNext) {
      this.#doubleNext = false
      this.#put(this.#down, reply.slice())
    }
  }

  #atServer(item: Item): void {
    if (item === 'end' || item === 'close') this.#server.deliverEnd()
    else this.#server.deliver(item.bytes)
    this.#client.roomGrew()
  }

  #atClient(item: Item): void {
    if (item === 'end') this.#client.deliverEnd()
    else if (item === 'close') this.#client.deliverClosed()
    else this.#replyAtClient(item.bytes)
    this.#server.roomGrew()
  }

  #replyAtClient(bytes: Uint8Array): void {
    const cut = this.#cut
    this.#downBytes += bytes.length
    if (cut?.direction === 'down' && this.#downBytes >= cut.at) {
      this.#cut = undefined
      const kept = bytes.length - (this.#downBytes - cut.at)
      if (kept > 0) this.#client.deliver(bytes.slice(0, kept))
      cut.cutNow()
      return
    }
    this.#client.deliver(bytes)
  }
}

/** What the client is told when a connection breaks. */
export function connectionReset(): Error {
  return new ConnectionLost('transfer', 'the model cut it')
}
