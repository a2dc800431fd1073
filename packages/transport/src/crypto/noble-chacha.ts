// ChaCha20 and Poly1305 on noble, by themselves: Node takes its Poly1305 from here, and needs no AES in JavaScript for that.
// noble reads and writes 32-bit words, so what works in place goes through an aligned scratch where a view is not aligned.

import { poly1305 as noblePoly1305 } from '@noble/ciphers/_poly1305.js'
import { chacha20orig } from '@noble/ciphers/chacha.js'

/** ChaCha20 as Bernstein defined it: 8-byte nonce, 64-bit counter of which we use the low 32 bits. */
export function chacha20InPlace(
  key: Uint8Array,
  nonce: Uint8Array,
  counter: number,
  bytes: Uint8Array,
): void {
  const words = aligned(bytes)
  chacha20orig(key, nonce, words, words, counter)
  if (words !== bytes) bytes.set(words)
}

/** Poly1305 (RFC 8439 s2.5) under a one-time key. */
export function poly1305(key: Uint8Array, bytes: Uint8Array): Uint8Array {
  return noblePoly1305(bytes, key)
}

let scratch = new Uint8Array(0)

/**
 * `bytes` where it is 4-byte aligned, else a copy that is, valid until the next call. The copy and its way back cost 2 us for
 * 32 KiB; noble's unaligned path costs 100 us (ChaCha20), and its AES takes no such view at all.
 */
export function aligned(bytes: Uint8Array): Uint8Array {
  if (bytes.byteOffset % 4 === 0) return bytes
  if (scratch.length < bytes.length) scratch = new Uint8Array(Math.max(bytes.length, 2 * scratch.length))
  const copy = scratch.subarray(0, bytes.length)
  copy.set(bytes)
  return copy
}
