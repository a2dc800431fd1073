// The three ways our primitives are made, so that every test can hold all of them to the same answers.

import { createHash } from 'node:crypto'
import { nodeCrypto } from '../../../packages/transport/src/crypto/node.ts'
import type { CryptoProvider, RandomSource } from '../../../packages/transport/src/crypto/provider.ts'
import { webCrypto } from '../../../packages/transport/src/crypto/web.ts'
import { fromHex } from '../../../packages/transport/src/wire/bytes.ts'

export const providers: [string, CryptoProvider][] = [
  ['node:crypto', nodeCrypto],
  ['noble with WebCrypto', webCrypto()],
  ['noble alone', webCrypto({ nobleOnly: true })],
]

// Primitives are called here without a connection in front of them.
for (const [, crypto] of providers) await crypto.prepareCipher?.('aes256-ctr')

/** Pairs of different providers, both ways round. */
export const crossed: [string, CryptoProvider, CryptoProvider][] = providers.flatMap(([a, one]) =>
  providers
    .filter(([b]) => a !== b)
    .map(([b, other]): [string, CryptoProvider, CryptoProvider] => [`${a}, ${b}`, one, other]),
)

/** Bytes of a hex text; white space is ignored. */
export function hex(text: string): Uint8Array {
  const bytes = fromHex(text.replace(/\s/g, ''))
  if (bytes === undefined) throw new Error(`not hex: ${text}`)
  return bytes
}

export const ascii = (text: string): Uint8Array => new TextEncoder().encode(text)

/** A RandomSource that gives the same bytes for the same seed. */
export function seeded(seed: string | number): RandomSource {
  let counter = 0
  let pool = new Uint8Array(0)
  return (into) => {
    let at = 0
    while (at < into.length) {
      if (pool.length === 0)
        pool = new Uint8Array(createHash('sha512').update(`${seed}/${counter++}`).digest())
      const take = Math.min(pool.length, into.length - at)
      into.set(pool.subarray(0, take), at)
      pool = pool.subarray(take)
      at += take
    }
  }
}

export function seededBytes(seed: string | number, length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  seeded(seed)(bytes)
  return bytes
}

/** A copy with one bit changed. */
export function flipped(bytes: Uint8Array, at: number, bit = 0): Uint8Array {
  const copy = bytes.slice()
  copy[at]! ^= 1 << bit
  return copy
}

/** The same bytes at an address that is not 4-byte aligned. */
export function misaligned(bytes: Uint8Array, offset = 1): Uint8Array {
  const view = new Uint8Array(bytes.length + offset).subarray(offset)
  view.set(bytes)
  return view
}
