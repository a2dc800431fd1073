// Cuts the server's byte stream into replies (draft-ietf-secsh-filexfer-02 s3). Synchronous, no I/O.
// DATA is never assembled: its 13-byte header is read, then every piece of its payload goes to the sink as it comes, so
// that one `set` puts it where the caller wants it, however the stream is cut. All other replies are handed over whole,
// as a view of the input where they lie in one piece, else assembled in one buffer that never exceeds a legal packet.
// Owns the assembly buffer; views handed to the sink are valid only during the call.
// Does not know ids or what was asked: that is the sink's business.

import { readU32 } from '@sshblock/transport/wire'
import { SftpProtocolError } from '../errors.ts'
import { maxMessageBytes, minMessageBytes } from '../limits.ts'
import { packetType, packetTypeName } from '../messages/numbers.ts'

/** Receives replies; what it throws leaves `feed` at once and ends the stream. */
export interface ReplySink {
  /** The header of a DATA reply with `length` bytes of payload. */
  dataBegin(id: number, length: number): void
  /** The next bytes of that payload; never empty. */
  dataPart(view: Uint8Array): void
  /** All of the payload came. */
  dataEnd(): void
  /** Any other packet, from its type byte on, at least 5 bytes. `id` is the version for VERSION. */
  reply(type: number, id: number, packet: Uint8Array): void
}

/** Length, type, id, length of the data (draft s7, SSH_FXP_DATA). */
const dataHeaderBytes = 13

/** Length and type: enough to know which way a packet goes. */
const prefixBytes = 5

export class ReplyParser {
  readonly #sink: ReplySink
  /** Header bytes of a packet whose header was cut. */
  readonly #header = new Uint8Array(dataHeaderBytes)
  #headerLength = 0
  /** Assembly of a packet that was cut; grows to the largest such packet seen. */
  #body = new Uint8Array(1024)
  #bodyLength = 0
  /** Bytes of the assembled packet that are still to come. */
  #bodyMissing = 0
  /** Payload of the current DATA that is still to come. */
  #dataMissing = 0
  /** Bytes after the data string of the current DATA, ignored. */
  #skip = 0
  #inData = false

  constructor(sink: ReplySink) {
    this.#sink = sink
  }

  /** Whether the stream stands in the middle of a packet. */
  get midPacket(): boolean {
    return this.#headerLength > 0 || this.#bodyMissing > 0 || this.#inData || this.#skip > 0
  }

  /** Takes the next bytes of the stream. Throws SftpProtocolError, and whatever the sink throws. */
  feed(view: Uint8Array): void {
    const end = view.length
    let at = 0
    while (at < end) {
      if (this.#inData) at = this.#takeData(view, at)
      else if (this.#skip > 0) {
        const count = Math.min(this.#skip, end - at)
        this.#skip -= count
        at += count
      } else if (this.#bodyMissing > 0) at = this.#takeBody(view, at)
      else at = this.#takeHeader(view, at)
    }
  }

  #takeHeader(view: Uint8Array, at: number): number {
    if (this.#headerLength === 0) {
      const available = view.length - at
      if (available >= prefixBytes) {
        const length = checkLength(readU32(view, at), view[at + 4]!)
        if (view[at + 4] !== packetType.data) return this.#beginPacket(view, at, length)
        if (available >= dataHeaderBytes) {
          this.#beginData(length, readU32(view, at + 5), readU32(view, at + 9))
          return at + dataHeaderBytes
        }
      }
    }
    return this.#assembleHeader(view, at)
  }

  /** The header is cut: gather it byte by byte, at most 13 of them. */
  #assembleHeader(view: Uint8Array, at: number): number {
    const header = this.#header
    let next = at
    while (next < view.length && this.#headerLength < prefixBytes)
      header[this.#headerLength++] = view[next++]!
    if (this.#headerLength < prefixBytes) return next
    const length = checkLength(readU32(header, 0), header[4]!)
    if (header[4] !== packetType.data) {
      this.#headerLength = 0
      this.#reserveBody(length)
      this.#body[0] = header[4]!
      this.#bodyLength = 1
      this.#bodyMissing = length - 1
      return next
    }
    while (next < view.length && this.#headerLength < dataHeaderBytes)
      header[this.#headerLength++] = view[next++]!
    if (this.#headerLength < dataHeaderBytes) return next
    this.#headerLength = 0
    this.#beginData(length, readU32(header, 5), readU32(header, 9))
    return next
  }

  #beginData(length: number, id: number, dataLength: number): void {
    const payload = length - (dataHeaderBytes - 4)
    if (dataLength > payload) {
      throw new SftpProtocolError(`DATA of ${dataLength} bytes in a packet of ${length}`, {
        messageName: 'DATA',
        field: 'data',
        offset: 5,
      })
    }
    this.#dataMissing = dataLength
    this.#skip = payload - dataLength
    this.#sink.dataBegin(id, dataLength)
    if (dataLength === 0) this.#sink.dataEnd()
    else this.#inData = true
  }

  #takeData(view: Uint8Array, at: number): number {
    const next = Math.min(view.length, at + this.#dataMissing)
    this.#dataMissing -= next - at
    this.#sink.dataPart(view.subarray(at, next))
    if (this.#dataMissing === 0) {
      this.#inData = false
      this.#sink.dataEnd()
    }
    return next
  }

  #beginPacket(view: Uint8Array, at: number, length: number): number {
    const start = at + 4
    const end = start + length
    if (end <= view.length) {
      this.#dispatch(view.subarray(start, end))
      return end
    }
    this.#reserveBody(length)
    const part = view.subarray(start)
    this.#body.set(part)
    this.#bodyLength = part.length
    this.#bodyMissing = length - part.length
    return view.length
  }

  #takeBody(view: Uint8Array, at: number): number {
    const next = Math.min(view.length, at + this.#bodyMissing)
    this.#body.set(view.subarray(at, next), this.#bodyLength)
    this.#bodyLength += next - at
    this.#bodyMissing -= next - at
    if (this.#bodyMissing === 0) this.#dispatch(this.#body.subarray(0, this.#bodyLength))
    return next
  }

  #reserveBody(length: number): void {
    if (this.#body.length >= length) return
    this.#body = new Uint8Array(Math.min(maxMessageBytes, Math.max(length, 2 * this.#body.length)))
  }

  #dispatch(packet: Uint8Array): void {
    this.#sink.reply(packet[0]!, readU32(packet, 1), packet)
  }
}

/** Checked before anything is allocated or waited for. */
function checkLength(length: number, type: number): number {
  const least = type === packetType.data ? dataHeaderBytes - 4 : minMessageBytes
  if (length < least || length > maxMessageBytes) {
    throw new SftpProtocolError(
      `${packetTypeName(type)} packet of ${length} bytes, expected ${least} to ${maxMessageBytes}`,
    )
  }
  return length
}
