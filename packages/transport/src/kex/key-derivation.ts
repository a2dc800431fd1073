import type { CryptoProvider, HashName } from '../crypto/provider.ts'
import type { CipherSuite, DirectionKeys } from '../packet/cipher.ts'

/** What keys are derived from (RFC 4253 s7.2). */
export interface KeyMaterial {
  hash: HashName
  encodedSecret: Uint8Array
  exchangeHash: Uint8Array
  sessionId: Uint8Array
}

/** HASH(K || H || X || session_id), extended by HASH(K || H || K1 || ...) as far as needed (RFC 4253 s7.2). */
export function deriveKey(
  crypto: CryptoProvider,
  material: KeyMaterial,
  letter: string,
  length: number,
): Uint8Array {
  const { hash, encodedSecret, exchangeHash, sessionId } = material
  const out = new Uint8Array(length)
  let block = crypto.digest(hash, encodedSecret, exchangeHash, Uint8Array.of(letter.charCodeAt(0)), sessionId)
  let at = 0
  while (at < length) {
    out.set(block.subarray(0, Math.min(block.length, length - at)), at)
    at += block.length
    if (at < length) block = crypto.digest(hash, encodedSecret, exchangeHash, out.subarray(0, at))
  }
  return out
}

/** Keys of one direction; letters A, C, E are client to server, B, D, F server to client. */
export function deriveDirectionKeys(
  crypto: CryptoProvider,
  material: KeyMaterial,
  direction: 'client to server' | 'server to client',
  suite: CipherSuite,
): DirectionKeys {
  const [iv, key, mac] = direction === 'client to server' ? ['A', 'C', 'E'] : ['B', 'D', 'F']
  return {
    iv: deriveKey(crypto, material, iv!, suite.ivLength),
    key: deriveKey(crypto, material, key!, suite.keyLength),
    macKey: deriveKey(crypto, material, mac!, suite.macKeyLength),
  }
}
