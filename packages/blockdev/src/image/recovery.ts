// After a loss: back to a state in which calls can go on, or the end. One procedure for all losses, repeated until nothing is
// left to do:
//   1. A lane, where none is left: on a connection that lives, or on a new one; who answers and what file it is are checked.
//   2. Fences: for every lost lane with writes that were not answered, a proof that its server is done with them
//      (old-sessions.ts).
//   3. The journal is written again, where something that was not durable went through a lost lane (journal-rewrite.ts).
// Meanwhile writes wait, and reads where no lane was left. The outage budget ends their waiting, not the attempts.
// Owns the state that users see, the gates, and what is left to do.

import { BlockDeviceError } from '../errors.ts'
import { untilAborted } from '../layers/abort.ts'
import type { ContentSamples } from './content-samples.ts'
import { pause, withinTime } from './deadline.ts'
import { AccessRefusedError, IdentityError } from './errors.ts'
import { Gate } from './gate.ts'
import { LaneLost } from './host.ts'
import { checkIdentity } from './identity.ts'
import type { ImageSize } from './image-size.ts'
import type { Journal } from './journal.ts'
import { JournalRewrite } from './journal-rewrite.ts'
import type { LaneSet } from './lane-set.ts'
import { OldSessions } from './old-sessions.ts'
import type { OpenLane } from './open-lane.ts'
import type { Clock, ConnectionEvent, ConnectionState, OnLoss } from './options.ts'
import type { Rule } from './rules.ts'

export interface RecoveryOptions {
  readonly lanes: LaneSet
  readonly journal: Journal
  readonly samples: ContentSamples
  readonly size: ImageSize
  readonly clock: Clock
  readonly random: () => number
  readonly writable: boolean
  readonly reconnectDelayMs: number
  readonly onLoss: OnLoss
  readonly fence: 'auto' | 'none'
  readonly firstRetryMs: number
  readonly maxRetryMs: number
  readonly attemptTimeoutMs: number
  readonly orderlyEndMs: number
  readonly onState: (event: ConnectionEvent) => void
  readonly onWarning: (message: string) => void
  readonly without: ReadonlySet<Rule>
}

export class Recovery {
  readonly #options: RecoveryOptions
  readonly #writes = new Gate()
  readonly #reads = new Gate()
  readonly #closing = new AbortController()
  #state: ConnectionState = 'connected'
  readonly #oldSessions: OldSessions
  readonly #rewrite: JournalRewrite
  #needsRewrite = false
  #running: Promise<void> | undefined
  #since = 0
  #attempts = 0
  #lastError: Error | undefined
  #error: BlockDeviceError | undefined
  #isBudgetOver = false
  #losses = 0
  #restored = 0
  #generation = 0
  #lostUnkept = false
  #drainers: (() => void)[] = []

  constructor(options: RecoveryOptions) {
    this.#options = options
    const closing = this.#closing.signal
    this.#oldSessions = new OldSessions({ ...options, closing, believesAll: options.without.has('fence') })
    this.#rewrite = new JournalRewrite({ ...options, closing, onWriteEnded: () => this.writeEnded() })
  }

  get state(): ConnectionState {
    return this.#state
  }

  /** Why the device failed for good. */
  get error(): BlockDeviceError | undefined {
    return this.#error
  }

  get losses(): number {
    return this.#losses
  }

  get restored(): number {
    return this.#restored
  }

  /** Whether bytes were lost of which there is no copy; true once. */
  takeLostUnkept(): boolean {
    const lost = this.#lostUnkept
    this.#lostUnkept = false
    return lost
  }

  /** Grows with every loss. */
  get generation(): number {
    return this.#generation
  }

