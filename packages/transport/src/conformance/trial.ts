// What a check of the SSH layers is run with: it makes scripted peers that are connected to the peer under test, and clears
// them away. The same for both roles, so that a rule that binds both is written once.

import type { CryptoProvider } from '../crypto/provider.ts'
import { SshError } from '../errors.ts'
import { kexMethod, knownKexMethods } from '../kex/methods.ts'
import type { KexInit } from '../kex/negotiate.ts'
import type { Signer } from '../keys/signer.ts'
import { knownCiphers, knownMacs } from '../packet/suites.ts'
import type { ByteDuplex } from '../session/duplex.ts'
import { expectAlive } from './answers.ts'
import { NotApplicable, Unexpected } from './arrival.ts'
import { type Check, type CheckResult, defaultConcurrency, type RunOptions, runChecks } from './check.ts'
import { allNumbers, sampleNumbers } from './message-table.ts'
import type { Phase } from './phases.ts'
import { type ScriptedLogin, ScriptedPeer, type ScriptedPeerOptions } from './scripted-peer.ts'

/** A server under test. */
export interface ServerTarget {
  readonly role: 'server'
  /** Opens a new connection to it. */
  readonly connect: () => Promise<ByteDuplex>
  readonly crypto: CryptoProvider
  /** How to log in. Checks that need a user are not applicable without it. */
  readonly login?: ScriptedLogin
  /** How long to wait for anything, in milliseconds. */
  readonly patienceMs?: number
}

/**
 * A client under test. Each connection is one run of it: it logs in as anybody by any means, opens one session channel,
 * starts anything on it, sends at least 64 KiB of data as soon as it may, and leaves when the channel is closed.
 */
export interface ClientTarget {
  readonly role: 'client'
  /** Makes it connect once; our end of the connection. */
  readonly connect: () => Promise<ByteDuplex>
  readonly crypto: CryptoProvider
  /** The keys that it takes for the server's. */
  readonly hostKeys: readonly Signer[]
  readonly patienceMs?: number
}

export type Target = ServerTarget | ClientTarget

/** How often to connect again to a server that hangs up before it says a word: those that are overrun do. */
const maxConnects = 9
const maxBackoffMs = 1000

export type PeerOptions = Partial<Omit<ScriptedPeerOptions, 'role' | 'crypto'>>

export class Trial {
  readonly target: Target
  readonly #facts: Facts
  readonly #peers: ScriptedPeer[] = []

  /** The message numbers that tables try: all 256, or a sample. */
  readonly numbers: readonly number[]
  /** How many connections a table may have open. */
  readonly atOnce: number

  constructor(target: Target, facts: Facts, tables: { numbers: readonly number[]; atOnce: number }) {
    this.target = target
    this.#facts = facts
    this.numbers = tables.numbers
    this.atOnce = tables.atOnce
  }

  /** Whom the scripted peers of this trial play. */
  get role(): 'client' | 'server' {
    return this.target.role === 'server' ? 'client' : 'server'
  }

