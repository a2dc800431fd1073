// The NBD server for Node: sockets, the list of clients, and the end of it all.
// Owns the listening socket, the clients and the pool that they share. Everything about the protocol is elsewhere.

import { setMaxListeners } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'
import { UsageError } from '@sshblock/transport/errors'
import { releaseMemory } from '@sshblock/transport/node-memory'
import { BufferPool } from './buffer-pool.ts'
import { Connection } from './connection.ts'
import type { NbdExport, NbdExportResolver } from './export.ts'
import { ExportTable } from './export-table.ts'
import {
  defaultMaxBytesInFlight,
  defaultMaxClients,
  defaultMaxRequestsInFlight,
  defaultNegotiationTimeoutMs,
  defaultShutdownTimeoutMs,
} from './limits.ts'
import { listen, type NbdAddress, type NbdListen, nbdUri } from './node-listen.ts'
import { Counters, type NbdStatistics } from './statistics.ts'
import type { FarewellReason, Wire } from './wire.ts'

/** What happens on a server. `client` numbers the accepted clients from 1. */
export type NbdServerEvent =
  | { readonly type: 'client-connected'; readonly client: number }
  /** It chose an export and may send requests. */
  | { readonly type: 'client-ready'; readonly client: number; readonly exportName: string }
  /** It is gone and nothing of it is left. */
  | {
      readonly type: 'client-gone'
      readonly client: number
      readonly reason: FarewellReason
      readonly error: Error | undefined
    }
  /** Turned away: as many clients as allowed are there. */
  | { readonly type: 'client-refused' }
  /** A device that the server had opened failed to close; what was written may not be on stable storage. */
  | { readonly type: 'close-failed'; readonly exportName: string; readonly error: unknown }

export interface NbdServerOptions {
  listen: NbdListen
  /** Clients at once; further ones are turned away. A client that vanished counts until its calls have settled. Default 16. */
  maxClients?: number
  /**
   * Payload bytes of the unanswered requests of all clients together, of which each client has an equal share. One request is
   * always let in. What is best is what the way to the device holds: its bytes per second times its round trip; more makes
   * buffers grow, and everything slower. Default 64 MiB.
   */
  maxBytesInFlight?: number
  /** The same of one client, beyond which its next request waits unread. Default: its share. */
  maxBytesInFlightPerClient?: number
  /** Unanswered requests of one client, beyond which the next waits unread. Default 256. */
  maxRequestsInFlightPerClient?: number
  /** Time a client has until it has chosen an export, in milliseconds. Default 30 000. */
  negotiationTimeoutMs?: number
  /**
   * Time `close` gives to requests in flight and to clients to take their replies, in milliseconds; then the calls are
   * aborted and the clients dropped. Default 30 000.
   */
  shutdownTimeoutMs?: number
  /** Told what happens. What it throws is reported as an uncaught exception and changes nothing here. */
  onEvent?: (event: NbdServerEvent) => void
}

export interface NbdServer {
  readonly address: NbdAddress
  /** What to give to qemu, nbdcopy and others: nbd+unix:///NAME?socket=PATH or nbd://HOST:PORT/NAME. */
  uri(exportName?: string): string
  statistics(): NbdStatistics
  /**
   * Accepts nobody any more, answers what is in flight (what arrives meanwhile with NBD_ESHUTDOWN), disconnects the clients,
   * closes the devices that the server opened and flushes those that it was given. Idempotent.
   * @throws the first error of closing and flushing the devices
   */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * Serves block devices to NBD clients (qemu, nbdcopy, nbdinfo, fio, nbd-client and the like): fixed newstyle negotiation,
 * simple and structured replies, base:allocation.
 *
 * @param exports what to serve, or how to find it by name
 * @returns a server that listens
 * @throws UsageError for names that the protocol cannot carry, limits that are not positive integers, and addresses that must
 *   not be listened on; the system's error where listening failed
 */
export async function serveNbd(
  exports: readonly NbdExport[] | NbdExportResolver,
  options: NbdServerOptions,
): Promise<NbdServer> {
  const server = new NodeNbdServer(exports, options)
  await server.listen(options.listen)
  return server
}

class NodeNbdServer implements NbdServer {
  readonly #exports: ExportTable
  readonly #pool = new BufferPool()
  readonly #counters = new Counters()
  readonly #clients = new Set<Connection>()
  readonly #server: Server
  readonly #onEvent: (event: NbdServerEvent) => void
  readonly #maxClients: number
  readonly #maxBytesInFlight: number
  readonly #maxBytesInFlightPerClient: number
  readonly #maxRequestsInFlight: number
  readonly #negotiationTimeoutMs: number
  readonly #shutdownTimeoutMs: number
  #address: NbdAddress | undefined
  #closing: Promise<void> | undefined

