// The handle of a device that lives in another thread. Each call is one message and one answer; the bytes of a read are
// transferred to this thread and copied once into the caller's buffer, those of a write copied once and transferred: just
// them, whatever buffer they lie in, which stays the caller's.
// Calls leave in the order in which they are made, and the device keeps that order where ranges overlap.

import type { BlockDevice, CallOptions, Extent, WriteOptions } from '../device.ts'
import { BlockDeviceError } from '../errors.ts'
import { abortedError } from '../layers/abort.ts'
import { checkInside, checkRange } from '../layers/bounds.ts'
import {
  type DeviceDescription,
  type DevicePort,
  type DeviceRequest,
  errorFrom,
  type FromDevice,
  isOurs,
  portProtocol,
  type ToDevice,
} from './device-port.ts'

interface PendingCall {
  readonly into: Uint8Array | undefined
  readonly settle: (error?: Error) => void
}

/**
 * The handle of the device that `serveDevice` serves at the other end.
 *
 * @param port a Worker, or a MessagePort whose other end a worker was given
 * @param options a `signal` gives up a worker that never answers
 * @throws BlockDeviceError ABORT_ERR where the signal was aborted, EIO where the port was closed
 */
export async function deviceFromPort(port: DevicePort, options: CallOptions = {}): Promise<PortDevice> {
  const calls = new PortCalls(port)
  try {
    await calls.call({ type: 'describe' }, options)
  } catch (error) {
    calls.fail(error instanceof Error ? error : threadGone('it did not answer'))
    throw error
  }
  return new PortDevice(calls)
}

/** Requests and answers over one port. */
class PortCalls {
  readonly #port: DevicePort
  readonly #pending = new Map<number, PendingCall>()
  #nextId = 0
  #failure: Error | undefined
  description: DeviceDescription | undefined

  constructor(port: DevicePort) {
    this.#port = port
    port.addEventListener('message', this.#onMessage)
    port.addEventListener('close', this.#onClose)
    port.addEventListener('messageerror', this.#onMessageError)
    port.start?.()
  }

  call(
    request: DeviceRequest,
    { signal }: CallOptions,
    into?: Uint8Array,
    transfer: Transferable[] = [],
  ): Promise<void> {
    const range = 'offset' in request ? { offset: request.offset } : {}
    if (signal?.aborted === true) return Promise.reject(abortedError(request.type, signal, range))
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    const id = this.#nextId++
    return new Promise((resolve, reject) => {
      // The answer is not waited for: it may never come. `into` is not touched any more, and what a cancelled write did is
      // not known in any case.
      const onAbort = (): void => {
        this.#send({ protocol: portProtocol, id, cancel: true })
        settle(abortedError(request.type, signal!, range))
      }
      const settle = (error?: Error): void => {
        this.#pending.delete(id)
        signal?.removeEventListener('abort', onAbort)
        if (error === undefined) resolve()
        else reject(error)
      }
      this.#pending.set(id, { into, settle })
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#send({ protocol: portProtocol, id, request }, transfer)
    })
  }

  /** Fails every call that is under way, and those to come. */
  fail(error: Error): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    this.#port.removeEventListener('message', this.#onMessage)
    this.#port.removeEventListener('close', this.#onClose)
    this.#port.removeEventListener('messageerror', this.#onMessageError)
    for (const { settle } of [...this.#pending.values()]) settle(error)
  }

  #send(message: ToDevice, transfer: Transferable[] = []): void {
    this.#port.postMessage(message, transfer)
  }

  readonly #onClose = (): void => this.fail(threadGone('the port is closed'))

  readonly #onMessageError = (): void => this.fail(threadGone('an answer cannot be read'))

  readonly #onMessage = ({ data }: { data: unknown }): void => {
    if (!isOurs(data)) return
    const answer = data as FromDevice
    if ('gone' in answer) {
      this.fail(errorFrom(answer.gone))
      return
    }
    this.description = answer.description
    const call = this.#pending.get(answer.id)
    if (call === undefined) return
    if ('error' in answer) {
      call.settle(errorFrom(answer.error))
      return
    }
    if (answer.bytes !== undefined) call.into?.set(answer.bytes)
    call.settle()
  }
}

function threadGone(reason: string): BlockDeviceError {
  return new BlockDeviceError('EIO', `the device's thread is gone: ${reason}`)
}

/** A block device in another thread. */
export class PortDevice implements BlockDevice {
  readonly #calls: PortCalls
  #closing: Promise<void> | undefined

  /** Made by `deviceFromPort`. */
  constructor(calls: PortCalls) {
    this.#calls = calls
  }

  get size(): number {
    return this.#description.size
  }

  get blockSize(): number {
    return this.#description.blockSize
  }

  get preferredBlockSize(): number {
    return this.#description.preferredBlockSize
  }

  get readOnly(): boolean {
    return this.#description.readOnly
  }

  get hasZeroInit(): boolean {
    return this.#description.hasZeroInit
  }

  get durability(): 'durable' | 'volatile' {
    return this.#description.durability
  }

  async read(offset: number, into: Uint8Array, options: CallOptions = {}): Promise<void> {
    const { length } = into
    checkRange('read', offset, length)
    await this.#calls.call({ type: 'read', offset, length }, options, into)
  }

  async write(offset: number, from: Uint8Array, options: WriteOptions = {}): Promise<void> {
    checkRange('write', offset, from.length)
    const bytes = from.slice()
    const request: DeviceRequest = { type: 'write', offset, bytes, fua: options.fua ?? false }
    await this.#calls.call(request, options, undefined, [bytes.buffer])
  }

  flush(options: CallOptions = {}): Promise<void> {
    return this.#calls.call({ type: 'flush' }, options)
  }

  async writeZeroes(offset: number, length: number, options: WriteOptions = {}): Promise<void> {
    checkRange('writeZeroes', offset, length)
    await this.#calls.call({ type: 'writeZeroes', offset, length, fua: options.fua ?? false }, options)
  }

  async discard(offset: number, length: number, options: CallOptions = {}): Promise<void> {
    checkRange('discard', offset, length)
    await this.#calls.call({ type: 'discard', offset, length }, options)
  }

  async resize(size: number, options: CallOptions & { shrink?: boolean | undefined } = {}): Promise<void> {
    await this.#calls.call({ type: 'resize', size, shrink: options.shrink ?? false }, options)
  }

  /** Nothing is known on this side: one extent of data. */
  extents(offset: number, length: number): Extent[] {
    checkRange('extents', offset, length)
    checkInside('extents', offset, length, this.size)
    return length === 0 ? [] : [{ offset, length, zero: false }]
  }

  /** Closes the device in the other thread. The thread goes on. */
  close(): Promise<void> {
    this.#closing ??= this.#calls.call({ type: 'close' }, {}).finally(() => {
      this.#calls.fail(new BlockDeviceError('EBADF', 'the device is closed'))
    })
    return this.#closing
  }

  /**
   * Fails every call: for a thread that ended or broke, which a Worker, and a port in some browsers, does not tell.
   *
   *     worker.addEventListener('error', (event) => device.abandon(event.message))
   */
  abandon(reason: string): void {
    this.#calls.fail(threadGone(reason))
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  get #description(): DeviceDescription {
    return this.#calls.description!
  }
}
