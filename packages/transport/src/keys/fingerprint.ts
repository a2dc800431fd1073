// Fingerprints of key blobs: RFC 4716 s4 (MD5 in hex), OpenSSH's 'SHA256:base64', and the hex forms that QEMU's
// host_key_check takes. A fingerprint is always that of the plain key, also when a certificate was shown.

import type { CryptoProvider } from '../crypto/provider.ts'
import { equalBytes, fromBase64, toBase64, toHex } from '../wire/bytes.ts'

export type FingerprintHash = 'md5' | 'sha1' | 'sha256'

/** Digest of the blob in lower-case hex; for md5 with a ':' between bytes, as RFC 4716 s4 writes it. */
export function fingerprint(crypto: CryptoProvider, blob: Uint8Array, hash: FingerprintHash): string {
  const hex = toHex(crypto.digest(hash, blob))
  return hash === 'md5' ? hex.replace(/(..)(?=.)/g, '$1:') : hex
}

/** As OpenSSH prints it: 'SHA256:' and unpadded base64, 'SHA1:' likewise, or 'MD5:' and hex with ':'. */
export function opensshFingerprint(
  crypto: CryptoProvider,
  blob: Uint8Array,
  hash: FingerprintHash = 'sha256',
): string {
  if (hash === 'md5') return `MD5:${fingerprint(crypto, blob, 'md5')}`
  return `${hash.toUpperCase()}:${toBase64(crypto.digest(hash, blob)).replace(/=+$/, '')}`
}

/** A fingerprint as a user wrote it down. */
export interface GivenFingerprint {
  hash: FingerprintHash
  digest: Uint8Array
}

const digestBytes: Readonly<Record<FingerprintHash, number>> = { md5: 16, sha1: 20, sha256: 32 }

/**
 * Digest of a hex fingerprint, or undefined. Before each byte any run of ':' is skipped; two hex digits of any case; after
 * the last byte the text must end: a trailing ':', a byte short or a byte long is not a fingerprint.
 */
export function parseHexFingerprint(hash: FingerprintHash, text: string): Uint8Array | undefined {
  const digest = new Uint8Array(digestBytes[hash])
  let at = 0
  for (let i = 0; i < digest.length; i++) {
    while (text[at] === ':') at++
    const pair = text.slice(at, at + 2)
    if (!/^[0-9a-fA-F]{2}$/.test(pair)) return undefined
    digest[i] = Number.parseInt(pair, 16)
    at += 2
  }
  return at === text.length ? digest : undefined
}

/**
 * Reads 'md5:HEX', 'sha1:HEX', 'sha256:HEX' (lower-case prefix: hex) or OpenSSH's 'SHA256:BASE64', 'SHA1:BASE64', 'MD5:HEX'
 * (upper-case prefix). Undefined where the text is none of them or the digest has not the hash's length.
 */
export function parseFingerprint(text: string): GivenFingerprint | undefined {
  const colon = text.indexOf(':')
  const prefix = text.slice(0, colon)
  const body = text.slice(colon + 1)
  const hash = (Object.keys(digestBytes) as FingerprintHash[]).find((name) => name === prefix.toLowerCase())
  if (colon < 0 || hash === undefined) return undefined
  if (prefix === hash || prefix === 'MD5') {
    const digest = parseHexFingerprint(hash, body)
    return digest === undefined ? undefined : { hash, digest }
  }
  if (prefix !== hash.toUpperCase()) return undefined
  const digest = fromBase64(body)
  return digest?.length === digestBytes[hash] ? { hash, digest } : undefined
}

/** Whether the blob has that fingerprint. `text` is hex by the rule of parseHexFingerprint, without a prefix. */
export function matchesFingerprint(
  crypto: CryptoProvider,
  blob: Uint8Array,
  hash: FingerprintHash,
  text: string,
): boolean {
  const digest = parseHexFingerprint(hash, text)
  return digest !== undefined && equalBytes(digest, crypto.digest(hash, blob))
}

/** Whether the blob has that fingerprint. */
export function hasFingerprint(crypto: CryptoProvider, blob: Uint8Array, given: GivenFingerprint): boolean {
  return equalBytes(given.digest, crypto.digest(given.hash, blob))
}
