// RSA key pairs, by node:crypto. The random source is OpenSSL's own.

import { generateKeyPair as nodeGenerateKeyPair } from 'node:crypto'
import { promisify } from 'node:util'
import { UsageError } from '../errors.ts'
import { maxRsaBits, minRsaBits } from '../limits.ts'
import { DerReader } from './der.ts'
import { readRsa } from './der-private-key.ts'
import type { PrivateKey } from './private-key.ts'

/**
 * Generates an RSA key pair with exponent 65537; off the main thread.
 * @param bits length of the modulus, 2048 to 16384; 3072 as ssh-keygen.
 * @throws UsageError where `bits` is out of range.
 */
export async function generateRsaKeyPair(bits = 3072, comment = ''): Promise<PrivateKey> {
  if (!Number.isInteger(bits) || bits < minRsaBits || bits > maxRsaBits) {
    throw new UsageError(`bits: expected ${minRsaBits} to ${maxRsaBits}, got ${bits}`)
  }
  const { privateKey } = await promisify(nodeGenerateKeyPair)('rsa', {
    modulusLength: bits,
    publicExponent: 65_537,
    publicKeyEncoding: { type: 'pkcs1', format: 'der' },
    privateKeyEncoding: { type: 'pkcs1', format: 'der' },
  })
  const der = Uint8Array.from(privateKey)
  privateKey.fill(0)
  try {
    return { ...readRsa(new DerReader(der), {}), comment }
  } finally {
    der.fill(0)
  }
}
