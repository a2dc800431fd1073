// From a location to a disk: joins the device to its connector. Closing the device says goodbye, and a failed opening leaves
// nothing behind. Pages open theirs in begun-device.ts, which fetches the device while it connects.

import type { LocationInput } from './location.ts'
import {
  type CreateOnConnectorOptions,
  createDeviceOnConnector,
  type OpenOnConnectorOptions,
  openDeviceOnConnector,
} from './sftp-connector-device.ts'
import type { SftpDevice } from './sftp-device.ts'
import { type ConnectionOptions, type DriverHost, locateImage } from './ssh-connector.ts'

export type { ConnectionOptions, ConnectTarget, DriverHost, DriverSession } from './ssh-connector.ts'

/** Options of an opening by location; what the driver itself fills in is left out. */
type ByLocation<T> = Omit<T, 'serverName' | 'trace'> & ConnectionOptions

export type OpenBlockDeviceOptions = ByLocation<OpenOnConnectorOptions>
export type CreateBlockDeviceOptions = ByLocation<CreateOnConnectorOptions>

/**
 * Opens a disk image on an SSH server.
 * @throws LocationError (EINVAL); BlockDeviceError EPERM where the host key is not the right one or the user is not let in
 *   (`cause` is the HostKeyError or AuthError), and as openDeviceOnSftp; ConnectionLost with the system's code
 *   ('ECONNREFUSED', 'ENOTFOUND', ...), ProtocolError where it is no SSH server, ChannelClosedError where it has no sftp
 *   subsystem, and the other errors of the transport.
 */
export async function openSshDevice(
  location: LocationInput,
  options: OpenBlockDeviceOptions,
  host: DriverHost,
): Promise<SftpDevice> {
  const { connector, path, defaults } = locateImage(location, options, host)
  return openDeviceOnConnector(connector, path, { ...defaults, ...options })
}

/**
 * Creates a disk image on an SSH server and opens it for writing.
 * @throws as openSshDevice and createDeviceOnSftp.
 */
export async function createSshDevice(
  location: LocationInput,
  options: CreateBlockDeviceOptions,
  host: DriverHost,
): Promise<SftpDevice> {
  const { connector, path, defaults } = locateImage(location, options, host)
  return createDeviceOnConnector(connector, path, { ...defaults, ...options })
}
