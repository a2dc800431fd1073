/** SSH2 for browsers and other runtimes without node: everything of the host-independent part, on noble and WebCrypto. */
import type { CryptoProvider } from './crypto/provider.ts'
import { webCrypto } from './crypto/web.ts'
import type { ClientOptions } from './session/client.ts'
import { connectOver } from './session/client.ts'
import type { ByteDuplex } from './session/duplex.ts'
import type { Session } from './session/session.ts'
import { defaultMaxHeldBytes } from './session/websocket.ts'

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

/**
 * Largest window of a channel. A WebSocket cannot be told to wait, so that all of a window may have to be held while WebCrypto
 * works: it must fit, with packet headers and what else comes beside it.
 */
const maxBytes = (defaultMaxHeldBytes * 3) / 4

/**
 * Connects to an SSH server over the given duplex, checks its host key, authenticates. Windows grow up to 24 MiB where `window` does
 * not say otherwise. Errors as connectOver.
 */
export function connect(options: BrowserClientOptions): Promise<Session> {
  const { crypto = webCrypto(), window } = options
  return connectOver(options.open, { ...options, crypto, window: { maxBytes, ...window } })
}
