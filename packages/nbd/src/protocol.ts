// Numbers of the NBD protocol (doc/proto.md of the NetworkBlockDevice project), under the titles of its sections.
// Names are the document's, in camelCase and without the NBD_ prefix. Data only.

/** "Newstyle negotiation", "Fixed newstyle negotiation", "Request message", "Structured reply chunk message". */
export const magic = {
  /** ASCII 'NBDMAGIC', upper and lower half. */
  init: [0x4e42444d, 0x41474943],
  /** ASCII 'IHAVEOPT'. */
  option: [0x49484156, 0x454f5054],
  optionReply: [0x0003e889, 0x045565a9],
  request: 0x25609513,
  simpleReply: 0x67446698,
  structuredReply: 0x668e33ef,
} as const

/** "Handshake flags", 16 bits. */
export const handshakeFlag = { fixedNewstyle: 1, noZeroes: 2 } as const
/** "Client flags", 32 bits. */
export const clientFlag = { fixedNewstyle: 1, noZeroes: 2 } as const

/** "Transmission flags", 16 bits. */
export const transmissionFlag = {
  hasFlags: 1 << 0,
  readOnly: 1 << 1,
  sendFlush: 1 << 2,
  sendFua: 1 << 3,
  rotational: 1 << 4,
  sendTrim: 1 << 5,
  sendWriteZeroes: 1 << 6,
  sendDf: 1 << 7,
  canMultiConn: 1 << 8,
  sendResize: 1 << 9,
  sendCache: 1 << 10,
  sendFastZero: 1 << 11,
} as const

/** "Option types". */
export const option = {
  exportName: 1,
  abort: 2,
  list: 3,
  peekExport: 4,
  starttls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
  extendedHeaders: 11,
} as const

/** "Option reply types". Errors have bit 31 set. */
export const optionReply = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  errUnsup: 0x8000_0001,
  errPolicy: 0x8000_0002,
  errInvalid: 0x8000_0003,
  errPlatform: 0x8000_0004,
  errTlsReqd: 0x8000_0005,
  errUnknown: 0x8000_0006,
  errShutdown: 0x8000_0007,
  errBlockSizeReqd: 0x8000_0008,
  errTooBig: 0x8000_0009,
} as const

/** Information types of NBD_REP_INFO. */
export const infoType = { export: 0, name: 1, description: 2, blockSize: 3 } as const

/** "Request types". */
export const command = {
  read: 0,
  write: 1,
  disc: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const

/** "Command flags", 16 bits. */
export const commandFlag = { fua: 1, noHole: 2, df: 4, reqOne: 8, fastZero: 16 } as const

/** "Structured reply flags". */
export const replyFlag = { done: 1 } as const

/** "Structured reply types". Error chunks have bit 15 set. */
export const replyType = {
  none: 0,
  offsetData: 1,
  offsetHole: 2,
  blockStatus: 5,
  error: 0x8001,
  errorOffset: 0x8002,
} as const

/** "Error values". */
export const nbdError = {
  none: 0,
  eperm: 1,
  eio: 5,
  enomem: 12,
  einval: 22,
  enospc: 28,
  eoverflow: 75,
  enotsup: 95,
  eshutdown: 108,
} as const

/** "base:allocation metadata context": its name, the id that we give it, and its flags. */
export const baseAllocation = { name: 'base:allocation', id: 1, hole: 1, zero: 2 } as const
