// Trying a transfer again after its connection was lost: which errors mean that, how long to wait, when to give up.
// Whoever calls brings the way to a new client; nobody here connects, authenticates, or closes a client.

import {
  AbortedError,
  ChannelClosedError,
  ConnectionLost,
  IntegrityError,
  PeerDisconnected,
  TimeoutError,
} from '@sshblock/transport/errors'
import { onAbort, throwIfAborted } from './abort.ts'
import type { SftpClient } from './client.ts'
import type { Clock } from './client-session.ts'

/** A transfer whose connection was lost, and that waits for another. */
export interface LostTransfer {
  /** The client that is of no use any more; whoever made it closes it. */
  readonly client: SftpClient
  /** What ended it: ConnectionLost, PeerDisconnected, ChannelClosedError, TimeoutError, IntegrityError. */
  readonly cause: Error
  /** Attempts to go on since something was transferred last; the first is 1. */
  readonly attempt: number
  readonly transferredBytes: number
  /** Fires when the transfer is cancelled. */
  readonly signal: AbortSignal | undefined
}

export interface RetryOptions {
  /**
   * Gives a client on a new connection to the same server and user, after the pause. What it rejects with ends the transfer
   * (a host key that changed, a password that is refused), unless it means that the server cannot be reached now.
   */
  reconnect: (lost: LostTransfer) => Promise<SftpClient>
  /** Pause before the first attempt and the longest pause, in milliseconds; doubled each time, with jitter. Defaults 500, 30 000. */
  firstRetryMs?: number
  maxRetryMs?: number
  /** How long to go on without a single byte of progress, in milliseconds. Default 600 000. */
  patienceMs?: number
  /** Is told before each pause. */
  onRetry?: (retry: { attempt: number; cause: Error; delayMs: number; transferredBytes: number }) => void
  /** For tests. */
  clock?: Clock
  /** Randomness of the pauses, 0 to below 1. Default: crypto.getRandomValues. */
  random?: () => number
}

/** Codes of a connection that could not be made now and perhaps later. */
const unreachableCodes: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ECONNABORTED',
  'EHOSTUNREACH',
  'EHOSTDOWN',
  'ENETUNREACH',
  'ENETDOWN',
  'ETIMEDOUT',
  'EPIPE',
  'EAI_AGAIN',
])

/** DISCONNECT reasons by which a server may turn a client away for the moment (RFC 4253 s11.1). */
const passingReasons: ReadonlySet<number> = new Set([2, 5, 10, 11, 12])

/** Whether an error, or what led to it, is a lost connection: the same request may succeed on another one. */
export function isConnectionLoss(error: unknown): boolean {
  for (let each = error, depth = 0; each instanceof Error && depth < 8; each = each.cause, depth++) {
    if (each instanceof AbortedError) return false
    if (each instanceof PeerDisconnected) return passingReasons.has(each.reason)
    if (each instanceof ConnectionLost || each instanceof TimeoutError) return true
    if (each instanceof ChannelClosedError || each instanceof IntegrityError) return true
    const { code } = each as { code?: unknown }
    if (typeof code === 'string' && unreachableCodes.has(code)) return true
  }
  return false
}

const systemClock: Clock = {
  now: () => performance.now(),
  setTimer: (task, delayMs) => setTimeout(task, delayMs),
  clearTimer: (timer) => clearTimeout(timer as number),
}

/** A transfer that goes on over one connection after another. */
export class RetriedTransfer {
  readonly #options: RetryOptions
  readonly #signal: AbortSignal | undefined
  readonly #clock: Clock
  #client: SftpClient
  #retries = 0
  /** The loss that is being mended. */
  #loss: Error | undefined

  constructor(client: SftpClient, options: RetryOptions, signal: AbortSignal | undefined) {
    this.#client = client
    this.#options = options
    this.#signal = signal
    this.#clock = options.clock ?? systemClock
  }

  /** Times that it went on after a loss. */
  get retries(): number {
    return this.#retries
  }

  /**
   * Calls `attempt` until it succeeds, fails for good, or patience is over.
   * @param progress bytes transferred so far; more than before means that it is worth waiting again from the beginning.
   */
  async run<T>(attempt: (client: SftpClient) => Promise<T>, progress: () => number): Promise<T> {
    const { patienceMs = 600_000 } = this.#options
    let reached = progress()
    let since = this.#clock.now()
    let attempts = 0
    for (;;) {
      let cause: Error
      try {
        if (this.#loss !== undefined) await this.#reconnect(this.#loss, attempts, reached)
        return await attempt(this.#client)
      } catch (error) {
        throwIfAborted(this.#signal, 'transfer')
        if (!isConnectionLoss(error)) throw error
        cause = error as Error
        this.#loss = cause
      }
      if (progress() > reached) {
        reached = progress()
        since = this.#clock.now()
        attempts = 0
      }
      attempts++
      const delayMs = this.#delay(attempts)
      if (this.#clock.now() + delayMs - since > patienceMs) throw cause
      this.#options.onRetry?.({ attempt: attempts, cause, delayMs, transferredBytes: reached })
      await this.#pause(delayMs)
    }
  }

  async #reconnect(cause: Error, attempt: number, transferredBytes: number): Promise<void> {
    const lost = { client: this.#client, cause, attempt, transferredBytes, signal: this.#signal }
    this.#client = await this.#options.reconnect(lost)
    this.#loss = undefined
    this.#retries++
  }

  #delay(attempt: number): number {
    const { firstRetryMs = 500, maxRetryMs = 30_000, random = fraction } = this.#options
    const whole = Math.min(maxRetryMs, firstRetryMs * 2 ** Math.min(attempt - 1, 30))
    return whole / 2 + (whole / 2) * random()
  }

  #pause(delayMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      let stop = (): void => {}
      const timer = this.#clock.setTimer(() => {
        stop()
        resolve()
      }, delayMs)
      stop = onAbort(this.#signal, 'transfer', (error) => {
        this.#clock.clearTimer(timer)
        reject(error)
      })
    })
  }
}

function fraction(): number {
  const [random = 0] = crypto.getRandomValues(new Uint32Array(1))
  return random / 2 ** 32
}
