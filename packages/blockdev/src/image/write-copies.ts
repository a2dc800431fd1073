// Copies of the bytes of writes: one memcpy into slabs that are used again, so that a stream of small writes makes no
// garbage. A slab is free again when the last copy in it was released. Copies are views; whoever holds one releases it.

/** Longest copy, in bytes, and size of a slab. */
export const slabBytes = 1024 * 1024

interface Slab {
  readonly bytes: Uint8Array
  used: number
  /** Copies in it that are not released; the current slab counts as one more. */
  holders: number
}

/** A copy of bytes; shared by all parts that are cut from it. */
export interface Copy {
  readonly bytes: Uint8Array
  readonly slab: unknown
}

export class WriteCopies {
  readonly #maxFree: number
  readonly #free: Uint8Array[] = []
  #current: Slab | undefined
  #slabs = 0

  /** Memory that copies hold, in bytes: at least as much as their lengths together. */
  get heldBytes(): number {
    return this.#slabs * slabBytes
  }

  /** @param maxFreeBytes how much memory is kept for later while it is not needed. */
  constructor(maxFreeBytes: number) {
    this.#maxFree = Math.floor(maxFreeBytes / slabBytes)
  }

  /** Copies at most `slabBytes` bytes. */
  copy(from: Uint8Array): Copy {
    let slab = this.#current
    if (slab === undefined || slab.used + from.length > slabBytes) {
      if (slab !== undefined) this.#letGo(slab)
      slab = { bytes: this.#free.pop() ?? new Uint8Array(slabBytes), used: 0, holders: 1 }
      this.#slabs++
      this.#current = slab
    }
    const at = slab.used
    slab.bytes.set(from, at)
    // Aligned, so that copies of small writes start where memory likes it.
    slab.used = Math.min(slabBytes, (at + from.length + 15) & ~15)
    slab.holders++
    return { bytes: slab.bytes.subarray(at, at + from.length), slab }
  }

  /** A part of a copy, to be released by itself. */
  part(copy: Copy, from: number, to: number): Copy {
    const slab = copy.slab as Slab
    slab.holders++
    return { bytes: copy.bytes.subarray(from, to), slab }
  }

  /** The copy is not needed any more; once. */
  release(copy: Copy): void {
    this.#letGo(copy.slab as Slab)
  }

  #letGo(slab: Slab): void {
    if (--slab.holders > 0) return
    this.#slabs--
    if (this.#free.length < this.#maxFree) this.#free.push(slab.bytes)
  }
}
