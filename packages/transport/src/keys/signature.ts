// SSH signature blobs: made and verified. RFC 4253 s6.6 (outer form), RFC 8709 s6, RFC 5656 s3.1.2, RFC 8332 s3.
// The algorithm is given by the protocol (negotiated, or named in a request); key type, signature blob and table entry must
// all agree with it before anything is computed. What security keys wrap around the data is in security-key.ts.
// Nothing here hashes on a caller's word: there is no way to hand in a digest.

import type { CryptoProvider, HashName, MaybePromise, VerifyKey } from '../crypto/provider.ts'
import { KeyFormatError, quote } from '../errors.ts'
import { concat, utf8Text } from '../wire/bytes.ts'
import { Reader } from '../wire/reader.ts'
import { WireError } from '../wire/wire-error.ts'
import { Writer } from '../wire/writer.ts'
import { curveByName, type EcdsaCurve } from './curves.ts'
import { keyErrorCodes, parsing } from './key-format.ts'
import { isInRange, padTo, trimZeros } from './magnitude.ts'
import { whenReady } from './maybe-promise.ts'
import type { PrivateKey } from './private-key.ts'
import { readSecurityKeyTail, type SecurityKeyTail, wrappedData } from './security-key.ts'
import { type SignatureAlgorithm, signatureAlgorithm } from './signature-algorithms.ts'

/** What verification needs of a key; a PublicKey and a Certificate both have it. */
export interface VerifyingKey {
  /** Blob type: for certificates the certificate type. */
  readonly type: string
  readonly verifyKey: VerifyKey
  readonly application?: string
}

export interface VerifyOptions {
  /** Algorithms that may be used at all; all of the table where left out. */
  allowed?: readonly string[]
  /** Security keys: a signature without the user's touch is refused unless this is false (PROTOCOL.u2f, flag 0x01). */
  requireUserPresence?: boolean
  /** Security keys: also demand that the user was verified by PIN or biometrics (flag 0x04). */
  requireUserVerification?: boolean
}

/**
 * Verifies an SSH signature blob over `data`.
 * True only where `algorithm` is known and allowed, is one of `key.type`, equals the name inside the blob, and the signature
 * fits. Malformed input is false, never an exception.
 */
export function verifySignature(
  crypto: CryptoProvider,
  key: VerifyingKey,
  algorithm: string,
  data: Uint8Array,
  signatureBlob: Uint8Array,
  options: VerifyOptions = {},
): MaybePromise<boolean> {
  const entry = signatureAlgorithm(algorithm)
  if (entry === undefined || entry.blobType !== key.type) return false
  if (options.allowed !== undefined && !options.allowed.includes(algorithm)) return false
  if (entry.scheme !== key.verifyKey.type) return false
  let parsed: ParsedSignature
  try {
    parsed = parseSignature(signatureBlob)
  } catch (error) {
    if (error instanceof KeyFormatError) return false
    throw error
  }
  if (parsed.name !== entry.signatureName) return false
  const raw = rawSignature(key.verifyKey, parsed.value)
  if (raw === undefined) return false
  if (entry.wrapping === undefined) return verifyRaw(crypto, key.verifyKey, entry.hash, data, raw)
  const tail = parsed.tail
  if (tail === undefined || key.application === undefined) return false
  if ((options.requireUserPresence ?? true) && !tail.userPresent) return false
  if (options.requireUserVerification === true && !tail.userVerified) return false
  const wrapped = wrappedData(crypto, key.application, tail, data)
  return wrapped === undefined ? false : verifyRaw(crypto, key.verifyKey, entry.hash, wrapped, raw)
}

/**
 * Signs `data`: the result is the signature blob as it goes over the wire. It was verified with the public key before it is
 * given out, so a fault in the computation (which could reveal an RSA key) never leaves the process.
 * @throws KeyFormatError 'ERR_SSH_KEY_UNSUPPORTED' where the key cannot sign with that algorithm,
 *   'ERR_SSH_SIGNATURE_SELF_CHECK' where the signature does not verify (wrong public half, or a fault).
 */
