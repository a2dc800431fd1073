// Bytes in order into a file, with many WRITEs under way: what writes of streams and put share. A chunk is the caller's
// again as soon as the channel took it; small chunks are gathered while others are under way, and go at once when none is.
// The first error is sticky; `finish` waits for every answer, so nothing reaches the file after it settled.
// Large chunks are started in parts, which several lanes of an upload share. What is started beyond the first byte that is
// not confirmed is bounded, so that an interrupted upload has no holes but at its end.

import type { CallOptions } from './client-session.ts'
import { SftpStatusError } from './errors.ts'
import type { RemoteFile } from './file.ts'
import { defaultMaxBytesInFlight } from './limits.ts'

/** Chunks below this are copied together; those above go as they are. */
const smallBytes = 32 * 1024
/** Size of what small chunks are gathered in. */
const gatherBytes = 128 * 1024
/** Most bytes of a part of a large chunk: whole pages, and one WRITE of OpenSSH. */
export const partBytes = 252 * 1024
const pageBytes = 4096

/** Parts of about the same length, rather than full ones and a crumb. */
function partLength(chunkLength: number): number {
  const even = chunkLength / Math.ceil(chunkLength / partBytes)
  return Math.ceil(even / pageBytes) * pageBytes
}

interface Started {
  readonly length: number
  state: 'under way' | 'done' | 'failed'
  /** Of a failed write: bytes from its start that were acknowledged. */
  confirmedBytes: number
}

export class PipelinedWriter {
  readonly #file: Pick<RemoteFile, 'startWrite'>
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
  #unconfirmed = 0
  #whenAnswered: (() => void) | undefined
  #whenRoom: (() => void) | undefined

  /** Writes from `offset` on. `onConfirmed` is told the length of the prefix that the server acknowledged, as it grows. */
  constructor(
    file: Pick<RemoteFile, 'startWrite'>,
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
    const sent: Promise<void>[] = []
    const part = partLength(chunk.length)
    for (let at = 0; at < chunk.length && !this.#failed; at += part) {
      while (this.#unconfirmed >= defaultMaxBytesInFlight && !this.#failed) await this.#room()
      sent.push(this.#start(chunk.subarray(at, at + part)))
    }
    await Promise.all(sent)
    this.#check()
  }

  #room(): Promise<void> {
    return new Promise((resolve) => {
      this.#whenRoom = resolve
    })
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
    this.#unconfirmed += bytes.length
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
    this.#whenRoom?.()
    this.#whenRoom = undefined
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
      this.#unconfirmed -= head.length
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
