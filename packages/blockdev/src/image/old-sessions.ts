// Lost lanes with writes that were not answered, until there is a proof that their servers are done with them (R2 to R4): the
// exit status of the channel; else, over a lane that lives, session epochs or a command that looks for the processes. Where
// there is no proof it is the caller's business to give up, unless the user chose to take the risk.
// Owns these lanes until they are fenced: who waits for their answers learns only then that there are none.

import { BlockDeviceError } from '../errors.ts'
import { untilAborted } from '../layers/abort.ts'
import type { ContentSamples } from './content-samples.ts'
import { withDeadline, withinTime } from './deadline.ts'
import type { LaneSet } from './lane-set.ts'
import type { OpenLane, Range } from './open-lane.ts'
import type { Clock, FenceProof, OnLoss } from './options.ts'
import { fenceCommand, provesGone, type ServerProcesses } from './process-fence.ts'

export interface OldSessionsOptions {
  readonly lanes: LaneSet
  readonly samples: ContentSamples
  readonly clock: Clock
  readonly fence: 'auto' | 'none'
  readonly onLoss: OnLoss
  readonly attemptTimeoutMs: number
  readonly orderlyEndMs: number
  readonly onWarning: (message: string) => void
  /** Aborted when the device is closed or has failed. */
  readonly closing: AbortSignal
  /** Proofs are asked for no more: for tests. */
  readonly believesAll: boolean
}

/** A lost lane with writes in question. */
interface OldSession {
  readonly open: OpenLane
  readonly ranges: readonly Range[]
  readonly processes: ServerProcesses | undefined
}

export class OldSessions {
  readonly #options: OldSessionsOptions
  #sessions: OldSession[] = []
  #proof: FenceProof | 'none' = 'none'

  constructor(options: OldSessionsOptions) {
    this.#options = options
  }

  get isEmpty(): boolean {
    return this.#sessions.length === 0
  }

  /** How the last one was fenced since `begin`. */
  get proof(): FenceProof | 'none' {
    return this.#proof
  }

  begin(): void {
    this.#proof = 'none'
  }

  /** A lane was lost, and writes on it had no answer. */
  add(open: OpenLane): void {
    // In order first: what the server was sent it does, and then it ends.
    open.lane.end()
    const processes = this.#options.fence === 'none' ? undefined : open.processes
    this.#sessions.push({ open, ranges: [...open.writes], processes })
  }

  abandonAll(): void {
    for (const { open } of this.#sessions) open.lane.abandon()
  }

  /**
   * R3 (a): the exit status of the lost channels, where it comes soon. Resolves to whether there is hope for the rest; false
   * where an exit status was the only one.
   */
  async fenceByExit(): Promise<boolean> {
    const { clock, orderlyEndMs, onLoss, fence, closing, believesAll } = this.#options
    await Promise.all(
      this.#sessions.map(async (session) => {
        const waiting = untilAborted(session.open.lane.exited, closing).catch(() => false)
        const hasExited = await withDeadline(waiting, orderlyEndMs, clock, () => false)
        if (hasExited || believesAll) this.#fenced(session, 'exit-status')
      }),
    )
    if (onLoss === 'replay') return true
    return this.#sessions.every(
      ({ processes, open }) =>
        processes !== undefined || (open.lane.endedOlder !== undefined && fence !== 'none'),
    )
  }

  /**
   * R3 (b) and (c). Resolves to false where there is no proof and never will be. Rejects where it may be tried again.
   * @param isPatient whether calls still wait; a proof that could not be asked for is worth another try only then.
   */
  async fenceRest(isPatient: () => boolean): Promise<boolean> {
    const { lanes, onLoss, onWarning, samples, closing } = this.#options
    for (const session of [...this.#sessions]) {
      if (closing.aborted) return true
      const proof = await this.#prove(session, isPatient)
      if (proof !== undefined) this.#fenced(session, proof)
      else if (onLoss === 'replay') {
        onWarning(
          `${rangesText(session.ranges)} are sent again without a proof that the old session is over: it may still write there`,
        )
        // It may come at any time, and so nothing can be told by it.
        for (const { start, end } of session.ranges) samples.haunted(start, end)
        this.#fenced(session, 'none')
      } else return false
      if (lanes.lanes.length === 0) return true
    }
    return true
  }

  /** R4: what the device fails with where there is no proof. */
  unfencedError(cause: Error | undefined): BlockDeviceError {
    const ranges = this.#sessions.flatMap((session) => session.ranges)
    const message = `the connection was lost (${cause?.message ?? 'no reason known'}) while writes had no answer, and nothing proves that the server will not still apply them: ${rangesText(ranges)} are unknown; open the device again when the old session is over, and check or write these ranges`
    const [first] = ranges
    return new BlockDeviceError('EIO', message, {
      ...(first === undefined ? {} : { offset: first.start, length: first.end - first.start }),
      cause,
    })
  }

  async #prove(session: OldSession, isPatient: () => boolean): Promise<FenceProof | undefined> {
    const { lanes, clock, attemptTimeoutMs, fence, closing } = this.#options
    if (fence === 'none') return undefined
    const [living] = lanes.lanes
    if (living === undefined) throw new Error('the lane was lost before the old session was fenced')
    if (session.open.lane.endedOlder !== undefined) {
      // Sessions of one epoch end together: those that live give way.
      if (living.epoch <= session.open.epoch) {
        lanes.destroyAll(new Error('all sessions are opened again, so that the lost one can be fenced'))
        throw new Error('the lost session is fenced by a new epoch')
      }
      if (living.lane.endedOlder?.has(session.open.serial) === true) return 'session-epoch'
    }
    const { processes } = session
    if (processes === undefined) return undefined
    const patience = Math.max(1, Math.floor(attemptTimeoutMs / 2000))
    const command = fenceCommand(processes.processes, patience)
    try {
      const output = await withinTime(attemptTimeoutMs, clock, closing, (signal) =>
        lanes.exec(command, signal),
      )
      if (provesGone(output, processes.machine)) return 'processes'
    } catch (error) {
      // Not asked is not refused.
      if (isPatient()) throw error
    }
    return undefined
  }

  #fenced(session: OldSession, proof: FenceProof | 'none'): void {
    this.#sessions = this.#sessions.filter((other) => other !== session)
    this.#proof = proof
    // Those who wait for its answers learn that there are none, and send again when they may.
    session.open.lane.abandon()
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
