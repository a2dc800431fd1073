/** nginx as the reverse proxy that docs/browser.md recommends: TLS in front, the bridge on loopback behind it. */
import { createHash, randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { SftpClient } from '@sshblock/sftp'
import {
  connectOver,
  parsePrivateKey,
  pinnedKey,
  signerFromPrivateKey,
  type WebSocketConstructor,
  webCrypto,
  webSocketDuplex,
} from '@sshblock/transport/browser'
import { beforeAll, expect, it } from 'vitest'
import { WebSocket } from 'ws'
import { freePort } from '../support/free-port.ts'
import { clientKey } from '../support/keys.ts'
import { startOurServer } from '../support/our-server.ts'
import { findProgram, runOrThrow } from '../support/program.ts'
import { describeWith, needsPrograms } from '../support/requirements.ts'
import { startServerProcess } from '../support/server-process.ts'
import { tempDir } from '../support/temp-dir.ts'
import { startBridge } from './support/bridges.ts'

const needsNginx = needsPrograms('nginx', ['nginx'], 'nginx-light')
const needsOpenssl = needsPrograms('openssl', ['openssl'], 'openssl')
const crypto = webCrypto()

/** The location block as the document shows it, so that what is recommended is what is tested. */
function documentedLocation(): string {
  const document = readFileSync(fileURLToPath(new URL('../../docs/browser.md', import.meta.url)), 'utf8')
  const block = /^```nginx\n(.*?)^```$/ms.exec(document)?.[1]
  if (block === undefined) throw new Error('docs/browser.md has no nginx block')
  return block
}

/** Listens on the port, which the bridge has to know as a part of its name. */
async function startNginx(
  port: number,
  bridgePort: number,
  certificate: { key: string; cert: string },
): Promise<void> {
  const dir = tempDir('nginx')
  mkdirSync(join(dir, 'tmp'))
  const location = documentedLocation().replace('127.0.0.1:8022', `127.0.0.1:${bridgePort}`)
  const config = `
daemon off;
master_process off;
pid ${dir}/pid;
error_log stderr notice;
events { worker_connections 256; }
http {
  access_log ${dir}/access.log;
  client_body_temp_path ${dir}/tmp; proxy_temp_path ${dir}/tmp; fastcgi_temp_path ${dir}/tmp;
  uwsgi_temp_path ${dir}/tmp; scgi_temp_path ${dir}/tmp;
  server {
    listen 127.0.0.1:${port} ssl;
    server_name relay.example.org;
    ssl_certificate ${certificate.cert};
    ssl_certificate_key ${certificate.key};
    ${location}
  }
}
`
  writeFileSync(join(dir, 'nginx.conf'), config)
  const args = ['-p', dir, '-c', join(dir, 'nginx.conf'), '-e', 'stderr']
  const command = { command: findProgram('nginx') ?? 'nginx', args }
  await startServerProcess({ name: 'nginx', command, ready: /using the "\w+" event method/ })
}

async function makeCertificate(): Promise<{ key: string; cert: string }> {
  const dir = tempDir('certificate', { scope: 'file' })
  const [key, cert] = [join(dir, 'key.pem'), join(dir, 'cert.pem')]
  const subject = ['-subj', '/CN=relay.example.org', '-addext', 'subjectAltName=DNS:relay.example.org']
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  await runOrThrow('openssl', [
    'req',
    '-x509',
    ...curve,
    '-days',
    '2',
    ...subject,
    '-keyout',
    key,
    '-out',
    cert,
  ])
  return { key, cert }
}

describeWith([needsNginx, needsOpenssl], 'nginx in front of the bridge', () => {
  let certificate: { key: string; cert: string }
  beforeAll(async () => {
    certificate = await makeCertificate()
  })

  /** A page that reached nginx by the name of its certificate. */
  const pageSocket = (port: number, from: string): WebSocketConstructor =>
    class extends WebSocket {
      constructor(url: string, protocols?: string[]) {
        super(url.replace('relay.example.org', '127.0.0.1'), protocols, {
          origin: from,
          // For the TLS connection below, which the types of `ws` do not show.
          ...({ servername: 'relay.example.org' } as object),
          ca: readFileSync(certificate.cert),
          headers: { Host: `relay.example.org:${port}` },
        })
      }
    } as unknown as WebSocketConstructor

  it('passes files on, both ways, and tells the bridge where they come from', async () => {
    const server = await startOurServer()
    const port = await freePort()
    const {
      bridge,
      port: bridgePort,
      events,
    } = await startBridge({
      targets: { allow: [`${server.host}:${server.port}`] },
      origins: ['https://relay.example.org'],
      hosts: [`relay.example.org:${port}`],
      trustedProxies: ['127.0.0.1'],
    })
    await startNginx(port, bridgePort, certificate)
    const key = await parsePrivateKey(crypto, readFileSync((await clientKey('ed25519')).privateFile))
    const url = `wss://relay.example.org:${port}/ssh/${server.host}:${server.port}`
    const session = await connectOver(
      () => webSocketDuplex(url, { WebSocket: pageSocket(port, 'https://relay.example.org') }),
      {
        host: server.host,
        username: server.user,
        crypto,
        hostKeyPolicy: pinnedKey(crypto, ...server.hostKeys.map(({ blob }) => blob)),
        auth: [{ type: 'publickey', signer: signerFromPrivateKey(crypto, key) }],
      },
    )
    const sftp = await SftpClient.open(await session.openSubsystem('sftp'))
    const bytes = new Uint8Array(randomBytes(12 * 1024 * 1024 + 5))
    await sftp.put(bytes, '/file')
    const received = createHash('sha256')
    await sftp.get('/file', (chunk) => void received.update(chunk))
    expect(received.digest('hex')).toBe(createHash('sha256').update(bytes).digest('hex'))
    expect(bridge.statistics().bytesToClient).toBeGreaterThan(bytes.length)
    await session.close()
    expect(events.find(({ type }) => type === 'connected')).toMatchObject({ remoteAddress: '127.0.0.1' })
  })

  it('keeps a page of another origin out, and a refusal of the bridge reaches the page', async () => {
    const port = await freePort()
    const { port: bridgePort } = await startBridge({
      targets: { allow: ['127.0.0.1:1'] },
      origins: ['https://relay.example.org'],
      hosts: [`relay.example.org:${port}`],
    })
    await startNginx(port, bridgePort, certificate)
    const open = (path: string, from: string): Promise<unknown> =>
      webSocketDuplex(`wss://relay.example.org:${port}/ssh/${path}`, {
        WebSocket: pageSocket(port, from),
      }).then(
        (duplex) =>
          new Promise((resolve) => {
            duplex.start({ reserve: () => new Uint8Array(65_536), commit: () => {}, end: resolve })
          }),
        (error: unknown) => error,
      )
    expect(await open('127.0.0.1:1', 'https://evil.example')).toMatchObject({ closeCode: 1006 })
    expect(await open('127.0.0.1:22', 'https://relay.example.org')).toMatchObject({ closeCode: 4403 })
  })
})
