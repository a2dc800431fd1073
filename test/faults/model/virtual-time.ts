// Time that passes only when nothing else can happen: timers of the program under test and events of the model world in one
// queue, run in order of time and then of setting. Between two of them every promise that can settle does. A second of
// virtual time costs nothing, and a history with a given seed is the same on every machine.
// `install` puts it in the place of the global timers, so that a timer hidden anywhere below is under control too.

interface Timer {
  readonly at: number
  readonly order: number
  readonly task: () => void
  cancelled: boolean
}

/** More than this in one moment is an endless loop. */
const mostStanding = 20_000

/** Let go before anything replaces them. */
const realSetImmediate = setImmediate

export class VirtualTime {
  #now = 0
  #order = 0
  #timers = 0
  /** Timers that ran at the present moment. */
  #standing = 0
  readonly #heap: Timer[] = []

  /** Milliseconds since the start of the history. */
  now = (): number => this.#now

  setTimer = (task: () => void, delayMs: number): unknown => {
    const at = this.#now + Math.max(0, Number.isFinite(delayMs) ? delayMs : 0)
    const timer: Timer = { at, order: this.#order++, task, cancelled: false }
    this.#timers++
    this.#push(timer)
    return timer
  }

  clearTimer = (timer: unknown): void => {
    if (timer === undefined || timer === null || typeof timer !== 'object') return
    const known = timer as Timer
    if (known.cancelled !== false) return
    known.cancelled = true
    this.#timers--
  }

  /** Timers that are set and have neither fired nor been cleared. */
  get pendingTimers(): number {
    return this.#timers
  }

  /** Resolves after `delayMs`. */
  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.setTimer(resolve, delayMs)
    })
  }

  /** Runs until `done()`, or until `limitMs` have passed. Returns whether it was done. */
  async run(done: () => boolean, limitMs: number): Promise<boolean> {
    const limit = this.#now + limitMs
    for (;;) {
      await quiet()
      if (done()) return true
      const next = this.#next()
      if (next !== undefined && next.at <= this.#now) {
        if (++this.#standing > mostStanding)
          throw new Error('time stands still: something goes on and on without waiting')
      } else this.#standing = 0
      if (next === undefined || next.at > limit) {
        this.#now = Math.max(this.#now, limit)
        return false
      }
      this.#pop()
      this.#now = next.at
      this.#timers--
      next.cancelled = true
      next.task()
    }
  }

  /** Lets `ms` pass. */
  async pass(ms: number): Promise<void> {
    await this.run(() => false, ms)
  }

  /** Replaces the global timers and clocks until the returned function is called. */
  install(): () => void {
    const { setTimeout, clearTimeout, setInterval, clearInterval } = globalThis
    const { now } = performance
    const dateNow = Date.now
    const handle = (timer: unknown) =>
      Object.assign(timer as object, { unref: () => timer, ref: () => timer, hasRef: () => true })
    const replace = {
      setTimeout: (task: (...args: unknown[]) => void, delay = 0, ...args: unknown[]) =>
        handle(this.setTimer(() => task(...args), Math.max(1, delay))),
      clearTimeout: this.clearTimer,
      setInterval: (task: (...args: unknown[]) => void, delay = 0, ...args: unknown[]) => {
        const repeating = { timer: undefined as unknown, cancelled: undefined }
        const again = (): void => {
          repeating.timer = this.setTimer(
            () => {
              again()
              task(...args)
            },
            Math.max(1, delay),
          )
        }
        again()
        return handle(repeating)
      },
      clearInterval: (repeating: { timer?: unknown } | undefined) =>
        this.clearTimer(repeating?.timer ?? repeating),
    }
    Object.assign(globalThis, replace)
    performance.now = this.now
    Date.now = () => 1_700_000_000_000 + Math.floor(this.#now)
    return () => {
      Object.assign(globalThis, { setTimeout, clearTimeout, setInterval, clearInterval })
      performance.now = now
      Date.now = dateNow
    }
  }

  #next(): Timer | undefined {
    while (this.#heap[0]?.cancelled === true) this.#pop()
    return this.#heap[0]
  }

  #push(timer: Timer): void {
    const heap = this.#heap
    let at = heap.length
    heap.push(timer)
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (isBefore(heap[parent]!, timer)) break
      heap[at] = heap[parent]!
      at = parent
    }
    heap[at] = timer
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop()
    if (last === undefined || heap.length === 0) return
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++
      if (isBefore(last, heap[child]!)) break
      heap[at] = heap[child]!
      at = child
    }
    heap[at] = last
  }
}

function isBefore(one: Timer, other: Timer): boolean {
  return one.at === other.at ? one.order < other.order : one.at < other.at
}

/** Every promise that can settle without time passing has settled. */
function quiet(): Promise<void> {
  return new Promise((resolve) => realSetImmediate(resolve))
}
