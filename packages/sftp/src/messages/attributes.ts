// ATTRS, the file attributes of version 3 (draft-ietf-secsh-filexfer-02 s5), and the POSIX mode bits they carry.
// Sizes above 2^53 - 1 are a WireError, never a rounded number. Extended attributes are copied, not views, because
// attributes outlive the packet they came in.

import { type Codec, type Reader, WireError, type Writer } from '@sshblock/transport/wire'

/** Which fields are there (draft s5), names without SSH_FILEXFER_ATTR_. */
export const attributeFlag = {
  size: 0x0000_0001,
  uidgid: 0x0000_0002,
  permissions: 0x0000_0004,
  acmodtime: 0x0000_0008,
  extended: 0x8000_0000,
} as const

export interface ExtendedAttribute {
  /** 'name@domain' */
  readonly type: string
  readonly data: Uint8Array
}

/** File attributes; a field that is absent was not sent, or shall not be changed. */
export interface Attributes {
  /** Bytes. */
  readonly size?: number
  /** Owner; `uid` and `gid` come and go together. */
  readonly uid?: number
  readonly gid?: number
  /** POSIX st_mode: permission bits, and the file type where the server tells it. */
  readonly permissions?: number
  /** Seconds since 1970 UTC, 0 to 2^32 - 1; `atime` and `mtime` come and go together. */
  readonly atime?: number
  readonly mtime?: number
  readonly extended?: readonly ExtendedAttribute[]
}

function both(a: number | undefined, b: number | undefined, names: string): boolean {
  if ((a === undefined) !== (b === undefined))
    throw new RangeError(`attributes ${names} must be given together`)
  return a !== undefined
}

function checkU32(value: number, name: string): number {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff) {
    throw new RangeError(`attribute ${name} must be an integer from 0 to 2^32 - 1, got ${value}`)
  }
  return value
}

function readAttributes(reader: Reader): Attributes {
  const flags = reader.u32()
  const value: { -readonly [K in keyof Attributes]: Attributes[K] } = {}
  if (flags & attributeFlag.size) value.size = reader.u64Number()
  if (flags & attributeFlag.uidgid) {
    value.uid = reader.u32()
    value.gid = reader.u32()
  }
  if (flags & attributeFlag.permissions) value.permissions = reader.u32()
  if (flags & attributeFlag.acmodtime) {
    value.atime = reader.u32()
    value.mtime = reader.u32()
  }
  if (flags & attributeFlag.extended) {
    const at = reader.at
    const count = reader.u32()
    // Two length prefixes each: a count beyond the bytes present never loops nor allocates.
    if (count > reader.remaining / 8)
      throw new WireError(`${count} extended attributes in ${reader.remaining} bytes`, at)
    const extended: ExtendedAttribute[] = []
    for (let i = 0; i < count; i++) extended.push({ type: reader.text(), data: reader.string().slice() })
    value.extended = extended
  }
  return value
}

/** Throws RangeError where a value does not fit its field, before anything is written. */
function writeAttributes(writer: Writer, value: Attributes): void {
  const { size, uid, gid, permissions, atime, mtime, extended } = value
  let flags = 0
  if (size !== undefined) {
    if (!Number.isSafeInteger(size) || size < 0)
      throw new RangeError(`attribute size must be an integer from 0 to 2^53 - 1, got ${size}`)
    flags |= attributeFlag.size
  }
  if (both(uid, gid, 'uid and gid')) {
    checkU32(uid!, 'uid')
    checkU32(gid!, 'gid')
    flags |= attributeFlag.uidgid
  }
  if (permissions !== undefined) {
    checkU32(permissions, 'permissions')
    flags |= attributeFlag.permissions
  }
  if (both(atime, mtime, 'atime and mtime')) {
    checkU32(atime!, 'atime')
    checkU32(mtime!, 'mtime')
    flags |= attributeFlag.acmodtime
  }
  if (extended !== undefined && extended.length > 0) flags = (flags | attributeFlag.extended) >>> 0
  writer.u32(flags)
  if (size !== undefined) writer.u64Number(size)
  if (uid !== undefined) writer.u32(uid).u32(gid!)
  if (permissions !== undefined) writer.u32(permissions)
  if (atime !== undefined) writer.u32(atime).u32(mtime!)
  if (extended !== undefined && extended.length > 0) {
    writer.u32(extended.length)
    for (const { type, data } of extended) writer.text(type).string(data)
  }
}

/** ATTRS as a field of a message. Unknown flag bits are ignored, as every server and client does. */
export const attributes: Codec<Attributes> = { read: readAttributes, write: writeAttributes }

/** POSIX st_mode: the file type field and its values. */
export const fileTypeBits = {
  mask: 0o170000,
  fifo: 0o010000,
  characterDevice: 0o020000,
  directory: 0o040000,
  blockDevice: 0o060000,
  file: 0o100000,
  symlink: 0o120000,
  socket: 0o140000,
} as const

export type FileType =
  | 'file'
  | 'directory'
  | 'symlink'
  | 'fifo'
  | 'socket'
  | 'character-device'
  | 'block-device'
  | 'unknown'

/** The file type in the permissions, 'unknown' where the server did not send it. */
export function fileType(attributes: { readonly permissions?: number | undefined }): FileType {
  switch ((attributes.permissions ?? 0) & fileTypeBits.mask) {
    case fileTypeBits.file:
      return 'file'
    case fileTypeBits.directory:
      return 'directory'
    case fileTypeBits.symlink:
      return 'symlink'
    case fileTypeBits.fifo:
      return 'fifo'
    case fileTypeBits.socket:
      return 'socket'
    case fileTypeBits.characterDevice:
      return 'character-device'
    case fileTypeBits.blockDevice:
      return 'block-device'
    default:
      return 'unknown'
  }
}
