// bcrypt_pbkdf, the key derivation of OpenSSH's encrypted key files (OpenBSD bcrypt_pbkdf(3); OpenSSH PROTOCOL.key).
// Slow by design: about 3 ms a round here, and it holds the thread. Limits on rounds belong to the key-file layer.

/// <reference path="./bcrypt-pbkdf-package.d.ts" />
import bcrypt from 'bcrypt-pbkdf'
import { UsageError } from '../errors.ts'

/**
 * Derives `length` bytes (1..1024). UsageError where the passphrase or salt is empty, or rounds < 1: bcrypt_pbkdf(3)
 * defines no result for these.
 */
export function bcryptPbkdf(
  passphrase: Uint8Array,
  salt: Uint8Array,
  length: number,
  rounds: number,
): Uint8Array {
  const key = new Uint8Array(length)
  if (bcrypt.pbkdf(passphrase, passphrase.length, salt, salt.length, key, length, rounds) !== 0) {
    throw new UsageError(
      `bcrypt_pbkdf takes a passphrase and a salt that are not empty, 1 to 1024 bytes and at least 1 round, ` +
        `not ${passphrase.length}, ${salt.length} and ${length} bytes and ${rounds} rounds`,
    )
  }
  return key
}
