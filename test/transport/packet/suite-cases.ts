// Every cipher suite there is, and packets framed as the outbound layer frames them.

import type { CryptoProvider } from '../../../packages/transport/src/crypto/provider.ts'
import type {
  CipherSuite,
  DirectionKeys,
  Opener,
  Sealer,
} from '../../../packages/transport/src/packet/cipher.ts'
import { plaintextSuite } from '../../../packages/transport/src/packet/plaintext.ts'
import {
  cipherSuite,
  isAead,
  knownCiphers,
  knownMacs,
} from '../../../packages/transport/src/packet/suites.ts'
import { writeU32 } from '../../../packages/transport/src/wire/bytes.ts'
import { seededBytes } from '../crypto/providers.ts'

export interface SuiteCase {
  name: string
  suite(crypto: CryptoProvider): CipherSuite
}

const encrypted: SuiteCase[] = knownCiphers.flatMap((cipher) =>
  (isAead(cipher) ? [undefined] : knownMacs).map((mac) => ({
    name: mac === undefined ? cipher : `${cipher}+${mac}`,
    suite: (crypto: CryptoProvider) => cipherSuite(crypto, cipher, mac),
  })),
)

/** All encrypting suites. */
export const encryptedSuites: [string, SuiteCase['suite']][] = encrypted.map(({ name, suite }) => [
  name,
  suite,
])

/** One suite for each mode, and plaintext. */
export const modes: [string, SuiteCase['suite']][] = [
  ['none', () => plaintextSuite],
  ...encryptedSuites.filter(([name]) =>
    [
      'aes256-gcm@openssh.com',
      'chacha20-poly1305@openssh.com',
      'aes128-ctr+hmac-sha2-256',
      'aes256-ctr+hmac-sha2-512-etm@openssh.com',
    ].includes(name),
  ),
]

export function keysOf(suite: CipherSuite, seed = 'keys'): DirectionKeys {
  return {
    iv: seededBytes(`${seed} iv`, suite.ivLength),
    key: seededBytes(`${seed} key`, suite.keyLength),
    macKey: seededBytes(`${seed} mac`, suite.macKeyLength),
  }
}

export interface FrameChoices {
  packetLength?: number
  paddingLength?: number
  /** Bytes of padding there really are; what fills the block by default. */
  padding?: number
  paddingByte?: (index: number) => number
}

/** An unsealed packet with room for the tag, honest unless told otherwise. */
export function frame(sealer: Sealer, payload: Uint8Array, choices: FrameChoices = {}): Uint8Array {
  const { blockSize, lengthInBlock, tagLength } = sealer
  const counted = (lengthInBlock ? 4 : 0) + 1 + payload.length
  let padding = choices.padding ?? blockSize - (counted % blockSize)
  if (choices.padding === undefined && padding < 4) padding += blockSize
  const packet = new Uint8Array(4 + 1 + payload.length + padding + tagLength)
  writeU32(packet, 0, choices.packetLength ?? 1 + payload.length + padding)
  packet[4] = choices.paddingLength ?? padding
  packet.set(payload, 5)
  for (let i = 0; i < padding; i++) packet[5 + payload.length + i] = choices.paddingByte?.(i) ?? 0xa5
  return packet
}

export async function sealed(
  sealer: Sealer,
  payload: Uint8Array,
  sequence: number,
  choices?: FrameChoices,
): Promise<Uint8Array> {
  const packet = frame(sealer, payload, choices)
  await sealer.seal(packet, sequence)
  return packet
}

/** What the inbound layer does with one packet that came whole. */
export async function opened(opener: Opener, packet: Uint8Array, sequence: number): Promise<Uint8Array> {
  const length = opener.sealedLength(packet, 0, sequence)
  if (length !== packet.length)
    throw new Error(`sealedLength says ${length}, the packet has ${packet.length} bytes`)
  return await opener.open(packet, sequence)
}
