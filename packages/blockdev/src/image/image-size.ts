// What is known of the size of the image, and how much of it is certain to be on stable storage.

import type { FileKind } from '../random-access-file.ts'
import { IdentityError } from './errors.ts'

export class ImageSize {
  readonly kind: FileKind
  #bytes: number | undefined
  #durableBytes: number
  #isSetUnsynced = false

  /** @param bytes undefined where the storage does not tell. */
  constructor(kind: FileKind, bytes: number | undefined) {
    this.kind = kind
    this.#bytes = bytes
    this.#durableBytes = bytes ?? 0
  }

  /** Bytes now; undefined where the storage never told. */
  get bytes(): number | undefined {
    return this.#bytes
  }

  /** The size was set, and not synced since. */
  get isSetUnsynced(): boolean {
    return this.#isSetUnsynced
  }

  /** Something was written up to `end`. */
  reaches(end: number): void {
    if (this.#bytes !== undefined && end > this.#bytes) this.#bytes = end
  }

  /** The size was set. */
  setTo(bytes: number): void {
    this.#bytes = bytes
    this.#isSetUnsynced = true
  }

  /** A sync that began when there were so many bytes has succeeded. */
  durable(bytes: number | undefined): void {
    if (bytes !== undefined) this.#durableBytes = bytes
    if (bytes === this.#bytes) this.#isSetUnsynced = false
  }

  /**
   * Looks at what a server says now (R8).
   * @throws IdentityError where the file lost bytes that were durable: it must never be made long again in silence.
   */
  check(found: number): void {
    if (this.#bytes === undefined || this.#isSetUnsynced) return
    const least = Math.min(this.#bytes, this.#durableBytes)
    if (found >= least) return
    throw new IdentityError(`the file became shorter: it has ${found} bytes, and had ${least}`)
  }
}
