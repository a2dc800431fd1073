import type { Writer } from '../wire/writer.ts'

/** What the authentication and connection layers see of the packet layer. */
export interface PacketSink {
  /** Keys are being exchanged: small messages queue, channel data must wait. */
  readonly blocked: boolean
  /** Bytes encoded and not yet taken by the duplex. */
  readonly pendingBytes: number
  /** Starts a message; the caller writes its payload, then calls `end()`. `room` bytes are made contiguous at once. */
  begin(room?: number): Writer
  end(): void
  /** Leaves the message begun last open for more; only while not blocked. `finish` completes its payload. */
  leaveOpen(finish: () => void): void
  /** Completes a message that was left open. */
  finishOpenPacket(): void
}
