// The key exchange methods we have, by name. Which of them are offered is decided in algorithms.ts.

import { curve25519Methods } from './curve25519.ts'
import { diffieHellmanMethods } from './diffie-hellman.ts'
import { ecdhMethods } from './ecdh.ts'
import type { KexMethod } from './method.ts'
import { mlkem768x25519 } from './mlkem768x25519.ts'

const byName = new Map(
  [mlkem768x25519, ...curve25519Methods, ...ecdhMethods, ...diffieHellmanMethods].map((method) => [
    method.name,
    method,
  ]),
)

/** Every method name we have. */
export const knownKexMethods: readonly string[] = [...byName.keys()]

/** The method of this name, or undefined. */
export function kexMethod(name: string): KexMethod | undefined {
  return byName.get(name)
}
