import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { nodeCrypto } from '../../../packages/transport/src/crypto/node.ts'
import { systemRandom } from '../../../packages/transport/src/crypto/random.ts'
import { UsageError } from '../../../packages/transport/src/errors.ts'
import { generateKeyPair } from '../../../packages/transport/src/keys/generate.ts'
import {
  formatKnownHostsLine,
  type HostTarget,
  KnownHosts,
  knownHostsName,
  knownKeyTypes,
  lookupHostKey,
} from '../../../packages/transport/src/keys/known-hosts.ts'
import { generateRsaKeyPair } from '../../../packages/transport/src/keys/node-generate.ts'
import { formatPublicKey } from '../../../packages/transport/src/keys/public-key.ts'
import { concat, utf8Bytes, utf8Text } from '../../../packages/transport/src/wire/bytes.ts'
import { runOrThrow } from '../../support/program.ts'
import { describeWith, needsPrograms } from '../../support/requirements.ts'
import { tempDir } from '../../support/temp-dir.ts'
import { providers } from '../crypto/providers.ts'

const newKey = () => generateKeyPair(nodeCrypto, 'ed25519', systemRandom).publicKey
const key = newKey()
const other = newKey()
const ecdsa = generateKeyPair(nodeCrypto, 'ecdsa-sha2-nistp256', systemRandom).publicKey
const rsa = (await generateRsaKeyPair(2048)).publicKey
const [K, O, E] = [key, other, ecdsa].map((each) => formatPublicKey(each))
const target: HostTarget = { host: 'host.example.org', port: 22 }

const status = (text: string, at: HostTarget = target, shown = key) =>
  KnownHosts.parse(text, 'kh').lookup(nodeCrypto, at, shown).status

