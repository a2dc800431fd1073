// Whom we believe to be the server: what connect() takes, and the policies it can be given. A policy sees the key after the
// key exchange has proved that the server holds it, and before any authentication. There is no default policy.
// A verdict other than 'trusted' carries the sentence that the user will read: what was shown, what was known and where,
// and what to do.

import type { CryptoProvider, MaybePromise } from '../crypto/provider.ts'
import { HostKeyError, type HostKeyProblem, quote, UsageError } from '../errors.ts'
import { equalBytes } from '../wire/bytes.ts'
import {
  type Certificate,
  type CertificateRefusal,
  checkCertificate,
  parseCertificate,
} from './certificate.ts'
import {
  type FingerprintHash,
  hasFingerprint,
  opensshFingerprint,
  parseFingerprint,
  parseHexFingerprint,
} from './fingerprint.ts'
import {
  type HostTarget,
  KnownHosts,
  type KnownHostsResult,
  knownHostsName,
  knownKeyTypes,
  lookupAuthority,
  lookupHostKey,
} from './known-hosts.ts'
import type { KnownHostsEntry } from './known-hosts-line.ts'
import { lowerAscii } from './known-hosts-line.ts'
import { whenReady } from './maybe-promise.ts'
import {
  certificateTypeOf,
  isCertificateType,
  keyTypes,
  type PublicKey,
  parsePublicKey,
} from './public-key.ts'
import { signatureAlgorithm } from './signature-algorithms.ts'

/** What the server showed and proved to hold. */
export interface PresentedHostKey {
  /** As the user typed it. */
  readonly host: string
  readonly port: number
  /** Host key algorithm as negotiated, e.g. 'rsa-sha2-512'. */
  readonly algorithm: string
  /** The blob as it came, copied: a key, or a certificate. */
  readonly keyBlob: Uint8Array
  /** The key, without the certificate around it. */
  readonly publicKey: PublicKey
  readonly certificate: Certificate | undefined
  /** 'SHA256:...' of the plain key. */
  readonly fingerprint: string
}

export type HostKeyVerdict = 'trusted' | { readonly problem: HostKeyProblem; readonly message: string }

/** Decides on a host key; asked once per connection. */
export interface HostKeyPolicy {
  (presented: PresentedHostKey): MaybePromise<HostKeyVerdict>
  /** Blob types that are known for this host, best first: they go to the front of our offer (see orderHostKeyAlgorithms). */
  readonly preferredKeyTypes?: readonly string[]
}

/**
 * Parses what the server showed, for a policy.
 * @throws KeyFormatError where the blob is not a supported key or certificate.
 */
export function presentHostKey(
  crypto: CryptoProvider,
  shown: { host: string; port: number; algorithm: string; keyBlob: Uint8Array },
): PresentedHostKey {
  const entry = signatureAlgorithm(shown.algorithm)
  const certificate =
    entry !== undefined && isCertificateType(entry.blobType) ? parseCertificate(shown.keyBlob) : undefined
  const publicKey = certificate?.publicKey ?? parsePublicKey(shown.keyBlob)
  const keyBlob = certificate?.blob ?? publicKey.blob
  const fingerprint = opensshFingerprint(crypto, publicKey.blob)
  return { ...shown, keyBlob, publicKey, certificate, fingerprint }
}

/** The error for a verdict that is not 'trusted'. */
export function hostKeyError(
  presented: PresentedHostKey,
  verdict: { problem: HostKeyProblem; message: string },
): HostKeyError {
  return new HostKeyError(verdict.problem, verdict.message, {
    keyType: presented.publicKey.type,
    hostKey: presented.keyBlob,
    fingerprint: presented.fingerprint,
  })
}

/** Host key algorithms with those for known key types first; otherwise in their order. None is added or dropped. */
export function orderHostKeyAlgorithms(
  algorithms: readonly string[],
  preferredKeyTypes: readonly string[] = [],
): string[] {
  const rank = (name: string) => {
    const at = preferredKeyTypes.indexOf(signatureAlgorithm(name)?.blobType ?? name)
    return at < 0 ? preferredKeyTypes.length : at
  }
  return algorithms
    .map((name) => ({ name, rank: rank(name) }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ name }) => name)
}

