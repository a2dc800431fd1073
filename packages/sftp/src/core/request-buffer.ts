// Cuts the client's byte stream into requests (draft-ietf-secsh-filexfer-02 s3) and holds those not yet begun.
// Every byte is copied exactly once: small requests lie behind one another in 64 KiB slabs, so that a flood of them costs
// what it weighs; a large one (a WRITE) is gathered in one pooled buffer, however the stream was cut, and that buffer goes
// with the request to the back end. Lengths are checked as soon as five bytes are there, before anything is allocated.
// The view that `next` returns is valid until `next` is called again; `takeBuffer` hands over the buffer behind it.

import { readU32 } from '@sshblock/transport/wire'
import { packetType, packetTypeName } from '../messages/numbers.ts'
import type { BufferPool } from './buffer-pool.ts'
import { SftpClientError } from './client-error.ts'
import { maxRequestBytes, maxWriteRequestBytes, minRequestBytes } from './server-limits.ts'

const slabBytes = 65_536
/** Requests up to this size, length field included, share slabs. */
const smallBytes = 4096
/** Length and type: enough to judge and place a request. */
const headBytes = 5

interface Segment {
  readonly bytes: Uint8Array
  /** One large request from the pool, else a slab of small ones. */
  readonly pooled: boolean
  /** Start of the next request to be handed out. */
  at: number
  /** End of the last complete request. */
  end: number
  /** End of what has come. */
  filled: number
}

export class RequestBuffer {
  readonly #pool: BufferPool
  readonly #segments: Segment[] = []
  readonly #head = new Uint8Array(headBytes)
  #headLength = 0
  /** Bytes of the request at the end of the last segment that are still to come. */
  #missing = 0
  #spareSlab: Uint8Array | undefined
  /** Pooled buffer of the request that was handed out last. */
  #handedOut: Uint8Array | undefined
  #bufferedBytes = 0

  constructor(pool: BufferPool) {
    this.#pool = pool
  }

  /** Bytes of requests that were not handed out yet, an incomplete one included. */
  get bufferedBytes(): number {
    return this.#bufferedBytes
  }

  /** Whether the stream stands in the middle of a request. */
  get isIncomplete(): boolean {
    return this.#missing > 0 || this.#headLength > 0
  }

  /** Takes the next bytes of the stream; copies them. @throws SftpClientError for a length that is not allowed. */
  input(view: Uint8Array): void {
    const head = this.#head
    for (let at = 0; at < view.length; ) {
      if (this.#missing === 0) {
        while (this.#headLength < headBytes && at < view.length) head[this.#headLength++] = view[at++]!
        if (this.#headLength < headBytes) return
        this.#begin()
        continue
      }
      const segment = this.#segments[this.#segments.length - 1]!
      const count = Math.min(this.#missing, view.length - at)
      segment.bytes.set(
        at === 0 && count === view.length ? view : view.subarray(at, at + count),
        segment.filled,
      )
      segment.filled += count
      this.#bufferedBytes += count
      this.#missing -= count
      at += count
      if (this.#missing === 0) segment.end = segment.filled
    }
  }

  #begin(): void {
    const length = readU32(this.#head, 0)
    const type = this.#head[4]!
    const limit = type === packetType.write ? maxWriteRequestBytes : maxRequestBytes
    if (length < minRequestBytes || length > limit) {
      throw new SftpClientError(
        `${packetTypeName(type)} of ${length} bytes, expected ${minRequestBytes} to ${limit}`,
      )
    }
    const segment = this.#segmentFor(4 + length)
    segment.bytes.set(this.#head, segment.filled)
    segment.filled += headBytes
    this.#bufferedBytes += headBytes
    this.#headLength = 0
    this.#missing = length - 1
  }

  #segmentFor(size: number): Segment {
    if (size > smallBytes) {
      const segment = { bytes: this.#pool.take(size), pooled: true, at: 0, end: 0, filled: 0 }
      this.#segments.push(segment)
      return segment
    }
    const last = this.#segments[this.#segments.length - 1]
    if (last !== undefined && !last.pooled && last.filled + size <= last.bytes.length) return last
    const segment = {
      bytes: this.#spareSlab ?? new Uint8Array(slabBytes),
      pooled: false,
      at: 0,
      end: 0,
      filled: 0,
    }
    this.#spareSlab = undefined
    this.#segments.push(segment)
    return segment
  }

  /** The next complete request from its type byte on, or undefined; a view valid until the next call. */
  next(): Uint8Array | undefined {
    if (this.#handedOut !== undefined) {
      this.#pool.give(this.#handedOut)
      this.#handedOut = undefined
    }
    let segment = this.#segments[0]
    while (segment !== undefined && segment.at === segment.end) {
      // An incomplete request is behind all complete ones.
      if (segment.filled > segment.end) return undefined
      if (this.#segments.length === 1) {
        segment.at = segment.end = segment.filled = 0
        return undefined
      }
      this.#segments.shift()
      if (!segment.pooled) this.#spareSlab = segment.bytes
      segment = this.#segments[0]
    }
    if (segment === undefined) return undefined
    const length = readU32(segment.bytes, segment.at)
    const body = segment.bytes.subarray(segment.at + 4, segment.at + 4 + length)
    segment.at += 4 + length
    this.#bufferedBytes -= 4 + length
    if (segment.pooled) {
      this.#segments.shift()
      this.#handedOut = segment.bytes
    }
    return body
  }

  /**
   * Hands over the pooled buffer behind the request that `next` returned last: the caller gives it back to the pool.
   * Undefined where the request is a small one, whose bytes must be copied to outlive the next call.
   */
  takeBuffer(): Uint8Array | undefined {
    const buffer = this.#handedOut
    this.#handedOut = undefined
    return buffer
  }

  /** Forgets everything. */
  clear(): void {
    this.#segments.length = 0
    this.#headLength = this.#missing = this.#bufferedBytes = 0
    this.#handedOut = this.#spareSlab = undefined
  }
}
