// Hashes and HMAC on noble: synchronous, anywhere.

import { hmac as nobleHmac } from '@noble/hashes/hmac.js'
import { md5, sha1 } from '@noble/hashes/legacy.js'
import { sha256, sha384, sha512 } from '@noble/hashes/sha2.js'
import type { HashName, Mac } from './provider.ts'

const hashes = { md5, sha1, sha256, sha384, sha512 }

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

/** Compares without an early end. JavaScript engines promise no more than that. */
export function timingSafeEqual(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false
  let difference = 0
  for (let i = 0; i < a.length; i++) difference |= a[i]! ^ b[i]!
  return difference === 0
}
