// Symmetric primitives on node:crypto (OpenSSL); Poly1305 alone is noble's, since OpenSSL's is not reachable from Node.
// Node's ciphers return a Buffer of their own at each update: in place means one `set` back. Buffers do not leave this file:
// `Buffer.prototype.slice` aliases where `Uint8Array.prototype.slice` copies, so results are rewrapped as plain Uint8Arrays.
// Objects hold a reference to the key they were made with: wiping that array ends their use (AES-CTR: OpenSSL has a copy).

import {
  type CipherGCMTypes,
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  timingSafeEqual as equalInConstantTime,
  getCipherInfo,
} from 'node:crypto'
import { UsageError } from '../errors.ts'
import { chacha20InPlace as nobleChacha20 } from './noble-chacha.ts'
import { releaseMemory } from './node-release.ts'
import type { AesGcm, CryptoProvider, HashName, Mac, StreamCipher } from './provider.ts'

export { poly1305 } from './noble-chacha.ts'

const tagBytes = 16
const gcmOptions = { authTagLength: tagBytes }

/** The bytes of a Buffer as a plain Uint8Array on the same memory. */
export function plain(buffer: Buffer): Uint8Array {
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.length)
}

/** Node's ciphers cannot write in place: puts a result back where its input lay, and frees it. */
function copyBack(into: Uint8Array, result: Buffer): void {
  into.set(result)
  releaseMemory(result)
}

/** Hash of the parts in a row. */
export function digest(hash: HashName, ...parts: Uint8Array[]): Uint8Array {
  const running = createHash(hash)
  for (const part of parts) running.update(part)
  return plain(running.digest())
}

const digestLengths = { md5: 16, sha1: 20, sha256: 32, sha384: 48, sha512: 64 }

/** HMAC (RFC 2104). */
export function hmac(hash: HashName, key: Uint8Array): Mac {
  return {
    length: digestLengths[hash],
    compute: (...parts) => {
      const running = createHmac(hash, key)
      for (const part of parts) running.update(part)
      return plain(running.digest())
    },
  }
}

/** AES-GCM, synchronous; the ciphertext is read where it lies. What `open` returned is freed by the next `open`. */
export function aesGcm(key: Uint8Array): AesGcm {
  const name = `aes-${8 * key.length}-gcm` as CipherGCMTypes
  let opened: Uint8Array | undefined
  return {
    async: false,
    open(nonce, aad, sealed) {
      if (opened !== undefined) releaseMemory(opened)
      opened = undefined
      const textLength = sealed.length - tagBytes
      if (textLength < 0) return undefined
      const decipher = createDecipheriv(name, key, nonce, gcmOptions)
      decipher.setAAD(aad)
      decipher.setAuthTag(sealed.subarray(textLength))
      const plaintext = decipher.update(sealed.subarray(0, textLength))
      try {
        decipher.final()
      } catch {
        // The one thing final() can object to in GCM is the tag.
        plaintext.fill(0)
        return undefined
      }
      opened = plain(plaintext)
      return opened
    },
    sealInPlace(nonce, aad, into) {
      const textLength = into.length - tagBytes
      const cipher = createCipheriv(name, key, nonce, gcmOptions)
      cipher.setAAD(aad)
      copyBack(into, cipher.update(into.subarray(0, textLength)))
      cipher.final()
      into.set(cipher.getAuthTag(), textLength)
    },
  }
}

/** AES-CTR (NIST SP 800-38A s6.5, RFC 4344 s4): one OpenSSL context whose counter runs on from call to call. */
export function aesCtr(key: Uint8Array, iv: Uint8Array): StreamCipher {
  const cipher = createCipheriv(`aes-${8 * key.length}-ctr`, key, iv)
  return {
    applyInPlace(bytes) {
      copyBack(bytes, cipher.update(bytes))
    },
  }
}

/** AES-CBC decryption (NIST SP 800-38A s6.2), padding left in. UsageError where the bytes are not whole blocks. */
export function aesCbcDecrypt(key: Uint8Array, iv: Uint8Array, bytes: Uint8Array): Uint8Array {
  if (bytes.length % 16 !== 0) throw new UsageError(`AES-CBC takes whole blocks, not ${bytes.length} bytes`)
  const decipher = createDecipheriv(`aes-${8 * key.length}-cbc`, key, iv).setAutoPadding(false)
  const plaintext = plain(decipher.update(bytes))
  decipher.final()
  return plaintext
}

/** OpenSSL's iv is words 12 to 15 of ChaCha20's state: little-endian 64-bit counter || nonce. */
function openSslChacha20(key: Uint8Array, nonce: Uint8Array, counter: number, bytes: Uint8Array): void {
  const iv = new Uint8Array(16)
  new DataView(iv.buffer).setUint32(0, counter, true)
  iv.set(nonce, 8)
  copyBack(bytes, createCipheriv('chacha20', key, iv).update(bytes))
}

/** ChaCha20 as Bernstein defined it; noble's where this runtime's node:crypto is not on OpenSSL and has no bare ChaCha20. */
export const chacha20InPlace: CryptoProvider['chacha20InPlace'] =
  getCipherInfo('chacha20') === undefined ? nobleChacha20 : openSslChacha20

export function timingSafeEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && equalInConstantTime(a, b)
}
