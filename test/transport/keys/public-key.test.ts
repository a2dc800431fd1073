import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { curveOrder } from '../../../packages/transport/src/crypto/elliptic-curves.ts'
import { KeyFormatError } from '../../../packages/transport/src/errors.ts'
import { ecdsaCurves } from '../../../packages/transport/src/keys/curves.ts'
import {
  formatPublicKey,
  parsePublicKey,
  peekKeyType,
  publicKeyFromNumbers,
  publicKeyFromText,
} from '../../../packages/transport/src/keys/public-key.ts'
import { fromHex, toHex } from '../../../packages/transport/src/wire/bytes.ts'
import { Writer } from '../../../packages/transport/src/wire/writer.ts'
import { ALL_KEY_TYPES, clientKey } from '../../support/keys.ts'
import { runOrThrow } from '../../support/program.ts'
import { describeWith, needsPrograms } from '../../support/requirements.ts'
import { tempDir } from '../../support/temp-dir.ts'
import { softwareToken } from './sk-key.ts'

const needsKeygen = needsPrograms('ssh-keygen', ['ssh-keygen'], 'openssh-client')

/** A modulus of exactly that many bits. */
function modulus(bits: number): Uint8Array {
  const n = new Uint8Array(Math.ceil(bits / 8)).fill(0xff)
  n[0] = 0xff >>> (8 * n.length - bits)
  return n
}

const rsaBlob = (n: Uint8Array, e: Uint8Array) =>
  new Writer().text('ssh-rsa').unsignedMpint(e).unsignedMpint(n).copy()
const f4 = Uint8Array.of(1, 0, 1)

function code(action: () => unknown): string {
  try {
    action()
  } catch (error) {
    if (error instanceof KeyFormatError) return error.code
    throw error
  }
  return 'accepted'
}

describeWith([needsKeygen], 'public keys made by ssh-keygen', () => {
  test.each(ALL_KEY_TYPES)('%s: the blob, its type and the text form round-trip', async (type) => {
    const pair = await clientKey(type)
    const { publicKey, comment } = publicKeyFromText(pair.publicLine)
    expect(publicKey.type).toBe(pair.algorithm)
    expect(toHex(publicKey.blob)).toBe(toHex(pair.blob))
    expect(comment).toBe(`client-${type}`)
    expect(formatPublicKey(publicKey, comment)).toBe(pair.publicLine)
    expect(toHex(publicKeyFromNumbers(publicKey.verifyKey).blob)).toBe(toHex(pair.blob))
  })

  test.each(ALL_KEY_TYPES)('%s: RFC 4716 files as ssh-keygen -e writes them are read', async (type) => {
    const pair = await clientKey(type)
    const { stdout } = await runOrThrow('ssh-keygen', ['-e', '-m', 'RFC4716', '-f', pair.publicFile])
    const { publicKey, comment } = publicKeyFromText(stdout)
    expect(toHex(publicKey.blob)).toBe(toHex(pair.blob))
    expect(comment).toMatch(/^\d+-bit /)
    // RFC 4716 s3.3: a header may go on in the next line; CRLF is a line end too.
    const folded = stdout.replace('-bit ', '-bit \\\n').replaceAll('\n', '\r\n')
    expect(publicKeyFromText(folded)).toEqual({ publicKey, comment })
  })

  test('ssh-keygen reads the security keys that we write', async () => {
    for (const type of ['sk-ssh-ed25519@openssh.com', 'sk-ecdsa-sha2-nistp256@openssh.com'] as const) {
      const { publicKey } = softwareToken(type)
      const { stdout } = await runOrThrow('ssh-keygen', ['-lf', '-'], {
        input: `${formatPublicKey(publicKey, 'mine')}\n`,
      })
      expect(stdout).toMatch(/^256 SHA256:\S+ mine \((ED25519|ECDSA)-SK\)/)
      expect(publicKeyFromText(formatPublicKey(publicKey)).publicKey).toEqual(publicKey)
    }
  })

  test('refuses the 1024-bit RSA key that ssh-keygen can still make, and a DSA key, by type', async () => {
    const dir = tempDir('keys')
    await runOrThrow('ssh-keygen', ['-q', '-t', 'rsa', '-b', '1024', '-N', '', '-f', join(dir, 'short')])
    expect(code(() => publicKeyFromText(readFileSync(join(dir, 'short.pub'), 'utf8')))).toBe(
      'ERR_SSH_KEY_SIZE',
    )
    await runOrThrow('ssh-keygen', ['-q', '-t', 'dsa', '-N', '', '-f', join(dir, 'dsa')])
    expect(code(() => publicKeyFromText(readFileSync(join(dir, 'dsa.pub'), 'utf8')))).toBe(
      'ERR_SSH_KEY_UNSUPPORTED',
    )
  })
})

