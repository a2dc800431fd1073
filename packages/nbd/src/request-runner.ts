// Carries out the requests of one client on its device ("Request types") and writes their replies into the outbox.
// Requests run concurrently: each starts when it is read and is answered when the device is done. A simple READ reply is
// begun only when all its data is there; a structured one is sent piece by piece, an error in a chunk of its own.
// Payload and reply buffers belong to the device until its promise settles, then to the outbox or the pool. After a call
// that failed or was aborted they are left to the garbage collector: should a device still touch one, it hurts nobody.
// Not here: which requests are legal (request-check.ts), how much may be in flight (in-flight-budget.ts).

import type { BlockDevice } from '@sshblock/blockdev'
import type { BufferPool } from './buffer-pool.ts'
import { errorText, isNotSupported, nbdErrorOf } from './error-mapping.ts'
import { blockStatus, isKnownZero, planRead, type ReadPiece } from './extents.ts'
import { maxReadPieceBytes } from './limits.ts'
import type { Outbox } from './outbox.ts'
import { baseAllocation, command, commandFlag, nbdError, replyFlag } from './protocol.ts'
import {
  chunkHeaderBytes,
  dataChunkHeaderBytes,
  errorChunkBytes,
  holeChunkBytes,
  simpleReplyBytes,
  statusChunkBytes,
  writeDataChunkHeader,
  writeErrorChunk,
  writeHoleChunk,
  writeNoneChunk,
  writeSimpleReply,
  writeStatusChunk,
} from './reply.ts'
import { shownText } from './shown-text.ts'
import type { Counters } from './statistics.ts'
import type { NbdRequest } from './transmission.ts'

/** How many pieces of zeros are written at once where the device is not to make a hole. */
const zeroPiecesAtOnce = 4
/** Written from, never to; made when first needed. */
let zeroPiece: Uint8Array | undefined

export interface RequestRunnerOptions {
  device: BlockDevice
  structuredReplies: boolean
  cacheByReading: boolean
  pool: BufferPool
  outbox: Outbox
  counters: Counters
  /** Aborts when the client is gone. */
  signal: AbortSignal
  /** A reply, or a part of one, was added to the outbox, or a request has let go of everything. */
  onProgress: () => void
}

export class RequestRunner {
  readonly #device: BlockDevice
  readonly #structured: boolean
  readonly #cacheByReading: boolean
  readonly #pool: BufferPool
  readonly #outbox: Outbox
  readonly #counters: Counters
  readonly #onProgress: () => void
  readonly #plain: { signal: AbortSignal }
  readonly #fua: { signal: AbortSignal; fua: true }
  #running = 0

  constructor(options: RequestRunnerOptions) {
    this.#device = options.device
    this.#structured = options.structuredReplies
    this.#cacheByReading = options.cacheByReading
    this.#pool = options.pool
    this.#outbox = options.outbox
    this.#counters = options.counters
    this.#onProgress = options.onProgress
    this.#plain = { signal: options.signal }
    this.#fua = { signal: options.signal, fua: true }
  }

  /** Requests that the device still works on. */
  get running(): number {
    return this.#running
  }

