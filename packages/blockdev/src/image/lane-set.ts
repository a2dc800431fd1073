// The lanes in use, on one or several connections: which one a request takes, when more are opened, and what is known of
// the server's processes behind them.
//   - Reads go to the least busy lane that is not in the middle of an fsync. Writes leave one lane alone where there are
//     several, so that reads always have one that no fsync blocks.
//   - A further lane is opened only while growth.ts says that it would help: first channels on the connection that is
//     there, then connections, one after another. What the server refuses is not asked for again.
//   - A further lane is used only when it is proved to be of the same file.
//   - A lane takes writes only when it is known how its session could be fenced, or that it cannot be.
// Owns connections and lanes. What becomes of their requests is the caller's business: it is told of every loss.

import { BlockDeviceError } from '../errors.ts'
import { pause, withDeadline, withinTime } from './deadline.ts'
import { IdentityError } from './errors.ts'
import { type Direction, Growth } from './growth.ts'
import { type CommandOutput, type ImageConnection, type ImageHost, type Lane, LaneLost } from './host.ts'
import type { Clock } from './options.ts'
import { learnCommand, learnedProcesses, type ServerProcesses } from './process-fence.ts'
import { areSameFile } from './same-file.ts'

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

export interface Range {
  readonly start: number
  readonly end: number
}

export interface OpenConnection {
  readonly connection: ImageConnection
  readonly lanes: Set<OpenLane>
  /** Who serves it, all lanes that may write included; undefined where unknown. */
  processes: ServerProcesses | undefined
  over: Error | undefined
}

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
}

export class LaneSet {
  readonly #options: LaneSetOptions
  readonly #growth = new Growth()
  readonly #connections = new Set<OpenConnection>()
  readonly #closing = new AbortController()
  #lanes: OpenLane[] = []
  #maxChannels: number
  #maxConnections: number
  /** Whether the server tells its processes; undefined before it was asked. */
  #tellsProcesses: boolean | undefined
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
    if (!options.mayExec) this.#tellsProcesses = false
  }

  get lanes(): readonly OpenLane[] {
    return this.#lanes
  }

  get connections(): number {
    return this.#connections.size
  }

  /** Whether an old session could be fenced by processes. */
  get tellsProcesses(): boolean | undefined {
    return this.#tellsProcesses
  }

  /** Takes the connection and lane that the image was opened with. */
  adopt(connection: ImageConnection, lane: Lane): void {
    this.#identity = connection.identity
    this.use(this.#opened(lane, this.#own(connection), this.#epoch, 1))
    this.openLeast()
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
    if (this.#wantsSecond) return
    this.#wantsSecond = true
    const [first] = this.#lanes
    // The channel of a command that is under way must not count against those that the server gives.
    if (this.#lanes.length === 1 && this.#opening === undefined)
      this.#open(async () => {
        await first!.ready
        const { clock } = this.#options
        // The shortest of both: a busy machine makes single ones long.
        const roundTripMs = () =>
          Math.min(
            first!.owner.connection.roundTripMs ?? 0,
            first!.lane.roundTripMs ?? Number.POSITIVE_INFINITY,
          )
        if (!Growth.isFar(roundTripMs())) return this.#grow(1)
        // Each opening takes ten round trips: where a stream fills the first lane within one, all are opened together.
        await pause(roundTripMs(), clock, this.#closing.signal)
        const isBound = Growth.isFar(roundTripMs()) && Growth.isBound('write', first!)
        return this.#grow(isBound ? this.#maxChannels : 1)
      })
  }

  /** Opens what is wanted without a measured need; at open, and after everything was lost. */
  openLeast(): void {
    const { minChannels, minConnections } = this.#options
    const first = this.#lanes[0]
    if (first === undefined || this.#opening !== undefined || (minChannels <= 1 && minConnections <= 1))
      return
    const isEnough = () =>
      this.#connections.size >= Math.min(minConnections, this.#maxConnections) &&
      [...this.#connections].every(({ lanes }) => lanes.size >= Math.min(minChannels, this.#maxChannels))
    this.#open(async () => {
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

  /** From now on the lane carries requests. */
  use(open: OpenLane): void {
    this.#lanes.push(open)
    if (!open.mayWrite && this.#options.writable) {
      open.isLearning = true
      open.ready = this.#learn(open).finally(() => {
        open.isLearning = false
        this.#changed()
      })
    }
    void open.lane.lost.then((lost) => this.lose(open, lost))
  }

  /** Sees to it that a lane may write, where there is any. */
  async ensureWriter(): Promise<void> {
    await Promise.all(this.#lanes.map((lane) => lane.ready))
    const first = this.#lanes[0]
    if (first === undefined || !this.#options.writable || this.#lanes.some((lane) => lane.mayWrite)) return
    await this.#learn(first)
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

  /** All connections are lost: those that come belong to a new epoch. */
  newEpoch(): void {
    this.#epoch++
    this.#growth.reset()
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
    const owner: OpenConnection = { connection, lanes: new Set(), processes: undefined, over: undefined }
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
    this.#opening = work()
      .then(
        (more) => this.#growth.opened(more),
        (error: unknown) => {
          this.#growth.opened(false)
          if (error instanceof IdentityError) onWarning(error.message)
        },
      )
      .finally(() => {
        this.#opening = undefined
      })
  }

  // Opens channels, at most as many as `most`, or one connection. Resolves to whether there can be more.
  async #grow(most: number, wanted?: OpenConnection): Promise<boolean> {
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
        this.#maxConnections = Math.max(1, owners.length)
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
    await this.#learn(open)
    const [machine, first] = [open.owner.processes?.machine, owner.processes?.machine]
    if (machine === first || machine === undefined || first === undefined) return true
    this.#maxConnections = 1
    return false
  }

  // Who serves this lane, where it is to be written through. It may write when that is known, or was never to be known.
  async #learn(open: OpenLane): Promise<void> {
    const { writable } = this.#options
    if (!writable) return
    const { owner, lane } = open
    if (this.#tellsProcesses === false || lane.endedOlder !== undefined) {
      open.mayWrite = true
      return
    }
    const served = [...owner.lanes]
    let processes: ServerProcesses | undefined
    try {
      const { exec } = owner.connection
      if (exec !== undefined)
        processes = learnedProcesses(await this.#inTime((signal) => exec(learnCommand, signal)))
    } catch {
      // No command, no channel for it, or no answer: not known.
    }
    if (open.lost !== undefined || owner.over !== undefined) return
    // Each lane has a process of its own, or they are not what serves us.
    if (processes !== undefined && processes.processes.size >= served.length) {
      this.#tellsProcesses = true
      owner.processes = processes
      // A list is of those who were there when it was made: not of a lane that is opened later.
      for (const each of served) each.processes ??= processes
      open.mayWrite = true
    } else if (this.#tellsProcesses === undefined) {
      this.#tellsProcesses = false
      for (const each of this.#lanes) each.mayWrite = true
    }
  }

  #inTime<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { clock, attemptTimeoutMs } = this.#options
    return withinTime(attemptTimeoutMs, clock, this.#closing.signal, work)
  }
}

function leastBusy(lanes: readonly OpenLane[]): OpenLane | undefined {
  let best = lanes[0]
  for (const lane of lanes) {
    if (best === undefined) break
    const better = lane.syncing === best.syncing ? lane.bytesInFlight < best.bytesInFlight : best.syncing
    if (better) best = lane
  }
  return best
}
