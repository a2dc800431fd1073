// The handshake of the NBD protocol ("Fixed newstyle negotiation", "Option types"), server side, without I/O.
// Bytes go in by receive(), bytes come out by takeOutput(). What only the server's owner knows (which exports there are,
// what a device's size is) parks the machine as `question`; nothing more is read until it is answered. No device is
// known here: it is opened by whoever answers, after the client chose. Violations are ProtocolErrors: hang up.
// Not here: TLS (NBD_OPT_STARTTLS is answered ERR_UNSUP), oldstyle negotiation, experimental options.

import { ProtocolError } from '@sshblock/transport/errors'
import { readU32, utf8Bytes, WireError, Writer, writeU32 } from '@sshblock/transport/wire'
import type { ExportDescription } from './export.ts'
import { maxOptionBytes, maxOptions } from './limits.ts'
import { decodeExportName, decodeInfoRequest, decodeMetaContextRequest } from './option-data.ts'
import {
  baseAllocation,
  clientFlag,
  handshakeFlag,
  infoType,
  magic,
  option,
  optionReply,
} from './protocol.ts'
import { shownText } from './shown-text.ts'

/** What the machine waits for. */
export type NegotiationQuestion =
  /** Answered by answerList(). */
  | { readonly kind: 'list' }
  /** Answered by answerExport() or refuse(): describe the export; `enter` when the client moves on to the transmission phase. */
  | { readonly kind: 'describe'; readonly name: string; readonly enter: boolean }
  /** Answered by answerExists() or refuse(). */
  | { readonly kind: 'exists'; readonly name: string }

/** How the handshake ended. */
export type NegotiationOutcome =
  | {
      readonly kind: 'transmission'
      readonly structuredReplies: boolean
      /** Whether base:allocation was selected for the chosen export. */
      readonly blockStatus: boolean
    }
  /** The client sent NBD_OPT_ABORT. */
  | { readonly kind: 'aborted' }
  /** The client's NBD_OPT_EXPORT_NAME cannot be met; that option has no error reply. */
  | { readonly kind: 'refused' }

export type RefusalCode = (typeof optionReply)['errUnknown' | 'errPolicy' | 'errShutdown']

const optionHeaderBytes = 16
const phase = 'NBD negotiation'

export class Negotiation {
  /** Set: the machine waits for its answer. */
  question: NegotiationQuestion | undefined
  /** Set: the handshake is over; bytes not consumed belong to what follows. */
  outcome: NegotiationOutcome | undefined
  /** NBD_OPT_STRUCTURED_REPLY was accepted. */
  structuredReplies = false

  #state: 'client flags' | 'option header' | 'option data' = 'client flags'
  #clientFlags = 0
  readonly #output = new Writer(512)
  #input = new Uint8Array(512)
  #filled = 0
  #needed = 4
  #option = 0
  #options = 0
  #infoTypes: readonly number[] = []
  #metaQueries: readonly string[] = []
  /** Name of the export for which base:allocation is selected ("the same export name that was ultimately selected"). */
  #blockStatusFor: string | undefined
  #shuttingDown = false

  constructor() {
    const { init, option: ihaveopt } = magic
    this.#output.u32(init[0]).u32(init[1]).u32(ihaveopt[0]).u32(ihaveopt[1])
    this.#u16(handshakeFlag.fixedNewstyle | handshakeFlag.noZeroes)
  }

  /** Bytes waiting to be sent. */
  get outputBytes(): number {
    return this.#output.length
  }

  /** What is to be sent, as a new array; undefined where there is nothing. */
  takeOutput(): Uint8Array | undefined {
    if (this.#output.length === 0) return undefined
    const bytes = this.#output.copy()
    this.#output.length = 0
    return bytes
  }

  /** Options that follow are answered NBD_REP_ERR_SHUTDOWN (all but NBD_OPT_ABORT). */
  shutDown(): void {
    this.#shuttingDown = true
  }

  /**
   * Consumes `bytes` from `at` on, up to the next question, the outcome or the end. Nothing of `bytes` is kept.
   * @returns the position of the first byte not consumed
   * @throws ProtocolError where the client broke the protocol: the connection must be dropped.
   */
  receive(bytes: Uint8Array, at: number): number {
    let next = at
    while (this.question === undefined && this.outcome === undefined) {
      const count = Math.min(this.#needed - this.#filled, bytes.length - next)
      if (count > 0) {
        this.#input.set(bytes.subarray(next, next + count), this.#filled)
        this.#filled += count
        next += count
      }
      if (this.#filled < this.#needed) break
      this.#advance()
    }
    return next
  }

  #advance(): void {
    switch (this.#state) {
      case 'client flags':
        this.#acceptClientFlags(readU32(this.#input, 0))
        this.#expectOption()
        break
      case 'option header':
        this.#acceptOptionHeader()
        break
      case 'option data': {
        const data = this.#input.subarray(0, this.#needed)
        this.#expectOption()
        this.#acceptOption(data)
        break
      }
    }
  }

  #expectOption(): void {
    this.#state = 'option header'
    this.#filled = 0
    this.#needed = optionHeaderBytes
  }

  /** "the server MUST drop the TCP connection if the client sets an unknown flag". */
  #acceptClientFlags(flags: number): void {
    if ((flags & ~(clientFlag.fixedNewstyle | clientFlag.noZeroes)) !== 0) {
      throw this.#violation(`unknown client flags 0x${flags.toString(16)}`)
    }
    this.#clientFlags = flags
  }

