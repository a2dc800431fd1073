// The table of all 256 message numbers in one state of a connection: what the peer under test does with each.
// Numbers after which it goes on share a connection; where it hangs up, the next number gets a new one.

import * as number from '../messages/numbers.ts'
import { Writer } from '../wire/writer.ts'
import { Unexpected } from './arrival.ts'

export const allNumbers: readonly number[] = Array.from({ length: 256 }, (_, at) => at)

/** Inside of the ranges that nobody has assigned (RFC 4250 s4.1), of which the two ends stand for all. */
const unassigned: readonly [from: number, to: number][] = [
  [9, 19],
  [22, 29],
  [35, 49],
  [54, 59],
  [67, 79],
  [83, 89],
  [101, 127],
  [128, 191],
  [194, 255],
]

/** The numbers that mean something, with the ends of each range that means nothing: a third of all. */
export const sampleNumbers: readonly number[] = allNumbers.filter(
  (message) => !unassigned.some(([from, to]) => message > from && message < to),
)

/** What became of one message. */
export type Fate =
  /** The connection ended, with or without DISCONNECT. */
  | 'ended'
  /** Answered with UNIMPLEMENTED. */
  | 'unimplemented'
  /** The peer went on as if it had not come. */
  | 'ignored'
  /** Answered with something else. */
  | 'answered'

/** Numbers from 0 to 255 as ranges: '0, 2-19, 21'. */
export function numberRanges(numbers: readonly number[]): string {
  const sorted = [...numbers].sort((a, b) => a - b)
  const ranges: string[] = []
  for (let at = 0; at < sorted.length; ) {
    let end = at
    while (end + 1 < sorted.length && sorted[end + 1] === sorted[end]! + 1) end++
    ranges.push(end === at ? String(sorted[at]) : `${sorted[at]}-${sorted[end]}`)
    at = end + 1
  }
  return ranges.join(', ')
}

/** Fates by message number, in words: 'ended: 0, 3-255; ignored: 2'. */
export function describeFates(fates: ReadonlyMap<number, Fate>): string {
  const byFate = new Map<Fate, number[]>()
  for (const [message, fate] of fates) byFate.set(fate, [...(byFate.get(fate) ?? []), message])
  return [...byFate].map(([fate, numbers]) => `${fate}: ${numberRanges(numbers)}`).join('; ')
}

/** Passes with the fates in words where each is one of `allowed`. @throws Unexpected */
export function requireFates(fates: ReadonlyMap<number, Fate>, allowed: readonly Fate[]): string {
  const wrong = new Map([...fates].filter(([, fate]) => !allowed.includes(fate)))
  if (wrong.size > 0) throw new Unexpected(`${allowed.join(' or ')} for each`, describeFates(wrong))
  return `${fates.size} messages, ${describeFates(fates)}`
}

/**
 * A payload with this number. Generic messages are well-formed, so that only their number can be held against them; the
 * others have a body of zeros, which reads as empty strings and zeros.
 */
export function payloadOf(message: number): Uint8Array {
  const writer = new Writer(64).u8(message)
  switch (message) {
    case number.DISCONNECT:
      return writer.u32(number.disconnectReason.byApplication).text('').text('').copy()
    case number.IGNORE:
      return writer.text('').copy()
    case number.UNIMPLEMENTED:
      return writer.u32(0).copy()
    case number.DEBUG:
      return writer.bool(false).text('').text('').copy()
    case number.NEWKEYS:
      return writer.copy()
    default:
      return writer.raw(new Uint8Array(16)).copy()
  }
}

/** Does `work` with each item, at most `limit` at once. Stops at the first error. */
export async function forEachAtOnce<T>(
  items: readonly T[],
  limit: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < items.length) await work(items[next++]!)
  }
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker))
}
