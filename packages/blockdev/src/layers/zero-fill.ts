// The end of the file: a read that crosses it gets the bytes there and zeros after them, up to the end of the last block.
// A file that became shorter than the device is another thing: bytes that were there are gone. That is an error (QEMU
// answers zeros as success), or zeros where the user asked for them.
// Owns what is known about a file that shrank.

import { BlockDeviceError } from '../errors.ts'
import type { FilePool } from './file-pool.ts'

export interface ZeroFillOptions {
  pool: FilePool
  /** The device's size in bytes, at the time of the call. */
  size: () => number
  onShrink: 'error' | 'zeros'
  onWarning: (message: string) => void
}

export class ZeroFill {
  readonly #options: ZeroFillOptions
  #shrank = false
  #warned = false

  constructor(options: ZeroFillOptions) {
    this.#options = options
  }

  /**
   * Fills `into`.
   * @throws BlockDeviceError EIO where the file became shorter than the device.
   */
  async read(offset: number, into: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    const { pool, size } = this.#options
    const inside = Math.min(into.length, Math.max(0, size() - offset))
    const wanted = inside === into.length ? into : into.subarray(0, inside)
    let filled = inside === 0 ? 0 : await pool.read(offset, wanted, signal)
    if (filled < inside) filled = await this.#atEarlyEnd(offset, wanted, filled, signal)
    if (filled < into.length) into.fill(0, filled)
  }

  /**
   * A write that ends at `end`: refused where the file is known to have shrunk below it, because it would make the file
   * grow again with a hole where data was.
   * @throws BlockDeviceError EIO.
   */
  async checkWrite(offset: number, length: number): Promise<void> {
    if (!this.#shrank || this.#options.onShrink === 'zeros') return
    const { size } = await this.#options.pool.first.status()
    if (size !== undefined && size >= this.#options.size()) {
      this.#shrank = false
      return
    }
    if (size !== undefined && offset + length <= size) return
    throw this.#shorter(size ?? 0, offset, length)
  }

  /** The file has its size again: it was set. */
  sizeWasSet(): void {
    this.#shrank = false
  }

  // The storage says "end of file" inside the device. Its own status tells a file that shrank from a reader that stumbled.
  async #atEarlyEnd(
    offset: number,
    into: Uint8Array,
    filled: number,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    const { pool, onShrink } = this.#options
    const { size } = await pool.first.status()
    if (size !== undefined && size >= offset + into.length) {
      filled += await pool.read(offset + filled, into.subarray(filled), signal)
      if (filled === into.length) return filled
    }
    this.#shrank = true
    const end = offset + filled
    if (onShrink === 'error') throw this.#shorter(end, offset, into.length)
    if (!this.#warned) {
      this.#warned = true
      this.#options.onWarning(
        `the file ends at byte ${end}, at open it had ${this.#options.size()} bytes; what is missing reads as zeros`,
      )
    }
    return filled
  }

  #shorter(end: number, offset: number, length: number): BlockDeviceError {
    const message = `the file became shorter: it ends at byte ${end}, and had ${this.#options.size()} bytes`
    return new BlockDeviceError('EIO', message, { offset, length })
  }
}
