/**
 * What happened, for logs and record/replay: never payloads, never key material.
 * `level` 1 is for the user's first -v, 3 is every packet.
 */
export interface TraceEvent {
  level: 1 | 2 | 3
  layer: 'transport' | 'kex' | 'auth' | 'connection' | 'agent' | 'sftp' | 'device' | 'nbd' | 'bridge'
  event: string
  detail?: Readonly<Record<string, string | number | boolean>>
}

export type Trace = (event: TraceEvent) => void
