// The bridge: who is let in, to where, and the list of connections. Owns every WebSocket it upgraded until that is closed.
// Order of the checks: Host, Origin, room (before the upgrade); limits, target, ticket, application, address, connection
// (after it). The client is not read until its target is connected.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { safeText, UsageError } from '@sshblock/transport/errors'
import { type WebSocket, WebSocketServer } from 'ws'
import { clientKey } from './address.ts'
import { authenticateVisitor } from './authentication.ts'
import { clientAddress } from './client-address.ts'
import { type CloseCode, closeCode, closeReason, Refusal } from './close-codes.ts'
import { dial } from './dial.ts'
import type { BridgeEvent, BridgeStatistics } from './events.ts'
import * as limits from './limits.ts'
import { type BridgeOptions, type BridgeSettings, bridgeSettings } from './options.ts'
import { Relay } from './relay.ts'
import { takeRequestsFirst } from './request-precedence.ts'
import { limitSocketsPerAddress } from './socket-limit.ts'
import type { FoundTarget, Target } from './target.ts'

export interface BridgeAddress {
  readonly host: string
  readonly port: number
}

export interface BridgeListenOptions {
  /** 0 lets the system choose. */
  readonly port: number
  /** Default 127.0.0.1: reached from this machine alone, for example by a reverse proxy with TLS. */
  readonly host?: string
}

/**
 * Makes a bridge; it does nothing until it listens or is given upgrade requests.
 * @throws UsageError for options that cannot work, with the name of the option
 */
export function createBridge(options: BridgeOptions): Bridge {
  return new Bridge(bridgeSettings(options))
}

/** One client, from its upgrade to the end of both connections. */
interface Connection {
  readonly number: number
  readonly client: WebSocket
  /** Below `client`. */
  readonly socket: Duplex
  readonly remoteAddress: string
  readonly gone: AbortController
  target: FoundTarget | undefined
  relay: Relay | undefined
  /** What the client was told where it was turned away: it may answer with any code, or none. */
  refusal: { readonly code: CloseCode; readonly reason: string } | undefined
  bytesToTarget: number
  bytesToClient: number
}

export class Bridge {
  readonly #settings: BridgeSettings
  readonly #webSockets: WebSocketServer
  readonly #connections = new Set<Connection>()
  readonly #perAddress = new Map<string, number>()
  readonly #detach: (() => void)[] = []
  #ownServer: Server | undefined
  #numbered = 0
  #connected = 0
  #refused = 0
  #bytesToTarget = 0
  #bytesToClient = 0
  #closing: Promise<void> | undefined
  #onEmpty: (() => void) | undefined

  /** Made by `createBridge`. */
  constructor(settings: BridgeSettings) {
    this.#settings = settings
    const options = {
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: limits.maxMessageBytes,
      maxFragments: limits.maxFragments,
      maxBufferedChunks: limits.maxBufferedChunks,
      maxPendingAutoPongs: limits.maxPendingPongs,
      closeTimeout: limits.lingerMs,
      // A page that offers sub-protocols fails unless one is chosen; a ticket is never sent back.
      handleProtocols: (protocols: Set<string>) => (protocols.has('binary') ? 'binary' : false),
    }
    this.#webSockets = new WebSocketServer(options)
  }

