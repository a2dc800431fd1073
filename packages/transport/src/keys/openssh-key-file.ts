// OpenSSH's private key format, PROTOCOL.key ("openssh-key-v1"): read plain and encrypted, written plain or encrypted.
// The whole layout is checked (magic, one key, cipher and KDF belong together, lengths, block multiple) before the slow key
// derivation starts; the passphrase counts as wrong only where everything before it was right.

import type { CryptoProvider, MaybePromise, RandomSource } from '../crypto/provider.ts'
import { KeyFormatError, quote, UsageError } from '../errors.ts'
import { concat, equalBytes, readU32, toBase64, utf8Bytes, utf8Text } from '../wire/bytes.ts'
import { Reader } from '../wire/reader.ts'
import { Writer } from '../wire/writer.ts'
import { keyErrorCodes, parsing } from './key-format.ts'
import { whenReady } from './maybe-promise.ts'
import { formatPem, type Pem } from './pem.ts'
import type { KeyFileOptions, PrivateKey } from './private-key.ts'
import { readPrivateKeyFields, writePrivateKeyFields } from './private-key-fields.ts'
import { parsePublicKey } from './public-key.ts'

const label = 'OPENSSH PRIVATE KEY'
const magic = utf8Bytes('openssh-key-v1\0')

interface FileCipher {
  readonly keyLength: number
  readonly ivLength: number
  /** Bytes that follow the encrypted string. */
  readonly tagLength: number
  readonly blockSize: number
  /** Plaintext in a new array; undefined where the tag is wrong. */
  open(
    crypto: CryptoProvider,
    key: Uint8Array,
    iv: Uint8Array,
    sealed: Uint8Array,
  ): MaybePromise<Uint8Array | undefined>
}

const fileCiphers: ReadonlyMap<string, FileCipher> = new Map([
  ...[32, 24, 16].map((keyLength): [string, FileCipher] => [
    `aes${keyLength * 8}-ctr`,
    { keyLength, ivLength: 16, tagLength: 0, blockSize: 16, open: openCtr },
  ]),
  ...[32, 24, 16].map((keyLength): [string, FileCipher] => [
    `aes${keyLength * 8}-cbc`,
    {
      keyLength,
      ivLength: 16,
      tagLength: 0,
      blockSize: 16,
      open: (crypto, key, iv, sealed) => crypto.aesCbcDecrypt(key, iv, sealed),
    },
  ]),
  ...[32, 16].map((keyLength): [string, FileCipher] => [
    `aes${keyLength * 8}-gcm@openssh.com`,
    {
      keyLength,
      ivLength: 12,
      tagLength: 16,
      blockSize: 16,
      open: (crypto, key, iv, sealed) => crypto.aesGcm(key).open(iv, new Uint8Array(0), sealed),
    },
  ]),
  [
    'chacha20-poly1305@openssh.com',
    { keyLength: 64, ivLength: 0, tagLength: 16, blockSize: 8, open: openChachaPoly },
  ],
])

