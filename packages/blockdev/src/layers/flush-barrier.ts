// Durability: which bytes are written but perhaps not on stable storage, and the barrier that brings them there.
//   - A flush syncs every handle that was written through since it was last synced. Flushes that come while one is under
//     way share the next one; it starts after the first ends, so it covers every write completed before they were called.
//   - A failed fsync is never forgotten. The kernel reports an error once and drops the pages: the next fsync says OK though
//     the data is gone. So everything written since the last good fsync counts as lost, and flushes fail until every lost
//     byte was written again (by a write that began after the failure) and synced.
//   - A storage that keeps what is not durable (NotSyncedYetError) loses nothing by a sync that fails.
// Owns the sets of dirty and lost ranges; keeps no data.

import { BlockDeviceError } from '../errors.ts'
import { NotSyncedYetError } from '../random-access-file.ts'
import type { FilePool, PooledFile } from './file-pool.ts'
import { IntervalSet } from './interval-set.ts'
import { callError } from './storage-error.ts'

/** What a flush means where the storage cannot sync: refuse to write at all, or succeed after one warning. */
export type FlushPolicy = 'strict' | 'unsafe'

export interface FlushBarrierOptions {
  pool: FilePool
  /** False: flush only pretends (flush policy 'unsafe'). */
  canSync: boolean
  /** Is told once, at the first flush that only pretends. */
  onPretence: () => void
  /** Is told of every range whose content is in doubt after a failed sync, in bytes, half open. */
  onLost?: (start: number, end: number) => void
}

/** A write that began; what `ended` needs to know of it. */
export interface PendingWrite {
  readonly member: PooledFile
  readonly offset: number
  readonly length: number
  readonly failuresAtStart: number
}

export class FlushBarrier {
  readonly #options: FlushBarrierOptions
  /** Written since the last good sync; may be overstated. */
  #dirty = new IntervalSet('join')
  /** Written, and then a sync failed; may be overstated. */
  readonly #lost = new IntervalSet('join')
  /** The size was changed, and then a sync failed: only opening again helps. */
  #lostSize = false
  #sizeChanged = false
  readonly #unsynced = new Set<PooledFile>()
  /** Changes so far, and how many of them the round under way covers. */
  #changes = 0
  #roundCovers = 0
  #failures = 0
  #lastFailure: unknown
  #round: Promise<void> | undefined
  #nextRound: Promise<void> | undefined
  #pretended = false

  constructor(options: FlushBarrierOptions) {
    this.#options = options
  }

  /** Whether anything is not known to be on stable storage. */
  get isDirty(): boolean {
    return this.#unsynced.size > 0 || this.#round !== undefined || this.hasLost
  }

  /** Whether a sync failed and not everything was written again since. */
  get hasLost(): boolean {
    return this.#lostSize || !this.#lost.isEmpty
  }

  /** Syncs that failed so far. */
  get failures(): number {
    return this.#failures
  }

  /** Before a write is sent. */
  begin(member: PooledFile, offset: number, length: number): PendingWrite {
    return { member, offset, length, failuresAtStart: this.#failures }
  }

  /** After it was acknowledged, or failed: a failed one may have reached any part of its range. */
  ended(write: PendingWrite, acknowledged: boolean): void {
    const end = write.offset + write.length
    this.#changed(write.member)
    if (write.failuresAtStart !== this.#failures) {
      // A sync failed while it was under way: it may have been among what was dropped.
      this.#lost.add(write.offset, end)
      this.#options.onLost?.(write.offset, end)
      return
    }
    if (acknowledged) this.#lost.remove(write.offset, end)
    this.#dirty.add(write.offset, end)
  }

  /** The file's size was set through a handle, or may have been; what lies beyond `size` is of no interest any more. */
  sizeWasSet(member: PooledFile, size: number): void {
    this.#changed(member)
    this.#sizeChanged = true
    this.#dirty.remove(size, Number.POSITIVE_INFINITY)
    this.#lost.remove(size, Number.POSITIVE_INFINITY)
  }

  /**
   * Every write that ended before this call is on stable storage when it resolves.
   * @throws BlockDeviceError EIO where a sync fails or failed.
   */
  flush(): Promise<void> {
    // Between the end of a round and the start of the one that waits for it there is none under way.
    if (this.#nextRound !== undefined) return this.#nextRound
    if (this.#round === undefined) return this.#startRound()
    if (this.#roundCovers === this.#changes) return this.#round
    const start = () => {
      this.#nextRound = undefined
      return this.#startRound()
    }
    this.#nextRound = this.#round.then(start, start)
    return this.#nextRound
  }

  #startRound(): Promise<void> {
    this.#roundCovers = this.#changes
    const round = this.#sync().finally(() => {
      this.#round = undefined
    })
    this.#round = round
    return round
  }

  async #sync(): Promise<void> {
    if (!this.#options.canSync) return this.#pretend()
    if (this.hasLost) throw this.#lostError()
    const members = [...this.#unsynced]
    const covered = this.#dirty
    const sizeCovered = this.#sizeChanged
    this.#unsynced.clear()
    this.#dirty = new IntervalSet('join')
    this.#sizeChanged = false
    const results = await Promise.allSettled(members.map(syncMember))
    const failed = results.find((result) => result.status === 'rejected')
    if (failed === undefined) return
    if (failed.reason instanceof NotSyncedYetError) {
      for (const member of members) this.#unsynced.add(member)
      this.#dirty.addAll(covered)
      this.#sizeChanged ||= sizeCovered
      throw callError('flush', failed.reason)
    }
    this.#failures++
    this.#lastFailure = failed.reason
    this.#lost.addAll(covered)
    // Also what was acknowledged since the sync was sent: its pages may have been among those that failed.
    this.#lost.addAll(this.#dirty)
    this.#dirty.clear()
    for (const { start, end } of this.#lost.within()) this.#options.onLost?.(start, end)
    if (sizeCovered || this.#sizeChanged) this.#lostSize = true
    for (const member of members) this.#unsynced.add(member)
    throw callError('flush', failed.reason)
  }

  #pretend(): void {
    if (!this.#pretended) this.#options.onPretence()
    this.#pretended = true
    this.#unsynced.clear()
    this.#dirty.clear()
    this.#sizeChanged = false
  }

  #changed(member: PooledFile): void {
    this.#changes++
    this.#unsynced.add(member)
  }

  #lostError(): BlockDeviceError {
    const what = this.#lostSize
      ? 'open the device again'
      : `write the ${this.#lost.bytes} bytes in doubt again, or open the device again`
    const message = `an earlier flush failed, and what was written before it may be lost: ${what}`
    return new BlockDeviceError('EIO', message, { cause: this.#lastFailure })
  }
}

async function syncMember(member: PooledFile): Promise<void> {
  member.syncing = true
  try {
    await member.file.sync()
  } finally {
    member.syncing = false
  }
}
