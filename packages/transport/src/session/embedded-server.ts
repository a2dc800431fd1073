// A server in the same process, joined to its clients in memory: for tests and demonstrations, in Node and in browsers.
//
//     await using server = embeddedServer({ crypto, subsystems: { sftp: (channel) => serveSftp(channel, backend) } })
//     const session = await server.connect()

import { AuthorizedKeys } from '../auth/authorized-keys.ts'
import { systemRandom } from '../crypto/random.ts'
import { generateKeyPair } from '../keys/generate.ts'
import { pinnedKey } from '../keys/host-key-policy.ts'
import { formatPublicKey } from '../keys/public-key.ts'
import type { Signer } from '../keys/signer.ts'
import { signerFromPrivateKey } from '../keys/signer.ts'
import type { ClientOptions, OpenDuplex } from './client.ts'
import { connectOver } from './client.ts'
import { memoryDuplexPair } from './memory-duplex.ts'
import { prepareServer } from './prepared-server.ts'
import { ServerConnection } from './server.ts'
import type { ServerOptions } from './server-options.ts'
import type { Session } from './session.ts'

export interface EmbeddedServerOptions extends Omit<ServerOptions, 'hostKeys' | 'auth'> {
  /** A fresh Ed25519 key where left out. */
  hostKeys?: readonly Signer[]
  /** Lets in `username` with a fresh key where left out. */
  auth?: ServerOptions['auth']
  username?: string
}

/** Everything `connectOver` needs to get into the server. */
export type EmbeddedClientOptions = ClientOptions & Required<Pick<ClientOptions, 'crypto'>>

export class EmbeddedServer {
  /** Opens a byte stream to the server: what `connectOver` takes first. */
  readonly open: OpenDuplex
  /** Trusts the server's host key, and gets in as `username`. */
  readonly clientOptions: EmbeddedClientOptions
  readonly #connections = new Set<ServerConnection>()

  /** Made by `embeddedServer`; not by applications. */
  constructor(options: EmbeddedServerOptions) {
    const { crypto, random = systemRandom, username = 'user' } = options
    const userKey = generateKeyPair(crypto, 'ed25519', random)
    const authorized = AuthorizedKeys.parse(formatPublicKey(userKey.publicKey))
    const hostKeys = options.hostKeys ?? [
      signerFromPrivateKey(crypto, generateKeyPair(crypto, 'ed25519', random)),
    ]
    const auth = options.auth ?? { authorizedKeys: (user) => (user === username ? authorized : undefined) }
    const prepared = prepareServer({ ...options, hostKeys, auth })
    this.open = async () => {
      const [client, server] = memoryDuplexPair()
      const connection = new ServerConnection(server, prepared)
      this.#connections.add(connection)
      void connection.closed.then(() => this.#connections.delete(connection))
      return client
    }
    this.clientOptions = {
      host: 'embedded',
      username,
      crypto,
      hostKeyPolicy: pinnedKey(
        crypto,
        ...hostKeys.map((key) => key.certificate?.publicKey.blob ?? key.publicKeyBlob),
      ),
      auth: [{ type: 'publickey', signer: signerFromPrivateKey(crypto, userKey) }],
    }
  }

  /** Connections that are open. */
  get connections(): Iterable<ServerConnection> {
    return this.#connections
  }

  /** A session as `username`; `options` replace what `clientOptions` say. Errors as connectOver. */
  connect(options: Partial<ClientOptions> = {}): Promise<Session> {
    return connectOver(this.open, {
      ...this.clientOptions,
      ...options,
      crypto: options.crypto ?? this.clientOptions.crypto,
    })
  }

  /** Closes every connection. */
  async close(): Promise<void> {
    await Promise.all([...this.#connections].map((connection) => connection.close()))
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/** Makes a server that is reached in memory. Throws UsageError for options that cannot work. */
export function embeddedServer(options: EmbeddedServerOptions): EmbeddedServer {
  return new EmbeddedServer(options)
}
