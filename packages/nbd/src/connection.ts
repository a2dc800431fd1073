// One client from greeting to farewell: joins the sans-IO halves (negotiation, transmission, outbox) with a wire and a
// device. Owns the phase, the chunk being read, the budget and the lease of the device.
// Reading stops where an answer is awaited, the budget is full, or the client does not take its replies. When the client
// vanishes its calls are aborted and everything it held is let go as soon as they have settled: see `finished`.
// Not here: sockets (node-server.ts), what a request does (request-runner.ts).

import type { BlockDevice } from '@sshblock/blockdev'
import { ClosedError, SshError } from '@sshblock/transport/errors'
import type { BufferPool } from './buffer-pool.ts'
import { type NbdExport, preferredBlockBytes, transmissionFlags } from './export.ts'
import type { ExportLease, ExportTable } from './export-table.ts'
import { InFlightBudget } from './in-flight-budget.ts'
import { maxQueuedOptionReplyBytes, maxRequestBytes } from './limits.ts'
import { Negotiation, type NegotiationQuestion } from './negotiation.ts'
import { Outbox } from './outbox.ts'
import { command, optionReply } from './protocol.ts'
import type { RequestRules } from './request-check.ts'
import { RequestRunner } from './request-runner.ts'
import type { Counters } from './statistics.ts'
import { Transmission } from './transmission.ts'
import type { Farewell, FarewellReason, Wire } from './wire.ts'

export interface ConnectionOptions {
  wire: Wire
  exports: ExportTable
  pool: BufferPool
  counters: Counters
  /** Asked at each request. */
  maxBytesInFlight: () => number
  maxRequestsInFlight: number
  negotiationTimeoutMs: number
  /** Runs a function at the end of the event loop's turn: replies of one turn leave together. */
  atEndOfTurn: (run: () => void) => void
  /** Makes the signal that aborts the client's device calls. */
  makeAbortController: () => AbortController
  /** The client entered the transmission phase. */
  onReady: (exportName: string) => void
}

export class Connection {
  /** Resolves when the client is gone, its calls have settled and its device was given back. */
  readonly finished: Promise<Farewell>

  readonly #options: ConnectionOptions
  readonly #wire: Wire
  readonly #budget: InFlightBudget
  readonly #outbox: Outbox
  readonly #abort: AbortController
  #resolveFinished!: (farewell: Farewell) => void

  readonly #negotiation = new Negotiation()
  #transmission: Transmission | undefined
  #runner: RequestRunner | undefined
  #lease: ExportLease | undefined
  #timer: ReturnType<typeof setTimeout> | undefined

  /** Received and not yet consumed. */
  #chunks: Uint8Array[] = []
  #at = 0
  #paused = false
  #pumping = false
  #writing = false
  #flushScheduled = false
  /** An answer to a question of the negotiation is being fetched. */
  #answering = false
  #shuttingDown = false
  /** Set once: no more input; the connection ends when everything was answered. */
  #farewell: Farewell | undefined
  /** The wire is closed, or told to close. */
  #ending = false
  #gone = false
  #done = false

  constructor(options: ConnectionOptions) {
    this.#options = options
    this.#wire = options.wire
    this.#budget = new InFlightBudget(options.maxRequestsInFlight, options.maxBytesInFlight)
    this.#outbox = new Outbox(options.pool)
    this.#abort = options.makeAbortController()
    this.finished = new Promise((resolve) => {
      this.#resolveFinished = resolve
    })
  }

  get isNegotiating(): boolean {
    return this.#transmission === undefined
  }

  get requestsInFlight(): number {
    return this.#budget.requests
  }

  get bytesInFlight(): number {
    return this.#budget.bytes
  }

  /** Sends the greeting and starts the clock of the negotiation. */
  start(): void {
    const { negotiationTimeoutMs } = this.#options
    this.#timer = setTimeout(() => this.#hangUp('negotiation timeout'), negotiationTimeoutMs)
    this.#sendOptionReplies()
  }

