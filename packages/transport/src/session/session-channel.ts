// A channel as applications use it: a ByteChannel for protocols (SFTP), Web Streams for people, exit status and stderr.
// Holds what comes before somebody listens (never more than the window), and gives credit back as bytes are taken.

import type { ByteChannel, ByteReceiver } from '../byte-channel.ts'
import type { Channel, IncomingRequest } from '../connection/channel.ts'
import { AbortedError, ChannelClosedError, quote, UsageError } from '../errors.ts'
import { exitSignalFields, exitStatusFields } from '../messages/connection.ts'
import { utf8Text } from '../wire/bytes.ts'
import { decodeFields } from '../wire/codec.ts'
import { Backlog } from './backlog.ts'

/** How a remote command or subsystem ended (RFC 4254 s6.10). */
export type ExitStatus =
  | { type: 'status'; status: number }
  | { type: 'signal'; signal: string; coreDumped: boolean; message: string }
  /** The peer closed the channel without a word. */
  | { type: 'none' }

/** What a channel needs of its session. */
export interface ChannelOwner {
  /** Something was written: send it at the end of this turn. */
  schedule(): void
}

const stderrType = 1
/** How much of stderr is kept when nobody reads it, in bytes. */
const stderrTailBytes = 4096

export class SessionChannel implements ByteChannel {
  readonly description: string
  readonly #channel: Channel
  readonly #owner: ChannelOwner
  #receiver: ByteReceiver | undefined
  #stderrReceiver: ((view: Uint8Array) => void) | undefined
  /** Data that came before `start`. */
  readonly #early = new Backlog()
  #earlyEof = false
  #paused = false
  /** Bytes delivered while paused, whose credit is withheld. */
  #withheld = 0
  #stderrTail: Uint8Array = new Uint8Array(0)
  #exitStatus: ExitStatus = { type: 'none' }
  #closedCause: Error | undefined
  #isClosed = false
  #refusal: Error | undefined
  #onRequest: ((incoming: IncomingRequest) => void) | undefined
  #resolveExit!: (status: ExitStatus) => void
  #rejectExit!: (error: Error) => void
  #resolveClosed!: () => void
  /** Resolves when the channel is closed, with how the remote side ended; rejects where the connection was lost. */
  readonly exit: Promise<ExitStatus>
  /** Resolves when the channel is closed, whatever the reason. */
  readonly closed: Promise<void>

