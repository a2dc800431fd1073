// A file that is open on the server (draft-ietf-secsh-filexfer-02 s6.3, s6.4).
// Reads and writes of any size go out as many requests at once and settle when all of them are answered. Any number of
// calls may be under way; their order among each other is not defined, so whoever overlaps reads and writes must await.

import { ClosedError, UsageError } from '@sshblock/transport/errors'
import { attributeSteps } from './attribute-steps.ts'
import type { CallOptions, ClientSession, FileTarget } from './client-session.ts'
import { PieceSize } from './core/transfer-plan.ts'
import type { SftpSubject } from './errors.ts'
import type { Attributes } from './messages/attributes.ts'
import { fstatvfs, fsync } from './messages/extended.ts'
import { fsetstat, fstat } from './messages/requests.ts'
import {
  closeRequest,
  type FileSystemStats,
  fileSystemRequest,
  notOffered,
  statsRequest,
  statusRequest,
} from './request-forms.ts'
import type { Stats } from './stats.ts'

/** A write on its way, for callers who want their buffer back before the answer. */
export interface StartedWrite {
  /** Resolves when every byte was given to the channel, so that the buffer is the caller's again. Never rejects. */
  readonly sent: Promise<void>
  /** Resolves when the server acknowledged every byte; rejects as `write` does. */
  readonly acknowledged: Promise<void>
}

export class RemoteFile {
  /** As it was opened. */
  readonly path: string
  /** The server's handle, 1 to 256 bytes that mean nothing here. */
  readonly handle: Uint8Array
  /** Opened to append: the server puts every write at the end of the file, whatever its offset. */
  readonly append: boolean
  readonly #session: ClientSession
  readonly #subject: SftpSubject
  readonly #target: FileTarget
  #closed: Promise<void> | undefined
  /** Writes of which a WRITE is still in flight, and who waits until there are none. */
  #writes = 0
  #quietWaiters: (() => void)[] = []
  /** The last of the appending writes, which go one after another. */
  #lastAppend: Promise<unknown> = Promise.resolve()

  /** Made by SftpClient.open(). */
  constructor(session: ClientSession, handle: Uint8Array, path: string, append: boolean) {
    this.#session = session
    this.handle = handle
    this.path = path
    this.append = append
    this.#subject = { path, handle }
    const pieceSize = new PieceSize(() => session.limits.maxReadBytes)
    this.#target = { handle, subject: this.#subject, pieceSize, serial: append }
  }

  /**
   * Fills `into` with the bytes at `offset` and resolves to how many there were: fewer than `into.length` only at the end
   * of the file, which the server told by STATUS EOF; short answers are completed. `into` is lent until the promise
   * settles; nothing touches it afterwards.
   * @throws SftpStatusError where the server refused a READ; AbortedError, TimeoutError, ClosedError; SftpProtocolError.
   */
  read(offset: number, into: Uint8Array, options: CallOptions = {}): Promise<number> {
    try {
      this.#check(offset, into.length)
    } catch (error) {
      return Promise.reject(error)
    }
    return this.#session.read(this.#target, offset, into, options)
  }

  /**
   * Writes `from` at `offset` and resolves when the server acknowledged every byte (not yet durable: see `sync`). `from`
   * is lent until the promise settles. The first WRITE that fails decides; the promise then rejects when those already
   * sent were answered, with `confirmedBytes` that are certain, and what follows them in the range undefined. Cancelled or
   * timed out, it rejects at once: `settled` tells when nothing of it can reach the file any more.
   * @throws SftpStatusError ('EIO' is FAILURE, which disks that are full give too), AbortedError, TimeoutError,
   *   ClosedError, SftpProtocolError.
   */
  write(offset: number, from: Uint8Array, options: CallOptions = {}): Promise<void> {
    return this.startWrite(offset, from, options).acknowledged
  }

