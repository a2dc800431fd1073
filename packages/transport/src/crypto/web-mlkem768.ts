// ML-KEM-768 on WebCrypto (Modern Algorithms in the Web Cryptography API) for the side that decapsulates, which a client is, and
// on noble where a browser lacks it: that shows when the first pair is made, and noble's code is fetched then.
// A pair's secret is here the seed d || z of FIPS 203 s7.1, 64 bytes, since WebCrypto takes no expanded key. Encapsulation
// stays noble's: WebCrypto draws its randomness itself, and ours is injected.

import { mlkem768Decapsulate, mlkem768KeyPair } from './mlkem768.ts'
import type { AgreementKeyPair, MaybePromise, RandomSource } from './provider.ts'
import { randomBytes } from './random.ts'
import type { Bytes } from './web-bytes.ts'

const name = 'ML-KEM-768'
const seedBytes = 64

/** What TypeScript's SubtleCrypto does not have yet. */
interface SubtleMlKem {
  importKey(
    format: 'raw-seed',
    seed: Bytes,
    algorithm: string,
    extractable: boolean,
    usages: readonly string[],
  ): Promise<CryptoKey>
  getPublicKey(key: CryptoKey, usages: readonly string[]): Promise<CryptoKey>
  exportKey(format: 'raw-public', key: CryptoKey): Promise<ArrayBuffer>
  decapsulateBits(algorithm: string, key: CryptoKey, ciphertext: Bytes): Promise<ArrayBuffer>
}

export interface Mlkem768Client {
  mlkem768KeyPair(random: RandomSource): MaybePromise<AgreementKeyPair>
  mlkem768Decapsulate(secret: Uint8Array, ciphertext: Uint8Array): MaybePromise<Uint8Array>
}

/** A pair's two operations on WebCrypto, with the answers of mlkem768.ts; each takes the other's secrets. */
export function subtleMlkem768(someSubtle: SubtleCrypto): Mlkem768Client {
  const subtle = someSubtle as unknown as SubtleMlKem
  let isMissing = typeof subtle.decapsulateBits !== 'function'

  const importSeed = (seed: Uint8Array): Promise<CryptoKey> =>
    subtle.importKey('raw-seed', seed as Bytes, name, false, ['decapsulateBits'])

  return {
    mlkem768KeyPair: async (random) => {
      // Drawn once, whoever goes on with it: recorded randomness gives the same keys everywhere.
      const secret = randomBytes(random, seedBytes)
      if (!isMissing) {
        try {
          const key = await subtle.getPublicKey(await importSeed(secret), ['encapsulateBits'])
          return { publicKey: new Uint8Array(await subtle.exportKey('raw-public', key)), secret }
        } catch {
          // Every seed has a key, so this says that the format or the algorithm is unknown, each in its own words.
          isMissing = true
        }
      }
      try {
        return await mlkem768KeyPair((into) => into.set(secret))
      } finally {
        secret.fill(0)
      }
    },

    mlkem768Decapsulate: async (secret, ciphertext) => {
      if (secret.length !== seedBytes) return mlkem768Decapsulate(secret, ciphertext)
      const key = await importSeed(secret)
      return new Uint8Array(await subtle.decapsulateBits(name, key, ciphertext as Bytes))
    },
  }
}
