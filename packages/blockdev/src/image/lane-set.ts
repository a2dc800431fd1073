// The lanes in use, on one or several connections, and which one a request takes.
//   - Reads go to the least busy lane that is not in the middle of an fsync. Writes leave one lane alone where there are
//     several, so that reads always have one that no fsync blocks.
//   - A lane takes writes only when it is known how its session could be fenced, or that it cannot be (served-by.ts).
// Owns connections and lanes; when more are opened is further-lanes.ts' to say. What becomes of their requests is the
// caller's business: it is told of every loss.

import { BlockDeviceError } from '../errors.ts'
import { withDeadline } from './deadline.ts'
import { IdentityError } from './errors.ts'
import { FurtherLanes, type FurtherLanesOptions, type LaneOwner, secondTryMs } from './further-lanes.ts'
import type { Direction } from './growth.ts'
import { type CommandOutput, type ImageConnection, type ImageHost, type Lane, LaneLost } from './host.ts'
import { leastBusy, type OpenConnection, OpenLane } from './open-lane.ts'
import { ServedBy } from './served-by.ts'

export interface LaneSetOptions extends FurtherLanesOptions {
  readonly host: ImageHost
  /** Whether commands may be run on the server to learn who serves us. */
  readonly mayExec: boolean
  /** A lane in use is of no use any more; once for each. */
  readonly onLost: (lane: OpenLane) => void
}

export class LaneSet implements LaneOwner {
  readonly #options: LaneSetOptions
  readonly #connections = new Set<OpenConnection>()
  readonly #closing = new AbortController()
  #lanes: OpenLane[] = []
  readonly servedBy: ServedBy
  readonly #further: FurtherLanes
  #identity: string | undefined
  #epoch = 1
  /** Of the next lane; the device's first one has 1. */
  #serial = 2
  /** Who waits for a lane that may write. */
  #waiters: (() => void)[] = []

