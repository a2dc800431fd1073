// ML-KEM-768 (FIPS 203), for both providers: Node 20 has none, and WebCrypto has it in some browsers only.
// Randomness comes from our RandomSource as the seeds d || z and m of FIPS 203 s7.1 and s7.2, and is wiped here.
// noble's code is fetched at the first use, which alone returns a promise: a connection to a server without it needs none.
// noble's arithmetic is not promised to be constant time; hybrids (kex/mlkem768x25519.ts) do not rest on it alone.

import { UsageError } from '../errors.ts'
import { fetched } from './fetched.ts'
import type { AgreementKeyPair, Encapsulation, MaybePromise, RandomSource } from './provider.ts'
import { randomBytes } from './random.ts'

const mlkem768PublicKeyLength = 1184
const mlkem768CiphertextLength = 1088
const mlkem768SecretLength = 2400

const noble = fetched(() => import('@noble/post-quantum/ml-kem.js'))

/** ML-KEM.KeyGen (FIPS 203 s7.1). */
export function mlkem768KeyPair(random: RandomSource): MaybePromise<AgreementKeyPair> {
  return noble(({ ml_kem768 }) => {
    const seed = randomBytes(random, 64)
    const { publicKey, secretKey } = ml_kem768.keygen(seed)
    seed.fill(0)
    return { publicKey, secret: secretKey }
  })
}

/** ML-KEM.Encaps (FIPS 203 s7.2). Undefined for a key of the wrong length or with a coefficient not below q. */
export function mlkem768Encapsulate(
  publicKey: Uint8Array,
  random: RandomSource,
): MaybePromise<Encapsulation | undefined> {
  if (publicKey.length !== mlkem768PublicKeyLength) return undefined
  return noble(({ ml_kem768 }) => {
    const message = randomBytes(random, 32)
    try {
      const { cipherText, sharedSecret } = ml_kem768.encapsulate(publicKey, message)
      return { ciphertext: cipherText, sharedSecret }
    } catch {
      // All else having been checked, this is the modulus check: ByteEncode(ByteDecode(ek)) differs from ek.
      return undefined
    } finally {
      message.fill(0)
    }
  })
}

/**
 * ML-KEM.Decaps (FIPS 203 s7.3). A ciphertext that was altered gives an unrelated secret (implicit rejection), no error.
 * Both arguments are the caller's again when this settles. UsageError for wrong lengths: the caller checks what a peer sent.
 */
export function mlkem768Decapsulate(secret: Uint8Array, ciphertext: Uint8Array): MaybePromise<Uint8Array> {
  if (secret.length !== mlkem768SecretLength || ciphertext.length !== mlkem768CiphertextLength) {
    throw new UsageError(
      `ML-KEM-768 takes a secret of ${mlkem768SecretLength} and a ciphertext of ${mlkem768CiphertextLength} bytes`,
    )
  }
  return noble(({ ml_kem768 }) => ml_kem768.decapsulate(ciphertext, secret))
}
