// A key exchange method: what RFC 4253 s7.1 calls kex_algorithm. All of ours have the same shape: the client sends one value
// (message 30), the server answers with its own (message 31), and both arrive at a secret K.
// Both halves of a method are in one file. Host keys, signatures and the exchange hash are not theirs: key-exchange is.

import type { CryptoProvider, HashName, MaybePromise, RandomSource } from '../crypto/provider.ts'

/** K as it enters the exchange hash and the key derivation: already encoded, length prefix included (mpint, or string for the hybrids). */
export interface KexMethod {
  readonly name: string
  readonly hash: HashName
  /**
   * Client half: our public value (content of the string or mpint in message 30), and what to do with the server's:
   * `finish` returns K encoded, to be wiped by the caller; throws ProtocolError for a value that is not acceptable; may be
   * called once, and wipes the private value.
   */
  client(crypto: CryptoProvider, random: RandomSource): MaybePromise<KexClient>
  /** Server half; undefined where this method is client-only. Throws ProtocolError for a client value that is not acceptable. */
  server?(crypto: CryptoProvider, random: RandomSource, clientValue: Uint8Array): MaybePromise<KexServer>
}

export interface KexClient {
  publicValue: Uint8Array
  finish(serverValue: Uint8Array): MaybePromise<Uint8Array>
}

/** The server's half: what it answers with, and K encoded, to be wiped by the caller. */
export interface KexServer {
  publicValue: Uint8Array
  encodedSecret: Uint8Array
}
