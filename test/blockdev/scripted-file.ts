// A random-access file in memory that does what a test tells it: delays, reordering, short acknowledgements, errors. It
// also checks the one rule it can see from below: no two overlapping requests under way together when one of them writes.

import type {
  AccessOptions,
  FileKind,
  FileStatus,
  FileSystemSpace,
  RandomAccessFile,
  WriteAccessOptions,
} from '../../packages/blockdev/src/random-access-file.ts'

interface Range {
  offset: number
  end: number
  write: boolean
}

export interface Call {
  call: 'read' | 'write' | 'setSize' | 'sync' | 'status' | 'close'
  offset: number
  length: number
}

type Hook<A extends unknown[], R> = (...args: A) => R | undefined | Promise<R | undefined>

export class ScriptedFile implements RandomAccessFile {
  canSync = true
  kind: FileKind = 'file'
  /** Every call, in order. */
  readonly calls: Call[] = []
  /** Overlapping requests that were under way together. */
  readonly violations: string[] = []
  bytes: Uint8Array
  availableBytes: number | undefined = 2 ** 40
  /** Turns of the event loop (microtasks) that a call waits before and after it takes effect. */
  hops: () => number = () => 0
  /** Throw to fail; return a number to read that many bytes only. */
  onRead: Hook<[offset: number, length: number], number> = () => undefined
  /** Throw to fail; return a number to take that many bytes only. */
  onWrite: Hook<[offset: number, length: number], number> = () => undefined
  onSync: Hook<[], void> = () => undefined
  /** Throw to fail; return a number to set another size instead. */
  onSetSize: Hook<[size: number], number> = () => undefined
  onStatus: (status: FileStatus) => FileStatus = (status) => status
  onClose: Hook<[], void> = () => undefined
  closed = false
  /** Whether the buffers of writes are copied at once, and said to be free. */
  sendsAtOnce = true
  readonly #underWay = new Set<Range>()

  constructor(content: Uint8Array | number = 0) {
    this.bytes = typeof content === 'number' ? new Uint8Array(content) : content.slice()
  }

  count(call: Call['call']): number {
    return this.calls.filter((entry) => entry.call === call).length
  }

  async read(offset: number, into: Uint8Array, options: AccessOptions = {}): Promise<number> {
    this.calls.push({ call: 'read', offset, length: into.length })
    return this.#tracked({ offset, end: offset + into.length, write: false }, async () => {
      await this.#hop()
      const limit = (await this.onRead(offset, into.length)) ?? into.length
      options.signal?.throwIfAborted()
      const found = this.bytes.subarray(offset, Math.min(offset + into.length, offset + limit))
      into.set(found)
      await this.#hop()
      return found.length
    })
  }

  async write(offset: number, from: Uint8Array, options: WriteAccessOptions = {}): Promise<number> {
    this.calls.push({ call: 'write', offset, length: from.length })
    if (this.sendsAtOnce) {
      from = from.slice()
      options.onSent?.()
    }
    return this.#tracked({ offset, end: offset + from.length, write: true }, async () => {
      await this.#hop()
      const taken = (await this.onWrite(offset, from.length)) ?? from.length
      if (taken > 0) this.#put(offset, from.subarray(0, taken))
      await this.#hop()
      return taken
    })
  }

  async status(): Promise<FileStatus> {
    this.calls.push({ call: 'status', offset: 0, length: 0 })
    await this.#hop()
    return this.onStatus({ size: this.bytes.length, kind: this.kind })
  }

  async setSize(size: number): Promise<void> {
    this.calls.push({ call: 'setSize', offset: size, length: 0 })
    await this.#hop()
    this.#resize((await this.onSetSize(size)) ?? size)
  }

  async sync(): Promise<void> {
    this.calls.push({ call: 'sync', offset: 0, length: 0 })
    await this.#hop()
    await this.onSync()
    await this.#hop()
  }

  async space(): Promise<FileSystemSpace | undefined> {
    return this.availableBytes === undefined ? undefined : { availableBytes: this.availableBytes }
  }

  async close(): Promise<void> {
    this.calls.push({ call: 'close', offset: 0, length: 0 })
    if (this.closed) throw new Error('closed twice')
    this.closed = true
    await this.onClose()
  }

  async #tracked<T>(range: Range, body: () => Promise<T>): Promise<T> {
    for (const other of this.#underWay) {
      const overlap = range.offset < other.end && other.offset < range.end
      if (overlap && (range.write || other.write))
        this.violations.push(`${JSON.stringify(range)} beside ${JSON.stringify(other)}`)
    }
    this.#underWay.add(range)
    try {
      return await body()
    } finally {
      this.#underWay.delete(range)
    }
  }

  async #hop(): Promise<void> {
    for (let hops = this.hops(); hops > 0; hops--) await undefined
  }

  #put(offset: number, from: Uint8Array): void {
    if (offset + from.length > this.bytes.length) this.#resize(offset + from.length)
    this.bytes.set(from, offset)
  }

  #resize(size: number): void {
    const old = this.bytes
    this.bytes = new Uint8Array(size)
    this.bytes.set(old.subarray(0, size))
  }
}

/** A small deterministic generator of numbers below `below`. */
export function seededRandom(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1
  return (below) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}

/** Bytes without a zero that tell every place from every other nearby. */
export function pattern(length: number, seed = 1): Uint8Array {
  const words = new Uint32Array(Math.ceil(length / 4))
  for (let i = 0, state = seed >>> 0 || 1; i < words.length; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    words[i] = state | 0x01010101
  }
  return new Uint8Array(words.buffer, 0, length)
}

/** A promise and the functions that settle it. */
export function gate(): { opened: Promise<void>; open: () => void } {
  let open!: () => void
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { opened, open }
}

/** Lets everything run that does not wait for time or I/O. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

/** The error a promise rejects with; fails where it resolves. */
export async function rejection(promise: Promise<unknown>): Promise<Error & { code?: string }> {
  try {
    await promise
  } catch (error) {
    return error as Error & { code?: string }
  }
  throw new Error('expected a rejection')
}
