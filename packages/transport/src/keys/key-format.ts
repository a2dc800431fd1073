// Turns what the wire reader throws into the error that callers of keys/ see: a KeyFormatError that says what was read.

import { KeyFormatError } from '../errors.ts'
import { WireError } from '../wire/wire-error.ts'

/** Codes of KeyFormatError that programs may want to tell apart; everything else is 'ERR_SSH_KEY_FORMAT'. */
export const keyErrorCodes = {
  /** The key type, or its form, is one that is not supported. */
  unsupported: 'ERR_SSH_KEY_UNSUPPORTED',
  /** Outside the accepted sizes (RSA). */
  size: 'ERR_SSH_KEY_SIZE',
  /** The file is encrypted and no passphrase was given. */
  passphraseRequired: 'ERR_SSH_KEY_PASSPHRASE_REQUIRED',
  /** The passphrase does not open the file. */
  passphraseWrong: 'ERR_SSH_KEY_PASSPHRASE_WRONG',
  /** The file is encrypted in a way that is not supported. */
  cipherUnsupported: 'ERR_SSH_KEY_CIPHER_UNSUPPORTED',
  /** Larger than any key file. */
  fileTooLarge: 'ERR_SSH_KEY_FILE_TOO_LARGE',
  /** A signature just made does not verify: it is not given out. */
  selfCheck: 'ERR_SSH_SIGNATURE_SELF_CHECK',
} as const

/** Runs a parser; a WireError comes out as a KeyFormatError about `what`. */
export function parsing<T>(what: string, parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    if (error instanceof WireError)
      throw new KeyFormatError(`${what} is malformed: ${error.message}`, { cause: error })
    throw error
  }
}
