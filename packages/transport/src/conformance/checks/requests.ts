// Global requests (RFC 4254 s4), channel requests (s5.4, s6), and host key rotation (OpenSSH PROTOCOL 2.5).

import { parsePublicKey } from '../../keys/public-key.ts'
import { verifySignature } from '../../keys/signature.ts'
import { signatureAlgorithmsFor } from '../../keys/signature-algorithms.ts'
import { globalRequest, requestSuccess, subsystemFields } from '../../messages/connection.ts'
import * as number from '../../messages/numbers.ts'
import { equalBytes } from '../../wire/bytes.ts'
import { encodeFields } from '../../wire/codec.ts'
import { Reader } from '../../wire/reader.ts'
import { Writer } from '../../wire/writer.ts'
import { collectAnswers, expectAlive } from '../answers.ts'
import { decodeArrived, describeArrival, NotApplicable, Unexpected } from '../arrival.ts'
import { type Check, check } from '../check.ts'
import type { ScriptedPeer } from '../scripted-peer.ts'
import { talkInit } from '../talk.ts'
import type { Trial } from '../trial.ts'

const globalClause = 'RFC 4254 s4'
const channelClause = 'RFC 4254 s5.4'
const unknown = 'nothing@conformance.invalid'
const nothing = new Uint8Array(0)

/** Sends a request that nobody knows and that wants no answer; there must be none. */
async function expectSilence(peer: ScriptedPeer): Promise<string> {
  const { messages, ended } = await collectAnswers(peer)
  const answer = messages.find((message) => !peer.isBackground(message))
  if (ended !== undefined) throw new Unexpected('no answer', ended)
  if (answer !== undefined) throw new Unexpected('no answer', describeArrival(answer))
  return 'no answer'
}

/** A peer with a channel that is open. */
function withChannel(trial: Trial): Promise<ScriptedPeer> {
  return trial.target.role === 'server' ? trial.peer('channel') : trial.quiet()
}

export const requestChecks: readonly Check<Trial>[] = [
  check(
    'global.unknown',
    'refuses a global request that it does not know',
    globalClause,
    'must',
    async (trial) => {
      const peer = await trial.authenticated()
      peer.send(globalRequest, { request: unknown, wantReply: true, payload: nothing })
      await peer.expect(number.REQUEST_FAILURE)
      return 'REQUEST_FAILURE'
    },
  ),
  check(
    'global.no-reply',
    'says nothing to a global request that wants no reply',
    globalClause,
    'must',
    async (trial) => {
      const peer = await trial.authenticated()
      peer.send(globalRequest, { request: unknown, wantReply: false, payload: nothing })
      return expectSilence(peer)
    },
  ),
  check(
    'global.each',
    'answers every global request that wants a reply',
    globalClause,
    'must',
    async (trial) => {
      const peer = await trial.authenticated()
      for (let at = 0; at < 50; at++)
        peer.send(globalRequest, { request: unknown, wantReply: true, payload: nothing })
      for (let at = 0; at < 50; at++) await peer.expect(number.REQUEST_FAILURE)
      await expectAlive(peer)
      return '50 times REQUEST_FAILURE'
    },
  ),
  check(
    'global.keepalive',
    'answers keepalive@openssh.com, one way or the other',
    'OpenSSH PROTOCOL',
    'should',
    async (trial) => {
      const peer = await trial.authenticated()
      peer.send(globalRequest, { request: 'keepalive@openssh.com', wantReply: true, payload: nothing })
      return describeArrival(await peer.expect([number.REQUEST_SUCCESS, number.REQUEST_FAILURE]))
    },
  ),
  check(
    'global.answer-unasked',
    'does nothing about an answer to a global request that it did not make',
    globalClause,
    'guard',
    async (trial) => {
      const peer = await trial.authenticated()
      peer.send(Uint8Array.of(number.REQUEST_SUCCESS))
      peer.send(Uint8Array.of(number.REQUEST_FAILURE))
      const { messages, ended } = await collectAnswers(peer)
      const answer = messages.find((message) => !peer.isBackground(message))
      if (answer !== undefined) throw new Unexpected('no answer', describeArrival(answer))
      return ended ?? 'no answer'
    },
  ),
  check(
    'global.truncated',
    'ends the connection at a global request that is too short',
    'RFC 4251 s5',
    'must',
    async (trial) => {
      const peer = await trial.authenticated()
      peer.send(new Writer().u8(number.GLOBAL_REQUEST).u32(1000).raw(new Uint8Array(3)).copy())
      return peer.expectDisconnect()
    },
  ),
  check(
    'request.unknown',
    'refuses a channel request that it does not know',
    channelClause,
    'must',
    async (trial) => {
      const peer = await withChannel(trial)
      peer.channels[0]!.request(unknown)
      await peer.expect(number.CHANNEL_FAILURE)
      return 'CHANNEL_FAILURE'
    },
  ),
  check(
    'request.no-reply',
    'says nothing to a channel request that wants no reply',
    channelClause,
    'must',
    async (trial) => {
      const peer = await withChannel(trial)
      peer.channels[0]!.request(unknown, nothing, false)
      return expectSilence(peer)
    },
  ),
]

