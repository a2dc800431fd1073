// How many channels a device wants of its first connection at once, so that whoever connects may open them early.

import { isFar } from './image/distance.ts'
import { type ConnectionBehaviour, defaultMaxChannels } from './image/options.ts'

/**
 * Channels by the round trip in milliseconds: one, and where the device is to be written through one for the command that tells
 * who serves us, and over a long way all the lanes there may be.
 */
export function channelWish(
  writable: boolean,
  { maxChannels = defaultMaxChannels, minChannels = 1 }: ConnectionBehaviour,
): (roundTripMs: number) => number {
  if (!writable) return () => 1
  return (roundTripMs) => 1 + (isFar(roundTripMs) ? Math.max(minChannels, maxChannels) : 1)
}
