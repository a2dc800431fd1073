// Options of a bridge, and what they are where left out.

import type { IncomingMessage } from 'node:http'
import { quote, UsageError } from '@sshblock/transport/errors'
import { type Network, parseNetwork } from './address.ts'
import { Admission } from './admission.ts'
import { type ConnectTcp, type Resolve, systemConnect, systemResolve } from './dial.ts'
import type { BridgeEvent } from './events.ts'
import * as limits from './limits.ts'
import { type BridgeTargets, type FindTarget, type Target, targetFinder } from './target.ts'
import type { Tickets } from './tickets.ts'

/** What `authenticate` is asked about. */
export interface BridgeVisitor {
  /** The upgrade request: its cookies and other headers. */
  readonly request: IncomingMessage
  /** From the sub-protocol 'ticket.…' or 'Authorization: Bearer …'. */
  readonly ticket: string | undefined
  readonly target: Target
  readonly remoteAddress: string
  readonly signal: AbortSignal
}

export interface BridgeOptions {
  readonly targets: BridgeTargets
  /**
   * Pages that may connect, exactly as a browser names them: 'https://app.example.org', with the port where it is not the
   * usual one; 'chrome-extension://abc...' for an extension.
   */
  readonly origins: readonly string[]
  /** Lets in requests without an Origin: programs, which can send any Origin they like. Default false. */
  readonly allowMissingOrigin?: boolean
  /**
   * Further values of the Host header that are ours, 'name' or 'name:port'. The hosts of `origins`, and localhost for
   * what comes over loopback, are taken without being listed. Default none.
   */
  readonly hosts?: readonly string[]
  /** Networks that may be connected to although they are special (private, loopback, ...): '10.0.0.0/8'. Default none. */
  readonly networks?: readonly string[]
  /** Part of the path before the target: '/ssh' for 'wss://host/ssh/db'. Default none. */
  readonly pathPrefix?: string
  /** Path of a GET that tells that the bridge is up, with its counters; false for none. Default '/health'. */
  readonly healthPath?: string | false
  /** One-time tickets: a client that shows none of them is refused with 4401. */
  readonly tickets?: Tickets
  /**
   * Decides whether to let a client in, before the target is resolved and connected to. What it throws is a no. Note that a
   * browser sends cookies along whatever page connects: it is the list of origins that stands before this.
   */
  readonly authenticate?: (visitor: BridgeVisitor) => boolean | Promise<boolean>
  /** Addresses of reverse proxies whose X-Forwarded-For is believed: '127.0.0.1', '10.1.0.0/16'. Default none. */
  readonly trustedProxies?: readonly string[]
  /** Default 1024. */
  readonly maxConnections?: number
  /** From one IPv4 address or IPv6 /64; default 64. The bridge's own server drops TCP connections beyond it too, silent ones included. */
  readonly maxConnectionsPerAddress?: number
  /** Bytes held in each direction of a connection for an end that does not take them; default 512 KiB. */
  readonly highWaterBytes?: number
  /**
   * How long a request may take to come, in milliseconds; default 10 000. For the bridge's own server: another one has
   * `headersTimeout`. There an upgrade that nobody answers is refused after this time.
   */
  readonly handshakeTimeoutMs?: number
  /** How long `authenticate` may take, in milliseconds; default 15 000. */
  readonly authenticateTimeoutMs?: number
  /** How long resolving, and how long connecting may take, in milliseconds; default 15 000. */
  readonly connectTimeoutMs?: number
  /** How long a client may take for its first byte after the target was connected to, in milliseconds; default 30 000. */
  readonly firstByteTimeoutMs?: number
  /** How long nothing may move in either direction, in milliseconds, Infinity for ever; default 30 minutes. */
  readonly idleTimeoutMs?: number
  /** How often an idle client is pinged, in milliseconds, Infinity for never; default 25 000. */
  readonly pingIntervalMs?: number
  /** Told what happens, without tickets and queries: fit for a log. */
  readonly onEvent?: (event: BridgeEvent) => void
  /** In place of the system's resolver. */
  readonly resolve?: Resolve
  /** In place of net.connect; given an address that was checked. */
  readonly connect?: ConnectTcp
}

