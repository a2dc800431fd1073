// ecdh-sha2-nistp256, -nistp384 and -nistp521 (RFC 5656 s4): ECDH on the NIST curves with the hash of RFC 5656 s6.2.1.
// Q_C and Q_S are uncompressed points; K is the x coordinate of the shared point as an mpint.

import type { CryptoProvider, CurveName, HashName, MaybePromise } from '../crypto/provider.ts'
import { whenReady } from '../keys/maybe-promise.ts'
import type { KexMethod } from './method.ts'
import { badPublicValue, mpintSecret, usedOnce } from './shared-secret.ts'

function ecdh(curve: CurveName, hash: HashName): KexMethod {
  const name = `ecdh-sha2-${curve}`

  /** RFC 5656 s4: "all elliptic curve public keys MUST be validated after they are received" (SEC 1 s3.2.2.1). */
  const agree = (
    crypto: CryptoProvider,
    secret: Uint8Array,
    theirs: Uint8Array,
  ): MaybePromise<Uint8Array> => {
    return whenReady(crypto.ecdh(curve, secret, theirs), (shared) => {
      if (shared === undefined) throw badPublicValue(name, 'is not an uncompressed point on the curve')
      return mpintSecret(shared)
    })
  }

  return {
    name,
    hash,
    client(crypto, random) {
      return whenReady(crypto.ecdhKeyPair(curve, random), ({ publicKey, secret }) => ({
        publicValue: publicKey,
        finish: usedOnce(secret, (ours, theirs) => agree(crypto, ours, theirs)),
      }))
    },
    server(crypto, random, clientValue) {
      return whenReady(crypto.ecdhKeyPair(curve, random), ({ publicKey, secret }) => {
        const finish = usedOnce(secret, (ours, theirs) => agree(crypto, ours, theirs))
        return whenReady(finish(clientValue), (encodedSecret) => ({ publicValue: publicKey, encodedSecret }))
      })
    },
  }
}

export const ecdhMethods: readonly KexMethod[] = [
  ecdh('nistp256', 'sha256'),
  ecdh('nistp384', 'sha384'),
  ecdh('nistp521', 'sha512'),
]
