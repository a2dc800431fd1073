import { describe, expect, test } from 'vitest'
import { nodeCrypto } from '../../../packages/transport/src/crypto/node.ts'
import { systemRandom } from '../../../packages/transport/src/crypto/random.ts'
import { HostKeyError, KeyFormatError, UsageError } from '../../../packages/transport/src/errors.ts'
import type { Certificate } from '../../../packages/transport/src/keys/certificate.ts'
import { fingerprint, opensshFingerprint } from '../../../packages/transport/src/keys/fingerprint.ts'
import { generateKeyPair } from '../../../packages/transport/src/keys/generate.ts'
import {
  type HostKeyPolicy,
  hostKeyError,
  insecureAcceptAnyHostKey,
  knownHostsPolicy,
  orderHostKeyAlgorithms,
  pinnedFingerprint,
  pinnedKey,
  presentHostKey,
} from '../../../packages/transport/src/keys/host-key-policy.ts'
import { KnownHosts } from '../../../packages/transport/src/keys/known-hosts.ts'
import {
  formatPublicKey,
  type PublicKey,
  publicKeyFromText,
} from '../../../packages/transport/src/keys/public-key.ts'
import { signatureAlgorithmsFor } from '../../../packages/transport/src/keys/signature-algorithms.ts'
import { clientKey, hostKey } from '../../support/keys.ts'
import { describeWith, needsPrograms } from '../../support/requirements.ts'
import { flipped } from '../crypto/providers.ts'
import { certify } from './certificates.ts'

const newKey = (type: 'ed25519' | 'ecdsa-sha2-nistp256' = 'ed25519') =>
  generateKeyPair(nodeCrypto, type, systemRandom).publicKey
const key = newKey()
const other = newKey()
const ecdsa = newKey('ecdsa-sha2-nistp256')
const target = { host: 'host.example.org', port: 22 }

const show = (shown: PublicKey | Certificate, at = target) =>
  presentHostKey(nodeCrypto, {
    ...at,
    algorithm: signatureAlgorithmsFor(shown.type)[0]!,
    keyBlob: shown.blob,
  })

async function problem(policy: HostKeyPolicy, shown: PublicKey | Certificate, at = target): Promise<string> {
  const verdict = await policy(show(shown, at))
  return verdict === 'trusted' ? 'trusted' : verdict.problem
}

async function message(policy: HostKeyPolicy, shown: PublicKey | Certificate, at = target): Promise<string> {
  const verdict = await policy(show(shown, at))
  return verdict === 'trusted' ? 'trusted' : verdict.message
}

const knownHosts = (text: string, options = {}) =>
  knownHostsPolicy(nodeCrypto, KnownHosts.parse(text, '/home/u/.ssh/known_hosts'), { ...target, ...options })

describe('known hosts', () => {
  const line = (shown: PublicKey, hosts = 'host.example.org') => `${hosts} ${formatPublicKey(shown)}\n`

  test('verdicts: trusted, unknown, changed, revoked', async () => {
    expect(await problem(knownHosts(line(key)), key)).toBe('trusted')
    expect(await problem(knownHosts(''), key)).toBe('unknown')
    expect(await problem(knownHosts(line(other)), key)).toBe('changed')
    expect(await problem(knownHosts(line(ecdsa)), key)).toBe('changed')
    expect(await problem(knownHosts(`@revoked * ${formatPublicKey(key)}\n${line(key)}`), key)).toBe('revoked')
  })

  test('messages name what was shown, what was known, file and line, and what to do', async () => {
    const shown = opensshFingerprint(nodeCrypto, key.blob)
    const unknown = await message(knownHosts(''), key)
    expect(unknown).toContain(`"host.example.org" shows the host key ssh-ed25519 ${shown}`)
    expect(unknown).toContain('is not in "/home/u/.ssh/known_hosts"')
    expect(unknown).toContain('Compare the fingerprint')
    const changed = await message(knownHosts(`# first\n${line(ecdsa)}`), key)
    expect(changed).toContain(shown)
    expect(changed).toContain(
      `"/home/u/.ssh/known_hosts" line 2 has "ecdsa-sha2-nistp256" ${opensshFingerprint(nodeCrypto, ecdsa.blob)}`,
    )
    expect(changed).toContain('ssh-keygen -R "host.example.org"')
    const revoked = await message(knownHosts(`@revoked * ${formatPublicKey(key)}`), key)
    expect(revoked).toMatch(/line 1 marks .* as revoked/)
    const port = { host: 'host.example.org', port: 2222 }
    expect(await message(knownHosts('', port), key, port)).toContain('"[host.example.org]:2222" is not in')
  })

  test('an unknown host may be accepted by whoever is asked; a changed or revoked key is not up for asking', async () => {
    const asked: string[] = []
    const onUnknown = (answer: boolean) => ({
      onUnknown: async (_: unknown, text: string) => {
        asked.push(text)
        return answer
      },
    })
    expect(await problem(knownHosts('', onUnknown(true)), key)).toBe('trusted')
    expect(await problem(knownHosts('', onUnknown(false)), key)).toBe('unknown')
    expect(asked).toHaveLength(2)
    expect(asked[0]).toContain(opensshFingerprint(nodeCrypto, key.blob))
    expect(await problem(knownHosts(line(other), onUnknown(true)), key)).toBe('changed')
    expect(await problem(knownHosts(`@revoked * ${formatPublicKey(key)}`, onUnknown(true)), key)).toBe(
      'revoked',
    )
    expect(asked).toHaveLength(2)
  })

  test('known key types come first in the offer, and none is lost', () => {
    const offer = [
      'ssh-ed25519',
      'ecdsa-sha2-nistp256',
      'rsa-sha2-512',
      'rsa-sha2-256',
      'ssh-ed25519-cert-v01@openssh.com',
      'rsa-sha2-512-cert-v01@openssh.com',
    ]
    const order = (text: string) => orderHostKeyAlgorithms(offer, knownHosts(text).preferredKeyTypes)
    expect(order('')).toEqual(offer)
    expect(order(line(ecdsa))[0]).toBe('ecdsa-sha2-nistp256')
    const rsa = 'host.example.org ssh-rsa AAAAB3NzaC1yc2EAAAADAQAB'
    expect(order(rsa)).toEqual(offer) // not a key: does not count
    expect(order(`@cert-authority * ${formatPublicKey(key)}\n${line(ecdsa)}`)).toEqual([
      'ssh-ed25519-cert-v01@openssh.com',
      'rsa-sha2-512-cert-v01@openssh.com',
      'ecdsa-sha2-nistp256',
      'ssh-ed25519',
      'rsa-sha2-512',
      'rsa-sha2-256',
    ])
    expect(order(line(ecdsa)).toSorted()).toEqual(offer.toSorted())
    expect(orderHostKeyAlgorithms(offer, ['ssh-rsa']).slice(0, 2)).toEqual(['rsa-sha2-512', 'rsa-sha2-256'])
  })
})

