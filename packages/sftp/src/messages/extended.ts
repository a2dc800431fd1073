// EXTENDED requests and replies (draft-ietf-secsh-filexfer-02 s8) and the extensions of OpenSSH's PROTOCOL file
// (copy-data and home-directory: draft-ietf-secsh-filexfer-extensions-00).
// An extension is declared once: its name, the version announced in VERSION, the request's fields, the reply's fields.

import {
  type Codec,
  decodeFields,
  type Fields,
  message,
  Reader,
  rest,
  string,
  text,
  u32,
  u64,
  u64Number,
  utf8Bytes,
  type ValueOf,
  type Writer,
} from '@sshblock/transport/wire'
import { attributes } from './attributes.ts'
import { packetType } from './numbers.ts'

/** s8. `data` is what the extension's own declaration decodes. */
export const extended = message('EXTENDED', packetType.extended, {
  id: u32,
  extendedRequest: text,
  data: rest,
})

/** s8. */
export const extendedReply = message('EXTENDED_REPLY', packetType.extendedReply, { id: u32, data: rest })

export interface Extension<F extends Fields, R extends Fields | undefined> {
  /** As in VERSION and in the request. */
  readonly name: string
  /** The extension-data of VERSION. */
  readonly version: string
  /** Writes a whole EXTENDED request, from its type byte on. */
  encode(writer: Writer, value: ValueOf<F> & { id: number }): void
  /** Decodes the `data` of an EXTENDED request. Throws WireError. */
  decode(data: Uint8Array): ValueOf<F>
  /** Writes a whole EXTENDED_REPLY, from its type byte on. */
  readonly encodeReply: R extends Fields
    ? (writer: Writer, value: ValueOf<R> & { id: number }) => void
    : undefined
  /** Decodes the `data` of an EXTENDED_REPLY. Throws WireError. */
  readonly decodeReply: R extends Fields ? (data: Uint8Array) => ValueOf<R> : undefined
}

function writeFields(writer: Writer, fields: Fields, value: Readonly<Record<string, unknown>>): void {
  for (const [key, codec] of Object.entries(fields)) codec.write(writer, value[key])
}

function extension<const F extends Fields>(name: string, version: string, request: F): Extension<F, undefined>
function extension<const F extends Fields, const R extends Fields>(
  name: string,
  version: string,
  request: F,
  reply: R,
): Extension<F, R>
function extension(
  name: string,
  version: string,
  request: Fields,
  reply?: Fields,
): Extension<Fields, Fields | undefined> {
  const nameBytes = utf8Bytes(name)
  return {
    name,
    version,
    encode: (writer, value) => {
      writer.u8(packetType.extended).u32(value.id).string(nameBytes)
      writeFields(writer, request, value)
    },
    decode: (data) => decodeFields(name, request, data, { trailing: 'ignore' }),
    encodeReply:
      reply &&
      ((writer, value) => {
        writer.u8(packetType.extendedReply).u32(value.id)
        writeFields(writer, reply, value)
      }),
    decodeReply: reply && ((data) => decodeFields(`${name} reply`, reply, data, { trailing: 'ignore' })),
  }
}

/** OpenSSH PROTOCOL "posix-rename@openssh.com": renames over an existing file. Answered by STATUS. */
export const posixRename = extension('posix-rename@openssh.com', '1', { oldpath: string, newpath: string })

/** The reply of statvfs and fstatvfs: struct statvfs, field by field. */
const statvfsReply = {
  bsize: u64,
  frsize: u64,
  blocks: u64,
  bfree: u64,
  bavail: u64,
  files: u64,
  ffree: u64,
  favail: u64,
  fsid: u64,
  flag: u64,
  namemax: u64,
} as const

/** Bits of `flag` in the reply of statvfs (OpenSSH PROTOCOL "statvfs@openssh.com"), names without SSH_FXE_STATVFS_ST_. */
export const statvfsFlag = { rdonly: 0x1n, nosuid: 0x2n } as const

