// An SFTP client under a script: sends what it is told, valid or not, and hands back what comes, in its order.
//
//     const sftp = new ScriptedSftp(await session.openSubsystem('sftp'))
//     await sftp.init()
//     sftp.sendPayload(Uint8Array.of(99, 0, 0, 0, 7))
//     await sftp.expectStatus(7, statusCode.opUnsupported)
//
// One script at a time: its waits do not overlap. Replies are copies and the receiver's.

import type { ByteChannel } from '@sshblock/transport/byte-channel'
import { Unexpected } from '@sshblock/transport/conformance'
import {
  concat,
  type Fields,
  type Message,
  readU32,
  type ValueOf,
  WireError,
  Writer,
  writeU32,
} from '@sshblock/transport/wire'
import type { Attributes } from '../messages/attributes.ts'
import { packetType, packetTypeName } from '../messages/numbers.ts'
import * as replies from '../messages/replies.ts'
import * as requests from '../messages/requests.ts'
import { statusCode, statusName } from '../messages/status.ts'

/** A reply of the server: its type, its id (VERSION: the version), and the payload from the type byte on. */
export interface SftpReply {
  readonly type: number
  readonly id: number
  readonly payload: Uint8Array
}

/** What can happen while one waits for the server. */
export type SftpArrival =
  | { readonly kind: 'reply'; readonly reply: SftpReply }
  /** The server ended its direction, or closed the channel. */
  | { readonly kind: 'end' }
  | { readonly kind: 'silence'; readonly ms: number }

const defaultPatienceMs = 3000
/** No honest reply is longer. */
const maxReplyBytes = 1024 * 1024

const encoder = new TextEncoder()
const decoder = new TextDecoder()
export const bytesOf = (text: string): Uint8Array => encoder.encode(text)
export const textOf = (bytes: Uint8Array): string => decoder.decode(bytes)

/** A packet: the payload with its length in front. */
export function framed(payload: Uint8Array): Uint8Array {
  const packet = new Uint8Array(4 + payload.length)
  writeU32(packet, 0, payload.length)
  packet.set(payload, 4)
  return packet
}

/** A reply in a few words: 'STATUS NO_SUCH_FILE', 'DATA with 10 bytes'. */
export function describeReply(reply: SftpReply): string {
  const name = packetTypeName(reply.type)
  try {
    if (reply.type === packetType.status)
      return `${name} ${statusName(replies.status.decode(reply.payload).code)}`
    if (reply.type === packetType.data)
      return `${name} with ${replies.data.decode(reply.payload).data.length} bytes`
    if (reply.type === packetType.name)
      return `${name} with ${replies.name.decode(reply.payload).names.length} names`
  } catch {
    return `malformed ${name}`
  }
  return name
}

export function describeSftpArrival(arrival: SftpArrival): string {
  switch (arrival.kind) {
    case 'reply':
      return describeReply(arrival.reply)
    case 'end':
      return 'the end of the channel'
    case 'silence':
      return `nothing for ${arrival.ms} ms`
  }
}

export class ScriptedSftp {
  readonly channel: ByteChannel
  readonly patienceMs: number
  /** Extensions of VERSION, with their versions. */
  extensions: ReadonlyMap<string, string> = new Map()
  #pending: Uint8Array = new Uint8Array(0)
  readonly #replies: SftpReply[] = []
  #wake: (() => void) | undefined
  #nextId = 1
  #ended = false
  #broken: string | undefined

