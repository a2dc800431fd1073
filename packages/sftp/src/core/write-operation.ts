// One write of the caller's buffer to a range of a file, as any number of WRITEs (draft-ietf-secsh-filexfer-02 s6.4).
// The first WRITE that fails decides: no more are started, and the operation settles when those in flight are answered,
// so that nothing of it can reach the file after its promise settled. Only a cancelled or timed-out operation settles
// earlier.

import type { SftpSubject } from '../errors.ts'
import { SftpProtocolError, SftpStatusError } from '../errors.ts'
import { packetType } from '../messages/numbers.ts'
import { statusCode } from '../messages/status.ts'
import type { Pending } from './pending.ts'
import { statusError } from './status.ts'
import { type FlightWindow, type Piece, WritePlan } from './transfer-plan.ts'

/** One WRITE on its way. */
export class WriteRequest implements Pending, Piece {
  readonly #operation: WriteOperation
  readonly start: number
  readonly length: number
  /** Whether its last byte was given to the channel: no answer can be honest before. */
  sent = false
  /** Whether an answer came, as opposed to none being waited for any more. */
  answered = false
  /** When it was begun. */
  sentAt = 0

  constructor(operation: WriteOperation, start: number, length: number) {
    this.#operation = operation
    this.start = start
    this.length = length
  }

  get operation(): string {
    return 'WRITE'
  }

  get expects(): number {
    return packetType.status
  }

  status(code: number, packet: Uint8Array): void {
    if (!this.sent)
      throw new SftpProtocolError('STATUS for a WRITE that was not sent in full', {
        messageName: 'STATUS',
        field: 'id',
      })
    this.#operation.statusCame(this, code, packet)
    this.answered = true
  }

  reply(): void {
    throw new SftpProtocolError('a WRITE is answered by STATUS alone')
  }

  fail(error: Error): void {
    this.#operation.requestFailed(error)
  }

  release(): void {
    this.#operation.released(this)
  }

  /** The request was given to the channel in full. */
  markSent(): void {
    this.sent = true
    this.#operation.requestSent()
  }
}

export interface WriteEvents {
  /** Every byte was given to the channel, or the operation ended: the buffer is the caller's again. Called once. */
  sent(): void
  /** Called once, after `sent`. `confirmedBytes` from the start were acknowledged without a gap. */
  settled(error: Error | undefined, confirmedBytes: number): void
  /** Called once, after `settled`: no WRITE of this operation is in flight any more, or known to be. */
  quiet(): void
}

export class WriteOperation {
  readonly handle: Uint8Array
  readonly offset: number
  readonly window: FlightWindow
  readonly from: Uint8Array
  readonly #subject: SftpSubject
  readonly #plan: WritePlan<WriteRequest>
  readonly #events: WriteEvents
  /** One WRITE at a time: for files opened to append, where the server chooses the offset. */
  readonly #serial: boolean
  readonly #again: (operation: WriteOperation) => void
  #inFlight = 0
  #unsent = 0
  #error: Error | undefined
  #sent = false
  #over = false

  /** `again` is called when the operation may send more after it could not. */
  constructor(
    target: {
      handle: Uint8Array
      subject: SftpSubject
      pieceBytes: () => number
      window: FlightWindow
      serial: boolean
    },
    offset: number,
    from: Uint8Array,
    events: WriteEvents,
    again: (operation: WriteOperation) => void,
  ) {
    this.handle = target.handle
    this.#subject = target.subject
    this.window = target.window
    this.#serial = target.serial
    this.offset = offset
    this.from = from
    this.#events = events
    this.#again = again
    this.#plan = new WritePlan(
      offset,
      from.length,
      target.pieceBytes,
      (start, length) => new WriteRequest(this, start, length),
    )
  }

  /** Whether another WRITE can be started now. */
  get hasMore(): boolean {
    if (this.#over || this.#error !== undefined || !this.#plan.hasMore) return false
    return !this.#serial || this.#inFlight === 0
  }

  get nextLength(): number {
    return this.#plan.nextLength
  }

  get requestsInFlight(): number {
    return this.#inFlight
  }

  /** Whether it settled. */
  get over(): boolean {
    return this.#over
  }

  /** The next WRITE to send. Only while `hasMore`. */
  take(): WriteRequest {
    const request = this.#plan.take()
    this.#inFlight++
    this.#unsent++
    request.sentAt = this.window.sent(request.length)
    return request
  }

  /** The bytes of a request, a view of the caller's buffer. */
  payload(request: WriteRequest): Uint8Array {
    return this.from.subarray(request.start, request.start + request.length)
  }

  requestSent(): void {
    this.#unsent--
    if (this.#unsent === 0 && (!this.#plan.hasMore || this.#error !== undefined)) this.#announceSent()
  }

  statusCame(request: WriteRequest, code: number, packet: Uint8Array): void {
    if (code === statusCode.ok) this.#plan.acknowledged(request)
    else this.#error ??= statusError(packet, 'WRITE', this.#subject)
  }

  /** A request is in flight no more. */
  released(request: WriteRequest): void {
    this.window.answered(request.length, request.sentAt)
    this.#inFlight--
    if (this.#over) {
      if (this.#inFlight === 0) this.#events.quiet()
    } else if (request.answered) {
      if (this.#inFlight === 0 && (this.#error !== undefined || !this.#plan.hasMore))
        this.#settle(this.#error)
      else if (this.hasMore) this.#again(this)
    }
  }

  /** A request of this operation will not be answered. */
  requestFailed(error: Error): void {
    this.fail(error)
  }

  /** Ends the operation at once; WRITEs in flight may or may not reach the file. */
  fail(error: Error): void {
    if (!this.#over) this.#settle(this.#error ?? error)
  }

  #settle(error: Error | undefined): void {
    this.#over = true
    this.#announceSent()
    const { confirmedBytes } = this.#plan
    if (error instanceof SftpStatusError) error.confirmedBytes = confirmedBytes
    this.#events.settled(error, confirmedBytes)
    if (this.#inFlight === 0) this.#events.quiet()
  }

  #announceSent(): void {
    if (this.#sent) return
    this.#sent = true
    this.#events.sent()
  }
}