/** Reads the body of an "OPENSSH PRIVATE KEY" block; see parsePrivateKey for its errors. */
export function parseOpensshKey(
  crypto: CryptoProvider,
  pem: Pem,
  options: KeyFileOptions,
): MaybePromise<PrivateKey> {
  const reader = new Reader(pem.body)
  if (!equalBytes(reader.raw(Math.min(magic.length, reader.remaining)), magic)) {
    throw new KeyFormatError('the key file does not start with "openssh-key-v1"')
  }
  const cipherName = utf8Text(reader.string())
  const kdfName = utf8Text(reader.string())
  const kdfOptions = reader.string()
  const count = reader.u32()
  if (count !== 1) throw new KeyFormatError(`the key file holds ${count} keys; expected 1`)
  const publicBlob = reader.string()
  const sealed = reader.string()

  if (cipherName === 'none') {
    if (kdfName !== 'none' || kdfOptions.length !== 0)
      throw new KeyFormatError('a key derivation in a file that is not encrypted')
    reader.expectEnd()
    checkBlocks(sealed.length, 8)
    return readSecretSection(sealed, publicBlob, options, false)
  }

  const cipher = fileCiphers.get(cipherName)
  if (cipher === undefined) {
    throw new KeyFormatError(
      `the key file is encrypted with ${quote(cipherName, 80)}; supported are ${[...fileCiphers.keys()].join(', ')}`,
      { code: keyErrorCodes.cipherUnsupported },
    )
  }
  if (kdfName !== 'bcrypt') {
    throw new KeyFormatError(`the key file derives its key with ${quote(kdfName, 80)}; expected "bcrypt"`, {
      code: keyErrorCodes.cipherUnsupported,
    })
  }
  const { salt, rounds } = readKdfOptions(kdfOptions, options.maxBcryptRounds)
  checkBlocks(sealed.length, cipher.blockSize)
  const tag = reader.raw(cipher.tagLength)
  reader.expectEnd()
  const { passphrase } = options
  if (passphrase === undefined || passphrase.length === 0) {
    throw new KeyFormatError(`the key file is encrypted (${cipherName}): a passphrase is needed`, {
      code: keyErrorCodes.passphraseRequired,
    })
  }
  const length = cipher.keyLength + cipher.ivLength
  const derive = () => crypto.bcryptPbkdf(passphrase, salt, length, rounds)
  return whenReady(whenReady(crypto.prepareCipher?.(cipherName), derive), (derived) => {
    const key = derived.subarray(0, cipher.keyLength)
    const iv = derived.subarray(cipher.keyLength)
    return whenReady(cipher.open(crypto, key, iv, concat(sealed, tag)), (plain) => {
      derived.fill(0)
      if (plain === undefined) throw wrongPassphrase()
      try {
        // Not inside the caller's `parsing` where the cipher was asynchronous.
        return parsing('the key file', () => readSecretSection(plain, publicBlob, options, true))
      } finally {
        plain.fill(0)
      }
    })
  })
}

export interface FormatPrivateKeyOptions {
  /** Encrypts the file (aes256-ctr, bcrypt), as ssh-keygen does. */
  passphrase?: string | Uint8Array
  /** Rounds of bcrypt; 16. */
  rounds?: number
}

/**
 * Writes a key as an OpenSSH v1 file, text with a final newline. With a passphrase the answer may be a promise: see
 * CryptoProvider.bcryptPbkdf.
 * @param random fills the check number, and the salt of an encrypted file.
 * @throws UsageError where `rounds` is not from 1 to 2^32 - 1.
 */
export function formatPrivateKey(
  crypto: CryptoProvider,
  key: PrivateKey,
  random: RandomSource,
  options?: Omit<FormatPrivateKeyOptions, 'passphrase'>,
): string
export function formatPrivateKey(
  crypto: CryptoProvider,
  key: PrivateKey,
  random: RandomSource,
  options: FormatPrivateKeyOptions,
): MaybePromise<string>
export function formatPrivateKey(
  crypto: CryptoProvider,
  key: PrivateKey,
  random: RandomSource,
  options: FormatPrivateKeyOptions = {},
): MaybePromise<string> {
  const passphrase =
    typeof options.passphrase === 'string' ? utf8Bytes(options.passphrase) : options.passphrase
  const encrypted = passphrase !== undefined && passphrase.length > 0
  const rounds = options.rounds ?? 16
  if (!Number.isInteger(rounds) || rounds < 1 || rounds > 0xffff_ffff) {
    throw new UsageError(`rounds: expected an integer from 1 to 2^32 - 1, got ${rounds}`)
  }
  const check = new Uint8Array(4)
  random(check)
  // Large enough for any key: a buffer that grew would leave the secret behind in the old one.
  const secret = new Writer(32_768).raw(check).raw(check)
  writePrivateKeyFields(secret, key)
  secret.text(key.comment)
  const blockSize = encrypted ? 16 : 8
  for (let pad = 1; secret.length % blockSize !== 0; pad++) secret.u8(pad)
  const sealed = secret.copy()
  secret.buffer.fill(0)

  const file = new Writer(1024).raw(magic)
  const finish = (): string => {
    file.u32(1).string(key.publicKey.blob).string(sealed)
    return formatPem(label, toBase64(file.bytes()))
  }
  if (!encrypted) {
    file.text('none').text('none').text('')
    return finish()
  }
  const salt = new Uint8Array(16)
  random(salt)
  const derive = () => crypto.bcryptPbkdf(passphrase, salt, 48, rounds)
  return whenReady(whenReady(crypto.prepareCipher?.('aes256-ctr'), derive), (derived) => {
    crypto.aesCtr(derived.subarray(0, 32), derived.subarray(32)).applyInPlace(sealed)
    derived.fill(0)
    file.text('aes256-ctr').text('bcrypt').string(new Writer().string(salt).u32(rounds).bytes())
    return finish()
  })
}

