// What the browser's own primitives answer, beside noble's.

import { webCrypto } from '@sshblock/transport/browser'

export interface MlkemReport {
  readonly secretBytes: { readonly browser: number; readonly noble: number }
  /** The same randomness gives the same public key. */
  readonly samePublicKey: boolean
  /** What the browser and noble make of a ciphertext that noble made is what noble put into it. */
  readonly sameSecret: { readonly browser: boolean; readonly noble: boolean }
  /** An altered ciphertext gives the same unrelated secret (implicit rejection). */
  readonly sameRejection: boolean
}

/** ML-KEM-768 of the browser against noble's. */
export async function compareMlkem(): Promise<MlkemReport> {
  const browser = webCrypto()
  const noble = webCrypto({ nobleOnly: true })
  const recorded = crypto.getRandomValues(new Uint8Array(64))
  const replay = (into: Uint8Array): void => into.set(recorded.subarray(0, into.length))
  const [theirs, ours] = [await browser.mlkem768KeyPair(replay), await noble.mlkem768KeyPair(replay)]
  const encapsulated = await noble.mlkem768Encapsulate(theirs.publicKey, (into) =>
    crypto.getRandomValues(into as Uint8Array<ArrayBuffer>),
  )
  if (encapsulated === undefined) throw new Error('noble does not take the public key')
  const { ciphertext, sharedSecret } = encapsulated
  const altered = ciphertext.slice()
  altered[100]! ^= 1
  const opened = async (bytes: Uint8Array): Promise<string[]> => [
    String(await browser.mlkem768Decapsulate(theirs.secret, bytes)),
    String(await noble.mlkem768Decapsulate(ours.secret, bytes)),
  ]
  const [atBrowser, atNoble] = await opened(ciphertext)
  const rejected = await opened(altered)
  return {
    secretBytes: { browser: theirs.secret.length, noble: ours.secret.length },
    samePublicKey: String(theirs.publicKey) === String(ours.publicKey),
    sameSecret: { browser: atBrowser === String(sharedSecret), noble: atNoble === String(sharedSecret) },
    sameRejection: rejected[0] === rejected[1] && rejected[0] !== atBrowser,
  }
}
