// A history: how device and machine are set up, and what happens, step by step. Made from a seed, or by hand; plain data,
// so that it can be printed, cut down to what matters, and run again.

import type { Loss } from './model/link.ts'
import { Random } from './model/random.ts'

export interface HistorySetup {
  /** Blocks of 512 bytes of the image. */
  readonly blocks: number
  readonly channels: number
  readonly connections: number
  /** Channels that the server gives on a connection. */
  readonly serverChannels: number
  readonly onLoss: 'fail' | 'replay'
  /** Whether the server lets the device prove old processes dead: by commands, or not at all. */
  readonly permitsExec: boolean
  /** Whether it is a server of ours that ends the older sessions of a device. */
  readonly endsOlderSessions: boolean
  readonly journalBytes: number | undefined
  readonly readAhead: boolean
  readonly requestTimeoutMs: number
  readonly reconnectDelayMs: number
  readonly keepaliveMs: number
  /** Milliseconds that bytes take, at least and at most. */
  readonly latencyMs: readonly [number, number]
  /** What the connection says of its round trip, in milliseconds. */
  readonly roundTripMs: number
  readonly windowBytes: number
  /** Largest piece in which bytes arrive. */
  readonly pieceBytes: number
  readonly reorders: boolean
  /** Seed of what the world itself decides: delays, torn writes, what a crash leaves. */
  readonly worldSeed: number
}

export type Step =
  | {
      readonly do: 'write'
      readonly first: number
      readonly count: number
      readonly fua: boolean
      readonly zeros: boolean
    }
  | { readonly do: 'read'; readonly first: number; readonly count: number }
  | { readonly do: 'flush' }
  /** Cancels a call that is under way, counted back from the last. */
  | { readonly do: 'cancel'; readonly back: number }
  | { readonly do: 'wait'; readonly ms: number }
  /** Waits until every call has ended. */
  | { readonly do: 'settle' }
  | { readonly do: 'lose'; readonly connection: number; readonly loss: Loss; readonly meanwhile: Meanwhile }
  | {
      readonly do: 'cut'
      readonly link: number
      readonly direction: 'up' | 'down'
      readonly at: number
      readonly loss: Loss
    }
  /** New keys, on connections that have any. */
  | { readonly do: 'rekey' }
  | { readonly do: 'kill'; readonly process: number }
  | { readonly do: 'stop'; readonly process: number; readonly ms: number }
  | { readonly do: 'stall'; readonly link: number; readonly ms: number }
  | { readonly do: 'withhold'; readonly link: number; readonly ms: number }
  | { readonly do: 'double'; readonly link: number }
  | { readonly do: 'crash'; readonly downMs: number; readonly silent: boolean; readonly meanwhile: Meanwhile }
  | { readonly do: 'down'; readonly how: 'refuses' | 'silent'; readonly ms: number }
  | { readonly do: 'fail-write'; readonly code: 'ENOSPC' | 'EIO' }
  | { readonly do: 'fail-read' }
  | { readonly do: 'fail-sync'; readonly times: number }
  /** The kernel writes back what is dirty, which nobody asked for, and fails. */
  | { readonly do: 'fail-writeback' }
  | { readonly do: 'slow'; readonly writeMs: number; readonly syncMs: number; readonly ms: number }

/** What becomes of the server's side during an outage. */
export type Meanwhile =
  | 'nothing'
  | 'other-file'
  | 'other-host'
  | 'shorter'
  | 'longer'
  | 'unlinked'
  | 'unreadable'

export interface History {
  readonly setup: HistorySetup
  readonly steps: readonly Step[]
}

/** What a history may be about. */
export interface Profile {
  /** Setup values that are given, whatever the seed says. */
  readonly setup?: Partial<HistorySetup>
  /** Steps to take, at least and at most. */
  readonly steps?: readonly [number, number]
  /** Weights of steps; what is absent has the default, 0 takes it out. */
  readonly weights?: Partial<Record<Step['do'], number>>
  readonly meanwhile?: readonly Meanwhile[]
  /** Old sessions act on after a loss. Default: yes, unless 'replay' was chosen, whose risk that is. */
  readonly ghosts?: boolean
  /** Outages may last for hours. */
  readonly longOutages?: boolean
}

const defaultWeights: Record<Step['do'], number> = {
  write: 30,
  read: 14,
  flush: 8,
  cancel: 3,
  wait: 14,
  settle: 5,
  lose: 4,
  cut: 5,
  rekey: 0,
  kill: 1,
  stop: 2,
  stall: 2,
  withhold: 1,
  double: 1,
  crash: 2,
  down: 2,
  'fail-write': 2,
  'fail-read': 1,
  'fail-sync': 2,
  slow: 1,
  'fail-writeback': 0,
}

export function generateHistory(seed: number, profile: Profile = {}): History {
  const random = new Random(seed)
  const setup = { ...generateSetup(random), ...profile.setup }
  const ghosts = profile.ghosts ?? setup.onLoss === 'fail'
  const [least, most] = profile.steps ?? [8, 45]
  const weights = { ...defaultWeights, ...profile.weights }
  if (!ghosts) weights.stop = 0
  const choices = Object.entries(weights).map(([step, weight]) => [weight, step as Step['do']] as const)
  const maker = new StepMaker(random, setup, ghosts, profile)
  const steps: Step[] = []
  for (let count = random.between(least, most); count > 0; count--)
    steps.push(maker.make(random.weighted(choices)))
  return { setup, steps }
}