/** PROTOCOL.key section 3. `encrypted` tells whether a wrong check number means a wrong passphrase. */
function readSecretSection(
  plain: Uint8Array,
  publicBlob: Uint8Array,
  options: KeyFileOptions,
  encrypted: boolean,
): PrivateKey {
  if (plain.length < 8 || readU32(plain, 0) !== readU32(plain, 4)) {
    throw encrypted
      ? wrongPassphrase()
      : new KeyFormatError('the two check numbers of the key file differ: it is damaged')
  }
  const reader = new Reader(plain, 8)
  const { key } = readPrivateKeyFields(reader, options.limits)
  const comment = reader.text()
  for (let pad = 1; reader.remaining > 0; pad++) {
    if (reader.u8() !== pad % 256) throw new KeyFormatError('the padding of the key file is not 1, 2, 3, ...')
  }
  if (!equalBytes(parsePublicKey(publicBlob, options.limits).blob, key.publicKey.blob)) {
    throw new KeyFormatError('the public and the private part of the key file are not of one key')
  }
  return { ...key, comment }
}

function readKdfOptions(bytes: Uint8Array, maxRounds: number): { salt: Uint8Array; rounds: number } {
  return parsing('the key derivation of the key file', () => {
    const reader = new Reader(bytes)
    const salt = reader.string()
    const rounds = reader.u32()
    reader.expectEnd()
    if (salt.length === 0) throw new KeyFormatError('the key derivation of the key file has no salt')
    if (rounds < 1 || rounds > maxRounds) {
      throw new KeyFormatError(
        `the key file asks for ${rounds} rounds of bcrypt; accepted are 1 to ${maxRounds}`,
      )
    }
    return { salt, rounds }
  })
}

function checkBlocks(length: number, blockSize: number): void {
  if (length === 0 || length % blockSize !== 0) {
    throw new KeyFormatError(`the private part has ${length} bytes, not a multiple of ${blockSize}`)
  }
}

function wrongPassphrase(): KeyFormatError {
  return new KeyFormatError('the passphrase does not open the key file (or the file is damaged)', {
    code: keyErrorCodes.passphraseWrong,
  })
}

function openCtr(crypto: CryptoProvider, key: Uint8Array, iv: Uint8Array, sealed: Uint8Array): Uint8Array {
  crypto.aesCtr(key, iv).applyInPlace(sealed)
  return sealed
}

/** PROTOCOL.chacha20poly1305 with sequence number 0 and no length field: key K_2 is the first half. */
function openChachaPoly(
  crypto: CryptoProvider,
  key: Uint8Array,
  _iv: Uint8Array,
  sealed: Uint8Array,
): Uint8Array | undefined {
  const main = key.subarray(0, 32)
  const nonce = new Uint8Array(8)
  const polyKey = new Uint8Array(32)
  crypto.chacha20InPlace(main, nonce, 0, polyKey)
  const body = sealed.subarray(0, sealed.length - 16)
  if (!crypto.timingSafeEqual(crypto.poly1305(polyKey, body), sealed.subarray(sealed.length - 16)))
    return undefined
  crypto.chacha20InPlace(main, nonce, 1, body)
  return body
}
