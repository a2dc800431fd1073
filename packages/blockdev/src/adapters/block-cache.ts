// Whole blocks of a device, kept in memory and fetched ahead: for readers that ask for little at a time and often the same,
// as emulators and file systems do. Over SSH a read costs a round trip whatever its size, so blocks are large.
//
// Owns its blocks; callers get copies. One fetch a block, whoever waits for it. Read-ahead grows while reads go on from
// block to block (1, 2, 4, ... up to the limit) and starts anew elsewhere. A failed fetch leaves nothing behind: who waits
// gets the error, the next read asks again. Deliberately no writing: whoever writes elsewhere calls `replace`.

import { BlockDeviceError } from '../errors.ts'
import { abortedError, untilAborted } from '../layers/abort.ts'

/** What is needed of a device. */
export interface ReadableBlocks {
  /** Bytes. */
  readonly size: number
  read(offset: number, into: Uint8Array, options?: { signal?: AbortSignal | undefined }): Promise<void>
}

/** A fetch that ended. */
export interface BlockFetch {
  readonly offset: number
  readonly length: number
  /** Nobody had asked for it when it was sent. */
  readonly ahead: boolean
  readonly milliseconds: number
  /** Undefined where it succeeded. */
  readonly error: unknown
}

export interface BlockCacheOptions {
  /** Bytes of a block, a multiple of 512; default 256 KiB. */
  blockBytes?: number
  /** Bytes kept; the block unused for longest goes first. Default 64 MiB. */
  maxBytes?: number
  /** Most blocks fetched beyond the one that is read; 0 for none. Default 8. */
  maxBlocksAhead?: number
  /** Is told of every fetch when it ended. */
  onFetch?: (fetch: BlockFetch) => void
}

interface Block {
  readonly index: number
  readonly bytes: Uint8Array
  /** Undefined when the bytes are there. */
  loading: Promise<void> | undefined
}

export class BlockCache implements ReadableBlocks {
  readonly blockBytes: number
  readonly #source: ReadableBlocks
  readonly #maxBlocks: number
  readonly #maxBlocksAhead: number
  readonly #onFetch: (fetch: BlockFetch) => void
  /** The block used last comes last. */
  readonly #blocks = new Map<number, Block>()
  #lastIndex = -2
  #ahead = 0

  constructor(source: ReadableBlocks, options: BlockCacheOptions = {}) {
    const {
      blockBytes = 256 * 1024,
      maxBytes = 64 * 1024 * 1024,
      maxBlocksAhead = 8,
      onFetch = () => {},
    } = options
    if (!Number.isSafeInteger(blockBytes) || blockBytes < 512 || blockBytes % 512 !== 0) {
      throw new BlockDeviceError('EINVAL', `blockBytes: expected a multiple of 512, got ${blockBytes}`)
    }
    this.#source = source
    this.blockBytes = blockBytes
    this.#maxBlocks = Math.max(2, Math.floor(maxBytes / blockBytes))
    // What was fetched ahead must not push itself out.
    this.#maxBlocksAhead = Math.min(maxBlocksAhead, this.#maxBlocks - 2)
    this.#onFetch = onFetch
  }

  get size(): number {
    return this.#source.size
  }

