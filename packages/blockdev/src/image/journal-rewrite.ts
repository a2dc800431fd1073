// The journal, written again after a loss (R5): everything that was acknowledged and is not durable, through lanes that live,
// a few MiB under way at once. Each piece counts as any other write: without an answer it may arrive late, over something
// newer, and its lane is fenced.

import { zeroPiece } from '../layers/zeroing.ts'
import { type Lane, LaneLost } from './host.ts'
import type { ImageSize } from './image-size.ts'
import type { Journal } from './journal.ts'
import type { LaneSet } from './lane-set.ts'
import type { OpenLane, Range } from './open-lane.ts'

export interface JournalRewriteOptions {
  readonly lanes: LaneSet
  readonly journal: Journal
  readonly size: ImageSize
  /** Aborted when the device is closed or has failed. */
  readonly closing: AbortSignal
  /** A piece was answered, or never will be. */
  readonly onWriteEnded: () => void
}

/** Bytes under way at once. */
const windowBytes = 4 * 1024 * 1024

export class JournalRewrite {
  readonly #options: JournalRewriteOptions
  #bytes = 0

  constructor(options: JournalRewriteOptions) {
    this.#options = options
  }

  /** Bytes written again since `begin`. */
  get bytes(): number {
    return this.#bytes
  }

  begin(): void {
    this.#bytes = 0
  }

  /**
   * Writes everything again, the size of the file included. Rejects with the first error, when nothing of it is under way.
   * @throws IdentityError where the file lost bytes that were durable.
   */
  async run(open: OpenLane): Promise<void> {
    const { journal, closing } = this.#options
    await this.#restoreSize(open)
    const underWay = new Set<Promise<void>>()
    let bytesUnderWay = 0
    let firstError: unknown
    for (const { offset, length, bytes } of journal.entries()) {
      const cost = bytes === undefined ? windowBytes : length
      while (bytesUnderWay > 0 && bytesUnderWay + cost > windowBytes) await Promise.race(underWay)
      if (firstError !== undefined || closing.aborted) break
      bytesUnderWay += cost
      const work = bytes === undefined ? this.#zero(offset, length) : this.#write(offset, bytes)
      const one = work
        .catch((error: unknown) => {
          firstError ??= error
        })
        .finally(() => {
          bytesUnderWay -= cost
          underWay.delete(one)
        })
      underWay.add(one)
    }
    await Promise.all(underWay)
    if (firstError !== undefined) throw firstError
  }

  async #restoreSize({ lane }: OpenLane): Promise<void> {
    const { bytes, isSetUnsynced } = this.#options.size
    if (bytes === undefined) return
    const { size } = await lane.status()
    if (size === undefined || size === bytes) return
    this.#options.size.check(size)
    const from = { start: bytes, end: Number.POSITIVE_INFINITY }
    if (size < bytes || isSetUnsynced) await this.#onWriter(from, (writer) => writer.setSize(bytes))
  }

  async #zero(offset: number, length: number): Promise<void> {
    const range = { start: offset, end: offset + length }
    const isDone = await this.#onWriter(
      range,
      (lane) => lane.zero?.(offset, length) ?? Promise.resolve(false),
    )
    for (let done = 0; !isDone && done < length; ) {
      const piece = zeroPiece(length - done)
      await this.#write(offset + done, piece)
      done += piece.length
    }
  }

  async #write(offset: number, bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const at = offset + done
      const range = { start: at, end: offset + bytes.length }
      const taken = await this.#onWriter(range, (lane) => lane.write(at, bytes.subarray(done)))
      if (taken <= 0) throw new Error('the storage takes nothing while the journal is written again')
      done += taken
      this.#bytes += taken
    }
  }

  async #onWriter<T>(range: Range, work: (lane: Lane) => Promise<T>): Promise<T> {
    const { lanes, onWriteEnded } = this.#options
    const open = lanes.writer()
    if (open === undefined) throw new Error('the lane was lost while the journal was written again')
    open.unsynced = true
    open.writes.add(range)
    try {
      return await work(open.lane)
    } catch (error) {
      if (error instanceof LaneLost) lanes.lose(open, error)
      throw error
    } finally {
      open.unsynced = true
      open.writes.delete(range)
      onWriteEnded()
    }
  }
}
