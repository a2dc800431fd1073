// One SFTP channel with promises: joins the core, the byte channel, one timer and the callers' signals. Everything above
// (SftpClient, RemoteFile, transfers) speaks through `request`, `read` and `write`.
// The first fatal error is sticky: it fails what is pending and every later call. Every promise made here settles: by an
// answer, the sticky error, the caller's signal, or the time-out.

import type { ByteChannel, ByteReceiver } from '@sshblock/transport/byte-channel'
import {
  AbortedError,
  ChannelClosedError,
  ClosedError,
  SshError,
  TimeoutError,
  UsageError,
} from '@sshblock/transport/errors'
import { utf8Text } from '@sshblock/transport/wire'
import { onAbort } from './abort.ts'
import { Call, type Request } from './core/call.ts'
import { ClientCore } from './core/client-core.ts'
import { defaultLimits, limitsFromReply, type SftpLimits } from './core/peer-limits.ts'
import { ReadOperation } from './core/read-operation.ts'
import type { PieceSize } from './core/transfer-plan.ts'
import { WriteOperation } from './core/write-operation.ts'
import { SftpStatusError, type SftpSubject } from './errors.ts'
import { closeTimeoutMs, defaultMaxBytesInFlight, defaultRequestTimeoutMs } from './limits.ts'
import { extendedReply, limits as limitsExtension } from './messages/extended.ts'
import type { ExtensionPair } from './messages/extension-pairs.ts'
import { packetType } from './messages/numbers.ts'

/** Every method takes these. */
export interface CallOptions {
  /** Cancels the call with AbortedError. What the server already got may still happen. */
  signal?: AbortSignal | undefined
}

export interface SftpTraceEvent {
  level: 1 | 2 | 3
  layer: 'sftp'
  event: string
  detail?: Readonly<Record<string, string | number | boolean>>
}

/** Monotonic time and timers, replaceable in tests. */
export interface Clock {
  /** Milliseconds from any start. */
  now(): number
  setTimer(task: () => void, delayMs: number): unknown
  clearTimer(timer: unknown): void
}

const systemClock: Clock = {
  now: () => performance.now(),
  setTimer: (task, delayMs) => setTimeout(task, delayMs),
  clearTimer: (timer) => clearTimeout(timer as number),
}

export interface SftpClientOptions {
  /** Told what happens, never file contents. */
  trace?: (event: SftpTraceEvent) => void
  /** How long a request may go unanswered before it fails with TimeoutError; default 60 000. */
  requestTimeoutMs?: number
  /** 'SSH-2.0-OpenSSH_9.2' as the server's transport said; decides the argument order of symlink() where no extension does. */
  serverIdentification?: string
  /** Bytes in flight that a direction may grow to; default 16 MiB. */
  maxBytesInFlight?: number
  clock?: Clock
}

/** What reads and writes need to know of an open file. */
export interface FileTarget {
  readonly handle: Uint8Array
  readonly subject: SftpSubject
  readonly pieceSize: PieceSize
  /** Whether WRITEs must go one at a time. */
  readonly serial: boolean
}

export interface WriteCallOptions extends CallOptions {
  /** Called once, before the promise settles: every byte was given to the channel, and the buffer is the caller's again. */
  onSent?: () => void
  /** Called once, after the promise settled: nothing of this write can reach the file any more, as far as is known. */
  onQuiet?: () => void
}

const nothing = (): void => {}

export class ClientSession {
  readonly #channel: ByteChannel
  readonly #core: ClientCore
  readonly #clock: Clock
  readonly #timeoutMs: number
  readonly #trace: ((event: SftpTraceEvent) => void) | undefined
  readonly #pairs: ExtensionPair[] = []
  /** Resolves when VERSION came; rejects with what came instead. */
  readonly opened: Promise<void>
  readonly closed: Promise<void>
  #settleClosed!: { resolve(): void; reject(error: Error): void }
  #opened: { resolve(): void; reject(error: Error): void } | undefined
  #openedAt = 0
  #limits = defaultLimits
  #limitsKnown: Promise<SftpLimits> = Promise.resolve(defaultLimits)
  #wantsLimits = false
  /** Why no call succeeds any more. */
  #error: Error | undefined
  #closing = false
  #timer: unknown
  #closeTimer: unknown
  readonly #tick = (): void => this.#expire()