describeWith([needsPrograms('ssh-keygen', ['ssh-keygen'], 'openssh-client')], 'host certificates', () => {
  const now = () => Date.parse('2026-01-15T12:00:00Z')
  const valid = ['-V', '20260101000000Z:20260201000000Z']
  const args = ['-h', '-n', 'host.example.org', ...valid]

  async function setting() {
    const ca = await clientKey('ed25519')
    const host = await hostKey('ecdsa-256')
    const stranger = await clientKey('ecdsa-256')
    return {
      ca,
      host,
      stranger,
      authority: `@cert-authority *.example.org ${ca.publicLine}\n`,
      hostLine: `host.example.org ${host.publicLine}\n`,
    }
  }

  test('are trusted through the authority known for the host', async () => {
    const { ca, host, authority } = await setting()
    expect(await problem(knownHosts(authority, { now }), await certify(ca, host, args))).toBe('trusted')
  })

  test('by an authority that is not known, or known for other hosts, fall back to the plain key', async () => {
    const { ca, host, stranger, authority, hostLine } = await setting()
    const certificate = await certify(stranger, host, args)
    expect(await problem(knownHosts(authority, { now }), certificate)).toBe('unknown')
    expect(await problem(knownHosts(authority + hostLine, { now }), certificate)).toBe('trusted')
    const elsewhere = `@cert-authority *.example.com ${ca.publicLine}\n`
    expect(await problem(knownHosts(elsewhere, { now }), await certify(ca, host, args))).toBe('unknown')
    // A plain line with the CA's key makes no CA of it.
    expect(
      await problem(
        knownHosts(`host.example.org ${ca.publicLine}\n`, { now }),
        await certify(ca, host, args),
      ),
    ).toBe('changed')
    expect(await problem(knownHosts(authority, { now }), publicKeyFromText(ca.publicLine).publicKey)).toBe(
      'unknown',
    )
  })

  test.each<[string, string[]]>([
    ['of the wrong role', ['-n', 'host.example.org', ...valid]],
    ['without names', ['-h', ...valid]],
    ['for another host', ['-h', '-n', 'other.example.org', ...valid]],
    ['that expired', ['-h', '-n', 'host.example.org', '-V', '20250101000000Z:20250201000000Z']],
    ['with a critical option', [...args, '-O', 'critical:x@example.org=1']],
  ])('%s are refused, and the message says why; a known plain key still counts', async (_, bad) => {
    const { ca, host, authority, hostLine } = await setting()
    const certificate = await certify(ca, host, bad)
    expect(await problem(knownHosts(authority, { now }), certificate)).toBe('certificate')
    expect(await message(knownHosts(authority, { now }), certificate)).toMatch(
      /authority in "\/home\/u\/.ssh\/known_hosts" line 1, but certificate "the id"/,
    )
    expect(await problem(knownHosts(authority + hostLine, { now }), certificate)).toBe('trusted')
  })

  test('with a wrong CA signature are refused even over a known key', async () => {
    const { ca, host, authority, hostLine } = await setting()
    const good = await certify(ca, host, args)
    const blob = flipped(good.blob, good.blob.length - 1)
    const shown = presentHostKey(nodeCrypto, { ...target, algorithm: good.type, keyBlob: blob })
    expect(await knownHosts(authority + hostLine, { now })(shown)).toMatchObject({ problem: 'certificate' })
  })

  test('are revoked by their key or by their CA', async () => {
    const { ca, host, authority, hostLine } = await setting()
    const certificate = await certify(ca, host, args)
    expect(
      await problem(knownHosts(`${authority}@revoked * ${host.publicLine}\n`, { now }), certificate),
    ).toBe('revoked')
    expect(
      await problem(knownHosts(`${authority}${hostLine}@revoked * ${ca.publicLine}\n`, { now }), certificate),
    ).toBe('revoked')
    const asCertificate = `@revoked * ${formatPublicKey(certificate)}\n`
    expect(
      await problem(
        knownHosts(hostLine + asCertificate, { now }),
        publicKeyFromText(host.publicLine).publicKey,
      ),
    ).toBe('revoked')
  })

  test('are checked against the alias, where there is one', async () => {
    const { ca, host } = await setting()
    const authority = `@cert-authority alias ${ca.publicLine}\n`
    const certificate = await certify(ca, host, ['-h', '-n', 'alias', ...valid])
    expect(await problem(knownHosts(authority, { now, alias: 'alias' }), certificate)).toBe('trusted')
    expect(await problem(knownHosts(authority, { now }), certificate)).toBe('unknown')
  })

  test('count as their key for pinned keys and fingerprints', async () => {
    const { ca, host } = await setting()
    const certificate = await certify(ca, host, args)
    expect(await problem(pinnedKey(nodeCrypto, host.blob), certificate)).toBe('trusted')
    expect(await problem(pinnedFingerprint(nodeCrypto, 'openssh', host.fingerprint), certificate)).toBe(
      'trusted',
    )
    expect(await problem(pinnedKey(nodeCrypto, ca.blob), certificate)).toBe('mismatch')
  })

  test('are not taken under the algorithm of a plain key, nor the other way round', async () => {
    const { ca, host } = await setting()
    const certificate = await certify(ca, host, args)
    expect(() =>
      presentHostKey(nodeCrypto, { ...target, algorithm: 'ecdsa-sha2-nistp256', keyBlob: certificate.blob }),
    ).toThrow(KeyFormatError)
    expect(() =>
      presentHostKey(nodeCrypto, { ...target, algorithm: certificate.type, keyBlob: host.blob }),
    ).toThrow(KeyFormatError)
  })
})

