// One read of a range of a file into the caller's buffer, as any number of READs (draft-ietf-secsh-filexfer-02 s6.4).
// The buffer is lent until `settled` is called; from then on no answer touches it, whatever still comes.

import { SftpProtocolError, type SftpSubject } from '../errors.ts'
import { packetType } from '../messages/numbers.ts'
import { statusCode } from '../messages/status.ts'
import type { Pending } from './pending.ts'
import { statusError, unexpectedOk } from './status.ts'
import { type FlightWindow, type PieceSize, type ReadPiece, ReadPlan } from './transfer-plan.ts'

/** One READ on its way. */
export class ReadRequest implements Pending, ReadPiece {
  readonly #operation: ReadOperation
  start: number
  length: number
  clippedBytes = 0
  emptied = false
  /** Bytes of the current answer that came. */
  received = 0
  /** When it left. */
  sentAt = 0

  constructor(operation: ReadOperation, start: number, length: number) {
    this.#operation = operation
    this.start = start
    this.length = length
  }

  get operation(): string {
    return 'READ'
  }

  get expects(): number {
    return packetType.data
  }

  /** The next bytes of the DATA that answers this request. */
  dataPart(view: Uint8Array): void {
    this.#operation.put(this.start + this.received, view)
    this.received += view.length
  }

  /** The DATA is complete. */
  dataEnd(): void {
    const { received } = this
    this.received = 0
    this.#operation.dataCame(this, received)
  }

  status(code: number, packet: Uint8Array): void {
    this.#operation.statusCame(this, code, packet)
  }

  reply(): void {
    // DATA never comes this way: ReplyParser hands it over in parts.
    throw new SftpProtocolError('DATA out of place', { messageName: 'DATA' })
  }

  fail(error: Error): void {
    this.#operation.requestFailed(error)
  }

  release(): void {
    this.#operation.window.answered(this.length, this.sentAt)
  }
}

export class ReadOperation {
  readonly handle: Uint8Array
  readonly offset: number
  readonly window: FlightWindow
  readonly #subject: SftpSubject
  readonly #plan: ReadPlan<ReadRequest>
  readonly #settled: (error: Error | undefined, bytes: number) => void
  readonly #again: (operation: ReadOperation) => void
  #into: Uint8Array | undefined
  #inFlight = 0

  /**
   * `settled` is called once: with an error, or with the bytes read, fewer than `into.length` only at the end of the
   * file. `again` is called when the operation has more to ask for after it had nothing.
   */
  constructor(
    target: { handle: Uint8Array; subject: SftpSubject; pieceSize: PieceSize; window: FlightWindow },
    offset: number,
    into: Uint8Array,
    settled: (error: Error | undefined, bytes: number) => void,
    again: (operation: ReadOperation) => void,
  ) {
    this.handle = target.handle
    this.#subject = target.subject
    this.window = target.window
    this.offset = offset
    this.#into = into
    this.#settled = settled
    this.#again = again
    this.#plan = new ReadPlan(
      offset,
      into.length,
      target.pieceSize,
      (start, length) => new ReadRequest(this, start, length),
    )
  }

  get hasMore(): boolean {
    return this.#into !== undefined && this.#plan.hasMore
  }

  get nextLength(): number {
    return this.#plan.nextLength
  }

  get requestsInFlight(): number {
    return this.#inFlight
  }

  /** The next READ to send; it counts as sent. Only while `hasMore`. */
  take(): ReadRequest {
    const request = this.#plan.take()
    this.#inFlight++
    request.sentAt = this.window.sent(request.length)
    return request
  }

  put(at: number, view: Uint8Array): void {
    this.#into?.set(view, at)
  }

  dataCame(request: ReadRequest, received: number): void {
    if (this.#into === undefined) return
    this.#inFlight--
    switch (this.#plan.data(request, received)) {
      case 'stuck': {
        const error = new SftpProtocolError('a second DATA without any byte', {
          messageName: 'DATA',
          field: 'data',
          offset: 5,
        })
        this.#settle(error)
        throw error
      }
      case 'again':
        this.#again(this)
        return
      case 'done':
        this.#settleWhenDone()
    }
  }

  statusCame(request: ReadRequest, code: number, packet: Uint8Array): void {
    if (code === statusCode.ok) throw unexpectedOk('READ')
    const error = code === statusCode.eof ? undefined : statusError(packet, 'READ', this.#subject)
    if (this.#into === undefined) return
    this.#inFlight--
    if (error !== undefined) {
      this.#settle(error)
      return
    }
    this.#plan.eof(request)
    this.#settleWhenDone()
  }

  /** A request of this operation will not be answered. */
  requestFailed(error: Error): void {
    this.fail(error)
  }

  /** Ends the operation at once; READs in flight are answered into nowhere. */
  fail(error: Error): void {
    if (this.#into !== undefined) this.#settle(error)
  }

  #settleWhenDone(): void {
    if (this.#inFlight === 0 && !this.#plan.hasMore) this.#settle(undefined)
  }

  #settle(error: Error | undefined): void {
    this.#into = undefined
    this.#settled(error, this.#plan.length)
  }
}
