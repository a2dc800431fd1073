/** SSH2 for browsers and other runtimes without node: everything of the host-independent part, on noble and WebCrypto. */
import type { CryptoProvider } from './crypto/provider.ts'
import { webCrypto } from './crypto/web.ts'
import type { ClientOptions } from './session/client.ts'
import { connectOver } from './session/client.ts'
import type { ByteDuplex } from './session/duplex.ts'
import type { Session } from './session/session.ts'

export { handlerChannel } from './agent/handler-channel.ts'
export * from './index.ts'
export type { AskingPolicyOptions, BrowserKnownHostsOptions } from './session/browser-known-hosts.ts'
export { BrowserKnownHosts } from './session/browser-known-hosts.ts'

export interface BrowserClientOptions extends Omit<ClientOptions, 'crypto'> {
  /** noble, with WebCrypto where there is one, where left out. */
  crypto?: CryptoProvider
  /** Opens the byte streams to the server, for example through a WebSocket relay. */
  open: (signal: AbortSignal | undefined) => Promise<ByteDuplex>
}

/** Connects to an SSH server over the given duplex, checks its host key, authenticates. Errors as connectOver. */
export function connect(options: BrowserClientOptions): Promise<Session> {
  return connectOver(options.open, { ...options, crypto: options.crypto ?? webCrypto() })
}
