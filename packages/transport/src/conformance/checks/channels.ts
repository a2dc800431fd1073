// Channels (RFC 4254 s5): ids, opening, EOF and CLOSE.

import {
  channelClose,
  channelData,
  channelFailure,
  channelOpen,
  channelOpenConfirmation,
  channelOpenFailure,
  channelRequest,
} from '../../messages/connection.ts'
import * as number from '../../messages/numbers.ts'
import { Writer } from '../../wire/writer.ts'
import { collectAnswers, expectAlive, expectNoEffect, fateNow } from '../answers.ts'
import { decodeArrived, describeArrival, Unexpected } from '../arrival.ts'
import { type Check, check, type Level } from '../check.ts'
import { type Fate, requireFates } from '../message-table.ts'
import type { ScriptedPeer } from '../scripted-peer.ts'
import type { Trial } from '../trial.ts'

const clause = 'RFC 4254 s5'
const openClause = 'RFC 4254 s5.1'
const closeClause = 'RFC 4254 s5.3'
const nothing: Uint8Array = new Uint8Array(0)

/** Messages about a channel with this id, each by itself, with a body as long as it has to be. */
function aboutChannel(type: number, id: number): Uint8Array {
  const writer = new Writer(64).u8(type).u32(id)
  switch (type) {
    case number.CHANNEL_OPEN_CONFIRMATION:
      return writer.u32(0).u32(65_536).u32(32_768).copy()
    case number.CHANNEL_OPEN_FAILURE:
      return writer.u32(1).text('').text('').copy()
    case number.CHANNEL_WINDOW_ADJUST:
      return writer.u32(1).copy()
    case number.CHANNEL_DATA:
      return writer.text('x').copy()
    case number.CHANNEL_EXTENDED_DATA:
      return writer.u32(1).text('x').copy()
    case number.CHANNEL_REQUEST:
      return writer.text('nothing@conformance.invalid').bool(true).copy()
    default:
      return writer.copy()
  }
}

const channelMessages = Array.from({ length: 10 }, (_, at) => number.CHANNEL_OPEN_CONFIRMATION + at)

/** A peer behind authentication, with one channel open. */
function withChannel(trial: Trial): Promise<ScriptedPeer> {
  return trial.target.role === 'server' ? trial.peer('channel') : trial.quiet()
}

/** OPEN_FAILURE for our channel. */
async function expectOpenFailure(peer: ScriptedPeer, ourId: number): Promise<string> {
  const failure = await peer.expect(channelOpenFailure)
  const { recipientChannel } = decodeArrived(channelOpenFailure, failure)
  if (recipientChannel !== ourId)
    throw new Unexpected(`OPEN_FAILURE of channel ${ourId}`, `one of ${recipientChannel}`)
  await expectAlive(peer)
  return describeArrival(failure)
}

/** Opens a channel that must be refused. */
function refusesOpen(
  id: string,
  claim: string,
  clauseOf: string,
  channelType: string,
  payload: Uint8Array = nothing,
  level: Level = 'must',
): Check<Trial> {
  return check(id, claim, clauseOf, level, async (trial) => {
    const peer = await trial.authenticated()
    const senderChannel = 77
    peer.send(channelOpen, { channelType, senderChannel, initialWindow: 65_536, maxPacket: 32_768, payload })
    return expectOpenFailure(peer, senderChannel)
  })
}

const forwarded = new Writer().text('127.0.0.1').u32(1).text('127.0.0.1').u32(2).copy()
const x11 = new Writer().text('127.0.0.1').u32(6010).copy()

