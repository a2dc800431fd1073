// mlkem768x25519-sha256 (draft-ietf-sshm-mlkem-hybrid-kex): ML-KEM-768 (FIPS 203) and X25519 side by side, so that K is
// secret as long as either of them is.
//   C_INIT  = ML-KEM public key (1184) || X25519 public key (32)
//   S_REPLY = ML-KEM ciphertext (1088) || X25519 public key (32)
//   K       = SHA-256(ML-KEM secret || X25519 secret), encoded as a string, not an mpint

import type { AgreementKeyPair, CryptoProvider, MaybePromise } from '../crypto/provider.ts'
import { whenReady } from '../keys/maybe-promise.ts'
import { concat } from '../wire/bytes.ts'
import type { KexClient, KexMethod } from './method.ts'
import { badPublicValue, stringSecret, usedOnce, wipedAfter } from './shared-secret.ts'

const name = 'mlkem768x25519-sha256'
/** FIPS 203 Table 3. */
const kemKeyLength = 1184
const kemCiphertextLength = 1088
const x25519KeyLength = 32

/** The two parts of a peer's value. Lengths are exact. */
function split(value: Uint8Array, kemLength: number): { kem: Uint8Array; point: Uint8Array } {
  const expected = kemLength + x25519KeyLength
  if (value.length !== expected) throw badPublicValue(name, `is ${value.length} bytes long, not ${expected}`)
  return { kem: value.subarray(0, kemLength), point: value.subarray(kemLength) }
}

function x25519Secret(
  crypto: CryptoProvider,
  secret: Uint8Array,
  point: Uint8Array,
): MaybePromise<Uint8Array> {
  return whenReady(crypto.x25519(secret, point), (shared) => {
    if (shared === undefined) throw badPublicValue(name, 'has an X25519 point of low order')
    return shared
  })
}

/** K; both secrets are wiped. */
function combine(crypto: CryptoProvider, kemSecret: Uint8Array, pointSecret: Uint8Array): Uint8Array {
  const combined = crypto.digest('sha256', kemSecret, pointSecret)
  kemSecret.fill(0)
  pointSecret.fill(0)
  return stringSecret(combined)
}

export const mlkem768x25519: KexMethod = {
  name,
  hash: 'sha256',

  client(crypto, random) {
    return whenReady(crypto.mlkem768KeyPair(random), (kem) =>
      whenReady(crypto.x25519KeyPair(random), (pair) => clientHalf(crypto, kem, pair)),
    )
  },

  server(crypto, random, clientValue) {
    const init = split(clientValue, kemKeyLength)
    return whenReady(crypto.mlkem768Encapsulate(init.kem, random), (encapsulated) => {
      if (encapsulated === undefined)
        throw badPublicValue(name, 'has an ML-KEM key with a coefficient that is not below q')
      const { ciphertext, sharedSecret } = encapsulated
      return wipedAfter([sharedSecret], () =>
        whenReady(crypto.x25519KeyPair(random), ({ publicKey, secret }) =>
          whenReady(
            wipedAfter([secret], () => x25519Secret(crypto, secret, init.point)),
            (pointSecret) => ({
              publicValue: concat(ciphertext, publicKey),
              encodedSecret: combine(crypto, sharedSecret, pointSecret),
            }),
          ),
        ),
      )
    })
  },
}

/** Both pairs' secrets are wiped here, and the copy of them when the exchange is finished. */
function clientHalf(crypto: CryptoProvider, kem: AgreementKeyPair, pair: AgreementKeyPair): KexClient {
  const secrets = concat(kem.secret, pair.secret)
  const kemSecretLength = kem.secret.length
  kem.secret.fill(0)
  pair.secret.fill(0)
  return {
    publicValue: concat(kem.publicKey, pair.publicKey),
    finish: usedOnce(secrets, (ours, theirs) => {
      const reply = split(theirs, kemCiphertextLength)
      return whenReady(x25519Secret(crypto, ours.subarray(kemSecretLength), reply.point), (pointSecret) =>
        whenReady(
          // An altered ciphertext gives an unrelated secret (implicit rejection): the signature over H then fails.
          crypto.mlkem768Decapsulate(ours.subarray(0, kemSecretLength), reply.kem),
          (kemSecret) => combine(crypto, kemSecret, pointSecret),
        ),
      )
    }),
  }
}