  #acceptOptionHeader(): void {
    const input = this.#input
    if (readU32(input, 0) !== magic.option[0] || readU32(input, 4) !== magic.option[1]) {
      throw this.#violation('an option that does not begin with IHAVEOPT')
    }
    this.#option = readU32(input, 8)
    const length = readU32(input, 12)
    if (length > maxOptionBytes)
      throw this.#violation(`option ${this.#option} with ${length} bytes, at most ${maxOptionBytes}`)
    if (++this.#options > maxOptions) throw this.#violation(`more than ${maxOptions} options`)
    // A client that did not say it knows fixed newstyle cannot read option replies.
    if ((this.#clientFlags & clientFlag.fixedNewstyle) === 0 && this.#option !== option.exportName) {
      throw this.#violation(`option ${this.#option} from a client without NBD_FLAG_C_FIXED_NEWSTYLE`)
    }
    this.#state = 'option data'
    this.#filled = 0
    this.#needed = length
    if (length > this.#input.length) this.#input = new Uint8Array(length)
  }

  #acceptOption(data: Uint8Array): void {
    try {
      this.#dispatch(data)
    } catch (error) {
      if (!(error instanceof WireError)) throw error
      if (this.#option === option.exportName) this.outcome = { kind: 'refused' }
      else this.#replyError(optionReply.errInvalid, error.reason)
    }
  }

  #dispatch(data: Uint8Array): void {
    if (this.#option === option.abort) {
      // "a server SHOULD ignore any data sent by the client rather than rejecting the request".
      this.#reply(optionReply.ack)
      this.outcome = { kind: 'aborted' }
      return
    }
    if (this.#shuttingDown) {
      if (this.#option === option.exportName) this.outcome = { kind: 'refused' }
      else this.#replyError(optionReply.errShutdown, 'the server is shutting down')
      return
    }
    switch (this.#option) {
      case option.exportName:
        this.question = { kind: 'describe', name: decodeExportName(data), enter: true }
        return
      case option.list:
        expectNoData(data)
        this.question = { kind: 'list' }
        return
      case option.starttls:
        // "NOTLS mode": ERR_UNSUP. Nothing was negotiated by it, so what was negotiated before stays.
        expectNoData(data)
        this.#replyError(optionReply.errUnsup, 'no TLS here: the socket is local')
        return
      case option.info:
      case option.go: {
        const request = decodeInfoRequest(data)
        this.#infoTypes = request.types
        this.question = { kind: 'describe', name: request.name, enter: this.#option === option.go }
        return
      }
      case option.structuredReply:
        expectNoData(data)
        this.structuredReplies = true
        this.#reply(optionReply.ack)
        return
      case option.listMetaContext:
      case option.setMetaContext: {
        // "replaces all previously-set metadata contexts (including when this command fails)".
        if (this.#option === option.setMetaContext) this.#blockStatusFor = undefined
        if (!this.structuredReplies) throw new WireError('metadata contexts need structured replies first', 0)
        const request = decodeMetaContextRequest(data)
        this.#metaQueries = request.queries
        this.question = { kind: 'exists', name: request.name }
        return
      }
      default:
        this.#replyError(optionReply.errUnsup, `option ${this.#option} is not supported`)
    }
  }

  /** The exports, for NBD_OPT_LIST. */
  answerList(exports: Iterable<{ readonly name: string; readonly description?: string | undefined }>): void {
    this.#answered('list')
    for (const { name, description } of exports) {
      this.#reply(optionReply.server, (out) => {
        out.text(name)
        if (description !== undefined) out.raw(utf8Bytes(description))
      })
    }
    this.#reply(optionReply.ack)
  }

  /** The export asked for by NBD_OPT_INFO, NBD_OPT_GO or NBD_OPT_EXPORT_NAME. */
  answerExport(found: ExportDescription): void {
    const { enter } = this.#answered('describe')
    if (this.#option === option.exportName) {
      this.#output.u64Number(found.sizeBytes)
      this.#u16(found.transmissionFlags)
      if ((this.#clientFlags & clientFlag.noZeroes) === 0) this.#output.raw(new Uint8Array(124))
    } else {
      this.#reply(optionReply.info, (out) => {
        this.#u16(infoType.export)
        out.u64Number(found.sizeBytes)
        this.#u16(found.transmissionFlags)
      })
      if (this.#infoTypes.includes(infoType.name)) {
        this.#reply(optionReply.info, (out) => {
          this.#u16(infoType.name)
          out.raw(utf8Bytes(found.name))
        })
      }
      if (this.#infoTypes.includes(infoType.description) && found.description !== undefined) {
        const description = found.description
        this.#reply(optionReply.info, (out) => {
          this.#u16(infoType.description)
          out.raw(utf8Bytes(description))
        })
      }
      // Sent unasked as well: a client that does not know it ignores it, one that does keeps to it.
      this.#reply(optionReply.info, (out) => {
        this.#u16(infoType.blockSize)
        out.u32(found.minimumBlockBytes).u32(found.preferredBlockBytes).u32(found.maximumBlockBytes)
      })
      this.#reply(optionReply.ack)
    }
    if (enter) {
      this.outcome = {
        kind: 'transmission',
        structuredReplies: this.structuredReplies,
        blockStatus: this.#blockStatusFor === found.name,
      }
    }
  }

  /**
   * The export exists that NBD_OPT_LIST_META_CONTEXT or NBD_OPT_SET_META_CONTEXT names.
   * @param name its canonical name
   */
  answerExists(name: string): void {
    this.#answered('exists')
    const setting = this.#option === option.setMetaContext
    // "The base: metadata namespace": the bare namespace is a wildcard for LIST and nothing for SET; unknown leaves
    // and unknown namespaces are ignored. Zero queries: all for LIST, none for SET.
    const matches = this.#metaQueries.some(
      (query) => query === baseAllocation.name || (!setting && query === 'base:'),
    )
    if (matches || (!setting && this.#metaQueries.length === 0)) {
      this.#reply(optionReply.metaContext, (out) => {
        // "The metadata context ID in these replies is reserved and SHOULD be set to zero" for LIST.
        out.u32(setting ? baseAllocation.id : 0).raw(utf8Bytes(baseAllocation.name))
      })
      if (setting) this.#blockStatusFor = name
    }
    this.#reply(optionReply.ack)
  }

  /** Answers a question with an error; NBD_OPT_EXPORT_NAME has none, so the handshake ends there. */
  refuse(code: RefusalCode, message: string): void {
    if (this.question === undefined) throw new Error('no question is open')
    this.question = undefined
    if (this.#option === option.exportName) this.outcome = { kind: 'refused' }
    else this.#replyError(code, message)
  }

  #answered<K extends NegotiationQuestion['kind']>(kind: K): Extract<NegotiationQuestion, { kind: K }> {
    const question = this.question
    if (question?.kind !== kind) throw new Error(`no question about ${kind} is open`)
    this.question = undefined
    return question as Extract<NegotiationQuestion, { kind: K }>
  }

  /** One option reply: magic, option, type, length, data. */
  #reply(type: number, writeData?: (out: Writer) => void): void {
    const out = this.#output
    out.u32(magic.optionReply[0]).u32(magic.optionReply[1]).u32(this.#option).u32(type)
    const lengthAt = out.reserve(4)
    const start = out.length
    writeData?.(out)
    writeU32(out.buffer, lengthAt, out.length - start)
  }

  #replyError(type: number, message: string): void {
    this.#reply(type, (out) => out.raw(shownText(message)))
  }

  #u16(value: number): void {
    this.#output.u8(value >>> 8).u8(value)
  }

  #violation(message: string): ProtocolError {
    return new ProtocolError(message, { code: 'ERR_NBD_PROTOCOL', phase })
  }
}

/** "The client MUST NOT send any additional data with the option". */
function expectNoData(data: Uint8Array): void {
  if (data.length !== 0) throw new WireError(`${data.length} bytes of data where there are none`, 0)
}