describe('sizes of RSA keys', () => {
  test.each([
    [2047, 'ERR_SSH_KEY_SIZE'],
    [2048, 'accepted'],
    [16_384, 'accepted'],
    [16_385, 'ERR_SSH_KEY_SIZE'],
  ])('a modulus of %i bits: %s', (bits, expected) => {
    expect(code(() => parsePublicKey(rsaBlob(modulus(bits), f4)))).toBe(expected)
  })

  test('a modulus of a million bits is refused without work', () => {
    const blob = rsaBlob(modulus(1_000_000), f4)
    const start = performance.now()
    expect(code(() => parsePublicKey(blob))).toBe('ERR_SSH_KEY_SIZE')
    expect(performance.now() - start).toBeLessThan(50)
  })

  test.each([
    ['00', 'ERR_SSH_KEY_SIZE'],
    ['01', 'ERR_SSH_KEY_SIZE'],
    ['02', 'ERR_SSH_KEY_SIZE'],
    ['03', 'accepted'],
    ['010000', 'ERR_SSH_KEY_SIZE'],
    ['010001', 'accepted'],
    ['ffffff', 'accepted'],
    ['01000001', 'ERR_SSH_KEY_SIZE'],
  ])('an exponent of 0x%s: %s', (e, expected) => {
    expect(code(() => parsePublicKey(rsaBlob(modulus(2048), fromHex(e)!)))).toBe(expected)
  })

  test('an even modulus is refused', () => {
    const n = modulus(2048)
    n[n.length - 1] = 0xfe
    expect(code(() => parsePublicKey(rsaBlob(n, f4)))).toBe('ERR_SSH_KEY_FORMAT')
  })
})

describe('structure', () => {
  test.each([31, 33, 0])('an Ed25519 key of %i bytes is refused', (length) => {
    const blob = new Writer().text('ssh-ed25519').string(new Uint8Array(length)).copy()
    expect(code(() => parsePublicKey(blob))).toBe('ERR_SSH_KEY_FORMAT')
  })

  test('the curve named in an ECDSA blob must be that of its type', () => {
    const point = new Uint8Array(65).fill(4)
    const named = (curve: string, bytes = point) =>
      code(() => parsePublicKey(new Writer().text('ecdsa-sha2-nistp256').text(curve).string(bytes).copy()))
    expect(named('nistp256')).toBe('accepted')
    expect(named('nistp384')).toBe('ERR_SSH_KEY_FORMAT')
    expect(named('')).toBe('ERR_SSH_KEY_FORMAT')
    expect(named('nistp256', new Uint8Array(65).fill(6))).toBe('ERR_SSH_KEY_FORMAT')
    expect(named('nistp256', new Uint8Array(64).fill(4))).toBe('ERR_SSH_KEY_FORMAT')
    expect(named('nistp256', Uint8Array.from([2, ...new Uint8Array(32)]))).toBe('ERR_SSH_KEY_FORMAT')
  })

  test('certificates, ssh-dss and unknown types are refused by their name', () => {
    for (const type of ['ssh-ed25519-cert-v01@openssh.com', 'ssh-dss', 'rsa-sha2-256', '', '__proto__']) {
      expect(code(() => parsePublicKey(new Writer().text(type).string(new Uint8Array(32)).copy()))).toBe(
        'ERR_SSH_KEY_UNSUPPORTED',
      )
    }
  })

  test('every truncation of every kind of key, and a byte too many, is a KeyFormatError', async () => {
    const blobs = [
      softwareToken('sk-ssh-ed25519@openssh.com').publicKey.blob,
      softwareToken('sk-ecdsa-sha2-nistp256@openssh.com').publicKey.blob,
      rsaBlob(modulus(2048), f4),
      new Writer().text('ssh-ed25519').string(new Uint8Array(32)).copy(),
      new Writer().text('ecdsa-sha2-nistp521').text('nistp521').string(new Uint8Array(133).fill(4)).copy(),
    ]
    for (const blob of blobs) {
      expect(parsePublicKey(blob).blob).toEqual(blob)
      for (let length = 0; length < blob.length; length++) {
        expect(() => parsePublicKey(blob.subarray(0, length))).toThrow(KeyFormatError)
      }
      expect(() => parsePublicKey(Uint8Array.from([...blob, 0]))).toThrow(KeyFormatError)
    }
  })

  test('a parsed key does not change when the bytes it came from do', () => {
    const blob = new Writer().text('ssh-ed25519').string(new Uint8Array(32).fill(9)).copy()
    const key = parsePublicKey(blob)
    blob.fill(0)
    expect(peekKeyType(key.blob)).toBe('ssh-ed25519')
    expect(key.verifyKey).toEqual({ type: 'ed25519', publicKey: new Uint8Array(32).fill(9) })
  })

  test('text that is no public key says what was expected', () => {
    const message = (text: string) => {
      try {
        publicKeyFromText(text)
      } catch (error) {
        return (error as KeyFormatError).message
      }
      return ''
    }
    expect(message('')).toMatch(/expected a public key line/)
    expect(message('-----BEGIN OPENSSH PRIVATE KEY-----\n')).toMatch(/private key/)
    expect(message('ssh-ed25519 !!!')).toMatch(/not base64/)
    expect(message('ssh-ed25519 AAAA\nssh-rsa AAAA')).toMatch(/one line/)
    const blob = new Writer().text('ssh-ed25519').string(new Uint8Array(32)).copy()
    expect(message(formatPublicKey({ type: 'ssh-rsa', blob }))).toMatch(/the line says "ssh-rsa"/)
    expect(message('---- BEGIN SSH2 PUBLIC KEY ----\nAAAA')).toMatch(/on lines of their own/)
    const endless = 'aaaaaaaa\\\n'.repeat(50_000)
    const folded = `---- BEGIN SSH2 PUBLIC KEY ----\nComment: ${endless}\n---- END SSH2 PUBLIC KEY ----`
    expect(message(folded)).toMatch(/too long/)
  })

  test('group orders agree with those of the providers', () => {
    for (const curve of ecdsaCurves) expect(BigInt(`0x${toHex(curve.order)}`)).toBe(curveOrder(curve.name))
  })
})
