// What a device on a random-access file is told: by its user, and by whoever opened the file.

import type { FlushPolicy } from './layers/flush-barrier.ts'
import type { ReadAheadOptions, ReadAheadStats } from './layers/read-ahead.ts'
import type { ZeroCopier } from './layers/zeroing.ts'
import type { FileKind, RandomAccessFile } from './random-access-file.ts'

/** What the user of a device can choose. */
export interface DeviceBehaviour {
  /**
   * Where the storage cannot sync: 'strict' (default) refuses to open for writing, 'unsafe' lets flush succeed after one
   * warning; data may be lost on a crash.
   */
  flushPolicy?: FlushPolicy
  /** A file that became shorter than the device: 'error' (default, EIO) or 'zeros'. */
  onShrink?: 'error' | 'zeros'
  /** Writes past the end make the device grow. Default false: EINVAL. */
  grow?: boolean
  /** Read-ahead of sequential streams; false: none. */
  readAhead?: ReadAheadOptions | false
  /** Bytes of calls in flight beyond which further calls wait, in order. Default 32 MiB. */
  maxInFlightBytes?: number
  /** Is told, once each, of what the user should know. Default: nobody. */
  onWarning?: (message: string) => void
}

export interface FileDeviceOptions extends DeviceBehaviour {
  /** The image, opened once or several times. The device closes them. */
  files: readonly [RandomAccessFile, ...RandomAccessFile[]]
  /** Bytes. */
  size: number
  kind: FileKind
  readOnly: boolean
  /** The file was made by this opening and nothing was ever written to it. */
  fresh?: boolean
  /** Its first bytes, where they were read by this opening; the device's own from now on. */
  head?: Uint8Array
  preferredBlockSize?: number
  /** Names the storage in warnings. */
  storageName?: string
  /** Says what the storage lacks when it cannot sync. */
  missingSync?: string
  zeroCopier?: ZeroCopier
  /**
   * Whether two handles are of the same file, though opened by path at different times. Must not say yes wrongly, and may
   * say no where other writes are under way. Without it no handle is added later. Default: none.
   */
  isSameFile?: (first: RandomAccessFile, other: RandomAccessFile) => Promise<boolean>
  /** Is called once, before the first write is sent. */
  onFirstWrite?: () => void
  /** Is called last, after all handles are closed. */
  release?: () => Promise<void>
}

/** Counters since open. */
export interface DeviceStats {
  /** Bytes of calls admitted and not finished. */
  readonly bytesInFlight: number
  /** Times a write had to be continued or sent again. */
  readonly writeRetries: number
  readonly readAhead: Readonly<ReadAheadStats>
}