export function signWith(
  crypto: CryptoProvider,
  key: PrivateKey,
  algorithm: string,
  data: Uint8Array,
): MaybePromise<Uint8Array> {
  const entry = signatureAlgorithm(algorithm)
  if (entry === undefined || entry.keyType !== key.type) {
    throw new KeyFormatError(
      `a key of type ${key.type} does not sign with algorithm ${quote(algorithm, 80)}`,
      {
        code: keyErrorCodes.unsupported,
      },
    )
  }
  if (key.kind === 'security-key') {
    throw new KeyFormatError('this key lives in a security key: it signs only through an agent', {
      code: keyErrorCodes.unsupported,
    })
  }
  const { signingKey, publicKey } = key
  return whenReady(crypto.sign(signingKey, entry.hash, data), (raw) => {
    const blob = encodeSignature(entry, publicKey.verifyKey, raw)
    return whenReady(verifySignature(crypto, publicKey, entry.signatureName, data, blob), (good) => {
      if (!good) {
        throw new KeyFormatError(
          'the signature just made does not verify: the key file is inconsistent, or the computation failed',
          {
            code: keyErrorCodes.selfCheck,
          },
        )
      }
      return blob
    })
  })
}

export interface ParsedSignature {
  /** Algorithm name inside the blob. */
  name: string
  /** The scheme's own signature, still in SSH's encoding; a view. */
  value: Uint8Array
  /** Flags, counter and so on of security keys. */
  tail: SecurityKeyTail | undefined
}

/** Takes a signature blob apart. Throws KeyFormatError where it is malformed or its algorithm is unknown. */
export function parseSignature(blob: Uint8Array): ParsedSignature {
  return parsing('a signature', () => {
    const reader = new Reader(blob)
    const name = utf8Text(reader.string())
    const entry = signatureAlgorithm(name)
    if (entry === undefined || entry.signatureName !== name) {
      throw new KeyFormatError(`signature algorithm ${quote(name, 80)} is not supported`, {
        code: keyErrorCodes.unsupported,
      })
    }
    const value = reader.string()
    const tail = entry.wrapping === undefined ? undefined : readSecurityKeyTail(entry.wrapping, reader)
    reader.expectEnd()
    return { name, value, tail }
  })
}

/** From SSH's encoding to the provider's; undefined where it cannot be a signature of that key. */
function rawSignature(key: VerifyKey, value: Uint8Array): Uint8Array | undefined {
  switch (key.type) {
    case 'ed25519':
      // RFC 8709 s6: 64 bytes. S below the group order, canonical points and no small-order keys (RFC 8032 s5.1.7) are the
      // provider's rules.
      return value.length === 64 ? value : undefined
    case 'ecdsa':
      return ecdsaToRaw(curveByName(key.curve)!, value)
    case 'rsa':
      // RFC 8332 s3: as long as the modulus; "there exist signers that will send a shorter encoding of S that omits [leading
      // zeros]. A verifier MAY accept" those, as OpenSSH does. Longer or empty is no signature.
      return value.length === 0 || value.length > key.n.length ? undefined : padTo(value, key.n.length)
  }
}

/** RFC 5656 s3.1.2: mpint r, mpint s; minimal (the reader's rule) and 1 <= r, s < n. */
function ecdsaToRaw(curve: EcdsaCurve, value: Uint8Array): Uint8Array | undefined {
  try {
    const reader = new Reader(value)
    const r = reader.unsignedMpint()
    const s = reader.unsignedMpint()
    reader.expectEnd()
    if (!isInRange(r, curve.order) || !isInRange(s, curve.order)) return undefined
    return concat(padTo(r, curve.fieldBytes)!, padTo(s, curve.fieldBytes)!)
  } catch (error) {
    if (error instanceof WireError) return undefined
    throw error
  }
}

function encodeSignature(entry: SignatureAlgorithm, key: VerifyKey, raw: Uint8Array): Uint8Array {
  const writer = new Writer(raw.length + 128).text(entry.signatureName)
  if (key.type !== 'ecdsa') return writer.string(raw).copy()
  const { fieldBytes } = curveByName(key.curve)!
  const inner = new Writer()
    .unsignedMpint(trimZeros(raw.subarray(0, fieldBytes)))
    .unsignedMpint(trimZeros(raw.subarray(fieldBytes)))
  return writer.string(inner.bytes()).copy()
}

function verifyRaw(
  crypto: CryptoProvider,
  key: VerifyKey,
  hash: HashName,
  data: Uint8Array,
  raw: Uint8Array,
): MaybePromise<boolean> {
  return crypto.supportsKey(key.type) ? crypto.verify(key, hash, data, raw) : false
}