  /** Bytes from the client; they belong to the connection. */
  receive(chunk: Uint8Array): void {
    if (this.#farewell !== undefined || this.#gone) return
    this.#chunks.push(chunk)
    this.#pump()
  }

  /** The client sends nothing more. NBD knows no half-closed connections: without NBD_CMD_DISC before, it is gone. */
  inputEnded(): void {
    if (this.#farewell === undefined) this.#hangUp('vanished')
  }

  /** The wire is closed; nothing can be sent any more. */
  wireClosed(error?: Error): void {
    if (this.#gone) return
    this.#farewell ??= { reason: 'vanished', error }
    this.#gone = true
    clearTimeout(this.#timer)
    this.#abort.abort(new ClosedError('the NBD client'))
    this.#outbox.close()
    this.#transmission?.drop()
    this.#chunks = []
    this.#finishIfIdle()
  }

  /** The server ends: what is in flight is answered, what comes is refused, then the connection closes. */
  shutDown(): void {
    if (this.#shuttingDown) return
    this.#shuttingDown = true
    this.#negotiation.shutDown()
    if (this.isNegotiating && !this.#answering) this.#hangUp('server shutdown')
    else this.#endIfAnswered()
  }

  /** Drops the connection at once, for a shutdown that takes too long. */
  destroy(): void {
    this.#hangUp('server shutdown')
  }

  // Receiving

  /** Consumes what was received as far as possible, then stops or goes on reading. */
  #pump(): void {
    if (this.#pumping) return
    this.#pumping = true
    try {
      while (this.#step()) {}
    } catch (error) {
      this.#hangUp('protocol error', error as Error)
    } finally {
      this.#pumping = false
    }
    if (this.#gone) return
    const stop = this.#chunks.length > 0 || this.#farewell !== undefined
    if (stop !== this.#paused) {
      this.#paused = stop
      if (stop) this.#wire.pause()
      else this.#wire.resume()
    }
  }

  /** Consumes up to one question or one request; false where it must stop. */
  #step(): boolean {
    if (this.#farewell !== undefined || this.#gone) return false
    const chunk = this.#chunks[0]
    const transmission = this.#transmission
    if (transmission === undefined) {
      if (chunk === undefined || this.#answering || this.#outbox.bytes > maxQueuedOptionReplyBytes)
        return false
      this.#consumed(this.#negotiation.receive(chunk, this.#at))
      this.#sendOptionReplies()
      this.#followNegotiation()
      return true
    }
    // A request that waits for the budget has its header read already: it needs no further byte to go on.
    if (chunk === undefined && !transmission.waiting) return false
    const at = transmission.receive(chunk ?? noBytes, this.#at)
    if (chunk !== undefined) this.#consumed(at)
    const request = transmission.takeRequest()
    if (request !== undefined) this.#runner!.start(request)
    if (transmission.disconnected) {
      this.#options.counters.countRequest(command.disc)
      this.#sayFarewell('disconnected')
    }
    return !transmission.waiting
  }

  #consumed(at: number): void {
    this.#at = at
    const chunk = this.#chunks[0]!
    if (at === chunk.length) {
      this.#chunks.shift()
      this.#wire.usedUp(chunk)
      this.#at = 0
    }
  }

  // Negotiation

  #sendOptionReplies(): void {
    const bytes = this.#negotiation.takeOutput()
    if (bytes === undefined) return
    this.#outbox.add(bytes)
    this.#flush()
  }

  #followNegotiation(): void {
    const { outcome, question } = this.#negotiation
    if (question !== undefined) {
      this.#answering = true
      void this.#answer(question)
    } else if (outcome?.kind === 'aborted') this.#sayFarewell('disconnected')
    else if (outcome?.kind === 'refused') this.#sayFarewell('refused')
  }

  /** Answers a question of the negotiation; never rejects. */
  async #answer(question: NegotiationQuestion): Promise<void> {
    try {
      if (question.kind === 'list') {
        this.#negotiation.answerList(await this.#options.exports.list())
      } else {
        const found = await this.#options.exports.find(question.name)
        if (found === undefined) this.#negotiation.refuse(optionReply.errUnknown, 'there is no such export')
        else if (question.kind === 'exists') this.#negotiation.answerExists(found.name)
        else await this.#describe(found, question.enter)
      }
    } catch (error) {
      if (this.#negotiation.question !== undefined) {
        const why = error instanceof SshError ? error.message : 'it cannot be opened'
        this.#negotiation.refuse(optionReply.errUnknown, `the export is not available: ${why}`)
      } else {
        // It failed half way through its reply, which cannot be taken back.
        this.#hangUp('refused', error as Error)
      }
    }
    this.#answering = false
    if (this.#gone) {
      this.#finishIfIdle()
      return
    }
    this.#sendOptionReplies()
    this.#followNegotiation()
    this.#pump()
    this.#endIfAnswered()
  }

  /** Opens the device to describe it; keeps it only where the client moves on with it. */
  async #describe(found: NbdExport, enter: boolean): Promise<void> {
    const lease = await this.#options.exports.lease(found)
    try {
      if (this.#gone || this.#farewell !== undefined) return
      if (this.#shuttingDown) {
        this.#negotiation.refuse(optionReply.errShutdown, 'the server is shutting down')
        return
      }
      const { device, canTrim } = lease
      const readOnly = device.readOnly || found.readOnly === true
      const { structuredReplies } = this.#negotiation
      this.#negotiation.answerExport({
        name: found.name,
        description: found.description,
        sizeBytes: device.size,
        transmissionFlags: transmissionFlags({ readOnly, canTrim, structuredReplies }),
        minimumBlockBytes: 1,
        preferredBlockBytes: preferredBlockBytes(device),
        maximumBlockBytes: maxRequestBytes,
      })
      const { outcome } = this.#negotiation
      if (!enter || outcome?.kind !== 'transmission') return
      this.#lease = lease
      this.#enterTransmission(found, device, { ...outcome, readOnly, canTrim })
    } finally {
      if (this.#lease !== lease) lease.release()
    }
  }

  #enterTransmission(
    found: NbdExport,
    device: BlockDevice,
    terms: { structuredReplies: boolean; blockStatus: boolean; readOnly: boolean; canTrim: boolean },
  ): void {
    clearTimeout(this.#timer)
    const isShuttingDown = (): boolean => this.#shuttingDown
    const rules: RequestRules = {
      ...terms,
      get sizeBytes() {
        return device.size
      },
      get shuttingDown() {
        return isShuttingDown()
      },
    }
    const { pool, counters } = this.#options
    this.#transmission = new Transmission({ pool, budget: this.#budget, rules })
    this.#runner = new RequestRunner({
      device,
      structuredReplies: terms.structuredReplies,
      cacheByReading: found.cacheByReading === true,
      pool,
      outbox: this.#outbox,
      counters,
      signal: this.#abort.signal,
      onProgress: () => this.#progressed(),
    })
    this.#options.onReady(found.name)
  }

  // Sending

  #progressed(): void {
    if (this.#gone) this.#finishIfIdle()
    else if (!this.#flushScheduled) {
      this.#flushScheduled = true
      this.#options.atEndOfTurn(() => {
        this.#flushScheduled = false
        this.#flush()
        this.#endIfAnswered()
      })
    }
  }

  /** Sends what waits, unless a write is under way: then it goes with the next one. */
  #flush(): void {
    if (this.#gone || this.#writing || this.#outbox.isEmpty) return
    const batch = this.#outbox.take()
    this.#writing = true
    this.#wire.write(batch.pieces, () => {
      this.#writing = false
      for (const buffer of batch.buffers) this.#options.pool.give(buffer)
      this.#budget.give(batch.requests, batch.costBytes)
      if (this.#gone) return
      this.#pump()
      this.#flush()
      this.#endIfAnswered()
    })
  }