  constructor(options: LaneSetOptions) {
    this.#options = options
    const closing = this.#closing.signal
    this.servedBy = new ServedBy({ ...options, secondTryMs, closing, lanes: () => this.#lanes })
    this.#further = new FurtherLanes(options, this, closing)
  }

  get lanes(): readonly OpenLane[] {
    return this.#lanes
  }

  get owners(): ReadonlySet<OpenConnection> {
    return this.#connections
  }

  /** Raised when everything was lost. */
  get epoch(): number {
    return this.#epoch
  }

  /** Whether an old session could be fenced by processes. */
  get tellsProcesses(): boolean | undefined {
    return this.servedBy.tellsProcesses
  }

  /** Takes the connection and lane that the image was opened with. */
  adopt(connection: ImageConnection, lane: Lane): void {
    this.#identity = connection.identity
    const owner = this.#own(connection)
    const begun = this.#further.openBegun(owner)
    this.use(this.#opened(lane, owner, this.#epoch, 1), begun)
    this.#further.openLeast(begun)
  }

  /** The lane for the next read; undefined where there is none. */
  reader(): OpenLane | undefined {
    return leastBusy(this.#lanes)
  }

  /** The lane for the next write; undefined where none may write now. */
  writer(): OpenLane | undefined {
    const able = this.#lanes.filter((lane) => lane.mayWrite)
    if (able.length < 2 || able.length < this.#lanes.length) return leastBusy(able)
    return leastBusy(able.filter((_, i) => i !== 1))
  }

  get hasReader(): boolean {
    return this.#lanes.length > 0
  }

  /** Whether there is a lane that may write; true where nothing is ever written. */
  get hasWriter(): boolean {
    return !this.#options.writable || this.#lanes.some((lane) => lane.mayWrite)
  }

  /** Resolves when a lane may write, or it is known that none does. */
  async writerKnown(): Promise<void> {
    while (!this.hasWriter && this.#lanes.some((lane) => lane.isLearning))
      await new Promise<void>((resolve) => this.#waiters.push(resolve))
  }

  /** Resolves when a lane may have room for a write that found all full; in the order of the calls. Never rejects. */
  room(): Promise<void> {
    return new Promise((resolve) => this.#waiters.push(resolve))
  }

  /** A request is over: there may be room. */
  roomMade(): void {
    if (this.#waiters.length > 0) this.#changed()
  }

  /** Bytes of a read or write were answered. */
  finished(bytes: number): void {
    this.#further.finished(bytes)
  }

  /** Requests wait on all lanes: opens more where that would help. */
  considerGrowth(direction: Direction): void {
    this.#further.consider(direction)
  }

  /** From the first write on there shall be a lane that no fsync blocks. */
  wantSecond(): void {
    this.#further.wantSecond()
  }

  /** Opens what is wanted without a measured need, after everything was lost. */
  openLeast(): void {
    this.#further.openLeast()
  }

  /** A new connection with one lane, not in use yet. The caller uses or abandons it. */
  async connect(signal: AbortSignal): Promise<OpenLane> {
    const connection = await this.#options.host.connect(signal)
    try {
      this.#checkIdentity(connection)
      const owner = this.#own(connection)
      return await this.openLane(owner, signal)
    } catch (error) {
      connection.destroy()
      throw error
    }
  }

  /** One more lane on a connection, not in use yet. */
  async openLane(owner: OpenConnection, signal: AbortSignal): Promise<OpenLane> {
    const epoch = this.#epoch
    const serial = this.#serial++
    const lane = await owner.connection.openLane({ signal, epoch, serial })
    // The session ended while it was opened: what comes of an older epoch is of no use.
    if (epoch === this.#epoch && owner.over === undefined) return this.#opened(lane, owner, epoch, serial)
    lane.abandon()
    throw owner.over ?? new Error('the session ended while a channel was opened')
  }

  /** One more lane on a connection that has lost all of its own, not in use yet; undefined where there is none. */
  async reopen(signal: AbortSignal): Promise<OpenLane | undefined> {
    for (const owner of this.#connections) {
      if (owner.over !== undefined) continue
      try {
        return await this.openLane(owner, signal)
      } catch {
        // Of no use any more, whatever it is that ails it.
        owner.connection.destroy()
        this.#over(owner, new Error('the connection gives no channel any more'))
      }
    }
    return undefined
  }

  /** From now on the lane carries requests. It is found out whether it may write when those `beside` it are open. */
  use(open: OpenLane, beside?: Promise<unknown>): void {
    this.#lanes.push(open)
    if (!open.mayWrite && this.#options.writable) {
      open.isLearning = true
      const learn = async () => {
        // One command shall tell of all; where none is run there is nothing to wait for.
        if (this.servedBy.tellsProcesses !== false && open.lane.endedOlder === undefined) await beside
        await this.servedBy.learn(open)
      }
      open.ready = learn().finally(() => {
        open.isLearning = false
        this.#changed()
      })
    }
    void open.lane.lost.then((lost) => this.lose(open, lost))
    this.#changed()
  }

  /** Sees to it that a lane may write, where there is any. */
  async ensureWriter(): Promise<void> {
    await Promise.all(this.#lanes.map((lane) => lane.ready))
    const first = this.#lanes[0]
    if (first === undefined || !this.#options.writable || this.#lanes.some((lane) => lane.mayWrite)) return
    await this.servedBy.learn(first)
    // Where the server told before, and does not now: better unfenced than never.
    if (first.lost !== undefined) return
    first.mayWrite = true
    this.#changed()
  }

  /** The lane is of no use any more. */
  lose(open: OpenLane, lost: LaneLost): void {
    if (open.lost !== undefined) return
    open.lost = lost
    this.#lanes = this.#lanes.filter((other) => other !== open)
    open.owner.lanes.delete(open)
    this.#options.onLost(open)
    this.#changed()
  }

  /** Gives up every connection, so that a new epoch can begin. */
  destroyAll(reason: Error): void {
    for (const owner of [...this.#connections]) {
      owner.connection.destroy()
      this.#over(owner, reason)
    }
    this.newEpoch()
  }

  /** All connections are lost: those that come belong to a new epoch, and what was learned of the server may not hold. */
  newEpoch(): void {
    this.#epoch++
    this.#further.newEpoch()
  }

  /** A command on any connection that is there. */
  async exec(command: string, signal: AbortSignal): Promise<CommandOutput> {
    for (const { connection, over } of this.#connections) {
      if (over === undefined && connection.exec !== undefined) return connection.exec(command, signal)
    }
    throw new BlockDeviceError('ENOTSUP', 'no connection that runs commands')
  }

  /** Gives up what is being opened. */
  stopOpening(): void {
    this.#closing.abort(new BlockDeviceError('EBADF', 'the device is closed'))
  }

  /** Opens nothing any more; closes lanes, then connections, in order; those that do not end in time are destroyed. */
  async close(withinMs: number): Promise<void> {
    this.stopOpening()
    const { clock } = this.#options
    const orderly = async () => {
      await this.#further.opening
      const errors = await Promise.allSettled(this.#lanes.map(({ lane }) => lane.close()))
      await Promise.all([...this.#connections].map(({ connection }) => connection.close().catch(() => {})))
      for (const result of errors)
        if (result.status === 'rejected' && !(result.reason instanceof LaneLost)) throw result.reason
    }
    const destroy = () => {
      for (const { connection } of this.#connections) connection.destroy()
    }
    try {
      await withDeadline(orderly(), withinMs, clock, () => undefined)
    } finally {
      destroy()
    }
  }

  #changed(): void {
    for (const wake of this.#waiters.splice(0)) wake()
  }

  #own(connection: ImageConnection): OpenConnection {
    const owner: OpenConnection = {
      connection,
      lanes: new Set(),
      learning: undefined,
      processes: undefined,
      over: undefined,
    }
    this.#connections.add(owner)
    void connection.over.then((error) => this.#over(owner, error))
    return owner
  }

  #opened(lane: Lane, owner: OpenConnection, epoch: number, serial: number): OpenLane {
    const open = new OpenLane(lane, owner, epoch, serial)
    owner.lanes.add(open)
    return open
  }

  #over(owner: OpenConnection, error: Error): void {
    if (owner.over !== undefined) return
    owner.over = error
    this.#connections.delete(owner)
    for (const open of [...owner.lanes]) this.lose(open, new LaneLost('gone', error))
  }

  #checkIdentity({ identity }: ImageConnection): void {
    if (identity === this.#identity) return
    throw new IdentityError('who answers now has another host key, or lets in another user, than at first')
  }
}
