// Connection protocol messages (RFC 4254). The hot ones, CHANNEL_DATA and CHANNEL_WINDOW_ADJUST, have hand-written
// paths in connection/channel.ts and connection/mux.ts; a test holds both forms equal.

import { bool, message, rest, string, text, u32 } from '../wire/codec.ts'
import * as number from './numbers.ts'

/** RFC 4254 s4. */
export const globalRequest = message('GLOBAL_REQUEST', number.GLOBAL_REQUEST, {
  request: text,
  wantReply: bool,
  payload: rest,
})
export const requestSuccess = message('REQUEST_SUCCESS', number.REQUEST_SUCCESS, { payload: rest })
export const requestFailure = message('REQUEST_FAILURE', number.REQUEST_FAILURE, {})
/** RFC 4254 s5.1. */
export const channelOpen = message('CHANNEL_OPEN', number.CHANNEL_OPEN, {
  channelType: text,
  senderChannel: u32,
  initialWindow: u32,
  maxPacket: u32,
  payload: rest,
})
export const channelOpenConfirmation = message(
  'CHANNEL_OPEN_CONFIRMATION',
  number.CHANNEL_OPEN_CONFIRMATION,
  {
    recipientChannel: u32,
    senderChannel: u32,
    initialWindow: u32,
    maxPacket: u32,
    payload: rest,
  },
)
/** Description and language tag are missing in some peers. */
export const channelOpenFailure = message(
  'CHANNEL_OPEN_FAILURE',
  number.CHANNEL_OPEN_FAILURE,
  { recipientChannel: u32, reason: u32, description: text },
  { trailing: 'ignore' },
)
/** RFC 4254 s5.2. */
export const channelWindowAdjust = message('CHANNEL_WINDOW_ADJUST', number.CHANNEL_WINDOW_ADJUST, {
  recipientChannel: u32,
  bytes: u32,
})
export const channelData = message('CHANNEL_DATA', number.CHANNEL_DATA, {
  recipientChannel: u32,
  data: string,
})
export const channelExtendedData = message('CHANNEL_EXTENDED_DATA', number.CHANNEL_EXTENDED_DATA, {
  recipientChannel: u32,
  dataType: u32,
  data: string,
})
/** RFC 4254 s5.3. */
export const channelEof = message('CHANNEL_EOF', number.CHANNEL_EOF, { recipientChannel: u32 })
export const channelClose = message('CHANNEL_CLOSE', number.CHANNEL_CLOSE, { recipientChannel: u32 })
/** RFC 4254 s5.4. */
export const channelRequest = message('CHANNEL_REQUEST', number.CHANNEL_REQUEST, {
  recipientChannel: u32,
  request: text,
  wantReply: bool,
  payload: rest,
})
export const channelSuccess = message('CHANNEL_SUCCESS', number.CHANNEL_SUCCESS, { recipientChannel: u32 })
export const channelFailure = message('CHANNEL_FAILURE', number.CHANNEL_FAILURE, { recipientChannel: u32 })

/** Request payloads (RFC 4254 s6). */
export const ptyFields = {
  term: text,
  columns: u32,
  rows: u32,
  widthPixels: u32,
  heightPixels: u32,
  modes: string,
}
export const windowChangeFields = { columns: u32, rows: u32, widthPixels: u32, heightPixels: u32 }
export const envFields = { name: text, value: text }
export const execFields = { command: text }
export const subsystemFields = { subsystem: text }
export const signalFields = { signal: text }
export const exitStatusFields = { status: u32 }
export const exitSignalFields = { signal: text, coreDumped: bool, message: text, language: text }
/** Channel open payloads (RFC 4254 s7.2; OpenSSH PROTOCOL 2.4). */
export const directTcpipFields = { host: text, port: u32, originHost: text, originPort: u32 }
export const directStreamlocalFields = { socketPath: text, reserved: string, reservedPort: u32 }
