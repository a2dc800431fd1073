// The requests of one session channel (RFC 4254 s6): what the client sets up (terminal, environment), the one thing it may
// start, and what it tells that afterwards (signals, window size). Default deny: what no handler is there for is refused.

import type { IncomingRequest } from '../connection/channel.ts'
import { matchesWildcard } from '../keys/host-pattern.ts'
import { maxEnvironmentBytes, maxEnvironmentVariables } from '../limits.ts'
import { envFields, execFields, signalFields, subsystemFields } from '../messages/connection.ts'
import { utf8Bytes } from '../wire/bytes.ts'
import { decodeFields } from '../wire/codec.ts'
import type { ServerChannel } from './server-channel.ts'
import type {
  ServerContext,
  ServerEvent,
  ServerOptions,
  SessionRequestContext,
  SubsystemHandler,
} from './server-options.ts'
import { readTerminal, readTerminalSize } from './terminal.ts'

export interface SessionRequestsParts {
  channel: ServerChannel
  options: ServerOptions
  subsystems: ReadonlyMap<string, SubsystemHandler>
  context: ServerContext
  emit: (event: ServerEvent) => void
}

/** The client's wish, before a forced command takes its place. */
type Wish = { request: 'subsystem' | 'exec' | 'shell'; detail: string }

/** The word by which a forced command means the server's own SFTP subsystem (sshd_config(5) ForceCommand). */
const internalSftp = 'internal-sftp'

export class SessionRequests {
  readonly #parts: SessionRequestsParts
  readonly #environment = new Map<string, string>()
  #environmentBytes = 0
  #started = false
  readonly #over = new AbortController()

  constructor(parts: SessionRequestsParts) {
    this.#parts = parts
  }

  /** The channel is gone. */
  over(cause: Error | undefined): void {
    this.#over.abort(cause)
  }

  /** Handles a request of the client. Throws WireError where it is malformed. */
  handle(incoming: IncomingRequest): void {
    const { payload } = incoming
    switch (incoming.request) {
      case 'subsystem':
        return this.#start(incoming, {
          request: 'subsystem',
          detail: decodeFields('subsystem', subsystemFields, payload).subsystem,
        })
      case 'exec':
        return this.#start(incoming, {
          request: 'exec',
          detail: decodeFields('exec', execFields, payload).command,
        })
      case 'shell':
        return this.#start(incoming, { request: 'shell', detail: '' })
      case 'pty-req':
        return incoming.reply(this.#setTerminal(payload))
      case 'env':
        return incoming.reply(this.#setVariable(payload))
      case 'window-change':
        return incoming.reply(this.#resize(payload))
      case 'signal':
        return incoming.reply(
          this.#started &&
            this.#parts.channel.deliverSignal(decodeFields('signal', signalFields, payload).signal),
        )
      case 'auth-agent-req@openssh.com': {
        const { options, context } = this.#parts
        return incoming.reply(
          options.agentForwarding === true && context.login.permissions.agentForwarding && !this.#started,
        )
      }
      default:
        return incoming.reply(false)
    }
  }

  #setTerminal(payload: Uint8Array): boolean {
    const { channel, options, context } = this.#parts
    const terminal = readTerminal(payload)
    if (
      options.terminals !== true ||
      !context.login.permissions.pty ||
      this.#started ||
      channel.terminal !== undefined
    )
      return false
    channel.terminal = terminal
    return true
  }

  #resize(payload: Uint8Array): boolean {
    const { channel } = this.#parts
    const size = readTerminalSize(payload)
    if (channel.terminal === undefined) return false
    channel.deliverResize({ ...channel.terminal, ...size })
    return true
  }

  #setVariable(payload: Uint8Array): boolean {
    const { acceptEnvironment = [] } = this.#parts.options
    const { name, value } = decodeFields('env', envFields, payload)
    if (this.#started || !/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) || value.includes('\0')) return false
    if (!acceptEnvironment.some((pattern) => matchesWildcard(name, pattern))) return false
    // A variable that is set again counts again: this bounds what is kept, it need not be exact.
    const bytes = utf8Bytes(name).length + utf8Bytes(value).length
    const isTooMuch =
      this.#environmentBytes + bytes > maxEnvironmentBytes ||
      this.#environment.size >= maxEnvironmentVariables
    if (isTooMuch) return false
    this.#environmentBytes += bytes
    this.#environment.set(name, value)
    return true
  }

  /** RFC 4254 s6.5: "Only one of these requests can succeed per channel." */
  #start(incoming: IncomingRequest, wish: Wish): void {
    const handler = this.#started ? undefined : this.#handlerFor(wish)
    this.#parts.emit({ type: 'request', ...wish, accepted: handler !== undefined })
    if (handler === undefined) return incoming.reply(false)
    this.#started = true
    // The answer goes first: a handler may write at once.
    incoming.reply(true)
    this.#run(handler)
  }

  #handlerFor(wish: Wish): (() => unknown) | undefined {
    const { channel, options, subsystems, context } = this.#parts
    const forced = context.login.permissions.command
    if (forced !== undefined) return this.#forcedHandler(forced, wish)
    const own = this.#context(undefined)
    switch (wish.request) {
      case 'subsystem': {
        const handler = subsystems.get(wish.detail)
        return handler === undefined ? undefined : () => this.#runSubsystem(handler, own)
      }
      case 'exec':
        return options.exec === undefined ? undefined : () => options.exec?.(channel, wish.detail, own)
      case 'shell':
        return options.shell === undefined ? undefined : () => options.shell?.(channel, own)
    }
  }

  #forcedHandler(forced: string, wish: Wish): (() => unknown) | undefined {
    const { channel, options, subsystems } = this.#parts
    const own = this.#context(wish.detail)
    if (forced.split(/\s/)[0] === internalSftp) {
      const sftp = subsystems.get('sftp')
      return sftp === undefined ? undefined : () => this.#runSubsystem(sftp, own)
    }
    return options.exec === undefined ? undefined : () => options.exec?.(channel, forced, own)
  }

  #runSubsystem(handler: SubsystemHandler, context: SessionRequestContext): unknown {
    // scp, restic and others look at the exit status of a subsystem that simply ends.
    this.#parts.channel.defaultExitStatus = 0
    return handler(this.#parts.channel, context)
  }

  #context(originalCommand: string | undefined): SessionRequestContext {
    const { channel, context } = this.#parts
    return {
      ...context,
      environment: new Map([...context.login.permissions.environment, ...this.#environment]),
      terminal: channel.terminal,
      originalCommand,
      signal: this.#over.signal,
    }
  }

  #run(handler: () => unknown): void {
    const { channel } = this.#parts
    const done = (result: unknown): void => {
      if (typeof result === 'number') channel.exitWith(result)
    }
    try {
      const result = handler()
      if (isThenable(result)) result.then(done, (error) => this.#onFault(error))
      else done(result)
    } catch (error) {
      this.#onFault(error)
    }
  }

  #onFault(error: unknown): void {
    const { channel, emit } = this.#parts
    // A handler that stumbles over the end of its channel did nothing wrong.
    if (this.#over.signal.aborted) return
    emit({ type: 'fault', error })
    channel.exitWith(1)
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function'
}
