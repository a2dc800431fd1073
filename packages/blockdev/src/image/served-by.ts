// Which of the server's processes serve the lanes, learned by a command while they live: what a fence by processes needs after
// a loss. A lane takes no write before it is known, or known that nobody tells.

import { pause, withinTime } from './deadline.ts'
import type { OpenConnection, OpenLane } from './open-lane.ts'
import type { Clock } from './options.ts'
import { learnCommand, learnedProcesses, type ServerProcesses } from './process-fence.ts'

export interface ServedByOptions {
  readonly clock: Clock
  /** The image is open for writing. */
  readonly writable: boolean
  /** Whether commands may be run on the server. */
  readonly mayExec: boolean
  /** How long a command may take, in milliseconds. */
  readonly attemptTimeoutMs: number
  /** Pause before a command is tried again for which there was no channel, in milliseconds. */
  readonly secondTryMs: number
  /** Aborted when the device is closed. */
  readonly closing: AbortSignal
  /** Those in use. */
  readonly lanes: () => readonly OpenLane[]
}

export class ServedBy {
  readonly #options: ServedByOptions
  #tellsProcesses: boolean | undefined

  constructor(options: ServedByOptions) {
    this.#options = options
    if (!options.mayExec) this.#tellsProcesses = false
  }

  /** Whether the server tells its processes, so that an old session could be fenced by them; undefined before it was asked. */
  get tellsProcesses(): boolean | undefined {
    return this.#tellsProcesses
  }

  /** Who serves this lane, where it is to be written through. It may write when that is known, or was never to be known. */
  async learn(open: OpenLane): Promise<void> {
    if (!this.#options.writable) return
    const { owner, lane } = open
    if (this.#tellsProcesses === false || lane.endedOlder !== undefined) {
      open.mayWrite = true
      return
    }
    // One command tells of all lanes that were open when it was run.
    if (owner.learning?.served.has(open) !== true) this.#learnOf(owner)
    const { served, done } = owner.learning!
    const isKnown = (await done) || (this.#tellsProcesses === true && (await this.#learnAgain(open, served)))
    if (open.lost !== undefined || owner.over !== undefined) return
    if (isKnown) open.mayWrite = true
    else if (this.#tellsProcesses === undefined) {
      this.#tellsProcesses = false
      for (const each of this.#options.lanes()) each.mayWrite = true
    }
  }

  // A server that told before and does not now may have had no channel left for the command.
  async #learnAgain(open: OpenLane, before: ReadonlySet<OpenLane>): Promise<boolean> {
    const { owner } = open
    const { secondTryMs, clock, closing } = this.#options
    await pause(secondTryMs, clock, closing)
    if (open.lost !== undefined || owner.over !== undefined || closing.aborted) return false
    if (owner.learning?.served === before) this.#learnOf(owner)
    const { served, done } = owner.learning!
    return served.has(open) && done
  }

  #learnOf(owner: OpenConnection): void {
    const { attemptTimeoutMs, clock, closing } = this.#options
    const served = new Set(owner.lanes)
    const ask = async (): Promise<boolean> => {
      let processes: ServerProcesses | undefined
      try {
        const { exec } = owner.connection
        if (exec !== undefined)
          processes = learnedProcesses(
            await withinTime(attemptTimeoutMs, clock, closing, (signal) => exec(learnCommand, signal)),
          )
      } catch {
        // No command, no channel for it, or no answer: not known.
      }
      // Each lane has a process of its own, or they are not what serves us.
      const isKnown = processes !== undefined && processes.processes.size >= served.size
      if (!isKnown || owner.over !== undefined) return false
      this.#tellsProcesses = true
      owner.processes = processes
      // A list is of those who were there when it was made: not of a lane that is opened later.
      for (const each of served) each.processes ??= processes
      return true
    }
    owner.learning = { served, done: ask() }
  }
}
