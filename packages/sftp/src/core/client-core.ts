// The client's side of one SFTP channel (draft-ietf-secsh-filexfer-02), without I/O: bytes of the server go in by
// `receive`, bytes for it go out to the `output`, time comes in by `expire`. Matches answers to requests, and is the one
// place that decides what an answer may be: an unknown or answered id, a wrong type, more data than asked for or a
// malformed packet ends the channel with one sticky SftpProtocolError.
// Views given to `receive` are not kept. Promises, timers and signals belong to ClientSession.

import { WireError, type Writer } from '@sshblock/transport/wire'
import { SftpProtocolError } from '../errors.ts'
import { initialBytesInFlight, maxMessageBytes, maxRequestsInFlight } from '../limits.ts'
import type { ExtensionPair } from '../messages/extension-pairs.ts'
import { peekStatusCode } from '../messages/hot-path.ts'
import { packetType, packetTypeName, protocolVersion } from '../messages/numbers.ts'
import { version } from '../messages/replies.ts'
import { init } from '../messages/requests.ts'
import { type ByteOutput, Outgoing } from './outgoing.ts'
import { type Pending, PendingTable } from './pending.ts'
import { type ReadOperation, ReadRequest } from './read-operation.ts'
import { ReplyParser, type ReplySink } from './reply-parser.ts'
import { RoundTrip } from './round-trip.ts'
import { FlightWindow } from './transfer-plan.ts'
import type { WriteOperation } from './write-operation.ts'

export interface ClientCoreEvents {
  /** VERSION came: requests may be sent. Called once. */
  version(extensions: readonly ExtensionPair[]): void
  /** The server broke the protocol; everything pending has failed with this error. Called at most once. */
  failed(error: SftpProtocolError): void
}

export class ClientCore implements ReplySink {
  readonly readWindow: FlightWindow
  readonly writeWindow: FlightWindow
  readonly roundTrip: RoundTrip
  readonly #events: ClientCoreEvents
  readonly #pending = new PendingTable()
  readonly #outgoing: Outgoing
  readonly #parser = new ReplyParser(this)
  #phase: 'start' | 'version' | 'open' | 'over' = 'start'
  /** The READ whose DATA is coming in, and its id. */
  #reading: ReadRequest | undefined
  #readingId = 0
  #received = 0
  /** Operations that wait to send and had nothing in flight when last looked at, and when that was. */
  #starved = new Map<ReadOperation | WriteOperation, { since: number; activity: number }>()