  /** Bytes held, those on their way included. */
  get heldBytes(): number {
    let held = 0
    for (const { bytes } of this.#blocks.values()) held += bytes.length
    return held
  }

  /**
   * Fills `into`; parts behind the end of the device are not touched.
   * @throws what the device's read throws; BlockDeviceError ABORT_ERR where the signal was aborted; other readers of the
   *   same blocks still get them
   */
  async read(
    offset: number,
    into: Uint8Array,
    options: { signal?: AbortSignal | undefined } = {},
  ): Promise<void> {
    if (this.tryRead(offset, into)) return
    const end = Math.min(offset + into.length, this.size)
    const waiting: Promise<void>[] = []
    // Blocks are held by this call, so that a small cache cannot lose the first before the last is there.
    const wanted: Block[] = []
    for (let index = this.#indexOf(offset); index * this.blockBytes < end; index++) {
      const held = this.#use(index)
      const block = held !== undefined && this.#isWhole(held) ? held : this.#fetch(index, false)
      wanted.push(block)
      if (block.loading !== undefined) waiting.push(block.loading)
    }
    this.#fetchAhead(wanted[0]!.index, wanted.at(-1)!.index)
    const { signal } = options
    try {
      await untilAborted(Promise.all(waiting), signal)
    } catch (error) {
      if (signal?.aborted === true) throw abortedError('read', signal, { offset, length: into.length })
      throw error
    }
    for (const block of wanted) this.#copy(block, offset, into)
  }

  /** `read` without waiting: false, with nothing done, where a block is not there. */
  tryRead(offset: number, into: Uint8Array): boolean {
    const end = Math.min(offset + into.length, this.size)
    if (end <= offset) return true
    const first = this.#indexOf(offset)
    const last = this.#indexOf(end - 1)
    for (let index = first; index <= last; index++) {
      const block = this.#blocks.get(index)
      if (block === undefined || block.loading !== undefined || !this.#isWhole(block)) return false
    }
    for (let index = first; index <= last; index++) this.#copy(this.#use(index)!, offset, into)
    this.#fetchAhead(first, last)
    return true
  }

  /** Puts new content over blocks that are held, after it was written elsewhere. Copies. */
  replace(offset: number, from: Uint8Array): void {
    const end = offset + from.length
    for (let index = this.#indexOf(offset); index * this.blockBytes < end; index++) {
      const block = this.#blocks.get(index)
      if (block === undefined) continue
      if (block.loading !== undefined) {
        // What is on its way may be from before the write or after it.
        this.#blocks.delete(index)
        continue
      }
      const at = index * this.blockBytes
      const begin = Math.max(offset, at)
      block.bytes.set(
        from.subarray(begin - offset, Math.min(end, at + block.bytes.length) - offset),
        begin - at,
      )
    }
  }

  /** Forgets everything. */
  clear(): void {
    this.#blocks.clear()
    this.#lastIndex = -2
  }

  #indexOf(offset: number): number {
    return Math.floor(offset / this.blockBytes)
  }

  #use(index: number): Block | undefined {
    const block = this.#blocks.get(index)
    if (block === undefined) return undefined
    this.#blocks.delete(index)
    this.#blocks.set(index, block)
    return block
  }

  /** False of what was the last block until the device grew. */
  #isWhole({ index, bytes }: Block): boolean {
    return bytes.length >= Math.min(this.blockBytes, this.size - index * this.blockBytes)
  }

  #copy({ index, bytes }: Block, offset: number, into: Uint8Array): void {
    const at = index * this.blockBytes
    const begin = Math.max(offset, at)
    const end = Math.min(offset + into.length, at + bytes.length)
    if (end > begin) into.set(bytes.subarray(begin - at, end - at), begin - offset)
  }

  #fetch(index: number, ahead: boolean): Block {
    const offset = index * this.blockBytes
    const length = Math.min(this.blockBytes, this.size - offset)
    const block: Block = { index, bytes: new Uint8Array(length), loading: undefined }
    const startedAt = performance.now()
    const over = (error: unknown): void => {
      if (error !== undefined && this.#blocks.get(index) === block) this.#blocks.delete(index)
      this.#onFetch({ offset, length, ahead, milliseconds: performance.now() - startedAt, error })
    }
    block.loading = this.#source.read(offset, block.bytes).then(
      () => {
        block.loading = undefined
        this.#drop()
        over(undefined)
      },
      (error: unknown) => {
        over(error ?? new BlockDeviceError('EIO', 'the read failed without an error'))
        throw error
      },
    )
    // Somebody may wait for it, or nobody.
    block.loading.catch(() => {})
    this.#blocks.set(index, block)
    this.#drop()
    return block
  }

  #drop(): void {
    for (const [index, { loading }] of this.#blocks) {
      if (this.#blocks.size <= this.#maxBlocks) return
      if (loading === undefined) this.#blocks.delete(index)
    }
  }

  #fetchAhead(first: number, last: number): void {
    if (first === this.#lastIndex + 1) this.#ahead = Math.min(this.#maxBlocksAhead, this.#ahead * 2 || 1)
    else if (first !== this.#lastIndex) this.#ahead = 0
    this.#lastIndex = last
    const end = Math.min(last + 1 + this.#ahead, Math.ceil(this.size / this.blockBytes))
    for (let index = last + 1; index < end; index++) if (!this.#blocks.has(index)) this.#fetch(index, true)
  }
}
