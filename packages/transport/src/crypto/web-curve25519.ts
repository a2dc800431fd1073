// X25519 and Ed25519 on WebCrypto (Secure Curves in the Web Cryptography API), and on noble where a browser lacks them:
// Chromium before 133 and 137, Firefox before 130, Safari before 17. Which it is shows at the first use.
// Private values enter as PKCS#8, whose bytes are wiped as soon as they were taken: importKey copies them at the call.

import { concat, fromHex } from '../wire/bytes.ts'
import { isAcceptableEd25519Key } from './ed25519-rules.ts'
import type { AgreementKeyPair, MaybePromise, RandomSource } from './provider.ts'
import { randomBytes } from './random.ts'
import { type Bytes, isUnsupported } from './web-bytes.ts'

/** PKCS#8 around a 32-byte secret: version 0, algorithm 1.3.101.110 or .112 (RFC 8410 s7). */
const pkcs8Prefixes = {
  X25519: fromHex('302e020100300506032b656e04220420')!,
  Ed25519: fromHex('302e020100300506032b657004220420')!,
}

/** u = 9 (RFC 7748 s6.1): X25519 with it makes the public key. */
const basePoint = Uint8Array.of(9, ...new Uint8Array(31))

/** What to do on a runtime without these curves. */
export interface Curve25519Fallback {
  x25519KeyPair(random: RandomSource): MaybePromise<AgreementKeyPair>
  x25519(secret: Uint8Array, publicKey: Uint8Array): MaybePromise<Uint8Array | undefined>
  signEd25519(seed: Uint8Array, data: Uint8Array): MaybePromise<Uint8Array>
  verifyEd25519(publicKey: Uint8Array, data: Uint8Array, signature: Uint8Array): MaybePromise<boolean>
}

/** The four operations on WebCrypto, with the answers of noble-keys.ts. */
export function subtleCurve25519(subtle: SubtleCrypto, fallback: Curve25519Fallback): Curve25519Fallback {
  const missing = new Set<'X25519' | 'Ed25519'>()

  /** `work`, or `instead` where the runtime turns out not to have the curve. */
  async function onCurve<T>(
    curve: 'X25519' | 'Ed25519',
    work: () => Promise<T>,
    instead: () => MaybePromise<T>,
  ): Promise<T> {
    if (missing.has(curve)) return instead()
    try {
      return await work()
    } catch (error) {
      if (!isUnsupported(error)) throw error
      missing.add(curve)
      return instead()
    }
  }

  const importPrivate = (curve: 'X25519' | 'Ed25519', secret: Uint8Array, usage: KeyUsage) => {
    const der = concat(pkcs8Prefixes[curve], secret)
    const importing = subtle.importKey('pkcs8', der as Bytes, curve, false, [usage])
    der.fill(0)
    return importing
  }

  const agree = async (secret: Uint8Array, publicKey: Uint8Array): Promise<Uint8Array> => {
    const [ours, theirs] = await Promise.all([
      importPrivate('X25519', secret, 'deriveBits'),
      subtle.importKey('raw', publicKey as Bytes, 'X25519', false, []),
    ])
    return new Uint8Array(await subtle.deriveBits({ name: 'X25519', public: theirs }, ours, 256))
  }

  return {
    x25519KeyPair: (random) => {
      // Drawn once, whoever goes on with it: recorded randomness gives the same keys everywhere.
      const secret = randomBytes(random, 32)
      return onCurve(
        'X25519',
        async () => ({ publicKey: await agree(secret, basePoint), secret }),
        () => fallback.x25519KeyPair((into) => into.set(secret)),
      )
    },

    x25519: (secret, publicKey) => {
      if (publicKey.length !== 32) return undefined
      return onCurve(
        'X25519',
        async () => {
          try {
            return await agree(secret, publicKey)
          } catch (error) {
            // How an all-zero secret is told ("X25519", derive bits, step 8), which is what a point of low order gives.
            if (error instanceof Error && error.name === 'OperationError') return undefined
            throw error
          }
        },
        () => fallback.x25519(secret, publicKey),
      )
    },

    signEd25519: (seed, data) =>
      onCurve(
        'Ed25519',
        async () => {
          // The public key is derived from the seed: one taken from a damaged key file would leak the secret scalar.
          const key = await importPrivate('Ed25519', seed, 'sign')
          return new Uint8Array(await subtle.sign('Ed25519', key, data as Bytes))
        },
        () => fallback.signEd25519(seed, data),
      ),

    verifyEd25519: (publicKey, data, signature) => {
      if (!isAcceptableEd25519Key(publicKey) || signature.length !== 64) return false
      return onCurve(
        'Ed25519',
        async () => {
          try {
            const key = await subtle.importKey('raw', publicKey as Bytes, 'Ed25519', false, ['verify'])
            return await subtle.verify('Ed25519', key, signature as Bytes, data as Bytes)
          } catch (error) {
            if (isUnsupported(error)) throw error
            return false
          }
        },
        () => fallback.verifyEd25519(publicKey, data, signature),
      )
    },
  }
}
