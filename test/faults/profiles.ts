// What histories may be about: everything, or one kind of trouble in full.

import type { Profile } from './history.ts'

const noFailures = { 'fail-write': 0, 'fail-read': 0, 'fail-sync': 0 }

export const profiles = {
  /** Everything at once. */
  all: { weights: { 'fail-writeback': 1 } },
  /** Connections cut behind any byte, one after another, on a server where old sessions can be fenced. */
  losses: {
    setup: { permitsExec: true, onLoss: 'fail', reconnectDelayMs: 30_000 },
    weights: { lose: 10, cut: 20, crash: 0, ...noFailures },
    meanwhile: ['nothing'],
  },
  /** A server far away, to which all lanes are opened at once. */
  far: {
    setup: {
      permitsExec: true,
      onLoss: 'fail',
      latencyMs: [10, 40],
      roundTripMs: 40,
      channels: 4,
      serverChannels: 10,
    },
    weights: { lose: 6, cut: 12, kill: 3, crash: 0, ...noFailures },
    meanwhile: ['nothing'],
  },
  /** Old sessions that act late. */
  ghosts: {
    setup: { onLoss: 'fail', permitsExec: true, reconnectDelayMs: 30_000 },
    weights: { lose: 12, cut: 6, stop: 10, stall: 6, crash: 0, ...noFailures },
    meanwhile: ['nothing'],
    ghosts: true,
  },
  /** The same, where nothing proves that an old session is over. */
  unfenced: {
    setup: { onLoss: 'fail', permitsExec: false, reconnectDelayMs: 30_000 },
    weights: { lose: 8, cut: 6, stop: 8, stall: 6, crash: 0, ...noFailures },
    meanwhile: ['nothing'],
    ghosts: true,
  },
  /** The same, on a server of ours that ends the older sessions of a device. */
  epochs: {
    setup: { onLoss: 'fail', permitsExec: false, endsOlderSessions: true, reconnectDelayMs: 30_000 },
    weights: { lose: 12, cut: 6, stop: 8, stall: 6, ...noFailures },
    meanwhile: ['nothing'],
    ghosts: true,
  },
  /** Power failures between acknowledgement and fsync. */
  crashes: {
    setup: { onLoss: 'replay', reconnectDelayMs: 30_000 },
    weights: { crash: 12, flush: 14, lose: 2, cut: 2 },
    meanwhile: ['nothing'],
  },
  /** An fsync, or a write-back that nobody asked for, that fails, and machines that go down after it. */
  syncs: {
    setup: { onLoss: 'replay', reconnectDelayMs: 30_000 },
    weights: { 'fail-sync': 12, 'fail-writeback': 6, flush: 20, crash: 5, 'fail-write': 0 },
    meanwhile: ['nothing'],
  },
  /** Another file, another machine, or none, after a loss. */
  impostors: {
    setup: { permitsExec: true, reconnectDelayMs: 30_000 },
    weights: { lose: 12, crash: 3, read: 25 },
    meanwhile: ['nothing', 'other-file', 'other-host', 'shorter', 'longer', 'unlinked', 'unreadable'],
  },
} satisfies Record<string, Profile>

export type ProfileName = keyof typeof profiles