  // Ending

  /** No more input; ends when everything in flight is answered. */
  #sayFarewell(reason: FarewellReason): void {
    this.#farewell ??= { reason, error: undefined }
    this.#chunks = []
    this.#endIfAnswered()
  }

  #endIfAnswered(): void {
    if (this.#gone || this.#ending || this.#answering) return
    if (this.#farewell === undefined && !this.#shuttingDown) return
    if (this.#writing || !this.#outbox.isEmpty || (this.#runner?.running ?? 0) > 0) return
    this.#farewell ??= { reason: 'server shutdown', error: undefined }
    this.#ending = true
    clearTimeout(this.#timer)
    this.#wire.end()
  }

  /** Drops the connection: what is in flight is aborted, what waits is lost. */
  #hangUp(reason: FarewellReason, error?: Error): void {
    if (this.#gone) return
    this.#farewell ??= { reason, error }
    this.#ending = true
    this.#wire.destroy()
    this.wireClosed(error)
  }

  /** Lets go of the device when nothing uses it any more. */
  #finishIfIdle(): void {
    if (this.#done || !this.#gone || this.#answering || (this.#runner?.running ?? 0) > 0) return
    this.#done = true
    this.#lease?.release()
    this.#resolveFinished(this.#farewell!)
  }
}

const noBytes = new Uint8Array(0)
