// What happened on a disk, for the map and the plot: which blocks were read, ahead or not, and written; how many bytes.

import { diskBlockBytes } from '../disk-blocks.ts'
import type { DiskActivity } from '../session-worker/calls.ts'

/** What is known of a block; later ones win over earlier ones, and being asked for over being fetched ahead. */
export const blockState = { untouched: 0, ahead: 1, read: 2, written: 3 } as const

export class DiskMeter {
  readonly states: Uint8Array
  readBytes = 0
  aheadBytes = 0
  fetches = 0
  readonly #onChange: () => void
  readonly #onBytes: (bytes: number) => void

  constructor(size: number, told: { onChange: () => void; onBytes: (bytes: number) => void }) {
    this.states = new Uint8Array(Math.ceil(size / diskBlockBytes))
    this.#onChange = told.onChange
    this.#onBytes = told.onBytes
  }

  /** What the worker tells of fetches and reads. */
  happened({ readBytes, aheadBytes, fetches, asked, ahead }: DiskActivity): void {
    this.readBytes += readBytes
    this.aheadBytes += aheadBytes
    this.fetches += fetches
    for (const block of ahead) this.#mark(block, blockState.ahead)
    for (const block of asked) this.#mark(block, blockState.read)
    this.#onBytes(readBytes + aheadBytes)
    this.#onChange()
  }

  /** What the machine wrote, in this page. */
  written(offset: number, length: number): void {
    const end = Math.ceil((offset + length) / diskBlockBytes)
    for (let block = Math.floor(offset / diskBlockBytes); block < end; block++)
      this.#mark(block, blockState.written)
    this.#onChange()
  }

  #mark(block: number, state: number): void {
    const now = this.states[block]
    if (now !== undefined && now < state) this.states[block] = state
  }
}
