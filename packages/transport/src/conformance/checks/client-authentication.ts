// Services and authentication (RFC 4253 s10, RFC 4252), seen from a client's server.

import * as number from '../../messages/numbers.ts'
import { serviceAccept } from '../../messages/transport.ts'
import { infoRequest, publicKeyOk, userauthBanner, userauthFailure } from '../../messages/userauth.ts'
import { concat } from '../../wire/bytes.ts'
import { describeArrival, Unexpected } from '../arrival.ts'
import { type Check, check } from '../check.ts'
import type { ScriptedPeer } from '../scripted-peer.ts'
import type { Trial } from '../trial.ts'

const nothing = new Uint8Array(0)

/** A peer whose client has sent its first request for authentication. */
async function asked(trial: Trial): Promise<ScriptedPeer> {
  const peer = await trial.peer('service')
  await peer.expect(number.USERAUTH_REQUEST)
  return peer
}

/** Banner with its language tag. */
function banner(text: string): Uint8Array {
  return concat(userauthBanner.bytes({ text }), new Uint8Array(4))
}

export const clientAuthenticationChecks: readonly Check<Trial>[] = [
  check(
    'service.accept-other',
    'leaves when another service is accepted than it asked for',
    'RFC 4253 s10',
    'guard',
    async (trial) => {
      const peer = await trial.peer('keys')
      await peer.expect(number.SERVICE_REQUEST)
      peer.background.add(number.USERAUTH_REQUEST)
      peer.send(serviceAccept, { service: 'ssh-connection' })
      return peer.expectDisconnect()
    },
  ),
  check(
    'service.accept-twice',
    'leaves when the service is accepted twice',
    'RFC 4253 s10',
    'guard',
    async (trial) => {
      const peer = await asked(trial)
      peer.send(serviceAccept, { service: 'ssh-userauth' })
      return peer.expectDisconnect()
    },
  ),
  check(
    'auth.banner',
    'takes a banner before the end of authentication',
    'RFC 4252 s5.4',
    'must',
    async (trial) => {
      const peer = await trial.peer('service')
      peer.send(banner('Welcome\r\nto the conformance tests\r\n'))
      await peer.upTo('channel')
      return 'a session'
    },
  ),
  check('auth.banner-flood', 'leaves when banners do not end', 'RFC 4252 s5.4', 'guard', async (trial) => {
    const peer = await asked(trial)
    for (let at = 0; at < 500; at++) peer.send(banner('x'.repeat(1000)))
    return peer.expectDisconnect()
  }),
  check(
    'auth.no-methods',
    'leaves when no method can continue, after ten more requests at most',
    'RFC 4252 s5.1',
    'guard',
    (trial) => refusedForEver(trial, [], 10),
  ),
  check(
    'auth.failures',
    'leaves in the end when every request is refused',
    'RFC 4252 s5.1',
    'guard',
    (trial) => refusedForEver(trial, ['publickey', 'nothing@conformance.invalid'], 100),
  ),
  check(
    'auth.key-ok-other',
    'leaves when another key is said to do than it showed',
    'RFC 4252 s7',
    'guard',
    async (trial) => {
      const peer = await asked(trial)
      peer.send(publicKeyOk, { algorithm: 'ssh-ed25519', publicKey: new Uint8Array(51) })
      return leaves(peer)
    },
  ),
  check(
    'auth.question-unasked',
    'answers no question of a method that it did not ask for',
    'RFC 4256 s3.1',
    'guard',
    async (trial) => {
      const peer = await asked(trial)
      peer.send(infoRequest, { name: 'x', instruction: 'x', language: '', count: 0, prompts: nothing })
      return leaves(peer)
    },
  ),
]

/** Refuses every request; the client has to give up. */
async function refusedForEver(trial: Trial, methods: readonly string[], most: number): Promise<string> {
  const peer = await asked(trial)
  for (let requests = 1; requests <= most; requests++) {
    peer.send(userauthFailure, { methods, partialSuccess: false })
    const arrival = await peer.next()
    if (arrival.kind === 'end' || (arrival.kind === 'message' && arrival.number === number.DISCONNECT))
      return `${describeArrival(arrival)} after ${requests} requests`
    if (arrival.kind !== 'message' || arrival.number !== number.USERAUTH_REQUEST)
      throw new Unexpected('another request, or the end', describeArrival(arrival))
  }
  throw new Unexpected('an end', `${most} requests`)
}

/** The client goes, without an answer to the question. */
async function leaves(peer: ScriptedPeer): Promise<string> {
  const came = await peer.expectDisconnect()
  if (peer.seen.some((message) => message.number === number.USERAUTH_INFO_RESPONSE))
    throw new Unexpected('no answer', 'INFO_RESPONSE')
  return came
}
