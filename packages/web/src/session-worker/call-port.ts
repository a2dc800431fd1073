// Calls between the page and its session's worker, both ways over one port: numbered, each answered once by a result or an
// error, cancelled by a signal, with progress at a bounded rate. Both ends are the same program, so nothing here is a wire
// format. Other messages on the port are left alone: a device may be served there too.

import { AbortedError, SshError } from '@sshblock/transport/errors'
import { errorFrom, type PortableError, portableError } from './portable-error.ts'

/** A MessagePort, a Worker, or the global scope of a dedicated worker. */
export interface MessageEnd {
  postMessage(message: unknown, transfer: Transferable[]): void
  addEventListener(type: 'message', listener: (event: { data: unknown }) => void): void
  removeEventListener(type: 'message', listener: (event: { data: unknown }) => void): void
  /** MessagePort alone: begins delivery. */
  start?(): void
}

/** One call: what it takes, what it gives, what it tells meanwhile. All of it as structured clones. */
export interface Call<Argument, Result, Progress = unknown> {
  readonly argument: Argument
  readonly result: Result
  readonly progress: Progress
}

/** Calls by name. */
export type CallTable<T> = { readonly [Name in keyof T]: Call<unknown, unknown> }

export interface CallContext<Progress> {
  /** Aborted where the caller cancelled, or the port ended. */
  readonly signal: AbortSignal
  /** May be called as often as one likes: at most one message in 100 ms, and the last one before the answer. */
  onProgress(progress: Progress): void
}

/** What answers the calls of a table. */
export type Handlers<T extends CallTable<T>> = {
  readonly [Name in keyof T]: (
    argument: T[Name]['argument'],
    context: CallContext<T[Name]['progress']>,
  ) => Promise<T[Name]['result']> | T[Name]['result']
}

export interface CallSteering<Progress> {
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: Progress) => void) | undefined
  /** What is moved to the other side instead of copied. */
  readonly transfer?: Transferable[]
}

const protocol = 'sshblock-calls-1'
const progressMs = 100

type Message = { readonly protocol: typeof protocol; readonly id: number } & (
  | { readonly type: 'call'; readonly name: string; readonly argument: unknown }
  | { readonly type: 'cancel' }
  | { readonly type: 'progress'; readonly progress: unknown }
  | { readonly type: 'result'; readonly result: unknown }
  | { readonly type: 'error'; readonly error: PortableError }
)

interface PendingCall {
  readonly onProgress: ((progress: never) => void) | undefined
  resolve(result: unknown): void
  reject(error: Error): void
}

type AnyHandler = (argument: unknown, context: CallContext<unknown>) => unknown

export class CallPort<Theirs extends CallTable<Theirs>, Ours extends CallTable<Ours>> {
  readonly #port: MessageEnd
  readonly #handlers: Handlers<Ours>
  readonly #pending = new Map<number, PendingCall>()
  readonly #answering = new Map<number, { readonly abort: AbortController; readonly done: Promise<void> }>()
  #nextId = 0
  #failure: Error | undefined

  constructor(port: MessageEnd, handlers: Handlers<Ours>) {
    this.#port = port
    this.#handlers = handlers
    port.addEventListener('message', this.#onMessage)
    port.start?.()
  }

  /**
   * Asks the other side. A cancelled call still waits for its answer, so that it is over there too when this settles.
   * @throws the error of the other side with its name, code and message; what `end` was given; AbortedError
   */
  call<Name extends keyof Theirs & string>(
    name: Name,
    argument: Theirs[Name]['argument'],
    { signal, onProgress, transfer = [] }: CallSteering<Theirs[Name]['progress']> = {},
  ): Promise<Theirs[Name]['result']> {
    if (signal?.aborted === true) return Promise.reject(new AbortedError(name, signal.reason))
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    const id = this.#nextId++
    const onAbort = (): void => this.#send({ protocol, id, type: 'cancel' })
    const answer = new Promise<unknown>((resolve, reject) => {
      this.#pending.set(id, { onProgress, resolve, reject })
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#send({ protocol, id, type: 'call', name, argument }, transfer)
    })
    return answer.finally(() => {
      this.#pending.delete(id)
      signal?.removeEventListener('abort', onAbort)
    })
  }

  /** Fails what was asked and will be, and cancels what is being answered. The first error stays. */
  end(error: Error): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    this.#port.removeEventListener('message', this.#onMessage)
    for (const { reject } of [...this.#pending.values()]) reject(error)
    for (const { abort } of this.#answering.values()) abort.abort(error)
  }

  /** Resolves when every call that the other side has made until now is answered. */
  async answered(): Promise<void> {
    await Promise.all([...this.#answering.values()].map(({ done }) => done))
  }

  #send(message: Message, transfer: Transferable[] = []): void {
    this.#port.postMessage(message, transfer)
  }

  readonly #onMessage = ({ data }: { data: unknown }): void => {
    if (!isOurs(data)) return
    switch (data.type) {
      case 'call':
        this.#begin(data.id, data.name, data.argument)
        return
      case 'cancel':
        this.#answering.get(data.id)?.abort.abort()
        return
      case 'progress':
        this.#pending.get(data.id)?.onProgress?.(data.progress as never)
        return
      case 'result':
        this.#pending.get(data.id)?.resolve(data.result)
        return
      case 'error':
        this.#pending.get(data.id)?.reject(errorFrom(data.error))
        return
    }
  }

  #begin(id: number, name: string, argument: unknown): void {
    const abort = new AbortController()
    const done = this.#answer(id, name, argument, abort.signal).finally(() => this.#answering.delete(id))
    this.#answering.set(id, { abort, done })
  }

  async #answer(id: number, name: string, argument: unknown, signal: AbortSignal): Promise<void> {
    let unsent: { readonly progress: unknown } | undefined
    let sentAt = -Infinity
    const sendProgress = (): void => {
      if (unsent === undefined) return
      this.#send({ protocol, id, type: 'progress', progress: unsent.progress })
      unsent = undefined
      sentAt = performance.now()
    }
    const onProgress = (progress: unknown): void => {
      unsent = { progress }
      if (performance.now() - sentAt >= progressMs) sendProgress()
    }
    try {
      const handler = this.#handlers[name as keyof Ours] as AnyHandler | undefined
      if (handler === undefined) throw new SshError('ERR_USAGE', `there is no call ${name}`)
      const result = await handler(argument, { signal, onProgress })
      sendProgress()
      this.#send({ protocol, id, type: 'result', result })
    } catch (error) {
      sendProgress()
      this.#send({ protocol, id, type: 'error', error: portableError(error) })
    }
  }
}

/** Whether a message is one of ours; then its form is right, because its sender is this module's other half. */
function isOurs(data: unknown): data is Message {
  return typeof data === 'object' && data !== null && 'protocol' in data && data.protocol === protocol
}
