// Private keys: what one is here, and reading one from a file of any supported format. The formats have files of their own:
// openssh-key-file.ts (OpenSSH v1), der-private-key.ts (PKCS#1, SEC1, PKCS#8). A further format is one more line in `formats`.
// They are fetched when there is a file to read: who logs in otherwise needs none of them.
// Keys own their bytes; `wipePrivateKey` zeroes them, best effort.

import type { CryptoProvider, MaybePromise, SigningKey } from '../crypto/provider.ts'
import { KeyFormatError, quote } from '../errors.ts'
import { maxBcryptRounds, maxKeyFileBytes } from '../limits.ts'
import { utf8Bytes, utf8Text } from '../wire/bytes.ts'
import { keyErrorCodes, parsing } from './key-format.ts'
import type { Pem } from './pem.ts'
import type { PlainPublicKey, SecurityPublicKey } from './public-key.ts'

/** A key whose numbers we hold: it signs here. */
export interface SoftwarePrivateKey {
  readonly kind: 'software'
  readonly type: PlainPublicKey['type']
  readonly publicKey: PlainPublicKey
  readonly signingKey: SigningKey
  /** Comment in the file, raw; '' where the format has none. */
  readonly comment: string
}

/** The handle of a key inside a FIDO authenticator: it signs only through an agent (PROTOCOL.u2f). */
export interface SecurityPrivateKey {
  readonly kind: 'security-key'
  readonly type: SecurityPublicKey['type']
  readonly publicKey: SecurityPublicKey
  readonly flags: number
  readonly keyHandle: Uint8Array
  readonly reserved: Uint8Array
  readonly comment: string
}

export type PrivateKey = SoftwarePrivateKey | SecurityPrivateKey

export interface ParsePrivateKeyOptions {
  /** Text is used as UTF-8. Ignored where the file is not encrypted. */
  passphrase?: string | Uint8Array
  /** Most rounds of bcrypt that we are ready to compute; 2048 (ssh-keygen -a makes 16 to 24 by default). */
  maxBcryptRounds?: number
  /** Smallest RSA modulus, in bits; 2048. */
  minRsaBits?: number
}

/** Options with defaults filled in, as the formats get them. */
export interface KeyFileOptions {
  passphrase: Uint8Array | undefined
  maxBcryptRounds: number
  limits: { minRsaBits?: number }
}

type Format = (crypto: CryptoProvider, pem: Pem, options: KeyFileOptions) => MaybePromise<PrivateKey>

const der = () => import('./der-private-key.ts')

const formats: ReadonlyMap<string, () => Promise<Format>> = new Map<string, () => Promise<Format>>([
  ['OPENSSH PRIVATE KEY', async () => (await import('./openssh-key-file.ts')).parseOpensshKey],
  ['RSA PRIVATE KEY', async () => (await der()).parsePkcs1],
  ['EC PRIVATE KEY', async () => (await der()).parseSec1],
  ['PRIVATE KEY', async () => (await der()).parsePkcs8],
])

/**
 * Reads a private key file: OpenSSH v1 (plain, or encrypted with a passphrase), or unencrypted PKCS#1, SEC1 or PKCS#8.
 * @param file its bytes or text, at most 1 MiB.
 * @throws KeyFormatError with a code that tells what to do:
 *   'ERR_SSH_KEY_PASSPHRASE_REQUIRED' encrypted and no passphrase given; 'ERR_SSH_KEY_PASSPHRASE_WRONG' it does not open the file;
 *   'ERR_SSH_KEY_CIPHER_UNSUPPORTED' encrypted in a way that is not supported; 'ERR_SSH_KEY_UNSUPPORTED' another kind of key;
 *   'ERR_SSH_KEY_SIZE' RSA outside the accepted sizes; 'ERR_SSH_KEY_FILE_TOO_LARGE'; 'ERR_SSH_KEY_FORMAT' everything else.
 */
export async function parsePrivateKey(
  crypto: CryptoProvider,
  file: Uint8Array | string,
  options: ParsePrivateKeyOptions = {},
): Promise<PrivateKey> {
  if (file.length > maxKeyFileBytes) {
    throw new KeyFormatError(`a key file of ${file.length} bytes; at most ${maxKeyFileBytes}`, {
      code: keyErrorCodes.fileTooLarge,
    })
  }
  const { readPem } = await import('./pem.ts')
  const pem = readPem(typeof file === 'string' ? file : utf8Text(file))
  const fetchFormat = formats.get(pem.label)
  if (fetchFormat === undefined) throw unsupportedFormat(pem.label)
  const format = await fetchFormat()
  const { passphrase } = options
  const filled: KeyFileOptions = {
    passphrase: typeof passphrase === 'string' ? utf8Bytes(passphrase) : passphrase,
    maxBcryptRounds: options.maxBcryptRounds ?? maxBcryptRounds,
    limits: options.minRsaBits === undefined ? {} : { minRsaBits: options.minRsaBits },
  }
  return await parsing('the key file', () => format(crypto, pem, filled))
}

/** Zeroes the secret parts of a key, best effort: copies that a runtime made are out of reach. */
export function wipePrivateKey(key: PrivateKey): void {
  if (key.kind === 'security-key') return
  const { signingKey } = key
  if (signingKey.type === 'ed25519') signingKey.seed.fill(0)
  else if (signingKey.type === 'ecdsa') signingKey.scalar.fill(0)
  else for (const part of [signingKey.d, signingKey.p, signingKey.q, signingKey.iqmp]) part.fill(0)
}

function unsupportedFormat(label: string): KeyFormatError {
  if (label === 'ENCRYPTED PRIVATE KEY') {
    return new KeyFormatError(
      'encrypted PKCS#8 is not supported; convert the file with: ssh-keygen -p -f FILE',
      {
        code: keyErrorCodes.cipherUnsupported,
      },
    )
  }
  const expected = [...formats.keys()].map((name) => `"${name}"`).join(', ')
  return new KeyFormatError(`the file holds ${quote(label, 80)}; expected one of ${expected}`, {
    code: keyErrorCodes.unsupported,
  })
}
