// A device behind a cache that others read through too: reads come from its blocks, writes go to the device and into blocks
// that are held, so that nobody sees what was there before.

import type { BlockDevice, CallOptions, Extent, WriteOptions } from '@sshblock/blockdev'
import type { BlockCache } from '@sshblock/blockdev/adapters'

export class CachedDevice implements BlockDevice {
  readonly #device: BlockDevice
  readonly #cache: BlockCache
  readonly #onRead: (offset: number, length: number) => void

  /** `cache` is of `device`; `onRead` is told of every read. */
  constructor(device: BlockDevice, cache: BlockCache, onRead: (offset: number, length: number) => void) {
    this.#device = device
    this.#cache = cache
    this.#onRead = onRead
  }

  get size(): number {
    return this.#device.size
  }

  get blockSize(): number {
    return this.#device.blockSize
  }

  get preferredBlockSize(): number {
    return this.#device.preferredBlockSize
  }

  get readOnly(): boolean {
    return this.#device.readOnly
  }

  get hasZeroInit(): boolean {
    return this.#device.hasZeroInit
  }

  get durability(): 'durable' | 'volatile' {
    return this.#device.durability
  }

  async read(offset: number, into: Uint8Array, options: CallOptions = {}): Promise<void> {
    this.#onRead(offset, into.length)
    await this.#cache.read(offset, into, options)
  }

  async write(offset: number, from: Uint8Array, options: WriteOptions = {}): Promise<void> {
    try {
      await this.#device.write(offset, from, options)
    } catch (error) {
      // What is there now is not known.
      this.#cache.clear()
      throw error
    }
    this.#cache.replace(offset, from)
  }

  flush(options: CallOptions = {}): Promise<void> {
    return this.#device.flush(options)
  }

  async writeZeroes(offset: number, length: number, options: WriteOptions = {}): Promise<void> {
    await this.#device.writeZeroes(offset, length, options).finally(() => this.#cache.clear())
  }

  async discard(offset: number, length: number, options: CallOptions = {}): Promise<void> {
    await this.#device.discard(offset, length, options).finally(() => this.#cache.clear())
  }

  async resize(size: number, options: CallOptions & { shrink?: boolean | undefined } = {}): Promise<void> {
    await this.#device.resize(size, options).finally(() => this.#cache.clear())
  }

  extents(offset: number, length: number): Extent[] {
    return this.#device.extents(offset, length)
  }

  async close(): Promise<void> {
    await this.#device.close()
    this.#cache.clear()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}
