// The SSH server that comes with the page: one folder, one user with a fresh key, a fresh host key, on loopback.

import { NodeBackend, SessionEpochs, serveSftp } from '@sshblock/sftp/node'
import {
  AuthorizedKeys,
  formatPrivateKey,
  formatPublicKey,
  generateKeyPair,
  listen,
  nodeCrypto,
  opensshFingerprint,
  signerFromPrivateKey,
  systemRandom,
} from '@sshblock/transport/node'
import type { DemoServer } from './demo-settings.ts'

export interface RunningSshServer {
  readonly access: Omit<DemoServer, 'image'>
  close(): Promise<void>
}

/** @throws UsageError where the folder cannot be opened */
export async function startSshServer(root: string): Promise<RunningSshServer> {
  const host = '127.0.0.1'
  const user = 'demo'
  const hostKey = generateKeyPair(nodeCrypto, 'ed25519', systemRandom)
  const userKey = generateKeyPair(nodeCrypto, 'ed25519', systemRandom)
  const authorized = AuthorizedKeys.parse(formatPublicKey(userKey.publicKey))
  const backend = new NodeBackend({ root })
  const epochs = new SessionEpochs()
  const server = await listen({
    host,
    hostKeys: [signerFromPrivateKey(nodeCrypto, hostKey)],
    auth: { authorizedKeys: (name) => (name === user ? authorized : undefined) },
    subsystems: { sftp: (channel) => serveSftp(channel, backend, { epochs }).finished },
  })
  return {
    access: {
      host,
      port: server.port,
      user,
      privateKey: formatPrivateKey(nodeCrypto, userKey, systemRandom),
      fingerprint: opensshFingerprint(nodeCrypto, hostKey.publicKey.blob),
    },
    async close() {
      await server.close({ graceMs: 0 })
      backend.close()
    },
  }
}
