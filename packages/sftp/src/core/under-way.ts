// Which request may begin beside those under way, so that nobody can tell the difference from one after the other:
// READs beside READs; WRITEs beside WRITEs to disjoint ranges of the same handle, not in append mode. Everything else runs
// alone. Two handles may be one file, and a WRITE may move the end that a READ looks at: so neither runs beside the other.
// Arithmetic on values; the session tells what began and what is done.

import { maxRequestsUnderWay } from './server-limits.ts'

/** A WRITE under way; `target` is compared by identity. */
export interface WriteUnderWay {
  readonly target: object
  readonly offset: number
  readonly length: number
}

export class UnderWay {
  readonly #maxWriteBytes: number
  readonly #writes: WriteUnderWay[] = []
  #reads = 0
  #readBytes = 0
  #writeBytes = 0
  #exclusive = false

  /** @param maxWriteBytes payload under way at most, unless a single WRITE is longer */
  constructor(maxWriteBytes: number) {
    this.#maxWriteBytes = maxWriteBytes
  }

  /** Bytes that READs under way may answer. */
  get readBytes(): number {
    return this.#readBytes
  }

  get isQuiet(): boolean {
    return !this.#exclusive && this.#reads === 0 && this.#writes.length === 0
  }

  get mayBeginRead(): boolean {
    return !this.#exclusive && this.#writes.length === 0 && this.#reads < maxRequestsUnderWay
  }

  /** @param append the handle is in append mode: where the bytes go depends on what was written before */
  mayBeginWrite(write: WriteUnderWay, append: boolean): boolean {
    if (this.isQuiet) return true
    if (this.#exclusive || this.#reads > 0 || append) return false
    if (this.#writes.length >= maxRequestsUnderWay) return false
    if (this.#writeBytes + write.length > this.#maxWriteBytes) return false
    const end = write.offset + write.length
    return this.#writes.every(
      (other) =>
        other.target === write.target && (end <= other.offset || other.offset + other.length <= write.offset),
    )
  }

  beginRead(length: number): void {
    this.#reads++
    this.#readBytes += length
  }

  endRead(length: number): void {
    this.#reads--
    this.#readBytes -= length
  }

  beginWrite(write: WriteUnderWay): void {
    this.#writes.push(write)
    this.#writeBytes += write.length
  }

  endWrite(write: WriteUnderWay): void {
    this.#writes.splice(this.#writes.indexOf(write), 1)
    this.#writeBytes -= write.length
  }

  beginExclusive(): void {
    this.#exclusive = true
  }

  endExclusive(): void {
    this.#exclusive = false
  }
}
