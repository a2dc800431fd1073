/**
 * An SFTP server in memory that does what a test says: right by default, wrong where asked. It clips, delays, reorders,
 * duplicates and forges answers, cuts its bytes anywhere, withholds its window, and keeps a log of what it was sent.
 *
 * Everything happens in turns: the requests that came in a turn are answered together in the next, so that a script can
 * permute them. `hold` keeps answers back until `release`.
 */
import type { ByteChannel, ByteReceiver } from '@sshblock/transport/byte-channel'
import { concat, Reader, readU32, utf8Bytes, utf8Text, Writer } from '@sshblock/transport/wire'
import {
  type Attributes,
  extended,
  fileTypeBits,
  type NameEntry,
  openFlag,
  packetType,
  packetTypeName,
  replies,
  requests,
  statusCode,
} from '../../packages/sftp/src/messages/index.ts'

/** A request as it came. */
export interface ScriptedRequest {
  readonly type: number
  /** 'READ', 'EXTENDED', ... */
  readonly name: string
  /** 0 for INIT. */
  readonly id: number
  /** Name of the extension, for EXTENDED. */
  readonly extension: string | undefined
  /** From the type byte on. */
  readonly packet: Uint8Array
}

/** An answer that is about to be sent: a packet with its length field. */
export interface ScriptedReply {
  readonly request: ScriptedRequest
  packet: Uint8Array
}

export interface ScriptedServerOptions {
  files?: Iterable<readonly [string, Uint8Array]>
  /** What VERSION announces; nothing by default. */
  extensions?: Iterable<readonly [name: string, data: string]>
  /** Answer to limits@openssh.com; it is announced where this is given. */
  limits?: { maxPacketLength: bigint; maxReadLength: bigint; maxWriteLength: bigint; maxOpenHandles: bigint }
  /** READ never gives more than this. */
  clipReads?: number
  /** Entries of a directory, by path; asked for each READDIR until it gives none. */
  list?: (path: string, call: number) => readonly NameEntry[]
  /** Lengths of the parts in which bytes are handed to the client; all at once by default. */
  cut?: (length: number) => Iterable<number>
  /** The answers of one turn in the order in which they go out. */
  order?: (answers: ScriptedReply[]) => ScriptedReply[]
  /** Sees each request first; where it returns true, it dealt with it. */
  onRequest?: (request: ScriptedRequest, server: ScriptedServer) => boolean | undefined
  /** Bytes that the client may write before it is granted more; no end by default. */
  windowBytes?: number
}

interface OpenFile {
  readonly path: string
  readonly append: boolean
}

/** `value` with its length in front. */
export function framed(packet: Uint8Array): Uint8Array {
  return new Writer(packet.length + 4).string(packet).copy()
}

/** A declared message as a packet with its length field. */
export function packetOf<M extends { bytes(value: never): Uint8Array }>(
  message: M,
  value: Parameters<M['bytes']>[0],
): Uint8Array {
  return framed(message.bytes(value as never))
}

export class ScriptedServer {
  readonly options: ScriptedServerOptions
  readonly channel: ByteChannel
  readonly files: Map<string, Uint8Array>
  /** Requests in the order in which they came, INIT included. */
  readonly log: ScriptedRequest[] = []
  /** Every byte that came, as written. */
  readonly written: Uint8Array[] = []
  /** Handles that are open, by name. */
  readonly handles = new Map<string, OpenFile>()
  /** Whether the client ended its side, and whether it closed the channel. */
  ended = false
  closed = false
  paused = false
  readonly #attributes = new Map<string, Attributes>()
  readonly #listings = new Map<string, number>()
  #receiver: ByteReceiver | undefined
  #incoming: Uint8Array<ArrayBufferLike> = new Uint8Array(0)
  #queued: Uint8Array[] = []
  #window: number
  #answers: ScriptedReply[] = []
  #held = false
  #scheduled = false
  #nextHandle = 0