  /** `defer` runs a task at the end of the current turn; `now` is a monotonic clock in milliseconds. */
  constructor(
    output: ByteOutput,
    events: ClientCoreEvents,
    options: { maxBytesInFlight: number; defer: (task: () => void) => void; now?: () => number },
  ) {
    this.#events = events
    this.roundTrip = new RoundTrip(options.now ?? (() => 0))
    const flightWindow = () =>
      new FlightWindow(initialBytesInFlight, options.maxBytesInFlight, maxRequestsInFlight, this.roundTrip)
    this.readWindow = flightWindow()
    this.writeWindow = flightWindow()
    this.#outgoing = new Outgoing(
      output,
      this.#pending,
      { read: this.readWindow, write: this.writeWindow },
      options.defer,
    )
  }

  /** Whether the server stands in the middle of a packet. */
  get midReply(): boolean {
    return this.#parser.midPacket
  }

  /** Whether we stand in the middle of one. */
  get midRequest(): boolean {
    return this.#outgoing.midPacket
  }

  /** Whether something waits for the server. */
  get busy(): boolean {
    return this.#phase === 'version' || this.#pending.size > 0 || !this.#outgoing.idle
  }

  /** Sends INIT (draft s4). */
  start(): void {
    this.#phase = 'version'
    this.#outgoing.packet(
      (writer) => init.encode(writer, { version: protocolVersion, extensions: [] }),
      maxMessageBytes,
    )
  }

  /**
   * Sends a request at the end of this turn; `encode` writes it from its type byte on.
   * Throws what `encode` throws, and RangeError for a packet above 256 KiB; the request is not pending then.
   */
  request(request: Pending, encode: (writer: Writer, id: number) => void): void {
    const id = this.#pending.add(request)
    try {
      this.#outgoing.packet((writer) => encode(writer, id), maxMessageBytes)
    } catch (error) {
      this.#pending.answered(id)
      throw error
    }
  }

  /** Starts, or goes on with, an operation that has something to ask for. */
  readonly read = (operation: ReadOperation): void => this.#outgoing.read(operation)
  readonly write = (operation: WriteOperation): void => this.#outgoing.write(operation)

  /** Ends an operation before its time. */
  cancel(operation: ReadOperation | WriteOperation, error: Error): void {
    operation.fail(error)
    this.#outgoing.keepUnsent()
  }

  /** The output takes bytes again. */
  writable(): void {
    this.#outgoing.schedule()
  }

  /** The next bytes of the server, a view that is not kept. */
  receive(view: Uint8Array): void {
    if (this.#phase === 'over') return
    try {
      this.#parser.feed(view)
    } catch (error) {
      this.#breach(asProtocolError(error))
      return
    }
    this.#outgoing.schedule()
  }

  /**
   * Fails what has waited `timeoutMs` for an answer, or for a chance to be sent, with the error that `timeout` gives for
   * it. To be called several times within `timeoutMs`: waiting is noticed from one call to the next.
   */
  expire(now: number, timeoutMs: number, timeout: (operation: string) => Error): void {
    try {
      for (const request of this.#pending.expire(now, timeoutMs, this.#received))
        request.fail(timeout(request.operation))
    } catch (error) {
      this.#breach(asProtocolError(error))
      return
    }
    this.#expireStarved(now, timeoutMs, timeout)
    this.#outgoing.keepUnsent()
    this.#outgoing.schedule()
  }

  #expireStarved(now: number, timeoutMs: number, timeout: (operation: string) => Error): void {
    const activity = this.#received + this.#outgoing.activity
    const seen = this.#starved
    this.#starved = new Map()
    for (const operation of this.#outgoing.starved()) {
      const before = seen.get(operation)
      if (before === undefined || before.activity !== activity)
        this.#starved.set(operation, { since: now, activity })
      else if (now - before.since < timeoutMs) this.#starved.set(operation, before)
      else operation.fail(timeout('payload' in operation ? 'WRITE' : 'READ'))
    }
  }

  /** Ends everything: what is pending fails with `error`, nothing is sent any more. Idempotent. */
  end(error: Error): void {
    if (this.#phase === 'over') return
    this.#phase = 'over'
    this.#reading = undefined
    this.#starved.clear()
    const waiting = this.#outgoing.stop()
    for (const request of this.#pending.clear()) request.fail(error)
    for (const operation of waiting) operation.fail(error)
  }

  #breach(error: SftpProtocolError): void {
    if (this.#phase === 'over') return
    this.end(error)
    this.#events.failed(error)
  }

  // ReplySink

  dataBegin(id: number, length: number): void {
    const request = this.#find(packetType.data, id)
    if (!(request instanceof ReadRequest)) throw wrongType(packetType.data, request)
    if (length > request.length) {
      throw new SftpProtocolError(`${length} bytes in answer to a READ of ${request.length}`, {
        messageName: 'DATA',
        field: 'data',
        offset: 5,
      })
    }
    this.#reading = request
    this.#readingId = id
  }

  dataPart(view: Uint8Array): void {
    this.#received++
    this.#reading?.dataPart(view)
  }

  dataEnd(): void {
    this.#received++
    const request = this.#reading!
    this.#reading = undefined
    this.#pending.answered(this.#readingId)
    request.dataEnd()
  }

  reply(type: number, id: number, packet: Uint8Array): void {
    this.#received++
    if (type === packetType.version) {
      this.#version(packet)
      return
    }
    const request = this.#find(type, id)
    if (type === packetType.status) {
      const code = peekStatusCode(packet)
      if (code === undefined)
        throw new SftpProtocolError('STATUS without a code', {
          messageName: 'STATUS',
          field: 'code',
          offset: 5,
        })
      request.status(code, packet)
    } else {
      if (type !== request.expects) throw wrongType(type, request)
      request.reply(packet)
    }
    this.#pending.answered(id)
  }

  #version(packet: Uint8Array): void {
    if (this.#phase !== 'version') throw new SftpProtocolError('a second VERSION', { messageName: 'VERSION' })
    const value = version.decode(packet)
    if (value.version !== protocolVersion) {
      throw new SftpProtocolError(`version ${value.version} in answer to ${protocolVersion}`, {
        messageName: 'VERSION',
        field: 'version',
        offset: 1,
      })
    }
    this.#phase = 'open'
    this.#events.version(value.extensions)
  }

  #find(type: number, id: number): Pending {
    if (this.#phase !== 'open') {
      throw new SftpProtocolError(`${packetTypeName(type)} before VERSION`, {
        messageName: packetTypeName(type),
      })
    }
    const request = this.#pending.find(id)
    if (request === undefined) {
      throw new SftpProtocolError(`${packetTypeName(type)} for id ${id}, which no request waits for`, {
        messageName: packetTypeName(type),
        field: 'id',
        offset: 1,
      })
    }
    return request
  }
}

function wrongType(type: number, request: Pending): SftpProtocolError {
  return new SftpProtocolError(`${packetTypeName(type)} in answer to ${request.operation}`, {
    messageName: packetTypeName(type),
    offset: 0,
  })
}

function asProtocolError(error: unknown): SftpProtocolError {
  if (error instanceof SftpProtocolError) return error
  if (error instanceof WireError) {
    return new SftpProtocolError(error.message, {
      cause: error,
      offset: error.offset,
      ...(error.messageName === undefined ? {} : { messageName: error.messageName }),
      ...(error.field === undefined ? {} : { field: error.field }),
    })
  }
  throw error
}