  /** Starts a request; its reply goes to the outbox, now or later. Takes over its payload. Never throws. */
  start(request: NbdRequest): void {
    this.#counters.countRequest(request.type)
    if (request.refusal !== undefined) {
      this.#fail(request, request.refusal.error, shownText(request.refusal.message))
      this.#onProgress()
      return
    }
    this.#running++
    void this.#carryOut(request).finally(() => {
      this.#running--
      this.#onProgress()
    })
  }

  /** Settles when the request is answered and its buffers are let go; never rejects. */
  async #carryOut(request: NbdRequest): Promise<void> {
    try {
      switch (request.type) {
        case command.read:
          return await this.#read(request)
        case command.write:
          await this.#write(request)
          break
        case command.flush:
          await this.#device.flush(this.#plain)
          break
        case command.trim:
          await this.#trim(request)
          break
        case command.cache:
          await this.#cache(request)
          break
        case command.writeZeroes:
          if (!(await this.#writeZeroes(request))) {
            this.#fail(request, nbdError.enotsup, shownText('not known to be faster than a write'))
            return
          }
          break
        case command.blockStatus:
          this.#blockStatus(request)
          return
      }
      this.#succeed(request)
    } catch (error) {
      this.#fail(request, nbdErrorOf(error, request.type), errorText(error))
    }
  }

  // READ

  async #read(request: NbdRequest): Promise<void> {
    const { offset, length } = request
    if (length === 0) {
      this.#succeed(request)
      return
    }
    const extents = this.#device.extents(offset, length)
    const unfragmented = (request.flags & commandFlag.df) !== 0
    if (this.#structured && !unfragmented) {
      await this.#readPieces(request, planRead(offset, length, extents))
      return
    }
    // One header and all the data, also where a part of it is known to be zero.
    const headerBytes = this.#structured ? dataChunkHeaderBytes : simpleReplyBytes
    const buffer = this.#pool.takeZeroed(headerBytes + length)
    if (!isKnownZero(offset, length, extents)) {
      await this.#device.read(offset, buffer.subarray(headerBytes, headerBytes + length), this.#plain)
    }
    if (this.#structured) writeDataChunkHeader(buffer, 0, request, replyFlag.done, offset, length)
    else writeSimpleReply(buffer, 0, request, nbdError.none)
    this.#outbox.lend(buffer, headerBytes + length)
    this.#counters.readBytes += length
    this.#end(request)
  }

  /** One chunk for each piece, in the order in which the device delivers; the last one carries DONE. */
  async #readPieces(request: NbdRequest, pieces: readonly ReadPiece[]): Promise<void> {
    let left = pieces.length
    let failed = false
    const flagsOfNext = (): number => (--left === 0 ? replyFlag.done : 0)
    const reads: Promise<void>[] = []
    // Data first, so that the device works while the holes are written down.
    for (const piece of pieces) {
      if (piece.zero) continue
      reads.push(
        this.#readPiece(piece).then(
          (buffer) => {
            writeDataChunkHeader(buffer, 0, request, flagsOfNext(), piece.offset, piece.length)
            this.#outbox.lend(buffer, dataChunkHeaderBytes + piece.length)
            this.#onProgress()
          },
          (error: unknown) => {
            failed = true
            this.#errorChunk(
              request,
              flagsOfNext(),
              nbdErrorOf(error, request.type),
              errorText(error),
              piece.offset,
            )
          },
        ),
      )
    }
    for (const piece of pieces) {
      if (!piece.zero) continue
      const flags = flagsOfNext()
      const at = this.#outbox.reserve(holeChunkBytes)
      writeHoleChunk(this.#outbox.slab, at, request, flags, piece.offset, piece.length)
    }
    if (reads.length === 1) await reads[0]
    else await Promise.all(reads)
    if (failed) this.#counters.failedRequests++
    else this.#counters.readBytes += request.length
    this.#end(request)
  }

  /** A buffer of the pool with room for a chunk header and the piece behind it. */
  async #readPiece(piece: ReadPiece): Promise<Uint8Array> {
    const end = dataChunkHeaderBytes + piece.length
    const buffer = this.#pool.takeZeroed(end)
    await this.#device.read(piece.offset, buffer.subarray(dataChunkHeaderBytes, end), this.#plain)
    return buffer
  }

  // What changes the device

  async #write(request: NbdRequest): Promise<void> {
    const payload = request.payload
    // An empty write has nothing to persist.
    if (payload === undefined) return
    const data = payload.subarray(0, request.length)
    await this.#device.write(request.offset, data, this.#writeOptions(request))
    this.#pool.give(payload)
    this.#counters.writtenBytes += request.length
  }

  #writeOptions(request: NbdRequest): { signal: AbortSignal; fua?: true } {
    return (request.flags & commandFlag.fua) !== 0 ? this.#fua : this.#plain
  }

  async #trim(request: NbdRequest): Promise<void> {
    if (request.length > 0) await this.#device.discard(request.offset, request.length, this.#plain)
    if ((request.flags & commandFlag.fua) !== 0) await this.#device.flush(this.#plain)
  }

  /** @returns false where FAST_ZERO asks for what is not known to be fast: nothing was changed. */
  async #writeZeroes(request: NbdRequest): Promise<boolean> {
    const { offset, length, flags } = request
    if (length === 0) return true
    const noHole = (flags & commandFlag.noHole) !== 0
    if ((flags & commandFlag.fastZero) !== 0) {
      // "unless the request can be serviced in less time than a corresponding NBD_CMD_WRITE": certain only where there is
      // nothing to do.
      if (noHole || !isKnownZero(offset, length, this.#device.extents(offset, length))) return false
      if ((flags & commandFlag.fua) !== 0) await this.#device.flush(this.#plain)
      return true
    }
    if (!noHole) {
      try {
        await this.#device.writeZeroes(offset, length, this.#writeOptions(request))
        return true
      } catch (error) {
        // Without FAST_ZERO "the server MUST NOT fail with NBD_ENOTSUP".
        if (!isNotSupported(error)) throw error
      }
    }
    await this.#writeZeroPieces(offset, length)
    if ((flags & commandFlag.fua) !== 0) await this.#device.flush(this.#plain)
    return true
  }

  /** Zeros as data: "the area MUST be fully provisioned". */
  async #writeZeroPieces(offset: number, length: number): Promise<void> {
    const end = offset + length
    let at = offset
    while (at < end) {
      const writes: Promise<void>[] = []
      while (at < end && writes.length < zeroPiecesAtOnce) {
        const count = Math.min(end - at, maxReadPieceBytes)
        writes.push(this.#writeZeroPiece(at, count))
        at += count
      }
      await settleAll(writes)
    }
  }

  async #writeZeroPiece(offset: number, length: number): Promise<void> {
    zeroPiece ??= new Uint8Array(maxReadPieceBytes)
    await this.#device.write(offset, zeroPiece.subarray(0, length), this.#plain)
  }

  async #cache(request: NbdRequest): Promise<void> {
    if (!this.#cacheByReading || request.length === 0) return
    const scratch = this.#pool.take(Math.min(request.length, maxReadPieceBytes))
    const end = request.offset + request.length
    for (let at = request.offset; at < end; at += maxReadPieceBytes) {
      await this.#device.read(at, scratch.subarray(0, Math.min(end - at, maxReadPieceBytes)), this.#plain)
    }
    this.#pool.give(scratch)
  }

  #blockStatus(request: NbdRequest): void {
    const one = (request.flags & commandFlag.reqOne) !== 0
    const extents = blockStatus(
      (offset, length) => this.#device.extents(offset, length),
      request.offset,
      request.length,
      one,
    )
    const at = this.#outbox.reserve(statusChunkBytes(extents.length / 2))
    const chunk = { flags: replyFlag.done, contextId: baseAllocation.id, extents }
    writeStatusChunk(this.#outbox.slab, at, request, chunk)
    this.#end(request)
  }

  // Replies

  /** Success without data. READ needs a structured reply where those were negotiated, all others may have a simple one. */
  #succeed(request: NbdRequest): void {
    if (this.#structured && request.type === command.read) {
      const at = this.#outbox.reserve(chunkHeaderBytes)
      writeNoneChunk(this.#outbox.slab, at, request, replyFlag.done)
    } else {
      const at = this.#outbox.reserve(simpleReplyBytes)
      writeSimpleReply(this.#outbox.slab, at, request, nbdError.none)
    }
    this.#end(request)
  }

  /** "The server SHOULD prefer sending errors via a structured reply". */
  #fail(request: NbdRequest, error: number, text: Uint8Array): void {
    this.#counters.failedRequests++
    if (this.#structured) this.#errorChunk(request, replyFlag.done, error, text, undefined)
    else {
      const at = this.#outbox.reserve(simpleReplyBytes)
      writeSimpleReply(this.#outbox.slab, at, request, error)
    }
    this.#end(request)
  }

  #errorChunk(
    request: NbdRequest,
    flags: number,
    error: number,
    text: Uint8Array,
    offset: number | undefined,
  ): void {
    const at = this.#outbox.reserve(errorChunkBytes(text, offset))
    writeErrorChunk(this.#outbox.slab, at, request, { flags, error, text, offset })
  }

  #end(request: NbdRequest): void {
    this.#outbox.endRequest(request.costBytes)
  }
}

/** Waits for all of them, then reports the first failure: what was lent stays lent until every one has settled. */
async function settleAll(calls: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(calls)) {
    if (result.status === 'rejected') throw result.reason
  }
}
