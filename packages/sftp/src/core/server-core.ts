// The server's side of SFTP version 3 (draft-ietf-secsh-filexfer-02 s3, s4, s6, s7) without I/O: bytes in (`input`),
// requests out in order (`peek`, `advance`), answers in whenever they are there (`data`, `status`, `reply`), bytes out in the
// order of the requests (`takeOutput`). Answers INIT itself. Owns framing, handles, reply order and the buffers.
// A request's body is a view valid until the following `advance`; a WRITE's payload may be kept by `keepPayload`.
// Knows neither paths nor files: `T` is whatever the session opens.

import {
  type Fields,
  type Message,
  readU32,
  type ValueOf,
  WireError,
  Writer,
  writeU32,
} from '@sshblock/transport/wire'
import type { ExtensionPair } from '../messages/extension-pairs.ts'
import { packetType, packetTypeName, protocolVersion } from '../messages/numbers.ts'
import * as replies from '../messages/replies.ts'
import * as requests from '../messages/requests.ts'
import { statusCode } from '../messages/status.ts'
import { BufferPool } from './buffer-pool.ts'
import { SftpClientError } from './client-error.ts'
import { HandleTable, type RandomFill } from './handle-table.ts'
import {
  dataHeaderBytes,
  handleAt,
  okStatusPacket,
  type Range,
  readRange,
  writeDataHeader,
  writeRange,
} from './hot-messages.ts'
import { ReplyQueue, type ReplySlot } from './reply-queue.ts'
import { RequestBuffer } from './request-buffer.ts'
import { maxReplyBytes } from './server-limits.ts'

/** One request between its arrival and its answer. */
export interface ServerRequest<T> extends ReplySlot {
  readonly type: number
  readonly id: number
  /** From the type byte on; a view valid until the following `advance`. */
  readonly body: Uint8Array
  /** READ and WRITE: what the handle stood for when the request was looked at; undefined where it is not one. */
  readonly target: T | undefined
  /** READ and WRITE: undefined where the request is malformed. */
  readonly range: Range | undefined
}

export interface ServerCoreOptions {
  /** Announced in VERSION. */
  readonly extensions: readonly ExtensionPair[]
  readonly maxHandles: number
  /** Bytes of buffers kept for later use. */
  readonly maxPoolBytes: number
  readonly random: RandomFill
}

/** OpenSSH's texts, by status code. */
const statusTexts: readonly string[] = [
  'Success',
  'End of file',
  'No such file',
  'Permission denied',
  'Failure',
  'Bad message',
  'No connection',
  'Connection lost',
  'Operation unsupported',
]

export class ServerCore<T> {
  readonly pool: BufferPool
  readonly handles: HandleTable<T>
  readonly #input: RequestBuffer
  readonly #output: ReplyQueue
  readonly #extensions: readonly ExtensionPair[]
  readonly #writer = new Writer(1024)
  #initialized = false
  #next: ServerRequest<T> | undefined

  constructor(options: ServerCoreOptions) {
    this.pool = new BufferPool(options.maxPoolBytes)
    this.handles = new HandleTable<T>(options.maxHandles, options.random)
    this.#input = new RequestBuffer(this.pool)
    this.#output = new ReplyQueue(this.pool)
    this.#extensions = options.extensions
  }

  /** Whether INIT has come. */
  get initialized(): boolean {
    return this.#initialized
  }

  /** Bytes of requests not yet begun. */
  get bufferedBytes(): number {
    return this.#input.bufferedBytes
  }

  /** Whether the client's bytes stop in the middle of a request. */
  get isIncomplete(): boolean {
    return this.#input.isIncomplete
  }

  /** Bytes of replies that are settled and not taken. */
  get queuedReplyBytes(): number {
    return this.#output.queuedBytes
  }

  /** Requests begun whose answers are not taken in full. */
  get unanswered(): number {
    return this.#output.unanswered
  }

  /** Takes bytes from the client; copies them. @throws SftpClientError where requests cannot be told apart any more. */
  input(view: Uint8Array): void {
    this.#input.input(view)
  }

  /**
   * The next request, without taking it; the same one until `advance`.
   * @throws SftpClientError for a request before INIT, or a malformed INIT
   */
  peek(): ServerRequest<T> | undefined {
    while (this.#next === undefined) {
      const body = this.#input.next()
      if (body === undefined) return undefined
      if (body[0] === packetType.init) this.#init(body)
      else this.#next = this.#request(body)
    }
    return this.#next
  }