describe('what a file says about a host key', () => {
  test.each<[string, string, string]>([
    ['the key', `host.example.org ${K}`, 'trusted'],
    ['nothing', '', 'unknown'],
    ['another host', `other.example.org ${K}`, 'unknown'],
    ['another key of the same type', `host.example.org ${O}`, 'changed'],
    ['a key of another type: changed, not unknown', `host.example.org ${E}`, 'changed'],
    ['two keys, one of them this', `host.example.org ${O}\nhost.example.org ${K}`, 'trusted'],
    ['the key, revoked', `@revoked host.example.org ${K}`, 'revoked'],
    [
      'the key, revoked for all hosts, behind its own line',
      `host.example.org ${K}\n@revoked * ${K}`,
      'revoked',
    ],
    ['the key, revoked in front', `@revoked * ${K}\nhost.example.org ${K}`, 'revoked'],
    ['another key revoked', `@revoked * ${O}\nhost.example.org ${K}`, 'trusted'],
    ['revoked for another host', `@revoked other ${K}\nhost.example.org ${K}`, 'trusted'],
    ['the key as a CA only', `@cert-authority * ${K}`, 'unknown'],
    ['a line that is not readable', `host.example.org ssh-ed25519 AAAA`, 'unknown'],
    ['a marker that is not known', `@trusted host.example.org ${K}`, 'unknown'],
    ['upper case', `HOST.Example.ORG ${K}`, 'trusted'],
    ['a wildcard', `*.example.org ${K}`, 'trusted'],
    ['a wildcard with an exception', `*.example.org,!host.example.org ${K}`, 'unknown'],
    ['carriage returns', `host.example.org ${K}\r\n`, 'trusted'],
    ['a comment', `host.example.org ${K} a comment`, 'trusted'],
  ])('%s', (_, text, expected) => {
    expect(status(text)).toBe(expected)
    expect(status(`# first\n\n${text}\n# last`)).toBe(expected)
  })

  test('the answer names line and file', () => {
    const files = [
      KnownHosts.parse(`other ${K}\n`, 'first'),
      KnownHosts.parse(`# comment\n@revoked * ${E}\nhost.example.org ${O}\n`, 'second'),
    ]
    const changed = lookupHostKey(nodeCrypto, files, target, key)
    expect(changed).toMatchObject({
      status: 'changed',
      name: 'host.example.org',
      entry: { path: 'second', line: 3 },
    })
    expect(changed.entries.map(({ line, marker }) => [line, marker])).toEqual([
      [2, 'revoked'],
      [3, undefined],
    ])
    expect(lookupHostKey(nodeCrypto, files, target, ecdsa)).toMatchObject({
      status: 'revoked',
      entry: { path: 'second', line: 2 },
    })
  })

  test('the name that was typed is looked up in lower case, and an alias instead of host and port', () => {
    expect(status(`host.example.org ${K}`, { host: 'HOST.example.ORG', port: 22 })).toBe('trusted')
    expect(status(`alias ${K}`, { ...target, port: 2222, alias: 'ALIAS' })).toBe('trusted')
    expect(status(`host.example.org ${K}`, { ...target, alias: 'alias' })).toBe('unknown')
    expect(knownHostsName({ host: '::1', port: 22 })).toBe('::1')
    expect(knownHostsName({ host: '::1', port: 2222 })).toBe('[::1]:2222')
    expect(status(`[::1]:2222 ${K}`, { host: '::1', port: 2222 })).toBe('trusted')
  })

  test('another port: its own lines first, then the bare name, which can trust or revoke but not contradict', () => {
    const at = { ...target, port: 2222 }
    expect(status(`[host.example.org]:2222 ${K}`, at)).toBe('trusted')
    expect(status(`[host.example.org]:2222 ${O}`, at)).toBe('changed')
    expect(status(`[host.example.org]:2222 ${O}\nhost.example.org ${K}`, at)).toBe('changed')
    expect(status(`host.example.org ${K}`, at)).toBe('trusted')
    expect(status(`host.example.org ${O}`, at)).toBe('unknown')
    expect(status(`@revoked host.example.org ${K}`, at)).toBe('revoked')
    expect(status(`[host.example.org]:2222 ${K}`)).toBe('unknown')
    expect(status(`[host.example.org]:22 ${K}`)).toBe('unknown')
  })

  test('known key types come in the order of the lines, each once', () => {
    const files = [
      KnownHosts.parse(
        `host.example.org ${E}\nhost.example.org ${K}\nhost.example.org ${O}\n@revoked * ${formatPublicKey(rsa)}`,
      ),
    ]
    expect(knownKeyTypes(nodeCrypto, files, target)).toEqual({
      plain: ['ecdsa-sha2-nistp256', 'ssh-ed25519'],
      authority: false,
    })
    expect(knownKeyTypes(nodeCrypto, files, { ...target, port: 2222 }).plain).toEqual([
      'ecdsa-sha2-nistp256',
      'ssh-ed25519',
    ])
    expect(knownKeyTypes(nodeCrypto, [KnownHosts.parse(`@cert-authority *.org ${K}`)], target)).toEqual({
      plain: [],
      authority: true,
    })
  })
})

describeWith(
  [needsPrograms('ssh-keygen', ['ssh-keygen'], 'openssh-client')],
  'keys that we would not use ourselves',
  () => {
    test.each([
      ['dsa', []],
      ['rsa', ['-b', '1024']],
    ])('a host known by a weak %s key has changed when it shows another key', async (type, bits) => {
      const file = join(tempDir('weak'), 'key')
      await runOrThrow('ssh-keygen', ['-q', '-t', type, ...bits, '-N', '', '-f', file])
      expect(status(`host.example.org ${readFileSync(`${file}.pub`, 'utf8')}`)).toBe('changed')
    })
  },
)