const subsystem = (name: string): Uint8Array => encodeFields(subsystemFields, { subsystem: name })

/** The keys that the server announced; they come at once behind authentication, or not at all. */
async function announcedKeys(peer: ScriptedPeer): Promise<Uint8Array[]> {
  await expectAlive(peer)
  for (const message of peer.seen) {
    if (message.number !== number.GLOBAL_REQUEST) continue
    const { request, wantReply, payload } = decodeArrived(globalRequest, message)
    if (request !== 'hostkeys-00@openssh.com') continue
    if (wantReply) throw new Unexpected('an announcement without reply', 'one that wants a reply')
    const reader = new Reader(payload)
    const keys: Uint8Array[] = []
    while (reader.remaining > 0) keys.push(reader.string())
    return keys
  }
  throw new NotApplicable('it does not announce its host keys')
}

const rotationClause = 'OpenSSH PROTOCOL 2.5'
const proveRequest = 'hostkeys-prove-00@openssh.com'

function proveRequestOf(keys: readonly Uint8Array[]): Uint8Array {
  const payload = new Writer(4096)
  for (const key of keys) payload.string(key)
  return globalRequest.bytes({ request: proveRequest, wantReply: true, payload: payload.bytes() })
}

export const serverRequestChecks: readonly Check<Trial>[] = [
  check('request.order', 'answers channel requests in their order', channelClause, 'must', async (trial) => {
    const peer = await trial.peer('channel')
    const channel = peer.channels[0]!
    channel.request(unknown)
    channel.request('subsystem', subsystem('sftp'))
    channel.request(unknown)
    const answers: number[] = []
    for (let at = 0; at < 3; at++)
      answers.push((await peer.expect([number.CHANNEL_SUCCESS, number.CHANNEL_FAILURE])).number)
    const { CHANNEL_SUCCESS: yes, CHANNEL_FAILURE: no } = number
    if (answers[1] === no) throw new NotApplicable('it has no subsystem sftp')
    if (answers.join() !== [no, yes, no].join())
      throw new Unexpected('FAILURE, SUCCESS, FAILURE', answers.map(number.messageName).join(', '))
    return 'FAILURE, SUCCESS, FAILURE'
  }),
  check(
    'request.subsystem-unknown',
    'refuses a subsystem that it does not have',
    'RFC 4254 s6.5',
    'must',
    async (trial) => {
      const peer = await trial.peer('channel')
      peer.channels[0]!.request('subsystem', subsystem(unknown))
      await peer.expect(number.CHANNEL_FAILURE)
      return 'CHANNEL_FAILURE'
    },
  ),
  check(
    'request.second-start',
    'refuses a second subsystem on a channel',
    'RFC 4254 s6.5',
    'must',
    async (trial) => {
      const peer = await trial.peer('running')
      peer.channels[0]!.request('subsystem', subsystem('sftp'))
      const answer = await peer.expect([number.CHANNEL_FAILURE, number.CHANNEL_SUCCESS])
      if (answer.number === number.CHANNEL_SUCCESS)
        throw new Unexpected('CHANNEL_FAILURE', describeArrival(answer))
      return 'CHANNEL_FAILURE'
    },
  ),
  check(
    'request.truncated',
    'does not grant a request whose fields are too short',
    'RFC 4251 s5',
    'must',
    async (trial) => {
      const peer = await trial.peer('channel')
      peer.channels[0]!.request('subsystem', Uint8Array.of(0, 0, 0, 99, 1))
      for (;;) {
        const arrival = await peer.next()
        if (arrival.kind === 'message' && peer.isBackground(arrival)) continue
        const refused =
          arrival.kind === 'message' &&
          [number.CHANNEL_FAILURE, number.DISCONNECT].includes(arrival.number as 1)
        if (refused || arrival.kind === 'end') return describeArrival(arrival)
        throw new Unexpected('CHANNEL_FAILURE or the end of the connection', describeArrival(arrival))
      }
    },
  ),
  check(
    'request.data-behind',
    'keeps data that comes in one piece with the request that starts a subsystem',
    'RFC 4254 s5.2',
    'must',
    async (trial) => {
      const peer = await trial.peer('channel')
      const channel = peer.channels[0]!
      if (channel.sendWindowBytes < talkInit.length)
        throw new NotApplicable('it gives no window before something was started')
      channel.request('subsystem', subsystem('sftp'))
      channel.sendData(talkInit)
      await peer.expect(number.CHANNEL_SUCCESS)
      const answer = await channel.readAtLeast(9)
      return `${answer.length} bytes in answer`
    },
  ),
  check(
    'request.environment',
    'answers env, one way or the other',
    'RFC 4254 s6.4',
    'must',
    async (trial) => {
      const peer = await trial.peer('channel')
      peer.channels[0]!.request('env', new Writer().text('CONFORMANCE').text('1').copy())
      return describeArrival(await peer.expect([number.CHANNEL_SUCCESS, number.CHANNEL_FAILURE]))
    },
  ),
  check(
    'hostkeys.announced',
    'announces keys of which one is the one that it showed',
    rotationClause,
    'must',
    async (trial) => {
      const peer = await trial.authenticated()
      const keys = await announcedKeys(peer)
      if (!keys.some((key) => equalBytes(key, peer.outcome!.hostKey)))
        throw new Unexpected('the key of this connection', 'other keys')
      return `${keys.length} keys`
    },
  ),
  check('hostkeys.proved', 'proves the keys that it announces', rotationClause, 'must', async (trial) => {
    const peer = await trial.authenticated()
    const keys = await announcedKeys(peer)
    peer.send(proveRequestOf(keys))
    const { payload } = decodeArrived(requestSuccess, await peer.expect(requestSuccess))
    const reader = new Reader(payload)
    for (const blob of keys) {
      const signature = reader.string()
      const data = new Writer(1024).text(proveRequest).string(peer.sessionId!).string(blob).copy()
      const key = parsePublicKey(blob)
      const names = signatureAlgorithmsFor(key.type)
      const verdicts = await Promise.all(
        names.map((name) => verifySignature(trial.target.crypto, key, name, data, signature)),
      )
      if (!verdicts.includes(true))
        throw new Unexpected(`a signature by the ${key.type} key`, 'one that does not verify')
    }
    reader.expectEnd()
    return `${keys.length} signatures`
  }),
  check('hostkeys.other-key', 'proves no key that is not its own', rotationClause, 'must', async (trial) => {
    const peer = await trial.authenticated()
    await announcedKeys(peer)
    const stranger = new Writer().text('ssh-ed25519').string(new Uint8Array(32).fill(9)).copy()
    peer.send(proveRequestOf([stranger]))
    await peer.expect(number.REQUEST_FAILURE)
    return 'REQUEST_FAILURE'
  }),
]

