// A channel whose end is heard out: where the server ended its direction, our CLOSE waits for the server's own, because
// what comes between, the exit status, proves that its process is over, and is not heard any more after our CLOSE.
// The second call of `close` does not wait: for whoever has no use for the proof, or has waited long enough.

import type { ByteChannel, ByteReceiver } from '@sshblock/transport/byte-channel'

export class LingeringChannel implements ByteChannel {
  readonly #channel: ByteChannel
  #serverEnded = false

  constructor(channel: ByteChannel) {
    this.#channel = channel
  }

  get description(): string {
    return this.#channel.description ?? ''
  }

  get writableBytes(): number {
    return this.#channel.writableBytes
  }

  start(receiver: ByteReceiver): void {
    this.#channel.start({
      data: (view) => receiver.data(view),
      writable: () => receiver.writable(),
      end: () => {
        this.#serverEnded = true
        receiver.end()
      },
      closed: (cause) => receiver.closed(cause),
    })
  }

  write(bytes: Uint8Array): void {
    this.#channel.write(bytes)
  }

  pause(): void {
    this.#channel.pause()
  }

  resume(): void {
    this.#channel.resume()
  }

  end(): void {
    this.#channel.end()
  }

  close(): void {
    if (!this.#serverEnded) return this.#channel.close()
    this.#serverEnded = false
    this.#channel.end()
  }
}
