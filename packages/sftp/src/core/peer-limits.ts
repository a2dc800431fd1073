// How much one READ or WRITE may carry, from the reply of limits@openssh.com (OpenSSH PROTOCOL, "limits@openssh.com").
// Pure. A bogus reply never makes requests useless: every size ends between 1 KiB and 255 KiB.

import {
  defaultPieceBytes,
  maxMessageBytes,
  maxPieceBytes,
  minPieceBytes,
  writeOverheadBytes,
} from '../limits.ts'

export interface SftpLimits {
  /** Most bytes that one READ asks for. */
  readonly maxReadBytes: number
  /** Most bytes that one WRITE carries. */
  readonly maxWriteBytes: number
  /** Largest packet that the server takes, in bytes. */
  readonly maxPacketBytes: number
  /** Files and directories that can be open at once; undefined where the server does not tell. */
  readonly maxOpenHandles: number | undefined
}

/** What is used until the server told its limits, or where it does not. */
export const defaultLimits: SftpLimits = {
  maxReadBytes: defaultPieceBytes,
  maxWriteBytes: defaultPieceBytes,
  maxPacketBytes: defaultPieceBytes + writeOverheadBytes,
  maxOpenHandles: undefined,
}

/** `value` of the server as a number from `least` to `most`; 0 means "not told". */
function clamp(value: bigint, least: number, most: number, untold: number): number {
  if (value === 0n) return untold
  if (value > BigInt(most)) return most
  return Math.max(least, Number(value))
}

export function limitsFromReply(reply: {
  readonly maxPacketLength: bigint
  readonly maxReadLength: bigint
  readonly maxWriteLength: bigint
  readonly maxOpenHandles: bigint
}): SftpLimits {
  const { maxPacketLength, maxReadLength, maxWriteLength, maxOpenHandles } = reply
  const packet = clamp(maxPacketLength, minPieceBytes + writeOverheadBytes, maxMessageBytes, maxMessageBytes)
  const room = Math.min(maxPieceBytes, packet - writeOverheadBytes)
  return {
    maxReadBytes: clamp(maxReadLength, minPieceBytes, room, Math.min(room, defaultPieceBytes)),
    maxWriteBytes: clamp(maxWriteLength, minPieceBytes, room, Math.min(room, defaultPieceBytes)),
    maxPacketBytes: packet,
    maxOpenHandles: maxOpenHandles === 0n ? undefined : clamp(maxOpenHandles, 1, Number.MAX_SAFE_INTEGER, 1),
  }
}
