/** Time that passes when a test says so. */
import type { Clock } from '../../packages/sftp/src/index.ts'

export class ManualClock implements Clock {
  #now = 0
  readonly #timers = new Map<number, { task: () => void; due: number }>()
  #nextTimer = 1
  /** Timers that were ever set. */
  timersSet = 0

  now(): number {
    return this.#now
  }

  setTimer(task: () => void, delayMs: number): unknown {
    const timer = this.#nextTimer++
    this.timersSet++
    this.#timers.set(timer, { task, due: this.#now + delayMs })
    return timer
  }

  clearTimer(timer: unknown): void {
    this.#timers.delete(timer as number)
  }

  /** Timers that would still fire. */
  get pendingTimers(): number {
    return this.#timers.size
  }

  /** Lets time pass, firing what is due on the way in order. */
  advance(ms: number): void {
    const end = this.#now + ms
    for (;;) {
      const next = [...this.#timers].sort((a, b) => a[1].due - b[1].due)[0]
      if (next === undefined || next[1].due > end) break
      this.#now = next[1].due
      this.#timers.delete(next[0])
      next[1].task()
    }
    this.#now = end
  }
}
