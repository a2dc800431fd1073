// A known_hosts file in memory: looked up, added to, and written out with every byte that was not touched as it was.
// The answers are OpenSSH's (hostfile.c check_hostkeys_by_key_or_type, sshconnect.c check_host_key): a revoked key beats
// everything; a known host that shows a key not in the file has changed, whatever the type of that key; @cert-authority
// lines count for certificates only, others for plain keys only. No I/O here: see node-known-hosts-file.ts.

import type { CryptoProvider, RandomSource } from '../crypto/provider.ts'
import { UsageError } from '../errors.ts'
import { concat, equalBytes, toBase64, utf8Bytes } from '../wire/bytes.ts'
import type { Certificate } from './certificate.ts'
import {
  byteString,
  bytesToByteString,
  hashHostName,
  type KnownHostsEntry,
  type KnownHostsLine,
  type KnownHostsMarker,
  lowerAscii,
  matchesHosts,
  parseKnownHostsLine,
} from './known-hosts-line.ts'
import type { PublicKey } from './public-key.ts'

export interface HostTarget {
  /** As the user typed it, without brackets. */
  host: string
  port: number
  /** Name to look up instead of host and port (ssh_config HostKeyAlias). */
  alias?: string
}

export type KnownHostsStatus =
  /** The key is in the file for this host. */
  | 'trusted'
  /** The file says nothing about this host. */
  | 'unknown'
  /** The file has other keys for this host. */
  | 'changed'
  /** The key is marked @revoked for this host. */
  | 'revoked'

export interface KnownHostsResult {
  readonly status: KnownHostsStatus
  /** Name under which the answer was found, 'host' or '[host]:port'. */
  readonly name: string
  /** The deciding line: the matching, revoking, or first conflicting one. */
  readonly entry: KnownHostsEntry | undefined
  /** All lines about that name. */
  readonly entries: readonly KnownHostsEntry[]
}

export interface NewKnownHost extends HostTarget {
  /** 'type' and blob of the key; for a CA the CA's key. */
  key: { type: string; blob: Uint8Array }
  marker?: KnownHostsMarker
  /** Writes the name hashed, as Debian's default has it; needs `random` for the salt. */
  hash?: { random: RandomSource }
  comment?: string
}

/** The name under which a host stands in known_hosts: lower case; '[host]:port' where the port is not 22. */
export function knownHostsName(target: HostTarget): string {
  if (target.alias !== undefined) return lowerAscii(target.alias)
  const host = lowerAscii(target.host)
  return target.port === 22 ? host : `[${host}]:${target.port}`
}

/**
 * One line for known_hosts, without line end.
 * @throws UsageError where the name, marker or comment could not be read back (blanks, control characters, pattern characters).
 */
