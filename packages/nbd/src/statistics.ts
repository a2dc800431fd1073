// Counters of a server. One object is shared by all clients and only ever counts up; what is momentary (clients,
// bytes in flight) is summed from the clients when somebody asks.

import { command } from './protocol.ts'

/** Names of requests as the statistics count them. */
export type RequestName = keyof typeof command | 'unknown'

export interface NbdStatistics {
  /** Clients connected now, those that still negotiate included. */
  clients: number
  negotiatingClients: number
  /** Requests whose reply has not been handed to the operating system yet. */
  requestsInFlight: number
  /** Their payload bytes, as far as the limit counts them. */
  bytesInFlight: number
  /** Clients ever accepted. */
  acceptedClients: number
  /** Clients turned away because there were too many. */
  refusedClients: number
  /** Requests ever received, by command. */
  requests: Record<RequestName, number>
  /** Requests answered with an error. */
  failedRequests: number
  /** Bytes of successful READ replies, holes included. */
  readBytes: number
  /** Bytes of successful WRITEs. */
  writtenBytes: number
}

const names = new Map<number, RequestName>(
  Object.entries(command).map(([name, type]) => [type, name as RequestName]),
)

/** What only counts up. */
export class Counters {
  acceptedClients = 0
  refusedClients = 0
  failedRequests = 0
  readBytes = 0
  writtenBytes = 0
  readonly requests: Record<RequestName, number> = {
    read: 0,
    write: 0,
    disc: 0,
    flush: 0,
    trim: 0,
    cache: 0,
    writeZeroes: 0,
    blockStatus: 0,
    unknown: 0,
  }

  countRequest(type: number): void {
    this.requests[names.get(type) ?? 'unknown']++
  }
}
