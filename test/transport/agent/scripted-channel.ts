// The agent's end of a channel in the test's hands: sees what the client writes, sends what the test says.

import { frameMessage } from '../../../packages/transport/src/agent/framing.ts'
import type { ByteChannel, ByteReceiver } from '../../../packages/transport/src/byte-channel.ts'
import { readU32 } from '../../../packages/transport/src/wire/bytes.ts'

export class ScriptedChannel implements ByteChannel {
  /** Messages that the client wrote, without their length field. */
  readonly requests: Uint8Array[] = []
  closed = false
  writableBytes = 1 << 20
  paused = false
  #receiver: ByteReceiver | undefined
  readonly #answer: ((request: Uint8Array, channel: ScriptedChannel) => Uint8Array | undefined) | undefined

  /** @param answer called for each request; what it returns is sent back as a message in a later turn. */
  constructor(answer?: (request: Uint8Array, channel: ScriptedChannel) => Uint8Array | undefined) {
    this.#answer = answer
  }

  start(receiver: ByteReceiver): void {
    this.#receiver = receiver
  }

  write(bytes: Uint8Array): void {
    if (readU32(bytes, 0) !== bytes.length - 4)
      throw new Error('the client wrote something that is not one message')
    const request = bytes.slice(4)
    this.requests.push(request)
    const reply = this.#answer?.(request, this)
    if (reply !== undefined) queueMicrotask(() => this.send(reply))
  }

  /** Sends one message. */
  send(payload: Uint8Array): void {
    this.sendRaw(frameMessage(payload))
  }

  sendRaw(bytes: Uint8Array): void {
    this.#receiver?.data(bytes)
  }

  end(): void {
    this.#receiver?.end()
  }

  break(cause?: Error): void {
    this.closed = true
    this.#receiver?.closed(cause)
  }

  pause(): void {
    this.paused = true
  }

  resume(): void {
    this.paused = false
  }

  /** The receiver's writable(). */
  drained(): void {
    this.#receiver?.writable()
  }

  close(): void {
    if (this.closed) return
    this.closed = true
    this.#receiver?.closed()
  }
}
