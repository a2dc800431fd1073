import type { CryptoProvider, MaybePromise } from '../crypto/provider.ts'
import { parseCertificate } from '../keys/certificate.ts'
import { parsePublicKey } from '../keys/public-key.ts'
import { verifySignature } from '../keys/signature.ts'
import { algorithmForBlob, isCertificateAlgorithm } from '../keys/signature-algorithms.ts'

/**
 * Whether the server holds the private half of `hostKey`: its signature over the exchange hash (RFC 4253 s8).
 * The blob's type must belong to the negotiated algorithm before the key is parsed at all.
 * @throws KeyFormatError where the key is malformed, too short, or of another type.
 */
export function verifyHostKeySignature(
  crypto: CryptoProvider,
  algorithm: string,
  hostKey: Uint8Array,
  exchangeHash: Uint8Array,
  signature: Uint8Array,
): MaybePromise<boolean> {
  algorithmForBlob(algorithm, hostKey, [algorithm])
  const key = isCertificateAlgorithm(algorithm) ? parseCertificate(hostKey) : parsePublicKey(hostKey)
  return verifySignature(crypto, key, algorithm, exchangeHash, signature)
}
