// One SFTP session between a byte channel and a back end: begins requests, answers, keeps memory bounded, ends.
// The core knows the protocol, under-way.ts what may run side by side, operations.ts what a request does; here is when.
// Every event (bytes came, the channel can take more, a back end call settled) ends in `#pump`.

import type { ByteChannel, ByteReceiver } from '@sshblock/transport/byte-channel'
import { ClosedError } from '@sshblock/transport/errors'
import type { SftpBackend } from '../backend.ts'
import { SftpClientError } from '../core/client-error.ts'
import { dataHeaderBytes } from '../core/hot-messages.ts'
import { ServerCore } from '../core/server-core.ts'
import {
  defaultMaxHandles,
  defaultMaxQueuedReplyBytes,
  maxReadBytes,
  maxRequestsPerTurn,
  pauseAtBufferedBytes,
} from '../core/server-limits.ts'
import { UnderWay, type WriteUnderWay } from '../core/under-way.ts'
import * as extended from '../messages/extended.ts'
import { packetType, packetTypeName } from '../messages/numbers.ts'
import { statusCode } from '../messages/status.ts'
import { symlinkOrderOfClient } from '../symlink-order.ts'
import { announcement, extendedOperations, extendedOperationsByName } from './extended-operations.ts'
import type { SftpServerObserver } from './observer.ts'
import type { OpenFile, OpenHandle } from './open-handle.ts'
import {
  type Operation,
  type OperationContext,
  observeHandle,
  operations,
  type Request,
} from './operations.ts'
import type { EpochMember, SessionEpochs } from './session-epochs.ts'
import type {
  SftpServerOptions,
  SftpServerOutcome,
  SftpServerSession,
  SftpServerStatistics,
} from './session-types.ts'
import { statusOf } from './status-of.ts'

/** Replies that are worth a write of their own. */
const flushAtBytes = 16_384
/** Microtasks that smaller ones wait for more: an operation on a back end that answers at once takes about five. */
const flushPatience = 10

export class ServerSession implements SftpServerSession, OperationContext, ByteReceiver {
  readonly core: ServerCore<OpenHandle>
  readonly backend: SftpBackend
  readonly observer: SftpServerObserver
  readonly startDirectory: string
  readonly homeDirectory: string
  readonly readOnly: boolean
  readonly modeMask: number
  readonly symlinkOrder: 'target' | 'link'
  readonly maxHandles: number
  readonly epochs: SessionEpochs | undefined
  readonly finished: Promise<SftpServerOutcome>

  readonly #channel: ByteChannel
  readonly #permits: (operation: Operation) => boolean
  readonly #permitsRead: boolean
  readonly #permitsWrite: boolean
  readonly #maxQueuedReplyBytes: number
  readonly #onFinish: ((outcome: SftpServerOutcome) => void) | undefined
  readonly #underWay: UnderWay
  #resolveFinished!: (outcome: SftpServerOutcome) => void

  #isPumping = false
  #pumpAgain = false
  #budget = maxRequestsPerTurn
  #budgetTimer: ReturnType<typeof setTimeout> | undefined
  /** Microtasks since something happened, while small answers wait; undefined while none do. */
  #patience: number | undefined
  #isPaused = false
  #clientEnded = false
  #outcome: SftpServerOutcome | undefined
  #isClosingHandles = false
  #isChannelClosed = false

  #requests = 0
  #bytesRead = 0
  #bytesWritten = 0

