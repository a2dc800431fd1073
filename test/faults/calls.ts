// The calls that a history makes: how long each takes, and whether those that fail have a reason to.

import { BlockDeviceError, type SftpDevice } from '@sshblock/blockdev'
import type { Damage } from './damage.ts'
import type { HistorySetup } from './history.ts'
import { describe, type HistoryCounts } from './history-result.ts'
import type { VirtualTime } from './model/virtual-time.ts'
import type { Oracle } from './oracle.ts'

export interface CallsOptions {
  readonly setup: HistorySetup
  readonly time: VirtualTime
  readonly oracle: Oracle
  readonly damage: Damage
  readonly counts: HistoryCounts
  readonly device: () => SftpDevice
  readonly note: (what: string) => void
}

interface Call {
  readonly name: string
  readonly controller: AbortController
  readonly calledAt: number
  readonly kind: 'read' | 'write' | 'flush'
  /** Reasons for failures that there had been before it was called. */
  readonly excusesBefore: number
  /** Losses that there had been, one that goes on not counted. */
  readonly lossesBefore: number
  done: boolean
}

export class Calls {
  readonly #options: CallsOptions
  #calls: Call[] = []
  /** Buffers that were given back: what they held then. */
  #returned: { readonly buffer: Uint8Array; readonly copy: Uint8Array }[] = []
  /** Reasons for a call to fail, so far. */
  #excuses = 0
  isOverBudget = false
  /** A sync failed, or what was not synced was lost without a copy: flushes may fail until one succeeds. */
  isSyncExcused = false

  constructor(options: CallsOptions) {
    this.#options = options
  }

  /** Something happened for which calls that are under way may fail. */
  excuse(): void {
    this.#excuses++
  }

  /** A call that is under way, counted back from the last. */
  underWay(back: number): { readonly name: string; readonly controller: AbortController } | undefined {
    return this.#calls.filter(({ done }) => !done).at(-1 - back)
  }

  /** The buffer is the caller's again: whoever still changes it makes a mistake. */
  returned(buffer: Uint8Array): void {
    this.#returned.push({ buffer, copy: buffer.slice() })
  }

  get haveTouchedReturned(): boolean {
    return this.#returned.some(({ buffer, copy }) => buffer.some((byte, index) => byte !== copy[index]))
  }

  async make(kind: Call['kind'], name: string, start: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const { time, oracle, counts, note, device } = this.#options
    const controller = new AbortController()
    const { losses, state } = device().info.connection!
    const call: Call = {
      name,
      controller,
      calledAt: time.now(),
      kind,
      excusesBefore: this.#excuses,
      lossesBefore: losses - (state === 'reconnecting' ? 1 : 0),
      done: false,
    }
    this.#calls.push(call)
    counts.calls++
    note(`${name} is called`)
    try {
      await start(controller.signal)
      counts.succeeded++
      note(`${name} is done`)
    } catch (error) {
      counts.failed++
      note(`${name} failed: ${describe(error)}`)
      if (!(error instanceof BlockDeviceError))
        oracle.violations.push(
          `${name} failed with an error that is none of the device's: ${describe(error)}`,
        )
      else if (!this.#isExcused(call))
        oracle.violations.push(`${name} failed without a reason: ${describe(error)}`)
      throw error
    } finally {
      call.done = true
      const waited = time.now() - call.calledAt
      if (waited > this.longestWaitMs)
        oracle.violations.push(`${name} waited ${waited} ms, its budget is ${this.longestWaitMs} ms`)
    }
  }

  /**
   * A call fails for a reason: it was cancelled, the server refused something, the budget of an outage was over, or the device had
   * given up. That the connection was lost is none.
   */
  #isExcused({ controller, kind, calledAt, excusesBefore, lossesBefore }: Call): boolean {
    const { time, setup, damage, device } = this.#options
    const { losses, state } = device().info.connection!
    if (controller.signal.aborted || this.#excuses > excusesBefore || this.isOverBudget || state === 'failed')
      return true
    // Lost again and again for longer than the budget.
    const wasLostAgain = losses >= lossesBefore + 2
    if (wasLostAgain && time.now() - calledAt >= setup.reconnectDelayMs) return true
    return damage.isCut || (kind !== 'read' && this.isSyncExcused)
  }

  /** No call takes longer than this, whatever happens meanwhile, in milliseconds. */
  get longestWaitMs(): number {
    const { requestTimeoutMs, reconnectDelayMs, keepaliveMs } = this.#options.setup
    // Found out by a time-out, ended in order, connected again; and once more for what fails on the way.
    return 2 * (requestTimeoutMs * 1.25 + keepaliveMs + reconnectDelayMs + 5000 + 15_000) + 10_000
  }

  /** Forgets calls that have ended, in worlds that last. */
  forget(): void {
    this.#calls = this.#calls.filter(({ done }) => !done)
    this.#returned = []
  }

  /** Waits until every call has ended. */
  async settle(): Promise<void> {
    const isDone = () => this.#calls.every(({ done }) => done)
    const { time, oracle } = this.#options
    if (await time.run(isDone, this.longestWaitMs + 300_000)) return
    for (const { name, calledAt, done } of this.#calls)
      if (!done) oracle.violations.push(`${name}, called at ${calledAt} ms, never ends`)
  }
}