export interface KnownHostsPolicyOptions extends HostTarget {
  /** The clock for certificates, in milliseconds since 1970; Date.now. */
  now?: () => number
  /** Algorithms with which a CA may have signed a host certificate. */
  caAlgorithms?: readonly string[]
  /**
   * Asked where the host is unknown (never where its key has changed or is revoked): true accepts the key this time. To
   * remember it, write it from here (see addKnownHost in node-known-hosts-file.ts).
   */
  onUnknown?: (presented: PresentedHostKey, message: string) => MaybePromise<boolean>
}

/**
 * Trusts what known_hosts files say, as ssh does with StrictHostKeyChecking=yes.
 * A certificate is trusted through a @cert-authority line and the certificate's own validity; failing that, its plain key
 * is looked up. Problems: 'unknown', 'changed' (also for a key of another type than those known), 'revoked', 'certificate'.
 */
export function knownHostsPolicy(
  crypto: CryptoProvider,
  files: KnownHosts | readonly KnownHosts[],
  options: KnownHostsPolicyOptions,
): HostKeyPolicy {
  const list = files instanceof KnownHosts ? [files] : files
  const now = options.now ?? Date.now

  const byCertificate = (
    presented: PresentedHostKey,
    certificate: Certificate,
  ): MaybePromise<HostKeyVerdict> => {
    const authority = lookupAuthority(crypto, list, options, certificate)
    if (authority.status === 'revoked') return revoked(crypto, presented, authority)
    if (authority.status !== 'trusted') return byKey(presented)
    const use = {
      role: 'host' as const,
      principal: lowerAscii(options.alias ?? options.host),
      now: now(),
      ...(options.caAlgorithms === undefined ? {} : { caAlgorithms: options.caAlgorithms }),
    }
    return whenReady(checkCertificate(crypto, certificate, use), (refusal) => {
      if (refusal === undefined) return 'trusted'
      // A forged certificate is an attack, not an oversight. One that is merely out of date may stand over a known key.
      if (refusal.problem === 'signature') return certificateProblem(presented, authority, refusal)
      const plain = lookupHostKey(crypto, list, options, presented.publicKey)
      return plain.status === 'trusted' ? 'trusted' : certificateProblem(presented, authority, refusal)
    })
  }

  const byKey = (presented: PresentedHostKey): MaybePromise<HostKeyVerdict> => {
    const result = lookupHostKey(crypto, list, options, presented.publicKey)
    switch (result.status) {
      case 'trusted':
        return 'trusted'
      case 'revoked':
        return revoked(crypto, presented, result)
      case 'changed':
        return changed(crypto, presented, result)
      case 'unknown': {
        const verdict = unknown(presented, result, list)
        if (options.onUnknown === undefined) return verdict
        return whenReady(options.onUnknown(presented, verdict.message), (accepted) =>
          accepted ? 'trusted' : verdict,
        )
      }
    }
  }

  const policy = (presented: PresentedHostKey) =>
    presented.certificate === undefined ? byKey(presented) : byCertificate(presented, presented.certificate)
  return Object.assign(policy, { preferredKeyTypes: preferredTypes(crypto, list, options) })
}

/**
 * Trusts exactly these keys. A certificate counts as the key in it.
 * @param keys public keys, or their blobs.
 */
export function pinnedKey(crypto: CryptoProvider, ...keys: (PublicKey | Uint8Array)[]): HostKeyPolicy {
  if (keys.length === 0) throw new UsageError('pinnedKey needs at least one key')
  const pinned = keys.map((key) => (key instanceof Uint8Array ? parsePublicKey(key) : key))
  const policy = (presented: PresentedHostKey): HostKeyVerdict => {
    if (pinned.some((key) => equalBytes(key.blob, presented.publicKey.blob))) return 'trusted'
    const expected = pinned.map((key) => `${key.type} ${opensshFingerprint(crypto, key.blob)}`).join(' or ')
    return { problem: 'mismatch', message: `${shows(presented)}, but expected is ${expected}` }
  }
  return Object.assign(policy, { preferredKeyTypes: withCertificateTypes(pinned.map((key) => key.type)) })
}

/**
 * Trusts the key with this fingerprint.
 * @param type 'md5', 'sha1' or 'sha256' with `text` in hex (':' allowed before each byte), or 'openssh' with `text` as
 *   ssh-keygen -l prints it ('SHA256:base64') or with a prefix in lower case and hex ('sha256:00ff...').
 * @throws UsageError where the text is no such fingerprint.
 */
