// An SSH server on a TCP port or UNIX socket of Node: accepts, bounds how many, serves each by server.ts, counts, and closes
// without cutting anybody off in the middle of a transfer.
//
//     await using server = await listen({ port: 2222, hostKeys, auth: { authorizedKeys }, subsystems: { sftp } })

import { chmodSync } from 'node:fs'
import type { AddressInfo, Server, Socket } from 'node:net'
import { createServer } from 'node:net'
import { normalizeAddress } from '../auth/source-address.ts'
import { nodeCrypto } from '../crypto/node.ts'
import type { CryptoProvider } from '../crypto/provider.ts'
import { systemRandom } from '../crypto/random.ts'
import { quote, SshError } from '../errors.ts'
import { ourIdentification } from '../packet/identification.ts'
import type { ConnectionLimits, ConnectionRefusal } from './connection-limits.ts'
import { ConnectionCounts } from './connection-limits.ts'
import type { PreparedServer } from './prepared-server.ts'
import { prepareServer } from './prepared-server.ts'
import { refusalBytes } from './refusal.ts'
import { ServerConnection } from './server.ts'
import type { ServerEvent, ServerOptions } from './server-options.ts'
import { acceptedSocket } from './tcp.ts'

export interface ListenOptions extends Omit<ServerOptions, 'crypto'>, ConnectionLimits {
  /** node:crypto where left out. */
  crypto?: CryptoProvider
  /** Address to listen on; 127.0.0.1 where left out, '::' for everywhere. */
  host?: string
  /** Port to listen on; 0 or left out for any free one. */
  port?: number
  /** Path of a UNIX socket to listen on instead, made for its owner alone (0600). */
  socketPath?: string
  /** A client was accepted. */
  onConnection?: (connection: ServerConnection) => void
  /** A client was one too many. */
  onRefused?: (refusal: { address: string | undefined; reason: ConnectionRefusal }) => void
}

export interface ServerStatistics {
  /** Connections that are open, and those of them that are authenticated. */
  connections: number
  authenticated: number
  /** Since the start. */
  accepted: number
  refused: number
  logins: number
  refusedLoginAttempts: number
  bytesReceived: number
  bytesSent: number
}

/** How long a refused client has to read why, in milliseconds. */
const refusalLingerMs = 500
/** Refused clients that are waited for at once; more are cut off. */
const maxLingering = 64
/** Probes of quiet TCP connections begin after this time, in milliseconds. */
const tcpKeepaliveMs = 60_000

/** Listens and serves. Rejects with SshError (code 'EADDRINUSE', 'EACCES', ...) or UsageError. */
export async function listen(options: ListenOptions): Promise<SshServer> {
  const server = new SshServer(options)
  await server.start()
  return server
}

