// From acknowledged to durable: fsync on every lane that was written through, again where a loss came in between, through new
// handles where it failed (R6). And what goes with it: room in the journal, of which a sync makes more.
// Owns the order of syncs: one after another.

import { BlockDeviceError } from '../errors.ts'
import { NotSyncedYetError } from '../random-access-file.ts'
import type { ContentSamples } from './content-samples.ts'
import { LaneLost } from './host.ts'
import type { ImageSize } from './image-size.ts'
import type { Journal } from './journal.ts'
import type { LaneSet } from './lane-set.ts'
import type { OpenLane } from './open-lane.ts'
import type { Recovery } from './recovery.ts'
import type { Rule } from './rules.ts'

export interface ImageSyncOptions {
  readonly lanes: LaneSet
  readonly recovery: Recovery
  readonly journal: Journal
  readonly samples: ContentSamples
  readonly size: ImageSize
  /** Whether the storage can sync at all. */
  readonly canSync: boolean
  readonly without: ReadonlySet<Rule>
  /** A sync has succeeded. */
  readonly onSynced: () => void
}

/** Ranges of the journal that are remembered at most after a sync, to know the file by. */
const samplesOfJournal = 4

export class ImageSync {
  readonly #options: ImageSyncOptions
  /** An fsync failed, and everything must go through new handles before the next one. */
  #failed: Error | undefined
  #last: Promise<void> = Promise.resolve()
  /** Who waits for room in the journal. */
  #roomWaiters: (() => void)[] = []
  #forRoom: Promise<void> | undefined
  /** Syncs that should have made room and failed, and why the last one did. */
  #roomFailures = 0
  #roomError: unknown

  constructor(options: ImageSyncOptions) {
    this.#options = options
  }

  /**
   * Everything acknowledged before this call is on stable storage when it resolves.
   * @throws NotSyncedYetError where it could not be done now, and all that is needed for another try is kept; else EIO.
   */
  sync(): Promise<void> {
    // One after another: what a failed one leaves behind is the next one's business.
    const next = this.#last.then(() => this.#sync())
    this.#last = next.catch(() => {})
    return next
  }

  async #sync(): Promise<void> {
    const { lanes, recovery, journal, samples, size, without, onSynced } = this.#options
    let renewed = false
    let since: number | undefined
    for (;;) {
      try {
        if (this.#failed !== undefined && !renewed) {
          renewed = true
          await recovery.renewHandles(this.#failed, since)
        }
        since = await recovery.pass(undefined, since)
      } catch (error) {
        throw this.#notSynced(error)
      }
      // Lost in the very turn in which it might go on: nothing is there that could be synced.
      if (!recovery.isOpen('write')) continue
      if (recovery.takeLostUnkept()) {
        journal.forgetUnkept()
        throw new BlockDeviceError(
          'EIO',
          'the connection was lost, and what was written since the last flush may be lost on the server: no copy of it was kept',
        )
      }
      const { generation } = recovery
      const { number } = journal
      const changes = samples.syncBegins()
      const { bytes } = size
      const open = lanes.lanes.filter((lane) => lane.unsynced)
      const results = await Promise.allSettled(open.map(syncLane))
      let refused: unknown
      for (const [i, result] of results.entries()) {
        if (result.status === 'fulfilled') continue
        if (result.reason instanceof LaneLost) lanes.lose(open[i]!, result.reason)
        else refused ??= result.reason
      }
      if (refused !== undefined) {
        this.#failed = refused instanceof Error ? refused : new Error(String(refused))
        if (without.has('failed-sync')) this.#failed = undefined
        // Everything since the last good one is written again, through new handles, and synced once.
        if (!renewed && journal.keeps && journal.isComplete) continue
        throw this.#notSynced(this.#failed ?? refused)
      }
      // A lane was lost meanwhile: what went through it was, or will be, written again, and is not synced.
      if (generation !== recovery.generation) {
        try {
          since = recovery.goesOn(since)
        } catch (error) {
          throw this.#notSynced(error)
        }
        continue
      }
      this.#failed = undefined
      samples.durable(changes)
      this.#isDurable(number, bytes)
      onSynced()
      return
    }
  }

  #isDurable(number: number, bytes: number | undefined): void {
    const { journal, samples, size } = this.#options
    // A few of the bytes that are durable now tell this file from others later.
    if (number === journal.number) {
      let taken = 0
      for (const entry of journal.entries()) {
        if (taken++ >= samplesOfJournal) break
        if (entry.bytes !== undefined) samples.seen(entry.offset, entry.bytes)
      }
    }
    journal.durable(number)
    size.durable(bytes)
    this.roomMade()
  }

  // While all that is not durable is kept, nothing is lost by a sync that could not be done.
  #notSynced(cause: unknown): Error {
    const { journal, recovery, samples } = this.#options
    const isKept = journal.isComplete && recovery.error === undefined
    if (isKept) return new NotSyncedYetError(cause)
    if (!journal.isComplete) journal.forgetUnkept()
    this.#failed = undefined
    samples.syncFailed()
    return cause instanceof Error ? cause : new Error(String(cause))
  }

  /**
   * Resolves when the journal has room for a copy of so many bytes.
   * @throws BlockDeviceError EIO where a flush that should have made room failed.
   */
  async room(length: number, signal: AbortSignal | undefined): Promise<void> {
    const { journal, canSync } = this.#options
    const failuresBefore = this.#roomFailures
    while (canSync && !journal.hasRoom(length)) {
      signal?.throwIfAborted()
      // Else there is enough under way whose answers make room for a sync to be worth while.
      if (journal.isFilling || !journal.hasUnderWay) this.#makeRoom()
      await new Promise<void>((resolve) => this.#roomWaiters.push(resolve))
      // Those of long ago say nothing.
      if (this.#roomFailures === failuresBefore || journal.hasRoom(length)) continue
      const cause = this.#roomError
      const reason = cause instanceof Error ? cause.message : String(cause)
      const message = `no room to keep a copy of the write, because a flush failed: ${reason}`
      throw new BlockDeviceError('EIO', message, { cause })
    }
  }

  /** A write was acknowledged: syncs before there is no room left. */
  acknowledged(): void {
    const { journal, canSync } = this.#options
    if (canSync && journal.keeps && journal.isFilling) this.#makeRoom()
    if (this.#roomWaiters.length > 0) this.roomMade()
  }

  /** There may be room. */
  roomMade(): void {
    for (const wake of this.#roomWaiters.splice(0)) wake()
  }

  #makeRoom(): void {
    if (this.#forRoom !== undefined) return
    this.#forRoom = this.sync()
      .catch((error: unknown) => {
        this.#roomFailures++
        this.#roomError = error
      })
      .then(() => {
        this.#forRoom = undefined
        this.roomMade()
      })
  }
}

async function syncLane(open: OpenLane): Promise<void> {
  open.syncing = true
  open.unsynced = false
  try {
    await open.lane.sync()
  } catch (error) {
    open.unsynced = true
    throw error
  } finally {
    open.syncing = false
  }
}
