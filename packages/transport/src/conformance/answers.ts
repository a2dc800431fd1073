// What a peer says to what it was sent, seen without waiting for silence: something that has to be answered is sent behind it.

import { globalRequest } from '../messages/connection.ts'
import * as number from '../messages/numbers.ts'
import { type Arrival, type ArrivedMessage, describeArrival, Unexpected } from './arrival.ts'
import type { Fate } from './message-table.ts'
import type { ScriptedPeer } from './scripted-peer.ts'

/** The connection ends, or the message is answered with UNIMPLEMENTED: either way it was not obeyed. @throws Unexpected */
export async function expectRefusal(peer: ScriptedPeer): Promise<string> {
  const arrival = await nextOf(peer, [number.UNIMPLEMENTED, number.DISCONNECT])
  if (arrival.kind === 'end' || arrival.kind === 'message') return describeArrival(arrival)
  throw new Unexpected('the end of the connection or UNIMPLEMENTED', describeArrival(arrival))
}

/** The next arrival that is one of these messages, the end, or nothing; others that come before are passed over. */
async function nextOf(peer: ScriptedPeer, wanted: readonly number[]): Promise<Arrival> {
  const deadline = performance.now() + peer.patienceMs
  for (;;) {
    const arrival = await peer.next(Math.max(1, deadline - performance.now()))
    if (arrival.kind !== 'message' || wanted.includes(arrival.number)) return arrival
  }
}

const probeName = 'probe@conformance.invalid'

/** Sends something that an authenticated peer has to answer (RFC 4254 s4), to see whether it still lives. */
export function sendProbe(peer: ScriptedPeer): void {
  peer.send(globalRequest, { request: probeName, wantReply: true, payload: new Uint8Array(0) })
}

const probeAnswers: readonly number[] = [number.REQUEST_SUCCESS, number.REQUEST_FAILURE]

/** Whether a message answers a global request. */
export function isProbeAnswer(message: ArrivedMessage): boolean {
  return probeAnswers.includes(message.number)
}

/** Sees whether an authenticated peer still answers. @throws Unexpected */
export async function expectAlive(peer: ScriptedPeer): Promise<void> {
  sendProbe(peer)
  await peer.expect(probeAnswers)
}

/**
 * What an authenticated peer sent in answer to what went before: everything up to the answer to a probe, but what may come at
 * any time. The connection's end is left out of the list and told apart.
 */
export async function collectAnswers(
  peer: ScriptedPeer,
): Promise<{ messages: ArrivedMessage[]; ended: string | undefined }> {
  sendProbe(peer)
  const messages: ArrivedMessage[] = []
  for (;;) {
    const arrival = await peer.next()
    if (arrival.kind === 'message') {
      if (isProbeAnswer(arrival)) return { messages, ended: undefined }
      if (arrival.number === number.DISCONNECT) return { messages, ended: describeArrival(arrival) }
      messages.push(arrival)
      continue
    }
    if (arrival.kind === 'end') return { messages, ended: describeArrival(arrival) }
    throw new Unexpected('an answer or the end of the connection', describeArrival(arrival))
  }
}

/** What became of what was sent last: how it ended, or whatever was said before the next question was answered. */
export async function fateNow(peer: ScriptedPeer): Promise<Fate> {
  const { messages, ended } = await collectAnswers(peer)
  const answers = messages.filter((message) => !peer.isBackground(message))
  if (ended !== undefined) return 'ended'
  if (answers.some((message) => message.number === number.UNIMPLEMENTED)) return 'unimplemented'
  return answers.length === 0 ? 'ignored' : 'answered'
}

/** Neither obeyed nor answered: the connection ends, or goes on as if nothing had been. @throws Unexpected */
export async function expectNoEffect(peer: ScriptedPeer): Promise<string> {
  const { messages, ended } = await collectAnswers(peer)
  const answers = messages.filter((message) => !peer.isBackground(message))
  const wrong = answers.find((message) => message.number !== number.UNIMPLEMENTED)
  if (wrong !== undefined)
    throw new Unexpected('no answer, or the end of the connection', describeArrival(wrong))
  return ended ?? (answers.length > 0 ? 'UNIMPLEMENTED' : 'no answer')
}
