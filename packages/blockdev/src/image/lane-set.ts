// The lanes in use, on one or several connections: which one a request takes, and when more are opened.
//   - Reads go to the least busy lane that is not in the middle of an fsync. Writes leave one lane alone where there are
//     several, so that reads always have one that no fsync blocks.
//   - A further lane is opened only while growth.ts says that it would help: first channels on the connection that is
//     there, then connections, one after another. What the server refuses is not asked for again.
//   - A further lane is used only when it is proved to be of the same file.
//   - A lane takes writes only when it is known how its session could be fenced, or that it cannot be (served-by.ts).
// Owns connections and lanes. What becomes of their requests is the caller's business: it is told of every loss.

import { BlockDeviceError } from '../errors.ts'
import { pause, withDeadline, withinTime } from './deadline.ts'
import { IdentityError } from './errors.ts'
import { type Direction, Growth } from './growth.ts'
import { type CommandOutput, type ImageConnection, type ImageHost, type Lane, LaneLost } from './host.ts'
import { leastBusy, type OpenConnection, OpenLane } from './open-lane.ts'
import type { Clock } from './options.ts'
import { areSameFile } from './same-file.ts'
import { ServedBy } from './served-by.ts'

export interface LaneSetOptions {
  readonly host: ImageHost
  readonly clock: Clock
  readonly random: () => number
  /** The image is open for writing. */
  readonly writable: boolean
  /** Whether commands may be run on the server to learn who serves us. */
  readonly mayExec: boolean
  readonly maxChannels: number
  readonly maxConnections: number
  /** Opened at once, without a measured need. */
  readonly minChannels: number
  readonly minConnections: number
  /** How long opening a connection or lane may take, in milliseconds. */
  readonly attemptTimeoutMs: number
  /** A lane in use is of no use any more; once for each. */
  readonly onLost: (lane: OpenLane) => void
  readonly onWarning: (message: string) => void
}

/** Pause before a channel is asked for again that was refused, in milliseconds. */
const secondTryMs = 100

export class LaneSet {
  readonly #options: LaneSetOptions
  #growth = new Growth()
  readonly #connections = new Set<OpenConnection>()
  readonly #closing = new AbortController()
  #lanes: OpenLane[] = []
  #maxChannels: number
  #maxConnections: number
  readonly #servedBy: ServedBy
  #identity: string | undefined
  #epoch = 1
  /** Of the next lane; the device's first one has 1. */
  #serial = 2
  #wantsSecond = false
  #opening: Promise<void> | undefined
  /** Who waits for a lane that may write. */
  #waiters: (() => void)[] = []

  constructor(options: LaneSetOptions) {
    this.#options = options
    this.#maxChannels = options.maxChannels
    this.#maxConnections = options.maxConnections
    const closing = this.#closing.signal
    this.#servedBy = new ServedBy({ ...options, secondTryMs, closing, lanes: () => this.#lanes })
  }

  get lanes(): readonly OpenLane[] {
    return this.#lanes
  }

  get connections(): number {
    return this.#connections.size
  }

  /** Whether an old session could be fenced by processes. */
  get tellsProcesses(): boolean | undefined {
    return this.#servedBy.tellsProcesses
  }

