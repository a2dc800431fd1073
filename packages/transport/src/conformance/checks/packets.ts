// The binary packet protocol (RFC 4253 s6): lengths, padding, sizes, integrity. Every rule in every mode of sealing that the
// peer knows, and where it makes sense before there are keys.

import { maxPacketLength, minPadding } from '../../limits.ts'
import { globalRequest } from '../../messages/connection.ts'
import { DISCONNECT, messageName } from '../../messages/numbers.ts'
import { ignore, serviceRequest, unimplemented } from '../../messages/transport.ts'
import { concat } from '../../wire/bytes.ts'
import { Unexpected } from '../arrival.ts'
import { type Check, check, type Level } from '../check.ts'
import { type CipherMode, inEachMode } from '../cipher-modes.ts'
import { payloadOf } from '../message-table.ts'
import type { PacketEdit } from '../packet-writer.ts'
import type { ScriptedPeer } from '../scripted-peer.ts'
import type { Trial } from '../trial.ts'

const clause = 'RFC 4253 s6'
const sizeClause = 'RFC 4253 s6.1'
const integrityClause = 'RFC 4253 s6.4'
/** What everybody must be able to take (RFC 4253 s6.1). */
const requiredPayloadBytes = 32_768
const maxPaddingBytes = 255

/** IGNORE with a payload of exactly this many bytes, 5 at least. */
function ignoreOf(payloadBytes: number): Uint8Array {
  return ignore.bytes({ data: new Uint8Array(payloadBytes - 5) })
}

/** A payload length that takes exactly `padding` bytes of padding to fill up to whole blocks. */
function payloadLengthFor(peer: ScriptedPeer, mode: CipherMode, padding: number): number {
  const { blockSize } = peer.wire.writer
  const counted = (mode.lengthInBlock ? 4 : 0) + 1 + padding
  return 4 * blockSize - (counted % blockSize)
}

/** Sends wrong packets, one a connection; each has to end it. */
function refuses(
  id: string,
  claim: string,
  clauseOf: string,
  level: Level,
  edits: (peer: ScriptedPeer, mode: CipherMode) => { payload: Uint8Array; edit: PacketEdit },
  options: { plain?: boolean; only?: (mode: CipherMode) => boolean } = {},
): Check<Trial> {
  return check(id, claim, clauseOf, level, (trial) =>
    inEachMode(
      trial,
      async (peer, mode) => {
        const { payload, edit } = edits(peer, mode)
        peer.send(payload, edit)
        return peer.expectDisconnect()
      },
      options,
    ),
  )
}

/** Sends unusual but legal packets; the peer has to go on. */
function takes(
  id: string,
  claim: string,
  clauseOf: string,
  send: (peer: ScriptedPeer, mode: CipherMode) => unknown,
): Check<Trial> {
  return check(id, claim, clauseOf, 'must', (trial) =>
    inEachMode(trial, async (peer, mode) => {
      await send(peer, mode)
      await trial.expectGoesOn(peer)
      return 'an answer to what followed'
    }),
  )
}

/** A packet_length that fills whole blocks: as close to `bytes` as that allows. */
function alignedLength(peer: ScriptedPeer, mode: CipherMode, bytes: number): number {
  const whole = Math.ceil(bytes / peer.wire.writer.blockSize) * peer.wire.writer.blockSize
  return mode.lengthInBlock ? whole - 4 : whole
}

const withPlain = { plain: true }
const small = payloadOf(ignore.number)