describe('hashed names', () => {
  test.each(providers)('a line that was written hashed is found by its name only (%s)', (_, crypto) => {
    const line = formatKnownHostsLine(crypto, {
      host: 'Host.Example.org',
      port: 2222,
      key,
      hash: { random: systemRandom },
    })
    expect(line).toMatch(/^\|1\|[A-Za-z0-9+/]{27}=\|[A-Za-z0-9+/]{27}= ssh-ed25519 /)
    expect(line).not.toContain('example')
    const knownHosts = KnownHosts.parse(line)
    expect(knownHosts.lookup(crypto, { host: 'host.example.org', port: 2222 }, key).status).toBe('trusted')
    expect(knownHosts.lookup(crypto, { host: 'host.example.org', port: 22 }, key).status).toBe('unknown')
  })

  test('two lines for one host have different salts', () => {
    const line = () => formatKnownHostsLine(nodeCrypto, { ...target, key, hash: { random: systemRandom } })
    expect(line()).not.toBe(line())
  })
})

describe('writing', () => {
  const untidy = concat(
    utf8Bytes(`# comment\r\n\r\n  \tindented\nhost ${K}   spaced  \n@bogus x\n`),
    Uint8Array.of(0xff, 0xfe, 0x00, 0x0a),
    utf8Bytes(`|1|bad|bad ${K}\n`),
  )

  test('what was not touched stays byte for byte', () => {
    const knownHosts = KnownHosts.parse(untidy)
    expect(knownHosts.bytes()).toEqual(untidy)
    knownHosts.add(nodeCrypto, { host: 'new', port: 22, key: other })
    expect(knownHosts.bytes()).toEqual(concat(untidy, utf8Bytes(`new ${O}\n`)))
    expect(knownHosts.lookup(nodeCrypto, { host: 'new', port: 22 }, other).entry?.line).toBe(8)
    expect(knownHosts.invalidLines.map(({ line }) => line)).toEqual([2, 3, 5, 6, 7])
  })

  test('a missing final newline is supplied', () => {
    const knownHosts = KnownHosts.parse(`host ${K}`)
    knownHosts.add(nodeCrypto, {
      host: 'new',
      port: 2222,
      key: other,
      comment: 'c',
      marker: 'cert-authority',
    })
    expect(utf8Text(knownHosts.bytes())).toBe(`host ${K}\n@cert-authority [new]:2222 ${O} c\n`)
    expect(knownHosts.lookup(nodeCrypto, { host: 'host', port: 22 }, key).status).toBe('trusted')
  })

  test('lines are removed by number and the others move up', () => {
    const knownHosts = KnownHosts.parse(`a ${K}\nb ${K}\nc ${O}\n`)
    knownHosts.remove([2])
    expect(utf8Text(knownHosts.bytes())).toBe(`a ${K}\nc ${O}\n`)
    expect(knownHosts.entriesFor(nodeCrypto, 'c')[0]!.line).toBe(2)
  })

  test('the parsed file does not change with the bytes it came from', () => {
    const bytes = utf8Bytes(`a ${K}\n`)
    const knownHosts = KnownHosts.parse(bytes)
    bytes.fill(0x20)
    expect(utf8Text(knownHosts.bytes())).toBe(`a ${K}\n`)
  })

  test.each([
    ['a b', 'a host with a blank'],
    ['a\nb', 'a host with a line end'],
    ['a,b', 'two hosts'],
    ['*', 'a wildcard'],
    ['!a', 'a negation'],
    ['|1|a|b', 'a hash'],
    ['#a', 'a comment'],
    ['@revoked', 'a marker'],
    ['', 'nothing'],
  ])('%j is not written: %s', (host) => {
    expect(() => formatKnownHostsLine(nodeCrypto, { host, port: 22, key })).toThrow(UsageError)
  })

  test('a comment with a line end is not written', () => {
    expect(() => formatKnownHostsLine(nodeCrypto, { ...target, key, comment: `x\n* ${O}` })).toThrow(
      UsageError,
    )
  })
})

test('a file of 10 000 hashed lines is looked up in well under a second', () => {
  const line = formatKnownHostsLine(nodeCrypto, { host: 'x', port: 22, key, hash: { random: systemRandom } })
  const knownHosts = KnownHosts.parse(`${line}\n`.repeat(10_000))
  const start = performance.now()
  expect(knownHosts.lookup(nodeCrypto, target, key).status).toBe('unknown')
  expect(performance.now() - start).toBeLessThan(2000)
})
