/** Our own client through the bridge: SSH and SFTP end to end, keys and the trust in them on this side of it. */
import { createHash, randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type BridgeOptions, Tickets } from '@sshblock/bridge'
import { SftpClient } from '@sshblock/sftp'
import {
  type ClientOptions,
  ConnectionLost,
  connectOver,
  HostKeyError,
  parsePrivateKey,
  pinnedKey,
  type Session,
  signerFromPrivateKey,
  WebSocketClosedError,
  type WebSocketConstructor,
  type WebSocketDuplexOptions,
  webCrypto,
  webSocketDuplex,
} from '@sshblock/transport/browser'
import { beforeAll, describe, expect, it } from 'vitest'
import { WebSocket } from 'ws'
import { clientKey, type KeyPair } from '../support/keys.ts'
import { needsOpenssh, type OpensshPeer, startOpensshServer } from '../support/openssh-server.ts'
import { startOurServer } from '../support/our-server.ts'
import { describeWith } from '../support/requirements.ts'
import { origin, type RunningBridge, startBridge } from './support/bridges.ts'

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
// What a browser has, and nothing of Node's.
const crypto = webCrypto()

/** A WebSocket as a page would make it. */
const PageWebSocket = class extends WebSocket {
  constructor(url: string, protocols?: string[]) {
    super(url, protocols, { origin })
  }
} as unknown as WebSocketConstructor

interface Server {
  readonly host: string
  readonly port: number
  readonly user: string
  readonly hostKeys: readonly KeyPair[]
}

async function login(
  url: string,
  server: Server,
  options: Partial<ClientOptions> & { duplex?: WebSocketDuplexOptions } = {},
): Promise<Session> {
  const { duplex, ...rest } = options
  const key = await parsePrivateKey(crypto, readFileSync((await clientKey('ed25519')).privateFile))
  return connectOver(
    (signal) =>
      webSocketDuplex(url, {
        WebSocket: PageWebSocket,
        ...(signal === undefined ? {} : { signal }),
        ...duplex,
      }),
    {
      host: server.host,
      port: server.port,
      username: server.user,
      crypto,
      hostKeyPolicy: pinnedKey(crypto, ...server.hostKeys.map(({ blob }) => blob)),
      auth: [{ type: 'publickey', signer: signerFromPrivateKey(crypto, key) }],
      ...rest,
    },
  )
}

const bridgeTo = (server: Server, options: Partial<BridgeOptions> = {}): Promise<RunningBridge> =>
  startBridge({ targets: { fixed: `${server.host}:${server.port}` }, ...options })

async function transfer(session: Session, path: string, file: string): Promise<void> {
  await using sftp = await SftpClient.open(await session.openSubsystem('sftp'))
  const bytes = new Uint8Array(randomBytes(6 * 1024 * 1024 + 17))
  await sftp.put(bytes, path)
  expect(sha256(readFileSync(file))).toBe(sha256(bytes))
  const received: Uint8Array[] = []
  await sftp.get(
    path,
    new WritableStream<Uint8Array>({ write: (chunk) => void received.push(chunk.slice()) }),
  )
  expect(sha256(Buffer.concat(received))).toBe(sha256(bytes))
}