export const channelChecks: readonly Check<Trial>[] = [
  refusesOpen(
    'channel.unknown-type',
    'refuses a channel of a type that it does not know',
    openClause,
    'nothing@conformance.invalid',
  ),
  refusesOpen(
    'channel.forwarded',
    'refuses a forwarded-tcpip channel that nobody asked for',
    'RFC 4254 s7.2',
    'forwarded-tcpip',
    forwarded,
  ),
  refusesOpen('channel.x11', 'refuses an x11 channel that nobody asked for', 'RFC 4254 s6.3.2', 'x11', x11),
  check(
    'channel.unknown-id',
    'does nothing about messages for a channel that is not open',
    clause,
    'guard',
    async (trial) => {
      const fates = new Map<number, Fate>()
      for (const type of channelMessages) {
        const peer = await trial.authenticated()
        peer.send(aboutChannel(type, 4711))
        fates.set(type, await fateNow(peer))
        peer.wire.abort()
      }
      return requireFates(fates, ['ended', 'ignored', 'unimplemented'])
    },
  ),
  check(
    'channel.confirmed-twice',
    'does nothing about a confirmation of a channel that is open',
    openClause,
    'guard',
    async (trial) => {
      const peer = await withChannel(trial)
      const channel = peer.channels[0]!
      // It names another id of ours, under which answers would come if it were obeyed.
      const senderChannel = channel.localId + 1
      const recipientChannel = channel.remoteId
      const terms = { initialWindow: 65_536, maxPacket: 32_768, payload: nothing }
      peer.send(channelOpenConfirmation, { recipientChannel, senderChannel, ...terms })
      channel.request('nothing@conformance.invalid')
      const { messages, ended } = await collectAnswers(peer)
      if (ended !== undefined) return ended
      const answer = messages.find((message) => message.number === number.CHANNEL_FAILURE)
      if (answer === undefined) throw new Unexpected('an answer under the old id', 'none')
      const { recipientChannel: named } = decodeArrived(channelFailure, answer)
      if (named !== channel.localId)
        throw new Unexpected('an answer under the old id', 'one under the new id')
      return 'an answer under the old id'
    },
  ),
  check(
    'channel.answer-unasked',
    'does nothing about an answer to a request that it did not make',
    'RFC 4254 s5.4',
    'guard',
    async (trial) => {
      const peer = await withChannel(trial)
      peer.send(aboutChannel(number.CHANNEL_SUCCESS, peer.channels[0]!.remoteId))
      peer.send(aboutChannel(number.CHANNEL_FAILURE, peer.channels[0]!.remoteId))
      return expectNoEffect(peer)
    },
  ),
  check('channel.close', 'answers CLOSE with CLOSE', closeClause, 'must', async (trial) => {
    const peer = await withChannel(trial)
    await closeChannel(peer)
    return 'CHANNEL_CLOSE'
  }),
  check(
    'channel.after-close',
    'does nothing about messages for a channel that both sides closed',
    closeClause,
    'guard',
    async (trial) => {
      const fates = new Map<number, Fate>()
      // A client leaves with its only channel, so what follows may meet nobody: that is an end as well.
      for (const type of [
        number.CHANNEL_DATA,
        number.CHANNEL_EOF,
        number.CHANNEL_CLOSE,
        number.CHANNEL_REQUEST,
      ]) {
        const peer = await withChannel(trial)
        const { remoteId } = peer.channels[0]!
        await closeChannel(peer)
        peer.send(aboutChannel(type, remoteId))
        fates.set(type, await fateNow(peer))
        peer.wire.abort()
      }
      return requireFates(fates, ['ended', 'ignored', 'unimplemented'])
    },
  ),
  check('channel.eof-open', 'keeps the channel open behind EOF', closeClause, 'must', async (trial) => {
    const peer = await withChannel(trial)
    const channel = peer.channels[0]!
    channel.sendEof()
    peer.send(channelRequest, {
      recipientChannel: channel.remoteId,
      request: 'nothing@conformance.invalid',
      wantReply: true,
      payload: nothing,
    })
    // Ending its own direction as well is its right.
    peer.background.add(number.CHANNEL_EOF)
    await peer.expect(number.CHANNEL_FAILURE)
    return 'CHANNEL_FAILURE of a request behind EOF'
  }),
  check('channel.eof-twice', 'does nothing about a second EOF', closeClause, 'guard', async (trial) => {
    const peer = await withChannel(trial)
    peer.background.add(number.CHANNEL_EOF)
    peer.channels[0]!.sendEof()
    peer.channels[0]!.sendEof()
    return expectNoEffect(peer)
  }),
  check(
    'channel.data-behind-eof',
    'does nothing about data behind EOF',
    closeClause,
    'guard',
    async (trial) => {
      const peer = await withChannel(trial)
      peer.background.add(number.CHANNEL_EOF)
      peer.channels[0]!.sendEof()
      peer.channels[0]!.sendData(Uint8Array.of(1))
      return expectNoEffect(peer)
    },
  ),
  check(
    'channel.data-length',
    'ends the connection at data longer than its message',
    'RFC 4251 s5',
    'must',
    async (trial) => {
      const peer = await trial.running()
      const payload = channelData.bytes({
        recipientChannel: peer.channels[0]!.remoteId,
        data: new Uint8Array(4),
      })
      payload[5] = 0xff
      peer.send(payload)
      return peer.expectDisconnect()
    },
  ),
  check(
    'channel.open-truncated',
    'ends the connection at a CHANNEL_OPEN that is too short',
    'RFC 4251 s5',
    'must',
    async (trial) => {
      const peer = await trial.authenticated()
      peer.send(new Writer().u8(number.CHANNEL_OPEN).text('session').u32(1).copy())
      return peer.expectDisconnect()
    },
  ),
]

/** Closes the first channel from both sides. */
export async function closeChannel(peer: ScriptedPeer): Promise<void> {
  const channel = peer.channels[0]!
  channel.sendClose()
  for (;;) {
    const message = await peer.expect(
      (arrived) => arrived.number >= number.CHANNEL_DATA && arrived.number <= number.CHANNEL_FAILURE,
    )
    if (message.number !== number.CHANNEL_CLOSE) continue
    const { recipientChannel } = decodeArrived(channelClose, message)
    if (recipientChannel !== channel.localId)
      throw new Unexpected(`CLOSE of channel ${channel.localId}`, `one of ${recipientChannel}`)
    return
  }
}

export const clientChannelChecks: readonly Check<Trial>[] = [
  refusesOpen(
    'channel.session-from-server',
    'refuses a session that the server opens',
    'RFC 4254 s6.1',
    'session',
    nothing,
    'should',
  ),
  refusesOpen(
    'channel.agent',
    'refuses an agent channel that nobody asked for',
    'RFC 4254 s5.1',
    'auth-agent@openssh.com',
  ),
  check(
    'channel.open-form',
    'opens a session with a window and packets in which something can be sent',
    openClause,
    'must',
    async (trial) => {
      const peer = await trial.peer('authenticated')
      const channel = peer.channel()
      await channel.awaitOpen()
      if (channel.maxSendBytes === 0) throw new Unexpected('a largest packet', '0')
      return `a window of ${channel.sendWindowBytes} bytes, packets of ${channel.maxSendBytes} at most`
    },
  ),
  check(
    'channel.confirmation-of-other',
    'does not take a confirmation of a channel that it did not open',
    openClause,
    'guard',
    async (trial) => {
      const peer = await trial.peer('authenticated')
      const channel = peer.channel()
      await channel.awaitOpen()
      peer.background.add(number.CHANNEL_REQUEST).add(number.CHANNEL_DATA)
      const confirmation = {
        recipientChannel: channel.remoteId + 1,
        senderChannel: 0,
        initialWindow: 0,
        maxPacket: 32_768,
        payload: nothing,
      }
      peer.send(channelOpenConfirmation, confirmation)
      return expectNoEffect(peer)
    },
  ),
]
