// Services (RFC 4253 s10) and authentication (RFC 4252), seen from a server's client.

import { publicKeySignedData, writePublicKeyRequest } from '../../auth/signed-data.ts'
import * as number from '../../messages/numbers.ts'
import { serviceAccept, serviceRequest } from '../../messages/transport.ts'
import { publicKeyOk, userauthFailure, userauthRequest } from '../../messages/userauth.ts'
import { concat, equalBytes } from '../../wire/bytes.ts'
import { Writer } from '../../wire/writer.ts'
import { collectAnswers, expectAlive, expectRefusal } from '../answers.ts'
import { type ArrivedMessage, decodeArrived, describeArrival, NotApplicable, Unexpected } from '../arrival.ts'
import { type Check, check } from '../check.ts'
import { noneRequest, passwordRequest, publicKeyRequest, userKeyAlgorithm } from '../phases.ts'
import type { ScriptedPeer } from '../scripted-peer.ts'
import type { Trial } from '../trial.ts'

const nobody = 'nobody-of-this-name'
/** RFC 4252 s4 recommends that a server gives up after 20 tries. */
const recommendedTries = 20

/** The user to try as. @throws NotApplicable */
function userOf(peer: ScriptedPeer): string {
  const user = peer.options.login?.user
  if (user === undefined) throw new NotApplicable('no user to log in as was given')
  return user
}

/** Sends a request that must not get anybody in: FAILURE, or the end of the connection. */
async function refused(peer: ScriptedPeer, request: Uint8Array): Promise<string> {
  peer.send(request)
  const arrival = await nextAnswer(peer)
  if (arrival === 'end') return 'end of connection'
  if (arrival.number === number.USERAUTH_FAILURE || arrival.number === number.DISCONNECT)
    return describeArrival(arrival)
  throw new Unexpected('USERAUTH_FAILURE or the end of the connection', describeArrival(arrival))
}

async function nextAnswer(peer: ScriptedPeer): Promise<ArrivedMessage | 'end'> {
  for (;;) {
    const arrival = await peer.next(2 * peer.patienceMs)
    if (arrival.kind === 'end') return 'end'
    if (arrival.kind !== 'message') throw new Unexpected('an answer', describeArrival(arrival))
    if (!peer.isBackground(arrival)) return arrival
  }
}

const failureClause = 'RFC 4252 s5.1'

export const serviceChecks: readonly Check<Trial>[] = [
  check('service.accept', 'accepts ssh-userauth by its name', 'RFC 4253 s10', 'must', async (trial) => {
    const peer = await trial.peer('keys')
    peer.send(serviceRequest, { service: 'ssh-userauth' })
    const { service } = decodeArrived(serviceAccept, await peer.expect(serviceAccept))
    if (service !== 'ssh-userauth') throw new Unexpected('ssh-userauth', service)
    return 'SERVICE_ACCEPT'
  }),
  check(
    'service.unknown',
    'ends the connection when a service is asked for that it does not have',
    'RFC 4253 s10',
    'must',
    async (trial) => {
      const peer = await trial.peer('keys')
      peer.send(serviceRequest, { service: 'nothing@conformance.invalid' })
      return peer.expectDisconnect()
    },
  ),
  check(
    'service.connection-first',
    'does not give ssh-connection before authentication',
    'RFC 4253 s10',
    'must',
    async (trial) => {
      const peer = await trial.peer('keys')
      peer.send(serviceRequest, { service: 'ssh-connection' })
      return peer.expectDisconnect()
    },
  ),
  check(
    'service.pipelined',
    'takes an authentication request that comes in one piece with the service request',
    'RFC 4252 s5',
    'must',
    async (trial) => {
      const peer = await trial.peer('keys')
      peer.send(serviceRequest, { service: 'ssh-userauth' })
      peer.send(noneRequest(nobody))
      await peer.expect(serviceAccept)
      return describeArrival(await peer.expect([number.USERAUTH_FAILURE, number.USERAUTH_SUCCESS]))
    },
  ),
]

/** The methods that a failure lists. */
async function failureTo(peer: ScriptedPeer, request: Uint8Array): Promise<readonly string[]> {
  peer.send(request)
  return decodeArrived(userauthFailure, await peer.expect(userauthFailure, 2 * peer.patienceMs)).methods
}

