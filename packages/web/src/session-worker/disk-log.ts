// What happens on a disk, gathered for the page: which blocks were asked for or fetched ahead, bytes and fetches. Told in
// batches, the next one when the last was taken and some time has gone by, so that fast reading does not flood the page.

import type { BlockFetch } from '@sshblock/blockdev/adapters'
import type { DiskActivity } from './calls.ts'

/** Shortest time between two batches, in milliseconds. */
const batchMs = 100

export class DiskLog {
  readonly #blockBytes: number
  readonly #tell: (activity: DiskActivity) => Promise<void>
  readonly #asked = new Set<number>()
  readonly #ahead = new Set<number>()
  #readBytes = 0
  #aheadBytes = 0
  #fetches = 0
  #timer: ReturnType<typeof setTimeout> | undefined

  /** `tell` passes a batch on and resolves when there may be another. */
  constructor(blockBytes: number, tell: (activity: DiskActivity) => Promise<void>) {
    this.#blockBytes = blockBytes
    this.#tell = tell
  }

  fetched({ offset, length, ahead, error }: BlockFetch): void {
    if (error !== undefined) return
    this.#fetches++
    if (ahead) this.#aheadBytes += length
    else this.#readBytes += length
    this.#mark(ahead ? this.#ahead : this.#asked, offset, length)
  }

  /** Somebody asked for these bytes, whether they were there already or not. */
  asked(offset: number, length: number): void {
    this.#mark(this.#asked, offset, length)
  }

  #mark(blocks: Set<number>, offset: number, length: number): void {
    const end = Math.ceil((offset + length) / this.#blockBytes)
    for (let i = Math.floor(offset / this.#blockBytes); i < end; i++) blocks.add(i)
    this.#timer ??= setTimeout(() => void this.#send(), batchMs)
  }

  async #send(): Promise<void> {
    const activity: DiskActivity = {
      readBytes: this.#readBytes,
      aheadBytes: this.#aheadBytes,
      fetches: this.#fetches,
      asked: [...this.#asked],
      ahead: [...this.#ahead].filter((block) => !this.#asked.has(block)),
    }
    this.#readBytes = this.#aheadBytes = this.#fetches = 0
    this.#asked.clear()
    this.#ahead.clear()
    // Never answered once the page has closed the disk: then this is the last batch.
    await this.#tell(activity)
    this.#timer = undefined
    if (this.#asked.size + this.#ahead.size > 0) this.#timer = setTimeout(() => void this.#send(), batchMs)
  }
}