/** OpenSSH PROTOCOL "statvfs@openssh.com". Answered by EXTENDED_REPLY. */
export const statvfs = extension('statvfs@openssh.com', '2', { path: string }, statvfsReply)

/** OpenSSH PROTOCOL "fstatvfs@openssh.com". Answered by EXTENDED_REPLY. */
export const fstatvfs = extension('fstatvfs@openssh.com', '2', { handle: string }, statvfsReply)

/** OpenSSH PROTOCOL "hardlink@openssh.com". Answered by STATUS. */
export const hardlink = extension('hardlink@openssh.com', '1', { oldpath: string, newpath: string })

/** OpenSSH PROTOCOL "fsync@openssh.com": the file's bytes are on stable storage when STATUS OK comes. */
export const fsync = extension('fsync@openssh.com', '1', { handle: string })

/** OpenSSH PROTOCOL "lsetstat@openssh.com": SETSTAT that does not follow a symbolic link. Answered by STATUS. */
export const lsetstat = extension('lsetstat@openssh.com', '1', { path: string, attrs: attributes })

/** OpenSSH PROTOCOL "limits@openssh.com"; 0 means "not told". Answered by EXTENDED_REPLY. */
export const limits = extension(
  'limits@openssh.com',
  '1',
  {},
  { maxPacketLength: u64, maxReadLength: u64, maxWriteLength: u64, maxOpenHandles: u64 },
)

/** OpenSSH PROTOCOL "expand-path@openssh.com": REALPATH that also expands "~" and "~user". Answered by NAME with one name. */
export const expandPath = extension('expand-path@openssh.com', '1', { path: string })

/** draft-ietf-secsh-filexfer-extensions-00 s7; `readDataLength` 0 means "to the end". Answered by STATUS. */
export const copyData = extension('copy-data', '1', {
  readFromHandle: string,
  readFromOffset: u64Number,
  readDataLength: u64Number,
  writeToHandle: string,
  writeToOffset: u64Number,
})

/** draft-ietf-secsh-filexfer-extensions-00 s5; an empty user name means the user's own. Answered by NAME with one name. */
export const homeDirectory = extension('home-directory', '1', { username: string })

/** A string that holds a row of uint32. */
const u32List: Codec<readonly number[]> = {
  read: (reader) => {
    const list = new Reader(reader.string())
    const values: number[] = []
    while (list.remaining > 0) values.push(list.u32())
    return values
  },
  write: (writer, values) => {
    writer.u32(4 * values.length)
    for (const value of values) writer.u32(value)
  },
}

/** A string that holds a row of strings. */
const textList: Codec<readonly string[]> = {
  read: (reader) => {
    const list = new Reader(reader.string())
    const values: string[] = []
    while (list.remaining > 0) values.push(list.text())
    return values
  },
  write: (writer, values) => {
    const encoded = values.map(utf8Bytes)
    writer.u32(encoded.reduce((sum, bytes) => sum + 4 + bytes.length, 0))
    for (const bytes of encoded) writer.string(bytes)
  },
}

/** OpenSSH PROTOCOL "users-groups-by-id@openssh.com": one name for each id, '' where there is none. Answered by EXTENDED_REPLY. */
export const usersGroupsById = extension(
  'users-groups-by-id@openssh.com',
  '1',
  { uids: u32List, gids: u32List },
  { usernames: textList, groupnames: textList },
)

/**
 * Ours: this session belongs to a device, with an epoch and a number of its own. Answered, when no session of an earlier
 * epoch of that device can do anything any more, by EXTENDED_REPLY with the numbers of the sessions that are over.
 */
export const sessionEpoch = extension(
  'session-epoch@sshblock',
  '1',
  { device: string, epoch: u64Number, serial: u32 },
  { ended: u32List },
)

/** Every extension declared above. */
export const extensions = [
  posixRename,
  statvfs,
  fstatvfs,
  hardlink,
  fsync,
  lsetstat,
  limits,
  expandPath,
  copyData,
  homeDirectory,
  usersGroupsById,
  sessionEpoch,
] as const
