import { describe, expect, test } from 'vitest'
import { nodeCrypto } from '../../../packages/transport/src/crypto/node.ts'
import { IntegrityError, ProtocolError } from '../../../packages/transport/src/errors.ts'
import { maxPacketLength } from '../../../packages/transport/src/limits.ts'
import type { CipherSuite, Sealer } from '../../../packages/transport/src/packet/cipher.ts'
import { checkPacketLength, payloadOf } from '../../../packages/transport/src/packet/frame.ts'
import { seededBytes } from '../crypto/providers.ts'
import { type FrameChoices, frame, keysOf, modes, opened, sealed } from './suite-cases.ts'

/** The first bytes of a packet that claims this length, sealed, so that only its own rules can object. */
function header(suite: CipherSuite, packetLength: number): Uint8Array {
  const sealer = suite.sealer(keysOf(suite))
  const packet = frame(sealer, new Uint8Array(42), { packetLength })
  sealer.seal(packet, 0)
  return packet
}

const lengthOf = (suite: CipherSuite, packetLength: number) =>
  suite.opener(keysOf(suite)).sealedLength(header(suite, packetLength), 0, 0)

/** What the length counts towards the block multiple. */
const counted = (sealer: Sealer, packetLength: number) => packetLength + (sealer.lengthInBlock ? 4 : 0)

describe.each(modes)('packets of %s', (_name, suiteOf) => {
  const suite = suiteOf(nodeCrypto)
  const sealer = suite.sealer(keysOf(suite))
  const { blockSize, tagLength } = sealer
  const isAligned = (packetLength: number) => counted(sealer, packetLength) % blockSize === 0
  const largest = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
    .map((less) => maxPacketLength - less)
    .find(isAligned)!

  test.each([0, 1, 2, 3, 4])('refuse packet_length %i', (packetLength) => {
    expect(() => lengthOf(suite, packetLength)).toThrow(ProtocolError)
  })

  test.each([maxPacketLength + 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1])(
    'refuse packet_length %i',
    (packetLength) => {
      expect(() => lengthOf(suite, packetLength)).toThrow(
        `packet_length is ${packetLength}, not from 5 to 262144`,
      )
    },
  )

  test('refuse the next aligned lengths beyond the limit', () => {
    expect(isAligned(largest + blockSize)).toBe(true)
    expect(() => lengthOf(suite, largest + blockSize)).toThrow(ProtocolError)
    // -4, -8, -12 and -16 as u32: sums with header and tag would wrap below zero.
    for (const packetLength of [2 ** 32 - 4, 2 ** 32 - 8, 2 ** 32 - 12, 2 ** 32 - 16, 2 ** 32 - 20]) {
      expect(() => lengthOf(suite, packetLength)).toThrow(ProtocolError)
    }
  })

  test('refuse each packet_length that does not fill blocks, and say how long the others are', () => {
    for (let packetLength = 5; packetLength <= 5 + 3 * blockSize; packetLength++) {
      if (isAligned(packetLength)) expect(lengthOf(suite, packetLength)).toBe(4 + packetLength + tagLength)
      else expect(() => lengthOf(suite, packetLength)).toThrow(ProtocolError)
    }
    expect(() => lengthOf(suite, largest - 1)).toThrow(ProtocolError)
  })

  test('may be as long as the limit, which is told without a byte of it being there', async () => {
    expect(lengthOf(suite, largest)).toBe(4 + largest + tagLength)
    const payload = seededBytes('large', largest - 1 - 4)
    const packet = await sealed(suite.sealer(keysOf(suite)), payload, 0)
    expect(packet.length).toBe(4 + largest + tagLength)
    expect((await opened(suite.opener(keysOf(suite)), packet, 0)).length).toBe(payload.length)
  })

  test('are judged by no more than the header', () => {
    const opener = suite.opener(keysOf(suite))
    const packet = header(suite, 2 ** 32 - 1)
    expect(() => opener.sealedLength(packet.subarray(0, opener.headerLength), 0, 0)).toThrow(ProtocolError)
  })

  /** Opens an authentic packet whose fields are not honest. */
  const openForged = async (payload: number, choices: FrameChoices) => {
    const packet = await sealed(suite.sealer(keysOf(suite)), new Uint8Array(payload).fill(1), 0, choices)
    return await opened(suite.opener(keysOf(suite)), packet, 0)
  }

  /** An honest packet has this many padding bytes after 10 bytes of payload. */
  const padding = frame(sealer, new Uint8Array(10)).length - 15 - tagLength
  const packetLength = 1 + 10 + padding

  test.each([0, 1, 2, 3])('refuse padding_length %i', async (paddingLength) => {
    await expect(openForged(10, { paddingLength })).rejects.toThrow(ProtocolError)
  })

  test('refuse padding that leaves no payload, or is longer than the packet', async () => {
    for (const paddingLength of [packetLength - 1, packetLength, packetLength + 1, 255]) {
      await expect(openForged(10, { paddingLength })).rejects.toThrow(ProtocolError)
    }
  })

  test('take padding of 4 bytes and padding that leaves one byte of payload', async () => {
    expect(await openForged(10, { paddingLength: 4 })).toHaveLength(packetLength - 5)
    expect(await openForged(10, { paddingLength: packetLength - 2 })).toHaveLength(1)
  })

  test('take 255 bytes of padding', async () => {
    const payload = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16].find((length) =>
      isAligned(1 + length + 255),
    )!
    expect(await openForged(payload, { padding: 255 })).toHaveLength(payload)
  })

  test('refuse an empty payload', async () => {
    // padding_length counts all that is there: 1 + 0 + padding.
    const whole = [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19].find((length) =>
      isAligned(1 + length),
    )!
    await expect(openForged(0, { padding: whole })).rejects.toThrow('padding_length')
  })
})

test('lengths are rejected as ProtocolError, not as a failed tag, so the peer is told 2 and not 5', () => {
  expect(() => checkPacketLength(3, 8, false)).toThrow(ProtocolError)
  expect(() => checkPacketLength(3, 8, false)).not.toThrow(IntegrityError)
  try {
    checkPacketLength(262_145, 8, false)
    expect.unreachable()
  } catch (error) {
    expect(error).toMatchObject({ code: 'ERR_SSH_PROTOCOL', field: 'packet_length' })
  }
})

test('a payload is a view of the packet', () => {
  const body = Uint8Array.of(4, 90, 91, 0, 0, 0, 0)
  const payload = payloadOf(body)
  expect(payload).toEqual(Uint8Array.of(90, 91))
  expect(payload.buffer).toBe(body.buffer)
})
