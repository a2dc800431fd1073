// One line of known_hosts, read exactly as OpenSSH reads it (sshd(8) SSH_KNOWN_HOSTS FILE FORMAT; hostfile.c and sshkey.c for
// what the manual leaves open), quirks included: what ssh would trust is trusted, what it skips is skipped.
// Lines are handled as strings with one unit per byte, so that bytes which are not UTF-8 survive and match as they are.

import type { CryptoProvider } from '../crypto/provider.ts'
import { KeyFormatError } from '../errors.ts'
import { fromBase64, toBase64, utf8Bytes } from '../wire/bytes.ts'
import { Reader } from '../wire/reader.ts'
import { WireError } from '../wire/wire-error.ts'
import { parseCertificate } from './certificate.ts'
import { matchesPatternList } from './host-pattern.ts'
import { isCertificateType, parsePublicKey, peekKeyType } from './public-key.ts'

export type KnownHostsMarker = 'cert-authority' | 'revoked'

export interface KnownHostsEntry {
  /** Line number, from 1. */
  readonly line: number
  /** The file's name, where the text came from a file. */
  readonly path: string | undefined
  readonly marker: KnownHostsMarker | undefined
  /** Patterns, or one hashed name, one unit per byte. */
  readonly hosts: string
  /** Type of the key blob. */
  readonly keyType: string
  readonly keyBlob: Uint8Array
  /** The blob of the key itself where the line holds a certificate; else `keyBlob`. */
  readonly plainKeyBlob: Uint8Array
  readonly comment: string
}

export type KnownHostsLine =
  | { readonly kind: 'entry'; readonly entry: KnownHostsEntry }
  | { readonly kind: 'comment' }
  /** ssh skips it, and so do we; kept as it is when the file is written. */
  | { readonly kind: 'invalid'; readonly reason: string }

/** OpenSSH still reads RSA keys of this size from known_hosts; ours only ever compares them. */
const minKnownRsaBits = 1024

/** Names that OpenSSH takes in the type column for a key that has another name in its blob. */
const typeAliases: ReadonlyMap<string, string> = new Map([
  ['rsa-sha2-256', 'ssh-rsa'],
  ['rsa-sha2-512', 'ssh-rsa'],
  ['rsa-sha2-256-cert-v01@openssh.com', 'ssh-rsa-cert-v01@openssh.com'],
  ['rsa-sha2-512-cert-v01@openssh.com', 'ssh-rsa-cert-v01@openssh.com'],
  ['webauthn-sk-ecdsa-sha2-nistp256@openssh.com', 'sk-ecdsa-sha2-nistp256@openssh.com'],
])

/** Parses one line without its '\n'. Never throws. */
export function parseKnownHostsLine(text: string, line: number, path: string | undefined): KnownHostsLine {
  // OpenSSH works on C strings: whatever follows a NUL is not there.
  const nul = text.indexOf('\0')
  let rest = skipBlanks(nul < 0 ? text : text.slice(0, nul))
  if (rest === '' || rest.startsWith('#')) return { kind: 'comment' }

  let marker: KnownHostsMarker | undefined
  if (rest.startsWith('@')) {
    // The marker ends at the first space or, only where the line has no space at all, at the first tab.
    const space = rest.indexOf(' ')
    const end = space >= 0 ? space : rest.indexOf('\t')
    const name = end < 0 ? '' : rest.slice(1, end)
    if (name !== 'cert-authority' && name !== 'revoked') return { kind: 'invalid', reason: 'unknown marker' }
    marker = name
    rest = skipBlanks(rest.slice(end))
    if (rest.startsWith('@')) return { kind: 'invalid', reason: 'more than one marker' }
  }

  const [hosts, afterHosts] = splitWord(rest)
  if (hosts.startsWith('|') && !isHashedName(hosts))
    return { kind: 'invalid', reason: 'malformed hashed name' }
  const [typeName, afterType] = splitWord(afterHosts)
  const [base64, comment] = splitWord(afterType)
  if (typeName === '' || typeName.startsWith('#') || base64 === '')
    return { kind: 'invalid', reason: 'cut off' }
  const keyBlob = strictBase64(base64)
  if (keyBlob === undefined) return { kind: 'invalid', reason: 'the key is not base64' }
  try {
    const keyType = peekKeyType(keyBlob)
    if (keyType !== (typeAliases.get(typeName) ?? typeName)) {
      return { kind: 'invalid', reason: 'the key is not of the type that the line says' }
    }
    const plainKeyBlob = readKnownKey(keyType, keyBlob)
    return { kind: 'entry', entry: { line, path, marker, hosts, keyType, keyBlob, plainKeyBlob, comment } }
  } catch (error) {
    if (error instanceof KeyFormatError) return { kind: 'invalid', reason: error.message }
    throw error
  }
}