describeWith([needsOpenssh()], 'OpenSSH behind the bridge', () => {
  let peer: OpensshPeer
  beforeAll(async () => {
    peer = await startOpensshServer({ scope: 'file' })
  })

  it('gets and gives files, byte for byte', async () => {
    const { url, bridge } = await bridgeTo(peer)
    await using session = await login(url, peer)
    const path = join(peer.paths.data, 'through-the-bridge')
    await transfer(session, path, path)
    expect(bridge.statistics().bytesToTarget).toBeGreaterThan(6 * 1024 * 1024)
  })

  it('rekeys, and goes on', async () => {
    const { url } = await bridgeTo(peer)
    await using session = await login(url, peer, {
      rekey: { bytes: 1024 * 1024 } as ClientOptions['rekey'] & object,
    })
    const path = join(peer.paths.data, 'rekeyed')
    await transfer(session, path, path)
  })

  it('is refused by the client when the bridge leads to another server', async () => {
    const other = await startOpensshServer({ hostKeyTypes: ['ecdsa-256'], sftp: null })
    const { url } = await bridgeTo(other)
    const before = other.log().length
    const wrong = { ...peer, hostKeys: peer.hostKeys.filter(({ algorithm }) => algorithm === 'ssh-ed25519') }
    const error = await login(url, wrong).catch((failure: unknown) => failure)
    expect(error).toBeInstanceOf(HostKeyError)
    expect(error).toMatchObject({ problem: 'mismatch', keyType: 'ecdsa-sha2-nistp256' })
    expect(other.log().slice(before)).not.toMatch(/userauth|Accepted|Failed/)
  })

  it('that is killed ends every pending call', async () => {
    const own = await startOpensshServer()
    const { url } = await bridgeTo(own)
    const session = await login(url, own)
    const sftp = await SftpClient.open(await session.openSubsystem('sftp'))
    writeFileSync(join(own.paths.data, 'big'), new Uint8Array(32 * 1024 * 1024))
    const pending = sftp.get(
      join(own.paths.data, 'big'),
      new WritableStream({ write: () => new Promise((resolve) => setTimeout(resolve, 20)) }),
    )
    const failed = expect(pending).rejects.toMatchObject({ code: expect.stringMatching(/^ERR_/) })
    await own.stop()
    await failed
    await expect(session.exec('true')).rejects.toBeInstanceOf(ConnectionLost)
    await session.closed
  })
})

describe('our own server behind the bridge', () => {
  it('gets and gives files, byte for byte', async () => {
    const server = await startOurServer()
    const { url } = await bridgeTo(server)
    await using session = await login(url, server)
    await transfer(session, '/file', join(server.paths.data, 'file'))
  })

  it('works over ChaCha20-Poly1305, for pages without WebCrypto', async () => {
    const server = await startOurServer()
    const { url } = await bridgeTo(server)
    await using session = await login(url, server, {
      algorithms: { ciphers: ['chacha20-poly1305@openssh.com'] },
    })
    await transfer(session, '/file', join(server.paths.data, 'file'))
  })

  it('is reached with a ticket, once', async () => {
    const server = await startOurServer()
    const tickets = new Tickets()
    const { url } = await bridgeTo(server, { tickets })
    const ticket = tickets.issue()
    await using session = await login(url, server, { duplex: { ticket } })
    expect(session.info.authentication?.method).toBe('publickey')
    const again = await login(url, server, { duplex: { ticket } }).catch((error: unknown) => error)
    expect(again).toBeInstanceOf(ConnectionLost)
    expect((again as Error).cause).toMatchObject({ code: 'ERR_WEBSOCKET_UNAUTHORIZED', closeCode: 4401 })
    expect((again as Error).message).toMatch(/ticket/)
    expect((again as Error).message).not.toContain(ticket)
  })

  it('is lost when the bridge shuts down, and pending calls fail', async () => {
    const server = await startOurServer()
    const running = await bridgeTo(server)
    const session = await login(running.url, server)
    const sftp = await SftpClient.open(await session.openSubsystem('sftp'))
    const pending = expect(sftp.writeFile('/x', new Uint8Array(30_000_000))).rejects.toBeInstanceOf(Error)
    await running.bridge.close()
    await pending
    const error = await session.exec('true').catch((failure: unknown) => failure)
    expect(error).toBeInstanceOf(ConnectionLost)
    expect((error as Error).cause).toBeInstanceOf(WebSocketClosedError)
    expect((error as Error).cause).toMatchObject({ closeCode: 1001 })
  })

  it('cancels a login that waits for the bridge', async () => {
    const { url } = await startBridge({
      targets: { fixed: 'ssh.example.org:22' },
      resolve: () => new Promise(() => {}),
    })
    const server = { host: 'h', port: 22, user: 'u', hostKeys: [await clientKey('ed25519')] }
    const abort = new AbortController()
    const pending = login(url, server, { signal: abort.signal })
    setTimeout(() => abort.abort(), 50)
    await expect(pending).rejects.toMatchObject({ code: 'ABORT_ERR' })
  })
})
