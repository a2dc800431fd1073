// Which messages are legal when, behind the first NEWKEYS: all 256 numbers in each state. What is not for now must not be
// obeyed; what nobody knows is answered with UNIMPLEMENTED (RFC 4253 s11.4).

import * as number from '../../messages/numbers.ts'
import { unimplemented } from '../../messages/transport.ts'
import { isProbeAnswer, sendProbe } from '../answers.ts'
import { type Arrival, decodeArrived, Unexpected } from '../arrival.ts'
import { type Check, check } from '../check.ts'
import { allNumbers, type Fate, forEachAtOnce, payloadOf, requireFates } from '../message-table.ts'
import { noneRequest } from '../phases.ts'
import type { ScriptedPeer } from '../scripted-peer.ts'
import type { Trial } from '../trial.ts'

/** How long to wait for an answer before the honest next step is taken. */
const quietMs = 200

const between = (from: number, to: number): number[] => allNumbers.filter((at) => at >= from && at <= to)

/** Neither assigned nor reserved for local extensions that somebody uses (RFC 4250 s4.1): nobody knows them. */
const unknownNumbers = [...between(9, 19), ...between(22, 29), ...between(128, 191), ...between(194, 255)]
const unknownInConnection = [...between(83, 89), ...between(101, 127)]
const exchangeNumbers = [number.NEWKEYS, ...between(30, 49)]

type StateName = 'service' | 'auth' | 'connection'

/** Known messages that are not for this state, seen from the peer under test. */
function notForNow(state: StateName, role: 'server' | 'client'): readonly number[] {
  const connection = between(80, 100).filter((at) => !unknownInConnection.includes(at))
  const fromServer = [number.SERVICE_ACCEPT, ...between(51, 53), number.USERAUTH_METHOD_60]
  const fromClient = [number.SERVICE_REQUEST, number.USERAUTH_REQUEST, number.USERAUTH_INFO_RESPONSE]
  const wrongRole = role === 'server' ? fromServer : fromClient
  const ofRole = role === 'server' ? fromClient : fromServer
  const base = [...exchangeNumbers, ...wrongRole]
  switch (state) {
    case 'service':
      return [...base, ...ofRole.filter((at) => at >= number.USERAUTH_REQUEST), ...connection]
    case 'auth':
      return role === 'server'
        ? [...base, number.USERAUTH_INFO_RESPONSE, ...connection]
        : [...base, number.SERVICE_ACCEPT, ...connection]
    case 'connection':
      // A request after success is ignored by RFC 4252 s5.1, and has a check of its own.
      return role === 'server'
        ? [...base, number.USERAUTH_INFO_RESPONSE]
        : [...base, number.SERVICE_ACCEPT, ...ofRole.filter((at) => at >= number.USERAUTH_REQUEST)]
  }
}

/** A peer in a state, with nothing of its counterpart unread. */
async function peerIn(trial: Trial, state: StateName): Promise<ScriptedPeer> {
  if (trial.target.role === 'client') {
    switch (state) {
      case 'service': {
        const peer = await trial.peer('keys')
        // Its first request is read, and not answered.
        await peer.expect(number.SERVICE_REQUEST)
        return peer
      }
      case 'auth': {
        const peer = await trial.peer('service')
        await peer.expect(number.USERAUTH_REQUEST)
        return peer
      }
      case 'connection':
        return trial.quiet()
    }
  }
  const phase = { service: 'keys', auth: 'service', connection: 'authenticated' } as const
  return trial.peer(phase[state])
}

/** Tries each message, one after the other where the peer lives on. */
async function fates(
  trial: Trial,
  state: StateName,
  messages: readonly number[],
): Promise<Map<number, Fate>> {
  const tried = messages.filter((message) => trial.numbers.includes(message))
  const found = new Map<number, Fate>(tried.map((message) => [message, 'answered']))
  const idle: ScriptedPeer[] = []
  await forEachAtOnce(tried, trial.atOnce, async (message) => {
    const peer = idle.pop() ?? (await peerIn(trial, state))
    const { fate, reusable } = await fateOf(trial, state, peer, message)
    found.set(message, fate)
    if (reusable) idle.push(peer)
    else peer.wire.abort()
  })
  return found
}

interface Seen {
  readonly fate: Fate
  /** The connection is where it was before. */
  readonly reusable: boolean
}

