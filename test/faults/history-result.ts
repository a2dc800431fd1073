// What came of a history: what was against the rules, what happened, and how much of it.

export interface HistoryResult {
  /** What was against the rules; empty when all is well. */
  readonly violations: readonly string[]
  /** What happened, in order, where `trace` was asked for. */
  readonly trace: readonly string[]
  readonly counts: HistoryCounts
}

export interface HistoryCounts {
  calls: number
  succeeded: number
  failed: number
  losses: number
  restored: number
  /** The device gave up for good. */
  gaveUp: number
  /** Writes that took effect after their session was lost. */
  ghosts: number
  /** Recoveries with a proof that the old session is over: by exit status, and by its processes. */
  fencedByExit: number
  fencedByProcesses: number
  /** And by a server that ended older sessions. */
  fencedByEpoch: number
  /** Most channels in use at once. */
  channels: number
  virtualMs: number
}

/** Nothing happened yet. */
export function noCounts(): HistoryCounts {
  return {
    calls: 0,
    succeeded: 0,
    failed: 0,
    losses: 0,
    restored: 0,
    gaveUp: 0,
    ghosts: 0,
    fencedByExit: 0,
    fencedByProcesses: 0,
    fencedByEpoch: 0,
    channels: 0,
    virtualMs: 0,
  }
}

export function describe(what: unknown): string {
  const text =
    what instanceof Error ? `${'code' in what ? `${what.code} ` : ''}${what.message}` : String(what)
  return text.length > 160 ? `${text.slice(0, 160)}...` : text
}
