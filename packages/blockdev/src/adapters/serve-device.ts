// The side of a port where the device is, usually a worker. Owns nothing but the calls under way: the device is closed when
// the handle asks for it, or by whoever opened it.

import type { BlockDevice } from '../device.ts'
import { BlockDeviceError } from '../errors.ts'
import {
  checkRequest,
  type DeviceDescription,
  type DevicePort,
  type DeviceRequest,
  type FromDevice,
  isOurs,
  portableError,
  portProtocol,
  type ToDevice,
} from './device-port.ts'

/**
 * Lets a handle in another thread (`deviceFromPort`) use this device.
 *
 *     // worker.ts
 *     serveDevice(await openBlockDevice(...), self)
 *
 * @param port a MessagePort, or `self` in a dedicated worker; other messages on it are left alone
 * @returns stops serving: the handle's calls fail with EBADF, those under way are cancelled, and the device stays open
 */
export function serveDevice(device: BlockDevice, port: DevicePort): () => void {
  const underWay = new Map<number, AbortController>()
  let stopped = false

  const answer = (id: number, reply: { bytes?: Uint8Array<ArrayBuffer> } | { error: unknown }): void => {
    const description = describe(device)
    const message: FromDevice =
      'error' in reply
        ? { protocol: portProtocol, id, description, error: portableError(reply.error) }
        : { protocol: portProtocol, id, description, ...reply }
    const transfer = 'bytes' in reply && reply.bytes !== undefined ? [reply.bytes.buffer] : []
    port.postMessage(message, transfer)
  }

  const onMessage = ({ data }: { data: unknown }): void => {
    if (!isOurs(data)) return
    const message = data as ToDevice
    const { id } = message
    if ('cancel' in message) {
      underWay.get(id)?.abort()
      return
    }
    const abort = new AbortController()
    underWay.set(id, abort)
    perform(device, message.request, abort.signal)
      .then(
        (bytes) => answer(id, bytes === undefined ? {} : { bytes }),
        (error: unknown) => answer(id, { error }),
      )
      .finally(() => {
        if (underWay.get(id) === abort) underWay.delete(id)
      })
  }

  port.addEventListener('message', onMessage)
  port.start?.()
  return () => {
    if (stopped) return
    stopped = true
    port.removeEventListener('message', onMessage)
    for (const abort of underWay.values()) abort.abort()
    const gone = new BlockDeviceError('EBADF', 'the device is not served any more')
    const message: FromDevice = { protocol: portProtocol, gone: portableError(gone) }
    port.postMessage(message, [])
  }
}

function describe(device: BlockDevice): DeviceDescription {
  const { size, blockSize, preferredBlockSize, readOnly, hasZeroInit, durability } = device
  return { size, blockSize, preferredBlockSize, readOnly, hasZeroInit, durability }
}

/** Resolves to bytes for the handle, where the request asks for some. */
async function perform(
  device: BlockDevice,
  request: DeviceRequest,
  signal: AbortSignal,
): Promise<Uint8Array<ArrayBuffer> | undefined> {
  checkRequest(request, device.size)
  switch (request.type) {
    case 'describe':
      return undefined
    case 'read': {
      const bytes = new Uint8Array(request.length)
      await device.read(request.offset, bytes, { signal })
      return bytes
    }
    case 'write':
      await device.write(request.offset, request.bytes, { signal, fua: request.fua })
      return undefined
    case 'flush':
      await device.flush({ signal })
      return undefined
    case 'writeZeroes':
      await device.writeZeroes(request.offset, request.length, { signal, fua: request.fua })
      return undefined
    case 'discard':
      await device.discard(request.offset, request.length, { signal })
      return undefined
    case 'resize':
      await device.resize(request.size, { signal, shrink: request.shrink })
      return undefined
    case 'close':
      await device.close()
      return undefined
  }
}