export class SshServer {
  readonly #options: ListenOptions
  readonly #prepared: PreparedServer
  readonly #counts: ConnectionCounts
  readonly #listener: Server
  readonly #connections = new Set<ServerConnection>()
  readonly #refusal: Uint8Array
  #address: SshServer['address'] = { host: '', port: 0 }
  #lingering = 0
  #closing: Promise<void> | undefined
  readonly #totals = {
    accepted: 0,
    refused: 0,
    logins: 0,
    refusedLoginAttempts: 0,
    bytesReceived: 0,
    bytesSent: 0,
  }

  /** Made by `listen`; not by applications. */
  constructor(options: ListenOptions) {
    this.#options = options
    const random = options.random ?? systemRandom
    this.#prepared = prepareServer({
      ...options,
      crypto: options.crypto ?? nodeCrypto,
      onEvent: (event, connection) => this.#onEvent(event, connection),
    })
    this.#refusal = refusalBytes(options.identification ?? ourIdentification, random)
    this.#counts = new ConnectionCounts(options, () => {
      const bytes = new Uint8Array(1)
      random(bytes)
      return bytes[0]! / 256
    })
    this.#listener = createServer(
      { allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: tcpKeepaliveMs },
      (socket) => this.#onSocket(socket),
    )
  }

  /** Called once, by `listen`. */
  start(): Promise<void> {
    const { host = '127.0.0.1', port = 0, socketPath } = this.#options
    const where = socketPath ?? `${host}:${port}`
    return new Promise((resolve, reject) => {
      const onError = (error: NodeJS.ErrnoException): void =>
        reject(
          new SshError(error.code ?? 'ERR_SSH_LISTEN', `cannot listen on ${quote(where)}: ${error.message}`, {
            cause: error,
          }),
        )
      this.#listener.once('error', onError)
      this.#listener.listen(socketPath === undefined ? { host, port } : { path: socketPath }, () => {
        this.#listener.off('error', onError)
        // A listener that cannot accept for a while (too many open files) goes on listening.
        this.#listener.on('error', (error) =>
          this.#options.trace?.({
            level: 1,
            layer: 'transport',
            event: 'accepting failed',
            detail: { error: error.message },
          }),
        )
        try {
          this.#address = this.#openFor(socketPath)
          resolve()
        } catch (error) {
          this.#listener.close()
          reject(error)
        }
      })
    })
  }

  #openFor(socketPath: string | undefined): SshServer['address'] {
    if (socketPath !== undefined) {
      chmodSync(socketPath, 0o600)
      return { socketPath }
    }
    const { address, port } = this.#listener.address() as AddressInfo
    return { host: address, port }
  }

  /** Where it listens; the port is the one that was found free. */
  get address(): { host: string; port: number } | { socketPath: string } {
    return this.#address
  }

  /** The TCP port; 0 for a UNIX socket. */
  get port(): number {
    const { address } = this
    return 'port' in address ? address.port : 0
  }

  /** Connections that are open. */
  get connections(): Iterable<ServerConnection> {
    return this.#connections
  }

  get statistics(): ServerStatistics {
    const { connections, unauthenticated } = this.#counts
    const statistics = { connections, authenticated: connections - unauthenticated, ...this.#totals }
    for (const connection of this.#connections) {
      statistics.bytesReceived += connection.bytesReceived
      statistics.bytesSent += connection.bytesSent
    }
    return statistics
  }

  #onSocket(socket: Socket): void {
    const address = socket.remoteAddress === undefined ? undefined : normalizeAddress(socket.remoteAddress)
    const reason = this.#counts.refusal(address)
    if (reason !== undefined) return this.#refuse(socket, address, reason)
    this.#totals.accepted++
    this.#counts.opened(address)
    const connection = new ServerConnection(acceptedSocket(socket), this.#prepared, address)
    this.#connections.add(connection)
    void connection.closed.then(() => {
      this.#connections.delete(connection)
      this.#counts.closed(address, connection.login !== undefined)
      this.#totals.bytesReceived += connection.bytesReceived
      this.#totals.bytesSent += connection.bytesSent
    })
    this.#options.onConnection?.(connection)
  }

  #refuse(socket: Socket, address: string | undefined, reason: ConnectionRefusal): void {
    this.#totals.refused++
    this.#options.onRefused?.({ address, reason })
    socket.on('error', () => {})
    if (this.#lingering >= maxLingering) {
      socket.destroy()
      return
    }
    this.#lingering++
    const timer = setTimeout(() => socket.destroy(), refusalLingerMs)
    socket.once('close', () => {
      clearTimeout(timer)
      this.#lingering--
    })
    // What the client has to say is read and dropped: closing over unread bytes would take the refusal back.
    socket.resume()
    socket.end(this.#refusal)
  }

  #onEvent(event: ServerEvent, connection: ServerConnection): void {
    if (event.type === 'login') {
      this.#totals.logins++
      this.#counts.authenticated()
    }
    if (event.type === 'login-attempt' && event.outcome === 'refused') this.#totals.refusedLoginAttempts++
    this.#options.onEvent?.(event, connection)
  }

  /**
   * Stops listening, lets open channels end by themselves for `graceMs` milliseconds (none where left out), then says goodbye
   * to who is left. Resolves when every connection is over. A second call may shorten the first one's patience.
   */
  close(options: { graceMs?: number } = {}): Promise<void> {
    const { graceMs = 0 } = options
    const drained = Promise.all(
      [...this.#connections].map((connection) => (graceMs > 0 ? connection.drain() : connection.close())),
    )
    const timer = graceMs > 0 ? setTimeout(() => this.#closeAll(), graceMs) : undefined
    this.#closing ??= new Promise((resolve) => this.#listener.close(() => resolve()))
    const all = Promise.all([this.#closing, drained])
    return all.then(() => clearTimeout(timer))
  }

  #closeAll(): void {
    for (const connection of this.#connections) void connection.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}