/**
 * Whether a line's host column is about `name` ('host' or '[host]:port', as a string with one unit per byte).
 * Hashed names compare exactly; patterns without regard to case.
 */
export function matchesHosts(crypto: CryptoProvider, hosts: string, name: string): boolean {
  if (!hosts.startsWith('|')) return matchesPatternList(lowerAscii(name), lowerAscii(hosts))
  const [, , salt] = hosts.split('|')
  return hosts === hashHostName(crypto, name, strictBase64(salt!)!)
}

/** '|1|salt|hash': HMAC-SHA1 of the name under a 20-byte salt, both in base64. */
export function hashHostName(crypto: CryptoProvider, name: string, salt: Uint8Array): string {
  const hash = crypto.hmac('sha1', salt).compute(byteStringBytes(name))
  return `|1|${toBase64(salt)}|${toBase64(hash)}`
}

/** Lower case of A to Z, nothing else: what OpenSSH's lowercase() does to a name. */
export function lowerAscii(text: string): string {
  return text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase())
}

/** UTF-8 bytes of a text as a string with one unit per byte. */
export function byteString(text: string): string {
  return bytesToByteString(utf8Bytes(text))
}

export function bytesToByteString(bytes: Uint8Array): string {
  let text = ''
  for (let at = 0; at < bytes.length; at += 0x2000)
    text += String.fromCharCode(...bytes.subarray(at, at + 0x2000))
  return text
}

export function byteStringBytes(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length)
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i)
  return bytes
}

/**
 * Checks a key as OpenSSH does when it reads the file, and returns the blob of the plain key.
 * DSA and short RSA keys still count: a host known by one, which now shows another key, has changed.
 */
function readKnownKey(keyType: string, blob: Uint8Array): Uint8Array {
  if (keyType === 'ssh-dss') {
    checkDsaBlob(blob)
    return blob
  }
  const limits = { minRsaBits: minKnownRsaBits }
  if (isCertificateType(keyType)) return parseCertificate(blob, limits).publicKey.blob
  return parsePublicKey(blob, limits).blob
}

/** RFC 4253 s6.6: p, q, g, y. */
function checkDsaBlob(blob: Uint8Array): void {
  try {
    const reader = new Reader(blob)
    reader.string()
    for (let i = 0; i < 4; i++) reader.unsignedMpint()
    reader.expectEnd()
  } catch (error) {
    if (error instanceof WireError) throw new KeyFormatError(error.message)
    throw error
  }
}

function isHashedName(hosts: string): boolean {
  const salt = /^\|1\|([^|]{1,1024})\|/.exec(hosts)?.[1]
  return salt !== undefined && strictBase64(salt)?.length === 20
}

/** Base64 as b64_pton takes it: white space anywhere, padding required, spare bits zero. */
function strictBase64(text: string): Uint8Array | undefined {
  const compact = text.replace(/[\r\n\v\f\t ]+/g, '')
  const bytes = fromBase64(compact)
  return bytes !== undefined && toBase64(bytes) === compact ? bytes : undefined
}

function skipBlanks(text: string): string {
  return text.replace(/^[ \t]+/, '')
}

/** The text up to the first blank, and what follows the blanks. */
function splitWord(text: string): [word: string, rest: string] {
  const end = text.search(/[ \t]/)
  return end < 0 ? [text, ''] : [text.slice(0, end), skipBlanks(text.slice(end))]
}
