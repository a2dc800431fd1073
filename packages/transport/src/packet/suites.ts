// From negotiated names to a cipher suite. One table: what is not in it is not negotiable.
// CBC modes, 3des, arcfour and "none" are left out for good.

import type { CryptoProvider } from '../crypto/provider.ts'
import { quote, UsageError } from '../errors.ts'
import { aesCtrSuite } from './aes-ctr.ts'
import { aesGcmSuite } from './aes-gcm.ts'
import { chacha20Poly1305Suite } from './chacha20-poly1305.ts'
import type { CipherSuite } from './cipher.ts'
import { knownMacs, macAlgorithm } from './macs.ts'

export { knownMacs }

/** Ciphers that authenticate what they encrypt: the negotiated MAC name is ignored with them (RFC 5647 s5.1). */
const aeadSuites = new Map<string, (crypto: CryptoProvider) => CipherSuite>([
  ['aes256-gcm@openssh.com', (crypto) => aesGcmSuite(crypto, 'aes256-gcm@openssh.com', 32)],
  ['aes128-gcm@openssh.com', (crypto) => aesGcmSuite(crypto, 'aes128-gcm@openssh.com', 16)],
  [
    'chacha20-poly1305@openssh.com',
    (crypto) => chacha20Poly1305Suite(crypto, 'chacha20-poly1305@openssh.com'),
  ],
])

/** Key lengths in bytes of the ciphers that need a MAC. */
const ctrKeyLengths = new Map([
  ['aes256-ctr', 32],
  ['aes192-ctr', 24],
  ['aes128-ctr', 16],
])

/** Every cipher name we have; which are offered, and in which order, is decided in kex/algorithms.ts. */
export const knownCiphers: readonly string[] = [...aeadSuites.keys(), ...ctrKeyLengths.keys()]

/** Whether this cipher brings its own MAC. False for unknown names. */
export function isAead(cipherName: string): boolean {
  return aeadSuites.has(cipherName)
}

/**
 * The suite for these names. `macName` is ignored where the cipher is an AEAD. Throws UsageError for names that are not
 * known, and where a cipher that needs a MAC has none: negotiation offers no such pair.
 */
export function cipherSuite(
  crypto: CryptoProvider,
  cipherName: string,
  macName: string | undefined,
): CipherSuite {
  const aead = aeadSuites.get(cipherName)
  if (aead !== undefined) return aead(crypto)
  const keyLength = ctrKeyLengths.get(cipherName)
  if (keyLength === undefined)
    throw new UsageError(`${quote(cipherName)} is not a cipher we have: ${knownCiphers.join(', ')}`)
  const algorithm = macName === undefined ? undefined : macAlgorithm(macName)
  if (algorithm === undefined) {
    throw new UsageError(`${cipherName} needs one of ${knownMacs.join(', ')}, not ${quote(macName ?? '')}`)
  }
  return aesCtrSuite(crypto, cipherName, keyLength, algorithm)
}
