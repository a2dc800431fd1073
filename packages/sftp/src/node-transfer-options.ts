// What a copy of one file is told and tells.

import type { TransferOptions } from './transfer.ts'
import type { LaneOptions } from './transfer-lanes.ts'

export interface FileTransferOptions extends TransferOptions, LaneOptions {
  /** Go on behind what an earlier, interrupted try left in '.part', and leave it there when this one is interrupted. */
  resume?: boolean
  /** Give the copy the mode (without setuid, setgid and sticky) and times of the original. */
  preserve?: boolean
  /** fsync the copy before it gets its name; ENOTSUP where a server cannot. */
  sync?: boolean
  /** Let the mode's setuid, setgid and sticky bits pass with `preserve`. */
  allowSpecialModes?: boolean
}

export interface FileTransferResult {
  /** Size of the whole file. */
  readonly bytes: number
  /** Bytes of an earlier try that were kept. */
  readonly resumedFrom: number
}

/** A copy lies beside its place under this ending until it is whole. */
export const partSuffix = '.part'
