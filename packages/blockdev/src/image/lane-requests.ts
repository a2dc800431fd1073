// A request on a lane, and again on another one after a loss, when that is allowed: it never fails for a loss alone, never goes
// on after its caller cancelled it, and all its waits together are within the outage budget.

import { BlockDeviceError } from '../errors.ts'
import { untilAborted } from '../layers/abort.ts'
import type { ContentSamples } from './content-samples.ts'
import { type Lane, LaneLost } from './host.ts'
import type { LaneSet } from './lane-set.ts'
import type { Range } from './open-lane.ts'
import type { Recovery } from './recovery.ts'

export class LaneRequests {
  readonly #lanes: LaneSet
  readonly #recovery: Recovery
  readonly #samples: ContentSamples

  constructor(lanes: LaneSet, recovery: Recovery, samples: ContentSamples) {
    this.#lanes = lanes
    this.#recovery = recovery
    this.#samples = samples
  }

  /** R1. Resolves to the bytes read; fewer than asked for at the end of the file. */
  async read(offset: number, into: Uint8Array, signal: AbortSignal | undefined): Promise<number> {
    let since: number | undefined
    for (;;) {
      const open = this.#recovery.isOpen('read') ? this.#lanes.reader() : undefined
      if (open === undefined) {
        since = await this.#recovery.wait('read', signal, since)
        continue
      }
      const began = this.#samples.readBegins()
      open.bytesInFlight += into.length
      this.#lanes.considerGrowth('read')
      try {
        const count = await open.lane.read(offset, into, { signal })
        this.#lanes.finished(into.length)
        // What is durable tells this file from others later.
        if (count > 0 && this.#recovery.state === 'connected')
          this.#samples.seen(offset, count === into.length ? into : into.subarray(0, count), began)
        return count
      } catch (error) {
        if (!(error instanceof LaneLost)) throw error
        this.#lanes.lose(open, error)
        signal?.throwIfAborted()
        since = this.#recovery.goesOn(since)
      } finally {
        open.bytesInFlight -= into.length
        this.#lanes.roomMade()
      }
    }
  }

  /** R2. A change of a range, on a lane that may write. */
  async change(
    range: Range,
    signal: AbortSignal | undefined,
    work: (lane: Lane) => Promise<void>,
  ): Promise<void> {
    const length = range.end === Number.POSITIVE_INFINITY ? 0 : range.end - range.start
    let wasSent = false
    let since: number | undefined
    for (;;) {
      const open = this.#recovery.isOpen('write') ? this.#lanes.writer() : undefined
      if (open === undefined) {
        try {
          since = await this.#recovery.wait('write', signal, since)
        } catch (error) {
          // It was among those that the device failed over.
          throw wasSent && error instanceof BlockDeviceError && error.code === 'ESHUTDOWN'
            ? error.cause
            : error
        }
        continue
      }
      if (open.isFull) {
        this.#lanes.considerGrowth('write')
        await untilAborted(this.#lanes.room(), signal)
        continue
      }
      wasSent = true
      open.bytesInFlight += length
      open.writes.add(range)
      open.unsynced = true
      this.#lanes.considerGrowth('write')
      try {
        await work(open.lane)
        open.unsynced = true
        return
      } catch (error) {
        if (!(error instanceof LaneLost)) throw error
        this.#lanes.lose(open, error)
        // Cancelled meanwhile: not sent again, whatever became of it.
        signal?.throwIfAborted()
        since = this.#recovery.goesOn(since)
      } finally {
        open.writes.delete(range)
        open.bytesInFlight -= length
        this.#lanes.roomMade()
        this.#recovery.writeEnded()
      }
    }
  }

  /** Asks something of the server that changes nothing. */
  async ask<T>(work: (lane: Lane) => Promise<T>): Promise<T> {
    let since: number | undefined
    for (;;) {
      const open = this.#recovery.isOpen('read') ? this.#lanes.reader() : undefined
      if (open === undefined) {
        since = await this.#recovery.wait('read', undefined, since)
        continue
      }
      try {
        return await work(open.lane)
      } catch (error) {
        if (!(error instanceof LaneLost)) throw error
        this.#lanes.lose(open, error)
        since = this.#recovery.goesOn(since)
      }
    }
  }
}
