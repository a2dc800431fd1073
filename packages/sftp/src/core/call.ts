// A request with one answer: everything but READ and WRITE. Bridges the core to one promise of the caller, once.

import type { Writer } from '@sshblock/transport/wire'
import type { SftpSubject } from '../errors.ts'
import { packetType } from '../messages/numbers.ts'
import { statusCode } from '../messages/status.ts'
import type { Pending } from './pending.ts'
import { statusError, unexpectedOk } from './status.ts'

export interface Request<T> {
  /** 'OPEN', 'fsync@openssh.com': for errors. */
  readonly operation: string
  readonly subject: SftpSubject
  /** Packet type of a success; STATUS where OK is the answer. */
  readonly expects: number
  /** Writes the packet from its type byte on. RangeError for values that do not fit. */
  encode(writer: Writer, id: number): void
  /** The value of the packet of type `expects`; nothing of the view may be kept. Throws WireError or SftpProtocolError. */
  decode(packet: Uint8Array): T
  /** The value of a STATUS that is no failure here, such as EOF of READDIR; undefined: it is one. */
  statusValue?(code: number): T | undefined
  /** A success that comes after the caller went away; to let go of what the server opened. */
  unclaimed?(value: T): void
}

export class Call<T> implements Pending {
  readonly #request: Request<T>
  readonly #resolve: (value: T) => void
  readonly #reject: (error: Error) => void
  #settled = false

  constructor(request: Request<T>, resolve: (value: T) => void, reject: (error: Error) => void) {
    this.#request = request
    this.#resolve = resolve
    this.#reject = reject
  }

  get operation(): string {
    return this.#request.operation
  }

  get expects(): number {
    return this.#request.expects
  }

  status(code: number, packet: Uint8Array): void {
    const { operation, subject, expects } = this.#request
    const value = this.#request.statusValue?.(code)
    if (value !== undefined) this.#succeed(value)
    else if (code !== statusCode.ok) this.fail(statusError(packet, operation, subject))
    else if (expects === packetType.status) this.#succeed(this.#request.decode(packet))
    else throw unexpectedOk(operation)
  }

  reply(packet: Uint8Array): void {
    this.#succeed(this.#request.decode(packet))
  }

  fail(error: Error): void {
    if (this.#settled) return
    this.#settled = true
    this.#reject(error)
  }

  release(): void {}

  #succeed(value: T): void {
    if (this.#settled) {
      this.#request.unclaimed?.(value)
      return
    }
    this.#settled = true
    this.#resolve(value)
  }
}
