// A block device on a random-access file: the one place where the layers are put together.
//   bounds -> range lock -> read-ahead -> end of file -> pool of handles          (reads)
//   bounds -> range lock -> drop read-ahead -> write, retried -> flush barrier     (writes)
// Owns the size and what is known to be zero. Knows nothing of SFTP or SSH. Buffers of calls are lent to the storage until
// the call's promise settles.

import type { BlockDevice, CallOptions, Extent, WriteOptions } from './device.ts'
import { BlockDeviceError } from './errors.ts'
import type { DeviceStats, FileDeviceOptions } from './file-device-options.ts'
import { abortedError, untilAborted, untilAbortedWhenFree } from './layers/abort.ts'
import { blockSize, checkInside, checkRange, checkSize, roundUpToBlock } from './layers/bounds.ts'
import { FilePool, type PooledFile } from './layers/file-pool.ts'
import { growFile, shrinkFile } from './layers/file-size.ts'
import { FlushBarrier, type FlushPolicy } from './layers/flush-barrier.ts'
import { Quarantine } from './layers/quarantine.ts'
import { type Hold, RangeLock } from './layers/range-lock.ts'
import { ReadAhead } from './layers/read-ahead.ts'
import { callError, writeError } from './layers/storage-error.ts'
import { writeFully } from './layers/write-retry.ts'
import { ZeroFill } from './layers/zero-fill.ts'
import { type Change, ZeroMap } from './layers/zero-map.ts'
import { Zeroing, zeroPiece, zeroPieceBytes } from './layers/zeroing.ts'
import { type FileKind, OutcomeUnknownError, type RandomAccessFile } from './random-access-file.ts'

interface Range {
  offset: number
  length: number
}

const defaultMaxInFlightBytes = 32 * 1024 * 1024
/** What a call costs at least of the bytes in flight: bounds the number of small ones. */
const minCallCost = 8192

/**
 * A block device on a random-access file.
 * @throws BlockDeviceError ENOTSUP from the constructor: writable, the storage cannot sync, and the flush policy is 'strict'.
 */
export class FileDevice implements BlockDevice {
  readonly blockSize = blockSize
  readonly preferredBlockSize: number
  readonly readOnly: boolean
  readonly hasZeroInit: boolean
  readonly durability: 'durable' | 'volatile'
  readonly flushPolicy: FlushPolicy
  readonly kind: FileKind

  readonly #options: FileDeviceOptions
  readonly #pool: FilePool
  readonly #lock: RangeLock
  readonly #readAhead: ReadAhead
  readonly #zeroFill: ZeroFill
  readonly #barrier: FlushBarrier
  readonly #quarantine = new Quarantine()
  readonly #map: ZeroMap
  readonly #zeroing: Zeroing
  #wroteBefore = false
  #writeRetries = 0
  #closing: Promise<void> | undefined

