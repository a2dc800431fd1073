// A channel whose other end is a handler in this process, so that an AgentClient can use an agent without a socket.

import type { ByteChannel, ByteReceiver } from '../byte-channel.ts'
import { type AgentHandler, serveAgent } from './server.ts'

/** A ByteChannel to `handler`; what is written to it is answered as serveAgent answers. */
export function handlerChannel(handler: AgentHandler): ByteChannel {
  const near = new Half('in-process agent')
  const far = new Half('in-process agent client')
  near.other = far
  far.other = near
  void serveAgent(far, handler)
  return near
}

/** One end of an in-memory pipe. Delivery is in a later turn, so that neither side is entered while it is calling. */
class Half implements ByteChannel {
  readonly description: string
  other: Half | undefined
  #receiver: ByteReceiver | undefined
  readonly #incoming: Uint8Array[] = []
  #paused = false
  #closed = false

  constructor(description: string) {
    this.description = description
  }

  get writableBytes(): number {
    return this.#closed ? 0 : Number.MAX_SAFE_INTEGER
  }

  start(receiver: ByteReceiver): void {
    this.#receiver = receiver
    queueMicrotask(() => this.#deliver())
  }

  write(bytes: Uint8Array): void {
    if (this.#closed || this.other === undefined) return
    const { other } = this
    other.#incoming.push(bytes.slice())
    queueMicrotask(() => other.#deliver())
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    queueMicrotask(() => this.#deliver())
  }

  end(): void {
    const { other } = this
    queueMicrotask(() => other?.ended())
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#receiver?.closed()
    const { other } = this
    queueMicrotask(() => other?.close())
  }

  ended(): void {
    this.#receiver?.end()
  }

  #deliver(): void {
    while (!this.#paused && !this.#closed && this.#receiver !== undefined) {
      const bytes = this.#incoming.shift()
      if (bytes === undefined) return
      this.#receiver.data(bytes)
    }
  }
}
