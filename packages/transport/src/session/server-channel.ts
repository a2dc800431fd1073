// A channel as the server's handlers see it: the byte channel and streams of SessionChannel, and what only the side that
// runs something has: stderr, exit status, the client's signals and terminal. Ends in the order that clients expect:
// everything written, exit-status, EOF, CLOSE (RFC 4254 s5.3, s6.10).

import type { Channel, IncomingRequest } from '../connection/channel.ts'
import { exitSignalFields, exitStatusFields } from '../messages/connection.ts'
import { encodeFields } from '../wire/codec.ts'
import type { ChannelOwner } from './session-channel.ts'
import { SessionChannel } from './session-channel.ts'
import type { Terminal } from './terminal.ts'

/** A command ended by a signal (RFC 4254 s6.10). */
export interface ExitSignal {
  /** Without SIG: 'TERM', 'KILL', ... */
  signal: string
  coreDumped?: boolean
  message?: string
}

export class ServerChannel extends SessionChannel {
  readonly #channel: Channel
  readonly #owner: ChannelOwner
  readonly #onPeerRequest: (incoming: IncomingRequest) => void
  readonly #onOver: (cause: Error | undefined) => void
  #isEnding = false
  #onSignal: ((signal: string) => void) | undefined
  #onResize: ((terminal: Terminal) => void) | undefined
  /** The client's terminal; undefined where it asked for none, or none was allowed. Changes with the client's window. */
  terminal: Terminal | undefined
  /** What is sent as exit status where a handler closes the channel without a word; undefined for nothing. */
  defaultExitStatus: number | undefined

  /** Made by the server; not by applications. */
  constructor(
    channel: Channel,
    owner: ChannelOwner,
    description: string,
    listeners: { onRequest: (incoming: IncomingRequest) => void; onOver: (cause: Error | undefined) => void },
  ) {
    super(channel, owner, description)
    this.#channel = channel
    this.#owner = owner
    this.#onPeerRequest = listeners.onRequest
    this.#onOver = listeners.onOver
  }

  /** Whether the channel still takes what is written. */
  get isOpen(): boolean {
    return !this.#isEnding && this.#channel.state === 'open' && !this.#channel.closeSent
  }

  override write(bytes: Uint8Array): void {
    if (!this.#isEnding) super.write(bytes)
  }

  override writeStderr(bytes: Uint8Array): void {
    if (!this.#isEnding) super.writeStderr(bytes)
  }

  /**
   * Ends the channel: once everything written went out, the exit status, EOF and CLOSE. What is written later is ignored.
   * Only the first call counts.
   * @param status 0 to 2^32 - 1 (most clients show the lowest 8 bits), or the signal that ended the command.
   */
  exitWith(status: number | ExitSignal): void {
    if (typeof status === 'number') {
      this.#finish(() => this.notify('exit-status', encodeFields(exitStatusFields, { status: status >>> 0 })))
      return
    }
    const { signal, coreDumped = false, message = '' } = status
    this.#finish(() =>
      this.notify(
        'exit-signal',
        encodeFields(exitSignalFields, { signal, coreDumped, message, language: '' }),
      ),
    )
  }

  /** Closes both directions once everything written went out, with status 0 where this is a subsystem that said nothing else. */
  override close(): void {
    const status = this.defaultExitStatus
    if (status === undefined) this.#finish(() => {})
    else this.exitWith(status)
  }

  /** A handler that has read enough may still have something to say: the rest of its input is dropped. */
  protected override readingCancelled(): void {
    this.resume()
  }

  /** Closes at once; what was not sent yet is dropped. */
  abort(): void {
    this.#isEnding = true
    super.close()
  }

  #finish(lastWords: () => void): void {
    if (this.#isEnding) return
    this.#isEnding = true
    this.#channel.afterFlush(() => {
      lastWords()
      this.#channel.end()
      this.#channel.close()
    })
    this.#owner.schedule()
  }

  /** Who is told of the client's signals (RFC 4254 s6.9), e.g. 'TERM'; raw. Ignored where nobody asks. */
  onSignal(listener: (signal: string) => void): void {
    this.#onSignal = listener
  }

  /** Who is told when the client's terminal changes its size (RFC 4254 s6.7). */
  onResize(listener: (terminal: Terminal) => void): void {
    this.#onResize = listener
  }

  /** Takes a signal of the client; called by the server. Returns whether somebody listens. */
  deliverSignal(signal: string): boolean {
    this.#onSignal?.(signal)
    return this.#onSignal !== undefined
  }

  /** Takes a new size of the terminal; called by the server. */
  deliverResize(terminal: Terminal): void {
    this.terminal = terminal
    this.#onResize?.(terminal)
  }

  override deliverRequest(incoming: IncomingRequest): void {
    this.#onPeerRequest(incoming)
  }

  override deliverClosed(cause?: Error): void {
    super.deliverClosed(cause)
    this.#onOver(cause)
  }
}
