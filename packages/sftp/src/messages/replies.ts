// Replies of SFTP version 3 in the order of draft-ietf-secsh-filexfer-02 (s4, s7), field names as there.
// A packet is uint32 length, then what is declared here (type byte first). Handles, data and names are views when decoded.
// Bytes after the last field are ignored, as OpenSSH does.

import { type Codec, message, string, u32, WireError } from '@sshblock/transport/wire'
import { type Attributes, attributes } from './attributes.ts'
import { extensionPairs } from './extension-pairs.ts'
import { packetType } from './numbers.ts'

const trailing = { trailing: 'ignore' } as const

/** A text that servers leave out at the end of STATUS; '' then. */
const optionalText: Codec<string> = {
  read: (reader) => (reader.remaining === 0 ? '' : reader.text()),
  write: (writer, value) => void writer.text(value),
}

export interface NameEntry {
  readonly filename: Uint8Array
  /** A line as `ls -l` prints it, of any shape: shown to people at most, never parsed. */
  readonly longname: Uint8Array
  readonly attrs: Attributes
}

/** filename, longname and attrs have a length or flags word each. */
const minNameEntryBytes = 12

const nameEntries: Codec<readonly NameEntry[]> = {
  read: (reader) => {
    const at = reader.at
    const count = reader.u32()
    if (count > reader.remaining / minNameEntryBytes)
      throw new WireError(`${count} names in ${reader.remaining} bytes`, at)
    const entries: NameEntry[] = []
    for (let i = 0; i < count; i++) {
      entries.push({ filename: reader.string(), longname: reader.string(), attrs: attributes.read(reader) })
    }
    return entries
  },
  write: (writer, entries) => {
    writer.u32(entries.length)
    for (const { filename, longname, attrs } of entries) {
      writer.string(filename).string(longname)
      attributes.write(writer, attrs)
    }
  },
}

/** s4. The only reply without an id. */
export const version = message('VERSION', packetType.version, { version: u32, extensions: extensionPairs })

/** s7. */
export const status = message(
  'STATUS',
  packetType.status,
  { id: u32, code: u32, message: optionalText, language: optionalText },
  trailing,
)

/** s7. A handle has 1 to 256 bytes and means nothing to a client. */
export const handle = message('HANDLE', packetType.handle, { id: u32, handle: string }, trailing)

/** s7. */
export const data = message('DATA', packetType.data, { id: u32, data: string }, trailing)

/** s7. */
export const name = message('NAME', packetType.name, { id: u32, names: nameEntries }, trailing)

/** s7. */
export const attrs = message('ATTRS', packetType.attrs, { id: u32, attrs: attributes }, trailing)