export const packetChecks: readonly Check<Trial>[] = [
  refuses(
    'packets.length-0',
    'ends the connection at packet_length 0',
    clause,
    'guard',
    () => ({ payload: small, edit: { packetLength: 0 } }),
    withPlain,
  ),
  refuses(
    'packets.length-short',
    'ends the connection at a packet_length too short for padding',
    clause,
    'guard',
    () => ({ payload: small, edit: { packetLength: 4 } }),
    withPlain,
  ),
  refuses(
    'packets.length-unaligned',
    'ends the connection at a packet that does not fill whole blocks',
    clause,
    'guard',
    (peer) => ({ payload: small, edit: { paddingBytes: peer.wire.writer.paddingFor(small.length) + 1 } }),
    withPlain,
  ),
  refuses(
    'packets.length-huge',
    'ends the connection at packet_length 1 MiB without waiting for so much',
    sizeClause,
    'should',
    (peer, mode) => ({
      payload: small,
      edit: { packetLength: alignedLength(peer, mode, 4 * maxPacketLength) },
    }),
    withPlain,
  ),
  refuses(
    'packets.length-negative',
    'ends the connection at packet_length 2^32 - 16 without waiting for so much',
    sizeClause,
    'should',
    (_peer, mode) => ({
      payload: small,
      edit: { packetLength: mode.lengthInBlock ? 0xffff_ffec : 0xffff_fff0 },
    }),
    withPlain,
  ),
  refuses(
    'packets.padding-short',
    'ends the connection at 3 bytes of padding',
    clause,
    'guard',
    (peer, mode) => ({
      payload: ignoreOf(payloadLengthFor(peer, mode, minPadding - 1)),
      edit: { paddingBytes: minPadding - 1 },
    }),
    withPlain,
  ),
  refuses(
    'packets.padding-long',
    'ends the connection at a padding_length beyond the packet',
    clause,
    'guard',
    () => ({ payload: small, edit: { paddingLength: maxPaddingBytes } }),
    withPlain,
  ),
  refuses(
    'packets.empty',
    'ends the connection at a packet without a payload',
    clause,
    'guard',
    () => ({ payload: new Uint8Array(0), edit: {} }),
    withPlain,
  ),
  takes('packets.padding-255', 'takes as much padding as there can be', clause, (peer, mode) => {
    const most = peer.wire.writer.paddingFor(small.length)
    const { blockSize } = peer.wire.writer
    const padding = most + Math.floor((maxPaddingBytes - most) / blockSize) * blockSize
    peer.send(small, { paddingBytes: padding })
    // 255 itself, which needs a payload of the right length.
    peer.send(ignoreOf(payloadLengthFor(peer, mode, maxPaddingBytes)), { paddingBytes: maxPaddingBytes })
  }),
  takes('packets.minimum', 'takes the shortest packet that there can be', clause, (peer) => {
    // One byte of payload would be the shortest; no message that may come at any time is shorter than UNIMPLEMENTED.
    peer.send(payloadOf(unimplemented.number))
  }),
  takes('packets.payload-32768', 'takes a payload of 32768 bytes', sizeClause, (peer) => {
    peer.send(ignoreOf(requiredPayloadBytes))
  }),
  takes(
    'packets.payload-padded',
    'takes a payload of 32768 bytes with as much padding as there can be',
    sizeClause,
    (peer) => {
      const payload = ignoreOf(requiredPayloadBytes)
      const { blockSize } = peer.wire.writer
      const least = peer.wire.writer.paddingFor(payload.length)
      peer.send(payload, {
        paddingBytes: least + Math.floor((maxPaddingBytes - least) / blockSize) * blockSize,
      })
    },
  ),
  takes('packets.many-in-one', 'takes a hundred packets that come in one piece', clause, (peer) => {
    const packets: Uint8Array[] = []
    const collect = (packet: Uint8Array): Uint8Array => {
      packets.push(packet)
      return new Uint8Array(0)
    }
    for (let at = 0; at < 100; at++) peer.send(ignoreOf(5 + at), { sealed: collect })
    peer.sendRaw(concat(...packets))
  }),
  takes('packets.split', 'takes a packet that comes byte by byte', clause, async (peer) => {
    let whole = new Uint8Array(0)
    peer.send(ignoreOf(21), {
      sealed: (packet) => {
        whole = packet.slice()
        return new Uint8Array(0)
      },
    })
    for (const byte of whole) {
      peer.sendRaw(Uint8Array.of(byte))
      await peer.wire.flushed()
    }
  }),
]

const serviceQuestion = serviceRequest.bytes({ service: 'ssh-userauth' })
const globalQuestion = globalRequest.bytes({ request: 'x', wantReply: true, payload: new Uint8Array(0) })

const corrupted = (corrupt: NonNullable<PacketEdit['corrupt']>) => () => ({
  payload: small,
  edit: { corrupt },
})

/** A wrong length makes a peer wait for bytes that never come; more packets behind bring them. */
async function lengthFlip(trial: Trial): Promise<string> {
  return inEachMode(trial, async (peer) => {
    // The lowest bits would break the alignment, which has a check of its own; this one asks for more bytes.
    const flip = (packet: Uint8Array): Uint8Array => {
      packet[2]! ^= 1
      return packet
    }
    peer.send(small, { sealed: flip })
    for (let at = 0; at < 16; at++) peer.send(ignoreOf(1024))
    return peer.expectDisconnect()
  })
}

export const integrityChecks: readonly Check<Trial>[] = [
  refuses(
    'integrity.tag-start',
    'ends the connection at a bit flipped in the first byte of MAC or tag',
    integrityClause,
    'must',
    corrupted('tag start'),
  ),
  refuses(
    'integrity.tag-end',
    'ends the connection at a bit flipped in the last byte of MAC or tag',
    integrityClause,
    'must',
    corrupted('tag end'),
  ),
  refuses(
    'integrity.body',
    'ends the connection at a bit flipped in the payload',
    integrityClause,
    'must',
    corrupted('body'),
  ),
  check(
    'integrity.length',
    'ends the connection at a bit flipped in the length',
    integrityClause,
    'must',
    lengthFlip,
  ),
  refuses(
    'integrity.sequence',
    'ends the connection at a packet sealed for another place in the sequence',
    integrityClause,
    'must',
    (peer) => ({ payload: small, edit: { sequence: peer.wire.writer.sequence + 1 } }),
    { only: (mode) => mode.checksSequence },
  ),
  refuses(
    'integrity.replay',
    'ends the connection at a packet that comes twice',
    integrityClause,
    'must',
    () => ({
      payload: small,
      edit: { sealed: (packet: Uint8Array) => concat(packet, packet) },
    }),
  ),
  check(
    'integrity.order',
    'ends the connection at two packets that change places',
    integrityClause,
    'must',
    (trial) =>
      inEachMode(trial, async (peer) => {
        let first = new Uint8Array(0)
        peer.send(small, {
          sealed: (packet) => {
            first = packet.slice()
            return new Uint8Array(0)
          },
        })
        peer.send(small, { sealed: (packet) => concat(packet, first) })
        return peer.expectDisconnect()
      }),
  ),
  check(
    'integrity.no-answer',
    'does nothing that an altered packet asks for',
    integrityClause,
    'must',
    (trial) =>
      inEachMode(trial, async (peer) => {
        const before = peer.seen.length
        const probe = trial.target.role === 'server' ? serviceQuestion : globalQuestion
        peer.send(probe, { corrupt: 'tag end' })
        const came = await peer.expectDisconnect()
        const answers = peer.seen
          .slice(before)
          .filter((message) => message.number !== DISCONNECT && !peer.isBackground(message))
        if (answers.length > 0) throw new Unexpected('no answer', messageName(answers[0]!.number))
        return came
      }),
  ),
]