  /** A scripted peer on a new connection, brought to `phase`. It is cleared away when the check ends. @throws Unexpected */
  async peer(phase: Phase, options: PeerOptions = {}): Promise<ScriptedPeer> {
    for (let attempt = 1; ; attempt++) {
      const peer = new ScriptedPeer(await this.target.connect(), { ...this.#defaults(), ...options })
      this.#peers.push(peer)
      try {
        return await peer.upTo(phase)
      } catch (error) {
        const silent = peer.theirIdentification === undefined && peer.wire.ended
        if (!silent || attempt >= maxConnects) throw error
        peer.wire.abort()
        await new Promise((resolve) => setTimeout(resolve, Math.min(50 * 2 ** attempt, maxBackoffMs)))
      }
    }
  }

  /**
   * A scripted peer that has said nothing, whose counterpart has sent its identification.
   * @throws Unexpected where it waits for the other one's first
   */
  introduced(): Promise<ScriptedPeer> {
    return this.peer('introduced')
  }

  #defaults(): ScriptedPeerOptions {
    const { target } = this
    const { patienceMs } = target
    const common = {
      role: this.role,
      crypto: target.crypto,
      algorithms: this.#facts.algorithms,
      ...(patienceMs === undefined ? {} : { patienceMs }),
    }
    if (target.role === 'client') return { ...common, hostKeys: target.hostKeys }
    return target.login === undefined ? common : { ...common, login: target.login }
  }

  /**
   * A scripted peer with keys in force, whose counterpart says nothing of itself: a server that waits for a service request,
   * a client whose channel has no window.
   */
  quiet(options: PeerOptions = {}): Promise<ScriptedPeer> {
    if (this.target.role === 'server') return this.peer('keys', options)
    return this.peer('running', { channel: { windowBytes: 0 }, ...options })
  }

  /** The same before any keys: a server that waits for KEX_INIT, a client that waits for KEX_REPLY. */
  async quietWithoutKeys(options: PeerOptions = {}): Promise<ScriptedPeer> {
    const peer = await this.peer('kexinit', options)
    if (this.target.role === 'client') await peer.exchange!.receiveMethodInit()
    return peer
  }

  /** Sees whether a peer made by `quiet` still takes part. @throws Unexpected */
  async expectGoesOn(peer: ScriptedPeer): Promise<void> {
    if (this.target.role === 'server' && peer.phase === 'keys') await peer.upTo('service')
    else await expectAlive(peer)
  }

  /** A scripted peer behind authentication, whose counterpart says nothing of itself. @throws NotApplicable */
  authenticated(options: PeerOptions = {}): Promise<ScriptedPeer> {
    return this.target.role === 'server' ? this.peer('authenticated', options) : this.quiet(options)
  }

  /** A scripted peer with a channel on which something runs. @throws NotApplicable */
  running(options: PeerOptions = {}): Promise<ScriptedPeer> {
    return this.target.role === 'server' ? this.peer('running', options) : this.quiet(options)
  }

  /** The KEXINIT that the peer under test sends. */
  get theirInit(): KexInit {
    return this.#facts.theirInit
  }

  /** @throws NotApplicable where the peer under test does not announce strict key exchange */
  needStrict(): void {
    if (!this.#facts.strict) throw new NotApplicable('it does not announce strict key exchange')
  }

  /** Closes everything that was opened. */
  end(): void {
    for (const peer of this.#peers) peer.wire.abort()
  }
}

/** What is known about the peer under test before the checks begin. */
interface Facts {
  readonly theirInit: KexInit
  readonly strict: boolean
  /** What an honest scripted peer offers it: what both know, the cheapest first. */
  readonly algorithms: PeerOptions['algorithms'] & object
}

/** Cheap and everywhere: checks that are not about algorithms should not spend their time on them. */
const cheapKex = ['curve25519-sha256', 'curve25519-sha256@libssh.org', 'ecdh-sha2-nistp256']

/** @throws where the peer under test does not get as far as KEXINIT */
async function learn(target: Target): Promise<Facts> {
  const none: Facts = { theirInit: undefined as unknown as KexInit, strict: false, algorithms: {} }
  const trial = new Trial(target, none, { numbers: [], atOnce: 1 })
  try {
    const peer = await trial.peer('kexinit')
    const theirInit = peer.theirFirstInit!
    const cheapFirst = [...cheapKex, ...knownKexMethods.filter((name) => !cheapKex.includes(name))]
    const common = (known: readonly string[], theirs: readonly string[]): string[] =>
      known.filter((name) => theirs.includes(name))
    const usable = cheapFirst.filter(
      (name) => target.role === 'server' || kexMethod(name)?.server !== undefined,
    )
    const kex = common(usable, theirInit.kexAlgorithms)
    const ciphers = common(knownCiphers, theirInit.ciphersClientToServer)
    const macs = common(knownMacs, theirInit.macsClientToServer)
    return {
      theirInit,
      strict: peer.isStrict,
      algorithms: { kex, ciphers, ...(macs.length === 0 ? {} : { macs }) },
    }
  } finally {
    trial.end()
  }
}

export interface TrialOptions extends RunOptions {
  /**
   * Tables of messages try all 256 numbers instead of those that mean something and the ends of each unassigned range: three
   * times as many connections.
   */
  readonly everyNumber?: boolean
}

/**
 * Runs checks against a server or a client.
 * @throws where it cannot even be reached, or does not speak SSH.
 */
export async function runTrials(
  target: Target,
  checks: readonly Check<Trial>[],
  options: TrialOptions = {},
): Promise<CheckResult[]> {
  let facts: Facts
  try {
    facts = await learn(target)
  } catch (error) {
    if (!(error instanceof Unexpected)) throw error
    throw new SshError(
      'ERR_CONFORMANCE_NO_PEER',
      `the peer does not get as far as a key exchange: ${error.message}`,
    )
  }
  const tables = {
    numbers: options.everyNumber === true ? allNumbers : sampleNumbers,
    atOnce: options.concurrency ?? defaultConcurrency,
  }
  return runChecks(
    checks,
    () => {
      const trial = new Trial(target, facts, tables)
      return { trial, end: () => trial.end() }
    },
    options,
  )
}
