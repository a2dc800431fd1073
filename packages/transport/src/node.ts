/** SSH2 for Node: everything of the host-independent part, TCP, node:crypto, agents, key files and known_hosts. */

import { nodeCrypto } from './crypto/node.ts'
import type { CryptoProvider } from './crypto/provider.ts'
import type { ClientOptions } from './session/client.ts'
import { connectOver } from './session/client.ts'
import type { Session } from './session/session.ts'
import { connectTcp } from './session/tcp.ts'

export { agentSocketPath, connectAgent } from './agent/node-socket.ts'
export { nodeCrypto } from './crypto/node.ts'
export * from './index.ts'
export { generateRsaKeyPair } from './keys/node-generate.ts'
export { addKnownHost, readKnownHostsFile, updateKnownHostsFile } from './keys/node-known-hosts-file.ts'
export type { ConnectionLimits, ConnectionRefusal } from './session/connection-limits.ts'
export type { ListenOptions, ServerStatistics } from './session/node-server.ts'
export { listen, SshServer } from './session/node-server.ts'
export type { TcpForwardingOptions } from './session/node-tcp-forwarding.ts'
export { tcpForwarding } from './session/node-tcp-forwarding.ts'
export * from './session/node-trust.ts'
export type { TcpOptions, TcpTarget } from './session/tcp.ts'
export { acceptedSocket, connectTcp } from './session/tcp.ts'

export interface NodeClientOptions extends Omit<ClientOptions, 'crypto'> {
  /** node:crypto where left out. */
  crypto?: CryptoProvider
  /** How long connecting may take, in milliseconds. */
  connectTimeoutMs?: number
}

/**
 * Connects to an SSH server over TCP, checks its host key, authenticates.
 * @throws as connectOver, and ConnectionLost with codes such as 'ECONNREFUSED' and 'ENOTFOUND'.
 */
export function connect(options: NodeClientOptions): Promise<Session> {
  const { host, port = 22, connectTimeoutMs } = options
  return connectOver(
    (signal) =>
      connectTcp(
        { host, port },
        {
          ...(signal === undefined ? {} : { signal }),
          ...(connectTimeoutMs === undefined ? {} : { connectTimeoutMs }),
        },
      ),
    { ...options, crypto: options.crypto ?? nodeCrypto },
  )
}
