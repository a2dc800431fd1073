// Zeros with as few bytes on the wire as can be: nothing where zeros are certain already, a copy made by the storage itself
// where it can and the range is long, else zeros from one shared buffer.
// The caller holds the range. A part that a copy failed on goes over the wire: whatever the copy wrote were zeros.

import type { Extent } from '../device.ts'
import { OutcomeUnknownError, type RandomAccessFile } from '../random-access-file.ts'
import type { PooledFile } from './file-pool.ts'
import type { FlushBarrier } from './flush-barrier.ts'
import type { Quarantine } from './quarantine.ts'

/** Storage that can write zeros without being sent them. */
export interface ZeroCopier {
  /**
   * The handle it writes through (a flush must sync it too), or undefined where it turns out that it cannot.
   * Sets up at the first call; `isImage` tells whether a handle is one of the device's own image.
   */
  prepare(isImage: (handle: RandomAccessFile) => Promise<boolean>): Promise<RandomAccessFile | undefined>
  /** Makes the range read as zeros. Rejects where it failed: then any part may be written. */
  copy(offset: number, length: number, signal: AbortSignal | undefined): Promise<void>
  /** Lets go of what `prepare` made. */
  close(): Promise<void>
}

export interface ZeroingOptions {
  copier: ZeroCopier | undefined
  isImage: (handle: RandomAccessFile) => Promise<boolean>
  /** Writes bytes of the shared buffer; as any other write. */
  send: (offset: number, from: Uint8Array, signal: AbortSignal | undefined) => Promise<void>
  barrier: FlushBarrier
  quarantine: Quarantine
}

/** From here on a copy on the server is quicker than zeros on the wire, in bytes. */
const smallestCopy = 256 * 1024
/** Largest piece that goes out from the shared buffer at once, in bytes. */
export const zeroPieceBytes = 1024 * 1024

let zeros: Uint8Array | undefined

/** At most `length` zeros, at most `zeroPieceBytes`. Shared: never write into it. */
export function zeroPiece(length: number): Uint8Array {
  zeros ??= new Uint8Array(zeroPieceBytes)
  return length >= zeros.length ? zeros : zeros.subarray(0, length)
}

export class Zeroing {
  readonly #options: ZeroingOptions
  #target: PooledFile | undefined

  constructor(options: ZeroingOptions) {
    this.#options = options
  }

  /** Zeroes what is not certain to be zero. */
  async write(extents: readonly Extent[], signal: AbortSignal | undefined): Promise<void> {
    for (const { offset, length, zero } of extents) if (!zero) await this.#part(offset, length, signal)
  }

  async close(): Promise<void> {
    await this.#options.copier?.close()
  }

  async #part(offset: number, length: number, signal: AbortSignal | undefined): Promise<void> {
    if (length >= smallestCopy && (await this.#copied(offset, length, signal))) return
    for (let done = 0; done < length; ) {
      signal?.throwIfAborted()
      const piece = zeroPiece(length - done)
      await this.#options.send(offset + done, piece, signal)
      done += piece.length
    }
  }

  async #copied(offset: number, length: number, signal: AbortSignal | undefined): Promise<boolean> {
    const { copier, barrier, quarantine } = this.#options
    const target = await this.#prepare()
    if (copier === undefined || target === undefined) return false
    const pending = barrier.begin(target, offset, length)
    let acknowledged = false
    try {
      await copier.copy(offset, length, signal)
      acknowledged = true
      return true
    } catch (error) {
      if (error instanceof OutcomeUnknownError) quarantine.add(offset, length)
      if (signal?.aborted === true || error instanceof OutcomeUnknownError) throw error
      return false
    } finally {
      barrier.ended(pending, acknowledged)
    }
  }

  async #prepare(): Promise<PooledFile | undefined> {
    const { copier, isImage } = this.#options
    if (this.#target !== undefined || copier === undefined) return this.#target
    const file = await copier.prepare(isImage)
    if (file !== undefined) this.#target ??= { file, bytesInFlight: 0, syncing: false }
    return this.#target
  }
}
