// Strict key exchange (OpenSSH PROTOCOL 1.10, against CVE-2023-48795): in the first exchange only the one message that is
// due may come. Each of the 256 message numbers is tried in each state before the first NEWKEYS, one connection each.

import { isTerrapinProneName } from '../../kex/negotiate.ts'
import * as number from '../../messages/numbers.ts'
import { debug, ignore } from '../../messages/transport.ts'
import { NotApplicable, Unexpected } from '../arrival.ts'
import { type Check, check } from '../check.ts'
import { type Fate, forEachAtOnce, payloadOf, requireFates } from '../message-table.ts'
import type { Phase } from '../phases.ts'
import type { Trial } from '../trial.ts'

const clause = 'OpenSSH PROTOCOL 1.10'

/** A state of the first exchange, as the peer under test sees it. */
interface State {
  readonly id: string
  readonly words: string
  /** How far the scripted peer goes before it sends the message. */
  readonly phase: Phase
  /** What is due, for servers and for clients; DISCONNECT is always allowed. */
  readonly due: { readonly server: number; readonly client: number }
}

const states: readonly State[] = [
  {
    id: 'before-kexinit',
    words: 'before KEXINIT',
    phase: 'identified',
    due: { server: number.KEXINIT, client: number.KEXINIT },
  },
  {
    id: 'before-method',
    words: 'where the method message is due',
    phase: 'kexinit',
    due: { server: number.KEX_INIT, client: number.KEX_REPLY },
  },
  {
    id: 'before-newkeys',
    words: 'where NEWKEYS is due',
    phase: 'exchanged',
    due: { server: number.NEWKEYS, client: number.NEWKEYS },
  },
]

/**
 * Sends one message in a state and goes on honestly: a server that tolerated it accepts a service in the end, a client, whose
 * own requests do not wait for our NEWKEYS, opens a channel.
 */
async function fateIn(trial: Trial, state: State, message: number): Promise<Fate> {
  const peer = await trial.peer(state.phase)
  // Before KEXINIT a peer does not know yet that the exchange is a strict one, so it may still answer.
  peer.background.add(number.UNIMPLEMENTED)
  try {
    peer.send(payloadOf(message))
    await peer.upTo(trial.target.role === 'server' ? 'service' : 'channel')
    return 'ignored'
  } catch (error) {
    if (!(error instanceof Unexpected)) throw error
    if (peer.seen.at(-1)?.number === number.DISCONNECT) return 'ended'
    return (await peer.wire.ends(peer.patienceMs)) ? 'ended' : 'answered'
  } finally {
    peer.wire.abort()
  }
}

const tableChecks = states.map((state) =>
  check(
    `strict.${state.id}`,
    `ends the connection at every message but the one that is due, ${state.words}`,
    clause,
    'must',
    async (trial: Trial) => {
      trial.needStrict()
      const due = state.due[trial.target.role]
      const tried = trial.numbers.filter((message) => message !== due && message !== number.DISCONNECT)
      const fates = new Map<number, Fate>(tried.map((message) => [message, 'answered']))
      await forEachAtOnce(tried, trial.atOnce, async (message) => {
        fates.set(message, await fateIn(trial, state, message))
      })
      return requireFates(fates, ['ended'])
    },
  ),
)

export const strictChecks: readonly Check<Trial>[] = [
  check('strict.announced', 'announces strict key exchange', clause, 'should', async (trial) => {
    const marker = trial.theirInit.kexAlgorithms.find((name) => name.startsWith('kex-strict-'))
    if (marker === undefined) throw new Unexpected('a marker in kexAlgorithms', 'none')
    return marker
  }),
  ...tableChecks,
  check(
    'strict.sequence',
    'counts packets from 0 behind each NEWKEYS, in the first exchange and in later ones',
    clause,
    'must',
    async (trial) => {
      trial.needStrict()
      // With chacha20-poly1305 and with MACs the number is part of what is checked, so a wrong count cannot pass.
      const counted = trial.theirInit.ciphersClientToServer.filter((name) => !name.includes('-gcm@'))
      const cipher = counted.find((name) => name.startsWith('chacha20') || name.endsWith('-ctr'))
      if (cipher === undefined) throw new NotApplicable('no cipher that shows the count is common')
      const peer = await trial.authenticated({ algorithms: { ciphers: [cipher] } })
      await peer.exchangeKeys()
      await trial.expectGoesOn(peer)
      return `two exchanges with ${cipher}`
    },
  ),
  check(
    'strict.later-markers',
    'takes no notice of markers in a later KEXINIT',
    clause,
    'must',
    async (trial) => {
      trial.needStrict()
      const peer = await trial.authenticated()
      const marker = `kex-strict-${peer.role === 'client' ? 'c' : 's'}-v00@openssh.com`
      await peer.exchangeKeys({
        change: (honest) => ({ ...honest, kexAlgorithms: [...honest.kexAlgorithms, marker] }),
      })
      await trial.expectGoesOn(peer)
      return 'keys'
    },
  ),
  check(
    'strict.not-without-marker',
    'counts packets on behind NEWKEYS, and takes IGNORE and DEBUG during the exchange, where the other side has no marker',
    'RFC 4253 s11.2',
    'must',
    async (trial) => {
      const plain = (names: readonly string[]): string[] => names.filter((name) => !isTerrapinProneName(name))
      const ciphers = plain(trial.theirInit.ciphersClientToServer).filter((name) => name.endsWith('-ctr'))
      const macs = plain(trial.theirInit.macsClientToServer)
      const known = ['hmac-sha2-256', 'hmac-sha2-512', 'hmac-sha1'].filter((name) => macs.includes(name))
      if (ciphers.length === 0 || known.length === 0)
        throw new NotApplicable('it has no CTR cipher with a plain MAC')
      const peer = await trial.peer('identified', {
        strict: false,
        algorithms: { ciphers: ciphers.slice(0, 1), macs: known.slice(0, 1) },
      })
      const generic = (): void => {
        peer.send(ignore, { data: new Uint8Array(3) })
        peer.send(payloadOf(debug.number))
      }
      for (const phase of ['kexinit', 'exchanged', 'keys'] as const) {
        generic()
        await peer.upTo(phase)
      }
      await peer.upTo('service')
      return 'keys'
    },
  ),
]
