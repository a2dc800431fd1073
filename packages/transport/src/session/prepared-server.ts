// The options of a server, checked and worked out once for any number of connections.

import { MethodOrder } from '../auth/method-order.ts'
import { UsageError } from '../errors.ts'
import type { AlgorithmOffer } from '../kex/algorithms.ts'
import { resolveOffer } from '../kex/algorithms.ts'
import {
  isCertificateAlgorithm,
  signatureAlgorithm,
  signatureAlgorithmNames,
} from '../keys/signature-algorithms.ts'
import type { ServerOptions, SubsystemHandler } from './server-options.ts'
import { availableMethods } from './server-options.ts'

export interface PreparedServer {
  readonly options: ServerOptions
  readonly offer: AlgorithmOffer
  readonly order: MethodOrder
  /** Signature algorithms accepted from users. */
  readonly algorithms: readonly string[]
  readonly subsystems: ReadonlyMap<string, SubsystemHandler>
  /** What EXT_INFO tells (RFC 8308). */
  readonly extensions: ReadonlyMap<string, string>
}

/** Checks the options of a server. Throws UsageError. */
export function prepareServer(options: ServerOptions): PreparedServer {
  const { crypto, auth, subsystems = {} } = options
  const algorithms = signatureAlgorithmNames.filter((name) =>
    crypto.supportsKey(signatureAlgorithm(name)!.scheme),
  )
  return {
    options,
    offer: serverOffer(options),
    order: MethodOrder.parse(auth.order, availableMethods(auth)),
    algorithms,
    subsystems: subsystems instanceof Map ? subsystems : new Map(Object.entries(subsystems)),
    extensions: new Map([
      ['server-sig-algs', algorithms.filter((name) => !isCertificateAlgorithm(name)).join(',')],
      ['publickey-hostbound@openssh.com', '0'],
      ['ping@openssh.com', '0'],
    ]),
  }
}

/** What a server offers: the host key algorithms that it has keys for. */
function serverOffer({ crypto, hostKeys, algorithms }: ServerOptions): AlgorithmOffer {
  if (hostKeys.length === 0) throw new UsageError('hostKeys: a server needs at least one host key')
  const offer = resolveOffer(crypto, 'server', algorithms)
  const signed = new Set(hostKeys.flatMap((key) => [...key.algorithms]))
  const served = offer.hostKeys.filter((name) => signed.has(name))
  if (served.length === 0)
    throw new UsageError(`hostKeys: none of them signs with ${offer.hostKeys.join(', ')}`)
  return { ...offer, hostKeys: served }
}
