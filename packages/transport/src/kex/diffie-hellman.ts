// diffie-hellman-group14-sha256, group16-sha512 and group18-sha512 (RFC 8268, RFC 4253 s8): Diffie-Hellman in the groups of
// RFC 3526. For servers that have nothing better, so the arithmetic is fetched when one comes; client only, since an answer
// costs a server far more than a question costs the client (CVE-2002-20001).

import { fetched } from '../crypto/fetched.ts'
import type { HashName } from '../crypto/provider.ts'
import type { ModpGroup } from './finite-field.ts'
import type { KexMethod } from './method.ts'

const arithmetic = fetched(() => import('./finite-field.ts'))

function diffieHellman(name: string, hash: HashName, group: ModpGroup, exponentBytes: number): KexMethod {
  return {
    name,
    hash,
    client: (crypto, random) =>
      arithmetic(({ finiteFieldClient }) => finiteFieldClient(name, group, exponentBytes, crypto, random)),
  }
}

export const diffieHellmanMethods: readonly KexMethod[] = [
  diffieHellman('diffie-hellman-group16-sha512', 'sha512', 'group16', 64),
  diffieHellman('diffie-hellman-group18-sha512', 'sha512', 'group18', 80),
  diffieHellman('diffie-hellman-group14-sha256', 'sha256', 'group14', 64),
]
