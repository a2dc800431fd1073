// Tells clients all host keys, so that they can learn new ones before an old one goes (OpenSSH PROTOCOL 2.5):
// hostkeys-00@openssh.com announces, hostkeys-prove-00@openssh.com asks for signatures. A signature costs us much more than
// the question costs the client, so each key signs at most once per connection, and only for who is authenticated.

import { isCertificateType } from '../keys/public-key.ts'
import type { Signer } from '../keys/signer.ts'
import { equalBytes } from '../wire/bytes.ts'
import { Reader } from '../wire/reader.ts'
import { Writer } from '../wire/writer.ts'

export const hostKeysRequest = 'hostkeys-00@openssh.com'
export const hostKeysProveRequest = 'hostkeys-prove-00@openssh.com'

export class HostKeyProof {
  readonly #keys: readonly Signer[]
  readonly #signed = new Set<Signer>()

  /** @param keys the server's host keys; certificates are not announced, they are learnt as such. */
  constructor(keys: readonly Signer[]) {
    this.#keys = keys.filter((key) => !isCertificateType(key.keyType))
  }

  /** Payload of hostkeys-00@openssh.com; undefined where there is nothing to tell. */
  announcement(): Uint8Array | undefined {
    if (this.#keys.length === 0) return undefined
    const writer = new Writer()
    for (const key of this.#keys) writer.string(key.publicKeyBlob)
    return writer.copy()
  }

  /**
   * The reply to hostkeys-prove-00@openssh.com: a signature for each of `keys`, in their order.
   * @param negotiated host key algorithm of the key exchange: an RSA key then signs with the hash the client knows to work.
   */
  async prove(keys: readonly Signer[], sessionId: Uint8Array, negotiated: string): Promise<Uint8Array> {
    const reply = new Writer()
    for (const key of keys) {
      const data = new Writer().text(hostKeysProveRequest).string(sessionId).string(key.publicKeyBlob).copy()
      reply.string(
        await key.sign(key.algorithms.includes(negotiated) ? negotiated : key.algorithms[0]!, data),
      )
    }
    return reply.copy()
  }

  /**
   * The keys that a hostkeys-prove-00@openssh.com request asks about; each counts as signed from now on. Undefined, which is
   * a refusal, where one is not ours or was signed with before. Throws WireError where the request is malformed.
   */
  take(payload: Uint8Array): readonly Signer[] | undefined {
    const reader = new Reader(payload)
    const wanted: Signer[] = []
    while (reader.remaining > 0) {
      const blob = reader.string()
      const key = this.#keys.find((known) => equalBytes(known.publicKeyBlob, blob))
      if (key === undefined || this.#signed.has(key)) return undefined
      this.#signed.add(key)
      wanted.push(key)
    }
    return wanted.length === 0 ? undefined : wanted
  }
}
