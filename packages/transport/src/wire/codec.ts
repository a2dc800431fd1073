// Declares a message once: its number, its fields in wire order, and from that its encoder, decoder and type.
// A codec reads and writes one field; `message()` puts them in a row. Fields that are views alias the input.
// Decoders check that nothing follows the last field, unless the declaration says `trailing: 'ignore'`.

import { Reader } from './reader.ts'
import { WireError } from './wire-error.ts'
import { Writer } from './writer.ts'

export interface Codec<T> {
  read(reader: Reader): T
  write(writer: Writer, value: T): void
}

/** The limits of KEXINIT and of every other name-list; see limits.ts for their origin. */
const nameListLimits = { maxNames: 64, maxNameBytes: 64 }

export const u8: Codec<number> = { read: (r) => r.u8(), write: (w, v) => void w.u8(v) }
export const bool: Codec<boolean> = { read: (r) => r.bool(), write: (w, v) => void w.bool(v) }
export const u32: Codec<number> = { read: (r) => r.u32(), write: (w, v) => void w.u32(v) }
export const u64: Codec<bigint> = { read: (r) => r.u64(), write: (w, v) => void w.u64(v) }
/** A u64 as a number; above 2^53 - 1 it is an error, never a rounded value. */
export const u64Number: Codec<number> = { read: (r) => r.u64Number(), write: (w, v) => void w.u64Number(v) }
/** A string of arbitrary bytes; a view when read. */
export const string: Codec<Uint8Array> = { read: (r) => r.string(), write: (w, v) => void w.string(v) }
/** A UTF-8 string. */
export const text: Codec<string> = { read: (r) => r.text(), write: (w, v) => void w.text(v) }
/** A non-negative integer as its big-endian magnitude without leading zeros; a view when read. */
export const unsignedMpint: Codec<Uint8Array> = {
  read: (r) => r.unsignedMpint(),
  write: (w, v) => void w.unsignedMpint(v),
}
export const nameList: Codec<readonly string[]> = {
  read: (r) => r.nameList(nameListLimits),
  write: (w, v) => void w.nameList(v),
}
/** All bytes up to the end of the message; a view when read. */
export const rest: Codec<Uint8Array> = { read: (r) => r.rest(), write: (w, v) => void w.raw(v) }

/** Exactly `length` bytes without a length prefix. */
export function fixed(length: number): Codec<Uint8Array> {
  return {
    read: (r) => r.raw(length),
    write: (w, v) => {
      if (v.length !== length) throw new RangeError(`expected ${length} bytes, got ${v.length}`)
      w.raw(v)
    },
  }
}

// biome-ignore lint/suspicious/noExplicitAny: codecs are invariant in T, and `unknown` would refuse every one of them.
export type Fields = Readonly<Record<string, Codec<any>>>
export type ValueOf<F extends Fields> = { readonly [K in keyof F]: F[K] extends Codec<infer T> ? T : never }

export interface Message<F extends Fields> {
  /** The RFC's name without SSH_MSG_. */
  readonly name: string
  readonly number: number
  readonly fields: F
  /** Decodes a whole message, number byte included. Throws WireError. */
  decode(payload: Uint8Array): ValueOf<F>
  /** Writes number and fields. */
  encode(writer: Writer, value: ValueOf<F>): void
  /** The message as a new array. */
  bytes(value: ValueOf<F>): Uint8Array
}

/** The value type of a declared message. */
export type MessageOf<M> = M extends Message<infer F> ? ValueOf<F> : never

export function message<const F extends Fields>(
  name: string,
  number: number,
  fields: F,
  options: { trailing?: 'ignore' } = {},
): Message<F> {
  const entries = Object.entries(fields)
  const decode = (payload: Uint8Array): ValueOf<F> => {
    const reader = new Reader(payload)
    const value: Record<string, unknown> = {}
    let field: string | undefined
    try {
      const actual = reader.u8()
      if (actual !== number) throw new WireError(`expected message ${number}, got ${actual}`, 0)
      for (const [key, codec] of entries) {
        field = key
        value[key] = codec.read(reader)
      }
      field = undefined
      if (options.trailing !== 'ignore') reader.expectEnd()
    } catch (error) {
      if (error instanceof WireError) throw error.within(name, field)
      throw error
    }
    return value as ValueOf<F>
  }
  const encode = (writer: Writer, value: ValueOf<F>): void => {
    writer.u8(number)
    for (const [key, codec] of entries) codec.write(writer, (value as Record<string, unknown>)[key])
  }
  const bytes = (value: ValueOf<F>): Uint8Array => {
    const writer = new Writer()
    encode(writer, value)
    return writer.copy()
  }
  return { name, number, fields, decode, encode, bytes }
}

/** Encodes a run of fields without a message number (key blobs, signed data, request payloads). */
export function encodeFields<const F extends Fields>(fields: F, value: ValueOf<F>): Uint8Array {
  const writer = new Writer()
  for (const [key, codec] of Object.entries(fields))
    codec.write(writer, (value as Record<string, unknown>)[key])
  return writer.copy()
}

/** Decodes a run of fields without a message number; `name` goes into errors. Throws WireError. */
export function decodeFields<const F extends Fields>(
  name: string,
  fields: F,
  bytes: Uint8Array,
  options: { trailing?: 'ignore' } = {},
): ValueOf<F> {
  const reader = new Reader(bytes)
  const value: Record<string, unknown> = {}
  let field: string | undefined
  try {
    for (const [key, codec] of Object.entries(fields)) {
      field = key
      value[key] = codec.read(reader)
    }
    field = undefined
    if (options.trailing !== 'ignore') reader.expectEnd()
  } catch (error) {
    if (error instanceof WireError) throw error.within(name, field)
    throw error
  }
  return value as ValueOf<F>
}
