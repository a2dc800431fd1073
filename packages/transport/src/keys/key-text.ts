// The text forms in which public keys and certificates lie in files: OpenSSH's one line, and RFC 4716.
// Only the armour is taken off here; the blob is parsed by public-key.ts or certificate.ts.

import { KeyFormatError } from '../errors.ts'
import { maxKeyFileBytes } from '../limits.ts'
import { fromBase64 } from '../wire/bytes.ts'
import { keyErrorCodes } from './key-format.ts'

export interface KeyText {
  /** The type the text claims; undefined in RFC 4716, which has none outside the blob. */
  type: string | undefined
  blob: Uint8Array
  comment: string
}

/** RFC 4716 s3.3: a header's tag has at most 64 bytes, its value at most 1024; with some room for what programs write. */
const maxHeaderLength = 2048

const rfc4716Begin = '---- BEGIN SSH2 PUBLIC KEY ----'
const rfc4716End = '---- END SSH2 PUBLIC KEY ----'

/** Splits 'type base64 comment', or an RFC 4716 file. Throws KeyFormatError. */
export function splitKeyText(text: string): KeyText {
  if (text.length > maxKeyFileBytes) {
    throw new KeyFormatError(`a public key text of ${text.length} characters; at most ${maxKeyFileBytes}`, {
      code: keyErrorCodes.fileTooLarge,
    })
  }
  const trimmed = text.trim()
  if (trimmed.startsWith(rfc4716Begin)) return splitRfc4716(trimmed)
  if (trimmed.startsWith('-----BEGIN')) {
    throw new KeyFormatError('this is a PEM file, not a public key line; is it the private key?')
  }
  if (/[\r\n]/.test(trimmed)) throw new KeyFormatError('expected one line: type, base64, comment')
  const match = /^([!-~]+)[ \t]+([^ \t]+)(?:[ \t]+(.*))?$/.exec(trimmed)
  if (match === null) throw new KeyFormatError('expected a public key line: type, base64, comment')
  const blob = fromBase64(match[2]!)
  if (blob === undefined) throw new KeyFormatError('the second word of the public key line is not base64')
  return { type: match[1]!, blob, comment: match[3] ?? '' }
}

/** RFC 4716 s3: headers "tag: value", continued by a backslash at the end of the line; then base64; between two markers. */
function splitRfc4716(text: string): KeyText {
  const lines = text.split(/\r\n|\n|\r/)
  const end = lines.findIndex((line) => line.trimEnd() === rfc4716End)
  if (lines[0]!.trimEnd() !== rfc4716Begin || end < 0) {
    throw new KeyFormatError(`expected "${rfc4716Begin}" and "${rfc4716End}" on lines of their own`)
  }
  let comment = ''
  let at = 1
  for (; at < end; at++) {
    let line = lines[at]!
    if (!line.includes(':')) break
    while (line.endsWith('\\') && at + 1 < end && line.length <= maxHeaderLength)
      line = line.slice(0, -1) + lines[++at]!
    if (line.length > maxHeaderLength) throw new KeyFormatError('a header of the RFC 4716 file is too long')
    const colon = line.indexOf(':')
    if (line.slice(0, colon).toLowerCase() === 'comment') comment = unquote(line.slice(colon + 1).trim())
  }
  const blob = fromBase64(lines.slice(at, end).join('').replace(/[ \t]/g, ''))
  if (blob === undefined || blob.length === 0)
    throw new KeyFormatError('the body of the RFC 4716 file is not base64')
  return { type: undefined, blob, comment }
}

/** RFC 4716 s3.3.2: a comment may stand in double quotes. */
function unquote(value: string): string {
  return value.length >= 2 && value.startsWith('"') && value.endsWith('"') ? value.slice(1, -1) : value
}
