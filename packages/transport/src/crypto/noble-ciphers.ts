// Symmetric primitives on noble: hashes, HMAC, AES-GCM, AES-CTR, AES-CBC, ChaCha20, Poly1305.
// Everything is synchronous and runs anywhere. Objects hold a reference to the key they were made with: wiping that array
// ends their use (see packet/*.ts, which do so on rekey); AES-CTR also holds an expanded key.
// noble reads and writes 32-bit words, so the in-place ciphers go through an aligned scratch where a view is not aligned.

import { poly1305 as noblePoly1305 } from '@noble/ciphers/_poly1305.js'
import { cbc, gcm, unsafe } from '@noble/ciphers/aes.js'
import { chacha20orig } from '@noble/ciphers/chacha.js'
import { hmac as nobleHmac } from '@noble/hashes/hmac.js'
import { md5, sha1 } from '@noble/hashes/legacy.js'
import { sha256, sha384, sha512 } from '@noble/hashes/sha2.js'
import { UsageError } from '../errors.ts'
import type { AesGcm, HashName, Mac, StreamCipher } from './provider.ts'

const hashes = { md5, sha1, sha256, sha384, sha512 }

const blockBytes = 16
const tagBytes = 16

/** Hash of the parts in a row. */
export function digest(hash: HashName, ...parts: Uint8Array[]): Uint8Array {
  const running = hashes[hash].create()
  for (const part of parts) running.update(part)
  return running.digest()
}

/** HMAC (RFC 2104); the padded key is hashed once, and each MAC starts from a copy of that state. */
export function hmac(hash: HashName, key: Uint8Array): Mac {
  const keyed = nobleHmac.create(hashes[hash], key)
  return {
    length: hashes[hash].outputLen,
    compute: (...parts) => {
      const running = keyed.clone()
      for (const part of parts) running.update(part)
      return running.digest()
    },
  }
}

/** AES-GCM, synchronous; noble checks the tag before it decrypts. */
export function aesGcm(key: Uint8Array): AesGcm {
  return {
    async: false,
    open(nonce, aad, sealed) {
      if (sealed.length < tagBytes) return undefined
      const cipher = gcm(key, nonce, aad)
      try {
        return cipher.decrypt(sealed)
      } catch {
        return undefined
      }
    },
    sealInPlace(nonce, aad, into) {
      into.set(gcm(key, nonce, aad).encrypt(into.subarray(0, into.length - tagBytes)))
    },
  }
}

/** AES-CTR (NIST SP 800-38A s6.5, RFC 4344 s4): a 128-bit big-endian counter that continues from call to call. */
export function aesCtr(key: Uint8Array, iv: Uint8Array): StreamCipher {
  const roundKeys = unsafe.expandKeyLE(key)
  const counter = iv.slice()
  /** Key stream of a block that a call ended in, and how much of it is used. */
  const partial = new Uint8Array(blockBytes)
  let used = blockBytes
  return {
    applyInPlace(bytes) {
      let at = 0
      while (used < blockBytes && at < bytes.length) bytes[at++]! ^= partial[used++]!
      const whole = bytes.length - at - ((bytes.length - at) % blockBytes)
      if (whole > 0) {
        const blocks = bytes.subarray(at, at + whole)
        const words = aligned(blocks)
        unsafe.ctrCounter(roundKeys, counter, words, words)
        if (words !== blocks) blocks.set(words)
      }
      at += whole
      if (at === bytes.length) return
      unsafe.ctrCounter(roundKeys, counter, partial.fill(0), partial)
      used = 0
      while (at < bytes.length) bytes[at++]! ^= partial[used++]!
    },
  }
}

/** AES-CBC decryption (NIST SP 800-38A s6.2), padding left in. UsageError where the bytes are not whole blocks. */
export function aesCbcDecrypt(key: Uint8Array, iv: Uint8Array, bytes: Uint8Array): Uint8Array {
  if (bytes.length % blockBytes !== 0)
    throw new UsageError(`AES-CBC takes whole blocks, not ${bytes.length} bytes`)
  if (bytes.length === 0) return new Uint8Array(0)
  return cbc(key, iv, { disablePadding: true }).decrypt(bytes)
}

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

/** Compares without an early end. JavaScript engines promise no more than that. */
export function timingSafeEqual(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false
  let difference = 0
  for (let i = 0; i < a.length; i++) difference |= a[i]! ^ b[i]!
  return difference === 0
}

let scratch = new Uint8Array(0)

/**
 * `bytes` where it is 4-byte aligned, else a copy that is, valid until the next call. The copy and its way back cost 2 us for
 * 32 KiB; noble's unaligned path costs 100 us (ChaCha20), and its AES takes no such view at all.
 */
function aligned(bytes: Uint8Array): Uint8Array {
  if (bytes.byteOffset % 4 === 0) return bytes
  if (scratch.length < bytes.length) scratch = new Uint8Array(Math.max(bytes.length, 2 * scratch.length))
  const copy = scratch.subarray(0, bytes.length)
  copy.set(bytes)
  return copy
}
