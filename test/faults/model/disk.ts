// The server's disk: files whose bytes lie in the page cache until an fsync brought them to the platter. A crash of the
// machine forgets the cache; what was not synced may be there in any older or newer version, block by block, as a real disk
// leaves it. A write-back that fails behaves as Linux does since 4.13 (Documentation/core-api/errseq): its pages are called
// clean and may be lost, and every handle that is open then is told of it once, by its next fsync.

import { blockBytes } from './block-stamp.ts'
import type { Random } from './random.ts'

/** Versions of one block that may be on the platter after a crash, oldest first; the newest is in the cache. */
type Versions = Uint8Array[]

export interface SyncPoint {
  readonly content: Map<number, Uint8Array>
}

export class DiskFile {
  readonly id: number
  /** What everybody sees. */
  bytes: Uint8Array
  /** What a crash leaves for certain. */
  #durable: Uint8Array
  readonly #dirty = new Map<number, Versions>()
  readonly #random: Random
  /** Write-backs that failed. */
  #failures = 0
  /** Some fsync has told of the last one. */
  #isFailureTold = true
  mtime: number
  atime: number
  mode = 0o100_644
  /** Somebody wrote behind its end, and what lies between reads as zeros since. */
  hasHole = false
  /** Names that lead here. */
  links = 1

  constructor(id: number, content: Uint8Array, mtime: number, random: Random) {
    this.id = id
    this.bytes = content.slice()
    this.#durable = content.slice()
    this.mtime = mtime
    this.atime = mtime
    this.#random = random
  }

  get dirtyBlocks(): number {
    return this.#dirty.size
  }

  write(offset: number, from: Uint8Array, mtime: number): void {
    if (from.length === 0) return
    const end = offset + from.length
    if (offset > this.bytes.length) this.hasHole = true
    if (end > this.bytes.length) this.setSize(end, mtime)
    this.bytes.set(from, offset)
    this.mtime = mtime
    for (let block = Math.floor(offset / blockBytes); block * blockBytes < end; block++) this.#isDirty(block)
  }

  #isDirty(block: number): void {
    const versions = this.#dirty.get(block)
    const now = blockOf(this.bytes, block).slice()
    if (versions === undefined) this.#dirty.set(block, [now])
    else versions.push(now)
  }

  /** The size is taken as durable at once: no history is about metadata. */
  setSize(size: number, mtime: number): void {
    this.bytes = resized(this.bytes, size)
    this.#durable = resized(this.#durable, size)
    for (const block of this.#dirty.keys()) if (block * blockBytes >= size) this.#dirty.delete(block)
    this.mtime = mtime
  }

  /** Pages are written back, as of now: by an fsync, or because the kernel wants to. */
  beginSync(): SyncPoint {
    const content = new Map<number, Uint8Array>()
    for (const [block, versions] of this.#dirty) content.set(block, versions.at(-1)!)
    return { content }
  }

  /** It ended well. */
  synced({ content }: SyncPoint): void {
    for (const [block, version] of content) {
      const before = this.#takeUpTo(block, version)
      // A later one, or one that failed, has dealt with it already.
      if (before.length > 0) this.#store(block, version)
    }
  }

  /**
   * It failed: its pages count as clean from now on, written or not. They can be read until the machine goes down. What became
   * dirty meanwhile may have been caught by it too.
   */
  syncFailed({ content }: SyncPoint): void {
    const caught = this.#random.chance(0.5) ? this.beginSync().content : content
    for (const [block, version] of caught) {
      const versions = this.#takeUpTo(block, version)
      if (versions.length > 0) this.#settle(block, versions)
    }
    this.#failures++
    this.#isFailureTold = false
  }

  /** What a handle that is opened now knows of: a failure that nobody was told of is news to it. */
  get knownFailures(): number {
    return this.#isFailureTold ? this.#failures : this.#failures - 1
  }

  /** An fsync tells of all failures. */
  tellFailures(): number {
    this.#isFailureTold = true
    return this.#failures
  }

  /** The machine lost power. */
  crash(): void {
    for (const [block, versions] of this.#dirty) this.#settle(block, versions)
    this.#dirty.clear()
    this.bytes = this.#durable.slice()
  }

  /** What a crash would leave now for certain, and what else each dirty block may hold. */
  afterCrash(): { durable: Uint8Array; maybe: ReadonlyMap<number, readonly Uint8Array[]> } {
    return { durable: this.#durable, maybe: this.#dirty }
  }

  // Takes a version and all older ones from what is dirty; none where it is not dirty any more.
  #takeUpTo(block: number, version: Uint8Array): Versions {
    const versions = this.#dirty.get(block)
    const at = versions?.indexOf(version) ?? -1
    if (versions === undefined || at < 0) return []
    const taken = versions.splice(0, at + 1)
    if (versions.length === 0) this.#dirty.delete(block)
    return taken
  }

  // Any version may have been written back, or none.
  #settle(block: number, versions: Versions): void {
    const chosen = this.#random.below(versions.length + 1)
    if (chosen < versions.length) this.#store(block, versions[chosen]!)
  }

  #store(block: number, version: Uint8Array): void {
    const target = blockOf(this.#durable, block)
    target.set(version.subarray(0, target.length))
  }
}

function blockOf(bytes: Uint8Array, block: number): Uint8Array {
  return bytes.subarray(block * blockBytes, (block + 1) * blockBytes)
}

function resized(bytes: Uint8Array, size: number): Uint8Array {
  const result = new Uint8Array(size)
  result.set(bytes.subarray(0, size))
  return result
}

/** Names and files. */
export class Disk {
  readonly names = new Map<string, DiskFile>()
  /** Every file there ever was. */
  readonly files: DiskFile[] = []
  readonly #random: Random

  constructor(random: Random) {
    this.#random = random
  }

  create(path: string, content: Uint8Array, mtime: number): DiskFile {
    const file = new DiskFile(this.files.length, content, mtime, this.#random)
    this.files.push(file)
    this.names.set(path, file)
    return file
  }

  crash(): void {
    for (const file of this.files) file.crash()
  }
}