  /** Counters since the start, and what is there now. */
  statistics(): BridgeStatistics {
    let heldBytes = 0
    for (const { relay } of this.#connections) heldBytes += relay?.heldBytes ?? 0
    return {
      connections: this.#connections.size,
      connectedConnections: this.#connected,
      refusedConnections: this.#refused,
      bytesToTarget: this.#bytesToTarget,
      bytesToClient: this.#bytesToClient,
      heldBytes,
    }
  }

  /** A handler of 'upgrade' events of an HTTP or HTTPS server. Takes every request: for a server with others see `attach`. */
  readonly handleUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    const { admission, maxConnections, trustedProxies } = this.#settings
    // A client that breaks off now is nobody's error.
    socket.on('error', () => socket.destroy())
    const objection = admission.objection(request)
    if (objection !== undefined) {
      this.#refuse(request, socket, 403, objection)
      return
    }
    if (!this.#isOurs(request)) {
      this.#refuse(request, socket, 404, 'path')
      return
    }
    if (this.#closing !== undefined || this.#connections.size >= maxConnections + limits.refusalSlots) {
      this.#refuse(request, socket, 503, 'connections')
      return
    }
    const remoteAddress = clientAddress(request, trustedProxies)
    if ('setNoDelay' in socket) (socket as Socket).setNoDelay(true)
    this.#webSockets.handleUpgrade(request, socket, head, (client) =>
      this.#welcome(client, socket, request, remoteAddress),
    )
  }

  /**
   * Takes the upgrade requests of a server whose path begins with `pathPrefix`, and the GET of `healthPath`. Other
   * requests are left to the server's other listeners; those that are there are not told of what the bridge answers. The
   * server stays the caller's: `close` takes the bridge off it.
   */
  attach(server: Server): void {
    if (this.#closing !== undefined) throw new UsageError('the bridge is closed')
    server.on('upgrade', this.#onUpgrade)
    const giveBack = takeRequestsFirst(server, this.handleRequest)
    this.#detach.push(() => {
      server.off('upgrade', this.#onUpgrade)
      giveBack()
    })
  }

  readonly #onUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    // What is not ours is for another listener; where there is none, somebody has to answer.
    const isAlone = (socket as { server?: Server }).server?.listenerCount('upgrade') === 1
    if (isAlone || this.#isOurs(request)) {
      this.handleUpgrade(request, socket, head)
      return
    }
    // Where each of several takes it for another's, it would stay open for ever: Node has no deadline after an upgrade.
    const timer = setTimeout(() => {
      if ((socket as Partial<Socket>).bytesWritten === 0) this.#refuse(request, socket, 404, 'path')
    }, this.#settings.handshakeTimeoutMs).unref()
    socket.once('close', () => clearTimeout(timer))
  }

  /** Answers the GET of `healthPath`; returns whether it did. */
  readonly handleRequest = (request: IncomingMessage, response: ServerResponse): boolean => {
    const { healthPath, admission } = this.#settings
    const [path] = (request.url ?? '').split('?')
    if (
      healthPath === false ||
      path !== healthPath ||
      (request.method !== 'GET' && request.method !== 'HEAD')
    )
      return false
    if (!admission.isOurHost(request)) {
      response.writeHead(403).end()
      return true
    }
    const body = `${JSON.stringify({ status: this.#closing === undefined ? 'up' : 'closing', ...this.statistics() })}\n`
    response.writeHead(this.#closing === undefined ? 200 : 503, {
      'content-type': 'application/json',
      'cache-control': 'no-store',
      'content-length': Buffer.byteLength(body),
    })
    response.end(request.method === 'HEAD' ? undefined : body)
    return true
  }

  /**
   * Listens with an HTTP server of its own that answers nothing but upgrades and the health path.
   * @throws UsageError where it listens or is closed already; the system's error (EADDRINUSE, EACCES, ...)
   */
  async listen(options: BridgeListenOptions): Promise<BridgeAddress> {
    if (this.#closing !== undefined || this.#ownServer !== undefined) {
      throw new UsageError(
        this.#closing === undefined ? 'the bridge listens already' : 'the bridge is closed',
      )
    }
    const { handshakeTimeoutMs, maxConnections, maxConnectionsPerAddress, trustedProxies } = this.#settings
    const server = createServer(
      {
        maxHeaderSize: limits.maxHeaderBytes,
        headersTimeout: handshakeTimeoutMs,
        requestTimeout: handshakeTimeoutMs,
        connectionsCheckingInterval: Math.min(2000, Math.ceil(handshakeTimeoutMs / 4)),
        noDelay: true,
      },
      (request, response) => {
        if (!this.handleRequest(request, response)) response.writeHead(404, { connection: 'close' }).end()
      },
    )
    server.on('upgrade', this.handleUpgrade)
    server.maxConnections = maxConnections + 2 * limits.refusalSlots
    const maxSockets = maxConnectionsPerAddress + limits.moreSocketsPerAddress
    limitSocketsPerAddress(server, maxSockets, trustedProxies, () => {
      this.#refused++
    })
    this.#ownServer = server
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => {
        this.#ownServer = undefined
        reject(error)
      })
      server.listen({ port: options.port, host: options.host ?? '127.0.0.1' }, resolve)
    })
    // Whatever goes wrong with the listening socket later concerns one client only.
    server.on('error', () => {})
    const { address, port } = server.address() as AddressInfo
    return { host: address, port }
  }

  /** Accepts nobody any more, ends every connection with 1001 after what it has for the client was sent. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #close(): Promise<void> {
    const server = this.#ownServer
    const stopped = server === undefined ? undefined : new Promise((resolve) => server.close(resolve))
    server?.closeAllConnections()
    for (const detach of this.#detach.splice(0)) detach()
    for (const connection of this.#connections) {
      if (connection.relay !== undefined)
        connection.relay.close(closeCode.goingAway, 'the bridge is shutting down')
      else {
        connection.gone.abort()
        this.#turnAway(connection, closeCode.goingAway, 'the bridge is shutting down')
      }
    }
    if (this.#connections.size > 0) {
      await new Promise<void>((resolve) => {
        this.#onEmpty = resolve
      })
    }
    await stopped
  }

  #isOurs(request: IncomingMessage): boolean {
    const { pathPrefix } = this.#settings
    const url = request.url ?? ''
    return url === pathPrefix || url.startsWith(`${pathPrefix}/`) || url.startsWith(`${pathPrefix}?`)
  }

  #refuse(
    request: IncomingMessage,
    socket: Duplex,
    status: 403 | 404 | 503,
    reason: 'host' | 'origin' | 'connections' | 'path',
  ): void {
    this.#refused++
    socket.on('error', () => socket.destroy())
    const text = { 403: 'Forbidden', 404: 'Not Found', 503: 'Service Unavailable' }[status]
    socket.end(`HTTP/1.1 ${status} ${text}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () =>
      socket.destroy(),
    )
    const remoteAddress = clientAddress(request, this.#settings.trustedProxies)
    this.#tell({ type: 'refused', remoteAddress, status, reason })
  }

  #welcome(client: WebSocket, socket: Duplex, request: IncomingMessage, remoteAddress: string): void {
    const connection: Connection = {
      number: ++this.#numbered,
      client,
      socket,
      remoteAddress,
      gone: new AbortController(),
      target: undefined,
      relay: undefined,
      refusal: undefined,
      bytesToTarget: 0,
      bytesToClient: 0,
    }
    this.#connections.add(connection)
    // Breaches of the WebSocket protocol: `ws` answers with their close code and ends the connection.
    client.on('error', () => {})
    client.on('close', (code, reason) => {
      connection.gone.abort()
      if (connection.relay !== undefined) return
      const { refusal } = connection
      this.#ended(connection, refusal?.code ?? code, refusal?.reason ?? reason.toString())
    })
    client.pause()
    this.#join(connection, request).catch((error: unknown) => {
      if (error instanceof Refusal) this.#turnAway(connection, error.code, error.message)
      else this.#turnAway(connection, closeCode.targetReset, 'the bridge failed')
    })
  }

  async #join(connection: Connection, request: IncomingMessage): Promise<void> {
    const settings = this.#settings
    const { client, remoteAddress, gone } = connection
    const key = clientKey(remoteAddress)
    const known = this.#perAddress.get(key) ?? 0
    this.#perAddress.set(key, known + 1)
    if (this.#connections.size > settings.maxConnections)
      throw new Refusal(closeCode.tooMany, 'too many connections')
    if (known >= settings.maxConnectionsPerAddress)
      throw new Refusal(closeCode.tooMany, 'too many connections from your address')
    const [path = '', query] = (request.url ?? '').slice(settings.pathPrefix.length).split('?')
    if (query !== undefined)
      throw new Refusal(closeCode.noTarget, 'a query is not taken: tickets go into the sub-protocol')
    const target = settings.findTarget(path)
    connection.target = target
    const visitor = { request, target: plain(target), remoteAddress, signal: gone.signal }
    await authenticateVisitor(settings, path, visitor)
    const socket = await dial(target, { ...settings, signal: gone.signal })
    if (gone.signal.aborted) {
      socket.on('error', () => {})
      socket.destroy()
      return
    }
    this.#connected++
    connection.relay = new Relay(client, socket, {
      ...settings,
      heardBytes: () => (connection.socket as Partial<Socket>).bytesRead ?? 0,
      onBytes: (direction, count) => {
        if (direction === 'toTarget') {
          connection.bytesToTarget += count
          this.#bytesToTarget += count
        } else {
          connection.bytesToClient += count
          this.#bytesToClient += count
        }
      },
      onEnd: (code, reason) => this.#ended(connection, code, reason),
    })
    this.#tell({ type: 'connected', connection: connection.number, remoteAddress, target: plain(target) })
  }

  /** Says why, and lets nothing in any more. The count goes down when the WebSocket is closed. */
  #turnAway(connection: Connection, code: CloseCode, reason: string): void {
    const { client } = connection
    if (client.readyState !== client.OPEN) return
    connection.refusal = { code, reason }
    if (code !== closeCode.goingAway) this.#refused++
    client.close(code, closeReason(reason))
    client.resume()
  }

  #ended(connection: Connection, code: number, reason: string): void {
    if (!this.#connections.delete(connection)) return
    const key = clientKey(connection.remoteAddress)
    const rest = (this.#perAddress.get(key) ?? 1) - 1
    if (rest > 0) this.#perAddress.set(key, rest)
    else this.#perAddress.delete(key)
    const { number, remoteAddress, target, bytesToTarget, bytesToClient } = connection
    this.#tell({
      type: 'ended',
      connection: number,
      remoteAddress,
      target: target === undefined ? undefined : plain(target),
      code,
      reason: safeText(reason),
      bytesToTarget,
      bytesToClient,
    })
    if (this.#connections.size === 0) this.#onEmpty?.()
  }

  #tell(event: BridgeEvent): void {
    this.#settings.onEvent(event)
  }
}

function plain({ host, port }: Target): Target {
  return { host, port }
}
