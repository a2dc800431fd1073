// After a loss: back to a state in which calls can go on, or the end. One procedure for all losses, repeated until nothing is
// left to do:
//   1. A lane, where none is left: on a connection that lives, or on a new one; who answers and what file it is are checked.
//   2. Fences: for every lost lane with writes that were not answered, a proof that its server is done with them.
//   3. The journal is written again, where something that was not durable went through a lost lane.
// Meanwhile writes wait, and reads where no lane was left. The outage budget ends their waiting, not the attempts.
// Owns the state that users see, the gates and the list of what is in question.

import { BlockDeviceError } from '../errors.ts'
import { untilAborted } from '../layers/abort.ts'
import { zeroPiece } from '../layers/zeroing.ts'
import type { FileKind } from '../random-access-file.ts'
import type { ContentSamples } from './content-samples.ts'
import { pause, withDeadline, withinTime } from './deadline.ts'
import { AccessRefusedError, IdentityError } from './errors.ts'
import { Gate } from './gate.ts'
import { type Lane, LaneLost } from './host.ts'
import type { Journal } from './journal.ts'
import type { LaneSet, OpenLane, Range } from './lane-set.ts'
import type { Clock, ConnectionEvent, ConnectionState, FenceProof, OnLoss } from './options.ts'
import { fenceCommand, provesGone, type ServerProcesses } from './process-fence.ts'
import type { Rule } from './rules.ts'

/** What the image knows of its size. */
export interface KnownSize {
  readonly kind: FileKind
  /** Bytes now; undefined where the storage never told. */
  readonly bytes: number | undefined
  /** Bytes that are certain to be on stable storage. */
  readonly durableBytes: number
  /** The size was set, and not synced since. */
  readonly isSetUnsynced: boolean
}

export interface RecoveryOptions {
  readonly lanes: LaneSet
  readonly journal: Journal
  readonly samples: ContentSamples
  readonly size: () => KnownSize
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

/** A lost lane with writes in question. */
interface Wreck {
  readonly open: OpenLane
  readonly ranges: readonly Range[]
  readonly processes: ServerProcesses | undefined
}

/** Bytes of the journal under way at once while it is written again. */
const rewriteWindowBytes = 4 * 1024 * 1024

export class Recovery {
  readonly #options: RecoveryOptions
  readonly #writes = new Gate()
  readonly #reads = new Gate()
  readonly #closing = new AbortController()
  #state: ConnectionState = 'connected'
  #wrecks: Wreck[] = []
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
  #proof: FenceProof | 'none' = 'none'
  #rewrittenBytes = 0
  #drainers: (() => void)[] = []

