// One key exchange as a line of a key log, with which Wireshark decrypts a recorded connection (preference ssh.keylog_file,
// epan/dissectors/packet-ssh.c): "COOKIE SHARED_SECRET K" in hex, where COOKIE is that of one side's KEXINIT.
// Whoever has a line reads everything that was sent under its keys: only what was asked for by name writes one.

import { readU32, toHex } from '../wire/bytes.ts'

/** Takes lines without line end. What it throws fails the connection. */
export type KeyLog = (line: string) => void

/**
 * @param cookie of the KEXINIT of either side, 16 bytes
 * @param encodedSecret K as it entered the exchange hash: an mpint, or a string for the hybrid methods
 */
export function keyLogLine(cookie: Uint8Array, encodedSecret: Uint8Array): string {
  const secret = encodedSecret.subarray(4, 4 + readU32(encodedSecret, 0))
  return `${toHex(cookie)} SHARED_SECRET ${toHex(secret)}`
}
