// The seam between the protocol and the cryptographic primitives: one implementation on node:crypto, one on noble with
// WebCrypto's AES-GCM where it is there. Primitives take and return raw bytes; SSH's encodings live above.
// What may return a promise says so (MaybePromise): AES-GCM, and everything on public keys, which WebCrypto answers with
// promises or which is code that is fetched when it is first needed. Hashes, MACs and stream ciphers are synchronous.

export type MaybePromise<T> = T | Promise<T>

export type HashName = 'md5' | 'sha1' | 'sha256' | 'sha384' | 'sha512'
export type CurveName = 'nistp256' | 'nistp384' | 'nistp521'

/** Fills `into` with unpredictable bytes. Injected, so that transcripts can be replayed; the default is the platform's CSPRNG. */
export type RandomSource = (into: Uint8Array) => void

/** Milliseconds on a monotonic clock. */
export type Clock = () => number

/** A public key as its numbers. */
export type VerifyKey =
  | { type: 'ed25519'; publicKey: Uint8Array }
  /** `point`: SEC1 uncompressed, 04 || X || Y. */
  | { type: 'ecdsa'; curve: CurveName; point: Uint8Array }
  /** Big-endian magnitudes without leading zeros. */
  | { type: 'rsa'; n: Uint8Array; e: Uint8Array }

/** A private key as its numbers; big-endian magnitudes. */
export type SigningKey =
  | { type: 'ed25519'; publicKey: Uint8Array; seed: Uint8Array }
  | { type: 'ecdsa'; curve: CurveName; point: Uint8Array; scalar: Uint8Array }
  | {
      type: 'rsa'
      n: Uint8Array
      e: Uint8Array
      d: Uint8Array
      p: Uint8Array
      q: Uint8Array
      iqmp: Uint8Array
    }

/** A running keyed MAC context for one key. */
export interface Mac {
  readonly length: number
  /** MAC of the parts in a row; a new array. */
  compute(...parts: Uint8Array[]): Uint8Array
}

/** AES-GCM under one key, 16-byte tag appended to the ciphertext. */
export interface AesGcm {
  /** True where calls return promises (WebCrypto): several packets are then kept in flight. */
  readonly async: boolean
  /**
   * `sealed` = ciphertext || tag. Returns the plaintext in an array of its own; undefined where the tag is wrong. Input is
   * copied or consumed at the call. Where `async` is false the plaintext is valid until the next `open` of this object.
   */
  open(nonce: Uint8Array, aad: Uint8Array, sealed: Uint8Array): MaybePromise<Uint8Array | undefined>
  /** Writes ciphertext || tag over `into`, whose first `plaintextLength` bytes are the plaintext and whose last 16 are free. */
  sealInPlace(nonce: Uint8Array, aad: Uint8Array, into: Uint8Array): MaybePromise<void>
}

/** A stream cipher with running state (AES-CTR): consecutive calls continue the key stream. */
export interface StreamCipher {
  /** XORs the key stream over `bytes` in place. */
  applyInPlace(bytes: Uint8Array): void
}

/** Key pair of a Diffie-Hellman style agreement. `secret` is to be wiped by the holder after use. */
export interface AgreementKeyPair {
  publicKey: Uint8Array
  secret: Uint8Array
}

/** What a key encapsulation gives whoever knows the public key. `sharedSecret` is to be wiped by the holder after use. */
export interface Encapsulation {
  ciphertext: Uint8Array
  sharedSecret: Uint8Array
}

export interface CryptoProvider {
  readonly name: 'node' | 'web'
  /** Cipher names in the order in which they are fast here; see kex/algorithms.ts. */
  readonly fastestCiphers: readonly string[]
  /** Why they are in this order, for people. */
  readonly cipherOrderReason: string

