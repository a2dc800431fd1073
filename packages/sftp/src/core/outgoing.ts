// What goes to the server and in which order. All requests of a turn are encoded into one buffer and leave in one write;
// the data of a WRITE goes straight from the caller's buffer to the channel, as far as the channel takes it.
// - A packet once begun is finished before anything else: a caller who leaves in the middle of one has the rest copied.
// - Small requests go before WRITEs that have not begun; READs and WRITEs of several calls take turns, piece by piece.
// Owns the encoding buffers and the queues of reads and writes. Does not know answers, promises or time.

import { Writer } from '@sshblock/transport/wire'
import { encodeRead, encodeWriteHeader } from '../messages/hot-path.ts'
import type { PendingTable } from './pending.ts'
import type { ReadOperation } from './read-operation.ts'
import type { FlightWindow } from './transfer-plan.ts'
import type { WriteOperation, WriteRequest } from './write-operation.ts'

/** Where bytes go: a ByteChannel. */
export interface ByteOutput {
  /** Takes the bytes before it returns. */
  write(bytes: Uint8Array): void
  /** Bytes that can be written without queueing. */
  readonly writableBytes: number
}

/** Data up to this is copied behind its header; above it a write of its own is cheaper than the copy. */
const copyBelowBytes = 8192

/** Encoding buffers above this are not kept. */
const keptWriterBytes = 256 * 1024

export class Outgoing {
  readonly #output: ByteOutput
  readonly #pending: PendingTable
  readonly #defer: (task: () => void) => void
  readonly #readWindow: FlightWindow
  readonly #writeWindow: FlightWindow
  /** Packets encoded in this turn. Two writers, because the output may call back while it reads one. */
  #writer = new Writer(4096)
  #spare = new Writer(4096)
  readonly #reads = new Set<ReadOperation>()
  readonly #writes = new Set<WriteOperation>()
  /** The WRITE that has begun, and what of its data is still to go. */
  #sending: { operation: WriteOperation; request: WriteRequest; rest: Uint8Array } | undefined
  #scheduled = false
  #stopped = false
  /** Grows with every write to the output. */
  #activity = 0
  readonly #run = (): void => this.flush()

  constructor(
    output: ByteOutput,
    pending: PendingTable,
    windows: { read: FlightWindow; write: FlightWindow },
    defer: (task: () => void) => void,
  ) {
    this.#output = output
    this.#pending = pending
    this.#readWindow = windows.read
    this.#writeWindow = windows.write
    this.#defer = defer
  }

  get activity(): number {
    return this.#activity
  }

  /** Whether a packet has begun and is not finished. */
  get midPacket(): boolean {
    return this.#sending !== undefined
  }

  /** Operations that have something to send and nothing in flight, which no answer will wake. */
  *starved(): Generator<ReadOperation | WriteOperation> {
    for (const operation of this.#reads) if (operation.requestsInFlight === 0) yield operation
    for (const operation of this.#writes) if (operation.requestsInFlight === 0) yield operation
  }

  get idle(): boolean {
    return this.#reads.size === 0 && this.#writes.size === 0 && this.#sending === undefined
  }

  /** Encodes one packet; `encode` writes it from its type byte on. Nothing is written where it throws. */
  packet(encode: (writer: Writer) => void, maxBytes: number): void {
    const writer = this.#writer
    const start = writer.length
    try {
      const at = writer.reserve(4)
      encode(writer)
      const length = writer.length - at - 4
      if (length > maxBytes) throw new RangeError(`request of ${length} bytes, at most ${maxBytes}`)
      const end = writer.length
      writer.length = at
      writer.u32(length)
      writer.length = end
    } catch (error) {
      writer.length = start
      throw error
    }
    this.schedule()
  }

  read(operation: ReadOperation): void {
    if (this.#stopped) return
    this.#reads.add(operation)
    this.schedule()
  }

  write(operation: WriteOperation): void {
    if (this.#stopped) return
    this.#writes.add(operation)
    this.schedule()
  }

  /** Sends at the end of this turn. */
  schedule(): void {
    if (this.#scheduled || this.#stopped) return
    this.#scheduled = true
    this.#defer(this.#run)
  }

  flush(): void {
    this.#scheduled = false
    if (this.#stopped) return
    if (this.#sending !== undefined && !this.#continueSending()) return
    this.#issueReads()
    this.#issueWrites()
    this.#flushWriter()
  }

  /** The caller of a cancelled write has its buffer back: copies what a begun packet still needs of it. */
  keepUnsent(): void {
    const sending = this.#sending
    if (sending?.operation.over === true) sending.rest = sending.rest.slice()
  }

  /** Nothing more is sent. Returns the operations that waited to send. */
  stop(): (ReadOperation | WriteOperation)[] {
    this.#stopped = true
    const waiting = [...this.#reads, ...this.#writes]
    this.#reads.clear()
    this.#writes.clear()
    this.#sending = undefined
    this.#writer.length = 0
    return waiting
  }

  #issueReads(): void {
    for (;;) {
      const [operation] = this.#reads
      if (operation === undefined) return
      if (!operation.hasMore) {
        this.#reads.delete(operation)
        continue
      }
      if (!this.#readWindow.admits(operation.nextLength)) return
      const request = operation.take()
      const id = this.#pending.add(request)
      encodeRead(this.#writer, id, operation.handle, operation.offset + request.start, request.length)
      if (this.#reads.size > 1) {
        this.#reads.delete(operation)
        this.#reads.add(operation)
      }
    }
  }

  #issueWrites(): void {
    for (;;) {
      const [operation] = this.#writes
      if (operation === undefined) return
      if (!operation.hasMore) {
        this.#writes.delete(operation)
        continue
      }
      if (!this.#writeWindow.admits(operation.nextLength)) return
      const room = this.#output.writableBytes - this.#writer.length
      if (room <= 0) return
      const request = operation.take()
      const id = this.#pending.add(request)
      const payload = operation.payload(request)
      encodeWriteHeader(this.#writer, id, operation.handle, operation.offset + request.start, payload.length)
      if (payload.length <= copyBelowBytes && payload.length <= room) {
        this.#writer.raw(payload)
        request.markSent()
      } else {
        this.#flushWriter()
        this.#sending = { operation, request, rest: payload }
        if (!this.#continueSending()) return
      }
      if (this.#writes.size > 1) {
        this.#writes.delete(operation)
        this.#writes.add(operation)
      }
    }
  }

  /** Whether the begun packet is finished. */
  #continueSending(): boolean {
    const sending = this.#sending!
    const { rest } = sending
    const room = this.#output.writableBytes
    if (room <= 0) return false
    this.#activity++
    if (room < rest.length) {
      sending.rest = rest.subarray(room)
      this.#output.write(rest.subarray(0, room))
      return false
    }
    this.#sending = undefined
    this.#output.write(rest)
    sending.request.markSent()
    return true
  }

  #flushWriter(): void {
    const writer = this.#writer
    if (writer.length === 0) return
    this.#writer = this.#spare
    this.#activity++
    this.#output.write(writer.bytes())
    writer.length = 0
    this.#spare = writer.buffer.length <= keptWriterBytes ? writer : new Writer(4096)
  }
}
