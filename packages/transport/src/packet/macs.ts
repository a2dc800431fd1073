// The MACs that go with a cipher that brings none (RFC 4253 s6.4, RFC 6668; OpenSSH PROTOCOL, "transport: New MAC
// algorithms", for -etm). Keys are as long as the digest. No truncated and no MD5 forms.

import type { HashName } from '../crypto/provider.ts'

export interface MacAlgorithm {
  readonly name: string
  readonly hash: HashName
  readonly keyLength: number
  readonly macLength: number
  /** Whether the MAC is over the ciphertext, with packet_length in clear (-etm@openssh.com). */
  readonly encryptThenMac: boolean
}

function algorithms(name: string, hash: HashName, length: number): MacAlgorithm[] {
  const common = { hash, keyLength: length, macLength: length }
  return [
    { name: `${name}-etm@openssh.com`, ...common, encryptThenMac: true },
    { name, ...common, encryptThenMac: false },
  ]
}

const byName = new Map(
  [
    algorithms('hmac-sha2-256', 'sha256', 32),
    algorithms('hmac-sha2-512', 'sha512', 64),
    // For old peers, never offered unless named; as a MAC SHA-1 is not broken (RFC 9142 s1.1).
    algorithms('hmac-sha1', 'sha1', 20),
  ]
    .flat()
    .map((algorithm) => [algorithm.name, algorithm]),
)

/** Every MAC name we have; whether one is offered by default is decided in kex/algorithms.ts. */
export const knownMacs: readonly string[] = [...byName.keys()]

/** The MAC of this name, or undefined. */
export function macAlgorithm(name: string): MacAlgorithm | undefined {
  return byName.get(name)
}
