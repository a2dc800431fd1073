// Joins a SessionCore to a ByteDuplex: promises and timers begin here.
// Reads: the duplex writes into the core's buffer, one commit may complete many packets, events go to the owner in order.
// Writes: whatever a turn produced leaves as one slab at its end. One timer serves all deadlines.
// Back-pressure: reading stops while the peer lets its own replies pile up, or while the machine is parked with a full
// buffer. Work is bounded per turn, so a flood of tiny packets does not hold the event loop.

import type { SessionCore, SessionEvent } from '../core/session-core.ts'
import { maxQueuedReplyBytes } from '../limits.ts'
import type { ByteDuplex } from './duplex.ts'

/** How much a read may bring at least; a socket gets all of the free tail. */
const minReadBytes = 64 * 1024
/** Bytes held while the machine is parked, beyond which reading stops. */
const maxParkedBytes = 512 * 1024
const maxTurnMs = 8
const eventsPerClockLook = 64
/** How long the last bytes may take to leave. */
const lingerMs = 1000

export interface PumpOptions {
  core: SessionCore
  duplex: ByteDuplex
  now: () => number
  onEvent: (event: SessionEvent) => void
  /** Called once when the duplex is closed and nothing more will happen. */
  onDone: () => void
}

export class Pump {
  readonly #core: SessionCore
  readonly #duplex: ByteDuplex
  readonly #options: PumpOptions
  #writing = false
  #flushScheduled = false
  #running = false
  #runAgain = false
  #continueScheduled = false
  #paused = false
  #ended: { cause: Error | undefined } | undefined
  #timer: ReturnType<typeof setTimeout> | undefined
  #timerAt = Number.POSITIVE_INFINITY
  #closing = false
  #done = false
  /** Events wait: whoever is to take them is not there yet. */
  held = false
  /** Bytes handed to the duplex since the start. */
  bytesSent = 0

  constructor(options: PumpOptions) {
    this.#options = options
    this.#core = options.core
    this.#duplex = options.duplex
  }

  start(): void {
    const { buffer } = this.#core.transport
    this.#duplex.start({
      reserve: (min) => buffer.reserve(Math.max(min, minReadBytes)),
      commit: (count) => {
        buffer.commit(count)
        this.run()
      },
      end: (cause) => {
        this.#ended = { cause }
        this.run()
      },
    })
    this.flush()
  }

  /** Handles what is there; safe to call at any time, also from inside an event. */
  run(): void {
    if (this.#running) {
      this.#runAgain = true
      return
    }
    this.#running = true
    try {
      this.#drain()
    } finally {
      this.#running = false
    }
    this.flush()
  }

  #drain(): void {
    const core = this.#core
    const until = this.#options.now() + maxTurnMs
    let count = 0
    do {
      this.#runAgain = false
      while (!this.held && !this.#repliesPileUp()) {
        const event = core.next()
        if (event === undefined) break
        this.#options.onEvent(event)
        // 'more' stands for many packets that made no event.
        if ((++count % eventsPerClockLook === 0 || event.type === 'more') && this.#options.now() > until) {
          this.#continueLater()
          return
        }
      }
    } while (this.#runAgain)
    if (this.#ended !== undefined && !this.held && !this.#repliesPileUp() && !this.#busy()) {
      core.ended(this.#ended.cause)
      for (let event = core.next(); event !== undefined; event = core.next()) this.#options.onEvent(event)
    }
  }

  /** Packets that were received whole are still being worked on. */
  #busy(): boolean {
    return this.#core.transport.busy
  }

  #repliesPileUp(): boolean {
    const { transport, mux } = this.#core
    const isOver = this.#ended !== undefined || transport.failure !== undefined
    return !isOver && transport.pendingBytes > mux.outboxHighWater + maxQueuedReplyBytes
  }

  #continueLater(): void {
    if (this.#continueScheduled) return
    this.#continueScheduled = true
    setTimeout(() => {
      this.#continueScheduled = false
      this.run()
    }, 0)
  }

  /** Sends what was produced, at the end of this turn. */
  schedule(): void {
    if (this.#flushScheduled) return
    this.#flushScheduled = true
    queueMicrotask(() => {
      this.#flushScheduled = false
      this.flush()
    })
  }

  /** Sends what was produced, now. */
  flush(): void {
    const core = this.#core
    if (!this.#writing && this.#ended === undefined) {
      const slab = core.take()
      if (slab !== undefined) {
        this.#writing = true
        this.bytesSent += slab.length
        this.#duplex.write(slab, () => {
          this.#writing = false
          core.release(slab)
          this.run()
        })
      }
    }
    this.#throttle()
    this.#setTimer()
    this.#closeWhenOver()
  }

  #throttle(): void {
    const transport = this.#core.transport
    // An authentication question may be open for seconds: what comes meanwhile is not to pile up.
    const parked = transport.busy || this.#core.serverAuth?.parked === true || this.#continueScheduled
    const full = transport.buffer.length > Math.max(maxParkedBytes, 2 * transport.missing) && parked
    const pause = full || this.#repliesPileUp()
    if (pause === this.#paused || this.#ended !== undefined) return
    this.#paused = pause
    if (pause) this.#duplex.pause()
    else this.#duplex.resume()
  }

  #setTimer(): void {
    const deadline = this.#core.deadline ?? Number.POSITIVE_INFINITY
    if (deadline === this.#timerAt) return
    // A timer that fires early costs nothing: it only looks again. So a later deadline keeps the timer that is there.
    if (this.#timer !== undefined && deadline > this.#timerAt && deadline !== Number.POSITIVE_INFINITY) return
    if (this.#timer !== undefined) clearTimeout(this.#timer)
    this.#timer = undefined
    this.#timerAt = deadline
    if (deadline === Number.POSITIVE_INFINITY) return
    const delay = Math.min(Math.max(0, deadline - this.#options.now()), 2 ** 31 - 1)
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#timerAt = Number.POSITIVE_INFINITY
      this.#core.tick(this.#options.now())
      this.run()
    }, delay)
    // A session that only waits must not keep a Node process alive by its timer; its socket does that.
    unref(this.#timer)
  }

  /** The core failed: what it still has to say goes out, then the duplex closes. */
  #closeWhenOver(): void {
    if (this.#done || this.#core.transport.failure === undefined) return
    if (!this.#closing) {
      this.#closing = true
      // DISCONNECT gets a moment to leave; a peer that takes nothing does not hold us.
      const give = setTimeout(() => this.#finish(true), lingerMs)
      unref(give)
      this.#giveUp = give
    }
    if (this.#ended !== undefined || (!this.#writing && this.#core.transport.pendingBytes === 0))
      this.#finish(false)
  }

  #giveUp: ReturnType<typeof setTimeout> | undefined

  #finish(abort: boolean): void {
    if (this.#done) return
    this.#done = true
    clearTimeout(this.#giveUp)
    clearTimeout(this.#timer)
    this.#duplex.close(abort)
    // A peer that does not take our last bytes does not keep the socket, also where it ended its own half.
    if (!abort) unref(setTimeout(() => this.#duplex.close(true), lingerMs))
    this.#core.transport.destroy()
    this.#options.onDone()
  }
}

function unref(timer: ReturnType<typeof setTimeout>): void {
  const handle: unknown = timer
  if (
    typeof handle === 'object' &&
    handle !== null &&
    'unref' in handle &&
    typeof handle.unref === 'function'
  )
    handle.unref()
}
