// Order of overlapping calls, and the bound on bytes in flight. Two overlapping requests are never under way together when
// one of them writes: servers may reorder what is in flight, and channels and connections certainly do. Calls are admitted
// in the order they were made; an admitted call waits for every earlier admitted one that it conflicts with.
// Owns no data. Read-ahead takes weak holds: they never make a caller wait longer than it takes to give them up.

/** A granted range. */
export interface Hold {
  /** Lets go; once. */
  release(): void
}

export interface AcquireOptions {
  /** Writers conflict with everything that overlaps, readers with writers only. */
  write: boolean
  /** Bytes that count against the bound; default the length. */
  cost?: number
  signal?: AbortSignal | undefined
}

interface Entry extends Hold {
  readonly start: number
  readonly end: number
  readonly write: boolean
  readonly cost: number
  /** Earlier conflicting entries not yet released. */
  blockers: number
  /** Later entries that wait for this one. */
  readonly dependents: Entry[]
  /** Set while it waits. */
  granted: (() => void) | undefined
  /** Asked to give up: read-ahead only. */
  readonly onConflict: (() => void) | undefined
}

interface Waiter {
  readonly entry: Entry
  readonly settle: () => void
}

export class RangeLock {
  readonly #maxBytes: number
  readonly #live = new Set<Entry>()
  readonly #queue: Waiter[] = []
  readonly #idleWaiters: (() => void)[] = []
  #bytes = 0
  #callers = 0

  /** @param maxBytes bytes in flight beyond which calls wait in order; a single larger call goes alone. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /** Bytes admitted and not yet released. */
  get bytesInFlight(): number {
    return this.#bytes
  }

  /** Calls admitted or waiting, without read-ahead. */
  get calls(): number {
    return this.#callers
  }

  /**
   * Takes a range. Returns the hold at once where nothing is in the way, else a promise of it.
   * The promise rejects with the signal's reason when it is aborted first.
   */
  acquire(offset: number, length: number, options: AcquireOptions): Hold | Promise<Hold> {
    const { signal } = options
    const entry = this.#entry(offset, length, options.write, options.cost ?? length, undefined)
    this.#callers++
    if (this.#queue.length === 0 && this.#fits(entry)) {
      this.#admit(entry)
      if (entry.blockers === 0) return entry
    }
    return new Promise((resolve, reject) => {
      const settle = () => {
        signal?.removeEventListener('abort', abort)
        resolve(entry)
      }
      const abort = () => {
        const at = this.#queue.findIndex((waiter) => waiter.entry === entry)
        if (at >= 0) {
          this.#queue.splice(at, 1)
          this.#callerLeft()
          this.#admitQueued()
        } else {
          // Admitted but not granted: whoever waits for it goes on waiting for what is before it only.
          entry.granted = undefined
          entry.release()
        }
        reject(signal!.reason)
      }
      entry.granted = settle
      signal?.addEventListener('abort', abort, { once: true })
      if (!this.#live.has(entry)) this.#queue.push({ entry, settle })
    })
  }

  /**
   * Takes a range for read-ahead: only where no writer is in the way now. `onConflict` is called, at most once, when a
   * writer comes to wait for it.
   */
  tryHold(offset: number, length: number, onConflict: () => void): Hold | undefined {
    const entry = this.#entry(offset, length, false, 0, onConflict)
    for (const other of this.#live) if (conflict(entry, other)) return undefined
    this.#live.add(entry)
    return entry
  }

  /** Resolves when no call is admitted or waiting. */
  idle(): Promise<void> {
    if (this.#callers === 0) return Promise.resolve()
    return new Promise((resolve) => this.#idleWaiters.push(resolve))
  }

  #entry(
    offset: number,
    length: number,
    write: boolean,
    cost: number,
    onConflict: (() => void) | undefined,
  ): Entry {
    const entry: Entry = {
      start: offset,
      end: offset + length,
      write,
      cost,
      blockers: 0,
      dependents: [],
      granted: undefined,
      onConflict,
      release: () => this.#release(entry),
    }
    return entry
  }

  #fits(entry: Entry): boolean {
    return this.#bytes === 0 || this.#bytes + entry.cost <= this.#maxBytes
  }

  #admit(entry: Entry): void {
    const giveUp: (() => void)[] = []
    for (const other of this.#live) {
      if (!conflict(entry, other)) continue
      entry.blockers++
      other.dependents.push(entry)
      if (other.onConflict !== undefined) giveUp.push(other.onConflict)
    }
    this.#bytes += entry.cost
    this.#live.add(entry)
    for (const ask of giveUp) ask()
  }

  #release(entry: Entry): void {
    if (!this.#live.delete(entry)) return
    this.#bytes -= entry.cost
    for (const dependent of entry.dependents) {
      if (--dependent.blockers === 0) this.#grant(dependent)
    }
    if (entry.onConflict === undefined) this.#callerLeft()
    this.#admitQueued()
  }

  #admitQueued(): void {
    for (let next = this.#queue[0]; next !== undefined && this.#fits(next.entry); next = this.#queue[0]) {
      this.#queue.shift()
      this.#admit(next.entry)
      if (next.entry.blockers === 0) this.#grant(next.entry)
    }
  }

  #grant(entry: Entry): void {
    const granted = entry.granted
    entry.granted = undefined
    granted?.()
  }

  #callerLeft(): void {
    if (--this.#callers > 0) return
    for (const resolve of this.#idleWaiters.splice(0)) resolve()
  }
}

function conflict(a: Entry, b: Entry): boolean {
  return (a.write || b.write) && a.start < b.end && b.start < a.end
}
