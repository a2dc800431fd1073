/** A scripted SFTP client: sends what a test says, valid or not, and hands back the packets that come, in their order. */
import type { ByteChannel } from '@sshblock/transport/byte-channel'
import {
  concat,
  type Fields,
  type Message,
  readU32,
  type ValueOf,
  Writer,
  writeU32,
} from '@sshblock/transport/wire'
import {
  type Attributes,
  extended,
  type NameEntry,
  packetType,
  replies,
  requests,
} from '../../../packages/sftp/src/messages/index.ts'

/** A packet, length field included, around a payload. */
export function framed(payload: Uint8Array): Uint8Array {
  const packet = new Uint8Array(4 + payload.length)
  writeU32(packet, 0, payload.length)
  packet.set(payload, 4)
  return packet
}

const encoder = new TextEncoder()
const decoder = new TextDecoder()
export const bytes = (text: string): Uint8Array => encoder.encode(text)
export const text = (view: Uint8Array): string => decoder.decode(view)

/** A reply: its type, its id (VERSION: the version), and the payload from the type byte on. */
export interface RawReply {
  readonly type: number
  readonly id: number
  readonly payload: Uint8Array
}

export class RawClient {
  readonly channel: ByteChannel
  /** Bytes that came and were not looked at yet. */
  #pending: Uint8Array = new Uint8Array(0)
  readonly #replies: RawReply[] = []
  readonly #waiting: ((reply: RawReply | undefined) => void)[] = []
  #nextId = 1
  receivedBytes = 0
  ended = false
  isClosed = false
  readonly closed: Promise<Error | undefined>

  constructor(channel: ByteChannel) {
    this.channel = channel
    let resolveClosed!: (cause: Error | undefined) => void
    this.closed = new Promise((resolve) => {
      resolveClosed = resolve
    })
    const over = () => {
      for (const wake of this.#waiting.splice(0)) wake(undefined)
    }
    channel.start({
      data: (view) => this.#receive(view),
      writable: () => {},
      end: () => {
        this.ended = true
        over()
      },
      closed: (cause) => {
        this.isClosed = true
        over()
        resolveClosed(cause)
      },
    })
  }

  #receive(view: Uint8Array): void {
    this.receivedBytes += view.length
    const all = concat(this.#pending, view)
    let at = 0
    while (all.length - at >= 4) {
      const length = readU32(all, at)
      if (all.length - at < 4 + length) break
      const payload = all.slice(at + 4, at + 4 + length)
      at += 4 + length
      const reply = { type: payload[0]!, id: readU32(payload, 1), payload }
      const wake = this.#waiting.shift()
      if (wake === undefined) this.#replies.push(reply)
      else wake(reply)
    }
    this.#pending = all.slice(at)
  }

  get repliesWaiting(): number {
    return this.#replies.length
  }

  id(): number {
    return this.#nextId++
  }

  sendRaw(raw: Uint8Array): void {
    this.channel.write(raw)
  }

  send<F extends Fields>(message: Message<F>, value: ValueOf<F>): void {
    this.sendRaw(framed(message.bytes(value)))
  }

  sendWritten(write: (writer: Writer) => void): void {
    const writer = new Writer()
    write(writer)
    this.sendRaw(framed(writer.copy()))
  }

  /** The next reply in the order in which they came; undefined when the stream is over. */
  receive(): Promise<RawReply | undefined> {
    const reply = this.#replies.shift()
    if (reply !== undefined) return Promise.resolve(reply)
    if (this.isClosed || this.ended) return Promise.resolve(undefined)
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  /** The next reply, which must answer request `id`. */
  async answer(id: number): Promise<RawReply> {
    const reply = await this.receive()
    if (reply === undefined) throw new Error(`the channel ended before request ${id} was answered`)
    if (reply.id !== id) throw new Error(`expected an answer to request ${id}, got one to ${reply.id}`)
    return reply
  }

  async init(): Promise<Map<string, string>> {
    this.send(requests.init, { version: 3, extensions: [] })
    const reply = await this.receive()
    const { extensions } = replies.version.decode(reply!.payload)
    return new Map(extensions.map(({ name, data }) => [name, text(data)]))
  }

  async status(id: number): Promise<number> {
    const reply = await this.answer(id)
    return replies.status.decode(reply.payload).code
  }

  /** Sends a request and returns its status code. */
  async code<F extends Fields>(message: Message<F>, value: Omit<ValueOf<F>, 'id'>): Promise<number> {
    const id = this.id()
    this.send(message, { ...value, id } as unknown as ValueOf<F>)
    return this.status(id)
  }

  /** Sends a request and returns its answer. */
  async ask<F extends Fields>(message: Message<F>, value: Omit<ValueOf<F>, 'id'>): Promise<RawReply> {
    const id = this.id()
    this.send(message, { ...value, id } as unknown as ValueOf<F>)
    return this.answer(id)
  }

  async askExtended(write: (writer: Writer, id: number) => void): Promise<RawReply> {
    const id = this.id()
    this.sendWritten((writer) => write(writer, id))
    return this.answer(id)
  }

  /** OPEN that must succeed. */
  async open(path: string, pflags: number, attrs: Attributes = {}): Promise<Uint8Array> {
    return handleIn(await this.ask(requests.open, { filename: bytes(path), pflags, attrs }))
  }

  async opendir(path: string): Promise<Uint8Array> {
    return handleIn(await this.ask(requests.opendir, { path: bytes(path) }))
  }

  /** All names of a directory, in the order in which they came. */
  async list(path: string): Promise<NameEntry[]> {
    const handle = await this.opendir(path)
    const all: NameEntry[] = []
    for (;;) {
      const reply = await this.ask(requests.readdir, { handle })
      if (reply.type === packetType.status) break
      all.push(...replies.name.decode(reply.payload).names)
    }
    await this.code(requests.close, { handle })
    return all
  }

  async read(handle: Uint8Array, offset: number, len: number): Promise<Uint8Array | number> {
    const reply = await this.ask(requests.read, { handle, offset, len })
    return reply.type === packetType.data
      ? replies.data.decode(reply.payload).data
      : replies.status.decode(reply.payload).code
  }

  write(handle: Uint8Array, offset: number, data: Uint8Array): Promise<number> {
    return this.code(requests.write, { handle, offset, data })
  }
}

export function statusIn(reply: RawReply): { code: number; message: string } {
  return replies.status.decode(reply.payload)
}

export function handleIn(reply: RawReply): Uint8Array {
  if (reply.type !== packetType.handle)
    throw new Error(`no handle: ${JSON.stringify(replies.status.decode(reply.payload))}`)
  return replies.handle.decode(reply.payload).handle
}

export function nameIn(reply: RawReply): string {
  if (reply.type !== packetType.name)
    throw new Error(`no name: ${JSON.stringify(replies.status.decode(reply.payload))}`)
  return text(replies.name.decode(reply.payload).names[0]!.filename)
}

export function attrsIn(reply: RawReply): Attributes {
  if (reply.type !== packetType.attrs)
    throw new Error(`no attributes: ${JSON.stringify(replies.status.decode(reply.payload))}`)
  return replies.attrs.decode(reply.payload).attrs
}

export { extended, packetType, replies, requests }
