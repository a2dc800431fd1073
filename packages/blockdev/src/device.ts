/** How a single call may be steered. */
export interface CallOptions {
  /** Cancels the call. A cancelled write's range is undefined until written again. */
  signal?: AbortSignal | undefined
}

export interface WriteOptions extends CallOptions {
  /** Force unit access: the range is on stable storage when the promise resolves. */
  fua?: boolean | undefined
}

/** Whether a stretch of the device is known to be backed by data; for NBD's base:allocation. */
export interface Extent {
  offset: number
  length: number
  /** True: reads as zeros for certain. */
  zero: boolean
}

/**
 * A disk: bytes at offsets, a size, and a barrier. Any number of calls may be in flight at once; overlapping ones are
 * ordered as they were called when one of them is a write.
 *
 * Offsets and lengths are bytes, non-negative safe integers. Every failure is a BlockDeviceError with a POSIX code, the
 * offset and the length of the call, and the cause.
 */
export interface BlockDevice {
  /** Bytes; known at open, no network call to ask. */
  readonly size: number
  /** Smallest unit that the device prefers, in bytes. Calls of any alignment work. */
  readonly blockSize: number
  /** Size of accesses that are fastest, in bytes. */
  readonly preferredBlockSize: number
  readonly readOnly: boolean
  /** True only where every byte not yet written is known to read as zero. */
  readonly hasZeroInit: boolean
  /** Whether flush() really reaches stable storage ('volatile': the server cannot, and the user accepted it). */
  readonly durability: 'durable' | 'volatile'

  /**
   * Fills `into` with the bytes at `offset`. `into` is lent until the promise settles. A read may reach into the rest of the
   * last block, which reads as zeros.
   * @throws BlockDeviceError EINVAL outside the device, EIO where the storage failed, or where the file became shorter.
   */
  read(offset: number, into: Uint8Array, options?: CallOptions): Promise<void>
  /**
   * Writes `from` at `offset`; resolves when the storage acknowledged every byte (not yet durable: see flush).
   * `from` is lent until the promise settles.
   * @throws BlockDeviceError EROFS, EINVAL, ENOSPC, EIO.
   */
  write(offset: number, from: Uint8Array, options?: WriteOptions): Promise<void>
  /** Barrier: every write that completed before this call is on stable storage when it resolves. */
  flush(options?: CallOptions): Promise<void>
  /** Makes the range read as zeros. */
  writeZeroes(offset: number, length: number, options?: WriteOptions): Promise<void>
  /** Tells that a range is no longer needed; ENOTSUP where the device cannot. Never claims zeros. */
  discard(offset: number, length: number, options?: CallOptions): Promise<void>
  /** Changes the size. Shrinking loses data and must be asked for. */
  resize(size: number, options?: CallOptions & { shrink?: boolean | undefined }): Promise<void>
  /** What is known about holes in the range, in order, covering it; where nothing is known, one extent of data. */
  extents(offset: number, length: number): Extent[]
  /** Waits for calls in flight, flushes when written, and lets go. Idempotent. Reports the first error of these. */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}
