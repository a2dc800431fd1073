import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, describe, expect, test } from 'vitest'
import { startProxyProcess } from '../../bench/proxy-process.mjs'
import { registerCleanup } from './cleanup.ts'
import { type Accident, startProxy } from './proxy.ts'

/** A server whose sockets the test holds. */
async function startServer(): Promise<{ port: number; accepted: () => Promise<Socket>; server: Server }> {
  const sockets: Socket[] = []
  const waiting: ((socket: Socket) => void)[] = []
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {})
    const waiter = waiting.shift()
    if (waiter === undefined) sockets.push(socket)
    else waiter(socket)
    registerCleanup(() => {
      socket.destroy()
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  registerCleanup(() => {
    server.close()
  })
  const accepted = (): Promise<Socket> => {
    const socket = sockets.shift()
    return socket === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(socket)
  }
  return { port: (server.address() as AddressInfo).port, accepted, server }
}

/** What a socket got, and how it ended: 'open' while it has not. */
class Ear {
  readonly socket: Socket
  text = ''
  bytes = 0
  fate: 'open' | 'fin' | 'rst' = 'open'
  constructor(socket: Socket, keepText = true) {
    this.socket = socket
    socket.on('data', (chunk: Buffer) => {
      if (keepText) this.text += chunk.toString('latin1')
      this.bytes += chunk.length
    })
    socket.on('end', () => {
      this.fate = 'fin'
    })
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNRESET') this.fate = 'rst'
    })
  }
}

async function dial(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
  registerCleanup(() => {
    socket.destroy()
  })
  await once(socket, 'connect')
  return socket
}

/** Both ends of a connection through a proxy. */
async function through(options: Omit<Parameters<typeof startProxy>[0], 'target'> = {}) {
  const { port, accepted, server } = await startServer()
  const proxy = await startProxy({ target: { host: '127.0.0.1', port }, ...options })
  const client = await dial(proxy.port)
  return { proxy, client, far: await accepted(), accepted, server }
}