  constructor(options: ScriptedServerOptions = {}) {
    this.options = options
    this.files = new Map(options.files)
    this.#window = options.windowBytes ?? Number.POSITIVE_INFINITY
    const server = this
    this.channel = {
      description: 'scripted server',
      start: (receiver) => {
        this.#receiver = receiver
      },
      write: (bytes) => this.#write(bytes),
      get writableBytes() {
        return Math.min(server.#window, 2 ** 30)
      },
      pause: () => {
        this.paused = true
      },
      resume: () => {
        this.paused = false
      },
      end: () => {
        this.ended = true
        // As sftp-server does: it leaves when its input ends.
        setImmediate(() => this.close())
      },
      close: () => this.close(),
    }
  }

  /** Requests of one kind, by the draft's name or the extension's. */
  requests(name: string): ScriptedRequest[] {
    return this.log.filter((request) => request.name === name || request.extension === name)
  }

  /** Ends the channel, orderly or not. */
  close(cause?: Error): void {
    if (this.closed) return
    this.closed = true
    queueMicrotask(() => this.#receiver?.closed(cause))
  }

  /** Ends the server's side only. */
  endOutput(): void {
    this.#receiver?.end()
  }

  /** Lets the client write `bytes` more. */
  grant(bytes: number): void {
    this.#window += bytes
    const queued = this.#queued
    this.#queued = []
    for (const each of queued) this.#accept(each)
    if (this.#window > 0) this.#receiver?.writable()
  }

  /** Keeps answers back from now on. */
  hold(): void {
    this.#held = true
  }

  /** Sends the answers that were kept back, in the order that `order` gives, and answers at once again. */
  release(order: (answers: ScriptedReply[]) => ScriptedReply[] = (answers) => answers): void {
    this.#held = false
    const answers = order(this.#answers)
    this.#answers = []
    for (const { packet } of answers) this.sendRaw(packet)
  }

  /** Sends the first `count` answers that were kept back, and goes on holding. */
  releaseFirst(count: number): void {
    for (const { packet } of this.#answers.splice(0, count)) this.sendRaw(packet)
  }

  /** Bytes to the client, cut as the script says. */
  sendRaw(bytes: Uint8Array): void {
    if (this.closed) return
    const { cut } = this.options
    if (cut === undefined) {
      this.#deliver(bytes)
      return
    }
    let at = 0
    for (const length of cut(bytes.length)) {
      if (at >= bytes.length) break
      this.#deliver(bytes.subarray(at, at + length))
      at += length
    }
    if (at < bytes.length) this.#deliver(bytes.subarray(at))
  }

  /** The view is spoilt afterwards, as a receive buffer is reused. */
  #deliver(bytes: Uint8Array): void {
    const view = bytes.slice()
    this.#receiver?.data(view)
    view.fill(0xee)
  }

  /** Queues an answer to a request. */
  answer(request: ScriptedRequest, packet: Uint8Array): void {
    this.#answers.push({ request, packet })
    this.#schedule()
  }

  status(request: ScriptedRequest, code: number, message = ''): void {
    this.answer(request, packetOf(replies.status, { id: request.id, code, message, language: '' }))
  }

  /** The bytes of a WRITE in the log. */
  static payload(request: ScriptedRequest): { handle: string; offset: number; data: Uint8Array } {
    const { handle, offset, data } = requests.write.decode(request.packet)
    return { handle: utf8Text(handle), offset, data }
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      if (!this.#held) this.release(this.options.order)
    })
  }

  #write(bytes: Uint8Array): void {
    if (this.closed || this.ended) return
    this.#accept(bytes.slice())
  }

  /** Takes what the window allows; the rest waits for a grant. */
  #accept(bytes: Uint8Array): void {
    const room = this.#queued.length > 0 ? 0 : Math.max(0, this.#window)
    const taken = bytes.subarray(0, room)
    if (taken.length < bytes.length) this.#queued.push(bytes.subarray(taken.length))
    if (taken.length === 0) return
    this.#window -= taken.length
    this.written.push(taken)
    this.#incoming = this.#incoming.length === 0 ? taken : concat(this.#incoming, taken)
    this.#parse()
  }

  #parse(): void {
    let at = 0
    while (this.#incoming.length - at >= 4) {
      const length = readU32(this.#incoming, at)
      if (this.#incoming.length - at - 4 < length) break
      const packet = this.#incoming.slice(at + 4, at + 4 + length)
      at += 4 + length
      this.#request(packet)
    }
    this.#incoming = this.#incoming.subarray(at)
  }

  #request(packet: Uint8Array): void {
    const type = packet[0]!
    const isInit = type === packetType.init
    const request: ScriptedRequest = {
      type,
      name: packetTypeName(type),
      id: isInit ? 0 : readU32(packet, 1),
      extension: type === packetType.extended ? extended.extended.decode(packet).extendedRequest : undefined,
      packet,
    }
    this.log.push(request)
    if (this.options.onRequest?.(request, this) === true) return
    if (type === packetType.init) this.#init(request)
    else if (type === packetType.extended) this.#extended(request)
    else this.#ordinary(request)
  }

  #init(request: ScriptedRequest): void {
    const pairs = [...(this.options.extensions ?? [])]
    if (this.options.limits !== undefined) pairs.push([extended.limits.name, extended.limits.version])
    const extensions = pairs.map(([name, data]) => ({ name, data: utf8Bytes(data) }))
    this.answer(request, packetOf(replies.version, { version: 3, extensions }))
  }

