import { describe, expect, test } from 'vitest'
import { nodeCrypto } from '../../../packages/transport/src/crypto/node.ts'
import {
  fingerprint,
  hasFingerprint,
  matchesFingerprint,
  opensshFingerprint,
  parseFingerprint,
  parseHexFingerprint,
} from '../../../packages/transport/src/keys/fingerprint.ts'
import { ALL_KEY_TYPES, clientKey, hexFingerprint } from '../../support/keys.ts'
import { runOrThrow } from '../../support/program.ts'
import { describeWith, needsPrograms } from '../../support/requirements.ts'
import { providers } from '../crypto/providers.ts'

const blob = new TextEncoder().encode('any blob will do')
const sha256 = hexFingerprint(blob, 'sha256')

describeWith(
  [needsPrograms('ssh-keygen', ['ssh-keygen'], 'openssh-client')],
  'fingerprints as ssh-keygen -l prints them',
  () => {
    test.each(ALL_KEY_TYPES)('%s', async (type) => {
      const pair = await clientKey(type)
      for (const hash of ['md5', 'sha1', 'sha256'] as const) {
        const { stdout } = await runOrThrow('ssh-keygen', ['-l', '-E', hash, '-f', pair.publicFile])
        const printed = stdout.split(' ')[1]!
        for (const [, crypto] of providers) {
          expect(opensshFingerprint(crypto, pair.blob, hash)).toBe(printed)
          expect(hasFingerprint(crypto, pair.blob, parseFingerprint(printed)!)).toBe(true)
        }
      }
    })
  },
)

describe('the hex rule', () => {
  const pairs = sha256.match(/../g)!
  const accepted: [string, string][] = [
    ['plain', sha256],
    ['upper case', sha256.toUpperCase()],
    ['a colon between bytes', pairs.join(':')],
    ['runs of colons before bytes', `:::${pairs.join('::')}`],
    ['colons before some bytes only', `${sha256.slice(0, 10)}:${sha256.slice(10)}`],
  ]
  const refused: [string, string][] = [
    ['a trailing colon', `${sha256}:`],
    ['one byte short', sha256.slice(0, -2)],
    ['half a byte short', sha256.slice(0, -1)],
    ['one byte long', `${sha256}00`],
    ['half a byte long', `${sha256}0`],
    ['a colon inside a byte', `${sha256[0]}:${sha256.slice(1)}`],
    ['a space', ` ${sha256}`],
    ['a trailing space', `${sha256} `],
    ['a prefix', `0x${sha256}`],
    ['a letter beyond f', `g${sha256.slice(1)}`],
    ['another fingerprint', hexFingerprint(blob.subarray(1), 'sha256')],
    ['nothing', ''],
    ['the word "wrong"', 'wrong'],
    ['a sign', `+${sha256.slice(1)}`],
  ]

  test.each(accepted)('accepts %s', (_, text) => {
    expect(matchesFingerprint(nodeCrypto, blob, 'sha256', text)).toBe(true)
  })

  test.each(refused)('refuses %s', (_, text) => {
    expect(matchesFingerprint(nodeCrypto, blob, 'sha256', text)).toBe(false)
  })

  test('holds for md5 and sha1 with their own lengths', () => {
    for (const hash of ['md5', 'sha1'] as const) {
      expect(matchesFingerprint(nodeCrypto, blob, hash, fingerprint(nodeCrypto, blob, hash))).toBe(true)
      expect(matchesFingerprint(nodeCrypto, blob, hash, sha256)).toBe(false)
    }
    expect(fingerprint(nodeCrypto, blob, 'md5')).toMatch(/^([0-9a-f]{2}:){15}[0-9a-f]{2}$/)
    expect(parseHexFingerprint('sha1', sha256)).toBeUndefined()
  })
})

test('prefixed fingerprints: lower case means hex, upper case OpenSSH', () => {
  const base64 = opensshFingerprint(nodeCrypto, blob).slice('SHA256:'.length)
  const given = (text: string) => {
    const parsed = parseFingerprint(text)
    return parsed !== undefined && hasFingerprint(nodeCrypto, blob, parsed)
  }
  expect(given(`sha256:${sha256}`)).toBe(true)
  expect(given(`SHA256:${base64}`)).toBe(true)
  expect(given(`SHA256:${base64}=`)).toBe(true)
  expect(given(`md5:${hexFingerprint(blob, 'md5')}`)).toBe(true)
  expect(given(`MD5:${fingerprint(nodeCrypto, blob, 'md5')}`)).toBe(true)
  expect(given(`sha1:${hexFingerprint(blob, 'sha1')}`)).toBe(true)
  for (const text of [
    `SHA256:${sha256}`,
    `sha256:${base64}`,
    `Sha256:${sha256}`,
    `SHA256:${base64.slice(1)}`,
    sha256,
    'sha512:00',
    ':',
    'SHA256:',
  ]) {
    expect(parseFingerprint(text)).toBeUndefined()
  }
})