  private constructor(channel: ByteChannel, options: SftpClientOptions) {
    const { requestTimeoutMs = defaultRequestTimeoutMs, maxBytesInFlight = defaultMaxBytesInFlight } = options
    if (!(requestTimeoutMs > 0))
      throw new UsageError(`requestTimeoutMs must be above 0, got ${requestTimeoutMs}`)
    if (!(maxBytesInFlight > 0))
      throw new UsageError(`maxBytesInFlight must be above 0, got ${maxBytesInFlight}`)
    this.#channel = channel
    this.#clock = options.clock ?? systemClock
    this.#timeoutMs = requestTimeoutMs
    this.#trace = options.trace
    this.closed = new Promise((resolve, reject) => {
      this.#settleClosed = { resolve, reject }
    })
    this.opened = new Promise((resolve, reject) => {
      this.#opened = { resolve, reject }
    })
    // Whoever does not look at these learns of the failure from the calls.
    this.closed.catch(() => {})
    this.opened.catch(() => {})
    const events = {
      version: (pairs: readonly ExtensionPair[]) => this.#version(pairs),
      failed: (error: Error) => {
        this.#end(error)
        this.#channel.close()
      },
    }
    this.#core = new ClientCore(channel, events, {
      maxBytesInFlight,
      defer: (task) => queueMicrotask(task),
      now: () => this.#clock.now(),
    })
  }

  /**
   * Sends INIT; `opened` tells when VERSION came, and `options.signal` ends the wait for it. limits@openssh.com is asked for when
   * VERSION came, not waited for. `pipelined`: requests are made before that, and leave right behind INIT; so does the one for
   * the limits, which a server that has none refuses (draft s8).
   */
  static begin(
    channel: ByteChannel,
    options: SftpClientOptions & CallOptions,
    pipelined: boolean,
  ): ClientSession {
    const session = new ClientSession(channel, options)
    const stop = onAbort(options.signal, 'opening SFTP', (error) => session.#abandon(error))
    session.opened.then(stop, stop)
    if (session.#error === undefined) {
      session.#openedAt = session.#clock.now()
      channel.start(session.#receiver())
      session.#core.start()
      if (pipelined) session.#wantLimits()
      session.#arm()
    }
    return session
  }

  get limits(): SftpLimits {
    return this.#limits
  }

  get limitsKnown(): Promise<SftpLimits> {
    return this.#limitsKnown
  }

  get extensions(): readonly ExtensionPair[] {
    return this.#pairs
  }

  get maxBytesInFlight(): { read: number; write: number } {
    return { read: this.#core.readWindow.limitBytes, write: this.#core.writeWindow.limitBytes }
  }

  /** Bytes that the peer's window lets out still; undefined where the channel has none. */
  get peerWindowBytes(): number | undefined {
    return this.#channel.peerWindowBytes
  }

  /** Shortest time that any request took, in milliseconds; undefined until one was answered. */
  get roundTripMs(): number | undefined {
    const { leastMs } = this.#core.roundTrip
    return leastMs === Number.POSITIVE_INFINITY ? undefined : leastMs
  }

  /** Whether the server announced the extension in this version (OpenSSH PROTOCOL: clients must check the version). */
  supports(extension: { readonly name: string; readonly version: string }): boolean {
    return this.#pairs.some(
      ({ name, data }) => name === extension.name && utf8Text(data) === extension.version,
    )
  }

  /** One request and its answer. UsageError where its values do not fit the packet. */
  request<T>(request: Request<T>, options: CallOptions = {}): Promise<T> {
    if (this.#error !== undefined) return Promise.reject(this.#error)
    const { signal } = options
    if (signal?.aborted) return Promise.reject(new AbortedError(request.operation, signal.reason))
    return new Promise<T>((resolve, reject) => {
      let stop = nothing
      const { roundTrip } = this.#core
      const sentAt = roundTrip.now()
      const call = new Call<T>(
        request,
        (value) => {
          roundTrip.measured(sentAt)
          stop()
          resolve(value)
        },
        (error) => {
          stop()
          reject(error)
        },
      )
      try {
        this.#core.request(call, request.encode)
      } catch (error) {
        reject(
          error instanceof RangeError
            ? new UsageError(`${request.operation}: ${error.message}`, { cause: error })
            : error,
        )
        return
      }
      stop = onAbort(signal, request.operation, (error) => call.fail(error))
      this.#trace?.({ level: 3, layer: 'sftp', event: 'request', detail: { operation: request.operation } })
      this.#arm()
    })
  }

  /** Bytes read into `into`, which is lent until the promise settles; fewer than its length only at the end of the file. */
  read(file: FileTarget, offset: number, into: Uint8Array, options: CallOptions = {}): Promise<number> {
    if (this.#error !== undefined) return Promise.reject(this.#error)
    const { signal } = options
    if (signal?.aborted) return Promise.reject(new AbortedError('READ', signal.reason))
    if (into.length === 0) return Promise.resolve(0)
    return new Promise((resolve, reject) => {
      let stop = nothing
      const target = { ...file, window: this.#core.readWindow }
      const settled = (error: Error | undefined, bytes: number): void => {
        stop()
        if (error === undefined) resolve(bytes)
        else reject(error)
      }
      const operation = new ReadOperation(target, offset, into, settled, this.#core.read)
      stop = onAbort(signal, 'READ', (error) => this.#core.cancel(operation, error))
      this.#core.read(operation)
      this.#arm()
    })
  }

  /** Writes `from`, which is lent until the promise settles or `onSent` is called; resolves when all is acknowledged. */
  write(file: FileTarget, offset: number, from: Uint8Array, options: WriteCallOptions = {}): Promise<void> {
    const { signal, onSent = nothing, onQuiet = nothing } = options
    const refusal = this.#error ?? (signal?.aborted ? new AbortedError('WRITE', signal.reason) : undefined)
    if (refusal !== undefined || from.length === 0) {
      onSent()
      onQuiet()
      return refusal === undefined ? Promise.resolve() : Promise.reject(refusal)
    }
    return new Promise<void>((resolve, reject) => {
      let stop = nothing
      const target = { ...file, window: this.#core.writeWindow, pieceBytes: () => this.#limits.maxWriteBytes }
      const settled = (error: Error | undefined): void => {
        stop()
        if (error === undefined) resolve()
        else reject(error)
      }
      const operation = new WriteOperation(
        target,
        offset,
        from,
        { sent: onSent, settled, quiet: onQuiet },
        this.#core.write,
      )
      stop = onAbort(signal, 'WRITE', (error) => this.#core.cancel(operation, error))
      this.#core.write(operation)
      this.#arm()
    })
  }

  /** Fails what is pending with ClosedError and ends the channel: orderly where nothing is under way. Idempotent. */
  async close(): Promise<void> {
    if (!this.#closing) {
      this.#closing = true
      if (this.#error === undefined) {
        const orderly = !this.#core.busy
        this.#end(new ClosedError('SFTP client'))
        if (orderly) {
          this.#channel.end()
          this.#closeTimer = this.#clock.setTimer(() => this.#channel.close(), closeTimeoutMs)
        } else this.#channel.close()
      }
    }
    await this.closed.catch(() => {})
  }

  #receiver(): ByteReceiver {
    return {
      data: (view) => this.#core.receive(view),
      writable: () => this.#core.writable(),
      end: () => {
        this.#end(new ChannelClosedError(`the server ended the SFTP channel${this.#where()}`))
        this.#channel.close()
      },
      closed: (cause) => this.#closed(cause),
    }
  }

  #where(): string {
    return this.#core.midReply ? ' in the middle of a reply' : ''
  }

  #closed(cause: Error | undefined): void {
    this.#end(
      cause instanceof SshError
        ? cause
        : new ChannelClosedError(`the SFTP channel closed${this.#where()}`, { cause }),
    )
    this.#clock.clearTimer(this.#closeTimer)
    this.#trace?.({ level: 1, layer: 'sftp', event: 'closed' })
    if (this.#error instanceof ClosedError) this.#settleClosed.resolve()
    else this.#settleClosed.reject(this.#error!)
  }

  #version(pairs: readonly ExtensionPair[]): void {
    this.#pairs.push(...pairs)
    this.#trace?.({
      level: 1,
      layer: 'sftp',
      event: 'open',
      detail: { extensions: pairs.map(({ name }) => name).join(' ') },
    })
    if (!this.#wantsLimits && this.supports(limitsExtension)) this.#wantLimits()
    this.#opened?.resolve()
    this.#opened = undefined
  }

  #wantLimits(): void {
    this.#wantsLimits = true
    this.#limitsKnown = this.#askLimits()
    this.#limitsKnown.catch(() => {})
  }

  /** A server that announces limits and then refuses to tell them keeps the defaults. */
  async #askLimits(): Promise<SftpLimits> {
    try {
      this.#limits = await this.request({
        operation: limitsExtension.name,
        subject: {},
        expects: packetType.extendedReply,
        encode: (writer, id) => limitsExtension.encode(writer, { id }),
        decode: (packet) => limitsFromReply(limitsExtension.decodeReply(extendedReply.decode(packet).data)),
      })
    } catch (error) {
      if (!(error instanceof SftpStatusError)) throw error
    }
    return this.#limits
  }

  /** Ends an opening that is not wanted any more. */
  #abandon(error: Error): void {
    this.#end(error)
    this.#channel.close()
  }

  #end(error: Error): void {
    if (this.#error !== undefined) return
    this.#error = error
    this.#clock.clearTimer(this.#timer)
    this.#timer = undefined
    this.#core.end(error)
    this.#opened?.reject(error)
    this.#opened = undefined
  }

  /** One timer for all requests; it runs only while something waits. */
  #arm(): void {
    if (this.#timer !== undefined || this.#error !== undefined) return
    this.#timer = this.#clock.setTimer(this.#tick, Math.max(1, this.#timeoutMs / 8))
    // Where a timer can keep a process alive, this one shall not: the channel does while it matters.
    ;(this.#timer as { unref?: () => void }).unref?.()
  }

  #expire(): void {
    this.#timer = undefined
    const now = this.#clock.now()
    if (this.#opened !== undefined && now - this.#openedAt >= this.#timeoutMs) {
      this.#abandon(new TimeoutError('SFTP version exchange', this.#timeoutMs))
      return
    }
    this.#core.expire(
      now,
      this.#timeoutMs,
      (operation) => new TimeoutError(`SFTP ${operation}`, this.#timeoutMs),
    )
    if (this.#core.busy) this.#arm()
  }
}
