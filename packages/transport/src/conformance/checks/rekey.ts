// Key re-exchange (RFC 4253 s9), started by the scripted peer. Behind authentication, where not said otherwise.

import { channelData } from '../../messages/connection.ts'
import * as number from '../../messages/numbers.ts'
import { ignore } from '../../messages/transport.ts'
import { equalBytes } from '../../wire/bytes.ts'
import { sendProbe } from '../answers.ts'
import { NotApplicable, Unexpected } from '../arrival.ts'
import { type Check, check } from '../check.ts'
import { cipherModes } from '../cipher-modes.ts'
import { describeFates, type Fate, payloadOf } from '../message-table.ts'
import type { ScriptedPeer } from '../scripted-peer.ts'
import type { Trial } from '../trial.ts'

const clause = 'RFC 4253 s9'
const duringClause = 'RFC 4253 s7.1'

/** Sends our KEXINIT and waits for the peer's: both sides are in the exchange now. */
async function begun(peer: ScriptedPeer): Promise<NonNullable<ScriptedPeer['exchange']>> {
  const exchange = peer.startExchange()
  exchange.sendInit()
  await exchange.receiveInit()
  return exchange
}

export const rekeyChecks: readonly Check<Trial>[] = [
  check('rekey.works', 'exchanges keys again when asked to, and goes on', clause, 'must', async (trial) => {
    const peer = await trial.authenticated()
    await peer.exchangeKeys()
    await trial.expectGoesOn(peer)
    return 'an answer under the new keys'
  }),
  check('rekey.again', 'exchanges keys five times with something between', clause, 'must', async (trial) => {
    const peer = await trial.authenticated()
    for (let at = 0; at < 5; at++) {
      await peer.exchangeKeys()
      await trial.expectGoesOn(peer)
    }
    return 'five answers'
  }),
  check(
    'rekey.modes',
    'changes from every way of sealing packets to every other',
    clause,
    'must',
    async (trial) => {
      const modes = cipherModes(trial)
      if (modes.length < 2) throw new NotApplicable('it knows only one')
      const peer = await trial.authenticated(modes[0]!.options)
      const path: string[] = [modes[0]!.name]
      for (const mode of [...modes.slice(1), modes[0]!]) {
        const { ciphers, macs = peer.offer.macs } = mode.options.algorithms!
        await peer.exchangeKeys({
          change: (honest) => ({
            ...honest,
            ciphersClientToServer: ciphers!,
            ciphersServerToClient: ciphers!,
            macsClientToServer: macs,
            macsServerToClient: macs,
          }),
        })
        await trial.expectGoesOn(peer)
        path.push(mode.name)
      }
      return path.join(', ')
    },
  ),
  check(
    'rekey.generic',
    'takes IGNORE and DEBUG between the messages of a later exchange',
    duringClause,
    'must',
    async (trial) => {
      const peer = await trial.authenticated()
      const generic = (): void => {
        peer.send(ignore, { data: new Uint8Array(9) })
        peer.send(payloadOf(number.DEBUG))
      }
      const exchange = await begun(peer)
      generic()
      if (peer.role === 'client') {
        await exchange.sendMethodInit()
        generic()
        await exchange.receiveMethodReply()
      } else {
        await exchange.receiveMethodInit()
        generic()
        await exchange.sendMethodReply()
      }
      generic()
      exchange.sendNewKeys()
      generic()
      await exchange.receiveNewKeys()
      await trial.expectGoesOn(peer)
      return 'an answer under the new keys'
    },
  ),
  check(
    'rekey.question-before',
    'answers what was asked just before KEXINIT, before or behind the exchange',
    clause,
    'must',
    async (trial) => {
      const peer = await trial.authenticated()
      sendProbe(peer)
      const exchange = peer.startExchange()
      exchange.sendInit()
      let answered = false
      peer.background.add(number.REQUEST_FAILURE).add(number.REQUEST_SUCCESS)
      await exchange.receiveInit()
      await peer.finishExchange(exchange)
      answered = peer.seen.some(
        ({ number: type }) => type === number.REQUEST_FAILURE || type === number.REQUEST_SUCCESS,
      )
      if (answered) return 'an answer before'
      await peer.expect([number.REQUEST_FAILURE, number.REQUEST_SUCCESS])
      return 'an answer behind'
    },
  ),
  check(
    'rekey.silent',
    'sends nothing but the exchange between its KEXINIT and its NEWKEYS',
    duringClause,
    'must',
    async (trial) => {
      const peer = await trial.authenticated()
      const exchange = await begun(peer)
      const from = peer.seen.length
      await peer.finishExchange(exchange)
      const others = peer.seen.slice(from).filter(({ number: type }) => type > 49 || type === 5 || type === 6)
      if (others.length > 0) throw new Unexpected('nothing else', number.messageName(others[0]!.number))
      return 'nothing else'
    },
  ),
  check(
    'rekey.session-id',
    'keeps the session identifier of the first exchange',
    'RFC 4253 s7.2',
    'must',
    async (trial) => {
      const peer = await trial.authenticated()
      const first = peer.sessionId!
      await peer.exchangeKeys()
      // Keys are derived from the session identifier, so an answer shows that both sides have the same one.
      await trial.expectGoesOn(peer)
      if (!equalBytes(first, peer.sessionId!) || equalBytes(first, peer.outcome!.exchangeHash))
        throw new Unexpected('a new exchange hash', 'the old one')
      return 'an answer under keys of the first identifier'
    },
  ),
  check(
    'rekey.no-common',
    'ends the connection when a later exchange finds nothing common',
    duringClause,
    'must',
    async (trial) => {
      const peer = await trial.authenticated()
      peer
        .startExchange()
        .sendInit((honest) => ({ ...honest, kexAlgorithms: ['nothing@conformance.invalid'] }))
      // It may find out before its own KEXINIT leaves.
      peer.background.add(number.KEXINIT)
      return peer.expectDisconnect()
    },
  ),
  check(
    'rekey.guess',
    'drops the packet of a wrong guess in a later exchange',
    'RFC 4253 s7',
    'must',
    async (trial) => {
      const peer = await trial.authenticated()
      const exchange = peer.startExchange()
      exchange.sendInit((honest) => ({
        ...honest,
        kexAlgorithms: ['guess@conformance.invalid', ...honest.kexAlgorithms],
        firstKexPacketFollows: true,
      }))
      peer.send(Uint8Array.of(peer.role === 'client' ? number.KEX_INIT : number.KEX_REPLY, 0, 0, 0, 1, 7))
      await exchange.receiveInit()
      await peer.finishExchange(exchange)
      await trial.expectGoesOn(peer)
      return 'an answer under the new keys'
    },
  ),
  check(
    'rekey.others-refused',
    'ends the connection at messages of other layers behind our KEXINIT',
    duringClause,
    'guard',
    async (trial) => {
      const fates = new Map<number, Fate>()
      const probe = trial.role === 'client' ? number.GLOBAL_REQUEST : number.CHANNEL_DATA
      for (const message of [
        number.SERVICE_REQUEST,
        number.USERAUTH_REQUEST,
        probe,
        number.KEXINIT,
        number.NEWKEYS,
      ]) {
        const peer = await trial.authenticated()
        const exchange = await begun(peer)
        if (message === number.CHANNEL_DATA)
          peer.send(channelData, { recipientChannel: peer.channels[0]!.remoteId, data: new Uint8Array(1) })
        else if (message === number.GLOBAL_REQUEST) sendProbe(peer)
        else if (message === number.KEXINIT) peer.send(exchange.ourInitPayload!)
        else peer.send(payloadOf(message))
        fates.set(message, await fateOf(peer, exchange))
        peer.wire.abort()
      }
      const others = [...fates.values()].filter((fate) => fate !== 'ended')
      if (others.length > 0) throw new Unexpected('the end of the connection at each', describeFates(fates))
      return describeFates(fates)
    },
  ),
]

/** Whether an exchange can be finished after something that does not belong into it. */
async function fateOf(peer: ScriptedPeer, exchange: NonNullable<ScriptedPeer['exchange']>): Promise<Fate> {
  try {
    await peer.finishExchange(exchange)
    return 'ignored'
  } catch (error) {
    if (!(error instanceof Unexpected)) throw error
    const last = peer.seen.at(-1)?.number
    if (peer.wire.ended || last === number.DISCONNECT) return 'ended'
    if (last === number.UNIMPLEMENTED) return 'unimplemented'
    return (await peer.wire.ends(peer.patienceMs)) ? 'ended' : 'answered'
  }
}

export const serverRekeyChecks: readonly Check<Trial>[] = [
  check(
    'rekey.before-authentication',
    'exchanges keys again before authentication',
    clause,
    'must',
    async (trial) => {
      const peer = await trial.peer('service')
      await peer.exchangeKeys()
      await peer.upTo('authenticated')
      return 'authentication under the new keys'
    },
  ),
]