/** Sends a message, and behind it something that has to be answered: what comes first tells. */
async function fateOf(trial: Trial, state: StateName, peer: ScriptedPeer, message: number): Promise<Seen> {
  const { sequence } = peer.wire.writer
  const from = peer.seen.length
  peer.send(payloadOf(message))
  if (state === 'connection') sendProbe(peer)
  else {
    // An honest next step would move the state on, so it is a last resort for peers that say nothing.
    const first = await firstAnswer(peer, quietMs)
    if (first !== undefined) return judged(first, sequence, message !== number.NEWKEYS)
    await proceed(trial, peer)
    const seen = peer.seen.slice(from)
    const answer = seen.find((arrived) => arrived.number === number.UNIMPLEMENTED)
    if (answer !== undefined) return judged(answer, sequence, false)
    const ended = peer.wire.ended || seen.some((arrived) => arrived.number === number.DISCONNECT)
    return { fate: ended ? 'ended' : 'ignored', reusable: false }
  }
  const first = await firstAnswer(peer, peer.patienceMs)
  if (first === undefined) throw new Unexpected('an answer', 'none')
  if (first.kind !== 'message' || first.number === number.DISCONNECT) return judged(first, sequence, false)
  if (isProbeAnswer(first)) return { fate: 'ignored', reusable: true }
  // The probe's own answer is behind this one.
  const behind = await firstAnswer(peer, peer.patienceMs)
  const goesOn = behind?.kind === 'message' && isProbeAnswer(behind)
  // OpenSSH counts packets anew behind any NEWKEYS: the connection is not what it was.
  return judged(first, sequence, goesOn && message !== number.NEWKEYS)
}

/** What a peer says of itself; undefined where it says nothing. Requests that a client repeats are no answer. */
async function firstAnswer(peer: ScriptedPeer, timeoutMs: number): Promise<Arrival | undefined> {
  for (;;) {
    const arrival = await peer.next(timeoutMs)
    if (arrival.kind === 'silence') return undefined
    if (arrival.kind !== 'message') return arrival
    if (!peer.isBackground(arrival) && arrival.number !== number.USERAUTH_REQUEST) return arrival
  }
}

function judged(arrival: Arrival, sequence: number, reusable: boolean): Seen {
  if (arrival.kind === 'end') return { fate: 'ended', reusable: false }
  if (arrival.kind !== 'message') return { fate: 'answered', reusable: false }
  if (arrival.number === number.DISCONNECT) return { fate: 'ended', reusable: false }
  if (arrival.number !== number.UNIMPLEMENTED) return { fate: 'answered', reusable: false }
  const named = decodeArrived(unimplemented, arrival).sequence
  if (named !== sequence)
    throw new Unexpected(`UNIMPLEMENTED of packet ${sequence}`, `one of packet ${named}`)
  return { fate: 'unimplemented', reusable }
}

/** Goes on honestly as far as it shows that the peer lives. */
async function proceed(trial: Trial, peer: ScriptedPeer): Promise<void> {
  try {
    if (trial.target.role === 'client') await peer.upTo('channel')
    else if (peer.phase === 'keys') await peer.upTo('service')
    else {
      peer.send(noneRequest('conformance'))
      await peer.expect([number.USERAUTH_FAILURE, number.USERAUTH_SUCCESS])
    }
  } catch (error) {
    if (!(error instanceof Unexpected)) throw error
  }
}

const states: Record<StateName, { words: string; clause: string }> = {
  service: { words: 'before the service is accepted', clause: 'RFC 4253 s10' },
  auth: { words: 'before authentication', clause: 'RFC 4252 s5' },
  connection: { words: 'behind authentication', clause: 'RFC 4252 s5.1' },
}

const unknownIn = (state: StateName): number[] =>
  state === 'connection' ? [...unknownNumbers, ...unknownInConnection] : unknownNumbers

export const gateChecks: readonly Check<Trial>[] = (['service', 'auth', 'connection'] as const).flatMap(
  (state) => [
    check(
      `gate.${state}`,
      `does not obey messages that are not for now, ${states[state].words}`,
      states[state].clause,
      'guard',
      async (trial: Trial) =>
        requireFates(await fates(trial, state, notForNow(state, trial.target.role)), [
          'ended',
          'unimplemented',
        ]),
    ),
    check(
      `gate.${state}-unknown`,
      `answers messages that nobody knows with UNIMPLEMENTED, ${states[state].words}`,
      'RFC 4253 s11.4',
      'must',
      async (trial: Trial) => requireFates(await fates(trial, state, unknownIn(state)), ['unimplemented']),
    ),
  ],
)

export const serverGateChecks: readonly Check<Trial>[] = [
  check(
    'gate.connection-early',
    'ends the connection at messages of the connection protocol before authentication',
    'RFC 4252 s6',
    'must',
    async (trial) => requireFates(await fates(trial, 'auth', between(80, 127)), ['ended']),
  ),
]