export function formatKnownHostsLine(crypto: CryptoProvider, host: NewKnownHost): string {
  const name = knownHostsName(host)
  // Anything else would make another line, another host, a pattern or a comment of it.
  if (name === '' || /[\s\p{Cc},*?!|#@]/u.test(name)) {
    throw new UsageError(
      'a host name with blanks, control or pattern characters cannot be written to known_hosts',
    )
  }
  let column = name
  if (host.hash !== undefined) {
    const salt = new Uint8Array(20)
    host.hash.random(salt)
    column = hashHostName(crypto, byteString(name), salt)
  }
  const marker = host.marker === undefined ? '' : `@${host.marker} `
  const comment = host.comment === undefined || host.comment === '' ? '' : ` ${host.comment}`
  if (/[\r\n\0]/.test(comment)) throw new UsageError('a known_hosts comment cannot contain line ends')
  return `${marker}${column} ${host.key.type} ${toBase64(host.key.blob)}${comment}`
}

interface StoredLine {
  readonly parsed: KnownHostsLine
  /** The line with its line end, as in the file. */
  readonly bytes: Uint8Array
}

export class KnownHosts {
  /** Where the text came from, for messages. */
  readonly path: string | undefined
  #lines: StoredLine[] = []

  private constructor(path: string | undefined) {
    this.path = path
  }

  /**
   * Reads a file's content; never fails: lines that cannot be used are skipped, and kept.
   * @param path name for messages.
   */
  static parse(content: Uint8Array | string, path?: string): KnownHosts {
    const knownHosts = new KnownHosts(path)
    knownHosts.#append(typeof content === 'string' ? utf8Bytes(content) : content.slice())
    return knownHosts
  }

  /** All usable lines, in order. */
  get entries(): KnownHostsEntry[] {
    return this.#lines.flatMap(({ parsed }) => (parsed.kind === 'entry' ? [parsed.entry] : []))
  }

  /** Lines that are skipped, with the reason. */
  get invalidLines(): { line: number; reason: string }[] {
    return this.#lines.flatMap(({ parsed }, i) =>
      parsed.kind === 'invalid' ? [{ line: i + 1, reason: parsed.reason }] : [],
    )
  }

  /** Lines about exactly this name ('host' or '[host]:port'), as `ssh-keygen -F` finds them. */
  entriesFor(crypto: CryptoProvider, name: string): KnownHostsEntry[] {
    const wanted = byteString(name)
    return this.entries.filter((entry) => matchesHosts(crypto, entry.hosts, wanted))
  }

  /** What the file says about a plain key that a host shows; see lookupHostKey. */
  lookup(crypto: CryptoProvider, target: HostTarget, key: PublicKey): KnownHostsResult {
    return lookupHostKey(crypto, [this], target, key)
  }

  /**
   * Adds a line at the end; a missing final newline is supplied first.
   * @throws UsageError as formatKnownHostsLine.
   */
  add(crypto: CryptoProvider, host: NewKnownHost): void {
    const line = utf8Bytes(`${formatKnownHostsLine(crypto, host)}\n`)
    const last = this.#lines.at(-1)
    if (last === undefined || last.bytes.at(-1) === newline) {
      this.#append(line)
      return
    }
    this.#lines.pop()
    this.#append(concat(last.bytes, Uint8Array.of(newline), line))
  }

  /** Removes lines by number (from 1); the numbers of those behind change. */
  remove(lines: Iterable<number>): void {
    const gone = new Set(lines)
    const content = concat(...this.#lines.filter((_, i) => !gone.has(i + 1)).map(({ bytes }) => bytes))
    this.#lines = []
    this.#append(content)
  }

  /** The file's content: untouched lines byte for byte as they were read. */
  bytes(): Uint8Array {
    return concat(...this.#lines.map(({ bytes }) => bytes))
  }

  #append(content: Uint8Array): void {
    for (let at = 0; at < content.length; ) {
      const end = content.indexOf(newline, at)
      const next = end < 0 ? content.length : end + 1
      const text = bytesToByteString(content.subarray(at, end < 0 ? next : end))
      const parsed = parseKnownHostsLine(text, this.#lines.length + 1, this.path)
      this.#lines.push({ parsed, bytes: content.subarray(at, next) })
      at = next
    }
  }
}

const newline = 0x0a

/**
 * What known_hosts files say about a plain key that a host shows. Several files count as one, in order.
 * A host on another port than 22 that is not known with its port is looked up without it as well, and is trusted (or
 * revoked) by that, as ssh does; other keys under the bare name mean nothing there, for another port may be another server.
 */
export function lookupHostKey(
  crypto: CryptoProvider,
  files: readonly KnownHosts[],
  target: HostTarget,
  key: PublicKey,
): KnownHostsResult {
  return withoutPortToo(target, (name) => {
    const entries = entriesIn(crypto, files, name)
    const revoking = entries.find((entry) => isRevocation(entry, key.blob))
    if (revoking !== undefined) return { status: 'revoked', name, entry: revoking, entries }
    const plain = entries.filter((entry) => entry.marker === undefined)
    const same = plain.find((entry) => equalBytes(entry.keyBlob, key.blob))
    if (same !== undefined) return { status: 'trusted', name, entry: same, entries }
    return { status: plain.length === 0 ? 'unknown' : 'changed', name, entry: plain[0], entries }
  })
}

/**
 * Whether the CA that signed a host's certificate is a @cert-authority for that host, or it or the key is @revoked.
 * 'trusted' is about the CA only: the certificate itself is still to be checked (checkCertificate). Never 'changed'.
 */
export function lookupAuthority(
  crypto: CryptoProvider,
  files: readonly KnownHosts[],
  target: HostTarget,
  certificate: Certificate,
): KnownHostsResult {
  return withoutPortToo(target, (name) => {
    const entries = entriesIn(crypto, files, name)
    const revoking = entries.find(
      (entry) =>
        isRevocation(entry, certificate.publicKey.blob) || isRevocation(entry, certificate.signatureKey.blob),
    )
    if (revoking !== undefined) return { status: 'revoked', name, entry: revoking, entries }
    const authority = entries.find(
      (entry) =>
        entry.marker === 'cert-authority' && equalBytes(entry.keyBlob, certificate.signatureKey.blob),
    )
    return { status: authority === undefined ? 'unknown' : 'trusted', name, entry: authority, entries }
  })
}

export interface KnownKeyTypes {
  /** Types of the plain keys known for the host, in the order of the lines. */
  readonly plain: readonly string[]
  /** Whether a @cert-authority is known for the host. */
  readonly authority: boolean
}

/** Which kinds of host key are known for a host: these should come first in our offer, so that the server shows one of them. */
export function knownKeyTypes(
  crypto: CryptoProvider,
  files: readonly KnownHosts[],
  target: HostTarget,
): KnownKeyTypes {
  const known = keyTypesUnder(crypto, files, knownHostsName(target))
  const bare = bareTarget(target)
  const nothing = known.plain.length === 0 && !known.authority
  return nothing && bare !== undefined ? keyTypesUnder(crypto, files, knownHostsName(bare)) : known
}

function keyTypesUnder(crypto: CryptoProvider, files: readonly KnownHosts[], name: string): KnownKeyTypes {
  const entries = entriesIn(crypto, files, name)
  const plain = new Set(entries.filter((entry) => entry.marker === undefined).map((entry) => entry.keyType))
  return { plain: [...plain], authority: entries.some((entry) => entry.marker === 'cert-authority') }
}

function withoutPortToo(target: HostTarget, look: (name: string) => KnownHostsResult): KnownHostsResult {
  const found = look(knownHostsName(target))
  const bare = bareTarget(target)
  if (found.status !== 'unknown' || bare === undefined) return found
  const second = look(knownHostsName(bare))
  return second.status === 'trusted' || second.status === 'revoked' ? second : found
}

function bareTarget(target: HostTarget): HostTarget | undefined {
  return target.alias !== undefined || target.port === 22 ? undefined : { host: target.host, port: 22 }
}

function entriesIn(crypto: CryptoProvider, files: readonly KnownHosts[], name: string): KnownHostsEntry[] {
  return files.flatMap((file) => file.entriesFor(crypto, name))
}

function isRevocation(entry: KnownHostsEntry, plainBlob: Uint8Array): boolean {
  return entry.marker === 'revoked' && equalBytes(entry.plainKeyBlob, plainBlob)
}