  constructor(options: FileDeviceOptions) {
    checkSize('device', options.size)
    const onWarning = options.onWarning ?? (() => {})
    const storage = options.storageName ?? 'the storage'
    const missing = options.missingSync ?? 'a way to sync a file'
    const canSync = options.files.every((file) => file.canSync)
    this.#options = options
    this.flushPolicy = options.flushPolicy ?? 'strict'
    if (!options.readOnly && !canSync && this.flushPolicy === 'strict') {
      throw new BlockDeviceError(
        'ENOTSUP',
        `${storage} has no ${missing}: a flush could not reach stable storage; open it read-only, or with flushPolicy "unsafe" if data may be lost on a crash`,
      )
    }
    this.kind = options.kind
    this.readOnly = options.readOnly
    this.durability = canSync ? 'durable' : 'volatile'
    this.hasZeroInit = options.fresh === true && options.kind === 'file'
    this.preferredBlockSize = options.preferredBlockSize ?? 128 * 1024
    this.#map = new ZeroMap(options.size, this.hasZeroInit)
    this.#pool = new FilePool(options.files)
    this.#lock = new RangeLock(options.maxInFlightBytes ?? defaultMaxInFlightBytes)
    this.#zeroFill = new ZeroFill({
      pool: this.#pool,
      size: () => this.size,
      onShrink: options.onShrink ?? 'error',
      onWarning,
    })
    this.#readAhead = new ReadAhead(
      {
        fetch: (offset, into, signal) => this.#zeroFill.read(offset, into, signal),
        tryHold: (offset, length, onConflict) => this.#lock.tryHold(offset, length, onConflict),
        end: () => this.size,
        roundTripMs: () => this.#pool.first.roundTripMs,
      },
      options.readAhead === false ? { maxBytes: 0 } : options.readAhead,
    )
    if (options.head !== undefined) this.#readAhead.prime(options.head)
    this.#barrier = new FlushBarrier({
      pool: this.#pool,
      canSync,
      onPretence: () => onWarning(`${storage} has no ${missing}; data may be lost on a crash`),
      onLost: (start, end) => this.#map.inDoubt(start, end),
    })
    this.#zeroing = new Zeroing({
      copier: options.zeroCopier,
      // Writes under way elsewhere may hide the proof; then zeros go over the wire.
      isImage: async (handle) => (await options.isSameFile?.(this.#pool.first, handle)) ?? false,
      send: (offset, from, signal) => this.#send(this.#pool.writer(), offset, from, signal),
      barrier: this.#barrier,
      quarantine: this.#quarantine,
    })
  }

  get size(): number {
    return this.#map.size
  }

  get #hasFixedSize(): boolean {
    return this.kind === 'block-device' || this.kind === 'character-device'
  }

  get stats(): DeviceStats {
    return {
      bytesInFlight: this.#lock.bytesInFlight,
      writeRetries: this.#writeRetries,
      readAhead: { ...this.#readAhead.stats },
    }
  }

  async read(offset: number, into: Uint8Array, options: CallOptions = {}): Promise<void> {
    const { signal } = options
    const length = into.length
    this.#enter('read', signal, { offset, length })
    let hold: Hold | undefined
    try {
      const granted = this.#lock.acquire(offset, length, {
        write: false,
        cost: Math.max(length, minCallCost),
        signal,
      })
      hold = granted instanceof Promise ? await granted : granted
      checkInside('read', offset, length, roundUpToBlock(this.size))
      if (length > 0) await this.#readAhead.read(offset, into, signal)
      signal?.throwIfAborted()
    } catch (error) {
      throw failed('read', error, signal, { offset, length })
    } finally {
      hold?.release()
    }
  }

  async write(offset: number, from: Uint8Array, options: WriteOptions = {}): Promise<void> {
    const { signal } = options
    const length = from.length
    const range = { offset, length }
    this.#enterWrite('write', signal, range)
    try {
      const granted = this.#lock.acquire(offset, length, {
        write: true,
        cost: Math.max(length, minCallCost),
        signal,
      })
      const hold = granted instanceof Promise ? await granted : granted
      if (signal === undefined) {
        await this.#write(hold, offset, from, undefined, undefined)
      } else {
        // Cancelled: the caller waits until its bytes are not needed any more; their range stays taken until the answer.
        let onSent: (() => void) | undefined
        const sent = new Promise<void>((resolve) => {
          onSent = resolve
        })
        await untilAbortedWhenFree(this.#write(hold, offset, from, signal, onSent), sent, signal)
        signal.throwIfAborted()
      }
    } catch (error) {
      throw failed('write', error, signal, range)
    }
    if (options.fua === true) await this.#flush('write with force unit access', signal, range)
  }

  async writeZeroes(offset: number, length: number, options: WriteOptions = {}): Promise<void> {
    const { signal } = options
    const range = { offset, length }
    this.#enterWrite('writeZeroes', signal, range)
    try {
      const cost = Math.max(minCallCost, Math.min(length, zeroPieceBytes))
      const granted = this.#lock.acquire(offset, length, { write: true, cost, signal })
      const hold = granted instanceof Promise ? await granted : granted
      const work = this.#writeZeroes(hold, offset, length, signal)
      work.catch(() => {})
      await untilAborted(work, signal)
      signal?.throwIfAborted()
    } catch (error) {
      throw failed('writeZeroes', error, signal, range)
    }
    if (options.fua === true) await this.#flush('writeZeroes with force unit access', signal, range)
  }

  async flush(options: CallOptions = {}): Promise<void> {
    this.#enter('flush', options.signal)
    if (!this.readOnly) await this.#flush('flush', options.signal)
  }

  async discard(offset: number, length: number, options: CallOptions = {}): Promise<void> {
    this.#enter('discard', options.signal, { offset, length })
    throw new BlockDeviceError('ENOTSUP', 'discard is not supported: SFTP cannot give up a range of a file', {
      offset,
      length,
    })
  }

  async resize(size: number, options: CallOptions & { shrink?: boolean | undefined } = {}): Promise<void> {
    const { signal } = options
    this.#enterWrite('resize', signal)
    checkSize('resize', size)
    let hold: Hold | undefined
    try {
      // Everything: calls before are drained, calls after wait.
      const granted = this.#lock.acquire(0, Number.POSITIVE_INFINITY, { write: true, cost: 0, signal })
      hold = granted instanceof Promise ? await granted : granted
      if (size === this.size) return
      if (this.#hasFixedSize)
        throw new BlockDeviceError(
          'ENOTSUP',
          `resize: the image is a ${this.kind.replace('-', ' ')}, whose size is fixed`,
        )
      if (size < this.size && options.shrink !== true) {
        throw new BlockDeviceError(
          'EINVAL',
          `resize from ${this.size} to ${size} bytes loses data; it must be asked for with shrink: true`,
        )
      }
      this.#quarantine.check('resize', Math.min(size, this.size), Number.POSITIVE_INFINITY)
      await this.#setSize(size)
    } catch (error) {
      throw failed('resize', error, signal)
    } finally {
      hold?.release()
    }
  }

  extents(offset: number, length: number): Extent[] {
    checkRange('extents', offset, length)
    checkInside('extents', offset, length, this.size)
    return this.#map.extents(offset, length)
  }

  /** A forced seek: whatever was fetched ahead is dropped. */
  dropReadAhead(): void {
    this.#readAhead.forceSeek()
  }

  /** Handles in use. */
  get handles(): number {
    return this.#pool.members.length
  }

  /**
   * Gives the device one more handle of the same image, for reads; the device closes it.
   * @returns false where it is of another file, or the device is closed already; then it is the caller's to close.
   */
  async addReader(file: RandomAccessFile): Promise<boolean> {
    if (this.#closing !== undefined || !(await this.#isImage(file)) || this.#closing !== undefined)
      return false
    this.#pool.add(file)
    return true
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #enter(what: string, signal: AbortSignal | undefined, range?: Range): void {
    if (range !== undefined) checkRange(what, range.offset, range.length)
    if (this.#closing !== undefined)
      throw new BlockDeviceError('EBADF', `${what}: the device is closed`, range)
    if (signal?.aborted === true) throw abortedError(what, signal, range)
  }

  #enterWrite(what: string, signal: AbortSignal | undefined, range?: Range): void {
    this.#enter(what, signal, range)
    if (this.readOnly) throw new BlockDeviceError('EROFS', `${what}: the device was opened read-only`, range)
  }

  #checkWritable(what: string, offset: number, length: number): void {
    this.#quarantine.check(what, offset, length)
    if (this.#options.grow === true && !this.#hasFixedSize) return
    checkInside(what, offset, length, this.size)
  }

  // What any change of a range means to the other layers, before its first byte leaves.
  #beginChange(offset: number, length: number): Change {
    this.#readAhead.invalidate(offset, length)
    if (!this.#wroteBefore) {
      this.#wroteBefore = true
      this.#options.onFirstWrite?.()
    }
    return this.#map.begin(offset, length)
  }

  async #write(
    hold: Hold,
    offset: number,
    from: Uint8Array,
    signal: AbortSignal | undefined,
    onSent: (() => void) | undefined,
  ): Promise<void> {
    try {
      this.#checkWritable('write', offset, from.length)
      if (from.length === 0) return
      await this.#zeroFill.checkWrite(offset, from.length)
      const change = this.#beginChange(offset, from.length)
      try {
        await this.#send(this.#pool.writer(), offset, from, signal, onSent)
      } finally {
        change.ended()
      }
      change.succeeded()
    } finally {
      hold.release()
    }
  }

  async #writeZeroes(
    hold: Hold,
    offset: number,
    length: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    try {
      this.#checkWritable('writeZeroes', offset, length)
      if (length > 0) await this.#zero(offset, length, signal)
    } finally {
      hold.release()
    }
  }

  async #send(
    member: PooledFile,
    offset: number,
    from: Uint8Array,
    signal: AbortSignal | undefined,
    onSent?: () => void,
  ): Promise<void> {
    const length = from.length
    const pending = this.#barrier.begin(member, offset, length)
    let acknowledged = false
    member.bytesInFlight += length
    try {
      await writeFully(member.file, offset, from, { signal, onSent, onRetry: () => this.#retrying() })
      acknowledged = true
    } catch (error) {
      if (error instanceof OutcomeUnknownError) this.#quarantine.add(offset, length)
      if (signal?.aborted === true) throw error
      throw await writeError('write', error, member.file, { offset, length })
    } finally {
      member.bytesInFlight -= length
      this.#barrier.ended(pending, acknowledged)
    }
  }

  #retrying(): void {
    this.#writeRetries++
    this.#readAhead.forceSeek()
  }

  // A path can lead to another file than it did when the device was opened; reads from, or zeros to, that one would be wrong.
  // Asked while nothing else is under way, so that writes do not spoil the proof.
  async #isImage(file: RandomAccessFile): Promise<boolean> {
    const { isSameFile } = this.#options
    if (isSameFile === undefined) return false
    const hold = await this.#lock.acquire(0, Number.POSITIVE_INFINITY, { write: true, cost: 0 })
    try {
      return await isSameFile(this.#pool.first, file)
    } catch {
      return false
    } finally {
      hold.release()
    }
  }

  async #zero(offset: number, length: number, signal: AbortSignal | undefined): Promise<void> {
    const end = offset + length
    await this.#zeroFill.checkWrite(offset, length)
    // Past the end of a growing file there is nothing to zero, except where a failed write may have left something.
    const written = Math.max(0, Math.min(end, this.#map.writtenEnd) - offset)
    const extents = this.#map.extents(offset, written)
    const { failures } = this.#barrier
    const change = this.#beginChange(offset, length)
    try {
      await this.#zeroing.write(extents, signal)
      // One byte at the new end makes it longer, and leaves a hole. Setting the size could cut off another growing write.
      if (end > this.size) await this.#send(this.#pool.writer(), end - 1, zeroPiece(1), signal)
    } finally {
      change.ended()
    }
    change.succeeded()
    // Where a sync failed meanwhile nobody knows what the range reads as.
    if (failures === this.#barrier.failures) this.#map.zeroed(offset, length)
  }

  async #setSize(size: number): Promise<void> {
    const member = this.#pool.writer()
    const before = this.size
    let kept = Number.POSITIVE_INFINITY
    this.#readAhead.forceSeek()
    try {
      if (size > before) await growFile(member.file, before, size)
      else await shrinkFile(member.file, size)
      kept = size
    } finally {
      this.#barrier.sizeWasSet(member, kept)
    }
    this.#map.resized(size)
    this.#zeroFill.sizeWasSet()
  }

  async #flush(what: string, signal: AbortSignal | undefined, range?: Range): Promise<void> {
    try {
      await untilAborted(this.#barrier.flush(), signal)
    } catch (error) {
      if (signal?.aborted === true) throw abortedError(what, signal, range)
      const cause = callError('flush', error)
      throw range === undefined
        ? cause
        : new BlockDeviceError(cause.code, `${what}: ${cause.message}`, { ...range, cause })
    }
  }

  async #close(): Promise<void> {
    let firstError: unknown
    const attempt = async (step: () => Promise<void>) => {
      try {
        await step()
      } catch (error) {
        firstError ??= error
      }
    }
    await this.#lock.idle()
    await this.#readAhead.stop()
    if (!this.readOnly && this.#barrier.isDirty) await attempt(() => this.#barrier.flush())
    await attempt(() => this.#zeroing.close())
    for (const { file } of this.#pool.members) await attempt(() => file.close())
    const release = this.#options.release
    if (release !== undefined) await attempt(release)
    if (firstError !== undefined) throw callError('close', firstError)
  }
}

function failed(
  what: string,
  error: unknown,
  signal: AbortSignal | undefined,
  range?: Range,
): BlockDeviceError {
  if (signal?.aborted === true) return abortedError(what, signal, range)
  return callError(what, error, range)
}
