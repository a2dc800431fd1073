// The armour of key files: RFC 7468 as programs really write it (any line length, CRLF, RFC 1421 headers).

import { KeyFormatError } from '../errors.ts'
import { fromBase64 } from '../wire/bytes.ts'
import { keyErrorCodes } from './key-format.ts'

export interface Pem {
  /** What stands between BEGIN and the dashes. */
  label: string
  /** RFC 1421 headers such as 'Proc-Type', names as written. */
  headers: ReadonlyMap<string, string>
  body: Uint8Array
}

/** Reads the first block of a text. Throws KeyFormatError that says what the text is instead, where that can be told. */
export function readPem(text: string): Pem {
  const begin = /-----BEGIN ([A-Z0-9 ]{1,64})-----[ \t]*\r?\n/.exec(text)
  if (begin === null) throw notPem(text)
  const label = begin[1]!
  const from = begin.index + begin[0].length
  const end = text.indexOf(`-----END ${label}-----`, from)
  if (end < 0) throw new KeyFormatError(`the key file is cut off: "-----END ${label}-----" is missing`)
  const lines = text.slice(from, end).split(/\r?\n/)
  const headers = new Map<string, string>()
  let at = 0
  for (; at < lines.length; at++) {
    const line = lines[at]!
    const colon = line.indexOf(':')
    if (colon < 0) break
    headers.set(line.slice(0, colon), line.slice(colon + 1).trim())
  }
  const body = fromBase64(lines.slice(at).join('').replace(/[ \t]/g, ''))
  if (body === undefined || body.length === 0)
    throw new KeyFormatError('the body of the key file is not base64')
  return { label, headers, body }
}

/** Writes a block with lines of `width` characters and a final newline. */
export function formatPem(label: string, base64: string, width = 70): string {
  let lines = ''
  for (let at = 0; at < base64.length; at += width) lines += `${base64.slice(at, at + width)}\n`
  return `-----BEGIN ${label}-----\n${lines}-----END ${label}-----\n`
}

function notPem(text: string): KeyFormatError {
  const head = text.trimStart().slice(0, 100)
  if (head.startsWith('PuTTY-User-Key-File-')) {
    return new KeyFormatError(
      'a PuTTY key file; convert it with: puttygen FILE -O private-openssh-new -o NEWFILE',
      {
        code: keyErrorCodes.unsupported,
      },
    )
  }
  if (/^(ssh-|ecdsa-|sk-)/.test(head) || head.startsWith('---- BEGIN SSH2 PUBLIC KEY')) {
    return new KeyFormatError('this is a public key; the private key is in the file without .pub')
  }
  return new KeyFormatError('expected a private key file that starts with "-----BEGIN ... PRIVATE KEY-----"')
}
