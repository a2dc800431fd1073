// Ciphers on noble: AES-GCM, AES-CTR, AES-CBC, ChaCha20, and Poly1305. Pages fetch them when a connection needs them (web.ts).
// Everything is synchronous and runs anywhere. Objects hold a reference to the key they were made with: wiping that array
// ends their use (see packet/*.ts, which do so on rekey); AES-CTR also holds an expanded key.

import { cbc, gcm, unsafe } from '@noble/ciphers/aes.js'
import { UsageError } from '../errors.ts'
import { aligned } from './noble-chacha.ts'
import type { AesGcm, StreamCipher } from './provider.ts'

export { chacha20InPlace, poly1305 } from './noble-chacha.ts'

const blockBytes = 16
const tagBytes = 16

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