  constructor(exports: readonly NbdExport[] | NbdExportResolver, options: NbdServerOptions) {
    this.#maxClients = limit('maxClients', options.maxClients, defaultMaxClients)
    this.#maxBytesInFlight = limit('maxBytesInFlight', options.maxBytesInFlight, defaultMaxBytesInFlight)
    this.#maxBytesInFlightPerClient = limit(
      'maxBytesInFlightPerClient',
      options.maxBytesInFlightPerClient,
      this.#maxBytesInFlight,
    )
    this.#maxRequestsInFlight = limit(
      'maxRequestsInFlightPerClient',
      options.maxRequestsInFlightPerClient,
      defaultMaxRequestsInFlight,
    )
    this.#negotiationTimeoutMs = limit(
      'negotiationTimeoutMs',
      options.negotiationTimeoutMs,
      defaultNegotiationTimeoutMs,
    )
    this.#shutdownTimeoutMs = limit('shutdownTimeoutMs', options.shutdownTimeoutMs, defaultShutdownTimeoutMs)
    const onEvent = options.onEvent
    this.#onEvent = (event) => {
      try {
        onEvent?.(event)
      } catch (error) {
        queueMicrotask(() => {
          throw error
        })
      }
    }
    this.#exports = new ExportTable(exports, {
      onCloseError: (exportName, error) => this.#onEvent({ type: 'close-failed', exportName, error }),
    })
    this.#server = createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000 }, (socket) =>
      this.#accept(socket),
    )
  }

  get address(): NbdAddress {
    return this.#address!
  }

  async listen(where: NbdListen): Promise<void> {
    this.#address = await listen(this.#server, where)
    // Whatever goes wrong with the listening socket later (such as too many open files) concerns one client only.
    this.#server.on('error', () => {})
  }

  uri(exportName = ''): string {
    return nbdUri(this.address, exportName)
  }

  statistics(): NbdStatistics {
    const { acceptedClients, refusedClients, failedRequests, readBytes, writtenBytes, requests } =
      this.#counters
    let negotiatingClients = 0
    let requestsInFlight = 0
    let bytesInFlight = 0
    for (const client of this.#clients) {
      if (client.isNegotiating) negotiatingClients++
      requestsInFlight += client.requestsInFlight
      bytesInFlight += client.bytesInFlight
    }
    return {
      clients: this.#clients.size,
      negotiatingClients,
      requestsInFlight,
      bytesInFlight,
      acceptedClients,
      refusedClients,
      requests: { ...requests },
      failedRequests,
      readBytes,
      writtenBytes,
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    const clients = [...this.#clients]
    for (const client of clients) client.shutDown()
    const timer = setTimeout(() => {
      for (const client of clients) client.destroy()
    }, this.#shutdownTimeoutMs)
    await Promise.all(clients.map((client) => client.finished))
    clearTimeout(timer)
    await closed
    this.#pool.clear()
    await this.#exports.finish()
  }

  /** What one client may have in flight now. */
  #clientShareBytes(): number {
    return Math.min(this.#maxBytesInFlightPerClient, this.#maxBytesInFlight / Math.max(1, this.#clients.size))
  }

  #accept(socket: Socket): void {
    if (this.#closing !== undefined || this.#clients.size >= this.#maxClients) {
      this.#counters.refusedClients++
      socket.on('error', () => {})
      socket.destroy()
      this.#onEvent({ type: 'client-refused' })
      return
    }
    const client = ++this.#counters.acceptedClients
    const connection = new Connection({
      wire: wireOf(socket),
      exports: this.#exports,
      pool: this.#pool,
      counters: this.#counters,
      maxBytesInFlight: () => this.#clientShareBytes(),
      maxRequestsInFlight: this.#maxRequestsInFlight,
      negotiationTimeoutMs: this.#negotiationTimeoutMs,
      atEndOfTurn: setImmediate,
      makeAbortController,
      onReady: (exportName) => this.#onEvent({ type: 'client-ready', client, exportName }),
    })
    this.#clients.add(connection)
    void connection.finished.then(({ reason, error }) => {
      this.#clients.delete(connection)
      if (this.#clients.size === 0) this.#pool.clear()
      this.#onEvent({ type: 'client-gone', client, reason, error })
    })
    let failure: Error | undefined
    socket.on('error', (error) => {
      failure = error
    })
    socket.on('close', () => connection.wireClosed(failure))
    socket.on('end', () => connection.inputEnded())
    socket.on('data', (chunk: Uint8Array) => connection.receive(chunk))
    this.#onEvent({ type: 'client-connected', client })
    connection.start()
  }
}

/** A controller whose signal any number of calls may listen to at once. */
function makeAbortController(): AbortController {
  const controller = new AbortController()
  setMaxListeners(0, controller.signal)
  return controller
}

function limit(name: string, value: number | undefined, byDefault: number): number {
  const chosen = value ?? byDefault
  if (!Number.isSafeInteger(chosen) || chosen < 1)
    throw new UsageError(`${name} must be a positive integer, not ${chosen}`)
  return chosen
}

function wireOf(socket: Socket): Wire {
  return {
    write(pieces, done) {
      const last = pieces.length - 1
      // Corked writes leave as one writev.
      if (last > 0) socket.cork()
      for (let i = 0; i < last; i++) socket.write(pieces[i]!)
      socket.write(pieces[last]!, (error) => {
        if (error == null) done()
      })
      if (last > 0) socket.uncork()
    },
    usedUp: releaseMemory,
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
    end: () => socket.destroySoon(),
    destroy: () => void socket.destroy(),
  }
}