  constructor(channel: Channel, owner: ChannelOwner, description: string) {
    this.#channel = channel
    this.#owner = owner
    this.description = description
    this.exit = new Promise((resolve, reject) => {
      this.#resolveExit = resolve
      this.#rejectExit = reject
    })
    // Nobody has to look at the exit status.
    this.exit.catch(() => {})
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve
    })
  }

  // --- ByteChannel ---

  start(receiver: ByteReceiver): void {
    if (this.#receiver !== undefined) throw new UsageError(`${this.description} is being read already`)
    this.#receiver = receiver
    this.#early.drain((view) => this.#deliver(receiver, view))
    if (this.#earlyEof) receiver.end()
    if (this.#isClosed) receiver.closed(this.#closedCause)
    this.#owner.schedule()
  }

  write(bytes: Uint8Array): void {
    this.#channel.write(bytes)
    this.#owner.schedule()
  }

  get writableBytes(): number {
    return this.#channel.writableBytes
  }

  get peerWindowBytes(): number {
    return this.#channel.sendWindow.available
  }

  /** Bytes accepted by `write` that wait for the peer's window. */
  get queuedBytes(): number {
    return this.#channel.queuedBytes
  }

  /** Server role: as `write`, to the client's stderr (RFC 4254 s5.2). Shares window and queue with `write`. */
  writeStderr(bytes: Uint8Array): void {
    this.#channel.writeExtended(stderrType, bytes)
    this.#owner.schedule()
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    if (this.#withheld === 0) return
    const count = this.#withheld
    this.#withheld = 0
    this.#channel.consumed(count)
    this.#owner.schedule()
  }

  end(): void {
    this.#channel.end()
    this.#owner.schedule()
  }

  close(): void {
    this.#channel.close()
    this.#owner.schedule()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close()
    await this.closed
  }

  // --- requests ---

  /** Sends a channel request and waits for its answer; ChannelClosedError where the peer says no. */
  request(name: string, payload: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#channel.request(name, payload, (answer) => {
        if (answer === true) resolve()
        else if (answer === false)
          reject(
            new ChannelClosedError(`the peer refused the request ${quote(name)} on ${this.description}`, {
              code: 'ERR_SSH_REQUEST_REFUSED',
            }),
          )
        else reject(answer)
      })
      this.#owner.schedule()
    })
  }

  /** Sends a channel request that wants no answer. */
  notify(name: string, payload: Uint8Array): void {
    this.#channel.request(name, payload)
    this.#owner.schedule()
  }

  /** Who answers the peer's requests on this channel; unanswered ones are refused. Server role. */
  onRequest(handler: (incoming: IncomingRequest) => void): void {
    this.#onRequest = handler
  }

  // --- for people ---

  /** The last 4 KiB of what the remote side wrote to stderr, as text; raw. */
  get stderrText(): string {
    return utf8Text(this.#stderrTail)
  }

  /** What the remote side writes to stdout. Back-pressure reaches the remote side. Takes the place of `start`. */
  readable(): ReadableStream<Uint8Array> {
    let controller!: ReadableStreamDefaultController<Uint8Array>
    let isOver = false
    const backlog = new Backlog()
    const release = (): void => backlog.drain((bytes) => controller.enqueue(bytes))
    const stream = new ReadableStream<Uint8Array>(
      {
        start: (given) => {
          controller = given
        },
        pull: () => {
          release()
          this.resume()
        },
        cancel: () => {
          isOver = true
          this.readingCancelled()
        },
      },
      // A chunk has a price of its own, so that a stream of one-byte packets does not fill the queue with them.
      { highWaterMark: 256 * 1024, size: (chunk) => Math.max(chunk?.length ?? 0, 1024) },
    )
    this.start({
      data: (view) => {
        if (isOver) return
        if (backlog.length > 0 || (controller.desiredSize ?? 0) <= 0) backlog.append(view)
        else controller.enqueue(view.slice())
        if ((controller.desiredSize ?? 0) <= 0) this.pause()
      },
      writable: () => {},
      end: () => {
        if (isOver) return
        isOver = true
        release()
        controller.close()
      },
      closed: (cause) => {
        this.#wakeWriter()
        if (isOver) return
        isOver = true
        if (cause !== undefined) return controller.error(cause)
        release()
        controller.close()
      },
    })
    return stream
  }

  /** Nobody wants to read any more. */
  protected readingCancelled(): void {
    this.close()
  }

  #writerWaits: (() => void) | undefined

  #wakeWriter(): void {
    const wake = this.#writerWaits
    this.#writerWaits = undefined
    wake?.()
  }

  /** The remote side's stdin. Waits while the peer's window is full. To be used with `readable()`. */
  writable(): WritableStream<Uint8Array> {
    // Room is what window and socket have: a peer with a window of 4 GiB that does not read must not fill our memory.
    const room = async (): Promise<void> => {
      while (!this.#isClosed && this.#channel.writableBytes === 0) {
        await new Promise<void>((resolve) => {
          this.#writerWaits = resolve
        })
      }
      if (this.#isClosed) throw this.#closedCause ?? new ChannelClosedError(`${this.description} is closed`)
    }
    return new WritableStream<Uint8Array>({
      write: async (chunk) => {
        await room()
        this.write(chunk)
      },
      close: () => this.end(),
      abort: () => this.close(),
    })
  }

  /** Everything the remote side writes until it closes, and how it ended. */
  async collect(
    options: { maxBytes?: number; signal?: AbortSignal } = {},
  ): Promise<{ stdout: Uint8Array; stderr: string; exit: ExitStatus }> {
    const { maxBytes = 64 * 1024 * 1024, signal } = options
    const parts: Uint8Array[] = []
    let length = 0
    const onAbort = (): void => this.close()
    signal?.addEventListener('abort', onAbort, { once: true })
    try {
      const reader = this.readable().getReader()
      for (let next = await reader.read(); !next.done; next = await reader.read()) {
        parts.push(next.value)
        length += next.value.length
        if (length > maxBytes) {
          this.close()
          throw new UsageError(`${this.description} wrote more than ${maxBytes} bytes`)
        }
      }
      const exit = await this.exit
      if (signal?.aborted) throw new AbortedError(this.description, signal.reason)
      const stdout = new Uint8Array(length)
      let at = 0
      for (const part of parts) {
        stdout.set(part, at)
        at += part.length
      }
      return { stdout, stderr: this.stderrText, exit }
    } finally {
      signal?.removeEventListener('abort', onAbort)
    }
  }

  /** Who gets stderr as it comes, as views valid during the call. */
  onStderr(receiver: (view: Uint8Array) => void): void {
    this.#stderrReceiver = receiver
  }

  // --- what the session delivers ---

  deliverData(view: Uint8Array): void {
    const receiver = this.#receiver
    if (receiver === undefined) this.#early.append(view)
    else this.#deliver(receiver, view)
  }

  #deliver(receiver: ByteReceiver, view: Uint8Array): void {
    receiver.data(view)
    if (this.#paused) this.#withheld += view.length
    else this.#channel.consumed(view.length)
  }

  deliverExtendedData(dataType: number, view: Uint8Array): void {
    if (dataType === stderrType) {
      this.#stderrReceiver?.(view)
      const joined = new Uint8Array(this.#stderrTail.length + view.length)
      joined.set(this.#stderrTail)
      joined.set(view, this.#stderrTail.length)
      this.#stderrTail = joined.length > stderrTailBytes ? joined.slice(-stderrTailBytes) : joined
    }
    this.#channel.consumed(view.length)
  }

  deliverEof(): void {
    if (this.#receiver === undefined) this.#earlyEof = true
    else this.#receiver.end()
  }

  deliverWritable(): void {
    this.#wakeWriter()
    this.#receiver?.writable()
  }

  deliverRequest(incoming: IncomingRequest): void {
    switch (incoming.request) {
      case 'exit-status':
        this.#exitStatus = {
          type: 'status',
          ...decodeFields('exit-status', exitStatusFields, incoming.payload),
        }
        return
      case 'exit-signal': {
        const { signal, coreDumped, message } = decodeFields(
          'exit-signal',
          exitSignalFields,
          incoming.payload,
        )
        this.#exitStatus = { type: 'signal', signal, coreDumped, message }
        return
      }
    }
    if (this.#onRequest !== undefined) this.#onRequest(incoming)
    else incoming.reply(false)
  }

  /** The peer refused what the channel was opened for: it is of no use, and closes with this error. */
  refused(error: Error): void {
    this.#refusal = error
    this.close()
  }

  deliverClosed(given?: Error): void {
    if (this.#isClosed) return
    this.#isClosed = true
    const cause = given ?? this.#refusal
    this.#closedCause = cause
    if (cause === undefined) this.#resolveExit(this.#exitStatus)
    else this.#rejectExit(cause)
    this.#resolveClosed()
    this.#wakeWriter()
    this.#receiver?.closed(cause)
  }
}
