// How a scenario reaches its server: through the bridge that served the page. Runs in the page and in workers.

import {
  type ClientOptions,
  connect,
  type HostKeyPolicy,
  parsePrivateKey,
  pinnedFingerprint,
  type Session,
  signerFromPrivateKey,
  type WebSocketStreamConstructor,
  webCrypto,
  webSocketDuplex,
} from '@sshblock/transport/browser'

/** The browser's own. */
export const webSocketStream = (globalThis as unknown as { WebSocketStream: WebSocketStreamConstructor })
  .WebSocketStream

/** Plain data: it is handed from the test into the page, and on into a worker. */
export interface Connection {
  readonly host: string
  readonly port: number
  readonly user: string
  /** 'SHA256:...' of the host key. */
  readonly fingerprint: string
  /** An OpenSSH private key file. */
  readonly privateKey?: string
  readonly passphrase?: string
  readonly password?: string
  /** Over a WebSocketStream in place of a WebSocket. */
  readonly stream?: boolean
  readonly nobleOnly?: boolean
  readonly ciphers?: readonly string[]
  readonly hostKeys?: readonly string[]
  readonly rekeyBytes?: number
  readonly keepaliveMs?: number
}

export interface LoginExtras {
  readonly hostKeyPolicy?: HostKeyPolicy
  readonly auth?: ClientOptions['auth']
  readonly signal?: AbortSignal
  readonly trace?: ClientOptions['trace']
}

/** The address of the bridge, from where this page or worker came. */
export function relayUrl({ host, port }: { host: string; port: number }): string {
  return new URL(`/ssh/${host}:${port}`, location.href).href
}

export async function login(connection: Connection, extras: LoginExtras = {}): Promise<Session> {
  const crypto = webCrypto({ nobleOnly: connection.nobleOnly ?? false })
  const { ciphers, hostKeys, rekeyBytes, keepaliveMs } = connection
  return connect({
    open: (signal) =>
      webSocketDuplex(relayUrl(connection), {
        ...(connection.stream === true ? { WebSocketStream: webSocketStream } : {}),
        ...(signal === undefined ? {} : { signal }),
      }),
    crypto,
    host: connection.host,
    port: connection.port,
    username: connection.user,
    hostKeyPolicy: extras.hostKeyPolicy ?? pinnedFingerprint(crypto, 'openssh', connection.fingerprint),
    auth: extras.auth ?? (await waysIn(connection)),
    algorithms: {
      ...(ciphers === undefined ? {} : { ciphers: [...ciphers] }),
      ...(hostKeys === undefined ? {} : { hostKeys: [...hostKeys] }),
    },
    ...(rekeyBytes === undefined ? {} : { rekey: { bytes: rekeyBytes } }),
    ...(keepaliveMs === undefined ? {} : { keepalive: { intervalMs: keepaliveMs, maxMissed: 2 } }),
    ...(extras.signal === undefined ? {} : { signal: extras.signal }),
    ...(extras.trace === undefined ? {} : { trace: extras.trace }),
  })
}

async function waysIn({
  privateKey,
  passphrase,
  password,
  nobleOnly = false,
}: Connection): Promise<ClientOptions['auth']> {
  if (password !== undefined) return [{ type: 'password', password }]
  if (privateKey === undefined) return [{ type: 'none' }]
  const crypto = webCrypto({ nobleOnly })
  const key = await parsePrivateKey(
    crypto,
    new TextEncoder().encode(privateKey),
    passphrase === undefined ? {} : { passphrase: passphrase },
  )
  return [{ type: 'publickey', signer: signerFromPrivateKey(crypto, key) }]
}