  get outage(): { sinceMs: number; attempts: number; lastError: string } | undefined {
    if (this.#running === undefined) return undefined
    const sinceMs = this.#options.clock.now() - this.#since
    return { sinceMs, attempts: this.#attempts, lastError: this.#lastError?.message ?? '' }
  }

  /** Whether calls of this kind go on at once. */
  isOpen(direction: 'read' | 'write'): boolean {
    return (direction === 'read' ? this.#reads : this.#writes).isOpen
  }

  /**
   * Resolves when writes may go on, to since when the call waits; rejects with the error that it shall have.
   * @param since what the call was told before, so that all its waits together are within the budget
   */
  async pass(signal: AbortSignal | undefined, since: number | undefined): Promise<number | undefined> {
    return this.#within(this.#writes, signal, since)
  }

  /**
   * For a call that found no lane: resolves when it may look again, as `pass` does. Where calls may go on and there still is
   * no lane, it is this that sees to it that there will be one.
   */
  async wait(
    direction: 'read' | 'write',
    signal: AbortSignal | undefined,
    since: number | undefined,
  ): Promise<number | undefined> {
    const { lanes } = this.#options
    const gate = direction === 'read' ? this.#reads : this.#writes
    if (gate.isOpen && direction === 'write') await untilAborted(lanes.writerKnown(), signal)
    if (gate.isOpen && !(direction === 'read' ? lanes.hasReader : lanes.hasWriter)) {
      gate.close()
      this.#start(this.#lastError ?? new Error('no channel is left that this could go through'))
    }
    return this.#within(gate, signal, since)
  }

  /**
   * For a call whose lane was lost: it may go on as soon as it can. Returns since when it waits.
   * @throws BlockDeviceError EIO where it has done so for as long as the budget: the line comes and goes.
   */
  goesOn(since: number | undefined): number {
    const { clock, reconnectDelayMs } = this.#options
    const now = clock.now()
    // Of a device that has failed it learns at the gate.
    if (since === undefined || now - since < reconnectDelayMs || this.#error !== undefined)
      return since ?? now
    throw this.#lostAgain(since)
  }

  // The wait for one gate, for no longer than the call has left.
  async #within(
    gate: Gate,
    signal: AbortSignal | undefined,
    since: number | undefined,
  ): Promise<number | undefined> {
    signal?.throwIfAborted()
    if (gate.isOpen) return since
    const { clock, reconnectDelayMs } = this.#options
    const began = since ?? clock.now()
    if (began >= this.#since) {
      // Whoever came during this outage is told by the end of its budget.
      await gate.pass(signal)
      return began
    }
    const leftMs = began + reconnectDelayMs - clock.now()
    const over = () => this.#lostAgain(began)
    await withinTime(Math.max(0, leftMs), clock, signal, (either) => gate.pass(either), over)
    return began
  }

  #lostAgain(since: number): BlockDeviceError {
    const waited = Math.round(this.#options.clock.now() - since)
    const reason = this.#lastError?.message ?? 'no reason known'
    const message = `the connection was lost again and again for ${waited} ms (${reason}); the device goes on trying`
    return new BlockDeviceError('EIO', message, { cause: this.#lastError })
  }

  /** A lane in use was lost. */
  lost(open: OpenLane): void {
    const { lanes } = this.#options
    if (this.#error !== undefined || this.#closing.signal.aborted) return open.lane.abandon()
    this.#losses++
    this.#generation++
    const cause = open.lost!.cause
    this.#lastError = cause
    if (open.writes.size > 0) this.#oldSessions.add(open)
    else open.lane.abandon()
    if (open.unsynced || open.syncing || lanes.lanes.length === 0) this.#needsRewrite = true
    if (this.#isDone) return
    this.#writes.close()
    if (lanes.lanes.length === 0) {
      if (this.#running !== undefined && this.#isBudgetOver) this.#reads.refuse(this.#overBudget)
      else this.#reads.close()
    }
    this.#start(cause)
  }

  /**
   * Every lane gets a new handle, and what is not durable is written again through those: after an fsync that failed.
   * Resolves when the old handles are gone and writes wait; rejects where the device failed before.
   */
  async renewHandles(cause: Error, since: number | undefined): Promise<void> {
    await this.pass(undefined, since)
    this.#writes.close()
    await this.#drain()
    // Failed or closed meanwhile: over for good.
    this.#closing.signal.throwIfAborted()
    this.#needsRewrite = true
    const { lanes } = this.#options
    for (const open of [...lanes.lanes]) lanes.lose(open, new LaneLost('gone', cause))
    // Where the last lane was lost meanwhile, it is being done already.
    this.#start(cause)
  }

  /** A write on a lane that lives was answered. */
  writeEnded(): void {
    for (const wake of this.#drainers.splice(0)) wake()
  }

  /** Gives up for good. */
  fail(error: BlockDeviceError): void {
    if (this.#error !== undefined) return
    this.#error = error
    this.#state = 'failed'
    const refuse = (make: () => Error) => {
      this.#reads.refuse(make)
      this.#writes.refuse(make)
    }
    refuse(() => error)
    // Those who come later learn that it is over, and why.
    refuse(() => {
      const message = `the device has failed and must be opened again: ${error.message}`
      return new BlockDeviceError('ESHUTDOWN', message, { cause: error })
    })
    this.#closing.abort(error)
    this.#options.lanes.destroyAll(error)
    this.#oldSessions.abandonAll()
    this.#options.onState({ type: 'failed', error })
  }

  /** Ends all attempts; whoever waits is refused. Resolves when nothing of this is under way. */
  async close(): Promise<void> {
    const closed = () => new BlockDeviceError('EBADF', 'the device is closed')
    this.#closing.abort(closed())
    this.#reads.refuse(closed)
    this.#writes.refuse(closed)
    this.#oldSessions.abandonAll()
    this.writeEnded()
    if (this.#running === undefined) return
    // Whatever it waits for is not worth waiting for any more.
    this.#options.lanes.stopOpening()
    this.#options.lanes.destroyAll(closed())
    await this.#running
  }

  get #isDone(): boolean {
    const { lanes } = this.#options
    return this.#oldSessions.isEmpty && !this.#needsRewrite && lanes.hasReader && lanes.hasWriter
  }

  #start(cause: Error): void {
    if (this.#running !== undefined || this.#closing.signal.aborted) return
    this.#running = this.#run(cause)
  }

  async #run(cause: Error): Promise<void> {
    const { clock, onState, reconnectDelayMs } = this.#options
    this.#since = clock.now()
    this.#attempts = 0
    this.#isBudgetOver = false
    this.#oldSessions.begin()
    this.#rewrite.begin()
    this.#state = 'reconnecting'
    onState({ type: 'lost', cause })
    const timer = clock.setTimer(() => this.#budgetOver(), reconnectDelayMs)
    if (reconnectDelayMs <= 0) this.#budgetOver()
    // What is lost together tells so in one turn.
    await Promise.resolve()
    try {
      // Lanes may be lost until the very turn in which calls go on.
      do await this.#attempt()
      while (!this.#isDone && !this.#closing.signal.aborted)
    } finally {
      clock.clearTimer(timer)
      this.#running = undefined
    }
    if (this.#closing.signal.aborted) return
    this.#state = 'connected'
    this.#restored++
    this.#writes.open()
    this.#reads.open()
    this.#options.lanes.openLeast()
    onState({
      type: 'restored',
      outageMs: clock.now() - this.#since,
      fence: this.#oldSessions.proof,
      rewrittenBytes: this.#rewrite.bytes,
    })
  }

  // Until nothing is left to do, or the device failed or was closed.
  async #attempt(): Promise<void> {
    const { clock, onState, firstRetryMs, maxRetryMs, random } = this.#options
    const { signal } = this.#closing
    let pauseMs = firstRetryMs
    for (;;) {
      this.#attempts++
      onState({ type: 'reconnecting', attempt: this.#attempts, sinceMs: clock.now() - this.#since })
      const generation = this.#generation
      try {
        await this.#once()
        if (signal.aborted) return
        if (this.#isDone && generation === this.#generation) return
        // What was lost in the middle of it is tried again at once.
        if (generation !== this.#generation) continue
        throw this.#lastError ?? new Error('no channel can be written through')
      } catch (error) {
        if (signal.aborted) return
        const cause = error instanceof Error ? error : new Error(String(error))
        this.#lastError = cause
        if (cause instanceof IdentityError) return this.fail(cause)
        if (cause instanceof AccessRefusedError) {
          if (this.#isBudgetOver) return this.fail(cause)
          // Servers count refused logins.
          pauseMs = Math.max(pauseMs, Math.min(maxRetryMs, 10 * firstRetryMs))
        }
        const nextTryInMs = pauseMs * (0.5 + random() / 2)
        onState({ type: 'attempt-failed', attempt: this.#attempts, cause, nextTryInMs })
        await pause(nextTryInMs, clock, signal)
        if (signal.aborted) return
        pauseMs = Math.min(maxRetryMs, pauseMs * 2)
      }
    }
  }

  async #once(): Promise<void> {
    const { lanes } = this.#options
    const { signal } = this.#closing
    const unfenced = () => this.fail(this.#oldSessions.unfencedError(this.#lastError))
    const mayBeFenced = await this.#oldSessions.fenceByExit()
    if (signal.aborted) return
    if (!mayBeFenced) return unfenced()
    if (lanes.lanes.length === 0) await this.#connect()
    const isFenced = await this.#oldSessions.fenceRest(() => !this.#isBudgetOver)
    if (signal.aborted) return
    if (!isFenced) return unfenced()
    await lanes.ensureWriter()
    await this.#drain()
    if (this.#needsRewrite && lanes.lanes.length > 0) await this.#writeAgain()
  }

  async #connect(): Promise<void> {
    const { lanes, clock, attemptTimeoutMs, size, samples, onWarning, without } = this.#options
    lanes.newEpoch()
    await withinTime(attemptTimeoutMs, clock, this.#closing.signal, async (signal) => {
      const open = (await lanes.reopen(signal)) ?? (await lanes.connect(signal))
      const giveUp = () => {
        open.owner.lanes.delete(open)
        open.lane.abandon()
        open.owner.connection.destroy()
      }
      signal.addEventListener('abort', giveUp, { once: true })
      try {
        if (!without.has('identity')) await checkIdentity(open.lane, size, samples, onWarning)
        signal.throwIfAborted()
        lanes.use(open)
      } catch (error) {
        giveUp()
        throw error
      } finally {
        signal.removeEventListener('abort', giveUp)
      }
    })
  }

  // Writes on lanes that live are answered; new ones wait at the gate.
  async #drain(): Promise<void> {
    const { lanes } = this.#options
    while (!this.#closing.signal.aborted && lanes.lanes.some((open) => open.writes.size > 0))
      await new Promise<void>((resolve) => this.#drainers.push(resolve))
  }

  // R5.
  async #writeAgain(): Promise<void> {
    const { lanes, journal, samples, without, writable } = this.#options
    const generation = this.#generation
    const open = lanes.writer()
    if (writable && open === undefined)
      throw new Error('the lane was lost before the journal was written again')
    if (open !== undefined && !without.has('journal')) await this.#rewrite.run(open)
    if (generation !== this.#generation || this.#closing.signal.aborted) return
    this.#needsRewrite = false
    if (journal.isComplete) return
    this.#lostUnkept = true
    samples.lostUnsynced()
  }

  #budgetOver(): void {
    const { onState, clock } = this.#options
    this.#isBudgetOver = true
    if (!this.#reads.isOpen) this.#reads.refuse(this.#overBudget)
    this.#writes.refuse(this.#overBudget)
    onState({ type: 'budget-over', waitedMs: clock.now() - this.#since })
  }

  readonly #overBudget = (): BlockDeviceError => {
    const waited = Math.round(this.#options.clock.now() - this.#since)
    const reason = this.#lastError?.message ?? 'no reason known'
    const message = `no connection to the server for ${waited} ms (${reason}); the device goes on trying to connect again`
    return new BlockDeviceError('EIO', message, { cause: this.#lastError })
  }
}
