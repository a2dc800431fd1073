/** Our client through a relay of others: websockify, the one whose conventions the bridge has. */
import { createHash, randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { SftpClient } from '@sshblock/sftp'
import {
  ConnectionLost,
  connectOver,
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
import { expect, it } from 'vitest'
import { WebSocket } from 'ws'
import { freePort } from '../support/free-port.ts'
import { clientKey } from '../support/keys.ts'
import { startOurServer } from '../support/our-server.ts'
import { findProgram } from '../support/program.ts'
import { describeWith, needsPrograms } from '../support/requirements.ts'
import { type ServerProcess, startServerProcess } from '../support/server-process.ts'
import { tempDir } from '../support/temp-dir.ts'

const crypto = webCrypto()
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

async function startWebsockify(
  args: readonly string[],
  target: readonly string[],
): Promise<ServerProcess & { port: number }> {
  const port = await freePort()
  const server = await startServerProcess({
    name: 'websockify',
    command: {
      command: findProgram('websockify')!,
      args: ['-v', ...args, `127.0.0.1:${port}`, ...target],
    },
    ready: /proxying from/,
  })
  // It says so before it listens.
  while (!(await canConnect(port))) await new Promise((resolve) => setTimeout(resolve, 20))
  return { ...server, port }
}

function canConnect(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy()
      resolve(true)
    })
    socket.on('error', () => resolve(false))
  })
}

type OurServer = Awaited<ReturnType<typeof startOurServer>>

async function login(url: string, server: OurServer, options: WebSocketDuplexOptions = {}): Promise<Session> {
  const key = await parsePrivateKey(crypto, readFileSync((await clientKey('ed25519')).privateFile))
  const open = () =>
    webSocketDuplex(url, { WebSocket: WebSocket as unknown as WebSocketConstructor, ...options })
  return connectOver(open, {
    host: server.host,
    username: server.user,
    crypto,
    hostKeyPolicy: pinnedKey(crypto, ...server.hostKeys.map(({ blob }) => blob)),
    auth: [{ type: 'publickey', signer: signerFromPrivateKey(crypto, key) }],
  })
}

describeWith([needsPrograms('websockify', ['websockify'], 'websockify')], 'websockify', () => {
  it.each([
    ['binary', ['binary']],
    ['no sub-protocol', []],
  ])('passes files on both ways, with %s', async (_, protocols) => {
    const server = await startOurServer()
    const { port } = await startWebsockify([], [`${server.host}:${server.port}`])
    const session = await login(`ws://127.0.0.1:${port}/websockify`, server, { protocols })
    const sftp = await SftpClient.open(await session.openSubsystem('sftp'))
    const bytes = new Uint8Array(randomBytes(1024 * 1024 + 3))
    await sftp.put(bytes, '/file')
    expect(sha256(readFileSync(join(server.paths.data, 'file')))).toBe(sha256(bytes))
    const received: Uint8Array[] = []
    await sftp.get('/file', new WritableStream({ write: (chunk) => void received.push(chunk.slice()) }))
    expect(sha256(Buffer.concat(received))).toBe(sha256(bytes))
    await session.close()
  })

  it('is told the target by a token in the query, which is in no message of ours', async () => {
    const server = await startOurServer()
    const tokens = join(tempDir('websockify'), 'tokens')
    writeFileSync(tokens, `disk-1: ${server.host}:${server.port}\ngone: 127.0.0.1:1\n`)
    const { port } = await startWebsockify(['--token-plugin', 'TokenFile', '--token-source', tokens], [])
    const session = await login(`ws://127.0.0.1:${port}/?token=disk-1`, server)
    await session.close()
    for (const [token, cause] of [
      ['unknown', { code: 'ERR_WEBSOCKET_FAILED', closeCode: 1006 }],
      ['gone', { code: 'ERR_WEBSOCKET_RESET', closeCode: 1011 }],
    ] as const) {
      const error = await login(`ws://127.0.0.1:${port}/?token=${token}`, server).catch((e: unknown) => e)
      const closed = error instanceof WebSocketClosedError ? error : (error as Error).cause
      expect(closed).toMatchObject(cause)
      expect(`${String(error)} ${String(closed)}`).not.toContain(token)
    }
  })

  it('that is killed ends the session with an error that says so', async () => {
    const server = await startOurServer()
    const relay = await startWebsockify([], [`${server.host}:${server.port}`])
    const session = await login(`ws://127.0.0.1:${relay.port}/`, server)
    const sftp = await SftpClient.open(await session.openSubsystem('sftp'))
    const pending = expect(sftp.writeFile('/x', new Uint8Array(30_000_000))).rejects.toBeInstanceOf(Error)
    await relay.stop()
    await pending
    const error = await session.exec('true').catch((failure: unknown) => failure)
    expect(error).toBeInstanceOf(ConnectionLost)
    expect((error as Error).cause).toMatchObject({ code: 'ERR_WEBSOCKET_FAILED', closeCode: 1006 })
  })
})
