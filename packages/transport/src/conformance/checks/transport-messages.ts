// Messages of the transport layer that may come at any time (RFC 4253 s11), EXT_INFO (RFC 8308), ping (OpenSSH PROTOCOL 1.9).

import { readExtensions, writeExtensions } from '../../core/extension-info.ts'
import * as number from '../../messages/numbers.ts'
import { debug, extInfo, ignore, ping, pong, unimplemented } from '../../messages/transport.ts'
import { concat, equalBytes, utf8Bytes } from '../../wire/bytes.ts'
import { expectRefusal } from '../answers.ts'
import { decodeArrived, describeArrival, NotApplicable, Unexpected } from '../arrival.ts'
import { type Check, check } from '../check.ts'
import { payloadOf } from '../message-table.ts'
import type { ScriptedPeer } from '../scripted-peer.ts'
import type { Trial } from '../trial.ts'

const anyTime = 'RFC 4253 s11.2'

/** Sends something that must have no effect, and sees that the peer goes on without a word about it. */
function passedOver(
  id: string,
  claim: string,
  clause: string,
  send: (peer: ScriptedPeer) => void,
): Check<Trial> {
  return check(id, claim, clause, 'must', async (trial) => {
    const peer = await trial.quiet()
    send(peer)
    await trial.expectGoesOn(peer)
    return 'an answer to what followed'
  })
}

export const transportMessageChecks: readonly Check<Trial>[] = [
  passedOver('generic.ignore', 'passes over IGNORE', anyTime, (peer) =>
    peer.send(ignore, { data: utf8Bytes('nothing') }),
  ),
  passedOver('generic.debug', 'passes over DEBUG', 'RFC 4253 s11.3', (peer) => {
    peer.send(concat(debug.bytes({ alwaysDisplay: false, text: 'conformance' }), new Uint8Array(4)))
  }),
  passedOver('generic.unimplemented', 'passes over UNIMPLEMENTED', 'RFC 4253 s11.4', (peer) =>
    peer.send(unimplemented, { sequence: 0 }),
  ),
  passedOver('generic.many', 'passes over a thousand IGNOREs in a row', anyTime, (peer) => {
    // Behind authentication where the peer is a client; a server may count what strangers send, so these are few and small.
    for (let at = 0; at < (peer.role === 'server' ? 1000 : 500); at++) peer.send(payloadOf(number.IGNORE))
  }),
  check(
    'generic.disconnect',
    'says nothing more when it is told DISCONNECT',
    'RFC 4253 s11.1',
    'must',
    async (trial) => {
      const peer = await trial.quiet()
      peer.sendDisconnect()
      // Something that would be answered, had the connection gone on.
      peer.send(Uint8Array.of(255))
      for (;;) {
        const arrival = await peer.next()
        if (arrival.kind === 'end') return describeArrival(arrival)
        if (arrival.kind === 'message' && peer.isBackground(arrival)) continue
        throw new Unexpected('the end of the connection', describeArrival(arrival))
      }
    },
  ),
]

/** What the peer said in EXT_INFO. @throws NotApplicable where it said nothing */
function extensionsOf(peer: ScriptedPeer): Map<string, Uint8Array> {
  const told = peer.seen.find((message) => message.number === number.EXT_INFO)
  if (told === undefined) throw new NotApplicable('it sends no EXT_INFO')
  return readExtensions(told.payload)
}

/** The first message behind the peer's NEWKEYS. */
function behindNewKeys(peer: ScriptedPeer): number | undefined {
  const at = peer.seen.findIndex((message) => message.number === number.NEWKEYS)
  return peer.seen[at + 1]?.number
}

const whenAllowed = 'RFC 8308 s2.4'
const noSuch = new Map([['nothing@conformance.invalid', 'x']])

