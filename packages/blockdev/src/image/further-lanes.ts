// Lanes beyond the first one: when more are opened, how many, and on which connection.
//   - A further lane is opened only while growth.ts says that it would help: first channels on the connection that is
//     there, then connections, one after another. What the server refuses is not asked for again.
//   - A further lane is used only when it is proved to be of the same file.
// Owns what was measured and what the server refused; the lanes themselves are the lane set's.

import { pause, withinTime } from './deadline.ts'
import { isFar } from './distance.ts'
import { IdentityError } from './errors.ts'
import { type Direction, Growth } from './growth.ts'
import { LaneLost } from './host.ts'
import type { OpenConnection, OpenLane } from './open-lane.ts'
import type { Clock } from './options.ts'
import { areSameFile } from './same-file.ts'
import type { ServedBy } from './served-by.ts'

export interface FurtherLanesOptions {
  readonly clock: Clock
  readonly random: () => number
  /** The image is open for writing. */
  readonly writable: boolean
  readonly maxChannels: number
  readonly maxConnections: number
  /** Opened at once, without a measured need. */
  readonly minChannels: number
  readonly minConnections: number
  /** How long opening a connection or lane may take, in milliseconds. */
  readonly attemptTimeoutMs: number
  readonly onWarning: (message: string) => void
}

/** What the lanes are opened for. */
export interface LaneOwner {
  readonly lanes: readonly OpenLane[]
  readonly owners: ReadonlySet<OpenConnection>
  /** Raised when everything was lost. */
  readonly epoch: number
  readonly servedBy: ServedBy
  /** One more lane on a connection, not in use yet. */
  openLane(owner: OpenConnection, signal: AbortSignal): Promise<OpenLane>
  /** A new connection with one lane, not in use yet. */
  connect(signal: AbortSignal): Promise<OpenLane>
  /** From now on the lane carries requests. */
  use(open: OpenLane): void
}

/** Pause before something is asked for again that was refused for want of a channel, in milliseconds. */
export const secondTryMs = 100

export class FurtherLanes {
  readonly #options: FurtherLanesOptions
  readonly #set: LaneOwner
  readonly #closing: AbortSignal
  #growth = new Growth()
  #maxChannels: number
  #maxConnections: number
  #wantsSecond = false
  #opening: Promise<void> | undefined

  /** @param closing aborted when the device is closed: what is being opened is given up. */
  constructor(options: FurtherLanesOptions, set: LaneOwner, closing: AbortSignal) {
    this.#options = options
    this.#set = set
    this.#closing = closing
    this.#maxChannels = options.maxChannels
    this.#maxConnections = options.maxConnections
  }

  /** What is being opened now; never rejects. */
  get opening(): Promise<void> | undefined {
    return this.#opening
  }

  /** Bytes of a read or write were answered. */
  finished(bytes: number): void {
    this.#growth.finished(bytes)
  }

