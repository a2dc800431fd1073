/**
 * A message that is not what its declaration says: too short, too long, a count beyond the bytes present.
 * Thrown by Reader and codecs only; the phase gate (or the SFTP client) turns it into a ProtocolError that names
 * the connection's phase.
 */
export class WireError extends Error {
  override readonly name = 'WireError'
  /** Name of the message being decoded, where known. */
  messageName: string | undefined
  /** Name of the field being decoded, where known. */
  field: string | undefined
  /** Offset in the message at which decoding stopped. */
  readonly offset: number
  readonly reason: string

  constructor(reason: string, offset: number) {
    super(reason)
    this.reason = reason
    this.offset = offset
  }

  /** Adds where it happened; the innermost names win. */
  within(messageName: string, field?: string): this {
    this.messageName ??= messageName
    this.field ??= field
    this.message = `${this.messageName}${this.field === undefined ? '' : `.${this.field}`} at byte ${this.offset}: ${this.reason}`
    return this
  }
}
