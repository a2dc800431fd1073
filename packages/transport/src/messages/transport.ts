// Transport layer generic messages (RFC 4253 s10, s11; RFC 8308 s2.3; OpenSSH PROTOCOL "ping@openssh.com").

import { bool, message, rest, string, text, u32 } from '../wire/codec.ts'
import * as number from './numbers.ts'

/** RFC 4253 s11.1. Some peers leave the language tag out or append to it, so what follows is not checked: the connection ends anyway. */
export const disconnect = message(
  'DISCONNECT',
  number.DISCONNECT,
  { reason: u32, description: text },
  { trailing: 'ignore' },
)
/** RFC 4253 s11.2. */
export const ignore = message('IGNORE', number.IGNORE, { data: string }, { trailing: 'ignore' })
/** RFC 4253 s11.4. */
export const unimplemented = message('UNIMPLEMENTED', number.UNIMPLEMENTED, { sequence: u32 })
/** RFC 4253 s11.3. */
export const debug = message('DEBUG', number.DEBUG, { alwaysDisplay: bool, text }, { trailing: 'ignore' })
/** RFC 4253 s10. */
export const serviceRequest = message('SERVICE_REQUEST', number.SERVICE_REQUEST, { service: text })
/** RFC 4253 s10. */
export const serviceAccept = message('SERVICE_ACCEPT', number.SERVICE_ACCEPT, { service: text })
/** RFC 8308 s2.3; `extensions` is read by `readExtensions`. */
export const extInfo = message('EXT_INFO', number.EXT_INFO, { count: u32, extensions: rest })
/** OpenSSH PROTOCOL 1.9 "transport: ping facility". */
export const ping = message('PING', number.PING, { data: string })
export const pong = message('PONG', number.PONG, { data: string })
