// Writing SSH's data types (RFC 4251 s5) into one growing buffer.
// The buffer is the writer's; `bytes()` aliases it (valid until the next write), `copy()` allocates.
// The outbox hands its own Writer to the layers above, so a message is encoded once, where it will be sealed and sent.

import { utf8Bytes, writeU32 } from './bytes.ts'

export class Writer {
  buffer: Uint8Array
  /** Bytes written so far. */
  length: number

  constructor(capacity = 256) {
    this.buffer = new Uint8Array(capacity)
    this.length = 0
  }

  /**
   * Makes room for `count` bytes and returns the position at which they start, already counted as written.
   * A position is valid until the next write: a subclass may move what was written.
   */
  reserve(count: number): number {
    if (this.length + count > this.buffer.length) this.grow(count)
    const at = this.length
    this.length = at + count
    return at
  }

  /** Makes room for `count` more bytes. */
  protected grow(count: number): void {
    const grown = new Uint8Array(Math.max(this.length + count, 2 * this.buffer.length))
    grown.set(this.buffer.subarray(0, this.length))
    this.buffer = grown
  }

  u8(value: number): this {
    const at = this.reserve(1)
    this.buffer[at] = value
    return this
  }

  bool(value: boolean): this {
    return this.u8(value ? 1 : 0)
  }

  u32(value: number): this {
    const at = this.reserve(4)
    writeU32(this.buffer, at, value)
    return this
  }

  u64(value: bigint): this {
    const at = this.reserve(8)
    writeU32(this.buffer, at, Number((value >> 32n) & 0xffff_ffffn))
    writeU32(this.buffer, at + 4, Number(value & 0xffff_ffffn))
    return this
  }

  /** A u64 given as a number, which must be a non-negative safe integer. */
  u64Number(value: number): this {
    if (!Number.isSafeInteger(value) || value < 0)
      throw new RangeError(`expected an integer from 0 to 2^53 - 1, got ${value}`)
    const at = this.reserve(8)
    writeU32(this.buffer, at, Math.floor(value / 0x1_0000_0000))
    writeU32(this.buffer, at + 4, value % 0x1_0000_0000)
    return this
  }

  raw(bytes: Uint8Array): this {
    const at = this.reserve(bytes.length)
    this.buffer.set(bytes, at)
    return this
  }

  string(bytes: Uint8Array): this {
    this.u32(bytes.length)
    return this.raw(bytes)
  }

  text(value: string): this {
    return this.string(utf8Bytes(value))
  }

  /** Minimal two's complement bytes of an mpint, as Reader.mpint() gives them. */
  mpint(bytes: Uint8Array): this {
    return this.string(bytes)
  }

  /** A non-negative integer given by its big-endian magnitude, leading zero bytes allowed (RFC 4251 s5 mpint). */
  unsignedMpint(magnitude: Uint8Array): this {
    let skip = 0
    while (skip < magnitude.length && magnitude[skip] === 0) skip++
    const body = magnitude.subarray(skip)
    if (body.length > 0 && body[0]! >= 0x80) {
      this.u32(body.length + 1)
      this.u8(0)
      return this.raw(body)
    }
    return this.string(body)
  }

  nameList(names: readonly string[]): this {
    return this.text(names.join(','))
  }

  /** What was written, as a view valid until the next write. */
  bytes(): Uint8Array {
    return this.buffer.subarray(0, this.length)
  }

  /** What was written, as a new array. */
  copy(): Uint8Array {
    return this.buffer.slice(0, this.length)
  }
}
