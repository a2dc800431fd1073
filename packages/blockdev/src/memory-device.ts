// A block device in memory, with the meaning of every call at its plainest: the model that tests compare real devices with,
// and a scratch disk. Each call takes effect at once, in the order of the calls.

import type { BlockDevice, CallOptions, Extent, WriteOptions } from './device.ts'
import { BlockDeviceError } from './errors.ts'
import { abortedError } from './layers/abort.ts'
import { blockSize, checkInside, checkRange, checkSize, roundUpToBlock } from './layers/bounds.ts'

export interface MemoryDeviceOptions {
  /** Bytes. Reads as zeros. */
  size?: number
  /** First content; copied. Its length is the size where no size is given. */
  content?: Uint8Array
  readOnly?: boolean
  /** Writes past the end make the device grow. Default false: EINVAL. */
  grow?: boolean
}

/** A block device in memory. Durable as long as the process is. */
export class MemoryDevice implements BlockDevice {
  readonly blockSize = blockSize
  readonly preferredBlockSize = 128 * 1024
  readonly readOnly: boolean
  readonly hasZeroInit: boolean
  readonly durability = 'volatile'
  readonly #grow: boolean
  /** At least `#size` bytes; zeros beyond it. */
  #bytes: Uint8Array
  #size: number
  #closed = false

  constructor(options: MemoryDeviceOptions = {}) {
    const { content } = options
    const size = options.size ?? content?.length ?? 0
    checkSize('memory device', size)
    if (content !== undefined && content.length > size) {
      throw new BlockDeviceError(
        'EINVAL',
        `memory device: the content has ${content.length} bytes, the device ${size}`,
      )
    }
    this.readOnly = options.readOnly ?? false
    this.hasZeroInit = content === undefined
    this.#grow = options.grow ?? false
    this.#bytes = new Uint8Array(size)
    if (content !== undefined) this.#bytes.set(content)
    this.#size = size
  }

  get size(): number {
    return this.#size
  }

  /** The whole content; allocates. */
  snapshot(): Uint8Array {
    return this.#bytes.slice(0, this.#size)
  }

  async read(offset: number, into: Uint8Array, options: CallOptions = {}): Promise<void> {
    this.#enter('read', options, { offset, length: into.length })
    checkInside('read', offset, into.length, roundUpToBlock(this.#size))
    const inside = this.#bytes.subarray(
      Math.min(offset, this.#size),
      Math.min(offset + into.length, this.#size),
    )
    into.set(inside)
    into.fill(0, inside.length)
  }

  async write(offset: number, from: Uint8Array, options: WriteOptions = {}): Promise<void> {
    this.#enterWrite('write', options, { offset, length: from.length })
    if (from.length === 0) return
    this.#bytes.set(from, offset)
  }

  async flush(options: CallOptions = {}): Promise<void> {
    this.#enter('flush', options)
  }

  async writeZeroes(offset: number, length: number, options: WriteOptions = {}): Promise<void> {
    this.#enterWrite('writeZeroes', options, { offset, length })
    this.#bytes.fill(0, offset, offset + length)
  }

  async discard(offset: number, length: number, options: CallOptions = {}): Promise<void> {
    this.#enter('discard', options, { offset, length })
    throw new BlockDeviceError('ENOTSUP', 'discard is not supported by a memory device', { offset, length })
  }

  async resize(size: number, options: CallOptions & { shrink?: boolean | undefined } = {}): Promise<void> {
    this.#enter('resize', options)
    if (this.readOnly) throw new BlockDeviceError('EROFS', 'resize: the device was opened read-only')
    checkSize('resize', size)
    if (size < this.#size && options.shrink !== true) {
      throw new BlockDeviceError(
        'EINVAL',
        `resize from ${this.#size} to ${size} bytes loses data; it must be asked for with shrink: true`,
      )
    }
    this.#reserve(size)
    this.#bytes.fill(0, Math.min(size, this.#size))
    this.#size = size
  }

  extents(offset: number, length: number): Extent[] {
    checkRange('extents', offset, length)
    checkInside('extents', offset, length, this.#size)
    return length === 0 ? [] : [{ offset, length, zero: false }]
  }

  async close(): Promise<void> {
    this.#closed = true
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #enter(what: string, options: CallOptions, range?: { offset: number; length: number }): void {
    if (range !== undefined) checkRange(what, range.offset, range.length)
    if (this.#closed) throw new BlockDeviceError('EBADF', `${what}: the device is closed`, range)
    if (options.signal?.aborted === true) throw abortedError(what, options.signal, range)
  }

  #enterWrite(what: string, options: CallOptions, range: { offset: number; length: number }): void {
    this.#enter(what, options, range)
    if (this.readOnly) throw new BlockDeviceError('EROFS', `${what}: the device was opened read-only`, range)
    if (!this.#grow) checkInside(what, range.offset, range.length, this.#size)
    if (range.length === 0) return
    this.#reserve(range.offset + range.length)
    this.#size = Math.max(this.#size, range.offset + range.length)
  }

  #reserve(size: number): void {
    if (size <= this.#bytes.length) return
    const grown = new Uint8Array(Math.max(size, Math.min(2 * this.#bytes.length, size + 64 * 1024 * 1024)))
    grown.set(this.#bytes.subarray(0, this.#size))
    this.#bytes = grown
  }
}