  #extended(request: ScriptedRequest): void {
    const { limits } = this.options
    if (request.extension === extended.limits.name && limits !== undefined) {
      const writer = new Writer()
      extended.limits.encodeReply(writer, { id: request.id, ...limits })
      this.answer(request, framed(writer.copy()))
    } else if (request.extension === extended.fsync.name) this.status(request, statusCode.ok)
    else this.status(request, statusCode.opUnsupported)
  }

  /** Attributes that STAT gives, where the file's own shall not do. */
  setAttributes(path: string, attributes: Attributes): void {
    this.#attributes.set(path, attributes)
  }

  #statOf(path: string): Attributes | undefined {
    const file = this.files.get(path)
    const own = file === undefined ? undefined : { size: file.length, permissions: fileTypeBits.file | 0o644 }
    return this.#attributes.get(path) ?? own
  }

  #ordinary(request: ScriptedRequest): void {
    const reader = new Reader(request.packet, 5)
    const { id, type } = request
    switch (type) {
      case packetType.open: {
        const { filename, pflags } = requests.open.decode(request.packet)
        this.#open(request, utf8Text(filename), pflags)
        return
      }
      case packetType.close:
        this.handles.delete(utf8Text(reader.string()))
        this.status(request, statusCode.ok)
        return
      case packetType.read: {
        const { handle, offset, len } = requests.read.decode(request.packet)
        this.#read(request, this.handles.get(utf8Text(handle)), offset, len)
        return
      }
      case packetType.write: {
        const { handle, offset, data } = requests.write.decode(request.packet)
        this.#writeFile(request, this.handles.get(utf8Text(handle)), offset, data)
        return
      }
      case packetType.stat:
      case packetType.lstat:
      case packetType.fstat: {
        const named = utf8Text(reader.string())
        const attrs = this.#statOf(type === packetType.fstat ? (this.handles.get(named)?.path ?? '') : named)
        if (attrs === undefined) this.status(request, statusCode.noSuchFile, 'No such file')
        else this.answer(request, packetOf(replies.attrs, { id, attrs }))
        return
      }
      case packetType.opendir: {
        const path = utf8Text(reader.string())
        this.answer(request, packetOf(replies.handle, { id, handle: this.#handle(path, false) }))
        return
      }
      case packetType.readdir:
        this.#readdir(request, utf8Text(reader.string()))
        return
      case packetType.realpath:
        this.answer(
          request,
          packetOf(replies.name, {
            id,
            names: [{ filename: reader.string(), longname: new Uint8Array(0), attrs: {} }],
          }),
        )
        return
      default:
        this.status(request, statusCode.ok)
    }
  }

  #handle(path: string, append: boolean): Uint8Array {
    const name = `h${this.#nextHandle++}`
    this.handles.set(name, { path, append })
    return utf8Bytes(name)
  }

  #open(request: ScriptedRequest, path: string, pflags: number): void {
    const there = this.files.get(path)
    if (there === undefined && (pflags & openFlag.creat) === 0 && !this.#attributes.has(path)) {
      this.status(request, statusCode.noSuchFile, 'No such file')
      return
    }
    if (there !== undefined && (pflags & openFlag.excl) !== 0) {
      this.status(request, statusCode.failure, 'Failure')
      return
    }
    if (there === undefined || (pflags & openFlag.trunc) !== 0) this.files.set(path, new Uint8Array(0))
    const handle = this.#handle(path, (pflags & openFlag.append) !== 0)
    this.answer(request, packetOf(replies.handle, { id: request.id, handle }))
  }

  #read(request: ScriptedRequest, open: OpenFile | undefined, offset: number, length: number): void {
    const file = open === undefined ? undefined : this.files.get(open.path)
    if (file === undefined) this.status(request, statusCode.failure, 'Failure')
    else if (offset >= file.length) this.status(request, statusCode.eof, 'End of file')
    else {
      const count = Math.min(length, this.options.clipReads ?? length)
      this.answer(
        request,
        packetOf(replies.data, { id: request.id, data: file.subarray(offset, offset + count) }),
      )
    }
  }

  #writeFile(request: ScriptedRequest, open: OpenFile | undefined, offset: number, data: Uint8Array): void {
    const file = open === undefined ? undefined : this.files.get(open.path)
    if (open === undefined || file === undefined) {
      this.status(request, statusCode.failure, 'Failure')
      return
    }
    const at = open.append ? file.length : offset
    let next = file
    if (at + data.length > file.length) {
      next = new Uint8Array(at + data.length)
      next.set(file)
    }
    next.set(data, at)
    this.files.set(open.path, next)
    this.status(request, statusCode.ok)
  }

  #readdir(request: ScriptedRequest, handle: string): void {
    const path = this.handles.get(handle)?.path ?? ''
    const call = this.#listings.get(handle) ?? 0
    this.#listings.set(handle, call + 1)
    const names = this.options.list?.(path, call) ?? []
    if (names.length === 0) this.status(request, statusCode.eof, 'End of file')
    else this.answer(request, packetOf(replies.name, { id: request.id, names }))
  }
}

/** An entry of a listing. */
export function nameEntry(
  name: string | Uint8Array,
  attrs: Attributes = { permissions: fileTypeBits.file | 0o644 },
): NameEntry {
  const filename = typeof name === 'string' ? utf8Bytes(name) : name
  return { filename, longname: utf8Bytes('?'), attrs }
}

/** Bytes that differ from place to place: position and seed mixed. */
export function pattern(length: number, seed = 1): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length)
  let state = (seed * 2_654_435_761) >>> 0
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    bytes[i] = state >>> 24
  }
  return bytes
}

/** Lets everything that is due happen. */
export async function settle(turns = 5): Promise<void> {
  for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve))
}
