/** The network path of bench/proxy.mjs, ended with the test: delay, bandwidth, and accidents at an exact byte. */
import {
  type PathOptions,
  type ProxyOptions,
  startProxy as start,
  type TcpProxy,
} from '../../bench/proxy.mjs'
import { registerCleanup, type Scope } from './cleanup.ts'

export type {
  Accident,
  Connection,
  Counters,
  CutOptions,
  Direction,
  PathOptions,
  TcpProxy,
} from '../../bench/proxy.mjs'

/** Starts a proxy in this process; for figures use bench/proxy-process.mjs. Its `host` and `port` are where to connect. */
export async function startProxy(
  options: ProxyOptions & PathOptions & { readonly scope?: Scope | undefined },
): Promise<TcpProxy> {
  const { scope, ...rest } = options
  const proxy = await start(rest)
  registerCleanup(() => proxy.stop(), { scope })
  return proxy
}