  /** Takes the request that `peek` shows: its answer now has its place in the order. */
  advance(): void {
    const request = this.#next
    if (request === undefined) return
    this.#next = undefined
    this.#output.expect(request)
  }

  #request(body: Uint8Array): ServerRequest<T> {
    const type = body[0]!
    if (!this.#initialized) throw new SftpClientError(`${packetTypeName(type)} before INIT`)
    const hot = type === packetType.read || type === packetType.write
    const range = type === packetType.read ? readRange(body) : hot ? writeRange(body) : undefined
    const target = range === undefined ? undefined : this.handles.findString(body, handleAt)
    return {
      type,
      id: readU32(body, 1),
      body,
      target,
      range,
      reply: undefined,
      replyEnd: 0,
      replyPooled: false,
    }
  }

  /** INIT (draft s4): the answer is version 3 whatever is asked for, and again when asked again, as OpenSSH does. */
  #init(body: Uint8Array): void {
    try {
      requests.init.decode(body)
    } catch (error) {
      // What follows the version is nobody's business but an extension's; only the version itself must be there.
      if (!(error instanceof WireError)) throw error
    }
    this.#initialized = true
    const slot: ReplySlot = { reply: undefined, replyEnd: 0, replyPooled: false }
    this.#output.expect(slot)
    const packet = this.#encode(replies.version, { version: protocolVersion, extensions: this.#extensions })
    this.#output.settle(slot, packet, packet.length, false)
  }

  /**
   * The payload of a WRITE, to be kept beyond the next `advance`; call it before that. The bytes lie in `buffer` from the
   * pool where the request was large: give it back when done.
   */
  keepPayload(request: ServerRequest<T>): { payload: Uint8Array; buffer: Uint8Array | undefined } {
    const { payloadAt, length } = request.range!
    const view = request.body.subarray(payloadAt, payloadAt + length)
    const buffer = this.#input.takeBuffer()
    return { payload: buffer === undefined ? view.slice() : view, buffer }
  }

  /** Room for a DATA of up to `length` bytes, from the pool; the payload belongs at `dataHeaderBytes`. */
  dataBuffer(length: number): Uint8Array {
    return this.pool.take(dataHeaderBytes + length)
  }

  /** Answers DATA with the first `length` payload bytes of a buffer from `dataBuffer`, which goes back to the pool. */
  data(request: ServerRequest<T>, buffer: Uint8Array, length: number): void {
    this.#output.settle(request, buffer, writeDataHeader(buffer, request.id, length), true)
  }

  ok(request: ServerRequest<T>): void {
    const packet = okStatusPacket(request.id)
    this.#output.settle(request, packet, packet.length, false)
  }

  /** Answers STATUS; without a text, OpenSSH's own. */
  status(request: ServerRequest<T>, code: number, text: string = statusTexts[code] ?? ''): void {
    this.#settle(request, replies.status, { id: request.id, code, message: text, language: '' })
  }

  /** Answers with a declared message; FAILURE where it would be longer than clients accept. */
  reply<F extends Fields>(request: ServerRequest<T>, message: Message<F>, value: ValueOf<F>): void {
    this.#settle(request, message, value)
  }

  /** Answers EXTENDED_REPLY as the extension writes it. */
  extendedReply(request: ServerRequest<T>, write: (writer: Writer) => void): void {
    this.#settlePacket(request, this.#packet(write))
  }

  #settle<F extends Fields>(request: ServerRequest<T>, message: Message<F>, value: ValueOf<F>): void {
    this.#settlePacket(request, this.#encode(message, value))
  }

  #settlePacket(request: ServerRequest<T>, packet: Uint8Array): void {
    if (packet.length - 4 > maxReplyBytes) this.status(request, statusCode.failure, 'Answer too long')
    else this.#output.settle(request, packet, packet.length, false)
  }

  #encode<F extends Fields>(message: Message<F>, value: ValueOf<F>): Uint8Array {
    return this.#packet((writer) => message.encode(writer, value))
  }

  #packet(write: (writer: Writer) => void): Uint8Array {
    const writer = this.#writer
    writer.length = 0
    writer.reserve(4)
    write(writer)
    writeU32(writer.buffer, 0, writer.length - 4)
    return writer.copy()
  }

  /** The next bytes for the client, at most `max`; a view valid until the next call. */
  takeOutput(max: number): Uint8Array | undefined {
    return this.#output.takeOutput(max)
  }

  /** Drops all requests, replies and buffers: the channel is gone. Handles stay for their owner to close. */
  clear(): void {
    this.#input.clear()
    this.#output.clear()
    this.pool.clear()
    this.#next = undefined
  }
}