export const clientRequestChecks: readonly Check<Trial>[] = [
  check('request.exit-status', 'says nothing to exit-status', 'RFC 4254 s6.10', 'must', async (trial) => {
    const peer = await trial.quiet()
    peer.channels[0]!.request('exit-status', new Writer().u32(0).copy(), false)
    return expectSilence(peer)
  }),
  check(
    'request.start-from-server',
    'starts nothing that the server asks for',
    'RFC 4254 s6.5',
    'should',
    async (trial) => {
      const peer = await trial.quiet()
      peer.channels[0]!.request('exec', new Writer().text('true').copy())
      await peer.expect(number.CHANNEL_FAILURE)
      return 'CHANNEL_FAILURE'
    },
  ),
  check('hostkeys.taken', 'takes an announcement of host keys', rotationClause, 'must', async (trial) => {
    const { hostKeys } = trial.target as Extract<Trial['target'], { role: 'client' }>
    const peer = await trial.quiet()
    const payload = new Writer(4096)
    for (const key of hostKeys) payload.string(key.publicKeyBlob)
    peer.send(globalRequest, {
      request: 'hostkeys-00@openssh.com',
      wantReply: false,
      payload: payload.bytes(),
    })
    // It may ask for proofs, which wants a reply of ours.
    peer.background.add(number.GLOBAL_REQUEST)
    await expectAlive(peer)
    return 'an answer to what followed'
  }),
]
