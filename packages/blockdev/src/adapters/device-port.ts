// What goes between a device in one thread and its handle in another, as structured clones. Buffers are transferred, not
// copied. Both ends are the same program, so nothing here is a wire format that others may rely on.

import { SshError } from '@sshblock/transport/errors'
import { BlockDeviceError, type BlockDeviceErrorCode } from '../errors.ts'

/** A MessagePort, a Worker, or the global scope of a dedicated worker. */
export interface DevicePort {
  postMessage(message: unknown, transfer: Transferable[]): void
  addEventListener(type: 'message', listener: (event: { data: unknown }) => void): void
  removeEventListener(type: 'message', listener: (event: { data: unknown }) => void): void
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

export type FromDevice = { readonly protocol: typeof portProtocol; readonly id: number } & (
  | { readonly description: DeviceDescription; readonly bytes?: Uint8Array<ArrayBuffer> }
  | { readonly error: PortableError; readonly description: DeviceDescription }
)

/** Whether a message is one of ours; then its form is right, because its sender is this module's other half. */
export function isOurs(data: unknown): data is { readonly protocol: typeof portProtocol } {
  return typeof data === 'object' && data !== null && 'protocol' in data && data.protocol === portProtocol
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
