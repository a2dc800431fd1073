// The receiving side of the transmission phase ("Request message"), without I/O: bytes in, whole requests out.
// A WRITE's payload is copied once, from the received chunks into a buffer of the pool, which then belongs to the
// request. Requests that must be refused are marked here, and the payload of a refused WRITE is skipped, so that the
// stream never loses step. A request beyond the budget is left unread until the budget has room.

import { ProtocolError } from '@sshblock/transport/errors'
import { readU32 } from '@sshblock/transport/wire'
import type { BufferPool } from './buffer-pool.ts'
import type { InFlightBudget } from './in-flight-budget.ts'
import { maxReadPieceBytes, maxStatusDescriptors } from './limits.ts'
import { command, magic, nbdError } from './protocol.ts'
import { checkRequest, type Refusal, type RequestRules } from './request-check.ts'

export interface NbdRequest {
  readonly type: number
  readonly flags: number
  /** The client's 64-bit cookie (older text: handle), upper and lower half; only ever echoed. */
  readonly cookieHigh: number
  readonly cookieLow: number
  readonly offset: number
  readonly length: number
  /** What the budget counts for it. */
  readonly costBytes: number
  /** Set where the request is answered with an error and nothing else. */
  refusal: Refusal | undefined
  /** WRITE: a buffer of the pool, of which the first `length` bytes are the data. Whoever takes the request gives it back. */
  readonly payload: Uint8Array | undefined
}

const requestHeaderBytes = 28

export class Transmission {
  /** The client sent NBD_CMD_DISC: it sends nothing more. */
  disconnected = false
  /** The header of the next request was read, but the budget has no room for it: see `receive`. */
  waiting = false

  readonly #pool: BufferPool
  readonly #budget: InFlightBudget
  /** Read at each request: the size may change, and the shutdown may begin. */
  readonly #rules: RequestRules
  readonly #header = new Uint8Array(requestHeaderBytes)
  #headerFilled = 0
  /** Being filled, or complete and not yet taken. */
  #request: NbdRequest | undefined
  #payloadFilled = 0
  /** Payload bytes of a refused WRITE still to come. */
  #skip = 0

  constructor(options: { pool: BufferPool; budget: InFlightBudget; rules: RequestRules }) {
    this.#pool = options.pool
    this.#budget = options.budget
    this.#rules = options.rules
  }

  /**
   * Consumes `bytes` from `at` on, up to the end of one request. Nothing of `bytes` is kept.
   * Afterwards `takeRequest()` gives the request, if it is complete; `waiting` says that the budget has no room for the
   * next one, and `receive` is to be called again when it has.
   * @returns the position of the first byte not consumed
   * @throws ProtocolError where the stream is not a sequence of requests: the connection must be dropped.
   */
  receive(bytes: Uint8Array, at: number): number {
    let next = at
    if (this.disconnected || this.#isComplete()) return next
    if (this.#request === undefined) {
      const count = Math.min(requestHeaderBytes - this.#headerFilled, bytes.length - next)
      if (count > 0) {
        this.#header.set(bytes.subarray(next, next + count), this.#headerFilled)
        this.#headerFilled += count
        next += count
      }
      // At once, not with the last byte of a header that may never come.
      if (this.#headerFilled >= 4 && readU32(this.#header, 0) !== magic.request) throw this.#notARequest()
      if (this.#headerFilled < requestHeaderBytes) return next
      this.#acceptHeader()
      if (this.#request === undefined) return next
    }
    return this.#receivePayload(bytes, next)
  }

  /** The complete request, once; undefined while there is none. */
  takeRequest(): NbdRequest | undefined {
    if (!this.#isComplete()) return undefined
    const request = this.#request
    this.#request = undefined
    return request
  }

  /** Lets go of a payload being received; for the end of the connection. */
  drop(): void {
    const payload = this.#request?.payload
    if (payload !== undefined) this.#pool.give(payload)
    this.#request = undefined
  }

  #isComplete(): boolean {
    const request = this.#request
    if (request === undefined || this.#skip > 0) return false
    return request.payload === undefined || this.#payloadFilled === request.length
  }

  #acceptHeader(): void {
    const header = this.#header
    const flags = header[4]! * 256 + header[5]!
    const type = header[6]! * 256 + header[7]!
    if (type === command.disc) {
      this.disconnected = true
      return
    }
    // A u64 above 2^53 is rounded here, and is outside of any device before and after that.
    const offset = readU32(header, 16) * 0x1_0000_0000 + readU32(header, 20)
    const length = readU32(header, 24)
    let refusal = checkRequest(type, flags, offset, length, this.#rules)
    const costBytes = refusal === undefined ? cost(type, length) : 0
    this.waiting = !this.#budget.tryTake(costBytes)
    if (this.waiting) return

    let payload: Uint8Array | undefined
    if (type === command.write && length > 0) {
      if (refusal === undefined) {
        try {
          payload = this.#pool.take(length)
        } catch {
          refusal = { error: nbdError.enomem, message: `no memory for ${length} bytes` }
        }
      }
      if (payload === undefined) this.#skip = length
    }
    this.#headerFilled = 0
    this.#payloadFilled = 0
    this.#request = {
      type,
      flags,
      cookieHigh: readU32(header, 8),
      cookieLow: readU32(header, 12),
      offset,
      length,
      costBytes,
      refusal,
      payload,
    }
  }

  #notARequest(): ProtocolError {
    return new ProtocolError(`a request that begins with 0x${readU32(this.#header, 0).toString(16)}`, {
      code: 'ERR_NBD_PROTOCOL',
      phase: 'NBD transmission',
    })
  }

  #receivePayload(bytes: Uint8Array, at: number): number {
    let next = at
    if (this.#skip > 0) {
      const count = Math.min(this.#skip, bytes.length - next)
      this.#skip -= count
      next += count
    }
    const request = this.#request!
    if (request.payload !== undefined) {
      const count = Math.min(request.length - this.#payloadFilled, bytes.length - next)
      if (count > 0) {
        request.payload.set(bytes.subarray(next, next + count), this.#payloadFilled)
        this.#payloadFilled += count
        next += count
      }
    }
    return next
  }
}

/** Bytes that a legal request makes the server hold at most. */
function cost(type: number, length: number): number {
  switch (type) {
    case command.read:
    case command.write:
      return length
    case command.cache:
      return Math.min(length, maxReadPieceBytes)
    case command.blockStatus:
      return maxStatusDescriptors * 8
    default:
      return 0
  }
}
