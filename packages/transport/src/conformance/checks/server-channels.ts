// Sessions that a client opens (RFC 4254 s5 and s6.1): what a server makes of them.

import { channelRequest } from '../../messages/connection.ts'
import * as number from '../../messages/numbers.ts'
import { collectAnswers, expectAlive } from '../answers.ts'
import { type ArrivedMessage, decodeArrived, describeArrival, NotApplicable, Unexpected } from '../arrival.ts'
import { type Check, check } from '../check.ts'
import type { ScriptedPeer } from '../scripted-peer.ts'
import { talkInit } from '../talk.ts'
import type { Trial } from '../trial.ts'
import { closeChannel } from './channels.ts'

const clause = 'RFC 4254 s5'
const openClause = 'RFC 4254 s5.1'
const closeClause = 'RFC 4254 s5.3'
/** More channels than any server lets a client have. */
const tooManyChannels = 1200

export const serverChannelChecks: readonly Check<Trial>[] = [
  check(
    'channel.session',
    'opens a session, and says so with our id of the channel',
    openClause,
    'must',
    async (trial) => {
      const peer = await trial.authenticated()
      const channel = peer.channel({ localId: 5 })
      await channel.open()
      return `a window of ${channel.sendWindowBytes} bytes, packets of ${channel.maxSendBytes} at most`
    },
  ),
  check('channel.ids', 'takes any 32-bit number as our id of a channel', clause, 'must', async (trial) => {
    const peer = await trial.authenticated()
    const channel = peer.channel({ localId: 0xffff_fffe })
    await channel.open()
    channel.request('nothing@conformance.invalid')
    const answer = await peer.expect(number.CHANNEL_FAILURE)
    const recipient = answer.payload.subarray(1)
    if (recipient.join() !== '255,255,255,254') throw new Unexpected('the id that we chose', recipient.join())
    return 'an answer with that id'
  }),
  check('channel.several', 'keeps several sessions apart', clause, 'must', async (trial) => {
    const peer = await trial.authenticated()
    const channels = [peer.channel({ localId: 10 }), peer.channel({ localId: 20 })]
    for (const channel of channels) {
      channel.sendOpen()
      await confirmedOr(peer, channel.localId, () => channel.confirmed())
    }
    if (channels[0]!.remoteId === channels[1]!.remoteId) throw new Unexpected('two ids', 'the same id twice')
    for (const channel of channels) await channel.startSubsystem()
    for (const channel of channels) channel.sendData(talkInit)
    for (const channel of channels) while (channel.receivedBytes < 9) await peer.expect(number.CHANNEL_DATA)
    return 'data on each'
  }),
  check('channel.while-closing', 'opens a channel while another one ends', clause, 'must', async (trial) => {
    const peer = await trial.peer('running')
    peer.channels[0]!.sendClose()
    const channel = peer.channel()
    channel.sendOpen()
    // The other one's last words may come before and behind the confirmation.
    for (const last of [number.CHANNEL_EOF, number.CHANNEL_REQUEST, number.CHANNEL_CLOSE])
      peer.background.add(last)
    await confirmedOr(peer, channel.localId, () => channel.confirmed())
    while (!peer.channels[0]!.closeCame) await peer.next()
    for (const last of [number.CHANNEL_EOF, number.CHANNEL_REQUEST, number.CHANNEL_CLOSE])
      peer.background.delete(last)
    await channel.startSubsystem()
    return 'a subsystem on the second channel'
  }),
  check(
    'channel.id-again',
    'lets an id be used again when both sides closed the channel',
    closeClause,
    'must',
    async (trial) => {
      const peer = await trial.peer('channel')
      await closeChannel(peer)
      peer.channels.length = 0
      const channel = peer.channel({ localId: 0 })
      await channel.open()
      return 'a second channel'
    },
  ),
  check(
    'channel.many',
    'refuses channels beyond a limit of its own with OPEN_FAILURE, and lives on',
    openClause,
    'guard',
    async (trial) => {
      const peer = await trial.authenticated()
      for (let at = 0; at < tooManyChannels; at++) {
        const channel = peer.channel({ localId: at })
        channel.sendOpen()
        const answer = await peer.expect([number.CHANNEL_OPEN_CONFIRMATION, number.CHANNEL_OPEN_FAILURE])
        if (answer.number === number.CHANNEL_OPEN_CONFIRMATION) continue
        await expectAlive(peer)
        return `${describeArrival(answer)} behind ${at} channels`
      }
      throw new Unexpected('a limit', `${tooManyChannels} channels`)
    },
  ),
  check(
    'channel.max-packet-0',
    'does not open a channel on which nothing could be sent',
    openClause,
    'guard',
    async (trial) => {
      const peer = await trial.authenticated()
      const channel = peer.channel({ localId: 1, maxPacketBytes: 0 })
      channel.sendOpen()
      const { messages, ended } = await collectAnswers(peer)
      const answer = messages.find((message) => !peer.isBackground(message))
      if (ended !== undefined) return ended
      if (answer === undefined) throw new Unexpected('a refusal', 'no answer')
      if (answer.number !== number.CHANNEL_OPEN_FAILURE)
        throw new Unexpected('a refusal', describeArrival(answer))
      return describeArrival(answer)
    },
  ),
  check(
    'channel.half-close',
    'sends on a channel what it has to say, though our EOF came before',
    closeClause,
    'must',
    async (trial) => {
      const peer = await trial.peer('running', { channel: { windowBytes: 4 } })
      const channel = peer.channels[0]!
      channel.sendData(talkInit)
      // The window holds the rest of the answer back until EOF passed.
      await channel.readAtLeast(4)
      channel.sendEof()
      channel.adjust(10_000)
      await channel.readAtLeast(5)
      return `${channel.receivedBytes} bytes, all but 4 of them behind EOF`
    },
  ),
  check(
    'channel.end',
    'ends a subsystem with exit-status, then CLOSE',
    'RFC 4254 s6.10',
    'should',
    async (trial) => {
      const peer = await trial.peer('running')
      const channel = peer.channels[0]!
      channel.sendEof()
      const said: string[] = []
      const word = (message: ArrivedMessage): string =>
        message.number === number.CHANNEL_REQUEST
          ? decodeArrived(channelRequest, message).request
          : number.messageName(message.number)
      while (!channel.closeCame)
        said.push(word(await peer.expect((message) => message.number >= number.CHANNEL_EOF, 6000)))
      if (!said.includes('exit-status') && !said.includes('exit-signal'))
        throw new Unexpected('exit-status or exit-signal', said.join(', '))
      return said.join(', ')
    },
  ),
]

/** A second session may be more than a server allows; that is no error. */
async function confirmedOr(peer: ScriptedPeer, id: number, confirmed: () => Promise<void>): Promise<void> {
  try {
    await confirmed()
  } catch (error) {
    const last = peer.seen.at(-1)
    if (last?.number === number.CHANNEL_OPEN_FAILURE)
      throw new NotApplicable(`it opens no second session (channel ${id})`)
    throw error
  }
}