describe('pinning', () => {
  test('one of several keys, and nothing else', async () => {
    const policy = pinnedKey(nodeCrypto, other, key.blob)
    expect(await problem(policy, key)).toBe('trusted')
    expect(await problem(policy, newKey())).toBe('mismatch')
    expect(policy.preferredKeyTypes?.[0]).toBe('ssh-ed25519')
    expect(await message(policy, ecdsa)).toContain(opensshFingerprint(nodeCrypto, other.blob))
    expect(() => pinnedKey(nodeCrypto)).toThrow(UsageError)
  })

  test('a fingerprint of each kind', async () => {
    for (const hash of ['md5', 'sha1', 'sha256'] as const) {
      const policy = pinnedFingerprint(nodeCrypto, hash, fingerprint(nodeCrypto, key.blob, hash))
      expect(await problem(policy, key)).toBe('trusted')
      expect(await problem(policy, other)).toBe('mismatch')
      expect(await message(policy, other)).toContain(opensshFingerprint(nodeCrypto, other.blob, hash))
    }
    expect(
      await problem(pinnedFingerprint(nodeCrypto, 'openssh', opensshFingerprint(nodeCrypto, key.blob)), key),
    ).toBe('trusted')
  })

  test('a fingerprint that is none is refused when it is given, not when it is compared', () => {
    for (const [type, text] of [
      ['md5', 'wrong'],
      ['sha256', ''],
      ['openssh', 'SHA256:short'],
      ['sha1', fingerprint(nodeCrypto, key.blob, 'sha256')],
    ] as const) {
      expect(() => pinnedFingerprint(nodeCrypto, type, text)).toThrow(UsageError)
    }
  })
})

test('only the policy that says so in its name accepts anything', async () => {
  expect(await problem(insecureAcceptAnyHostKey(), newKey())).toBe('trusted')
})

test('a verdict becomes a HostKeyError that carries key and fingerprint', async () => {
  const shown = show(key)
  const verdict = await knownHosts('')(shown)
  if (verdict === 'trusted') throw new Error('unreachable')
  const error = hostKeyError(shown, verdict)
  expect(error).toBeInstanceOf(HostKeyError)
  expect(error).toMatchObject({
    code: 'ERR_SSH_HOST_KEY_UNKNOWN',
    problem: 'unknown',
    keyType: 'ssh-ed25519',
    hostKey: key.blob,
    fingerprint: shown.fingerprint,
  })
})