export const serverExtensionChecks: readonly Check<Trial>[] = [
  check(
    'ext-info.first',
    'sends EXT_INFO directly behind NEWKEYS, where the client asked for it',
    whenAllowed,
    'must',
    async (trial) => {
      const peer = await trial.peer('service')
      const names = [...extensionsOf(peer).keys()]
      const first = behindNewKeys(peer)
      if (first !== number.EXT_INFO)
        throw new Unexpected(
          'EXT_INFO as the first message',
          first === undefined ? 'none' : number.messageName(first),
        )
      return names.join(', ')
    },
  ),
  check(
    'ext-info.unasked',
    'sends no EXT_INFO where the client did not ask for it',
    'RFC 8308 s2.1',
    'must',
    async (trial) => {
      const peer = await trial.peer('service', { extInfo: false })
      if (peer.seen.some((message) => message.number === number.EXT_INFO))
        throw new Unexpected('no EXT_INFO', 'one')
      return 'none'
    },
  ),
  check(
    'ext-info.sig-algs',
    'names only signature algorithms in server-sig-algs',
    'RFC 8308 s3.1',
    'must',
    async (trial) => {
      const peer = await trial.peer('service')
      const value = extensionsOf(peer).get('server-sig-algs')
      if (value === undefined) throw new NotApplicable('it does not name its algorithms')
      const names = String.fromCharCode(...value).split(',')
      const bad = names.find((name) => !/^[\x21-\x2b\x2d-\x7e]{1,64}$/.test(name))
      if (bad !== undefined) throw new Unexpected('a list of names', JSON.stringify(bad))
      return `${names.length} names`
    },
  ),
  check(
    'ext-info.from-client',
    "takes the client's EXT_INFO directly behind NEWKEYS",
    whenAllowed,
    'must',
    async (trial) => {
      const peer = await trial.peer('keys')
      if (!peer.theyWantExtInfo) throw new NotApplicable('it does not ask for EXT_INFO')
      peer.send(writeExtensions(noSuch))
      await peer.upTo('service')
      return 'SERVICE_ACCEPT'
    },
  ),
  check(
    'ext-info.late',
    'does not take EXT_INFO in the middle of authentication',
    whenAllowed,
    'guard',
    async (trial) => {
      const peer = await trial.peer('service')
      peer.send(writeExtensions(noSuch))
      return expectRefusal(peer)
    },
  ),
  check(
    'ext-info.count',
    'does not take an EXT_INFO that counts more than it holds',
    'RFC 8308 s2.3',
    'guard',
    async (trial) => {
      const peer = await trial.peer('keys')
      if (!peer.theyWantExtInfo) throw new NotApplicable('it does not ask for EXT_INFO')
      peer.send(extInfo, { count: 0xffff_ffff, extensions: new Uint8Array(0) })
      return expectRefusal(peer)
    },
  ),
  check(
    'ping.answer',
    'answers PING with PONG and the same data',
    'OpenSSH PROTOCOL 1.9',
    'must',
    async (trial) => {
      const peer = await trial.authenticated()
      if (!extensionsOf(peer).has('ping@openssh.com'))
        throw new NotApplicable('it does not announce ping@openssh.com')
      const data = utf8Bytes('the same data')
      peer.send(ping, { data })
      const answer = decodeArrived(pong, await peer.expect(pong))
      if (!equalBytes(answer.data, data)) throw new Unexpected('the same data', 'other data')
      return 'PONG'
    },
  ),
]

export const clientExtensionChecks: readonly Check<Trial>[] = [
  check(
    'ext-info.asked',
    'asks for EXT_INFO in its first KEXINIT',
    'RFC 8308 s2.1',
    'should',
    async (trial) => {
      if (!trial.theirInit.kexAlgorithms.includes('ext-info-c'))
        throw new Unexpected('ext-info-c', 'no such name')
      return 'ext-info-c'
    },
  ),
  check(
    'ext-info.first',
    "takes the server's EXT_INFO directly behind NEWKEYS",
    whenAllowed,
    'must',
    async (trial) => {
      const peer = await trial.peer('keys')
      if (!peer.theyWantExtInfo) throw new NotApplicable('it does not ask for EXT_INFO')
      peer.send(writeExtensions(new Map([['server-sig-algs', 'ssh-ed25519,rsa-sha2-512'], ...noSuch])))
      await peer.upTo('channel')
      return 'a session'
    },
  ),
  check(
    'ext-info.before-success',
    'takes EXT_INFO directly before USERAUTH_SUCCESS',
    whenAllowed,
    'must',
    async (trial) => {
      const peer = await trial.peer('service')
      if (!peer.theyWantExtInfo) throw new NotApplicable('it does not ask for EXT_INFO')
      peer.alter(number.USERAUTH_SUCCESS, (payload) => {
        peer.send(writeExtensions(noSuch))
        return payload
      })
      await peer.upTo('channel')
      return 'a session'
    },
  ),
  check(
    'ext-info.elsewhere',
    'does not take EXT_INFO before anything else of authentication',
    whenAllowed,
    'guard',
    async (trial) => {
      const peer = await trial.peer('service')
      if (!peer.theyWantExtInfo) throw new NotApplicable('it does not ask for EXT_INFO')
      await peer.expect(number.USERAUTH_REQUEST)
      peer.send(writeExtensions(noSuch))
      peer.send(writeExtensions(noSuch))
      return expectRefusal(peer)
    },
  ),
  check(
    'ext-info.late',
    'does not take EXT_INFO behind authentication',
    whenAllowed,
    'guard',
    async (trial) => {
      const peer = await trial.quiet()
      peer.send(writeExtensions(noSuch))
      return expectRefusal(peer)
    },
  ),
  check(
    'ext-info.count',
    'does not take an EXT_INFO that counts more than it holds',
    'RFC 8308 s2.3',
    'guard',
    async (trial) => {
      const peer = await trial.peer('keys')
      if (!peer.theyWantExtInfo) throw new NotApplicable('it does not ask for EXT_INFO')
      await peer.expect(number.SERVICE_REQUEST)
      peer.background.add(number.USERAUTH_REQUEST)
      peer.send(extInfo, { count: 0xffff_ffff, extensions: new Uint8Array(0) })
      return expectRefusal(peer)
    },
  ),
]
