// KEXINIT and algorithm negotiation (RFC 4253 s7.1), and guesses (s7).

import type { KexInit } from '../../kex/negotiate.ts'
import { kexInit } from '../../messages/kex.ts'
import * as number from '../../messages/numbers.ts'
import { isAead, knownCiphers } from '../../packet/suites.ts'
import { concat, equalBytes, utf8Text, writeU32 } from '../../wire/bytes.ts'
import { Reader } from '../../wire/reader.ts'
import { NotApplicable, Unexpected } from '../arrival.ts'
import { type Check, check } from '../check.ts'
import type { ScriptedPeer } from '../scripted-peer.ts'
import type { Trial } from '../trial.ts'

const clause = 'RFC 4253 s7.1'
const cookieBytes = 16

const listNames = [
  'kexAlgorithms',
  'hostKeyAlgorithms',
  'ciphersClientToServer',
  'ciphersServerToClient',
  'macsClientToServer',
  'macsServerToClient',
  'compressionClientToServer',
  'compressionServerToClient',
  'languagesClientToServer',
  'languagesServerToClient',
] as const
type ListName = (typeof listNames)[number]

/** A handshake with this KEXINIT of ours; it has to lead to keys. */
async function works(trial: Trial, change: (honest: KexInit) => KexInit): Promise<ScriptedPeer> {
  return trial.peer('keys', { kexInit: change })
}

/** Sends an edited KEXINIT payload; the peer has to hang up instead of going on. */
async function endsAt(trial: Trial, change: (payload: Uint8Array) => Uint8Array): Promise<string> {
  const peer = await trial.peer('identified')
  peer.alter(number.KEXINIT, change)
  peer.startExchange().sendInit()
  return hangsUp(peer)
}

/** The end of the connection; its KEXINIT, and a guess, may come before or not. */
function hangsUp(peer: ScriptedPeer): Promise<string> {
  peer.background.add(number.KEXINIT).add(number.KEX_INIT)
  return peer.expectDisconnect()
}

/** Hangs up where this list has nothing in common with the peer's. */
function noCommon(id: string, list: ListName, what: string, macNeeded = false): Check<Trial> {
  return check(id, `ends the connection when no ${what} is common`, clause, 'must', async (trial) => {
    const ctr = trial.theirInit.ciphersClientToServer.filter((name) => !isAead(name))
    if (macNeeded && ctr.length === 0) throw new NotApplicable('it has no cipher that needs a MAC')
    const peer = await trial.peer('identified')
    peer.startExchange().sendInit((honest) => ({
      ...honest,
      ...(macNeeded ? { ciphersClientToServer: ctr, ciphersServerToClient: ctr } : {}),
      [list]: ['nothing@conformance.invalid'],
    }))
    return hangsUp(peer)
  })
}

/** The name-lists as they came, holes and all; KEXINIT is read leniently elsewhere. */
function rawLists(payload: Uint8Array): string[][] {
  const reader = new Reader(payload, 1 + cookieBytes)
  return listNames.map(() => {
    const text = utf8Text(reader.string())
    return text === '' ? [] : text.split(',')
  })
}

/** Ciphers that both know, but the MAC question is left out: AEAD ones, and CTR ones where a MAC is common. */
function commonCiphers(trial: Trial): string[] {
  const { theirInit } = trial
  return knownCiphers.filter(
    (name) =>
      theirInit.ciphersClientToServer.includes(name) && theirInit.ciphersServerToClient.includes(name),
  )
}

const prefix = (names: readonly string[]): string[] => ['unknown@conformance.invalid', 'unknown', ...names]

