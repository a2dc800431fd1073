// A connection that is cut behind every single byte: of a WRITE and of the fsync after it on their way up, of their answers on
// their way down. The old server gets nothing, something, or all of it, at once or long after a new session is at work.

import { expect, test, vi } from 'vitest'
import type { History, HistorySetup, Step } from './history.ts'
import type { Loss } from './model/link.ts'
import { runHistory } from './run-history.ts'

// On a machine that others use too.
vi.setConfig({ testTimeout: 300_000 })

const setup: HistorySetup = {
  blocks: 16,
  channels: 1,
  connections: 1,
  serverChannels: 10,
  onLoss: 'fail',
  permitsExec: true,
  endsOlderSessions: false,
  journalBytes: undefined,
  readAhead: false,
  requestTimeoutMs: 10_000,
  reconnectDelayMs: 30_000,
  keepaliveMs: 500,
  latencyMs: [1, 3],
  roundTripMs: 5,
  windowBytes: 65_536,
  pieceBytes: 32_768,
  reorders: false,
  worldSeed: 1,
}

const losses: readonly Loss[] = [
  { client: 'reset', arriving: 1, lateMs: 2000, serverSeesMs: 0 },
  { client: 'reset', arriving: 0, lateMs: 0, serverSeesMs: 0 },
  { client: 'silent', arriving: 1, lateMs: 20_000, serverSeesMs: 20_000 },
  { client: 'end', arriving: 1, lateMs: 0, serverSeesMs: 0 },
]

function history(direction: 'up' | 'down', at: number): History {
  const steps: Step[] = [
    { do: 'write', first: 3, count: 2, fua: false, zeros: false },
    { do: 'flush' },
    // The channel for the reads is there by now, and who serves us is known.
    { do: 'wait', ms: 1000 },
    { do: 'settle' },
    { do: 'cut', link: 0, direction, at, loss: losses[at % losses.length]! },
    { do: 'write', first: 3, count: 1, fua: false, zeros: false },
    { do: 'flush' },
    { do: 'settle' },
    // Newer data in the same place: an old write that comes now would show.
    { do: 'write', first: 2, count: 3, fua: true, zeros: false },
    { do: 'settle' },
    { do: 'read', first: 0, count: 8 },
  ]
  return { setup: { ...setup, worldSeed: at }, steps }
}

// A WRITE of 512 bytes and an fsync are some 600 bytes, their answers some 60; what is behind them is cut later, or never.
test.each([
  ['up', 620],
  ['down', 70],
] as const)(
  'cut behind every byte %s: nothing is stale, nothing lost, nothing hangs',
  async (direction, most) => {
    let losses = 0
    const found: string[] = []
    for (let at = 1; at <= most; at++) {
      const { violations, counts } = await runHistory(history(direction, at))
      losses += counts.losses
      for (const violation of violations) found.push(`${direction} ${at}: ${violation}`)
      // It was the connection alone that failed: every call succeeds, after a while.
      if (counts.failed > 0 || counts.gaveUp > 0)
        found.push(`${direction} ${at}: ${counts.failed} calls failed`)
    }
    expect(found).toEqual([])
    expect(losses).toBeGreaterThanOrEqual(most * 0.9)
  },
)
