// Bounds that no clause names but that every server on the open net needs: what a stranger can make it read.

import { IGNORE } from '../../messages/numbers.ts'
import { ignore } from '../../messages/transport.ts'
import { Unexpected } from '../arrival.ts'
import { type Check, check } from '../check.ts'
import { payloadOf } from '../message-table.ts'
import type { Trial } from '../trial.ts'

const clause = 'RFC 4253 s14, RFC 4251 s9.3.5'

export const serverLimitChecks: readonly Check<Trial>[] = [
  check(
    'limits.pre-auth-packets',
    'ends the connection of a stranger who sends 20000 packets',
    clause,
    'guard',
    async (trial) => {
      const peer = await trial.peer('service')
      for (let at = 0; at < 20_000 && !peer.wire.ended; at++) peer.send(payloadOf(IGNORE))
      return ends(peer)
    },
  ),
  check(
    'limits.pre-auth-bytes',
    'ends the connection of a stranger who sends 8 MiB',
    clause,
    'guard',
    async (trial) => {
      const peer = await trial.peer('service')
      const data = new Uint8Array(32_000)
      for (let sent = 0; sent < 8 * 1024 * 1024 && !peer.wire.ended; sent += data.length) {
        peer.send(ignore, { data })
        if (sent % (64 * data.length) === 0) await peer.wire.flushed()
      }
      return ends(peer)
    },
  ),
]

/** The end of the connection, without waiting where the peer shows that it goes on. */
async function ends(peer: Awaited<ReturnType<Trial['peer']>>): Promise<string> {
  peer.send(Uint8Array.of(19))
  try {
    return await peer.expectDisconnect()
  } catch (error) {
    if (error instanceof Unexpected) throw new Unexpected(error.expected, 'an answer to what followed')
    throw error
  }
}
