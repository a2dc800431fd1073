/**
 * A disk in memory that a test can hold up, break and look into: which blocks were ever written (the rest are known zeros),
 * how many calls are pending, what was flushed, how often it was closed.
 */
import type { BlockDevice, CallOptions, Extent, WriteOptions } from '../../../packages/blockdev/src/device.ts'
import { BlockDeviceError } from '../../../packages/blockdev/src/errors.ts'

const holeBytes = 4096

export interface DiskCall {
  readonly kind: 'read' | 'write' | 'flush' | 'writeZeroes' | 'discard'
  readonly offset: number
  readonly length: number
  readonly fua: boolean
  readonly signal: AbortSignal | undefined
}

export interface TestDiskOptions {
  readonly size?: number
  readonly readOnly?: boolean
  readonly canDiscard?: boolean
  readonly canWriteZeroes?: boolean
  readonly preferredBlockSize?: number
  /** Runs before each call takes effect: wait, or throw. */
  before?: (call: DiskCall) => void | Promise<void>
}

export class TestDisk implements BlockDevice {
  size: number
  readonly blockSize = 512
  readonly preferredBlockSize: number
  readonly readOnly: boolean
  readonly hasZeroInit = true
  readonly durability = 'durable'
  readonly bytes: Uint8Array
  /** Calls in the order in which they came. */
  readonly calls: DiskCall[] = []
  pending = 0
  /** Most calls that were pending at once. */
  peakPending = 0
  closed = 0
  before: (call: DiskCall) => void | Promise<void>
  readonly #written: Uint8Array
  readonly #canDiscard: boolean
  readonly #canWriteZeroes: boolean

  constructor(options: TestDiskOptions = {}) {
    this.size = options.size ?? 1 << 20
    this.bytes = new Uint8Array(this.size)
    this.#written = new Uint8Array(Math.ceil(this.size / holeBytes))
    this.readOnly = options.readOnly ?? false
    this.#canDiscard = options.canDiscard ?? false
    this.#canWriteZeroes = options.canWriteZeroes ?? true
    this.preferredBlockSize = options.preferredBlockSize ?? 65_536
    this.before = options.before ?? (() => {})
  }

  /** Puts bytes there as if they had been written long ago. */
  put(offset: number, bytes: Uint8Array): this {
    this.bytes.set(bytes, offset)
    this.#mark(offset, bytes.length, 1)
    return this
  }

  #mark(offset: number, length: number, value: number): void {
    if (length > 0)
      this.#written.fill(
        value,
        Math.floor(offset / holeBytes),
        Math.floor((offset + length - 1) / holeBytes) + 1,
      )
  }

  async #call(
    kind: DiskCall['kind'],
    offset: number,
    length: number,
    options: WriteOptions | undefined,
    effect: () => void,
  ): Promise<void> {
    const call: DiskCall = { kind, offset, length, fua: options?.fua ?? false, signal: options?.signal }
    this.calls.push(call)
    this.pending++
    this.peakPending = Math.max(this.peakPending, this.pending)
    try {
      await this.before(call)
      if (offset + length > this.size)
        throw new BlockDeviceError('EINVAL', 'outside the disk', { offset, length })
      effect()
    } finally {
      this.pending--
    }
  }

  read(offset: number, into: Uint8Array, options?: CallOptions): Promise<void> {
    return this.#call('read', offset, into.length, options, () => {
      into.set(this.bytes.subarray(offset, offset + into.length))
    })
  }

  write(offset: number, from: Uint8Array, options?: WriteOptions): Promise<void> {
    return this.#call('write', offset, from.length, options, () => {
      this.put(offset, from)
    })
  }

  flush(options?: CallOptions): Promise<void> {
    return this.#call('flush', 0, 0, options, () => {})
  }

  writeZeroes(offset: number, length: number, options?: WriteOptions): Promise<void> {
    return this.#call('writeZeroes', offset, length, options, () => {
      if (!this.#canWriteZeroes) throw new BlockDeviceError('ENOTSUP', 'no zeros', { offset, length })
      this.bytes.fill(0, offset, offset + length)
      const start = Math.ceil(offset / holeBytes)
      const end = Math.floor((offset + length) / holeBytes)
      if (end > start) this.#written.fill(0, start, end)
    })
  }

  discard(offset: number, length: number, options?: CallOptions): Promise<void> {
    return this.#call('discard', offset, length, options, () => {
      if (!this.#canDiscard) throw new BlockDeviceError('ENOTSUP', 'no discard', { offset, length })
    })
  }

  async resize(size: number): Promise<void> {
    if (size > this.bytes.length) throw new BlockDeviceError('ENOSPC', 'the memory of this disk is fixed')
    this.size = size
  }

  extents(offset: number, length: number): Extent[] {
    const extents: Extent[] = []
    const end = offset + length
    for (let at = offset; at < end; ) {
      const block = Math.floor(at / holeBytes)
      const stop = Math.min(end, (block + 1) * holeBytes)
      const zero = this.#written[block] === 0
      const last = extents.at(-1)
      if (last !== undefined && last.zero === zero) last.length += stop - at
      else extents.push({ offset: at, length: stop - at, zero })
      at = stop
    }
    return extents
  }

  async close(): Promise<void> {
    this.closed++
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/** Bytes that repeat nowhere near and are zero nowhere long. */
export function pattern(length: number, seed = 1): Uint8Array {
  const words = new Uint32Array(Math.ceil(length / 4))
  let state = seed >>> 0
  for (let i = 0; i < words.length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    words[i] = state | 1
  }
  return new Uint8Array(words.buffer, 0, length)
}

/** A promise and what settles it. */
export function gate(): { readonly opened: Promise<void>; open: () => void; fail: (error: Error) => void } {
  let open!: () => void
  let fail!: (error: Error) => void
  const opened = new Promise<void>((resolve, reject) => {
    open = resolve
    fail = reject
  })
  return { opened, open, fail }
}
