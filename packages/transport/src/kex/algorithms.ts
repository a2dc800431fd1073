// Which algorithms are offered without being asked, and which names are known (RFC 9142 for the recommendations).
// Preference orders; a name list is never extended silently: what the user names is what is offered.

import type { CryptoProvider } from '../crypto/provider.ts'
import { quote, UsageError } from '../errors.ts'
import { isAead, knownCiphers, knownMacs } from '../packet/suites.ts'
import { kexMethod, knownKexMethods } from './methods.ts'
import { isTerrapinProneName } from './negotiate.ts'

/** Algorithm names in preference order. */
export interface AlgorithmOffer {
  kex: readonly string[]
  hostKeys: readonly string[]
  ciphers: readonly string[]
  macs: readonly string[]
  compression: readonly string[]
}

const defaultKexClient = [
  'mlkem768x25519-sha256',
  'curve25519-sha256',
  'curve25519-sha256@libssh.org',
  'ecdh-sha2-nistp256',
  'ecdh-sha2-nistp384',
  'ecdh-sha2-nistp521',
  'diffie-hellman-group16-sha512',
  'diffie-hellman-group18-sha512',
  'diffie-hellman-group14-sha256',
]

const hostKeySignatures = [
  'ssh-ed25519',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'rsa-sha2-512',
  'rsa-sha2-256',
]
const certSuffix = '-cert-v01@openssh.com'
const defaultMacs = [
  'hmac-sha2-256-etm@openssh.com',
  'hmac-sha2-512-etm@openssh.com',
  'hmac-sha2-256',
  'hmac-sha2-512',
]
const ctrCiphers = ['aes256-ctr', 'aes192-ctr', 'aes128-ctr']
const hardwareTokenHostKeys = ['sk-ssh-ed25519@openssh.com', 'sk-ecdsa-sha2-nistp256@openssh.com']

/** What is offered by default in this role with this provider: the fastest strong cipher first. */
export function defaultOffer(crypto: CryptoProvider, role: 'client' | 'server'): AlgorithmOffer {
  const signatures = hostKeySignatures.filter((name) => crypto.supportsKey(keyFamily(name)))
  return {
    // Finite-field groups only as client and last: a server that offers them invites costly handshakes (CVE-2002-20001).
    kex:
      role === 'client'
        ? defaultKexClient
        : defaultKexClient.filter((name) => kexMethod(name)?.server !== undefined),
    hostKeys: [...signatures.map((name) => name + certSuffix), ...signatures],
    ciphers: [...crypto.fastestCiphers, ...ctrCiphers],
    macs: defaultMacs,
    compression: ['none'],
  }
}

function keyFamily(signature: string): 'ed25519' | 'ecdsa' | 'rsa' {
  if (signature.includes('ed25519')) return 'ed25519'
  return signature.startsWith('rsa') ? 'rsa' : 'ecdsa'
}

const knownHostKeys = new Set([
  ...hostKeySignatures,
  ...hostKeySignatures.map((name) => name + certSuffix),
  ...hardwareTokenHostKeys,
])

/** Everything that may be offered in this role, also what is not by default. */
export function knownAlgorithms(role: 'client' | 'server'): AlgorithmOffer {
  return {
    kex: knownKexMethods.filter((name) => role === 'client' || kexMethod(name)?.server !== undefined),
    hostKeys: [...knownHostKeys],
    ciphers: knownCiphers,
    macs: knownMacs,
    compression: ['none'],
  }
}

/** The default offer with the user's lists in place of ours. Throws UsageError for names we do not have. */
export function resolveOffer(
  crypto: CryptoProvider,
  role: 'client' | 'server',
  wanted: Partial<AlgorithmOffer> = {},
): AlgorithmOffer {
  const offer = { ...defaultOffer(crypto, role) }
  const known = knownAlgorithms(role)
  for (const category of ['kex', 'hostKeys', 'ciphers', 'macs', 'compression'] as const) {
    const names = wanted[category]
    if (names === undefined) continue
    if (names.length === 0 && !(category === 'macs' && (wanted.ciphers ?? offer.ciphers).every(isAead))) {
      throw new UsageError(`algorithms.${category}: expected at least one name`)
    }
    for (const name of names) {
      if (!known[category].includes(name)) {
        throw new UsageError(
          `algorithms.${category}: ${quote(name)} is not one of ${known[category].join(', ')}`,
        )
      }
    }
    offer[category] = names
  }
  return offer
}

/** The offer for a peer without strict key exchange: nothing that CVE-2023-48795 can cut packets from. */
export function withoutTerrapinProne(offer: AlgorithmOffer): AlgorithmOffer {
  return {
    ...offer,
    ciphers: offer.ciphers.filter((name) => !isTerrapinProneName(name)),
    macs: offer.macs.filter((name) => !isTerrapinProneName(name)),
  }
}
