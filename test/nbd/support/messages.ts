/**
 * NBD messages as a client builds and reads them, written from the protocol document independently of the server: numbers
 * are literal here, so that a wrong constant in the server cannot agree with itself.
 */

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts))
}

export function u16(value: number): Uint8Array {
  return Uint8Array.of(value >>> 8, value & 255)
}

export function u32(value: number): Uint8Array {
  return Uint8Array.of(value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255)
}

export function u64(value: bigint | number): Uint8Array {
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value))
  return bytes
}

export function text(value: string): Uint8Array {
  return new TextEncoder().encode(value)
}

/** A text behind its length. */
export function counted(value: string | Uint8Array): Uint8Array {
  const bytes = typeof value === 'string' ? text(value) : value
  return concat(u32(bytes.length), bytes)
}

/** NBD_FLAG_C_FIXED_NEWSTYLE and NBD_FLAG_C_NO_ZEROES. */
export const bothClientFlags = u32(3)

export const OPT = {
  EXPORT_NAME: 1,
  ABORT: 2,
  LIST: 3,
  PEEK_EXPORT: 4,
  STARTTLS: 5,
  INFO: 6,
  GO: 7,
  STRUCTURED_REPLY: 8,
  LIST_META_CONTEXT: 9,
  SET_META_CONTEXT: 10,
  EXTENDED_HEADERS: 11,
} as const

export const REP = {
  ACK: 1,
  SERVER: 2,
  INFO: 3,
  META_CONTEXT: 4,
  ERR_UNSUP: 0x80000001,
  ERR_POLICY: 0x80000002,
  ERR_INVALID: 0x80000003,
  ERR_UNKNOWN: 0x80000006,
  ERR_SHUTDOWN: 0x80000007,
} as const

export const CMD = {
  READ: 0,
  WRITE: 1,
  DISC: 2,
  FLUSH: 3,
  TRIM: 4,
  CACHE: 5,
  WRITE_ZEROES: 6,
  BLOCK_STATUS: 7,
} as const
export const FLAG = { FUA: 1, NO_HOLE: 2, DF: 4, REQ_ONE: 8, FAST_ZERO: 16 } as const
export const ERR = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const
export const CHUNK = { NONE: 0, DATA: 1, HOLE: 2, STATUS: 5, ERROR: 0x8001, ERROR_OFFSET: 0x8002 } as const

export function option(type: number, data: Uint8Array = new Uint8Array(0), length = data.length): Uint8Array {
  return concat(text('IHAVEOPT'), u32(type), u32(length), data)
}

/** Data of NBD_OPT_INFO and NBD_OPT_GO. */
export function infoData(name: string | Uint8Array, ...types: number[]): Uint8Array {
  return concat(counted(name), u16(types.length), ...types.map(u16))
}

/** Data of NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. */
export function metaData(name: string, ...queries: string[]): Uint8Array {
  return concat(counted(name), u32(queries.length), ...queries.map(counted))
}

export interface RequestFields {
  flags?: number
  offset?: number | bigint
  length?: number
  cookie?: bigint | number
  payload?: Uint8Array
}

export function request(type: number, fields: RequestFields = {}): Uint8Array {
  const { flags = 0, offset = 0, cookie = 0, payload = new Uint8Array(0) } = fields
  const length = fields.length ?? payload.length
  return concat(u32(0x25609513), u16(flags), u16(type), u64(cookie), u64(offset), u32(length), payload)
}

export interface OptionReply {
  readonly option: number
  readonly type: number
  readonly data: Uint8Array
}

/** One option reply at `at`; throws where it is not a whole one. */
export function parseOptionReply(bytes: Uint8Array, at = 0): { reply: OptionReply; next: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (view.getBigUint64(at) !== 0x3e889045565a9n) throw new Error('not an option reply')
  const length = view.getUint32(at + 16)
  if (at + 20 + length > bytes.length) throw new Error('a truncated option reply')
  const data = bytes.slice(at + 20, at + 20 + length)
  return {
    reply: { option: view.getUint32(at + 8), type: view.getUint32(at + 12), data },
    next: at + 20 + length,
  }
}

export function parseOptionReplies(bytes: Uint8Array): OptionReply[] {
  const replies: OptionReply[] = []
  for (let at = 0; at < bytes.length; ) {
    const { reply, next } = parseOptionReply(bytes, at)
    replies.push(reply)
    at = next
  }
  return replies
}

export function textOf(bytes: Uint8Array): string {
  return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
}
