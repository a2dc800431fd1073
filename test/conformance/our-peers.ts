/** Our own server and our own client as peers under test, in memory. */
import { MemoryBackend, serveSftp } from '@sshblock/sftp'
import type { ClientTarget, ServerTarget } from '@sshblock/transport/conformance'
import {
  AuthorizedKeys,
  connectOver,
  embeddedServer,
  formatPublicKey,
  generateKeyPair,
  memoryDuplexPair,
  nodeCrypto,
  pinnedKey,
  type Signer,
  signerFromPrivateKey,
  systemRandom,
} from '@sshblock/transport/node'
import { generateRsaKeyPair } from '../../packages/transport/src/keys/node-generate.ts'

/** An RSA key takes long to make, and every run may use the same. */
let rsaHostKey: Promise<Signer> | undefined

/** One host key of each type. */
async function hostKeys(): Promise<Signer[]> {
  rsaHostKey ??= generateRsaKeyPair(2048).then((key) => signerFromPrivateKey(nodeCrypto, key))
  const ed25519 = signerFromPrivateKey(nodeCrypto, generateKeyPair(nodeCrypto, 'ed25519', systemRandom))
  const ecdsa = signerFromPrivateKey(
    nodeCrypto,
    generateKeyPair(nodeCrypto, 'ecdsa-sha2-nistp256', systemRandom),
  )
  return [ed25519, ecdsa, await rsaHostKey]
}

/** Nothing here waits in vain, so this bounds only how long a failure takes on a busy machine. */
const patienceMs = 15_000

export interface OurServerTarget {
  readonly target: ServerTarget
  readonly close: () => Promise<void>
}

/** Our server with SFTP on a file system in memory. */
export async function ourServerTarget(): Promise<OurServerTarget> {
  const user = 'user'
  const key = generateKeyPair(nodeCrypto, 'ed25519', systemRandom)
  const authorized = AuthorizedKeys.parse(formatPublicKey(key.publicKey))
  const backend = new MemoryBackend()
  const server = embeddedServer({
    crypto: nodeCrypto,
    hostKeys: await hostKeys(),
    auth: { authorizedKeys: (name) => (name === user ? authorized : undefined) },
    subsystems: { sftp: (channel) => serveSftp(channel, backend).finished },
  })
  return {
    target: {
      role: 'server',
      connect: () => server.open(undefined),
      crypto: nodeCrypto,
      patienceMs,
      login: { user, signer: signerFromPrivateKey(nodeCrypto, key) },
    },
    close: () => server.close(),
  }
}

/** Our client: logs in with a key, starts a subsystem, sends 100 000 bytes, and leaves when the channel is closed. */
export async function ourClientTarget(): Promise<ClientTarget> {
  const keys = await hostKeys()
  const userKey = signerFromPrivateKey(nodeCrypto, generateKeyPair(nodeCrypto, 'ed25519', systemRandom))
  return {
    role: 'client',
    crypto: nodeCrypto,
    patienceMs,
    hostKeys: keys,
    connect: async () => {
      const [client, server] = memoryDuplexPair()
      void runOurClient(client, keys, userKey)
      return server
    },
  }
}

async function runOurClient(
  duplex: Awaited<ReturnType<Parameters<typeof connectOver>[0]>>,
  keys: readonly Signer[],
  userKey: Signer,
): Promise<void> {
  try {
    const session = await connectOver(async () => duplex, {
      crypto: nodeCrypto,
      host: 'conformance',
      username: 'user',
      hostKeyPolicy: pinnedKey(nodeCrypto, ...keys.map((key) => key.publicKeyBlob)),
      auth: [{ type: 'publickey', signer: userKey }],
    })
    const channel = await session.openSubsystem('sftp')
    await new Promise<void>((resolve) => {
      channel.start({ data: () => {}, writable: () => {}, end: () => {}, closed: () => resolve() })
      channel.write(new Uint8Array(100_000))
    })
    await session.close()
  } catch {
    // Whatever the script did to it, the check sees it from the other side.
  }
}