/** A whole public key request with one thing wrong in it. */
async function signedRequest(
  peer: ScriptedPeer,
  edits: { algorithm?: string; flip?: boolean; sessionId?: Uint8Array; service?: string; trailing?: boolean },
): Promise<Uint8Array> {
  const { login } = peer.options
  const signer = login?.signer
  if (login === undefined || signer === undefined) throw new NotApplicable('no key to log in with was given')
  const algorithm = userKeyAlgorithm(peer)
  const attempt = {
    user: login.user,
    service: 'ssh-connection',
    algorithm,
    publicKey: signer.publicKeyBlob,
    hostKey: undefined,
  }
  const shown = {
    ...attempt,
    algorithm: edits.algorithm ?? algorithm,
    service: edits.service ?? attempt.service,
  }
  const sessionId = edits.sessionId ?? peer.sessionId!
  const signature = (await signer.sign(algorithm, publicKeySignedData(sessionId, shown))).slice()
  if (edits.flip === true) signature[signature.length - 1]! ^= 1
  const writer = new Writer(1024)
  writePublicKeyRequest(writer, shown, true)
  writer.string(signature)
  if (edits.trailing === true) writer.u32(0)
  return writer.copy()
}

export const authenticationChecks: readonly Check<Trial>[] = [
  check(
    'auth.none',
    "answers 'none' with the methods that can continue, 'none' not among them",
    'RFC 4252 s5.2',
    'must',
    async (trial) => {
      const peer = await trial.peer('service')
      peer.send(noneRequest(nobody))
      const failure = decodeArrived(userauthFailure, await peer.expect(userauthFailure))
      if (failure.partialSuccess) throw new Unexpected('no partial success', 'partial success')
      if (failure.methods.includes('none'))
        throw new Unexpected("a list without 'none'", failure.methods.join(','))
      return failure.methods.join(',')
    },
  ),
  check(
    'auth.unknown-method',
    'answers a method that it does not know with the methods that can continue',
    failureClause,
    'must',
    async (trial) => {
      const peer = await trial.peer('service')
      const method = 'nothing@conformance.invalid'
      const request = { user: nobody, service: 'ssh-connection', method, methodFields: new Uint8Array(0) }
      return (await failureTo(peer, userauthRequest.bytes(request))).join(',')
    },
  ),
  check(
    'auth.same-for-unknown',
    'offers the same methods to a user that exists and to one that does not',
    'RFC 4252 s5',
    'guard',
    async (trial) => {
      const [one, other] = await Promise.all([trial.peer('service'), trial.peer('service')])
      const known = await failureTo(one, noneRequest(userOf(one)))
      const unknown = await failureTo(other, noneRequest(nobody))
      if (known.join(',') !== unknown.join(',')) throw new Unexpected(known.join(','), unknown.join(','))
      return known.join(',')
    },
  ),
  check(
    'auth.service',
    'lets nobody in for a service that does not follow authentication',
    'RFC 4252 s5',
    'must',
    async (trial) => {
      const peer = await trial.peer('service')
      return refused(peer, await signedRequest(peer, { service: 'nothing@conformance.invalid' }))
    },
  ),
  check(
    'auth.key-question',
    'answers the question whether a key would do with the same algorithm and key',
    'RFC 4252 s7',
    'must',
    async (trial) => {
      const peer = await trial.peer('service')
      const { signer } = peer.options.login ?? {}
      if (signer === undefined) throw new NotApplicable('no key to log in with was given')
      peer.send(await publicKeyRequest(peer, { signed: false }))
      const { algorithm, publicKey } = decodeArrived(publicKeyOk, await peer.expect(publicKeyOk))
      if (algorithm !== userKeyAlgorithm(peer) || !equalBytes(publicKey, signer.publicKeyBlob))
        throw new Unexpected('the same algorithm and key', algorithm)
      return `PK_OK for ${algorithm}`
    },
  ),
  check(
    'auth.key',
    'lets a user in with a signature by a key of his',
    'RFC 4252 s7',
    'must',
    async (trial) => {
      const peer = await trial.peer('service')
      peer.send(await publicKeyRequest(peer))
      await peer.expect(number.USERAUTH_SUCCESS)
      return 'USERAUTH_SUCCESS'
    },
  ),
  check('auth.signature', 'lets nobody in with a wrong signature', 'RFC 4252 s7', 'must', async (trial) => {
    const peer = await trial.peer('service')
    return refused(peer, await signedRequest(peer, { flip: true }))
  }),
  check(
    'auth.signature-session',
    'lets nobody in with a signature for another session',
    'RFC 4252 s7',
    'must',
    async (trial) => {
      const peer = await trial.peer('service')
      const other = peer.sessionId!.slice()
      other[0]! ^= 1
      return refused(peer, await signedRequest(peer, { sessionId: other }))
    },
  ),
  check(
    'auth.signature-algorithm',
    'lets nobody in with a signature of another algorithm than the request names',
    'RFC 8332 s3.2',
    'must',
    async (trial) => {
      const peer = await trial.peer('service')
      return refused(peer, await signedRequest(peer, { algorithm: 'rsa-sha2-256' }))
    },
  ),
  check(
    'auth.trailing',
    'does not take a request with bytes behind the signature',
    'RFC 4252 s7',
    'guard',
    async (trial) => {
      const peer = await trial.peer('service')
      return refused(peer, await signedRequest(peer, { trailing: true }))
    },
  ),
  check(
    'auth.truncated',
    'does not take a request that is too short',
    'RFC 4252 s5',
    'must',
    async (trial) => {
      const peer = await trial.peer('service')
      const whole = await signedRequest(peer, {})
      return refused(peer, whole.subarray(0, whole.length - 8))
    },
  ),
  check(
    'auth.other-user',
    'does not let a change of the user name profit from what was shown before',
    'RFC 4252 s5',
    'must',
    async (trial) => {
      const peer = await trial.peer('service')
      peer.send(await publicKeyRequest(peer, { signed: false }))
      await peer.expect(publicKeyOk)
      return refused(peer, noneRequest(nobody))
    },
  ),
  check('auth.wrong-password', 'refuses a wrong password', 'RFC 4252 s8', 'must', async (trial) => {
    const peer = await trial.peer('service')
    return refused(peer, passwordRequest(nobody, 'not the password'))
  }),
  check(
    'auth.response-unasked',
    'does not take INFO_RESPONSE without a question',
    'RFC 4256 s3.4',
    'must',
    async (trial) => {
      const peer = await trial.peer('service')
      peer.send(concat(Uint8Array.of(number.USERAUTH_INFO_RESPONSE), new Uint8Array(4)))
      return expectRefusal(peer)
    },
  ),
  check(
    'auth.request-after-success',
    'says nothing to an authentication request behind success',
    failureClause,
    'must',
    async (trial) => {
      const peer = await trial.peer('authenticated')
      peer.send(noneRequest(nobody))
      const { messages, ended } = await collectAnswers(peer)
      const answers = messages.filter((message) => !peer.isBackground(message))
      if (ended !== undefined) throw new Unexpected('no answer', ended)
      if (answers.length > 0) throw new Unexpected('no answer', describeArrival(answers[0]!))
      return 'no answer'
    },
  ),
  check(
    'auth.tries',
    'ends the connection after 20 failures at most',
    'RFC 4252 s4',
    'should',
    async (trial) => {
      const peer = await trial.peer('service')
      for (let tries = 1; tries <= recommendedTries + 1; tries++) {
        // Questions without a signature are not counted by all.
        peer.send(await signedRequest(peer, { flip: true }))
        const answer = await nextAnswer(peer)
        if (answer === 'end' || answer.number === number.DISCONNECT)
          return `${answer === 'end' ? 'end of connection' : describeArrival(answer)} after ${tries} failures`
      }
      throw new Unexpected('the end of the connection', `${recommendedTries + 1} failures`)
    },
  ),
  check(
    'auth.long-user',
    'survives a user name of 30000 bytes without letting it in',
    'RFC 4252 s5',
    'guard',
    async (trial) => {
      const peer = await trial.peer('service')
      return refused(peer, noneRequest('x'.repeat(30_000)))
    },
  ),
  check(
    'auth.works-after-failure',
    'lets a user in after a failure',
    'RFC 4252 s5.1',
    'must',
    async (trial) => {
      const peer = await trial.peer('service')
      await failureTo(peer, noneRequest(userOf(peer)))
      await peer.upTo('authenticated')
      await expectAlive(peer)
      return 'USERAUTH_SUCCESS'
    },
  ),
]
