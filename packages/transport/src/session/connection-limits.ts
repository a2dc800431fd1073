// How many connections a server holds: in total, per address, and strangers that are not authenticated yet. Counts only.
// Strangers are refused at random before their limit is reached (as MaxStartups of sshd_config(5)), so that somebody who
// keeps the places occupied does not keep everybody else out.

export interface ConnectionLimits {
  /** Connections at once; 1024 where left out. */
  maxConnections?: number
  /** Connections at once from one address; 256 where left out. Clients without an address count as one. */
  maxConnectionsPerAddress?: number
  /** Connections at once that are not authenticated; refusals begin at random above half of it. 128 where left out. */
  maxUnauthenticated?: number
}

export type ConnectionRefusal = 'connections' | 'address' | 'unauthenticated'

export class ConnectionCounts {
  readonly #limits: Required<ConnectionLimits>
  readonly #random: () => number
  readonly #perAddress = new Map<string, number>()
  connections = 0
  unauthenticated = 0

  /** @param random a number from 0 to below 1. */
  constructor(limits: ConnectionLimits, random: () => number) {
    this.#limits = {
      maxConnections: limits.maxConnections ?? 1024,
      maxConnectionsPerAddress: limits.maxConnectionsPerAddress ?? 256,
      maxUnauthenticated: limits.maxUnauthenticated ?? 128,
    }
    this.#random = random
  }

  /** Why a further connection from that address is refused; undefined where it is not. */
  refusal(address: string | undefined): ConnectionRefusal | undefined {
    const { maxConnections, maxConnectionsPerAddress, maxUnauthenticated } = this.#limits
    if (this.connections >= maxConnections) return 'connections'
    if ((this.#perAddress.get(address ?? '') ?? 0) >= maxConnectionsPerAddress) return 'address'
    if (this.unauthenticated >= maxUnauthenticated) return 'unauthenticated'
    const half = maxUnauthenticated / 2
    const isUnlucky = this.unauthenticated > half && this.#random() < (this.unauthenticated - half) / half
    return isUnlucky ? 'unauthenticated' : undefined
  }

  /** Counts a connection that is not authenticated. */
  opened(address: string | undefined): void {
    this.connections++
    this.unauthenticated++
    this.#perAddress.set(address ?? '', (this.#perAddress.get(address ?? '') ?? 0) + 1)
  }

  authenticated(): void {
    this.unauthenticated--
  }

  closed(address: string | undefined, wasAuthenticated: boolean): void {
    this.connections--
    if (!wasAuthenticated) this.unauthenticated--
    const rest = (this.#perAddress.get(address ?? '') ?? 1) - 1
    if (rest > 0) this.#perAddress.set(address ?? '', rest)
    else this.#perAddress.delete(address ?? '')
  }
}
