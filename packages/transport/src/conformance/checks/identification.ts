// The identification exchange (RFC 4253 s4.2): one line each way before the first packet.

import { maxIdentificationBytes } from '../../limits.ts'
import { DISCONNECT, KEX_INIT, KEXINIT } from '../../messages/numbers.ts'
import { utf8Bytes } from '../../wire/bytes.ts'
import { describeArrival, Unexpected } from '../arrival.ts'
import { type Check, check } from '../check.ts'
import type { ScriptedPeer } from '../scripted-peer.ts'
import type { Trial } from '../trial.ts'

const clause = 'RFC 4253 s4.2'
const line = /^SSH-(2\.0|1\.99)-[\x21-\x2c\x2e-\x7e]+( [\x20-\x7e]*)?\r\n$/
const floodBytes = 128 * 1024

/** Our identification, padded to a line of exactly this many bytes with CR LF. */
function identificationOf(bytes: number): string {
  const start = 'SSH-2.0-conformance_'
  return start + 'x'.repeat(bytes - 2 - start.length)
}

/** Sends these bytes in place of an identification; the peer has to hang up. */
async function refused(trial: Trial, bytes: string): Promise<string> {
  const peer = await trial.introduced()
  peer.sendRaw(bytes)
  return endOfPlaintext(peer)
}

/** How a connection without keys ended. Its KEXINIT and a guess may come first, and old peers say why in plain text. */
async function endOfPlaintext(peer: ScriptedPeer): Promise<string> {
  for (;;) {
    const arrival = await peer.next()
    if (arrival.kind === 'message' && (arrival.number === KEXINIT || arrival.number === KEX_INIT)) continue
    if (arrival.kind === 'end' || (arrival.kind === 'message' && arrival.number === DISCONNECT))
      return describeArrival(arrival)
    if (arrival.kind === 'broken' && (await peer.wire.ends(peer.patienceMs)))
      return 'plain text, end of connection'
    throw new Unexpected('the end of the connection', describeArrival(arrival))
  }
}

export const identificationChecks: readonly Check<Trial>[] = [
  check(
    'identification.form',
    'sends SSH-2.0-software, printable, at most 255 bytes, ended by CR LF',
    clause,
    'must',
    async (trial) => {
      const peer = await trial.peer('identified')
      const raw = peer.theirIdentificationLine!
      const text = String.fromCharCode(...raw)
      if (!line.test(text) || raw.length > maxIdentificationBytes)
        throw new Unexpected('a line as the clause has it', JSON.stringify(text))
      return `${raw.length} bytes`
    },
  ),
  check(
    'identification.unprompted',
    'sends its identification without waiting for the other one',
    clause,
    'should',
    async (trial) => {
      await trial.introduced()
      return 'an identification line'
    },
  ),
  check('identification.longest', 'takes a line of 255 bytes', clause, 'must', async (trial) => {
    await trial.peer('keys', { identification: identificationOf(maxIdentificationBytes) })
    return 'a key exchange'
  }),
  check('identification.too-long', 'ends the connection at a line of 256 bytes', clause, 'guard', (trial) =>
    refused(trial, `${identificationOf(maxIdentificationBytes + 1)}\r\n`),
  ),
  check(
    'identification.comment',
    'takes a comment behind the software version',
    clause,
    'must',
    async (trial) => {
      await trial.peer('keys', { identification: 'SSH-2.0-conformance some comment; (with) signs' })
      return 'a key exchange'
    },
  ),
  check(
    'identification.minus',
    'takes a software version with a minus sign in the comment',
    clause,
    'must',
    async (trial) => {
      await trial.peer('keys', { identification: 'SSH-2.0-conformance a-b-c' })
      return 'a key exchange'
    },
  ),
  check('identification.split', 'takes a line that comes byte by byte', clause, 'must', async (trial) => {
    const peer = await trial.introduced()
    for (const byte of utf8Bytes(`${peer.identification}\r\n`)) {
      peer.sendRaw(Uint8Array.of(byte))
      await peer.wire.flushed()
    }
    peer.phase = 'identified'
    await peer.upTo('keys')
    return 'a key exchange'
  }),
  check(
    'identification.with-packets',
    'takes packets that come in one piece with the line',
    clause,
    'must',
    async (trial) => {
      const peer = await trial.introduced()
      peer.sendRaw(`${peer.identification}\r\n`)
      const exchange = peer.startExchange()
      exchange.sendInit()
      await exchange.receiveInit()
      peer.phase = 'kexinit'
      await peer.upTo('keys')
      return 'a key exchange'
    },
  ),
  check(
    'identification.version-1',
    'ends the connection with a peer of protocol 1.5',
    clause,
    'must',
    (trial) => refused(trial, 'SSH-1.5-old\r\n'),
  ),
  check('identification.nul', 'ends the connection at a NUL in the line', clause, 'guard', (trial) =>
    refused(trial, 'SSH-2.0-con\0formance\r\n'),
  ),
  check('identification.endless', 'ends the connection when no line ends', clause, 'guard', (trial) =>
    refused(trial, 'x'.repeat(floodBytes)),
  ),
]

export const serverIdentificationChecks: readonly Check<Trial>[] = [
  check(
    'identification.not-ssh',
    'ends the connection with what is no SSH client',
    clause,
    'guard',
    (trial) => refused(trial, 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'),
  ),
  check(
    'identification.line-before',
    'ends the connection when a client sends a line before its identification',
    clause,
    'guard',
    (trial) => refused(trial, 'hello\r\nSSH-2.0-conformance\r\n'),
  ),
]

export const clientIdentificationChecks: readonly Check<Trial>[] = [
  check(
    'identification.lines-before',
    'passes over lines that the server sends before its identification',
    clause,
    'must',
    async (trial) => {
      const peer = await trial.peer('connected')
      peer.sendRaw('Welcome\r\nThis is not an identification\r\n\r\n')
      await peer.upTo('keys')
      return 'a key exchange'
    },
  ),
  check(
    'identification.1.99',
    'takes a server of version 1.99 for one of 2.0',
    'RFC 4253 s5.1',
    'must',
    async (trial) => {
      await trial.peer('keys', { identification: 'SSH-1.99-conformance' })
      return 'a key exchange'
    },
  ),
  check('identification.many-lines', 'ends the connection at a flood of lines', clause, 'guard', (trial) =>
    refused(trial, 'hello\r\n'.repeat(floodBytes / 7)),
  ),
]
