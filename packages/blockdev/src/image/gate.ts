// A place where calls wait while something is not there: open, closed, or closed and not worth waiting at. Every wait ends:
// when it opens, when waiting is refused, or by the caller's signal.

interface Waiter {
  readonly pass: () => void
  readonly refuse: (error: unknown) => void
}

export class Gate {
  readonly #waiters = new Set<Waiter>()
  #isOpen = true
  #refusal: (() => Error) | undefined

  get isOpen(): boolean {
    return this.#isOpen
  }

  get waiting(): number {
    return this.#waiters.size
  }

  close(): void {
    this.#isOpen = false
  }

  open(): void {
    this.#isOpen = true
    this.#refusal = undefined
    for (const waiter of this.#take()) waiter.pass()
  }

  /** Those who wait, and those who come until it opens, get this error. */
  refuse(error: () => Error): void {
    this.#isOpen = false
    this.#refusal = error
    for (const waiter of this.#take()) waiter.refuse(error())
  }

  /** Resolves at once where it is open. Rejects with the refusal, or the signal's reason. */
  pass(signal: AbortSignal | undefined): Promise<void> {
    if (signal?.aborted === true) return Promise.reject(signal.reason)
    if (this.#isOpen) return Promise.resolve()
    if (this.#refusal !== undefined) return Promise.reject(this.#refusal())
    return new Promise((resolve, reject) => {
      const done = () => signal?.removeEventListener('abort', abort)
      const waiter: Waiter = {
        pass: () => {
          done()
          resolve()
        },
        refuse: (error) => {
          done()
          reject(error)
        },
      }
      const abort = () => {
        this.#waiters.delete(waiter)
        reject(signal!.reason)
      }
      signal?.addEventListener('abort', abort, { once: true })
      this.#waiters.add(waiter)
    })
  }

  #take(): Waiter[] {
    const waiters = [...this.#waiters]
    this.#waiters.clear()
    return waiters
  }
}
