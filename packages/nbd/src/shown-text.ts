// Text that the protocol carries for people: error messages of option replies and of error chunks. Control characters are
// made visible, and the whole is kept within the 4096 bytes of a protocol string ("Conventions").

import { safeText } from '@sshblock/transport/errors'
import { utf8Bytes } from '@sshblock/transport/wire'
import { maxStringBytes } from './limits.ts'

/** `text` as bytes to send: UTF-8 without control characters, at most 4096 bytes. */
export function shownText(text: string): Uint8Array {
  // Escapes can make it longer than what it was capped to, so the bytes are what counts.
  const bytes = utf8Bytes(safeText(text))
  if (bytes.length <= maxStringBytes) return bytes
  let end = maxStringBytes
  // Not within a character: 10xxxxxx continues one.
  while ((bytes[end]! & 0xc0) === 0x80) end--
  return bytes.subarray(0, end)
}
