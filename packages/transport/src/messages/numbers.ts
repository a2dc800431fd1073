// Message numbers (RFC 4250 s4.1, RFC 8308 s2.3, OpenSSH PROTOCOL "ping"), and the ranges that the phase gate speaks of.

export const DISCONNECT = 1
export const IGNORE = 2
export const UNIMPLEMENTED = 3
export const DEBUG = 4
export const SERVICE_REQUEST = 5
export const SERVICE_ACCEPT = 6
export const EXT_INFO = 7
export const NEWCOMPRESS = 8
export const KEXINIT = 20
export const NEWKEYS = 21
/** Method-specific key exchange messages are 30 to 49; all of ours use these two. */
export const KEX_INIT = 30
export const KEX_REPLY = 31
export const USERAUTH_REQUEST = 50
export const USERAUTH_FAILURE = 51
export const USERAUTH_SUCCESS = 52
export const USERAUTH_BANNER = 53
/** 60 to 79 are method-specific: 60 is PK_OK, PASSWD_CHANGEREQ or INFO_REQUEST by the method in progress. */
export const USERAUTH_METHOD_60 = 60
export const USERAUTH_INFO_RESPONSE = 61
export const GLOBAL_REQUEST = 80
export const REQUEST_SUCCESS = 81
export const REQUEST_FAILURE = 82
export const CHANNEL_OPEN = 90
export const CHANNEL_OPEN_CONFIRMATION = 91
export const CHANNEL_OPEN_FAILURE = 92
export const CHANNEL_WINDOW_ADJUST = 93
export const CHANNEL_DATA = 94
export const CHANNEL_EXTENDED_DATA = 95
export const CHANNEL_EOF = 96
export const CHANNEL_CLOSE = 97
export const CHANNEL_REQUEST = 98
export const CHANNEL_SUCCESS = 99
export const CHANNEL_FAILURE = 100
export const PING = 192
export const PONG = 193

/** Disconnect reason codes (RFC 4253 s11.1). */
export const disconnectReason = {
  hostNotAllowed: 1,
  protocolError: 2,
  keyExchangeFailed: 3,
  macError: 5,
  compressionError: 6,
  serviceNotAvailable: 7,
  versionNotSupported: 8,
  hostKeyNotVerifiable: 9,
  connectionLost: 10,
  byApplication: 11,
  tooManyConnections: 12,
  authCancelled: 13,
  noMoreAuthMethods: 14,
  illegalUserName: 15,
} as const

/** Reasons of CHANNEL_OPEN_FAILURE (RFC 4254 s5.1). */
export const openFailure = {
  administrativelyProhibited: 1,
  connectFailed: 2,
  unknownChannelType: 3,
  resourceShortage: 4,
} as const

const names = new Map<number, string>([
  [DISCONNECT, 'DISCONNECT'],
  [IGNORE, 'IGNORE'],
  [UNIMPLEMENTED, 'UNIMPLEMENTED'],
  [DEBUG, 'DEBUG'],
  [SERVICE_REQUEST, 'SERVICE_REQUEST'],
  [SERVICE_ACCEPT, 'SERVICE_ACCEPT'],
  [EXT_INFO, 'EXT_INFO'],
  [NEWCOMPRESS, 'NEWCOMPRESS'],
  [KEXINIT, 'KEXINIT'],
  [NEWKEYS, 'NEWKEYS'],
  [KEX_INIT, 'KEX_INIT'],
  [KEX_REPLY, 'KEX_REPLY'],
  [USERAUTH_REQUEST, 'USERAUTH_REQUEST'],
  [USERAUTH_FAILURE, 'USERAUTH_FAILURE'],
  [USERAUTH_SUCCESS, 'USERAUTH_SUCCESS'],
  [USERAUTH_BANNER, 'USERAUTH_BANNER'],
  [USERAUTH_METHOD_60, 'USERAUTH_60'],
  [USERAUTH_INFO_RESPONSE, 'USERAUTH_INFO_RESPONSE'],
  [GLOBAL_REQUEST, 'GLOBAL_REQUEST'],
  [REQUEST_SUCCESS, 'REQUEST_SUCCESS'],
  [REQUEST_FAILURE, 'REQUEST_FAILURE'],
  [CHANNEL_OPEN, 'CHANNEL_OPEN'],
  [CHANNEL_OPEN_CONFIRMATION, 'CHANNEL_OPEN_CONFIRMATION'],
  [CHANNEL_OPEN_FAILURE, 'CHANNEL_OPEN_FAILURE'],
  [CHANNEL_WINDOW_ADJUST, 'CHANNEL_WINDOW_ADJUST'],
  [CHANNEL_DATA, 'CHANNEL_DATA'],
  [CHANNEL_EXTENDED_DATA, 'CHANNEL_EXTENDED_DATA'],
  [CHANNEL_EOF, 'CHANNEL_EOF'],
  [CHANNEL_CLOSE, 'CHANNEL_CLOSE'],
  [CHANNEL_REQUEST, 'CHANNEL_REQUEST'],
  [CHANNEL_SUCCESS, 'CHANNEL_SUCCESS'],
  [CHANNEL_FAILURE, 'CHANNEL_FAILURE'],
  [PING, 'PING'],
  [PONG, 'PONG'],
])

/** 'KEXINIT (20)', or 'message 99' where it has no name: for errors and traces. */
export function messageName(number: number): string {
  const name = names.get(number)
  return name === undefined ? `message ${number}` : `${name} (${number})`
}
