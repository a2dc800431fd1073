// Key exchange messages (RFC 4253 s7, s8; RFC 5656 s4; RFC 8731 s3).

import { bool, fixed, message, nameList, string, u32 } from '../wire/codec.ts'
import * as number from './numbers.ts'

/** RFC 4253 s7.1. */
export const kexInit = message('KEXINIT', number.KEXINIT, {
  cookie: fixed(16),
  kexAlgorithms: nameList,
  hostKeyAlgorithms: nameList,
  ciphersClientToServer: nameList,
  ciphersServerToClient: nameList,
  macsClientToServer: nameList,
  macsServerToClient: nameList,
  compressionClientToServer: nameList,
  compressionServerToClient: nameList,
  languagesClientToServer: nameList,
  languagesServerToClient: nameList,
  firstKexPacketFollows: bool,
  reserved: u32,
})
/** RFC 4253 s7.3. */
export const newKeys = message('NEWKEYS', number.NEWKEYS, {})
/** KEXDH_INIT, KEX_ECDH_INIT, KEX_HYBRID_INIT: one public value, whose inner form is the method's. */
export const kexMethodInit = message('KEX_INIT', number.KEX_INIT, { clientValue: string })
/** KEXDH_REPLY, KEX_ECDH_REPLY, KEX_HYBRID_REPLY. */
export const kexMethodReply = message('KEX_REPLY', number.KEX_REPLY, {
  hostKey: string,
  serverValue: string,
  signature: string,
})