  digest(hash: HashName, ...parts: Uint8Array[]): Uint8Array
  hmac(hash: HashName, key: Uint8Array): Mac
  /**
   * Fetches what the cipher of this name needs, where that is code of its own: to be awaited before its primitives (aesGcm,
   * aesCtr, aesCbcDecrypt, chacha20InPlace, poly1305) are called. Left out where everything is always there.
   */
  prepareCipher?(name: string): MaybePromise<void>
  aesGcm(key: Uint8Array): AesGcm
  aesCtr(key: Uint8Array, iv: Uint8Array): StreamCipher
  /** XORs the ChaCha20 key stream (original 64-bit nonce, 64-bit block counter: OpenSSH PROTOCOL.chacha20poly1305) over `bytes` in place. */
  chacha20InPlace(key: Uint8Array, nonce: Uint8Array, counter: number, bytes: Uint8Array): void
  poly1305(key: Uint8Array, bytes: Uint8Array): Uint8Array
  /** Whether two secrets of equal public length are equal, in constant time where the platform can. False for different lengths. */
  timingSafeEqual(a: Uint8Array, b: Uint8Array): boolean

  x25519KeyPair(random: RandomSource): MaybePromise<AgreementKeyPair>
  /** Raw 32-byte shared secret; undefined where it is all zero or the point is of low order (RFC 8731 s3). */
  x25519(secret: Uint8Array, publicKey: Uint8Array): MaybePromise<Uint8Array | undefined>
  ecdhKeyPair(curve: CurveName, random: RandomSource): MaybePromise<AgreementKeyPair>
  /** X coordinate, field-sized; undefined where the point is not an uncompressed point on the curve (RFC 5656 s4). */
  ecdh(curve: CurveName, secret: Uint8Array, point: Uint8Array): MaybePromise<Uint8Array | undefined>
  /**
   * ML-KEM-768 (FIPS 203). Key: 1184 bytes, ciphertext: 1088, shared secret: 32; the secret is 2400 bytes, or its seed of 64, for
   * the provider that made it.
   */
  mlkem768KeyPair(random: RandomSource): MaybePromise<AgreementKeyPair>
  /** undefined where the key fails FIPS 203 s7.2's modulus check. */
  mlkem768Encapsulate(publicKey: Uint8Array, random: RandomSource): MaybePromise<Encapsulation | undefined>
  mlkem768Decapsulate(secret: Uint8Array, ciphertext: Uint8Array): MaybePromise<Uint8Array>
  /** base^exponent mod modulus, big-endian; for finite-field Diffie-Hellman (client only). */
  modPow(base: Uint8Array, exponent: Uint8Array, modulus: Uint8Array): MaybePromise<Uint8Array>

  /** Whether this runtime can sign and verify with such keys (RSA needs WebCrypto in a browser: absent on insecure origins). */
  supportsKey(type: VerifyKey['type']): boolean
  /**
   * `signature`: ed25519 64 bytes; ecdsa r || s, each field-sized (IEEE P1363); rsa the PKCS#1 v1.5 signature, modulus-sized.
   * `hash` is fixed by the algorithm name, never by the peer ('sha512' is ignored for ed25519). Never throws for bad input: false.
   */
  verify(key: VerifyKey, hash: HashName, data: Uint8Array, signature: Uint8Array): MaybePromise<boolean>
  /** Same encodings as `verify`. */
  sign(key: SigningKey, hash: HashName, data: Uint8Array): MaybePromise<Uint8Array>

  /** Key derivation of encrypted key files; slow by design. May be fetched when it is first needed. */
  bcryptPbkdf(
    passphrase: Uint8Array,
    salt: Uint8Array,
    length: number,
    rounds: number,
  ): MaybePromise<Uint8Array>
  /** AES-CBC decryption without padding removal, for encrypted PEM and PKCS#8 key files; never offered on the wire. */
  aesCbcDecrypt(key: Uint8Array, iv: Uint8Array, bytes: Uint8Array): Uint8Array
}

/** A provider that makes keys on the NIST curves at the call, as node:crypto does. */
export interface SynchronousKeyMaker extends CryptoProvider {
  ecdhKeyPair(curve: CurveName, random: RandomSource): AgreementKeyPair
}
