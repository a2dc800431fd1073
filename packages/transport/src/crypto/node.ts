// The CryptoProvider of Node: node:crypto (OpenSSL) for all but what Node 20 lacks: ML-KEM and Poly1305 are noble's,
// bcrypt_pbkdf is the package of that name. Everything is synchronous.

import { bcryptPbkdf } from './bcrypt-pbkdf.ts'
import { mlkem768Decapsulate, mlkem768Encapsulate, mlkem768KeyPair } from './mlkem768.ts'
import {
  aesCbcDecrypt,
  aesCtr,
  aesGcm,
  chacha20InPlace,
  digest,
  hmac,
  poly1305,
  timingSafeEqual,
} from './node-ciphers.ts'
import { ecdh, ecdhKeyPair, modPow, sign, verify, x25519, x25519KeyPair } from './node-keys.ts'
import type { SynchronousKeyMaker } from './provider.ts'

export const nodeCrypto: SynchronousKeyMaker = {
  name: 'node',
  fastestCiphers: ['aes256-gcm@openssh.com', 'aes128-gcm@openssh.com', 'chacha20-poly1305@openssh.com'],
  cipherOrderReason:
    "AES-GCM is OpenSSL's, about 1.4 GB/s; ChaCha20-Poly1305 has its Poly1305 from noble, because Node reaches no bare one",
  digest,
  hmac,
  aesGcm,
  aesCtr,
  aesCbcDecrypt,
  chacha20InPlace,
  poly1305,
  timingSafeEqual,
  x25519KeyPair,
  x25519,
  ecdhKeyPair,
  ecdh,
  mlkem768KeyPair,
  mlkem768Encapsulate,
  mlkem768Decapsulate,
  modPow,
  supportsKey: () => true,
  verify,
  sign,
  bcryptPbkdf,
}