  constructor(channel: ByteChannel, options: { patienceMs?: number } = {}) {
    this.channel = channel
    this.patienceMs = options.patienceMs ?? defaultPatienceMs
    const over = (): void => {
      this.#ended = true
      this.#tell()
    }
    channel.start({ data: (view) => this.#receive(view), writable: () => {}, end: over, closed: over })
  }

  #tell(): void {
    const wake = this.#wake
    this.#wake = undefined
    wake?.()
  }

  #receive(view: Uint8Array): void {
    this.#pending = concat(this.#pending, view)
    while (this.#pending.length >= 4 && this.#broken === undefined) {
      const length = readU32(this.#pending, 0)
      if (length < 5 || length > maxReplyBytes) this.#broken = `a packet of length ${length}`
      if (this.#pending.length < 4 + length) break
      const payload = this.#pending.slice(4, 4 + length)
      this.#pending = this.#pending.slice(4 + length)
      this.#replies.push({ type: payload[0]!, id: readU32(payload, 1), payload })
    }
    this.#tell()
  }

  /** A request id that was not used yet. */
  id(): number {
    return this.#nextId++
  }

  // --- sending ---

  /** Sends bytes as they are. */
  sendRaw(bytes: Uint8Array): void {
    this.channel.write(bytes)
  }

  /** Sends a payload as one packet. */
  sendPayload(payload: Uint8Array): void {
    this.sendRaw(framed(payload))
  }

  /** Sends a declared message. */
  send<F extends Fields>(message: Message<F>, value: ValueOf<F>): void {
    this.sendPayload(message.bytes(value))
  }

  /** Sends what `write` writes as one packet: for extended requests. */
  sendWritten(write: (writer: Writer) => void): void {
    const writer = new Writer()
    write(writer)
    this.sendPayload(writer.copy())
  }

  // --- waiting ---

  /** Whatever comes next. @throws Unexpected where it is no packet */
  async next(timeoutMs: number = this.patienceMs): Promise<SftpArrival> {
    const deadline = performance.now() + timeoutMs
    for (;;) {
      const reply = this.#replies.shift()
      if (reply !== undefined) return { kind: 'reply', reply }
      if (this.#broken !== undefined) throw new Unexpected('an SFTP packet', this.#broken)
      if (this.#ended) return { kind: 'end' }
      const left = deadline - performance.now()
      if (left <= 0) return { kind: 'silence', ms: timeoutMs }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left)
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }

  /** The next reply, which must answer request `id`. @throws Unexpected */
  async answer(id: number): Promise<SftpReply> {
    const arrival = await this.next()
    if (arrival.kind !== 'reply')
      throw new Unexpected(`an answer to request ${id}`, describeSftpArrival(arrival))
    if (arrival.reply.id !== id)
      throw new Unexpected(`an answer to request ${id}`, `one to ${arrival.reply.id}`)
    return arrival.reply
  }

  /** Sends a request and returns its answer. @throws Unexpected */
  ask<F extends Fields>(message: Message<F>, value: Omit<ValueOf<F>, 'id'>): Promise<SftpReply> {
    const id = this.id()
    this.send(message, { ...value, id } as unknown as ValueOf<F>)
    return this.answer(id)
  }

  /** Sends an extended request and returns its answer. @throws Unexpected */
  askExtended<V>(
    extension: { encode(writer: Writer, value: V & { id: number }): void },
    value: V,
  ): Promise<SftpReply> {
    const id = this.id()
    this.sendWritten((writer) => extension.encode(writer, { ...value, id }))
    return this.answer(id)
  }

  /** Sends INIT and takes VERSION. @throws Unexpected */
  async init(version = 3): Promise<number> {
    this.send(requests.init, { version, extensions: [] })
    const arrival = await this.next()
    if (arrival.kind !== 'reply' || arrival.reply.type !== packetType.version)
      throw new Unexpected('VERSION', describeSftpArrival(arrival))
    const decoded = decodeReply(replies.version, arrival.reply)
    this.extensions = new Map(decoded.extensions.map(({ name, data }) => [name, textOf(data)]))
    return decoded.version
  }

  /** The status of the answer to a request. @throws Unexpected where the answer is none */
  async status<F extends Fields>(message: Message<F>, value: Omit<ValueOf<F>, 'id'>): Promise<number> {
    return statusIn(await this.ask(message, value))
  }

  /** Sends a request that must work. @throws Unexpected */
  async ok<F extends Fields>(message: Message<F>, value: Omit<ValueOf<F>, 'id'>): Promise<void> {
    const code = await this.status(message, value)
    if (code !== statusCode.ok) throw new Unexpected(`${message.name} to work`, statusName(code))
  }

  // --- what many scripts do ---

  /** OPEN that must work; the handle. @throws Unexpected */
  async open(path: string, pflags: number, attrs: Attributes = {}): Promise<Uint8Array> {
    return handleIn(await this.ask(requests.open, { filename: bytesOf(path), pflags, attrs }))
  }

  /** @throws Unexpected */
  async opendir(path: string): Promise<Uint8Array> {
    return handleIn(await this.ask(requests.opendir, { path: bytesOf(path) }))
  }

  /** @throws Unexpected */
  async close(handle: Uint8Array): Promise<void> {
    await this.ok(requests.close, { handle })
  }

  /** READ: the data, or the status. @throws Unexpected */
  async read(handle: Uint8Array, offset: number, len: number): Promise<Uint8Array | number> {
    const reply = await this.ask(requests.read, { handle, offset, len })
    return reply.type === packetType.data ? decodeReply(replies.data, reply).data : statusIn(reply)
  }

  /** WRITE that must work. @throws Unexpected */
  async write(handle: Uint8Array, offset: number, data: Uint8Array): Promise<void> {
    await this.ok(requests.write, { handle, offset, data })
  }

  /** The names of a directory, in the order in which they came. @throws Unexpected */
  async list(path: string): Promise<string[]> {
    const handle = await this.opendir(path)
    const names: string[] = []
    for (;;) {
      const reply = await this.ask(requests.readdir, { handle })
      if (reply.type === packetType.status) {
        const code = statusIn(reply)
        if (code !== statusCode.eof) throw new Unexpected('EOF behind the last name', statusName(code))
        break
      }
      const { names: some } = decodeReply(replies.name, reply)
      if (some.length === 0) throw new Unexpected('names, or EOF', 'NAME without names')
      names.push(...some.map(({ filename }) => textOf(filename)))
    }
    await this.close(handle)
    return names
  }

  /** The attributes that STAT or LSTAT tells. @throws Unexpected */
  async attributes(
    path: string,
    request: typeof requests.stat | typeof requests.lstat = requests.stat,
  ): Promise<Attributes> {
    const reply = await this.ask(request, { path: bytesOf(path) })
    if (reply.type !== packetType.attrs) throw new Unexpected('ATTRS', describeReply(reply))
    return decodeReply(replies.attrs, reply).attrs
  }

  /** The one name of a NAME reply, as REALPATH and READLINK give it. @throws Unexpected */
  async name(request: typeof requests.realpath | typeof requests.readlink, path: string): Promise<string> {
    return nameIn(await this.ask(request, { path: bytesOf(path) }))
  }

  /** Makes a file with this content. @throws Unexpected */
  async make(path: string, content: Uint8Array): Promise<void> {
    const handle = await this.open(path, 0x02 | 0x08 | 0x10)
    await this.write(handle, 0, content)
    await this.close(handle)
  }
}

/** Decodes a reply; one that is not what its declaration says is the server's fault. @throws Unexpected */
export function decodeReply<F extends Fields>(message: Message<F>, reply: SftpReply): ValueOf<F> {
  try {
    return message.decode(reply.payload)
  } catch (error) {
    if (error instanceof WireError)
      throw new Unexpected(`a well-formed ${message.name}`, describeReply(reply))
    throw error
  }
}

/** The code of a STATUS. @throws Unexpected for another reply */
export function statusIn(reply: SftpReply): number {
  if (reply.type !== packetType.status) throw new Unexpected('STATUS', describeReply(reply))
  return decodeReply(replies.status, reply).code
}

/** The handle of a HANDLE. @throws Unexpected for another reply */
export function handleIn(reply: SftpReply): Uint8Array {
  if (reply.type !== packetType.handle) throw new Unexpected('HANDLE', describeReply(reply))
  return decodeReply(replies.handle, reply).handle
}

/** The name of a NAME with one name. @throws Unexpected for another reply */
export function nameIn(reply: SftpReply): string {
  if (reply.type !== packetType.name) throw new Unexpected('NAME', describeReply(reply))
  const { names } = decodeReply(replies.name, reply)
  if (names.length !== 1) throw new Unexpected('one name', `${names.length} names`)
  return textOf(names[0]!.filename)
}
