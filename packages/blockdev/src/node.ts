/** Block devices for Node: everything of the host-independent part, disks on SSH servers by location, and local files. */

import { existsSync } from 'node:fs'
import { userInfo } from 'node:os'
import {
  type AuthMethod,
  agentAuth,
  agentSocketPath,
  connect,
  defaultKeyFiles,
  keyFileAuth,
  knownHostsFilesPolicy,
  type NodeClientOptions,
  nodeCrypto,
} from '@sshblock/transport/node'
import type { LocationInput } from './location.ts'
import type { SftpDevice } from './sftp-device.ts'
import {
  type CreateBlockDeviceOptions,
  createSshDevice,
  type DriverHost,
  type OpenBlockDeviceOptions,
  openSshDevice,
} from './ssh-driver.ts'

export * from './index.ts'
export {
  createFileDevice,
  type FileDeviceCreateOptions,
  type FileDeviceOpenOptions,
  openFileDevice,
} from './node-file-device.ts'
export { fileKind, NodeRandomAccessFile } from './node-random-access-file.ts'

/** How Node reaches an SSH server, and where it looks for trust and keys. */
export interface NodeConnectionOptions {
  /** known_hosts files instead of the user's and the machine's. */
  knownHostsFiles?: readonly string[]
  /** Private key files to be tried after the agent, instead of OpenSSH's default ones. */
  keyFiles?: readonly string[]
  /** For encrypted key files: the passphrase, or who is asked for it. */
  passphrase?: string | ((path: string) => Promise<string | undefined>)
  /** Path of the agent's socket instead of SSH_AUTH_SOCK; false: no agent. */
  agent?: string | false
  /** Tried after the keys. */
  password?: string | ((attempt: number) => Promise<string | undefined>)
  /** Further options of the transport: algorithms, keepalive, limits, time-outs. */
  transport?: Partial<
    Omit<NodeClientOptions, 'host' | 'port' | 'username' | 'hostKeyPolicy' | 'auth' | 'signal' | 'trace'>
  >
}

/**
 * Opens a disk image on an SSH server. Defaults: the login name, known_hosts, the agent's identities and then the default
 * key files; read-only.
 * @param location 'ssh://[user@]host[:port]/path[?host_key_check=V]', QEMU's keys, or structured; see parseLocation.
 * @throws as openSshDevice.
 */
export function openBlockDevice(
  location: LocationInput,
  options: OpenBlockDeviceOptions & NodeConnectionOptions = {},
): Promise<SftpDevice> {
  return openSshDevice(location, options, nodeHost(options))
}

/**
 * Creates a disk image on an SSH server and opens it for writing. Defaults as openBlockDevice.
 * @throws as createSshDevice.
 */
export function createBlockDevice(
  location: LocationInput,
  options: CreateBlockDeviceOptions & NodeConnectionOptions,
): Promise<SftpDevice> {
  return createSshDevice(location, options, nodeHost(options))
}

function nodeHost(options: NodeConnectionOptions): DriverHost {
  const { knownHostsFiles, transport } = options
  return {
    crypto: transport?.crypto ?? nodeCrypto,
    connect: (target) =>
      connect({ ...transport, ...target, keepalive: { ...target.keepalive, ...transport?.keepalive } }),
    loginName: () => userInfo().username,
    knownHosts: (server) =>
      knownHostsFilesPolicy({
        ...server,
        ...(knownHostsFiles === undefined ? {} : { files: knownHostsFiles }),
      }),
    authentication: async () => authentication(options),
  }
}

// As ssh does: the agent first; of the default key files those that are there.
function authentication({ agent, keyFiles, passphrase, password }: NodeConnectionOptions): AuthMethod[] {
  const methods: AuthMethod[] = []
  if (typeof agent === 'string') methods.push(agentAuth({ socketPath: agent }))
  else if (agent === undefined && agentSocketPath() !== undefined) methods.push(agentAuth())
  for (const path of keyFiles ?? defaultKeyFiles().filter((file) => existsSync(file))) {
    methods.push(keyFileAuth(path, passphrase === undefined ? {} : { passphrase }))
  }
  if (password !== undefined) methods.push({ type: 'password', password })
  return methods
}
