// What goes between a device in one thread and its handle in another, as structured clones. Buffers are transferred, not
// copied. Both ends are the same program, so nothing here is a wire format that others may rely on.

import { SshError } from '@sshblock/transport/errors'
import { BlockDeviceError, type BlockDeviceErrorCode } from '../errors.ts'
import { checkInside, checkRange, roundUpToBlock } from '../layers/bounds.ts'

/** A MessagePort, a Worker, or the global scope of a dedicated worker. */
export interface DevicePort {
  postMessage(message: unknown, transfer: Transferable[]): void
  addEventListener(type: 'message', listener: (event: { data: unknown }) => void): void
  /** 'close' comes from a MessagePort alone, where its other end is gone, and not in every browser. */
  addEventListener(type: 'close' | 'messageerror', listener: () => void): void
  removeEventListener(type: 'message', listener: (event: { data: unknown }) => void): void
  removeEventListener(type: 'close' | 'messageerror', listener: () => void): void
  /** MessagePort alone: begins delivery. */
  start?(): void
}

/** What a handle knows without asking. */
export interface DeviceDescription {
  readonly size: number
  readonly blockSize: number
  readonly preferredBlockSize: number
  readonly readOnly: boolean
  readonly hasZeroInit: boolean
  readonly durability: 'durable' | 'volatile'
}

export type DeviceRequest =
  | { readonly type: 'describe' }
  | { readonly type: 'read'; readonly offset: number; readonly length: number }
  | {
      readonly type: 'write'
      readonly offset: number
      readonly bytes: Uint8Array<ArrayBuffer>
      readonly fua: boolean
    }
  | { readonly type: 'flush' }
  | { readonly type: 'writeZeroes'; readonly offset: number; readonly length: number; readonly fua: boolean }
  | { readonly type: 'discard'; readonly offset: number; readonly length: number }
  | { readonly type: 'resize'; readonly size: number; readonly shrink: boolean }
  | { readonly type: 'close' }

/** An error as data: class and stack stay where they were. */
export interface PortableError {
  readonly code: string
  readonly message: string
  readonly isDeviceError: boolean
  readonly offset: number | undefined
  readonly length: number | undefined
  readonly cause: PortableError | undefined
}

/** Marks messages as ours: a port may carry others too. */
export const portProtocol = 'sshblock-device-1'

export type ToDevice = { readonly protocol: typeof portProtocol; readonly id: number } & (
  | { readonly request: DeviceRequest }
  | { readonly cancel: true }
)

export type FromDevice =
  | ({ readonly protocol: typeof portProtocol; readonly id: number } & (
      | { readonly description: DeviceDescription; readonly bytes?: Uint8Array<ArrayBuffer> }
      | { readonly error: PortableError; readonly description: DeviceDescription }
    ))
  /** Nothing more will be answered. */
  | { readonly protocol: typeof portProtocol; readonly gone: PortableError }

/** Whether a message is meant for us. Its sender is this module's other half, as a rule: see `checkRequest`. */
export function isOurs(data: unknown): data is { readonly protocol: typeof portProtocol } {
  return typeof data === 'object' && data !== null && 'protocol' in data && data.protocol === portProtocol
}

/**
 * Looks whether a request has the form that a device can be called with, and names no more bytes than there are: they are
 * allocated before the device is asked. A mistake of a page is answered by an error, not by the end of its worker.
 * @throws BlockDeviceError EINVAL
 */
export function checkRequest(request: unknown, deviceSize: number): asserts request is DeviceRequest {
  const { type, ...fields } = (typeof request === 'object' && request !== null ? request : {}) as Record<
    string,
    unknown
  >
  const form = typeof type === 'string' ? forms.get(type) : undefined
  if (form === undefined || !form.every((name) => isRight(name, fields[name])))
    throw new BlockDeviceError('EINVAL', 'what came over the port is no request of a device handle')
  if (type !== 'read') return
  const { offset, length } = fields as { offset: number; length: number }
  checkRange('read', offset, length)
  checkInside('read', offset, length, roundUpToBlock(deviceSize))
}

type Field = 'offset' | 'length' | 'size' | 'bytes' | 'fua' | 'shrink'

const forms: ReadonlyMap<string, readonly Field[]> = new Map<DeviceRequest['type'], readonly Field[]>([
  ['describe', []],
  ['read', ['offset', 'length']],
  ['write', ['offset', 'bytes', 'fua']],
  ['flush', []],
  ['writeZeroes', ['offset', 'length', 'fua']],
  ['discard', ['offset', 'length']],
  ['resize', ['size', 'shrink']],
  ['close', []],
])

function isRight(name: Field, value: unknown): boolean {
  if (name === 'bytes') return value instanceof Uint8Array
  return typeof value === (name === 'fua' || name === 'shrink' ? 'boolean' : 'number')
}

/** How many causes below an error are taken along. */
const maxCauses = 4

export function portableError(error: unknown, depth = 0): PortableError {
  const { code, message, cause } = (error instanceof Error ? error : new Error(String(error))) as Error & {
    code?: unknown
  }
  const range = error instanceof BlockDeviceError ? error : undefined
  return {
    code: typeof code === 'string' ? code : 'EIO',
    message,
    isDeviceError: range !== undefined,
    offset: range?.offset,
    length: range?.length,
    cause: cause === undefined || depth >= maxCauses ? undefined : portableError(cause, depth + 1),
  }
}

/** The error again: a BlockDeviceError where it was one, else an SshError with the same code. */
export function errorFrom({ code, message, isDeviceError, offset, length, cause }: PortableError): SshError {
  const details = cause === undefined ? {} : { cause: errorFrom(cause) }
  if (!isDeviceError) return new SshError(code, message, details)
  return new BlockDeviceError(code as BlockDeviceErrorCode, message, {
    ...details,
    ...(offset === undefined ? {} : { offset }),
    ...(length === undefined ? {} : { length }),
  })
}
