// authorized_keys (sshd(8), AUTHORIZED_KEYS FILE FORMAT): lines of options, key type, base64 and comment.
// A line that cannot be read is skipped and reported: it never lets anybody in, and never keeps others out.

import { KeyFormatError, safeText } from '../errors.ts'
import { splitKeyText } from '../keys/key-text.ts'
import type { PublicKey } from '../keys/public-key.ts'
import { parsePublicKey } from '../keys/public-key.ts'
import { equalBytes } from '../wire/bytes.ts'
import type { AuthorizedKeyOptions } from './authorized-key-options.ts'
import { KeyOptionError, parseKeyOptions } from './authorized-key-options.ts'

export interface AuthorizedKey extends AuthorizedKeyOptions {
  readonly publicKey: PublicKey
  /** What follows the key, raw. */
  readonly comment: string
  /** Line number, from 1. */
  readonly line: number
}

/** A line that is not used, and why. */
export interface AuthorizedKeyProblem {
  readonly line: number
  /** For people, safe to show. */
  readonly message: string
}

/** The keys of one user. */
export class AuthorizedKeys {
  readonly keys: readonly AuthorizedKey[]
  readonly problems: readonly AuthorizedKeyProblem[]

  constructor(keys: readonly AuthorizedKey[], problems: readonly AuthorizedKeyProblem[] = []) {
    this.keys = keys
    this.problems = problems
  }

  /** Reads the text of an authorized_keys file. Never throws: see `problems`. */
  static parse(text: string): AuthorizedKeys {
    const keys: AuthorizedKey[] = []
    const problems: AuthorizedKeyProblem[] = []
    for (const [i, raw] of text.split(/\r?\n/).entries()) {
      const content = raw.replace(/^[ \t]+/, '')
      if (content === '' || content.startsWith('#')) continue
      try {
        keys.push({ ...parseLine(content), line: i + 1 })
      } catch (error) {
        if (!(error instanceof KeyFormatError || error instanceof KeyOptionError)) throw error
        problems.push({ line: i + 1, message: safeText(error.message) })
      }
    }
    return new AuthorizedKeys(keys, problems)
  }

  /** The entries for a plain key, in the order of the file. */
  forKey(blob: Uint8Array): AuthorizedKey[] {
    return this.keys.filter((key) => !key.certAuthority && equalBytes(key.publicKey.blob, blob))
  }

  /** The entries that make this key a CA for certificates, in the order of the file. */
  forAuthority(blob: Uint8Array): AuthorizedKey[] {
    return this.keys.filter((key) => key.certAuthority && equalBytes(key.publicKey.blob, blob))
  }
}

function parseLine(line: string): Omit<AuthorizedKey, 'line'> {
  // As OpenSSH: first as a key without options, then with what stands before the first blank outside quotes as options.
  const plain = tryKey(line)
  if (plain !== undefined) return { ...plain, ...parseKeyOptions('') }
  const end = endOfOptions(line)
  const options = parseKeyOptions(line.slice(0, end))
  return { ...readKey(line.slice(end)), ...options }
}

function tryKey(text: string): { publicKey: PublicKey; comment: string } | undefined {
  try {
    return readKey(text)
  } catch (error) {
    if (error instanceof KeyFormatError) return undefined
    throw error
  }
}

function readKey(text: string): { publicKey: PublicKey; comment: string } {
  const { type, blob, comment } = splitKeyText(text)
  const publicKey = parsePublicKey(blob)
  if (type !== undefined && type !== publicKey.type)
    throw new KeyFormatError(`the line says ${safeText(type, 80)}, but the key is ${publicKey.type}`)
  return { publicKey, comment }
}

/** Where the options end: the first blank outside double quotes. */
function endOfOptions(line: string): number {
  let quoted = false
  for (let at = 0; at < line.length; at++) {
    const char = line[at]
    if (char === '\\' && line[at + 1] === '"') at++
    else if (char === '"') quoted = !quoted
    else if (!quoted && (char === ' ' || char === '\t')) return at
  }
  throw new KeyOptionError(quoted ? 'a quote is not closed' : 'no key on this line')
}
