// The state before the first NEWKEYS: cipher and MAC are "none" (RFC 4253 s6: "When the algorithms are not yet negotiated").
// Nothing is encrypted or checked but the form of the packet. Never negotiable: it is no entry of suites.ts.

import { readU32 } from '../wire/bytes.ts'
import type { CipherSuite, Opener, Sealer } from './cipher.ts'
import { checkPacketLength, lengthFieldBytes, payloadOf } from './frame.ts'

/** RFC 4253 s6: without a cipher, packets fill up to multiples of 8. */
const blockSize = 8

const opener: Opener = {
  headerLength: lengthFieldBytes,
  lookahead: 1,
  sealedLength(bytes, at) {
    const packetLength = readU32(bytes, at)
    checkPacketLength(packetLength, blockSize, true)
    return lengthFieldBytes + packetLength
  },
  open: (sealed) => payloadOf(sealed.subarray(lengthFieldBytes)),
  destroy() {},
}

const sealer: Sealer = {
  blockSize,
  lengthInBlock: true,
  tagLength: 0,
  seal() {},
  destroy() {},
}

/** The suite of a connection without keys; its keys are empty arrays. Payloads are views of the packet. */
export const plaintextSuite: CipherSuite = {
  name: 'none',
  ivLength: 0,
  keyLength: 0,
  macKeyLength: 0,
  opener: () => opener,
  sealer: () => sealer,
}
