// Our own SSH and SFTP server in a private folder with a fresh host key and a fresh user key: what the demo uses when it is
// given no location. Everything a real client needs lies in that folder: known_hosts, the key file, the image.

import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import type { NodeConnectionOptions } from '@sshblock/blockdev/node'
import { NodeBackend, SessionEpochs, serveSftp } from '@sshblock/sftp/node'
import {
  AuthorizedKeys,
  addKnownHost,
  formatPrivateKey,
  formatPublicKey,
  generateKeyPair,
  listen,
  nodeCrypto,
  signerFromPrivateKey,
  systemRandom,
} from '@sshblock/transport/node'

export interface EmbeddedServer {
  description: string
  /** The image, as a client names it. */
  location: string
  /** How to reach it: its known_hosts and key file, and nothing of the user's own. */
  connection: NodeConnectionOptions
  /** The image, as a file of this machine. */
  imageFile: string
  stop(): Promise<void>
}

const host = '127.0.0.1'

export async function startEmbeddedServer(): Promise<EmbeddedServer> {
  const folder = await mkdtemp(join(tmpdir(), 'sshblock-demo-'))
  try {
    return await serveFolder(folder)
  } catch (error) {
    await rm(folder, { recursive: true, force: true })
    throw error
  }
}

async function serveFolder(folder: string): Promise<EmbeddedServer> {
  const user = userInfo().username
  const hostKey = generateKeyPair(nodeCrypto, 'ed25519', systemRandom)
  const userKey = generateKeyPair(nodeCrypto, 'ed25519', systemRandom)
  const authorized = AuthorizedKeys.parse(formatPublicKey(userKey.publicKey))
  const root = join(folder, 'files')
  await mkdir(root)
  const backend = new NodeBackend({ root })
  const epochs = new SessionEpochs()
  const server = await listen({
    host,
    hostKeys: [signerFromPrivateKey(nodeCrypto, hostKey)],
    auth: { authorizedKeys: (name) => (name === user ? authorized : undefined) },
    subsystems: { sftp: (channel) => serveSftp(channel, backend, { epochs }).finished },
  })
  const knownHosts = join(folder, 'known_hosts')
  const keyFile = join(folder, 'id_ed25519')
  await addKnownHost(nodeCrypto, knownHosts, { host, port: server.port, key: hostKey.publicKey })
  await writeFile(keyFile, formatPrivateKey(nodeCrypto, userKey, systemRandom), { mode: 0o600 })
  return {
    description: `our own SSH server on ${host}:${server.port}, serving ${root}`,
    location: `ssh://${encodeURIComponent(user)}@${host}:${server.port}/disk.img`,
    connection: { knownHostsFiles: [knownHosts], keyFiles: [keyFile], agent: false },
    imageFile: join(root, 'disk.img'),
    stop: async () => {
      await server.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}
