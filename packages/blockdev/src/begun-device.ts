// From a location to a disk, for pages: the device, with all that outlives a lost connection, is a chunk of its own, and is
// fetched while the connection is being made. Once the device is handed out nothing is left to be fetched for it.

import { channelWish } from './channel-wish.ts'
import { BlockDeviceError } from './errors.ts'
import { abortedError, untilAborted } from './layers/abort.ts'
import type { LocationInput } from './location.ts'
import type { SftpConnection, SftpConnector } from './sftp-connector.ts'
import type { SftpDevice } from './sftp-device.ts'
import { type DriverHost, type LocatedImage, locateImage } from './ssh-connector.ts'
import type { CreateBlockDeviceOptions, OpenBlockDeviceOptions } from './ssh-driver.ts'

type DeviceModule = typeof import('./sftp-connector-device.ts')

/** As openSshDevice. @throws as openSshDevice; BlockDeviceError EIO where the device's code cannot be fetched */
export async function fetchAndOpen(
  location: LocationInput,
  options: OpenBlockDeviceOptions,
  host: DriverHost,
): Promise<SftpDevice> {
  const image = locateImage(location, options, host)
  return whileConnecting(image, options, options.writable === true, (device, connector) =>
    device.openDeviceOnConnector(connector, image.path, { ...image.defaults, ...options }),
  )
}

/** As createSshDevice. @throws as createSshDevice; BlockDeviceError EIO where the device's code cannot be fetched */
export async function fetchAndCreate(
  location: LocationInput,
  options: CreateBlockDeviceOptions,
  host: DriverHost,
): Promise<SftpDevice> {
  const image = locateImage(location, options, host)
  return whileConnecting(image, options, true, (device, connector) =>
    device.createDeviceOnConnector(connector, image.path, { ...image.defaults, ...options }),
  )
}

/**
 * Begins the first connection, fetches the device's code beside it, and hands both to `open`. Where either fails the other
 * is given up.
 */
async function whileConnecting(
  { connector, defaults }: LocatedImage,
  options: OpenBlockDeviceOptions,
  writable: boolean,
  open: (device: DeviceModule, connector: SftpConnector) => Promise<SftpDevice>,
): Promise<SftpDevice> {
  const attempt = new AbortController()
  const cancel = (): void => attempt.abort(options.signal?.reason)
  if (options.signal?.aborted === true) cancel()
  options.signal?.addEventListener('abort', cancel, { once: true })
  const fetching = import('./sftp-connector-device.ts').catch((cause: unknown) => {
    throw new BlockDeviceError('EIO', "the block device's code could not be fetched", { cause })
  })
  const connecting = connector.connect(attempt.signal, {
    channels: channelWish(writable, { ...defaults, ...options }),
  })
  try {
    const [first, device] = await Promise.all([
      connecting,
      fetching,
      // Who connects is told of a cancelling; when that is done nobody but us is.
      connecting.then(() => untilCancelled(fetching, attempt.signal)),
    ])
    let begun: SftpConnection | undefined = first
    return await open(device, {
      connect: async (signal, wanted) => {
        const connection = begun ?? (await connector.connect(signal, wanted))
        begun = undefined
        return connection
      },
    })
  } catch (error) {
    // The device closes what it was handed; to close twice does no harm.
    attempt.abort(error)
    connecting.then((connection) => connection.close()).catch(() => {})
    throw error
  } finally {
    options.signal?.removeEventListener('abort', cancel)
  }
}

/** `fetching`; where the signal is aborted first, BlockDeviceError ABORT_ERR. */
function untilCancelled(fetching: Promise<unknown>, signal: AbortSignal): Promise<unknown> {
  return untilAborted(fetching, signal).catch((error: unknown) => {
    throw signal.aborted ? abortedError('opening the device', signal) : error
  })
}
