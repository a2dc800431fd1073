import type { RandomSource } from '../crypto/provider.ts'
import { disconnectReason } from '../messages/numbers.ts'
import { disconnect } from '../messages/transport.ts'
import { identificationLine } from '../packet/identification.ts'
import { Outbound } from '../packet/outbound.ts'
import { plaintextSuite } from '../packet/plaintext.ts'

/**
 * What a client that is one too many gets: our identification and DISCONNECT 12 (RFC 4253 s11.1), unencrypted, ready to be
 * sent to any number of clients. Nothing is kept or computed for them.
 */
export function refusalBytes(identification: string, random: RandomSource): Uint8Array {
  const noKeys = { iv: new Uint8Array(0), key: new Uint8Array(0), macKey: new Uint8Array(0) }
  const outbound = new Outbound(plaintextSuite.sealer(noKeys), random, () => {})
  outbound.raw(identificationLine(identification))
  const writer = outbound.begin()
  disconnect.encode(writer, {
    reason: disconnectReason.tooManyConnections,
    description: 'too many connections',
  })
  writer.text('')
  outbound.end()
  return outbound.take()!.slice()
}