export const kexInitChecks: readonly Check<Trial>[] = [
  check(
    'kexinit.form',
    'sends lists of printable names of 1 to 64 bytes, none of the eight algorithm lists empty, and reserved 0',
    clause,
    'must',
    async (trial) => {
      const peer = await trial.peer('kexinit')
      const payload = peer.exchange!.theirInitPayload!
      const lists = rawLists(payload)
      lists.forEach((names, at) => {
        const bad = names.find((name) => !/^[\x21-\x2b\x2d-\x7e]{1,64}$/.test(name))
        if (bad !== undefined)
          throw new Unexpected('names of RFC 4251 s6', `${listNames[at]} with ${JSON.stringify(bad)}`)
        if (names.length === 0 && at < 8) throw new Unexpected('an algorithm', `${listNames[at]} without one`)
      })
      const { reserved } = kexInit.decode(payload)
      if (reserved !== 0) throw new Unexpected('reserved 0', String(reserved))
      return `${lists.flat().length} names`
    },
  ),
  check('kexinit.cookie', 'sends another cookie on each connection', clause, 'must', async (trial) => {
    const [one, other] = await Promise.all([trial.peer('kexinit'), trial.peer('kexinit')])
    if (equalBytes(one.theirFirstInit!.cookie, other.theirFirstInit!.cookie))
      throw new Unexpected('two cookies', 'the same cookie twice')
    return 'two cookies'
  }),
  check(
    'kexinit.first',
    'sends KEXINIT as its first packet',
    'OpenSSH PROTOCOL 1.10',
    'must',
    async (trial) => {
      trial.needStrict()
      const peer = await trial.peer('identified')
      peer.startExchange().sendInit()
      const arrival = await peer.next()
      if (arrival.kind !== 'message' || arrival.number !== number.KEXINIT)
        throw new Unexpected(
          'KEXINIT',
          arrival.kind === 'message' ? number.messageName(arrival.number) : arrival.kind,
        )
      return 'KEXINIT'
    },
  ),
  check('kexinit.unknown-names', 'passes over names that it does not know', clause, 'must', async (trial) => {
    const peer = await works(trial, (honest) => {
      const changed: Partial<Record<ListName, string[]>> = {}
      for (const name of listNames.slice(0, 8)) changed[name] = prefix(honest[name])
      return { ...honest, ...changed }
    })
    return `keys with ${peer.outcome!.negotiated.kex}`
  }),
  check('kexinit.languages', 'takes languages, though it knows none', clause, 'must', async (trial) => {
    await works(trial, (honest) => ({
      ...honest,
      languagesClientToServer: ['de', 'en'],
      languagesServerToClient: ['eo'],
    }))
    return 'keys'
  }),
  check(
    'kexinit.client-order',
    "takes the client's first name that the server has",
    clause,
    'must',
    async (trial) => {
      const ciphers = commonCiphers(trial)
      if (ciphers.length < 2) throw new NotApplicable('only one cipher is common')
      // Whoever is the client here, one of these orders is not the other side's own.
      for (const order of [ciphers, [...ciphers].reverse()]) {
        await works(trial, (honest) => ({
          ...honest,
          ciphersClientToServer: order,
          ciphersServerToClient: order,
        }))
      }
      return 'keys in either order'
    },
  ),
  check('kexinit.directions', 'negotiates each direction on its own', clause, 'must', async (trial) => {
    const ciphers = commonCiphers(trial)
    const [one, other] = [ciphers[0]!, ciphers.at(-1)!]
    if (one === other) throw new NotApplicable('only one cipher is common')
    const peer = await works(trial, (honest) => ({
      ...honest,
      ciphersClientToServer: [one],
      ciphersServerToClient: [other],
    }))
    const { clientToServer, serverToClient } = peer.outcome!.negotiated
    return `${clientToServer.cipher} and ${serverToClient.cipher}`
  }),
  check(
    'kexinit.aead-mac',
    'negotiates no MAC for a cipher that brings its own',
    'OpenSSH PROTOCOL 1.6',
    'must',
    async (trial) => {
      const aead = commonCiphers(trial).filter(isAead)
      if (aead.length === 0) throw new NotApplicable('no such cipher is common')
      await works(trial, (honest) => ({
        ...honest,
        ciphersClientToServer: aead,
        ciphersServerToClient: aead,
        macsClientToServer: ['nothing@conformance.invalid'],
        macsServerToClient: ['nothing@conformance.invalid'],
      }))
      return 'keys without a common MAC'
    },
  ),
  noCommon('kexinit.no-kex', 'kexAlgorithms', 'key exchange method'),
  noCommon('kexinit.no-host-key', 'hostKeyAlgorithms', 'host key algorithm'),
  noCommon('kexinit.no-cipher-out', 'ciphersClientToServer', 'cipher client to server'),
  noCommon('kexinit.no-cipher-in', 'ciphersServerToClient', 'cipher server to client'),
  noCommon('kexinit.no-mac', 'macsClientToServer', 'MAC', true),
  noCommon('kexinit.no-compression', 'compressionServerToClient', 'compression'),
  check('kexinit.truncated', 'ends the connection at a KEXINIT that is too short', clause, 'must', (trial) =>
    endsAt(trial, (payload) => payload.subarray(0, payload.length - 1)),
  ),
  check('kexinit.trailing', 'ends the connection at bytes behind the last field', clause, 'guard', (trial) =>
    endsAt(trial, (payload) => concat(payload, new Uint8Array(8))),
  ),
  check(
    'kexinit.list-length',
    'ends the connection at a name-list longer than the packet',
    'RFC 4251 s5',
    'must',
    (trial) =>
      endsAt(trial, (payload) => {
        const edited = payload.slice()
        writeU32(edited, 1 + cookieBytes, 0xffff_ffff)
        return edited
      }),
  ),
]

