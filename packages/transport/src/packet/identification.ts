// The identification exchange (RFC 4253 s4.2): one line each way before the first packet.
// Owns nothing but the count of lines before the peer's identification. Deliberately lenient where deployed servers are
// (LF alone ends a line), strict where lenience was exploited (the server role takes no line before the client's).

import { ProtocolError, quote } from '../errors.ts'
import { maxIdentificationBytes, maxPreIdentificationBytes, maxPreIdentificationLines } from '../limits.ts'
import { utf8Bytes, utf8Text } from '../wire/bytes.ts'
import type { ReceiveBuffer } from './receive-buffer.ts'

/** What we say we are: RFC 4253 s4.2 form, no comment, so that nothing depends on the platform. */
export const ourIdentification = 'SSH-2.0-sshblock_0.1'

/** The line to send, CR LF included. */
export function identificationLine(identification: string): Uint8Array {
  if (
    !/^SSH-2\.0-[\x21-\x2c\x2e-\x7e]+( [\x20-\x7e]*)?$/.test(identification) ||
    identification.length > maxIdentificationBytes - 2
  ) {
    throw new RangeError(
      `identification must look like "SSH-2.0-name" in printable ASCII, got ${quote(identification)}`,
    )
  }
  return utf8Bytes(`${identification}\r\n`)
}

export class IdentificationReader {
  readonly #role: 'client' | 'server'
  #lines = 0
  #bytes = 0

  constructor(role: 'client' | 'server') {
    this.#role = role
  }

  /**
   * The peer's identification without CR LF, or undefined while it has not come whole.
   * Throws ProtocolError where the peer is not an SSH 2 peer.
   */
  read(buffer: ReceiveBuffer): string | undefined {
    for (;;) {
      const held = buffer.bytes.subarray(buffer.start, buffer.end)
      const lineFeed = held.indexOf(10)
      const isIdentification = startsWithSsh(held)
      const limit =
        isIdentification === true ? maxIdentificationBytes : maxPreIdentificationBytes - this.#bytes
      if (lineFeed === -1 ? held.length >= limit : lineFeed + 1 > limit) {
        throw notSsh(held, `its first line is longer than ${limit} bytes`)
      }
      if (isIdentification === false && this.#role === 'server')
        throw notSsh(held, 'a client sends nothing before its identification')
      if (lineFeed === -1) return undefined
      const line = buffer.take(lineFeed + 1)
      if (isIdentification === true) return checked(line)
      this.#lines++
      this.#bytes += line.length
      if (this.#lines > maxPreIdentificationLines)
        throw notSsh(line, `it sent more than ${maxPreIdentificationLines} lines before its identification`)
    }
  }
}

/** Whether the bytes begin with "SSH-"; undefined while too few are there to tell. */
function startsWithSsh(bytes: Uint8Array): boolean | undefined {
  const prefix = [0x53, 0x53, 0x48, 0x2d]
  for (let i = 0; i < 4; i++) {
    if (i >= bytes.length) return undefined
    if (bytes[i] !== prefix[i]) return false
  }
  return true
}

function checked(line: Uint8Array): string {
  const end = line.length >= 2 && line[line.length - 2] === 13 ? line.length - 2 : line.length - 1
  const body = line.subarray(0, end)
  // RFC 4253 s4.2: "The null character MUST NOT be sent"; CR inside would let two readings of V_C differ.
  if (body.includes(0) || body.includes(13)) throw notSsh(line, 'its identification holds a NUL or a CR')
  const text = utf8Text(body)
  // RFC 4253 s5.1: protocol version 1.99 is 2.0 with compatibility.
  if (!text.startsWith('SSH-2.0-') && !text.startsWith('SSH-1.99-'))
    throw notSsh(line, 'it speaks another protocol version')
  return text
}

function notSsh(bytes: Uint8Array, why: string): ProtocolError {
  const shown = utf8Text(bytes.subarray(0, 80))
  return new ProtocolError(`the peer does not speak SSH 2: ${why}; it began with ${quote(shown)}`, {
    code: 'ERR_SSH_NOT_SSH',
    phase: 'identification',
  })
}
