// What a bridge tells about: nothing here holds a ticket, a query or a payload byte.

import type { Target } from './target.ts'

export type BridgeEvent =
  /** Refused before the upgrade. */
  | {
      readonly type: 'refused'
      readonly remoteAddress: string
      readonly status: number
      readonly reason: 'host' | 'origin' | 'connections' | 'path'
    }
  /** The target was connected to. `connection` numbers the upgraded requests from 1. */
  | {
      readonly type: 'connected'
      readonly connection: number
      readonly remoteAddress: string
      readonly target: Target
    }
  /** A connection is gone, also one that was refused after the upgrade. `code` and `reason` are those of its close frame. */
  | {
      readonly type: 'ended'
      readonly connection: number
      readonly remoteAddress: string
      readonly target: Target | undefined
      readonly code: number
      readonly reason: string
      readonly bytesToTarget: number
      readonly bytesToClient: number
    }

export interface BridgeStatistics {
  /** Clients now, also those that are not joined to their target yet. */
  readonly connections: number
  /** Since the start. */
  readonly connectedConnections: number
  /** Refused since the start, before the upgrade and after it. */
  readonly refusedConnections: number
  readonly bytesToTarget: number
  readonly bytesToClient: number
  /** Held by this process for ends that do not take them. */
  readonly heldBytes: number
}
