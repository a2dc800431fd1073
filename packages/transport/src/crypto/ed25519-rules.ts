// Public keys that Ed25519 verification refuses here, whatever the library below accepts (RFC 8032 s5.1.3 and s5.1.7).
// A key of small order verifies signatures over messages its holder never chose; an encoding that is not canonical gives one
// key two names. OpenSSL refuses neither; noble's strict mode both. S < L is checked by both libraries.

import { fromHex } from '../wire/bytes.ts'

/** Little-endian y coordinates of the eight points whose order divides 8, sign bit clear: 1, -1, 0, and those of order 8. */
const smallOrderY = [
  '0100000000000000000000000000000000000000000000000000000000000000',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  '0000000000000000000000000000000000000000000000000000000000000000',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
].map((hex) => fromHex(hex)!)

/** Whether a 32-byte public key is canonically encoded (y < p) and not of small order. Public data: not constant time. */
export function isAcceptableEd25519Key(publicKey: Uint8Array): boolean {
  return publicKey.length === 32 && isCanonical(publicKey) && !smallOrderY.some((y) => sameY(publicKey, y))
}

/** y < p = 2^255 - 19: p is ed ff .. ff 7f in little-endian order. */
function isCanonical(key: Uint8Array): boolean {
  if ((key[31]! & 0x7f) !== 0x7f) return true
  for (let i = 30; i > 0; i--) if (key[i] !== 0xff) return true
  return key[0]! < 0xed
}

function sameY(key: Uint8Array, y: Uint8Array): boolean {
  for (let i = 0; i < 31; i++) if (key[i] !== y[i]) return false
  return (key[31]! & 0x7f) === y[31]
}
