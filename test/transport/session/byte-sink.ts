/** A sink that keeps what it is given, with little room at a time. */
import type { ByteSink } from '@sshblock/transport'

export class KeepingSink implements ByteSink {
  readonly #room: Uint8Array
  readonly #chunks: Buffer[] = []
  receivedBytes = 0
  ends: (Error | undefined)[] = []
  #changed = (): void => {}

  constructor(roomBytes = 1000) {
    this.#room = new Uint8Array(roomBytes)
  }

  reserve(): Uint8Array {
    return this.#room
  }

  commit(count: number): void {
    this.#chunks.push(Buffer.from(this.#room.slice(0, count)))
    this.receivedBytes += count
    this.#changed()
  }

  end(cause?: Error): void {
    this.ends.push(cause)
    this.#changed()
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#chunks)
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      await new Promise<void>((resolve) => {
        this.#changed = resolve
      })
    }
  }

  async ended(): Promise<Error | undefined> {
    await this.until(() => this.ends.length > 0)
    return this.ends[0]
  }
}
