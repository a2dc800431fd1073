// Private keys in the formats of OpenSSL and others, unencrypted: PKCS#1 (RFC 8017 A.1.2), SEC1 (RFC 5915 s3) and
// PKCS#8 (RFC 5208 s5, RFC 5958 s2; Ed25519 by RFC 8410 s7).

import type { CryptoProvider, CurveName } from '../crypto/provider.ts'
import { KeyFormatError } from '../errors.ts'
import { equalBytes } from '../wire/bytes.ts'
import { curveByName } from './curves.ts'
import { DerReader } from './der.ts'
import { ed25519PublicKey } from './ed25519-public.ts'
import { keyErrorCodes } from './key-format.ts'
import { padTo } from './magnitude.ts'
import type { Pem } from './pem.ts'
import type { KeyFileOptions, PrivateKey } from './private-key.ts'
import { makeSoftwareKey } from './private-key-fields.ts'
import { type PublicKeyLimits, publicKeyFromNumbers } from './public-key.ts'

const oid = {
  rsaEncryption: '1.2.840.113549.1.1.1',
  ecPublicKey: '1.2.840.10045.2.1',
  ed25519: '1.3.101.112',
} as const

const curveOids: ReadonlyMap<string, CurveName> = new Map([
  ['1.2.840.10045.3.1.7', 'nistp256'],
  ['1.3.132.0.34', 'nistp384'],
  ['1.3.132.0.35', 'nistp521'],
])

export function parsePkcs1(_crypto: CryptoProvider, pem: Pem, options: KeyFileOptions): PrivateKey {
  refuseEncrypted(pem)
  return readRsa(new DerReader(pem.body), options.limits)
}

export function parseSec1(_crypto: CryptoProvider, pem: Pem): PrivateKey {
  refuseEncrypted(pem)
  return readEc(new DerReader(pem.body), undefined)
}

export function parsePkcs8(_crypto: CryptoProvider, pem: Pem, options: KeyFileOptions): PrivateKey {
  const outer = new DerReader(pem.body)
  const info = outer.sequence()
  outer.expectEnd()
  const version = info.smallInteger()
  if (version > 1) throw new KeyFormatError(`PKCS#8 version ${version}; expected 0 or 1`)
  const algorithm = info.sequence()
  const name = algorithm.objectIdentifier()
  const content = info.octetString()
  info.context(0) // attributes, of no use here
  const publicBits = info.context(1, 'primitive')
  info.expectEnd()
  switch (name) {
    case oid.rsaEncryption:
      if (algorithm.remaining > 0) algorithm.null()
      return readRsa(new DerReader(content), options.limits)
    case oid.ecPublicKey:
      return readEc(new DerReader(content), curveOf(algorithm.objectIdentifier()))
    case oid.ed25519: {
      const inner = new DerReader(content)
      const seed = inner.octetString().slice()
      inner.expectEnd()
      if (seed.length !== 32) throw new KeyFormatError(`an Ed25519 seed of ${seed.length} bytes; expected 32`)
      const publicKey = ed25519PublicKey(seed)
      // RFC 5958 s2: [1] IMPLICIT BIT STRING, of which the first byte counts unused bits.
      if (publicBits !== undefined && !equalBytes(publicBits.rest().subarray(1), publicKey)) {
        throw new KeyFormatError('the public and the private part of the key file are not of one key')
      }
      return makeSoftwareKey(publicKeyFromNumbers({ type: 'ed25519', publicKey }), {
        type: 'ed25519',
        publicKey,
        seed,
      })
    }
    default:
      throw new KeyFormatError(
        `a PKCS#8 key of algorithm ${name}; expected RSA, ECDSA on a NIST curve, or Ed25519`,
        {
          code: keyErrorCodes.unsupported,
        },
      )
  }
}

/** Reads an RSAPrivateKey (RFC 8017 A.1.2); the numbers are copied. */
export function readRsa(der: DerReader, limits: PublicKeyLimits): PrivateKey {
  const sequence = der.sequence()
  der.expectEnd()
  const version = sequence.smallInteger()
  if (version !== 0) throw new KeyFormatError(`PKCS#1 version ${version}; expected 0 (two primes)`)
  const [n, e, d, p, q, , , iqmp] = Array.from({ length: 8 }, () => sequence.unsigned().slice())
  sequence.expectEnd()
  const publicKey = publicKeyFromNumbers({ type: 'rsa', n: n!, e: e! }, limits)
  return makeSoftwareKey(publicKey, { type: 'rsa', n: n!, e: e!, d: d!, p: p!, q: q!, iqmp: iqmp! })
}

/** `curve` where PKCS#8 named it outside. */
function readEc(der: DerReader, outerCurve: CurveName | undefined): PrivateKey {
  const sequence = der.sequence()
  der.expectEnd()
  const version = sequence.smallInteger()
  if (version !== 1) throw new KeyFormatError(`SEC1 version ${version}; expected 1`)
  const secret = sequence.octetString()
  const parameters = sequence.context(0)
  const innerCurve = parameters === undefined ? undefined : curveOf(parameters.objectIdentifier())
  const curve = outerCurve ?? innerCurve
  if (curve === undefined) throw new KeyFormatError('the EC key file does not name its curve')
  if (innerCurve !== undefined && innerCurve !== curve)
    throw new KeyFormatError('the EC key file names two curves')
  const point = sequence.context(1)?.bitString().slice()
  sequence.expectEnd()
  if (point === undefined) {
    throw new KeyFormatError('the EC key file lacks the public key; convert it with: openssl ec -in FILE', {
      code: keyErrorCodes.unsupported,
    })
  }
  const scalar = padTo(secret, curveByName(curve)!.fieldBytes)
  if (scalar === undefined) throw new KeyFormatError('the EC private number is longer than the curve allows')
  return makeSoftwareKey(publicKeyFromNumbers({ type: 'ecdsa', curve, point }), {
    type: 'ecdsa',
    curve,
    point,
    scalar,
  })
}

function curveOf(name: string): CurveName {
  const curve = curveOids.get(name)
  if (curve === undefined) {
    throw new KeyFormatError(`an EC key on curve ${name}; expected NIST P-256, P-384 or P-521`, {
      code: keyErrorCodes.unsupported,
    })
  }
  return curve
}

/** RFC 1421 encryption ("Proc-Type: 4,ENCRYPTED") derives its key with one round of MD5: not read here. */
function refuseEncrypted(pem: Pem): void {
  if (/ENCRYPTED/.test(pem.headers.get('Proc-Type') ?? '')) {
    throw new KeyFormatError(
      'the PEM file is encrypted in the old way; convert it with: ssh-keygen -p -f FILE',
      {
        code: keyErrorCodes.cipherUnsupported,
      },
    )
  }
}