  constructor(options: RecoveryOptions) {
    this.#options = options
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

  /** Resolves when writes may go on; rejects with the error that the call shall have. */
  pass(signal: AbortSignal | undefined): Promise<void> {
    return this.#writes.pass(signal)
  }

  /**
   * For a call that found no lane: resolves when it may look again. Rejects with the error that the call shall have. Where
   * calls may go on and there still is no lane, it is this that sees to it that there will be one.
   */
  async wait(direction: 'read' | 'write', signal: AbortSignal | undefined): Promise<void> {
    const { lanes } = this.#options
    const gate = direction === 'read' ? this.#reads : this.#writes
    if (gate.isOpen && direction === 'write') await untilAborted(lanes.writerKnown(), signal)
    if (gate.isOpen && !(direction === 'read' ? lanes.hasReader : lanes.hasWriter)) {
      gate.close()
      this.#start(this.#lastError ?? new Error('no channel is left that this could go through'))
    }
    await gate.pass(signal)
  }

  /** A lane in use was lost. */
  lost(open: OpenLane): void {
    const { lanes, fence } = this.#options
    if (this.#error !== undefined || this.#closing.signal.aborted) return open.lane.abandon()
    this.#losses++
    this.#generation++
    const cause = open.lost!.cause
    this.#lastError = cause
    if (open.writes.size > 0) {
      // In order first: what the server was sent it does, and then it ends.
      open.lane.end()
      this.#wrecks.push({
        open,
        ranges: [...open.writes],
        processes: fence === 'none' ? undefined : open.processes,
      })
    } else open.lane.abandon()
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
  async renewHandles(cause: Error): Promise<void> {
    await this.#writes.pass(undefined)
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
    for (const { open } of this.#wrecks) open.lane.abandon()
    this.#options.onState({ type: 'failed', error })
  }

  /** Ends all attempts; whoever waits is refused. Resolves when nothing of this is under way. */
  async close(): Promise<void> {
    const closed = () => new BlockDeviceError('EBADF', 'the device is closed')
    this.#closing.abort(closed())
    this.#reads.refuse(closed)
    this.#writes.refuse(closed)
    for (const { open } of this.#wrecks) open.lane.abandon()
    this.writeEnded()
    if (this.#running === undefined) return
    // Whatever it waits for is not worth waiting for any more.
    this.#options.lanes.stopOpening()
    this.#options.lanes.destroyAll(closed())
    await this.#running
  }

  get #isDone(): boolean {
    const { lanes } = this.#options
    return this.#wrecks.length === 0 && !this.#needsRewrite && lanes.hasReader && lanes.hasWriter
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
    this.#proof = 'none'
    this.#rewrittenBytes = 0
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
      fence: this.#proof,
      rewrittenBytes: this.#rewrittenBytes,
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
    await this.#fenceByExit()
    if (this.#closing.signal.aborted) return
    if (lanes.lanes.length === 0) await this.#connect()
    await this.#fenceRest()
    if (this.#closing.signal.aborted) return
    await lanes.ensureWriter()
    await this.#drain()
    if (this.#needsRewrite && lanes.lanes.length > 0) await this.#rewrite()
  }

  async #connect(): Promise<void> {
    const { lanes, clock, attemptTimeoutMs } = this.#options
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
        await this.#verify(open)
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

  // R7 and R8.
  async #verify({ lane }: OpenLane): Promise<void> {
    if (this.#options.without.has('identity')) return
    const { samples, size, onWarning } = this.#options
    const { kind, bytes, durableBytes, isSetUnsynced } = size()
    const status = await lane.status()
    if (status.kind !== kind)
      throw new IdentityError(`the image is a ${status.kind} now, and was a ${kind} when it was opened`)
    if (bytes !== undefined && status.size !== undefined) {
      const least = isSetUnsynced ? 0 : Math.min(bytes, durableBytes)
      if (status.size < least)
        throw new IdentityError(`the file became shorter: it has ${status.size} bytes, and had ${least}`)
      if (status.size > bytes && !isSetUnsynced)
        onWarning(
          `the file became longer: it has ${status.size} bytes, and had ${bytes}; the rest is left alone`,
        )
    }
    if (!samples.proves && kind === 'file' && (bytes ?? 0) > 0)
      throw new IdentityError(
        'the connection was lost before anything of the file was seen by which it could be told from another one',
      )
    const difference = await samples.firstDifference((offset, into) => lane.read(offset, into))
    if (difference !== undefined)
      throw new IdentityError(
        `the file is not the one that was opened: its content differs at byte ${difference}; it was replaced, or changed by somebody else`,
      )
  }

  // R3 (a): the exit status of the lost channel. Where that is the only hope and it does not come, it is over.
  async #fenceByExit(): Promise<void> {
    const { clock, orderlyEndMs, onLoss } = this.#options
    await Promise.all(
      this.#wrecks.map(async (wreck) => {
        const { exited } = wreck.open.lane
        const { signal } = this.#closing
        const waiting = untilAborted(exited, signal).catch(() => false)
        const hasExited = await withDeadline(waiting, orderlyEndMs, clock, () => false)
        if (hasExited || this.#options.without.has('fence')) this.#fenced(wreck, 'exit-status')
      }),
    )
    if (onLoss === 'replay') return
    const isHopeless = ({ processes, open }: Wreck) =>
      processes === undefined && (open.lane.endedOlder === undefined || this.#options.fence === 'none')
    if (this.#wrecks.some(isHopeless)) this.#failUnfenced()
  }

  // R3 (b) and (c).
  async #fenceRest(): Promise<void> {
    const { lanes, onLoss, onWarning } = this.#options
    for (const wreck of [...this.#wrecks]) {
      if (this.#closing.signal.aborted) return
      const proof = await this.#prove(wreck)
      if (proof !== undefined) this.#fenced(wreck, proof)
      else if (onLoss === 'replay') {
        onWarning(
          `${rangesText(wreck.ranges)} are sent again without a proof that the old session is over: it may still write there`,
        )
        // It may come at any time, and so nothing can be told by it.
        for (const { start, end } of wreck.ranges) this.#options.samples.haunted(start, end)
        this.#fenced(wreck, 'none')
      } else return this.#failUnfenced()
      if (lanes.lanes.length === 0) return
    }
  }

  async #prove(wreck: Wreck): Promise<FenceProof | undefined> {
    const { lanes, clock, attemptTimeoutMs, fence } = this.#options
    if (fence === 'none') return undefined
    const [living] = lanes.lanes
    if (living === undefined) throw new Error('the lane was lost before the old session was fenced')
    if (wreck.open.lane.endedOlder !== undefined) {
      // Sessions of one epoch end together: those that live give way.
      if (living.epoch <= wreck.open.epoch) {
        lanes.destroyAll(new Error('all sessions are opened again, so that the lost one can be fenced'))
        throw new Error('the lost session is fenced by a new epoch')
      }
      if (living.lane.endedOlder?.has(wreck.open.serial) === true) return 'session-epoch'
    }
    const { processes } = wreck
    if (processes === undefined) return undefined
    const patience = Math.max(1, Math.floor(attemptTimeoutMs / 2000))
    const command = fenceCommand(processes.processes, patience)
    try {
      const output = await withinTime(attemptTimeoutMs, clock, this.#closing.signal, (signal) =>
        lanes.exec(command, signal),
      )
      if (provesGone(output, processes.machine)) return 'processes'
    } catch (error) {
      // Not asked is not refused: it is tried again while calls still wait.
      if (!this.#isBudgetOver) throw error
    }
    return undefined
  }

  #fenced(wreck: Wreck, proof: FenceProof | 'none'): void {
    this.#wrecks = this.#wrecks.filter((other) => other !== wreck)
    this.#proof = proof
    // Those who wait for its answers learn that there are none, and send again when they may.
    wreck.open.lane.abandon()
  }

  // R4.
  #failUnfenced(): void {
    const ranges = this.#wrecks.flatMap((wreck) => wreck.ranges)
    const cause = this.#lastError
    const message = `the connection was lost (${cause?.message ?? 'no reason known'}) while writes had no answer, and nothing proves that the server will not still apply them: ${rangesText(ranges)} are unknown; open the device again when the old session is over, and check or write these ranges`
    const [first] = ranges
    this.fail(
      new BlockDeviceError('EIO', message, {
        ...(first === undefined ? {} : { offset: first.start, length: first.end - first.start }),
        cause,
      }),
    )
  }

  // Writes on lanes that live are answered; new ones wait at the gate.
  async #drain(): Promise<void> {
    const { lanes } = this.#options
    while (!this.#closing.signal.aborted && lanes.lanes.some((open) => open.writes.size > 0))
      await new Promise<void>((resolve) => this.#drainers.push(resolve))
  }

  // R5.
  async #rewrite(): Promise<void> {
    const { lanes, journal, samples, size, without, writable } = this.#options
    const generation = this.#generation
    const open = lanes.writer()
    if (writable && open === undefined)
      throw new Error('the lane was lost before the journal was written again')
    if (open !== undefined && !without.has('journal')) {
      await this.#restoreSize(open, size())
      const underWay = new Set<Promise<void>>()
      let bytesUnderWay = 0
      let firstError: unknown
      for (const { offset, length, bytes } of journal.entries()) {
        const cost = bytes === undefined ? rewriteWindowBytes : length
        while (bytesUnderWay > 0 && bytesUnderWay + cost > rewriteWindowBytes) await Promise.race(underWay)
        if (firstError !== undefined || this.#closing.signal.aborted) break
        bytesUnderWay += cost
        const work = bytes === undefined ? this.#zeroAgain(offset, length) : this.#writeAgain(offset, bytes)
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
    if (generation !== this.#generation || this.#closing.signal.aborted) return
    this.#needsRewrite = false
    if (journal.isComplete) return
    this.#lostUnkept = true
    samples.lostUnsynced()
  }

  async #restoreSize({ lane }: OpenLane, { bytes, isSetUnsynced }: KnownSize): Promise<void> {
    if (bytes === undefined) return
    const { size } = await lane.status()
    if (size === undefined || size === bytes) return
    const from = { start: bytes, end: Number.POSITIVE_INFINITY }
    if (size < bytes || isSetUnsynced) await this.#onWriter(from, (writer) => writer.setSize(bytes))
  }

  async #zeroAgain(offset: number, length: number): Promise<void> {
    const range = { start: offset, end: offset + length }
    const isDone = await this.#onWriter(
      range,
      (lane) => lane.zero?.(offset, length) ?? Promise.resolve(false),
    )
    for (let done = 0; !isDone && done < length; ) {
      const piece = zeroPiece(length - done)
      await this.#writeAgain(offset + done, piece)
      done += piece.length
    }
  }

  async #writeAgain(offset: number, bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const at = offset + done
      const range = { start: at, end: offset + bytes.length }
      const taken = await this.#onWriter(range, (lane) => lane.write(at, bytes.subarray(done)))
      if (taken <= 0) throw new Error('the storage takes nothing while the journal is written again')
      done += taken
      this.#rewrittenBytes += taken
    }
  }

  // What is written again is a write as any other: without an answer it may arrive late, over something newer.
  async #onWriter<T>(range: Range, work: (lane: Lane) => Promise<T>): Promise<T> {
    const { lanes } = this.#options
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
      this.writeEnded()
    }
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

function rangesText(ranges: readonly Range[]): string {
  const shown = [...ranges]
    .sort((a, b) => a.start - b.start)
    .slice(0, 8)
    .map(({ start, end }) => (end === Number.POSITIVE_INFINITY ? `from ${start} on` : `${start} to ${end}`))
  const more = ranges.length > shown.length ? ` and ${ranges.length - shown.length} more` : ''
  return `bytes ${shown.join(', ')}${more}`
}