  /** Requests wait on all lanes: opens more where that would help. */
  consider(direction: Direction): void {
    if (this.#opening !== undefined || this.#growth.isOver) return
    const { lanes } = this.#set
    // Nor is a channel taken from a command that finds out who serves us.
    if (lanes.some((lane) => lane.isLearning)) return
    const first = lanes[0]
    if (first === undefined) return
    const loads = direction === 'write' ? lanes.filter((lane, i) => lane.mayWrite && i !== 1) : lanes
    const { roundTripMs } = first.owner.connection
    if (this.#growth.wants(direction, loads, this.#options.clock.now(), roundTripMs))
      this.#open(() => this.#grow(Growth.step(this.#set.lanes.length, roundTripMs)))
  }

  /** From the first write on there shall be a lane that no fsync blocks. */
  wantSecond(): void {
    if (this.#wantsSecond || this.#opening !== undefined) return
    const { lanes } = this.#set
    const [first] = lanes
    if (first === undefined) return
    this.#wantsSecond = true
    // The channel of a command that is under way must not count against those that the server gives.
    if (lanes.length === 1)
      this.#open(async () => {
        await first.ready
        const { clock } = this.#options
        // The shortest of both: a busy machine makes single ones long.
        const roundTripMs = () =>
          Math.min(
            first.owner.connection.roundTripMs ?? 0,
            first.lane.roundTripMs ?? Number.POSITIVE_INFINITY,
          )
        if (!isFar(roundTripMs())) return this.#grow(1)
        // Each opening takes ten round trips: where a stream fills the first lane within one, all are opened together.
        await pause(roundTripMs(), clock, this.#closing)
        const isBound = isFar(roundTripMs()) && Growth.isBound('write', first)
        return this.#grow(isBound ? this.#maxChannels : 1)
      })
  }

  /** Opens what is wanted without a measured need; at open, and after everything was lost. `begun` are lanes to begin with. */
  openLeast(begun?: Promise<readonly OpenLane[]>): void {
    const { minChannels, minConnections } = this.#options
    const first = this.#set.lanes[0]
    if (first === undefined || this.#opening !== undefined || (minChannels <= 1 && minConnections <= 1))
      return
    const { owners } = this.#set
    const isEnough = () =>
      owners.size >= Math.min(minConnections, this.#maxConnections) &&
      [...owners].every(({ lanes }) => lanes.size >= Math.min(minChannels, this.#maxChannels))
    this.#open(async () => {
      if (begun !== undefined) await this.#useProved(await begun)
      await first.ready
      for (let more = true; more && !isEnough() && first.lost === undefined; ) {
        const before = this.#set.lanes.length
        const needed = [...owners].find(({ lanes }) => lanes.size < minChannels)
        more = await this.#grow(minChannels - (needed?.lanes.size ?? 1), needed)
        more &&= this.#set.lanes.length > before
      }
      return true
    })
  }

  /** Lanes that were begun with the connection: all that could be opened, not in use yet. Never rejects. */
  async openBegun(owner: OpenConnection): Promise<OpenLane[]> {
    const count = owner.connection.begunLanes ?? 0
    const opened = await Promise.allSettled(Array.from({ length: count }, () => this.#openLane(owner)))
    const lanes = opened.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
    if (lanes.length === count || this.#set.servedBy.tellsProcesses !== undefined) return lanes
    // The server gives no more channels, and the command that tells who serves us needs one.
    const spare = lanes.pop()
    if (spare !== undefined) {
      owner.lanes.delete(spare)
      spare.lane.abandon()
      await this.#inTime(() => spare.lane.lost).catch(() => {})
      await pause(secondTryMs, this.#options.clock, this.#closing)
    }
    return lanes
  }

  /** All connections are lost: what was learned of the server may not hold for those that come. */
  newEpoch(): void {
    const { maxChannels, maxConnections } = this.#options
    this.#growth = new Growth()
    this.#wantsSecond = false
    this.#maxChannels = maxChannels
    this.#maxConnections = maxConnections
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
    const set = this.#set
    const { epoch } = set
    const owners = [...set.owners]
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
        this.#openLane(roomy).catch(async (error: unknown) => {
          // sshd counts a channel that was closed a moment ago: refused twice is refused.
          await pause(secondTryMs, this.#options.clock, this.#closing)
          if (roomy.over !== undefined || this.#closing.aborted) throw error
          return this.#openLane(roomy)
        })
      const opened = await Promise.allSettled(Array.from({ length: count }, openOne))
      fresh = opened.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
      if (fresh.length < count && roomy.over === undefined) this.#maxChannels = Math.max(1, roomy.lanes.size)
    } else if (owners.length < this.#maxConnections) {
      try {
        fresh = [await this.#inTime((signal) => set.connect(signal))]
      } catch (error) {
        // Of an outage nothing is learned of what the server refuses.
        if (epoch === set.epoch) this.#maxConnections = Math.max(1, owners.length)
        throw error
      }
    } else return false
    await this.#useProved(fresh)
    return true
  }

  // Lanes that turn out to be of another file are not used.
  async #useProved(fresh: readonly OpenLane[]): Promise<void> {
    const { writable, random, onWarning } = this.#options
    const set = this.#set
    const giveUp = (open: OpenLane) => {
      open.owner.lanes.delete(open)
      open.lane.abandon()
      if (open.owner.lanes.size === 0 && set.owners.size > 1) open.owner.connection.destroy()
    }
    const first = set.lanes[0]
    if (first === undefined || fresh.length === 0) return fresh.forEach(giveUp)
    let proved: boolean[]
    try {
      const lanes = fresh.map(({ lane }) => lane)
      proved = await areSameFile(first.lane, lanes, { mayMark: writable, random })
    } catch (error) {
      fresh.forEach(giveUp)
      // One that the server does not let us mark (times are the owner's) is simply not proved.
      if (!(error instanceof LaneLost)) this.#openNoMore()
      return
    }
    for (const [i, open] of fresh.entries()) {
      const isSame = proved[i] === true && (await this.#isSameMachine(open, first.owner))
      if (isSame && open.owner.over === undefined) set.use(open)
      else giveUp(open)
    }
    if (proved.includes(false)) {
      this.#openNoMore()
      onWarning(
        'the path of the image leads to another file by now, or one that cannot be told from the open one',
      )
    }
  }

  #openNoMore(): void {
    this.#maxChannels = 1
    this.#maxConnections = 1
  }

  // Two machines that share a file do not always agree on its content: where the server tells, it must be the same one.
  async #isSameMachine(open: OpenLane, owner: OpenConnection): Promise<boolean> {
    if (open.owner === owner) return true
    await this.#set.servedBy.learn(open)
    const [machine, first] = [open.owner.processes?.machine, owner.processes?.machine]
    if (machine === first || machine === undefined || first === undefined) return true
    this.#maxConnections = 1
    return false
  }

  #openLane(owner: OpenConnection): Promise<OpenLane> {
    return this.#inTime((signal) => this.#set.openLane(owner, signal))
  }

  #inTime<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { clock, attemptTimeoutMs } = this.#options
    return withinTime(attemptTimeoutMs, clock, this.#closing, work)
  }
}
