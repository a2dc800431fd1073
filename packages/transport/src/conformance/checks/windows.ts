// Flow control (RFC 4254 s5.2): what the peer promises it keeps, and what it was promised it does not exceed.

import { maxWindowBytes } from '../../limits.ts'
import * as number from '../../messages/numbers.ts'
import { concat } from '../../wire/bytes.ts'
import { collectAnswers } from '../answers.ts'
import { describeArrival, NotApplicable, Unexpected } from '../arrival.ts'
import { type Check, check } from '../check.ts'
import type { ScriptedChannel, ScriptedChannelOptions } from '../scripted-channel.ts'
import type { ScriptedPeer } from '../scripted-peer.ts'
import { countAnswers, talkAtLength, talkInit, talkQuestions } from '../talk.ts'
import type { Trial } from '../trial.ts'

const clause = 'RFC 4254 s5.2'
/** Windows beyond this are not filled: nothing but time would be learnt. */
const maxFillBytes = 8 * 1024 * 1024
const questions = 200

/** A channel whose other end has much to say as soon as it may: SFTP answers, or what a client was given to send. */
async function talking(
  trial: Trial,
  channel: ScriptedChannelOptions,
): Promise<{ peer: ScriptedPeer; channel: ScriptedChannel }> {
  const peer = await trial.peer('running', { channel })
  const opened = peer.channels[0]!
  if (trial.target.role === 'server') {
    opened.sendData(talkInit)
    opened.sendData(talkQuestions(questions))
  }
  return { peer, channel: opened }
}

/** Reads until the peer has used up its window, and sees that nothing more comes before a probe is answered. */
async function exhausted(peer: ScriptedPeer, channel: ScriptedChannel): Promise<void> {
  while (channel.windowBytes > 0) await channel.readAtLeast(1)
  channel.checkPromises()
  const { ended } = await collectAnswers(peer)
  if (ended !== undefined) throw new Unexpected('a peer that waits', ended)
  channel.checkPromises()
}

export const windowChecks: readonly Check<Trial>[] = [
  check('window.zero', 'sends no data into a window of 0', clause, 'must', async (trial) => {
    const { peer, channel } = await talking(trial, { windowBytes: 0 })
    await exhausted(peer, channel)
    channel.adjust(9)
    await exhausted(peer, channel)
    return `${channel.receivedBytes} bytes, once there was a window for them`
  }),
  check(
    'window.respected',
    'sends no more data than the window lets it, and all of that',
    clause,
    'must',
    async (trial) => {
      const { peer, channel } = await talking(trial, { windowBytes: 100 })
      await exhausted(peer, channel)
      for (const bytes of [1, 7, 500, 1000]) {
        channel.adjust(bytes)
        await exhausted(peer, channel)
      }
      return `${channel.receivedBytes} bytes in five windows`
    },
  ),
  check(
    'window.max-packet',
    'sends no more data in a packet than it was told',
    clause,
    'must',
    async (trial) => {
      const { peer, channel } = await talking(trial, { windowBytes: 2000, maxPacketBytes: 100 })
      await exhausted(peer, channel)
      return `${channel.receivedBytes} bytes in packets of 100 at most`
    },
  ),
  check('window.adjust-many', 'adds up many small adjusts', clause, 'must', async (trial) => {
    const { peer, channel } = await talking(trial, { windowBytes: 0 })
    for (let at = 0; at < 300; at++) channel.adjust(1)
    await exhausted(peer, channel)
    return `${channel.receivedBytes} bytes for 300 adjusts by 1`
  }),
]

/** INIT and further requests, together exactly this many bytes. */
function requestsOf(bytes: number): Uint8Array[] {
  const requests = [talkInit]
  const least = talkAtLength(0).length
  for (let left = bytes - talkInit.length; left > 0; ) {
    // What is left behind this one is nothing, or room for another.
    const count = left <= 30_000 ? left : Math.min(30_000, left - least)
    requests.push(talkAtLength(count))
    left -= count
  }
  return requests
}

/** The first answers to what was sent before the subsystem was there. @throws NotApplicable where it was dropped */
async function keptData(channel: ScriptedChannel): Promise<Uint8Array> {
  try {
    return await channel.readAtLeast(1)
  } catch (error) {
    if (!(error instanceof Unexpected) || channel.receivedBytes > 0) throw error
    throw new NotApplicable('it keeps no data that comes before something was started')
  }
}

/** Sends data in packets that are not too large, whatever the window says. */
function send(channel: ScriptedChannel, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; at += channel.maxSendBytes)
    channel.sendData(bytes.subarray(at, at + channel.maxSendBytes))
}

/** Waits until the peer gives us a window of at least so many bytes. @throws Unexpected */
async function windowFor(peer: ScriptedPeer, channel: ScriptedChannel, bytes: number): Promise<void> {
  while (channel.sendWindowBytes < bytes) await peer.expect(number.CHANNEL_WINDOW_ADJUST)
}

