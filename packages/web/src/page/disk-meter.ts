// What happens on a disk, for the map and the plot: which blocks were read, ahead or not, and written; bytes and times.

import type { BlockFetch } from '@sshblock/blockdev/adapters'

/** What is known of a stretch of the disk; later ones win over earlier ones, and being asked for over being fetched ahead. */
export const blockState = { untouched: 0, ahead: 1, read: 2, written: 3 } as const

export class DiskMeter {
  readonly blockBytes: number
  readonly states: Uint8Array
  readBytes = 0
  aheadBytes = 0
  fetches = 0
  /** Milliseconds that the last fetches took, the newest last. */
  readonly fetchTimes: number[] = []
  readonly #onChange: () => void
  readonly #onBytes: (bytes: number) => void

  constructor(
    size: number,
    blockBytes: number,
    told: { onChange: () => void; onBytes: (bytes: number) => void },
  ) {
    this.blockBytes = blockBytes
    this.states = new Uint8Array(Math.ceil(size / blockBytes))
    this.#onChange = told.onChange
    this.#onBytes = told.onBytes
  }

  fetched({ offset, length, ahead, milliseconds, error }: BlockFetch): void {
    if (error !== undefined) return
    this.fetches++
    if (ahead) this.aheadBytes += length
    else this.readBytes += length
    this.fetchTimes.push(milliseconds)
    if (this.fetchTimes.length > 50) this.fetchTimes.shift()
    this.#mark(offset, length, ahead ? blockState.ahead : blockState.read)
    this.#onBytes(length)
  }

  /** Somebody asked for these bytes, whether they were there already or not. */
  asked(offset: number, length: number): void {
    this.#mark(offset, length, blockState.read)
  }

  written(offset: number, length: number): void {
    this.#mark(offset, length, blockState.written)
  }

  #mark(offset: number, length: number, state: number): void {
    const end = Math.min(this.states.length, Math.ceil((offset + length) / this.blockBytes))
    for (let i = Math.floor(offset / this.blockBytes); i < end; i++)
      if (this.states[i]! < state) this.states[i] = state
    this.#onChange()
  }
}