  /** Takes the connection and lane that the image was opened with. */
  adopt(connection: ImageConnection, lane: Lane): void {
    this.#identity = connection.identity
    const owner = this.#own(connection)
    const begun = this.#openBegun(owner)
    this.use(this.#opened(lane, owner, this.#epoch, 1), begun)
    this.openLeast(begun)
  }

  // Lanes that were begun with the connection: all that could be opened.
  async #openBegun(owner: OpenConnection): Promise<OpenLane[]> {
    const count = owner.connection.begunLanes ?? 0
    const openOne = () => this.#inTime((signal) => this.#openLane(owner, signal))
    const opened = await Promise.allSettled(Array.from({ length: count }, openOne))
    const lanes = opened.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
    if (lanes.length === count || this.#servedBy.tellsProcesses !== undefined) return lanes
    // The server gives no more channels, and the command that tells who serves us needs one.
    const spare = lanes.pop()
    if (spare !== undefined) {
      owner.lanes.delete(spare)
      spare.lane.abandon()
      await this.#inTime(() => spare.lane.lost).catch(() => {})
      await pause(secondTryMs, this.#options.clock, this.#closing.signal)
    }
    return lanes
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
    this.#growth.finished(bytes)
  }

  /** Requests wait on all lanes: opens more where that would help. */
  considerGrowth(direction: Direction): void {
    if (this.#opening !== undefined || this.#growth.isOver) return
    // Nor is a channel taken from a command that finds out who serves us.
    if (this.#lanes.some((lane) => lane.isLearning)) return
    const first = this.#lanes[0]
    if (first === undefined) return
    const loads =
      direction === 'write' ? this.#lanes.filter((lane, i) => lane.mayWrite && i !== 1) : this.#lanes
    const { roundTripMs } = first.owner.connection
    if (this.#growth.wants(direction, loads, this.#options.clock.now(), roundTripMs))
      this.#open(() => this.#grow(Growth.step(this.#lanes.length, roundTripMs)))
  }

  /** From the first write on there shall be a lane that no fsync blocks. */
  wantSecond(): void {
    if (this.#wantsSecond || this.#opening !== undefined) return
    const [first] = this.#lanes
    if (first === undefined) return
    this.#wantsSecond = true
    // The channel of a command that is under way must not count against those that the server gives.
    if (this.#lanes.length === 1)
      this.#open(async () => {
        await first.ready
        const { clock } = this.#options
        // The shortest of both: a busy machine makes single ones long.
        const roundTripMs = () =>
          Math.min(
            first.owner.connection.roundTripMs ?? 0,
            first.lane.roundTripMs ?? Number.POSITIVE_INFINITY,
          )
        if (!Growth.isFar(roundTripMs())) return this.#grow(1)
        // Each opening takes ten round trips: where a stream fills the first lane within one, all are opened together.
        await pause(roundTripMs(), clock, this.#closing.signal)
        const isBound = Growth.isFar(roundTripMs()) && Growth.isBound('write', first)
        return this.#grow(isBound ? this.#maxChannels : 1)
      })
  }

  /** Opens what is wanted without a measured need; at open, and after everything was lost. `begun` are lanes to begin with. */
  openLeast(begun?: Promise<readonly OpenLane[]>): void {
    const { minChannels, minConnections } = this.#options
    const first = this.#lanes[0]
    if (first === undefined || this.#opening !== undefined || (minChannels <= 1 && minConnections <= 1))
      return
    const isEnough = () =>
      this.#connections.size >= Math.min(minConnections, this.#maxConnections) &&
      [...this.#connections].every(({ lanes }) => lanes.size >= Math.min(minChannels, this.#maxChannels))
    this.#open(async () => {
      if (begun !== undefined) await this.#useProved(await begun)
      await first.ready
      for (let more = true; more && !isEnough() && first.lost === undefined; ) {
        const before = this.#lanes.length
        const needed = [...this.#connections].find(({ lanes }) => lanes.size < minChannels)
        more = await this.#grow(minChannels - (needed?.lanes.size ?? 1), needed)
        more &&= this.#lanes.length > before
      }
      return true
    })
  }

  /** A new connection with one lane, not in use yet. The caller uses or abandons it. */
  async connect(signal: AbortSignal): Promise<OpenLane> {
    const connection = await this.#options.host.connect(signal)
    try {
      this.#checkIdentity(connection)
      const owner = this.#own(connection)
      return await this.#openLane(owner, signal)
    } catch (error) {
      connection.destroy()
      throw error
    }
  }

  /** One more lane on a connection that has lost all of its own, not in use yet; undefined where there is none. */
  async reopen(signal: AbortSignal): Promise<OpenLane | undefined> {
    for (const owner of this.#connections) {
      if (owner.over !== undefined) continue
      try {
        return await this.#openLane(owner, signal)
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
        if (this.#servedBy.tellsProcesses !== false && open.lane.endedOlder === undefined) await beside
        await this.#servedBy.learn(open)
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
    await this.#servedBy.learn(first)
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
    const { maxChannels, maxConnections } = this.#options
    this.#epoch++
    this.#growth = new Growth()
    this.#wantsSecond = false
    this.#maxChannels = maxChannels
    this.#maxConnections = maxConnections
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
      await this.#opening
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

  async #openLane(owner: OpenConnection, signal: AbortSignal): Promise<OpenLane> {
    const epoch = this.#epoch
    const serial = this.#serial++
    const lane = await owner.connection.openLane({ signal, epoch, serial })
    // The session ended while it was opened: what comes of an older epoch is of no use.
    if (epoch === this.#epoch && owner.over === undefined) return this.#opened(lane, owner, epoch, serial)
    lane.abandon()
    throw owner.over ?? new Error('the session ended while a channel was opened')
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

  #open(work: () => Promise<boolean>): void {
    const { onWarning } = this.#options
    const growth = this.#growth
    this.#opening = work()
      .then(
        (more) => growth.opened(more),
        (error: unknown) => {
          growth.opened(false)
          if (error instanceof IdentityError) onWarning(error.message)
        },
      )
      .finally(() => {
        this.#opening = undefined
      })
  }

  // Opens channels, at most as many as `most`, or one connection. Resolves to whether there can be more.
  async #grow(most: number, wanted?: OpenConnection): Promise<boolean> {
    const epoch = this.#epoch
    const owners = [...this.#connections]
    const hasRoom = ({ lanes }: OpenConnection) => lanes.size < this.#maxChannels
    const roomy =
      wanted === undefined
        ? // Where only the least is wanted, the next thing is a connection.
          owners.find((owner) => hasRoom(owner) && most > 0)
        : owners.find((owner) => owner === wanted && hasRoom(owner))
    let fresh: OpenLane[]
    if (roomy !== undefined) {
      const count = Math.min(most, this.#maxChannels - roomy.lanes.size)
      const openOne = () =>
        this.#inTime((signal) => this.#openLane(roomy, signal)).catch(async (error: unknown) => {
          // sshd counts a channel that was closed a moment ago: refused twice is refused.
          await pause(secondTryMs, this.#options.clock, this.#closing.signal)
          if (roomy.over !== undefined || this.#closing.signal.aborted) throw error
          return this.#inTime((signal) => this.#openLane(roomy, signal))
        })
      const opened = await Promise.allSettled(Array.from({ length: count }, openOne))
      fresh = opened.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
      if (fresh.length < count && roomy.over === undefined) this.#maxChannels = Math.max(1, roomy.lanes.size)
    } else if (owners.length < this.#maxConnections) {
      try {
        fresh = [await this.#inTime((signal) => this.connect(signal))]
      } catch (error) {
        // Of an outage nothing is learned of what the server refuses.
        if (epoch === this.#epoch) this.#maxConnections = Math.max(1, owners.length)
        throw error
      }
    } else return false
    await this.#useProved(fresh)
    return true
  }

  // Lanes that turn out to be of another file are not used.
  async #useProved(fresh: readonly OpenLane[]): Promise<void> {
    const { writable, random, onWarning } = this.#options
    const giveUp = (open: OpenLane) => {
      open.owner.lanes.delete(open)
      open.lane.abandon()
      if (open.owner.lanes.size === 0 && this.#connections.size > 1) open.owner.connection.destroy()
    }
    const first = this.#lanes[0]
    if (first === undefined || fresh.length === 0) return fresh.forEach(giveUp)
    let proved: boolean[]
    try {
      const lanes = fresh.map(({ lane }) => lane)
      proved = await areSameFile(first.lane, lanes, { mayMark: writable, random })
    } catch (error) {
      fresh.forEach(giveUp)
      // One that the server does not let us mark (times are the owner's) is simply not proved.
      if (error instanceof LaneLost) return
      this.#maxChannels = 1
      this.#maxConnections = 1
      return
    }
    for (const [i, open] of fresh.entries()) {
      const isSame = proved[i] === true && (await this.#isSameMachine(open, first.owner))
      if (isSame && open.owner.over === undefined) this.use(open)
      else giveUp(open)
    }
    if (proved.includes(false)) {
      this.#maxChannels = 1
      this.#maxConnections = 1
      onWarning(
        'the path of the image leads to another file by now, or one that cannot be told from the open one',
      )
    }
  }

  // Two machines that share a file do not always agree on its content: where the server tells, it must be the same one.
  async #isSameMachine(open: OpenLane, owner: OpenConnection): Promise<boolean> {
    if (open.owner === owner) return true
    await this.#servedBy.learn(open)
    const [machine, first] = [open.owner.processes?.machine, owner.processes?.machine]
    if (machine === first || machine === undefined || first === undefined) return true
    this.#maxConnections = 1
    return false
  }

  #inTime<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { clock, attemptTimeoutMs } = this.#options
    return withinTime(attemptTimeoutMs, clock, this.#closing.signal, work)
  }
}