const overflowClaim = 'does not lose its window when it is adjusted beyond 2^32 - 1'

export const clientWindowChecks: readonly Check<Trial>[] = [
  check(
    'window.overflow',
    'leaves when its window is adjusted beyond 2^32 - 1',
    clause,
    'guard',
    async (trial) => {
      const peer = await trial.quiet()
      const channel = peer.channels[0]!
      channel.adjust(maxWindowBytes)
      // Whatever it has sent meanwhile is far less than this.
      channel.adjust(maxWindowBytes)
      peer.background.add(number.CHANNEL_DATA).add(number.CHANNEL_EOF)
      return peer.expectDisconnect()
    },
  ),
]

export const serverWindowChecks: readonly Check<Trial>[] = [
  check('window.overflow', overflowClaim, clause, 'guard', async (trial) => {
    const peer = await trial.peer('running', { channel: { windowBytes: maxWindowBytes } })
    const channel = peer.channels[0]!
    channel.adjust(1)
    channel.sendData(talkInit)
    for (;;) {
      const arrival = await peer.next()
      if (arrival.kind === 'message' && peer.isBackground(arrival)) continue
      const ended =
        arrival.kind === 'end' || (arrival.kind === 'message' && arrival.number === number.DISCONNECT)
      if (ended || (arrival.kind === 'message' && arrival.number === number.CHANNEL_DATA))
        return describeArrival(arrival)
      throw new Unexpected('data, or the end of the connection', describeArrival(arrival))
    }
  }),
  check('window.exceeded', 'does not take more data than it promised to', clause, 'guard', async (trial) => {
    const peer = await trial.peer('channel')
    const channel = peer.channels[0]!
    const promised = channel.sendWindowBytes
    if (promised > maxFillBytes)
      throw new NotApplicable(`its window of ${promised} bytes is too large to fill`)
    // Requests that fill the window to the last byte, and one question beyond it. Nothing reads them before a subsystem runs.
    const within = promised === 0 ? [] : requestsOf(promised)
    for (const bytes of within) send(channel, bytes)
    send(channel, promised === 0 ? talkInit : talkQuestions(1))
    const { ended } = await collectAnswers(peer)
    if (ended !== undefined) return ended
    await channel.startSubsystem()
    const data: Uint8Array[] = []
    if (within.length > 0) data.push(await keptData(channel))
    while (countAnswers(concat(...data)) < within.length) data.push(await channel.readAtLeast(1))
    await collectAnswers(peer)
    const answers = countAnswers(concat(...data, channel.takeData()))
    if (answers > within.length) throw new Unexpected('no answer to what was beyond the window', 'one')
    return 'no answer'
  }),
  check(
    'window.packet-exceeded',
    'does not take more data in one packet than it promised to',
    clause,
    'guard',
    async (trial) => {
      const peer = await trial.peer('running')
      const channel = peer.channels[0]!
      await windowFor(peer, channel, talkInit.length)
      const beyond = channel.maxSendBytes + 1
      if (beyond > 250_000)
        throw new NotApplicable(`its packets of ${channel.maxSendBytes} bytes are as large as packets get`)
      if (channel.sendWindowBytes < beyond) throw new NotApplicable('its window is smaller than its packets')
      channel.sendData(talkInit)
      await channel.readAtLeast(9)
      channel.sendData(talkAtLength(beyond))
      const { messages, ended } = await collectAnswers(peer)
      const data = messages.find((message) => message.number === number.CHANNEL_DATA)
      if (data !== undefined) throw new Unexpected('no answer to the packet', describeArrival(data))
      return ended ?? 'no answer'
    },
  ),
  check('window.given-back', 'gives the window back as data is taken', clause, 'must', async (trial) => {
    const peer = await trial.peer('running')
    const channel = peer.channels[0]!
    await windowFor(peer, channel, 1)
    const first = channel.sendWindowBytes
    if (first > maxFillBytes) throw new NotApplicable(`its window of ${first} bytes is too large to fill`)
    channel.sendData(talkInit)
    let sent = 0
    let request = talkAtLength(30_000)
    peer.background.add(number.CHANNEL_DATA)
    // Three windows in all: the second cannot pass without adjusts.
    while (sent < 3 * first) {
      await windowFor(peer, channel, 1)
      const count = Math.min(channel.sendWindowBytes, channel.maxSendBytes, request.length)
      channel.sendData(request.subarray(0, count))
      request = count === request.length ? talkAtLength(30_000) : request.subarray(count)
      sent += count
      // Our own promises are kept as well.
      if (channel.windowBytes < 100_000) channel.adjust(500_000)
    }
    return `${sent} bytes into a window of ${first}`
  }),
]