  /** `write`, with a promise of its own for the moment at which `from` may be reused. */
  startWrite(offset: number, from: Uint8Array, options: CallOptions = {}): StartedWrite {
    try {
      this.#check(offset, from.length)
    } catch (error) {
      return { sent: Promise.resolve(), acknowledged: Promise.reject(error) }
    }
    let onSent!: () => void
    const sent = new Promise<void>((resolve) => {
      onSent = resolve
    })
    this.#writes++
    const run = (): Promise<void> =>
      this.#session.write(this.#target, offset, from, {
        signal: options.signal,
        onSent,
        onQuiet: () => this.#writeQuiet(),
      })
    if (!this.append) return { sent, acknowledged: run() }
    const acknowledged = this.#lastAppend.then(run, run)
    this.#lastAppend = acknowledged
    return { sent, acknowledged }
  }

  /** Bytes that the window of the server's end of the channel lets out still; undefined where the channel has none. */
  get peerWindowBytes(): number | undefined {
    return this.#session.peerWindowBytes
  }

  /** Shortest time that any request to this server took on this channel, in milliseconds; undefined until one was answered. */
  get roundTripMs(): number | undefined {
    return this.#session.roundTripMs
  }

  /** Resolves when no WRITE of this file is in flight, those of cancelled and failed calls included. */
  settled(): Promise<void> {
    if (this.#writes === 0) return Promise.resolve()
    return new Promise((resolve) => this.#quietWaiters.push(resolve))
  }

  /** FSTAT. */
  async stat(options: CallOptions = {}): Promise<Stats> {
    this.#checkOpen()
    const request = statsRequest('FSTAT', this.#subject, (writer, id) =>
      fstat.encode(writer, { id, handle: this.handle }),
    )
    return this.#session.request(request, options)
  }

  /** FSETSTAT, one thing at a time: size, owner, mode, times. Stops at the first that fails. */
  async setstat(attributes: Attributes, options: CallOptions = {}): Promise<void> {
    this.#checkOpen()
    for (const attrs of attributeSteps(attributes)) {
      const request = statusRequest('FSETSTAT', this.#subject, (writer, id) =>
        fsetstat.encode(writer, { id, handle: this.handle, attrs }),
      )
      await this.#session.request(request, options)
    }
  }

  /** Sets the size in bytes. What is added reads as zeros. */
  truncate(size = 0, options: CallOptions = {}): Promise<void> {
    return this.setstat({ size }, options)
  }

  /**
   * fsync: what was acknowledged before this call is on stable storage when it resolves. Does not wait for writes that
   * are still under way. A server does nothing else on this channel meanwhile.
   * @throws SftpStatusError 'ENOTSUP' where the server has no fsync@openssh.com.
   */
  async sync(options: CallOptions = {}): Promise<void> {
    this.#checkOpen()
    if (!this.#session.supports(fsync)) throw notOffered(fsync, this.#subject)
    const request = statusRequest(fsync.name, this.#subject, (writer, id) =>
      fsync.encode(writer, { id, handle: this.handle }),
    )
    await this.#session.request(request, options)
  }

  /**
   * The file system that holds the file.
   * @throws SftpStatusError 'ENOTSUP' where the server has no fstatvfs@openssh.com.
   */
  async statvfs(options: CallOptions = {}): Promise<FileSystemStats> {
    this.#checkOpen()
    if (!this.#session.supports(fstatvfs)) throw notOffered(fstatvfs, this.#subject)
    const request = fileSystemRequest(fstatvfs.name, this.#subject, (writer, id) =>
      fstatvfs.encode(writer, { id, handle: this.handle }),
    )
    return this.#session.request(request, options)
  }

  /**
   * Waits until every WRITE was answered, then closes the handle. Calls made after this fail with ClosedError; later
   * calls of close() give the same promise.
   * @throws SftpStatusError where the server could not close, which may mean that data was lost.
   */
  close(options: CallOptions = {}): Promise<void> {
    this.#closed ??= this.#close(options)
    return this.#closed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #close(options: CallOptions): Promise<void> {
    await this.settled()
    await this.#session.request(closeRequest(this.handle, this.#subject), options)
  }

  #writeQuiet(): void {
    if (--this.#writes > 0) return
    const waiters = this.#quietWaiters
    this.#quietWaiters = []
    for (const waiter of waiters) waiter()
  }

  #checkOpen(): void {
    if (this.#closed !== undefined) throw new ClosedError(`file ${this.path}`)
  }

  #check(offset: number, length: number): void {
    this.#checkOpen()
    if (!Number.isSafeInteger(offset) || offset < 0 || offset + length > Number.MAX_SAFE_INTEGER) {
      throw new UsageError(
        `offset must be an integer from 0 to 2^53 - 1 - length, got ${offset} with length ${length}`,
      )
    }
  }
}
