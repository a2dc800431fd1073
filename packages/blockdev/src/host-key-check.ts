// The host key check setting of a location, with QEMU's meaning: its type, its text form and its structured form.
// Deliberately not here: the check itself. It is the transport's host key policy, asked after key exchange and before any
// authentication; the driver hands it what this file parsed.

import { quote } from '@sshblock/transport/errors'
import { LocationError } from './errors.ts'

export type HashType = 'md5' | 'sha1' | 'sha256'

/** How the server's host key is judged. */
export type HostKeyCheck =
  /** Against known_hosts. */
  | { readonly mode: 'known_hosts' }
  /** Not at all: anybody in the middle can read and change the disk. */
  | { readonly mode: 'none' }
  /**
   * By the hash of the key blob. `hash` is hex, or for sha256 OpenSSH's own form with its prefix ('SHA256:' and base64).
   * Hex is compared by QEMU's rule: before each byte any run of ':' is skipped, two digits of any case, nothing after the
   * last byte. A text that is no hex at all therefore is a mismatch (EPERM), not a bad setting (EINVAL).
   */
  | { readonly mode: 'hash'; readonly type: HashType; readonly hash: string }

const expected = 'expected "yes", "no", "md5:HEX", "sha1:HEX", "sha256:HEX" or "SHA256:BASE64"'
const openSshPrefix = 'SHA256:'

/** Whether a sha256 hash is written as OpenSSH prints it ('SHA256:' and base64) and not as hex. */
export function isOpenSshFingerprint(hash: string): boolean {
  return hash.startsWith(openSshPrefix)
}

/**
 * Parses the text form: 'yes', 'no', 'md5:HEX', 'sha1:HEX', 'sha256:HEX', 'SHA256:BASE64'.
 * @param field the name by which an error calls the setting.
 * @throws LocationError EINVAL for anything else.
 */
export function parseHostKeyCheck(text: string, field = 'host_key_check'): HostKeyCheck {
  if (text === 'yes') return { mode: 'known_hosts' }
  if (text === 'no') return { mode: 'none' }
  if (isOpenSshFingerprint(text)) return hashCheck('sha256', text, field)
  const colon = text.indexOf(':')
  const type = text.slice(0, colon)
  if (colon > 0 && isHashType(type)) return hashCheck(type, text.slice(colon + 1), field)
  if (text === '') throw new LocationError(field, `has no value; ${expected}`)
  throw new LocationError(field, `unknown setting ${quote(text)}; ${expected}`)
}

/**
 * Parses the structured form `{mode, type?, hash?}`, as QEMU's `host-key-check.mode|type|hash` have it.
 * @param field prefix of the names that an error gives.
 * @throws LocationError EINVAL; names the member.
 */
export function parseStructuredHostKeyCheck(
  members: { mode?: unknown; type?: unknown; hash?: unknown },
  field = 'host-key-check',
): HostKeyCheck {
  const { mode, type, hash } = members
  if (mode === undefined)
    throw new LocationError(`${field}.mode`, 'is missing; expected "none", "known_hosts" or "hash"')
  if (mode === 'none' || mode === 'known_hosts') {
    for (const [name, value] of [
      ['type', type],
      ['hash', hash],
    ] as const) {
      if (value !== undefined)
        throw new LocationError(`${field}.${name}`, `can only be given with mode "hash", not ${quote(mode)}`)
    }
    return { mode }
  }
  if (mode !== 'hash') {
    throw new LocationError(
      `${field}.mode`,
      `unknown mode ${quote(String(mode))}; expected "none", "known_hosts" or "hash"`,
    )
  }
  if (type === undefined)
    throw new LocationError(`${field}.type`, 'is missing; expected "md5", "sha1" or "sha256"')
  if (typeof type !== 'string' || !isHashType(type)) {
    throw new LocationError(
      `${field}.type`,
      `unknown hash type ${quote(String(type))}; expected "md5", "sha1" or "sha256"`,
    )
  }
  if (hash === undefined)
    throw new LocationError(`${field}.hash`, `is missing; expected the ${type} hash of the host key in hex`)
  if (typeof hash !== 'string')
    throw new LocationError(`${field}.hash`, `expected a text with the ${type} hash of the host key in hex`)
  return hashCheck(type, hash, `${field}.hash`)
}

/** The text form; `parseHostKeyCheck` gives the same check back. */
export function formatHostKeyCheck(check: HostKeyCheck): string {
  if (check.mode === 'known_hosts') return 'yes'
  if (check.mode === 'none') return 'no'
  return isOpenSshFingerprint(check.hash) ? check.hash : `${check.type}:${check.hash}`
}

function isHashType(text: string): text is HashType {
  return text === 'md5' || text === 'sha1' || text === 'sha256'
}

function hashCheck(type: HashType, hash: string, field: string): HostKeyCheck {
  if (hash === '')
    throw new LocationError(field, `has no hash; expected the ${type} hash of the host key in hex`)
  if (/[\p{Cc}\p{Cs}]/u.test(hash))
    throw new LocationError(field, `${quote(hash)} has characters that no hash has`)
  if (isOpenSshFingerprint(hash)) {
    if (type !== 'sha256') throw new LocationError(field, `${quote(hash)} is a sha256 hash, not ${type}`)
    // 32 bytes of base64: OpenSSH prints 43 characters without padding.
    if (!/^[A-Za-z0-9+/]{43}=?$/.test(hash.slice(openSshPrefix.length))) {
      throw new LocationError(
        field,
        `${quote(hash)} is no OpenSSH fingerprint; expected "SHA256:" and 43 characters of base64`,
      )
    }
  }
  return { mode: 'hash', type, hash }
}