  constructor(channel: ByteChannel, backend: SftpBackend, options: SftpServerOptions) {
    this.#channel = channel
    this.backend = backend
    this.observer = options.observer ?? {}
    this.epochs = options.epochs
    this.startDirectory = options.startDirectory ?? '/'
    this.homeDirectory = options.homeDirectory ?? this.startDirectory
    this.readOnly = options.readOnly ?? false
    this.modeMask = (options.modeMask ?? 0o7777) & 0o7777
    this.symlinkOrder = symlinkOrderOfClient(options.clientIdentification)
    this.maxHandles = Math.min(options.maxHandles ?? defaultMaxHandles, 65_536)
    this.#maxQueuedReplyBytes = options.maxQueuedReplyBytes ?? defaultMaxQueuedReplyBytes
    this.#onFinish = options.onFinish
    this.#underWay = new UnderWay(this.#maxQueuedReplyBytes)
    const allowed = options.allowRequests === undefined ? undefined : new Set(options.allowRequests)
    const denied = new Set(options.denyRequests ?? [])
    const permits = (name: string, writes: boolean) =>
      !(this.readOnly && writes) && !denied.has(name) && (allowed === undefined || allowed.has(name))
    this.#permits = ({ name, writes }) => permits(name, writes)
    this.#permitsRead = permits('read', false)
    this.#permitsWrite = permits('write', true)
    this.core = new ServerCore<OpenHandle>({
      extensions: extendedOperations
        .filter((operation) => operation.isAvailable(backend, this.epochs) && this.#permits(operation))
        .map(announcement),
      maxHandles: this.maxHandles,
      maxPoolBytes: this.#maxQueuedReplyBytes,
      random: options.random ?? fillRandom,
    })
    this.finished = new Promise((resolve) => {
      this.#resolveFinished = resolve
    })
  }

  get member(): EpochMember {
    return this
  }

  get isClosed(): boolean {
    return this.#outcome !== undefined
  }

  get statistics(): SftpServerStatistics {
    return {
      requests: this.#requests,
      bytesRead: this.#bytesRead,
      bytesWritten: this.#bytesWritten,
      openHandles: this.core.handles.size,
      queuedReplyBytes: this.core.queuedReplyBytes,
      bufferedBytes: this.core.bufferedBytes,
      isPaused: this.#isPaused,
    }
  }

  close(): void {
    this.#end({ reason: 'closed', error: new ClosedError('the SFTP session') })
  }

  // ---- ByteReceiver ----

  data(view: Uint8Array): void {
    if (this.isClosed || this.#clientEnded) return
    try {
      this.core.input(view)
    } catch (error) {
      this.#fail(error)
      return
    }
    this.#pump()
  }

  writable(): void {
    this.#pump()
  }

  end(): void {
    this.#clientEnded = true
    this.#pump()
  }

  closed(cause?: Error): void {
    this.#isChannelClosed = true
    this.#end(cause === undefined ? { reason: 'closed' } : { reason: 'closed', error: cause })
  }

  // ---- Beginning requests ----

  /** Begins what may begin, sends what may be sent, adjusts the flow. Everything that happens ends here. */
  #pump(): void {
    // The channel may call back from inside `write`: once more round then, never deeper.
    this.#pumpAgain = true
    if (this.#isPumping) return
    this.#isPumping = true
    try {
      while (this.#pumpAgain && !this.isClosed) {
        this.#pumpAgain = false
        this.#beginRequests()
        if (this.core.queuedReplyBytes >= flushAtBytes || this.#underWay.isQuiet) this.#flush()
        else if (this.core.queuedReplyBytes > 0) this.#flushSoon()
        if (!this.isClosed) this.#adjustFlow()
      }
      if (!this.isClosed) this.#restOrEnd()
    } catch (error) {
      this.#fail(error)
    } finally {
      this.#isPumping = false
    }
  }

  #beginRequests(): void {
    for (;;) {
      if (this.#backlog() >= this.#maxQueuedReplyBytes) {
        this.#flush()
        if (this.#backlog() >= this.#maxQueuedReplyBytes) return
      }
      const request = this.core.peek()
      if (request === undefined || !this.#mayBegin(request) || !this.#takeTurn()) return
      this.core.advance()
      this.#requests++
      if (request.type === packetType.read) this.#read(request)
      else if (request.type === packetType.write) this.#write(request)
      else this.#operate(request)
    }
  }

  /** Bytes of replies that are there or will be. */
  #backlog(): number {
    return this.core.queuedReplyBytes + this.#underWay.readBytes
  }

  #mayBegin({ type, target, range }: Request): boolean {
    if (type === packetType.read) return this.#underWay.mayBeginRead
    if (type !== packetType.write || target?.kind !== 'file' || range === undefined)
      return this.#underWay.isQuiet
    return this.#underWay.mayBeginWrite({ target, ...range }, target.flags.append)
  }

  /**
   * Back ends that answer at once would let one session's flood hold the event loop: after so many requests the next
   * waits for a timer. It is set only now: one that is due already would run before any I/O.
   */
  #takeTurn(): boolean {
    if (this.#budget > 0) {
      this.#budget--
      return true
    }
    this.#budgetTimer ??= setTimeout(() => {
      this.#budgetTimer = undefined
      this.#budget = maxRequestsPerTurn
      this.#pump()
    }, 0)
    return false
  }

  #refuse(request: Request, name: string, status: number, text?: string): void {
    this.core.status(request, status, text)
    if (status !== statusCode.eof) this.observer.refused?.(name, status, text ?? '')
  }

  #failRequest(request: Request, name: string, error: unknown): void {
    const { code, text, isFault } = statusOf(error)
    if (isFault) this.observer.fault?.(error)
    this.#refuse(request, name, code, text)
  }

  /** What was under way is done: answers, unless the session is over, and goes on. */
  #settled(answer: () => void): void {
    if (this.isClosed) {
      this.#closeHandlesWhenQuiet()
      return
    }
    try {
      answer()
    } catch (error) {
      this.#fail(error)
    }
    this.#pump()
  }

  /** READ and WRITE: the file, or undefined when the request was refused. */
  #openFileOf(request: Request, name: string, isPermitted: boolean): OpenFile | undefined {
    const { range, target } = request
    if (!isPermitted) this.#refuse(request, name, statusCode.permissionDenied, 'Permission denied')
    else if (range === undefined) this.#refuse(request, name, statusCode.badMessage, 'Bad message')
    else if (target?.kind !== 'file') this.#refuse(request, name, statusCode.failure, 'Invalid handle')
    else return target
    return undefined
  }

  #read(request: Request): void {
    const open = this.#openFileOf(request, 'read', this.#permitsRead)
    if (open === undefined) return
    const length = Math.min(request.range!.length, maxReadBytes)
    const buffer = this.core.dataBuffer(length)
    if (length === 0) {
      this.core.data(request, buffer, 0)
      return
    }
    let result: number | Promise<number>
    try {
      result = open.file.read(
        request.range!.offset,
        buffer.subarray(dataHeaderBytes, dataHeaderBytes + length),
      )
    } catch (error) {
      this.core.pool.give(buffer)
      this.#failRequest(request, 'read', error)
      return
    }
    if (typeof result === 'number') {
      this.#answerRead(request, open, buffer, length, result)
      return
    }
    this.#underWay.beginRead(length)
    result.then(
      (count) => {
        this.#underWay.endRead(length)
        this.#settled(() => this.#answerRead(request, open, buffer, length, count))
      },
      (error: unknown) => {
        this.#underWay.endRead(length)
        this.core.pool.give(buffer)
        this.#settled(() => this.#failRequest(request, 'read', error))
      },
    )
  }

  #answerRead(request: Request, open: OpenFile, buffer: Uint8Array, length: number, count: number): void {
    if (Number.isInteger(count) && count > 0 && count <= length) {
      open.bytesRead += count
      this.#bytesRead += count
      this.core.data(request, buffer, count)
      this.observer.read?.(open, request.range!.offset, count)
      return
    }
    this.core.pool.give(buffer)
    if (count === 0) {
      this.#refuse(request, 'read', statusCode.eof)
      this.observer.read?.(open, request.range!.offset, 0)
    } else {
      this.#failRequest(request, 'read', new RangeError(`the back end read ${count} of ${length} bytes`))
    }
  }

  #write(request: Request): void {
    const open = this.#openFileOf(request, 'write', this.#permitsWrite)
    if (open === undefined) return
    const { offset, length } = request.range!
    const { payload, buffer } = this.core.keepPayload(request)
    let result: undefined | Promise<void>
    try {
      result = open.file.write(offset, payload) as undefined | Promise<void>
    } catch (error) {
      if (buffer !== undefined) this.core.pool.give(buffer)
      this.#failRequest(request, 'write', error)
      return
    }
    if (result === undefined) {
      if (buffer !== undefined) this.core.pool.give(buffer)
      this.#answerWrite(request, open)
      return
    }
    const write: WriteUnderWay = { target: open, offset, length }
    this.#underWay.beginWrite(write)
    const done = () => {
      this.#underWay.endWrite(write)
      if (buffer !== undefined) this.core.pool.give(buffer)
    }
    result.then(
      () => {
        done()
        this.#settled(() => this.#answerWrite(request, open))
      },
      (error: unknown) => {
        done()
        this.#settled(() => this.#failRequest(request, 'write', error))
      },
    )
  }

  #answerWrite(request: Request, open: OpenFile): void {
    const { offset, length } = request.range!
    open.bytesWritten += length
    this.#bytesWritten += length
    this.core.ok(request)
    this.observer.write?.(open, offset, length)
  }

  #operate(request: Request): void {
    const operation = this.#operationFor(request)
    if (operation === undefined) return
    if (!this.#permits(operation)) {
      this.#refuse(request, operation.name, statusCode.permissionDenied, 'Permission denied')
      return
    }
    this.#underWay.beginExclusive()
    operation.run(this, request).then(
      () => {
        this.#underWay.endExclusive()
        this.#settled(() => {})
      },
      (error: unknown) => {
        this.#underWay.endExclusive()
        this.#settled(() => this.#failRequest(request, operation.name, error))
      },
    )
  }

  /** The operation for a request other than READ and WRITE; undefined when there is none, which is answered then. */
  #operationFor(request: Request): Operation | undefined {
    if (request.type !== packetType.extended) {
      const operation = operations.get(request.type)
      if (operation === undefined)
        this.#refuse(request, packetTypeName(request.type), statusCode.opUnsupported)
      return operation
    }
    let name: string
    try {
      name = extended.extended.decode(request.body).extendedRequest
    } catch (error) {
      this.#failRequest(request, 'extended', error)
      return undefined
    }
    const operation = extendedOperationsByName.get(name)
    if (operation?.isAvailable(this.backend, this.epochs)) return operation
    this.#refuse(request, name, statusCode.opUnsupported)
    return undefined
  }

  // ---- Flow ----

  /**
   * Small answers leave together where a back end answers at once, which takes it a few microtasks; where what is under
   * way takes longer than that, they do not wait for it.
   */
  #flushSoon(): void {
    const isWaiting = this.#patience !== undefined
    this.#patience = 0
    if (isWaiting) return
    const wait = () => {
      if (this.isClosed || this.core.queuedReplyBytes === 0) this.#patience = undefined
      else if (this.#patience!++ < flushPatience) queueMicrotask(wait)
      else {
        this.#patience = undefined
        this.#flush()
      }
    }
    queueMicrotask(wait)
  }

  #flush(): void {
    const channel = this.#channel
    for (;;) {
      const chunk = this.core.takeOutput(channel.writableBytes)
      if (chunk === undefined) return
      channel.write(chunk)
    }
  }

  #adjustFlow(): void {
    const { bufferedBytes } = this.core
    const backlog = this.#backlog()
    if (!this.#isPaused) {
      if (bufferedBytes <= pauseAtBufferedBytes && backlog < this.#maxQueuedReplyBytes) return
      this.#isPaused = true
      this.#channel.pause()
    } else if (bufferedBytes <= pauseAtBufferedBytes / 2 && backlog <= this.#maxQueuedReplyBytes / 2) {
      this.#isPaused = false
      this.#channel.resume()
    }
  }

  #restOrEnd(): void {
    if (this.core.unanswered > 0 || !this.#underWay.isQuiet || this.core.peek() !== undefined) return
    this.core.pool.trim()
    if (!this.#clientEnded) return
    if (this.core.isIncomplete) throw new SftpClientError('the stream ended in the middle of a request')
    this.#end({ reason: 'end' })
  }

  // ---- The end ----

  #fail(cause: unknown): void {
    if (!(cause instanceof SftpClientError)) this.observer.fault?.(cause)
    const error = cause instanceof Error ? cause : new SftpClientError(String(cause))
    this.#end({ reason: 'error', error })
  }

  /** The first outcome wins. Files are closed when no call into the back end is under way any more. */
  #end(outcome: SftpServerOutcome): void {
    if (this.#outcome !== undefined) return
    this.#outcome = outcome
    if (this.#budgetTimer !== undefined) clearTimeout(this.#budgetTimer)
    this.core.clear()
    // A client that was answered gets its end of file when the files are closed; for all others it is over now.
    if (outcome.reason !== 'end') this.#closeChannel(outcome)
    this.#closeHandlesWhenQuiet()
  }

  #closeChannel(outcome: SftpServerOutcome): void {
    if (this.#isChannelClosed) return
    this.#onFinish?.(outcome)
    this.#isChannelClosed = true
    if (outcome.reason === 'end') this.#channel.end()
    this.#channel.close()
  }

  #closeHandlesWhenQuiet(): void {
    if (this.#isClosingHandles || !this.#underWay.isQuiet) return
    this.#isClosingHandles = true
    void this.#closeHandles().finally(() => {
      const outcome = this.#outcome!
      this.#closeChannel(outcome)
      this.#resolveFinished(outcome)
    })
  }

  async #closeHandles(): Promise<void> {
    for (const open of this.core.handles.clear()) {
      observeHandle(this, open, 'close', true)
      try {
        await (open.kind === 'file' ? open.file.close() : open.directory.close())
      } catch (error) {
        this.observer.fault?.(error)
      }
    }
  }
}

function fillRandom(into: Uint8Array): void {
  globalThis.crypto.getRandomValues(into as Uint8Array<ArrayBuffer>)
}
