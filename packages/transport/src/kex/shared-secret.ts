// K's two encodings (RFC 4251 s5), and private values that can be used once. What is passed in is wiped here.

import type { MaybePromise } from '../crypto/provider.ts'
import { ProtocolError, UsageError } from '../errors.ts'
import { Writer } from '../wire/writer.ts'

/** K as an mpint with its length, from a big-endian magnitude, which is wiped. Leading zero bytes are dropped. */
export function mpintSecret(magnitude: Uint8Array): Uint8Array {
  // Length, a zero byte where the high bit is set, and the magnitude: the writer never grows, so no copy stays behind.
  return encoded(new Writer(4 + 1 + magnitude.length).unsignedMpint(magnitude), magnitude)
}

/** K as a string with its length, which is how the hybrid methods have it; the argument is wiped. */
export function stringSecret(secret: Uint8Array): Uint8Array {
  return encoded(new Writer(4 + secret.length).string(secret), secret)
}

function encoded(writer: Writer, secret: Uint8Array): Uint8Array {
  secret.fill(0)
  const copy = writer.copy()
  writer.buffer.fill(0)
  return copy
}

/** Passes the secret to `use`, once, and wipes it when that returns, settles or throws. */
export function usedOnce(
  secret: Uint8Array,
  use: (secret: Uint8Array, theirs: Uint8Array) => MaybePromise<Uint8Array>,
): (theirs: Uint8Array) => MaybePromise<Uint8Array> {
  let spent = false
  return (theirs) => {
    if (spent) throw new UsageError('a key exchange value is used once')
    spent = true
    return wipedAfter([secret], () => use(secret, theirs))
  }
}

/** What `use` gives; the secrets are wiped when it returns, settles or throws. */
export function wipedAfter<T>(secrets: readonly Uint8Array[], use: () => MaybePromise<T>): MaybePromise<T> {
  const wipe = () => {
    for (const secret of secrets) secret.fill(0)
  }
  let result: MaybePromise<T>
  try {
    result = use()
  } catch (error) {
    wipe()
    throw error
  }
  if (result instanceof Promise) return result.finally(wipe)
  wipe()
  return result
}

/** The error for a peer's public value that a method does not accept. */
export function badPublicValue(method: string, reason: string): ProtocolError {
  return new ProtocolError(`the peer's public value for ${method} ${reason}`, { phase: 'key exchange' })
}
