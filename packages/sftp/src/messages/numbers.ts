// Packet types of SFTP version 3 (draft-ietf-secsh-filexfer-02 s3), names without SSH_FXP_.

/** The version this package speaks, in INIT and VERSION (draft s4). */
export const protocolVersion = 3

export const packetType = {
  init: 1,
  version: 2,
  open: 3,
  close: 4,
  read: 5,
  write: 6,
  lstat: 7,
  fstat: 8,
  setstat: 9,
  fsetstat: 10,
  opendir: 11,
  readdir: 12,
  remove: 13,
  mkdir: 14,
  rmdir: 15,
  realpath: 16,
  stat: 17,
  rename: 18,
  readlink: 19,
  symlink: 20,
  status: 101,
  handle: 102,
  data: 103,
  name: 104,
  attrs: 105,
  extended: 200,
  extendedReply: 201,
} as const

const names = new Map<number, string>(
  Object.entries(packetType).map(([name, number]) => [number, name.replace(/[A-Z]/g, '_$&').toUpperCase()]),
)

/** The draft's name of a packet type without SSH_FXP_, or its number in words. For people. */
export function packetTypeName(type: number): string {
  return names.get(type) ?? `packet type ${type}`
}
