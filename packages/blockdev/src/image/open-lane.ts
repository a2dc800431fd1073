// A lane in use: whose it is, what is under way on it, and what is known of who serves it.

import type { ImageConnection, Lane, LaneLost } from './host.ts'
import type { ServerProcesses } from './process-fence.ts'

export interface Range {
  readonly start: number
  readonly end: number
}

export interface OpenConnection {
  readonly connection: ImageConnection
  readonly lanes: Set<OpenLane>
  /** The command that tells who serves these lanes is under way, or has told. Resolves to whether it did; never rejects. */
  learning: { readonly served: ReadonlySet<OpenLane>; readonly done: Promise<boolean> } | undefined
  /** Who serves it, all lanes that may write included; undefined where unknown. */
  processes: ServerProcesses | undefined
  over: Error | undefined
}

/** Twice the window that OpenSSH gives a channel: one is under way, the next is ready when it is answered. */
const fullBytes = 4 * 1024 * 1024

/** A lane with what is under way on it. */
export class OpenLane {
  readonly lane: Lane
  readonly owner: OpenConnection
  readonly epoch: number
  readonly serial: number
  /** Reads and writes under way, in bytes. */
  bytesInFlight = 0
  syncing = false
  /** Something was written through it since it was last synced. */
  unsynced = false
  /** It is known how its session can be fenced, or that it cannot be. */
  mayWrite = false
  /** Writes that were sent and not answered. */
  readonly writes = new Set<Range>()
  /** Who serves its connection, itself included; undefined where unknown. */
  processes: ServerProcesses | undefined
  lost: LaneLost | undefined
  /** It is being found out whether it may write. */
  isLearning = false
  /** Resolves when `mayWrite` is what it will be; never rejects. */
  ready: Promise<void> = Promise.resolve()

  constructor(lane: Lane, owner: OpenConnection, epoch: number, serial: number) {
    this.lane = lane
    this.owner = owner
    this.epoch = epoch
    this.serial = serial
  }

  get writableBytes(): number {
    return this.lane.writableBytes
  }

  /** What is written now would only wait behind what is under way, longer than for a lane that is being opened. */
  get isFull(): boolean {
    return this.bytesInFlight >= fullBytes && this.writableBytes === 0
  }
}

/** Those in the middle of an fsync come last. */
export function leastBusy(lanes: readonly OpenLane[]): OpenLane | undefined {
  let best = lanes[0]
  for (const lane of lanes) {
    if (best === undefined) break
    const better = lane.syncing === best.syncing ? lane.bytesInFlight < best.bytesInFlight : best.syncing
    if (better) best = lane
  }
  return best
}
