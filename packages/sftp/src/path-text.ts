// Paths between the wire and JavaScript text, without loss. The draft leaves the encoding of paths open
// (draft-ietf-secsh-filexfer-02 s6.2); UTF-8 is what everybody uses, but a POSIX file name is any bytes but '/' and NUL.
// Well-formed UTF-8 becomes the text it says. A path that is not gets each stray byte 0x80..0xff as the lone surrogate
// U+DC80..U+DCFF (PEP 383), which no well-formed path contains, so both directions are exact and every file can be
// opened, renamed and removed by the name that a listing gave.

import { strictUtf8Text, utf8Bytes, utf8Text } from '@sshblock/transport/wire'

const surrogate = /[\ud800-\udfff]/

/** Length of the well-formed UTF-8 sequence at `at` (RFC 3629 s4), 0 where there is none. */
function sequenceLength(bytes: Uint8Array, at: number): number {
  const first = bytes[at]!
  if (first < 0x80) return 1
  const length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2
  return strictUtf8Text(bytes.subarray(at, at + length)) === undefined ? 0 : length
}

/** Text of the bytes of a path or file name; `pathBytes` gives the same bytes back. */
export function pathText(bytes: Uint8Array): string {
  const text = strictUtf8Text(bytes)
  if (text !== undefined) return text
  let out = ''
  let start = 0
  for (let at = 0; at < bytes.length; ) {
    const length = sequenceLength(bytes, at)
    if (length > 0 && at + length <= bytes.length) {
      at += length
      continue
    }
    out += utf8Text(bytes.subarray(start, at)) + String.fromCharCode(0xdc00 | bytes[at]!)
    start = ++at
  }
  return out + utf8Text(bytes.subarray(start))
}

/** Whether a path holds bytes that are not UTF-8, so that only its bytes name the file (or a true surrogate pair). */
export function needsBytes(text: string): boolean {
  return surrogate.test(text)
}

/** Bytes of a path or file name; allocates. A lone surrogate outside U+DC80..U+DCFF becomes U+FFFD. */
export function pathBytes(text: string): Uint8Array {
  if (!surrogate.test(text)) return utf8Bytes(text)
  const out = new Uint8Array(3 * text.length)
  let length = 0
  let start = 0
  const flush = (end: number) => {
    const part = utf8Bytes(text.slice(start, end))
    out.set(part, length)
    length += part.length
  }
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    if (unit >= 0xd800 && unit <= 0xdbff) {
      const next = text.charCodeAt(i + 1)
      if (next >= 0xdc00 && next <= 0xdfff) i++
      continue
    }
    if (unit < 0xdc80 || unit > 0xdcff) continue
    flush(i)
    out[length++] = unit & 0xff
    start = i + 1
  }
  flush(text.length)
  return out.slice(0, length)
}