/** Options checked and complete. */
export interface BridgeSettings {
  readonly findTarget: FindTarget
  readonly admission: Admission
  readonly networks: readonly Network[]
  readonly trustedProxies: readonly Network[]
  readonly pathPrefix: string
  readonly healthPath: string | false
  readonly tickets: Tickets | undefined
  readonly authenticate: BridgeOptions['authenticate']
  readonly maxConnections: number
  readonly maxConnectionsPerAddress: number
  readonly highWaterBytes: number
  readonly handshakeTimeoutMs: number
  readonly authenticateTimeoutMs: number
  readonly connectTimeoutMs: number
  readonly firstByteTimeoutMs: number
  readonly idleTimeoutMs: number
  readonly pingIntervalMs: number
  readonly onEvent: (event: BridgeEvent) => void
  readonly resolve: Resolve
  readonly connect: ConnectTcp
}

/** @throws UsageError that names the option and what was expected */
export function bridgeSettings(options: BridgeOptions): BridgeSettings {
  const { pathPrefix = '', healthPath = '/health', onEvent } = options
  if (!/^(\/[^/?#\s]+)*$/.test(pathPrefix))
    throw new UsageError(`pathPrefix: expected '/name', got ${quote(pathPrefix)}`)
  if (healthPath !== false && !/^\/[^?#\s]*$/.test(healthPath)) {
    throw new UsageError(`healthPath: expected '/name' or false, got ${quote(healthPath)}`)
  }
  return {
    findTarget: targetFinder(options.targets),
    admission: new Admission({
      origins: options.origins,
      allowMissingOrigin: options.allowMissingOrigin ?? false,
      hosts: options.hosts ?? [],
    }),
    networks: networksOf('networks', options.networks),
    trustedProxies: networksOf('trustedProxies', options.trustedProxies),
    pathPrefix,
    healthPath,
    tickets: options.tickets,
    authenticate: options.authenticate,
    maxConnections: count('maxConnections', options.maxConnections, limits.defaultMaxConnections),
    maxConnectionsPerAddress: count(
      'maxConnectionsPerAddress',
      options.maxConnectionsPerAddress,
      limits.defaultMaxConnectionsPerAddress,
    ),
    highWaterBytes: count('highWaterBytes', options.highWaterBytes, limits.defaultHighWaterBytes),
    handshakeTimeoutMs: duration(
      'handshakeTimeoutMs',
      options.handshakeTimeoutMs,
      limits.defaultHandshakeTimeoutMs,
    ),
    authenticateTimeoutMs: duration(
      'authenticateTimeoutMs',
      options.authenticateTimeoutMs,
      limits.defaultAuthenticateTimeoutMs,
    ),
    connectTimeoutMs: duration('connectTimeoutMs', options.connectTimeoutMs, limits.defaultConnectTimeoutMs),
    firstByteTimeoutMs: duration(
      'firstByteTimeoutMs',
      options.firstByteTimeoutMs,
      limits.defaultFirstByteTimeoutMs,
    ),
    idleTimeoutMs: duration('idleTimeoutMs', options.idleTimeoutMs, limits.defaultIdleTimeoutMs, true),
    pingIntervalMs: duration('pingIntervalMs', options.pingIntervalMs, limits.defaultPingIntervalMs, true),
    onEvent: (event) => {
      try {
        onEvent?.(event)
      } catch (error) {
        // A log that fails is the application's fault, and no reason to drop a client.
        queueMicrotask(() => {
          throw error
        })
      }
    },
    resolve: options.resolve ?? systemResolve,
    connect: options.connect ?? systemConnect,
  }
}

function networksOf(name: string, texts: readonly string[] = []): Network[] {
  return texts.map((text) => {
    const network = parseNetwork(text)
    if (network === undefined)
      throw new UsageError(`${name}: expected an address or 'address/prefix', got ${quote(text)}`)
    return network
  })
}

function count(name: string, given: number | undefined, usual: number): number {
  const value = given ?? usual
  if (!Number.isSafeInteger(value) || value < 1)
    throw new UsageError(`${name}: expected a positive integer, got ${value}`)
  return value
}

/** Timers of more than 24 days fire at once. */
const maxDurationMs = 2 ** 31 - 1

function duration(name: string, given: number | undefined, usual: number, mayBeInfinite = false): number {
  const value = given ?? usual
  if (mayBeInfinite && value === Number.POSITIVE_INFINITY) return value
  if (!(value > 0 && value <= maxDurationMs))
    throw new UsageError(`${name}: expected milliseconds above 0, got ${value}`)
  return value
}
