// Bounds-checked reading of SSH's data types (RFC 4251 s5).
// The one place where a length from the peer meets the bytes that are there: every length and count is checked
// against what remains before anything is sliced or allocated.
// `string()` and `rest()` alias the input (views); `text()` and numbers are copies.

import { readU32, utf8Text } from './bytes.ts'
import { WireError } from './wire-error.ts'

export class Reader {
  readonly bytes: Uint8Array
  /** Next byte to be read. */
  at: number
  readonly end: number

  constructor(bytes: Uint8Array, at = 0, end: number = bytes.length) {
    this.bytes = bytes
    this.at = at
    this.end = end
  }

  get remaining(): number {
    return this.end - this.at
  }

  #need(count: number): number {
    const at = this.at
    if (count > this.end - at) {
      throw new WireError(`expected ${count} more bytes, only ${this.end - at} are there`, at)
    }
    this.at = at + count
    return at
  }

  u8(): number {
    return this.bytes[this.#need(1)]!
  }

  /** RFC 4251 s5: all non-zero values are TRUE. */
  bool(): boolean {
    return this.u8() !== 0
  }

  u32(): number {
    return readU32(this.bytes, this.#need(4))
  }

  u64(): bigint {
    const at = this.#need(8)
    return (BigInt(readU32(this.bytes, at)) << 32n) | BigInt(readU32(this.bytes, at + 4))
  }

  /** A u64 as a number; a WireError above 2^53 - 1 rather than a rounded value. */
  u64Number(): number {
    const at = this.#need(8)
    const high = readU32(this.bytes, at)
    if (high > 0x1f_ffff) throw new WireError('value above 2^53 - 1', at)
    return high * 0x1_0000_0000 + readU32(this.bytes, at + 4)
  }

  /** `count` bytes as a view. */
  raw(count: number): Uint8Array {
    const at = this.#need(count)
    return this.bytes.subarray(at, at + count)
  }

  /** A length-prefixed string as a view. */
  string(): Uint8Array {
    const start = this.at
    const length = this.u32()
    if (length > this.end - this.at) {
      throw new WireError(`string of ${length} bytes, only ${this.end - this.at} are there`, start)
    }
    return this.raw(length)
  }

  /** A length-prefixed UTF-8 string; malformed sequences become U+FFFD. */
  text(): string {
    return utf8Text(this.string())
  }

  /**
   * An mpint as its minimal two's complement bytes (view), checked to be minimal (RFC 4251 s5:
   * "Unnecessary leading bytes with the value 0 or 255 MUST NOT be included").
   */
  mpint(): Uint8Array {
    const start = this.at
    const bytes = this.string()
    if (bytes.length > 0) {
      const first = bytes[0]!
      const second = bytes[1]
      if (first === 0 && (second === undefined || second < 0x80))
        throw new WireError('mpint with needless leading 0', start)
      if (first === 0xff && second !== undefined && second >= 0x80)
        throw new WireError('mpint with needless leading 255', start)
    }
    return bytes
  }

  /** A non-negative mpint as its magnitude without leading zero byte (view). */
  unsignedMpint(): Uint8Array {
    const start = this.at
    const bytes = this.mpint()
    if (bytes.length === 0) return bytes
    if (bytes[0]! >= 0x80) throw new WireError('negative mpint', start)
    return bytes[0] === 0 ? bytes.subarray(1) : bytes
  }

  /** A comma-separated list of US-ASCII names (RFC 4251 s5); empty list allowed. */
  nameList(limits: { maxNames: number; maxNameBytes: number }): string[] {
    const start = this.at
    const bytes = this.string()
    if (bytes.length === 0) return []
    if (bytes.length > limits.maxNames * (limits.maxNameBytes + 1))
      throw new WireError(`name-list of ${bytes.length} bytes`, start)
    const names = utf8Text(bytes).split(',')
    // Peers exist that end a list in a comma or leave holes; an empty name never matches anything, so drop it.
    const kept = names.filter((name) => name !== '')
    if (kept.length > limits.maxNames)
      throw new WireError(`name-list of ${kept.length} names, at most ${limits.maxNames}`, start)
    for (const name of kept) {
      if (name.length > limits.maxNameBytes)
        throw new WireError(`name of ${name.length} bytes, at most ${limits.maxNameBytes}`, start)
      if (!/^[\x21-\x7e]+$/.test(name))
        throw new WireError('name with a character outside printable US-ASCII', start)
    }
    return kept
  }

  /** All that remains, as a view. */
  rest(): Uint8Array {
    return this.raw(this.remaining)
  }

  /** Checks that nothing is left. */
  expectEnd(): void {
    if (this.at !== this.end) throw new WireError(`${this.end - this.at} bytes after the last field`, this.at)
  }
}
