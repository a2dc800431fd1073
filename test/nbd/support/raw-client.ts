/** An NBD client that does what it is told, byte by byte: for what real clients never send. */
import { connect, type Socket } from 'node:net'
import type { NbdAddress } from '@sshblock/nbd'
import { registerCleanup } from '../../support/cleanup.ts'
import {
  bothClientFlags,
  CHUNK,
  concat,
  infoData,
  metaData,
  OPT,
  type OptionReply,
  option,
  REP,
  type RequestFields,
  request,
} from './messages.ts'

export interface Chunk {
  readonly flags: number
  readonly type: number
  readonly payload: Uint8Array
}

/** A whole reply, simple or structured. */
export interface Reply {
  readonly cookie: bigint
  readonly structured: boolean
  /** 0, or the first error. */
  readonly error: number
  readonly chunks: readonly Chunk[]
  /** READ: data put together. */
  readonly data: Uint8Array
  /** Text of an error chunk. */
  readonly message: string
}

export class RawClient {
  readonly socket: Socket
  #chunks: Uint8Array[] = []
  #receivedBytes = 0
  #ended = false
  #wake: (() => void) | undefined
  readonly #lengths = new Map<bigint, { offset: bigint; length: number }>()
  #replies: Promise<unknown> = Promise.resolve()
  #structured = false
  #nextCookie = 1n

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', (chunk) => {
      this.#chunks.push(chunk)
      this.#receivedBytes += chunk.length
      this.#wake?.()
    })
    const ended = (): void => {
      this.#ended = true
      this.#wake?.()
    }
    socket.on('end', ended)
    socket.on('close', ended)
    socket.on('error', ended)
  }

  static async connect(address: NbdAddress): Promise<RawClient> {
    const socket = 'socketPath' in address ? connect(address.socketPath) : connect(address.port, address.host)
    const client = new RawClient(socket)
    registerCleanup(() => void socket.destroy())
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    return client
  }

  send(...bytes: readonly Uint8Array[]): void {
    this.socket.write(concat(...bytes))
  }

  /** Exactly `count` bytes. Throws where the server ends the connection before. */
  async read(count: number): Promise<Uint8Array> {
    while (this.#receivedBytes < count) {
      if (this.#ended) throw new Error(`the server hung up after ${this.#receivedBytes} of ${count} bytes`)
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    const bytes = new Uint8Array(count)
    let filled = 0
    while (filled < count) {
      const chunk = this.#chunks[0]!
      const part = chunk.subarray(0, count - filled)
      bytes.set(part, filled)
      filled += part.length
      if (part.length === chunk.length) this.#chunks.shift()
      else this.#chunks[0] = chunk.subarray(part.length)
    }
    this.#receivedBytes -= count
    return bytes
  }

  /** Everything until the server hangs up. */
  async readToEnd(): Promise<Uint8Array> {
    while (!this.#ended) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    return this.read(this.#receivedBytes)
  }

  get isEnded(): boolean {
    return this.#ended
  }

  get receivedBytes(): number {
    return this.#receivedBytes
  }

  /** Reads the greeting and answers it. */
  async greet(clientFlags: Uint8Array = bothClientFlags): Promise<Uint8Array> {
    const greeting = await this.read(18)
    this.send(clientFlags)
    return greeting
  }

  async optionReply(): Promise<OptionReply> {
    const header = await this.read(20)
    const view = new DataView(header.buffer)
    if (view.getBigUint64(0) !== 0x3e889045565a9n) throw new Error('not an option reply')
    return { option: view.getUint32(8), type: view.getUint32(12), data: await this.read(view.getUint32(16)) }
  }

  /** Sends an option and reads its replies up to the final one. */
  async option(type: number, data?: Uint8Array): Promise<OptionReply[]> {
    this.send(option(type, data))
    const replies: OptionReply[] = []
    for (;;) {
      const reply = await this.optionReply()
      replies.push(reply)
      if (reply.type === REP.ACK || reply.type >= 0x80000000) return replies
    }
  }

  /** Negotiates up to the transmission phase. @returns size and transmission flags */
  async go(
    name = '',
    options: { structured?: boolean; blockStatus?: boolean } = {},
  ): Promise<{ size: bigint; flags: number }> {
    await this.greet()
    if (options.structured === true || options.blockStatus === true) {
      const [ack] = await this.option(OPT.STRUCTURED_REPLY)
      if (ack?.type !== REP.ACK) throw new Error('no structured replies')
      this.#structured = true
    }
    if (options.blockStatus === true)
      await this.option(OPT.SET_META_CONTEXT, metaData(name, 'base:allocation'))
    const replies = await this.option(OPT.GO, infoData(name))
    const last = replies.at(-1)!
    if (last.type !== REP.ACK) throw new Error(`GO was refused: ${last.type.toString(16)}`)
    const info = replies.find(
      (reply) => reply.type === REP.INFO && reply.data[0] === 0 && reply.data[1] === 0,
    )!
    const view = new DataView(info.data.buffer)
    return { size: view.getBigUint64(2), flags: view.getUint16(10) }
  }

  /** Sends a request without waiting for its reply. @returns its cookie */
  post(type: number, fields: RequestFields = {}): bigint {
    const cookie = BigInt(fields.cookie ?? this.#nextCookie++)
    const length = fields.length ?? fields.payload?.length ?? 0
    if (type === 0) this.#lengths.set(cookie, { offset: BigInt(fields.offset ?? 0), length })
    this.send(request(type, { ...fields, cookie }))
    return cookie
  }

  async call(type: number, fields: RequestFields = {}): Promise<Reply> {
    const cookie = this.post(type, fields)
    const reply = await this.reply()
    if (reply.cookie !== cookie) throw new Error(`the reply is for ${reply.cookie}, not ${cookie}`)
    return reply
  }

  /** The next whole reply. Chunks of one reply must not be mixed with those of another. */
  reply(): Promise<Reply> {
    // One reader at a time, in the order in which they asked.
    const reply = this.#replies.then(() => this.#readReply())
    this.#replies = reply.catch(() => {})
    return reply
  }

  async #readReply(): Promise<Reply> {
    const chunks: Chunk[] = []
    for (;;) {
      const magic = new DataView((await this.read(4)).buffer).getUint32(0)
      if (magic === 0x67446698) {
        if (chunks.length > 0) throw new Error('a simple reply within a structured one')
        const view = new DataView((await this.read(12)).buffer)
        const error = view.getUint32(0)
        const cookie = view.getBigUint64(4)
        const read = this.#lengths.get(cookie)
        this.#lengths.delete(cookie)
        if (read !== undefined && this.#structured)
          throw new Error('a simple reply to READ despite structured replies')
        const data = await this.read(read !== undefined && error === 0 ? read.length : 0)
        return { cookie, structured: false, error, chunks, data, message: '' }
      }
      if (magic !== 0x668e33ef) throw new Error(`not a reply: 0x${magic.toString(16)}`)
      const view = new DataView((await this.read(16)).buffer)
      chunks.push({
        flags: view.getUint16(0),
        type: view.getUint16(2),
        payload: await this.read(view.getUint32(12)),
      })
      if ((view.getUint16(0) & 1) !== 0) return this.#assemble(view.getBigUint64(4), chunks)
    }
  }

  #assemble(cookie: bigint, chunks: readonly Chunk[]): Reply {
    const read = this.#lengths.get(cookie)
    this.#lengths.delete(cookie)
    const data = new Uint8Array(read?.length ?? 0)
    let covered = 0
    let error = 0
    let message = ''
    for (const { type, payload } of chunks) {
      const view = new DataView(payload.buffer)
      if (type === CHUNK.DATA) {
        data.set(payload.subarray(8), Number(view.getBigUint64(0) - read!.offset))
        covered += payload.length - 8
      } else if (type === CHUNK.HOLE) covered += view.getUint32(8)
      else if (type >= 0x8000) {
        error ||= view.getUint32(0)
        message ||= new TextDecoder().decode(payload.subarray(6, 6 + view.getUint16(4)))
      }
    }
    if (read !== undefined && error === 0 && covered !== read.length)
      throw new Error(`${covered} of ${read.length} bytes`)
    return { cookie, structured: true, error, chunks, data, message }
  }
}
