/** The npm package bcrypt-pbkdf 1.0 (CommonJS, no types of its own): what we use of it. */
declare module 'bcrypt-pbkdf' {
  interface BcryptPbkdf {
    /** Fills `key` with `keyLength` bytes. 0, or -1 where an argument is out of range (then `key` is untouched). */
    pbkdf(
      passphrase: Uint8Array,
      passphraseLength: number,
      salt: Uint8Array,
      saltLength: number,
      key: Uint8Array,
      keyLength: number,
      rounds: number,
    ): number
  }
  const bcrypt: BcryptPbkdf
  export default bcrypt
}