describe('the proxy', () => {
  test('carries bytes both ways unchanged, and each end of a stream on its own', async () => {
    const { proxy, client, far } = await through()
    const [atServer, atClient] = [new Ear(far), new Ear(client)]
    const sent = Array.from({ length: 200_000 }, (_, i) => String.fromCharCode(97 + ((i * 7) % 26))).join('')
    client.write(sent)
    client.end()
    await once(far, 'end')
    expect(atServer.text).toBe(sent)
    expect(atClient.fate).toBe('open')
    far.end('the answer')
    await once(client, 'end')
    expect(atClient.text).toBe('the answer')
    expect(proxy.counters()).toMatchObject({
      connections: 1,
      turns: 1,
      toServer: { bytes: 200_000 },
      toClient: { bytes: 10 },
    })
  })

  test.each([5, 20])('delays by %i ms each way, and the handshake by a round trip', async (delayMs) => {
    const { port, accepted } = await startServer()
    const proxy = await startProxy({ target: { host: '127.0.0.1', port }, delayMs })
    const begun = performance.now()
    const client = await dial(proxy.port)
    client.write('hello')
    const far = await accepted()
    far.on('data', (chunk) => far.write(chunk))
    await once(client, 'data')
    const opening = performance.now() - begun
    expect(opening).toBeGreaterThan(4 * delayMs - 2)
    const times: number[] = []
    for (let i = 0; i < 5; i++) {
      const asked = performance.now()
      client.write('x')
      await once(client, 'data')
      times.push(performance.now() - asked)
    }
    expect(Math.min(...times)).toBeGreaterThan(2 * delayMs - 2)
    expect(Math.min(...times)).toBeLessThan(2 * delayMs + 10)
    expect(proxy.counters().turns).toBe(6)
  })

  test('opens a connection without delay where the handshake is not to count', async () => {
    const { port, accepted } = await startServer()
    const proxy = await startProxy({
      target: { host: '127.0.0.1', port },
      delayMs: 200,
      connectRoundTrip: false,
    })
    const begun = performance.now()
    const client = await dial(proxy.port)
    client.write('hello')
    await once(await accepted(), 'data')
    const took = performance.now() - begun
    expect(took).toBeGreaterThan(198)
    expect(took).toBeLessThan(390)
  })

  test('keeps many bytes under way: delay does not limit the rate', async () => {
    const { client, far } = await through({ delayMs: 25 })
    const total = 64 * 1024 * 1024
    const ear = new Ear(client, false)
    const begun = performance.now()
    far.end(Buffer.alloc(total))
    await once(client, 'end')
    expect(ear.bytes).toBe(total)
    // One 64 KiB read in a round trip would take 50 s.
    expect(performance.now() - begun).toBeLessThan(5000)
  })

  test.each([1_000_000, 10_000_000])('keeps to %i bytes per second', async (bytesPerSecond) => {
    const { client, far } = await through({ bytesPerSecond: { toClient: bytesPerSecond, toServer: 1e9 } })
    const total = bytesPerSecond * 0.4
    const begun = performance.now()
    far.end(Buffer.alloc(total))
    client.resume()
    await once(client, 'end')
    const seconds = (performance.now() - begun) / 1000
    expect(seconds).toBeGreaterThan(0.38)
    expect(seconds).toBeLessThan(1.5)
  })

  test('stops a sender whose receiver does not read', async () => {
    const { proxy, client, far } = await through({ lineBytes: 1024 * 1024 })
    client.pause()
    let written = 0
    const more = (): void => {
      while (written < 256 * 1024 * 1024) {
        written += 65_536
        if (!far.write(Buffer.alloc(65_536))) {
          far.once('drain', more)
          return
        }
      }
    }
    more()
    await sleep(300)
    const before = written
    await sleep(200)
    expect(written).toBe(before)
    expect(written).toBeLessThan(64 * 1024 * 1024)
    expect(proxy.counters().toClient.waiting).toBeLessThan(2 * 1024 * 1024)
  })

  const lengths = [0, 1, 4999, 5000]
  const ways: Accident[] = ['fin', 'rst', 'silence']
  test.each(lengths.flatMap((k) => ways.map((how) => [k, how] as const)))(
    'lets exactly %i bytes arrive before %s',
    async (afterBytes, how) => {
      const { client, far, proxy } = await through({ cut: { direction: 'toServer', afterBytes, how } })
      const [atServer, atClient] = [new Ear(far), new Ear(client)]
      client.write('a'.repeat(3000))
      client.write('b'.repeat(7000))
      const expected = how === 'silence' ? 'open' : how
      await expect.poll(() => [atServer.fate, atClient.fate]).toEqual([expected, expected])
      await expect.poll(() => proxy.counters().toServer.bytes).toBe(afterBytes)
      expect(atServer.text).toBe(('a'.repeat(3000) + 'b'.repeat(7000)).slice(0, afterBytes))
      if (how === 'silence') {
        await sleep(20)
        far.write('nobody hears this')
        client.end()
        await sleep(50)
        expect([atServer.fate, atClient.fate, atClient.text]).toEqual(['open', 'open', ''])
      }
    },
  )

  test('cuts a direction at a byte while the other one flows', async () => {
    const { client, far } = await through({
      delayMs: 2,
      cut: { direction: 'toClient', afterBytes: 3, how: 'rst' },
    })
    const [atServer, atClient] = [new Ear(far), new Ear(client)]
    client.write('question')
    await expect.poll(() => atServer.text).toBe('question')
    far.write('answer')
    await expect.poll(() => [atServer.fate, atClient.fate, atClient.text]).toEqual(['rst', 'rst', 'ans'])
  })

  test('cuts one connection and leaves the others', async () => {
    const { proxy, client, accepted } = await through()
    const other = await dial(proxy.port)
    const [first, second] = [new Ear(client), new Ear(other)]
    await accepted()
    proxy.connections[0]?.cut('rst')
    await expect.poll(() => first.fate).toBe('rst')
    expect(second.fate).toBe('open')
    await proxy.connections[0]?.closed
  })

  test('passes a reset on, behind the bytes that came before it', async () => {
    const { client, far } = await through({ delayMs: 5 })
    const ear = new Ear(client)
    far.write('last words')
    await sleep(1)
    far.resetAndDestroy()
    await expect.poll(() => [ear.text, ear.fate]).toEqual(['last words', 'rst'])
  })

  test('stalls one direction and carries on without loss', async () => {
    const { proxy, client, far } = await through()
    const [atServer, atClient] = [new Ear(far), new Ear(client)]
    proxy.stall('toServer')
    client.write('held')
    far.write('free')
    await expect.poll(() => atClient.text).toBe('free')
    await sleep(30)
    expect(atServer.text).toBe('')
    proxy.resume('toServer')
    await expect.poll(() => atServer.text).toBe('held')
  })

  test('refuses new connections on demand, takes them again, and to another server', async () => {
    const { proxy, client, far } = await through()
    const other = await startServer()
    proxy.refuse()
    await expect(dial(proxy.port)).rejects.toThrow('ECONNREFUSED')
    far.write('still here')
    await once(client, 'data')
    proxy.retarget({ host: '127.0.0.1', port: other.port })
    await proxy.accept()
    await dial(proxy.port)
    await other.accepted()
  })

  test('resets the client where the server cannot be reached', async () => {
    const { port, server } = await startServer()
    server.close()
    const proxy = await startProxy({ target: { host: '127.0.0.1', port } })
    const client = connect(proxy.port, '127.0.0.1')
    const ear = new Ear(client)
    await expect.poll(() => ear.fate).toBe('rst')
  })

  test('shows every byte to a rewriter with its offset', async () => {
    const { client, far } = await through({
      rewrite: (direction, bytes, offset) => {
        const copy = Uint8Array.from(bytes)
        if (direction === 'toServer' && offset <= 2 && 2 < offset + bytes.length) copy[2 - offset] = 0x21
        return copy
      },
    })
    const [atServer, atClient] = [new Ear(far), new Ear(client)]
    client.write('abcdef')
    far.write('abcdef')
    await expect.poll(() => [atServer.text, atClient.text]).toEqual(['ab!def', 'abcdef'])
  })

  test('takes a new path for open connections, and keeps the order', async () => {
    const { proxy, client, far } = await through({ delayMs: 60 })
    const ear = new Ear(far)
    client.write('slow')
    await sleep(5)
    proxy.setPath({ delayMs: 0 })
    client.write('fast')
    await expect.poll(() => ear.text).toBe('slowfast')
  })
})

describe('the proxy in a process of its own', () => {
  let echo: number
  beforeAll(async () => {
    const server = createServer((socket) => socket.on('error', () => {}).pipe(socket))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    echo = (server.address() as AddressInfo).port
    return () => server.close()
  })

  test('obeys orders, counts, and ends', async () => {
    const proxy = await startProxyProcess({ target: { host: '127.0.0.1', port: echo }, delayMs: 1 })
    registerCleanup(() => proxy.stop())
    const client = await dial(proxy.port)
    client.write('hello')
    await once(client, 'data')
    expect(await proxy.counters()).toMatchObject({
      connections: 1,
      turns: 1,
      toServer: { bytes: 5 },
      toClient: { bytes: 5 },
    })
    await proxy.refuse()
    await expect(dial(proxy.port)).rejects.toThrow('ECONNREFUSED')
    const ear = new Ear(client)
    await proxy.cut('rst')
    await expect.poll(() => ear.fate).toBe('rst')
    await proxy.stop()
    await expect(proxy.counters()).rejects.toThrow()
  })
})
