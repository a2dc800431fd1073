// Bytes that make a server talk on a channel: the few requests of SFTP that every subsystem 'sftp' answers
// (draft-ietf-secsh-filexfer-02). Enough to fill windows; what the answers mean is the business of the SFTP checks.

import { concat, readU32 } from '../wire/bytes.ts'
import { Writer } from '../wire/writer.ts'

const init = 1
const write = 6
const realpath = 16

function packet(body: Writer): Uint8Array {
  return new Writer(body.length + 4).string(body.bytes()).copy()
}

/** INIT of version 3; the answer is VERSION, 9 bytes at least. */
export const talkInit: Uint8Array = packet(new Writer().u8(init).u32(3))

/** Requests whose answers have 30 bytes at least: REALPATH of '.'. */
export function talkQuestions(count: number): Uint8Array {
  const one = (id: number): Uint8Array => packet(new Writer().u8(realpath).u32(id).text('.'))
  return concat(...Array.from({ length: count }, (_, id) => one(id)))
}

/** A request of `bytes` bytes that is answered with an error: WRITE on a handle that nobody opened. */
export function talkAtLength(bytes: number): Uint8Array {
  const headBytes = 4 + 1 + 4 + 4 + 1 + 8 + 4
  const data = new Uint8Array(Math.max(0, bytes - headBytes))
  return packet(new Writer(bytes).u8(write).u32(7).text('x').u64(0n).string(data))
}

/** How many whole answers there are in what came on the channel. */
export function countAnswers(data: Uint8Array): number {
  let count = 0
  for (let at = 0; at + 4 <= data.length; count++) {
    at += 4 + readU32(data, at)
    if (at > data.length) break
  }
  return count
}
