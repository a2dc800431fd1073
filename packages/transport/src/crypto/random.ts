// The platform's CSPRNG as a RandomSource: Web Crypto's getRandomValues, there in every supported runtime and also on
// insecure origins, where crypto.subtle is not. There is no fallback: without it nothing can be secret, so filling throws.
// Draws of numbers (scalars) from a RandomSource are in scalar.ts.

import type { RandomSource } from './provider.ts'

/** Most bytes one call of getRandomValues may ask for (Web Cryptography API, "getRandomValues method", step 2). */
const maxBytesPerCall = 65_536

/** Makes a RandomSource of a `Crypto`-like object; fills arrays of any length, also views. Errors of the platform pass through. */
export function randomSourceOf(platform: Pick<Crypto, 'getRandomValues'>): RandomSource {
  return (into) => {
    for (let at = 0; at < into.length; at += maxBytesPerCall) {
      // The cast drops shared memory, which no caller of ours uses; getRandomValues rejects it with a TypeError.
      platform.getRandomValues(into.subarray(at, at + maxBytesPerCall) as Uint8Array<ArrayBuffer>)
    }
  }
}

/** The default RandomSource. Looks the platform up at each call, so importing this file never fails. */
export const systemRandom: RandomSource = (into) => randomSourceOf(globalThis.crypto)(into)

/** `length` unpredictable bytes in a new array. */
export function randomBytes(random: RandomSource, length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  random(bytes)
  return bytes
}
