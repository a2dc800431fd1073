// Bytes in order into a file, with many WRITEs under way: what writes of streams and put share. A chunk is the caller's
// again as soon as the channel took it; small chunks are gathered while others are under way, and go at once when none is.
// The first error is sticky; `finish` waits for every answer, so nothing reaches the file after it settled.

import type { CallOptions } from './client-session.ts'
import { SftpStatusError } from './errors.ts'
import type { RemoteFile } from './file.ts'

/** Chunks below this are copied together; those above go as they are. */
const smallBytes = 32 * 1024
/** Size of what small chunks are gathered in. */
const gatherBytes = 128 * 1024

interface Started {
  readonly length: number
  state: 'under way' | 'done' | 'failed'
  /** Of a failed write: bytes from its start that were acknowledged. */
  confirmedBytes: number
}

export class PipelinedWriter {
  readonly #file: RemoteFile
  readonly #options: CallOptions
  readonly #onConfirmed: ((bytes: number) => void) | undefined
  #next: number
  /** Writes in order, from the first that is not confirmed. */
  readonly #started: Started[] = []
  #confirmed = 0
  #unanswered = 0
  #error: unknown
  #failed = false
  #gathered = new Uint8Array(0)
  #gatheredLength = 0
  #whenAnswered: (() => void) | undefined

  /** Writes from `offset` on. `onConfirmed` is told the length of the prefix that the server acknowledged, as it grows. */
  constructor(
    file: RemoteFile,
    offset: number,
    options: CallOptions & { onConfirmed?: ((bytes: number) => void) | undefined },
  ) {
    this.#file = file
    this.#next = offset
    this.#options = { signal: options.signal }
    this.#onConfirmed = options.onConfirmed
  }

  /** Bytes from the start that the server acknowledged without a gap. */
  get confirmedBytes(): number {
    return this.#confirmed
  }

  /** Resolves when `chunk` may be reused; rejects with the first error of any chunk so far. */
  async write(chunk: Uint8Array): Promise<void> {
    this.#check()
    if (chunk.length < smallBytes) {
      if (this.#gatheredLength + chunk.length > this.#gathered.length) {
        await this.#flush()
        this.#gathered = new Uint8Array(gatherBytes)
      }
      this.#gathered.set(chunk, this.#gatheredLength)
      this.#gatheredLength += chunk.length
      if (this.#unanswered === 0) await this.#flush()
      return
    }
    await this.#flush()
    await this.#start(chunk)
    this.#check()
  }

  /** Resolves when everything is acknowledged; rejects with the first error, when every answer is there. */
  async finish(): Promise<void> {
    if (!this.#failed) await this.#flush()
    if (this.#unanswered > 0) {
      await new Promise<void>((resolve) => {
        this.#whenAnswered = resolve
      })
    }
    this.#check()
  }

  #check(): void {
    if (this.#failed) throw this.#error
  }

  async #flush(): Promise<void> {
    const length = this.#gatheredLength
    if (length === 0) return
    const bytes = this.#gathered.subarray(0, length)
    this.#gathered = this.#gathered.subarray(length)
    this.#gatheredLength = 0
    await this.#start(bytes)
  }

  async #start(bytes: Uint8Array): Promise<void> {
    const started: Started = { length: bytes.length, state: 'under way', confirmedBytes: 0 }
    this.#started.push(started)
    this.#unanswered++
    const { sent, acknowledged } = this.#file.startWrite(this.#next, bytes, this.#options)
    this.#next += bytes.length
    acknowledged.then(
      () => {
        started.state = 'done'
        this.#answered()
      },
      (error) => {
        started.state = 'failed'
        if (error instanceof SftpStatusError) started.confirmedBytes = error.confirmedBytes ?? 0
        if (!this.#failed) this.#error = error
        this.#failed = true
        this.#answered()
      },
    )
    await sent
  }

  #answered(): void {
    this.#unanswered--
    this.#advance()
    if (this.#gatheredLength > 0 && this.#unanswered === 0 && !this.#failed) void this.#flush()
    if (this.#unanswered === 0) {
      this.#whenAnswered?.()
      this.#whenAnswered = undefined
    }
  }

  #advance(): void {
    const before = this.#confirmed
    let head = this.#started[0]
    while (head?.state === 'done') {
      this.#confirmed += head.length
      this.#started.shift()
      head = this.#started[0]
    }
    if (head?.state === 'failed') {
      this.#confirmed += head.confirmedBytes
      head.confirmedBytes = 0
    }
    if (this.#confirmed > before) this.#onConfirmed?.(this.#confirmed)
  }
}
