/** Block devices for browsers and other runtimes without node: the host-independent part, and disks by location. */

import type { ByteDuplex, ClientOptions } from '@sshblock/transport'
import { connectOver, UsageError, webCrypto } from '@sshblock/transport'
import { fetchAndCreate, fetchAndOpen } from './begun-device.ts'
import type { LocationInput } from './location.ts'
import type { SftpDevice } from './sftp-device.ts'
import type { CreateBlockDeviceOptions, DriverHost, OpenBlockDeviceOptions } from './ssh-driver.ts'

export * from './index.ts'

/** How a page or worker reaches the server. */
export interface BrowserConnectionOptions {
  /** Opens the bytes to the server, for example `(signal) => webSocketDuplex('wss://relay.example/host:22', { signal })`. */
  open: (signal: AbortSignal | undefined) => Promise<ByteDuplex>
  /** noble, with WebCrypto where there is one, where left out. */
  crypto?: ClientOptions['crypto']
  keepalive?: ClientOptions['keepalive']
}

/**
 * Opens a disk image on an SSH server that is reached through a relay. There is no known_hosts file and no agent here: the
 * location carries a fingerprint (`?host_key_check=sha256:...`) or `hostKeyPolicy` is given, and `auth` says how to get in.
 * The device's code is fetched while the connection is made; once the device is there it fetches nothing more.
 * @throws as openSshDevice; UsageError where there is no host key policy, no user or no `auth`; BlockDeviceError EIO where
 *   the device's code could not be fetched
 */
export function openBlockDevice(
  location: LocationInput,
  options: OpenBlockDeviceOptions & BrowserConnectionOptions,
): Promise<SftpDevice> {
  return fetchAndOpen(location, options, hostOf(options))
}

/** Creates a disk image on an SSH server and opens it for writing. @throws as openBlockDevice and createSshDevice */
export function createBlockDevice(
  location: LocationInput,
  options: CreateBlockDeviceOptions & BrowserConnectionOptions,
): Promise<SftpDevice> {
  return fetchAndCreate(location, options, hostOf(options))
}

function hostOf({ open, crypto = webCrypto(), keepalive }: BrowserConnectionOptions): DriverHost {
  return {
    crypto,
    connect: (target) =>
      connectOver(open, { ...target, crypto, ...(keepalive === undefined ? {} : { keepalive }) }),
    loginName: () => {
      throw new UsageError('the location names no user, and a page has no login name')
    },
    knownHosts: async () => {
      throw new UsageError(
        'expected hostKeyPolicy, or a fingerprint as host_key_check in the location: a page has no known_hosts file',
      )
    },
    authentication: async () => {
      throw new UsageError('auth: expected ways to get in, a page has no agent and no key files')
    },
  }
}