export function pinnedFingerprint(
  crypto: CryptoProvider,
  type: FingerprintHash | 'openssh',
  text: string,
): HostKeyPolicy {
  const given = type === 'openssh' ? parseFingerprint(text) : withHash(type, parseHexFingerprint(type, text))
  if (given === undefined)
    throw new UsageError(
      `${quote(text)} is not ${type === 'openssh' ? 'a' : `a ${type}`} fingerprint of a host key`,
    )
  return (presented) => {
    if (hasFingerprint(crypto, presented.publicKey.blob, given)) return 'trusted'
    const actual = opensshFingerprint(crypto, presented.publicKey.blob, given.hash)
    const also = given.hash === 'sha256' ? '' : ` (${actual})`
    return {
      problem: 'mismatch',
      message: `${shows(presented)}${also}, which is not the expected fingerprint ${quote(text)}`,
    }
  }
}

/** Trusts whoever answers: anybody on the way can read and alter everything. For tests on loopback. */
export function insecureAcceptAnyHostKey(): HostKeyPolicy {
  return () => 'trusted'
}

function withHash(hash: FingerprintHash, digest: Uint8Array | undefined) {
  return digest === undefined ? undefined : { hash, digest }
}

function preferredTypes(crypto: CryptoProvider, files: readonly KnownHosts[], target: HostTarget): string[] {
  const { plain, authority } = knownKeyTypes(crypto, files, target)
  // As ssh: with a CA known for the host, certificates of every type come first.
  const known = keyTypes.filter((type) => plain.includes(type))
  return [...(authority ? keyTypes.map(certificateTypeOf) : []), ...known]
}

/** A certificate over a pinned key is as good as the key. */
function withCertificateTypes(types: readonly PublicKey['type'][]): string[] {
  return [...types, ...types.map(certificateTypeOf)]
}

function shows(presented: PresentedHostKey): string {
  const name = knownHostsName(presented)
  return `the server ${quote(name)} shows the host key ${presented.publicKey.type} ${presented.fingerprint}`
}

function where(entry: KnownHostsEntry): string {
  return entry.path === undefined
    ? `known hosts line ${entry.line}`
    : `${quote(entry.path, 1024)} line ${entry.line}`
}

function fileNames(files: readonly KnownHosts[]): string {
  const paths = files.flatMap((file) => (file.path === undefined ? [] : [quote(file.path, 1024)]))
  return paths.length === 0 ? 'the known hosts' : paths.join(' or ')
}

function unknown(presented: PresentedHostKey, result: KnownHostsResult, files: readonly KnownHosts[]) {
  const [first] = files.flatMap((file) => file.path ?? [])
  const add =
    first === undefined
      ? 'add the key to the known hosts'
      : `add the key to ${quote(first, 1024)} under the name ${quote(result.name)}`
  return {
    problem: 'unknown',
    message: `${shows(presented)}, but ${quote(result.name)} is not in ${fileNames(files)}. Compare the fingerprint with one from the server's owner; if it is right, ${add}`,
  } as const
}

function changed(
  crypto: CryptoProvider,
  presented: PresentedHostKey,
  result: KnownHostsResult,
): HostKeyVerdict {
  const entry = result.entry!
  return {
    problem: 'changed',
    message:
      `${shows(presented)}, but ${where(entry)} has ${quote(entry.keyType, 80)} ${opensshFingerprint(crypto, entry.plainKeyBlob)} for it. ` +
      'Somebody may be answering in the place of the server, or the server has got new keys: ask its owner. ' +
      `Only if the new fingerprint is right, remove that line (ssh-keygen -R ${quote(result.name)}) and connect again`,
  }
}

function revoked(
  crypto: CryptoProvider,
  presented: PresentedHostKey,
  result: KnownHostsResult,
): HostKeyVerdict {
  const entry = result.entry!
  return {
    problem: 'revoked',
    message: `${shows(presented)}; ${where(entry)} marks ${quote(entry.keyType, 80)} ${opensshFingerprint(crypto, entry.plainKeyBlob)} as revoked: it may be stolen, and is not accepted`,
  }
}

function certificateProblem(
  presented: PresentedHostKey,
  authority: KnownHostsResult,
  refusal: CertificateRefusal,
): HostKeyVerdict {
  return {
    problem: 'certificate',
    message: `${shows(presented)} with a certificate by the authority in ${where(authority.entry!)}, but ${refusal.message}`,
  }
}
