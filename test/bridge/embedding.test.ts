/** The bridge within somebody else's HTTP server: who answers what, and that the server is as before afterwards. */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, get, type RequestListener, type Server } from 'node:http'
import { createServer as createTlsServer, get as getOverTls } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { type BridgeOptions, createBridge } from '@sshblock/bridge'
import { describe, expect, it, vi } from 'vitest'
import { WebSocket } from 'ws'
import { registerCleanup } from '../support/cleanup.ts'
import { runOrThrow } from '../support/program.ts'
import { describeWith, needsPrograms } from '../support/requirements.ts'
import { tempDir } from '../support/temp-dir.ts'
import { echo, origin, rawUpgrade, startTarget, visit } from './support/bridges.ts'

/** As frameworks do: every request is answered, what is not known with 404. */
const application: RequestListener = (_request, response) => {
  response.writeHead(404, { 'x-from': 'application' }).end('no such page')
}

async function listening(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  registerCleanup(() => {
    server.closeAllConnections()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

function bridgeFor(options: Partial<BridgeOptions> = {}) {
  const bridge = createBridge({ targets: { fixed: '127.0.0.1:9' }, origins: [origin], ...options })
  registerCleanup(() => bridge.close())
  return bridge
}

function fetched(port: number, path: string): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    get({ port, host: '127.0.0.1', path, agent: false }, async (response) => {
      let body = ''
      for await (const chunk of response) body += chunk
      resolve({ status: response.statusCode ?? 0, body })
    }).on('error', reject)
  })
}

describe('beside an application that answers every request', () => {
  it('the health path is answered once, and the rest by the application', async () => {
    const seen = vi.fn(application)
    const server = createServer(seen)
    const bridge = bridgeFor()
    const port = await listening(server)
    bridge.attach(server)
    expect(JSON.parse((await fetched(port, '/health')).body)).toMatchObject({ status: 'up' })
    expect(seen).not.toHaveBeenCalled()
    expect(await fetched(port, '/other')).toEqual({ status: 404, body: 'no such page' })
    expect(seen).toHaveBeenCalledTimes(1)
  })

  it('nothing is left of a bridge that was closed', async () => {
    const server = createServer(application)
    const bridge = bridgeFor()
    const port = await listening(server)
    bridge.attach(server)
    await bridge.close()
    expect(server.listeners('request')).toEqual([application])
    expect(server.listenerCount('upgrade')).toBe(0)
    expect(await fetched(port, '/health')).toEqual({ status: 404, body: 'no such page' })
  })

  it.each([
    ['first', [0, 1]],
    ['last', [1, 0]],
  ] as const)('two bridges do not disturb each other, though the %s one closes first', async (_, order) => {
    const target = await startTarget(echo)
    const server = createServer(application)
    const port = await listening(server)
    const prefixes = ['/one', '/two']
    const bridges = prefixes.map((pathPrefix) =>
      bridgeFor({
        targets: { fixed: target.name },
        pathPrefix,
        healthPath: `${pathPrefix}/health`,
        handshakeTimeoutMs: 50,
      }),
    )
    for (const bridge of bridges) bridge.attach(server)
    for (const prefix of prefixes) {
      const client = visit(`ws://127.0.0.1:${port}${prefix}/`)
      client.socket.on('open', () => client.socket.send(Buffer.from('x')))
      await client.bytes(1)
    }
    // Each leaves it to the other; neither leaves it open for ever.
    expect((await rawUpgrade(port, {}, '/neither')).status).toBe(404)
    const [first, then] = order
    await bridges[first]!.close()
    expect((await fetched(port, `${prefixes[first]}/health`)).status).toBe(404)
    expect((await fetched(port, `${prefixes[then]}/health`)).status).toBe(200)
    await bridges[then]!.close()
    expect(await fetched(port, `${prefixes[then]}/health`)).toEqual({ status: 404, body: 'no such page' })
  })
})

it('a server without listeners of its own answers what is not the bridge with 404', async () => {
  const server = createServer()
  const bridge = bridgeFor()
  const port = await listening(server)
  bridge.attach(server)
  expect((await fetched(port, '/')).status).toBe(404)
  expect((await fetched(port, '/health')).status).toBe(200)
})

describeWith([needsPrograms('openssl', ['openssl'], 'openssl')], 'an HTTPS server', () => {
  it('is one like any other', async () => {
    const [key, cert] = [join(tempDir('tls'), 'key.pem'), join(tempDir('tls'), 'cert.pem')]
    const curve = [
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-subj',
      '/CN=localhost',
    ]
    await runOrThrow('openssl', ['req', '-x509', ...curve, '-days', '2', '-keyout', key, '-out', cert])
    const server = createTlsServer({ key: readFileSync(key), cert: readFileSync(cert) })
    const target = await startTarget(echo)
    const bridge = bridgeFor({ targets: { fixed: target.name }, pingIntervalMs: 30 })
    const port = await listening(server)
    bridge.attach(server)
    const trust = { ca: readFileSync(cert), servername: 'localhost' }
    const client = new WebSocket(`wss://127.0.0.1:${port}/`, ['binary'], { origin, ...trust } as object)
    registerCleanup(() => client.terminate())
    let pings = 0
    client.on('ping', () => pings++)
    await once(client, 'open')
    client.send(Buffer.from('sealed'))
    expect(String((await once(client, 'message'))[0])).toBe('sealed')
    // Life is seen through TLS too.
    await vi.waitFor(() => expect(pings).toBeGreaterThan(2))
    expect(client.readyState).toBe(WebSocket.OPEN)
    const status = await new Promise((resolve, reject) => {
      getOverTls({ port, host: '127.0.0.1', path: '/health', agent: false, ...trust }, (response) => {
        response.resume()
        resolve(response.statusCode)
      }).on('error', reject)
    })
    expect(status).toBe(200)
  })
})
