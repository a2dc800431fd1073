// curve25519-sha256 and its older name curve25519-sha256@libssh.org (RFC 8731): X25519 (RFC 7748 s5), SHA-256.
// Q_C and Q_S are the 32 bytes of the public keys; K is an mpint.

import type { CryptoProvider, MaybePromise } from '../crypto/provider.ts'
import { whenReady } from '../keys/maybe-promise.ts'
import type { KexMethod } from './method.ts'
import { badPublicValue, mpintSecret, usedOnce } from './shared-secret.ts'

function curve25519(name: string): KexMethod {
  /**
   * K of our private and their public key. RFC 8731 s3: X is "the 32 bytes" read as a big-endian number, unlike RFC 7748, and
   * a peer's value of another length, or one that gives all zeros, ends the exchange.
   */
  const agree = (
    crypto: CryptoProvider,
    secret: Uint8Array,
    theirs: Uint8Array,
  ): MaybePromise<Uint8Array> => {
    if (theirs.length !== 32) throw badPublicValue(name, `is ${theirs.length} bytes long, not 32`)
    return whenReady(crypto.x25519(secret, theirs), (shared) => {
      if (shared === undefined) throw badPublicValue(name, 'is a point of low order')
      return mpintSecret(shared)
    })
  }

  return {
    name,
    hash: 'sha256',
    client(crypto, random) {
      return whenReady(crypto.x25519KeyPair(random), ({ publicKey, secret }) => ({
        publicValue: publicKey,
        finish: usedOnce(secret, (ours, theirs) => agree(crypto, ours, theirs)),
      }))
    },
    server(crypto, random, clientValue) {
      return whenReady(crypto.x25519KeyPair(random), ({ publicKey, secret }) => {
        const finish = usedOnce(secret, (ours, theirs) => agree(crypto, ours, theirs))
        return whenReady(finish(clientValue), (encodedSecret) => ({ publicValue: publicKey, encodedSecret }))
      })
    },
  }
}

export const curve25519Methods: readonly KexMethod[] = [
  curve25519('curve25519-sha256'),
  curve25519('curve25519-sha256@libssh.org'),
]
