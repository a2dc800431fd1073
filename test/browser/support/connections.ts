/** Servers of the tests as a page is told of them. */
import { readFileSync } from 'node:fs'
import { clientKey, type KeyOptions, type KeyPair, type KeyType } from '../../support/keys.ts'
import type { Connection } from '../page/connection.ts'

export async function connectionTo(
  server: {
    readonly host: string
    readonly port: number
    readonly user: string
    readonly hostKeys: readonly KeyPair[]
  },
  options: Partial<Connection> & { readonly keyType?: KeyType; readonly keyOptions?: KeyOptions } = {},
): Promise<Connection> {
  const { keyType = 'ed25519', keyOptions, ...rest } = options
  const { privateFile } = await clientKey(keyType, ...(keyOptions === undefined ? [] : [keyOptions]))
  return {
    host: server.host,
    port: server.port,
    user: server.user,
    fingerprint: server.hostKeys[0]!.fingerprint,
    hostKeys: [server.hostKeys[0]!.algorithm],
    ...(rest.password === undefined ? { privateKey: readFileSync(privateFile, 'utf8') } : {}),
    ...rest,
  }
}
