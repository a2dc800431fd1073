// New key pairs that any runtime can make. RSA needs primes and is in node-generate.ts.

import type { CryptoProvider, MaybePromise, RandomSource, SynchronousKeyMaker } from '../crypto/provider.ts'
import { curveByKeyType } from './curves.ts'
import { ed25519PublicKey } from './ed25519-public.ts'
import { whenReady } from './maybe-promise.ts'
import type { PrivateKey } from './private-key.ts'
import { makeSoftwareKey } from './private-key-fields.ts'
import { type EcdsaKeyType, publicKeyFromNumbers } from './public-key.ts'

/**
 * Generates a key pair. The ECDSA types are a promise with providers that fetch their curves when they are first needed.
 * @param type 'ed25519', or an ECDSA key type such as 'ecdsa-sha2-nistp256'.
 * @param random source of the secret: a CSPRNG.
 */
export function generateKeyPair(
  crypto: CryptoProvider,
  type: 'ed25519',
  random: RandomSource,
  comment?: string,
): PrivateKey
export function generateKeyPair(
  crypto: SynchronousKeyMaker,
  type: 'ed25519' | EcdsaKeyType,
  random: RandomSource,
  comment?: string,
): PrivateKey
export function generateKeyPair(
  crypto: CryptoProvider,
  type: 'ed25519' | EcdsaKeyType,
  random: RandomSource,
  comment?: string,
): MaybePromise<PrivateKey>
export function generateKeyPair(
  crypto: CryptoProvider,
  type: 'ed25519' | EcdsaKeyType,
  random: RandomSource,
  comment = '',
): MaybePromise<PrivateKey> {
  if (type === 'ed25519') {
    const seed = new Uint8Array(32)
    random(seed)
    const publicKey = ed25519PublicKey(seed)
    return makeSoftwareKey(publicKeyFromNumbers({ type, publicKey }), { type, publicKey, seed }, comment)
  }
  const curve = curveByKeyType(type)!.name
  return whenReady(crypto.ecdhKeyPair(curve, random), ({ publicKey: point, secret: scalar }) =>
    makeSoftwareKey(
      publicKeyFromNumbers({ type: 'ecdsa', curve, point }),
      { type: 'ecdsa', curve, point, scalar },
      comment,
    ),
  )
}