/** An honest exchange with a first_kex_packet_follows, whose guess is wrong in `change`. */
async function wrongGuess(trial: Trial, change: (honest: KexInit) => KexInit): Promise<string> {
  const peer = await trial.peer('identified')
  const exchange = peer.startExchange()
  exchange.sendInit((honest) => ({ ...change(honest), firstKexPacketFollows: true }))
  // The guessed packet: its number is one of key exchange, the rest means nothing to the method that is negotiated.
  peer.send(
    Uint8Array.of(peer.role === 'client' ? number.KEX_INIT : number.KEX_REPLY, 0, 0, 0, 4, 1, 2, 3, 4),
  )
  await exchange.receiveInit()
  peer.phase = 'kexinit'
  await peer.upTo('keys')
  return `keys with ${peer.outcome!.negotiated.kex}`
}

const guessClause = 'RFC 4253 s7'

export const guessChecks: readonly Check<Trial>[] = [
  check('guess.wrong-kex', 'drops the packet of a wrong guess of the method', guessClause, 'must', (trial) =>
    wrongGuess(trial, (honest) => ({
      ...honest,
      kexAlgorithms: ['guess@conformance.invalid', ...honest.kexAlgorithms],
    })),
  ),
  check(
    'guess.wrong-host-key',
    'drops the packet of a wrong guess of the host key algorithm',
    guessClause,
    'must',
    (trial) =>
      wrongGuess(trial, (honest) => ({
        ...honest,
        hostKeyAlgorithms: ['guess@conformance.invalid', ...honest.hostKeyAlgorithms],
      })),
  ),
]

export const serverGuessChecks: readonly Check<Trial>[] = [
  check('guess.right', 'uses the packet of a right guess', guessClause, 'must', async (trial) => {
    const peer = await trial.peer('identified')
    const theirs = trial.theirInit
    // Right is only what both sides name first.
    const kex = theirs.kexAlgorithms[0]!
    const hostKey = theirs.hostKeyAlgorithms[0]!
    const exchange = peer.startExchange()
    exchange.sendInit((honest) => ({
      ...honest,
      kexAlgorithms: [kex, ...honest.kexAlgorithms.filter((name) => name !== kex)],
      hostKeyAlgorithms: [hostKey, ...honest.hostKeyAlgorithms.filter((name) => name !== hostKey)],
      firstKexPacketFollows: true,
    }))
    await exchange.sendGuess(kex)
    await exchange.receiveInit()
    await exchange.receiveMethodReply()
    peer.phase = 'exchanged'
    await peer.upTo('keys')
    return `keys with ${kex}`
  }),
]