const ordinaryMeanwhile: readonly Meanwhile[] = [
  ...Array<Meanwhile>(24).fill('nothing'),
  'other-file',
  'other-host',
  'shorter',
  'longer',
  'unlinked',
  'unreadable',
]

function generateSetup(random: Random): HistorySetup {
  const permitsExec = random.chance(0.6)
  const setup: Omit<HistorySetup, 'endsOlderSessions' | 'roundTripMs'> = {
    blocks: random.pick([16, 64, 128]),
    channels: random.between(1, 4),
    connections: random.between(1, 3),
    serverChannels: random.pick([1, 2, 4, 10]),
    onLoss: random.chance(0.3) ? 'replay' : 'fail',
    permitsExec,
    journalBytes: random.weighted([
      [8, undefined],
      [1, 8192],
      [1, 0],
    ]),
    readAhead: random.chance(0.7),
    requestTimeoutMs: random.pick([2000, 10_000]),
    reconnectDelayMs: random.pick([0, 3000, 30_000, 30_000]),
    keepaliveMs: random.pick([500, 15_000]),
    latencyMs: random.pick([
      [0, 0],
      [1, 5],
      [1, 40],
    ] as const),
    windowBytes: random.pick([4096, 65_536, 2 * 1024 * 1024]),
    pieceBytes: random.pick([100, 1000, 32_768, 32_768]),
    reorders: random.chance(0.3),
    worldSeed: random.next(),
  }
  const isFar = setup.latencyMs[1] === 40 && setup.worldSeed % 5 < 2
  return {
    ...setup,
    endsOlderSessions: !permitsExec && setup.worldSeed % 3 === 0,
    roundTripMs: isFar ? 40 : 5,
  }
}

class StepMaker {
  readonly #random: Random
  readonly #setup: HistorySetup
  readonly #ghosts: boolean
  readonly #meanwhile: readonly Meanwhile[]
  readonly #longestOutageMs: number

  constructor(random: Random, setup: HistorySetup, ghosts: boolean, profile: Profile) {
    this.#random = random
    this.#setup = setup
    this.#ghosts = ghosts
    this.#meanwhile = profile.meanwhile ?? ordinaryMeanwhile
    this.#longestOutageMs = profile.longOutages === true ? 7_200_000 : 50_000
  }

  make(what: Step['do']): Step {
    const random = this.#random
    switch (what) {
      case 'write':
        return { do: 'write', ...this.#range(), fua: random.chance(0.12), zeros: random.chance(0.08) }
      case 'read':
        return { do: 'read', ...this.#range() }
      case 'flush':
      case 'settle':
      case 'fail-read':
      case 'fail-writeback':
      case 'rekey':
        return { do: what }
      case 'cancel':
        return { do: 'cancel', back: random.below(4) }
      case 'wait':
        return { do: 'wait', ms: random.pick([0, 1, 3, 10, 30, 100, 1000, 12_000]) }
      case 'lose':
        return {
          do: 'lose',
          connection: random.below(3),
          loss: this.#loss(),
          meanwhile: random.pick(this.#meanwhile),
        }
      case 'cut': {
        const direction = random.chance(0.7) ? 'up' : 'down'
        return {
          do: 'cut',
          link: random.below(6),
          direction,
          at: random.between(1, 3000),
          loss: this.#loss(),
        }
      }
      case 'kill':
        return { do: 'kill', process: random.below(6) }
      case 'stop':
        return { do: 'stop', process: random.below(6), ms: random.pick([50, 3000, 40_000, 100_000]) }
      case 'stall':
      case 'withhold':
        return { do: what, link: random.below(6), ms: random.pick([20, 800, this.#ghosts ? 15_000 : 1000]) }
      case 'double':
        return { do: 'double', link: random.below(6) }
      case 'crash':
        return {
          do: 'crash',
          downMs: random.pick([0, 200, 5000, 60_000]),
          silent: random.chance(0.5),
          meanwhile: random.pick(this.#meanwhile),
        }
      case 'down':
        return {
          do: 'down',
          how: random.pick(['refuses', 'silent'] as const),
          ms: random.pick([100, 2000, this.#longestOutageMs]),
        }
      case 'fail-write':
        return { do: 'fail-write', code: random.pick(['ENOSPC', 'EIO'] as const) }
      case 'fail-sync':
        return {
          do: 'fail-sync',
          times: random.weighted([
            [4, 1],
            [1, 2],
            [1, 5],
          ]),
        }
      case 'slow':
        return {
          do: 'slow',
          writeMs: random.pick([0, 5, 50]),
          syncMs: random.pick([0, 20, 500]),
          ms: random.pick([100, 2000]),
        }
    }
  }

  #range(): { first: number; count: number } {
    const { blocks } = this.#setup
    const random = this.#random
    // Most of what happens, happens in the same few places.
    const first = random.chance(0.6) ? random.below(8) : random.below(blocks)
    const count = Math.min(
      blocks - first,
      random.weighted([
        [6, 1],
        [3, random.between(1, 8)],
        [1, random.between(1, 16)],
      ]),
    )
    return { first, count }
  }

  #loss(): Loss {
    const random = this.#random
    const late = this.#ghosts
    return {
      client: random.weighted([
        [5, 'reset' as const],
        [late ? 3 : 0, 'silent' as const],
        [1, 'end' as const],
      ]),
      arriving: random.weighted([
        [2, 0],
        [2, 1],
        [3, random.below(1000) / 1000],
      ]),
      lateMs: late ? random.pick([0, 1, 50, 2000, 40_000]) : 0,
      serverSeesMs: late ? random.pick([0, 10, 1000, 20_000]) : 0,
    }
  }
}
