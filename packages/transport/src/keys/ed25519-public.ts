// The public half of an Ed25519 seed (RFC 8032 s5.1.5), for generated keys and for PKCS#8 files, which hold the seed alone.
// The provider interface has no such operation, so this is noble's in every runtime; it runs once per key.

import { ed25519 } from '@noble/curves/ed25519.js'

/** The 32-byte public key of a 32-byte seed. */
export function ed25519PublicKey(seed: Uint8Array): Uint8Array {
  return ed25519.getPublicKey(seed)
}
