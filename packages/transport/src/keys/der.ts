// A reader for the few DER structures (X.690 s8, s10) that private key files are made of. Definite, minimal lengths only;
// every length is checked against the bytes that are there.

import { KeyFormatError } from '../errors.ts'

const tags = {
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  objectIdentifier: 0x06,
  sequence: 0x30,
} as const

export class DerReader {
  readonly #bytes: Uint8Array
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  get remaining(): number {
    return this.#bytes.length - this.#at
  }

  /** Tag of the next element; undefined at the end. */
  get nextTag(): number | undefined {
    return this.#bytes[this.#at]
  }

  sequence(): DerReader {
    return new DerReader(this.#element(tags.sequence))
  }

  /** A non-negative INTEGER as its magnitude without leading zeros (view). */
  unsigned(): Uint8Array {
    const bytes = this.#element(tags.integer)
    if (bytes.length === 0) throw malformed('an INTEGER without content')
    if (bytes[0]! >= 0x80) throw malformed('a negative INTEGER')
    if (bytes[0] === 0 && bytes.length > 1 && bytes[1]! < 0x80)
      throw malformed('an INTEGER with a needless leading 0')
    return bytes[0] === 0 ? bytes.subarray(1) : bytes
  }

  /** A small non-negative INTEGER, such as a version. */
  smallInteger(): number {
    const bytes = this.unsigned()
    if (bytes.length > 1) throw malformed('a version that is not a small number')
    return bytes[0] ?? 0
  }

  octetString(): Uint8Array {
    return this.#element(tags.octetString)
  }

  /** A BIT STRING of whole bytes. */
  bitString(): Uint8Array {
    const bytes = this.#element(tags.bitString)
    if (bytes[0] !== 0) throw malformed('a BIT STRING that is not whole bytes')
    return bytes.subarray(1)
  }

  /** An OBJECT IDENTIFIER in dots, '1.2.840.10045.2.1'. */
  objectIdentifier(): string {
    const bytes = this.#element(tags.objectIdentifier)
    const arcs: number[] = []
    let value = 0
    for (const [i, byte] of bytes.entries()) {
      if (value > 0xff_ffff) throw malformed('an OBJECT IDENTIFIER with a huge number')
      value = value * 128 + (byte & 0x7f)
      if (byte >= 0x80) {
        if (i === bytes.length - 1) throw malformed('an OBJECT IDENTIFIER cut off')
        continue
      }
      if (arcs.length === 0) {
        const first = Math.min(Math.floor(value / 40), 2)
        arcs.push(first, value - 40 * first)
      } else {
        arcs.push(value)
      }
      value = 0
    }
    if (arcs.length === 0) throw malformed('an empty OBJECT IDENTIFIER')
    return arcs.join('.')
  }

  null(): void {
    if (this.#element(tags.null).length !== 0) throw malformed('a NULL with content')
  }

  /** The content of [n] where it comes next, explicit ('constructed') or implicit; undefined where something else does. */
  context(n: number, form: 'constructed' | 'primitive' = 'constructed'): DerReader | undefined {
    const tag = (form === 'constructed' ? 0xa0 : 0x80) | n
    return this.nextTag === tag ? new DerReader(this.#element(tag)) : undefined
  }

  /** All that remains, as a view. */
  rest(): Uint8Array {
    return this.#bytes.subarray(this.#at)
  }

  expectEnd(): void {
    if (this.remaining !== 0) throw malformed(`${this.remaining} bytes too many`)
  }

  #element(tag: number): Uint8Array {
    const found = this.#byte()
    if (found !== tag)
      throw malformed(`expected element 0x${tag.toString(16)}, found 0x${found.toString(16)}`)
    let length = this.#byte()
    if (length >= 0x80) {
      const count = length - 0x80
      // X.690 s10.1: definite; s8.1.3.5. A key file is at most 1 MiB: three bytes say more than that.
      if (count === 0 || count > 3) throw malformed('a length that no key file has')
      length = 0
      for (let i = 0; i < count; i++) length = length * 256 + this.#byte()
      if (length < 0x80 || length < 256 ** (count - 1)) throw malformed('a length that is not minimal')
    }
    if (length > this.remaining)
      throw malformed(`an element of ${length} bytes, only ${this.remaining} are there`)
    const start = this.#at
    this.#at += length
    return this.#bytes.subarray(start, this.#at)
  }

  #byte(): number {
    const byte = this.#bytes[this.#at]
    if (byte === undefined) throw malformed('the end comes too early')
    this.#at++
    return byte
  }
}

function malformed(what: string): KeyFormatError {
  return new KeyFormatError(`the DER of the key file is malformed: ${what}`)
}
