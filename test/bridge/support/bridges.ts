/** Bridges, targets and clients on loopback, ended with the test. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { type Bridge, type BridgeEvent, type BridgeOptions, createBridge } from '@sshblock/bridge'
import { WebSocket } from 'ws'
import { registerCleanup } from '../../support/cleanup.ts'

export const origin = 'https://app.example.org'

export interface RunningBridge {
  readonly bridge: Bridge
  readonly port: number
  /** 'ws://127.0.0.1:PORT' */
  readonly url: string
  readonly events: BridgeEvent[]
  /** Waits for an event; looks at those that came first. */
  event<T extends BridgeEvent['type']>(type: T): Promise<Extract<BridgeEvent, { type: T }>>
}

/** A bridge that lets `origin` in. */
export async function startBridge(
  options: Omit<BridgeOptions, 'origins'> & { readonly origins?: readonly string[] },
): Promise<RunningBridge> {
  const events: BridgeEvent[] = []
  let arrived = (): void => {}
  const bridge = createBridge({
    origins: [origin],
    ...options,
    onEvent: (event) => {
      events.push(event)
      arrived()
    },
  })
  const { port } = await bridge.listen({ port: 0 })
  registerCleanup(() => bridge.close())
  return {
    bridge,
    port,
    url: `ws://127.0.0.1:${port}`,
    events,
    async event(type) {
      for (;;) {
        const found = events.find((event) => event.type === type)
        if (found !== undefined) return found as never
        await new Promise<void>((resolve) => {
          arrived = resolve
        })
      }
    },
  }
}

export interface RunningTarget {
  readonly port: number
  /** 'host:port' as the operator writes it. */
  readonly name: string
  readonly sockets: Socket[]
  readonly server: Server
  /** The next connection, or the first one that came. */
  connection(): Promise<Socket>
}

/** A TCP server; `serve` gets each connection. */
export async function startTarget(serve: (socket: Socket) => void = () => {}): Promise<RunningTarget> {
  const sockets: Socket[] = []
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.push(socket)
    socket.on('error', () => {})
    serve(socket)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  registerCleanup(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return {
    port,
    name: `127.0.0.1:${port}`,
    sockets,
    server,
    async connection() {
      if (sockets.length === 0) await once(server, 'connection')
      return sockets[0]!
    },
  }
}

/** Sends back what comes. */
export const echo = (socket: Socket): void => {
  socket.pipe(socket)
}

export interface Client {
  readonly socket: WebSocket
  readonly opened: Promise<void>
  readonly closed: Promise<{ code: number; reason: string }>
  /** Everything received so far. */
  received(): Buffer
  /** Waits until so many bytes came. */
  bytes(count: number): Promise<Buffer>
}

/** A page as far as the bridge can tell. */
export function visit(
  url: string,
  options: { protocols?: string[]; headers?: Record<string, string>; origin?: string | null } = {},
): Client {
  const from = options.origin === undefined ? origin : options.origin
  const socket = new WebSocket(url, options.protocols ?? ['binary'], {
    headers: { ...(from === null ? {} : { Origin: from }), ...options.headers },
  })
  const chunks: Buffer[] = []
  let total = 0
  let arrived = (): void => {}
  let failure: Error | undefined
  socket.on('message', (data: Buffer) => {
    chunks.push(data)
    total += data.length
    arrived()
  })
  socket.on('error', (error) => {
    failure = error
  })
  const closed = new Promise<{ code: number; reason: string }>((resolve) => {
    socket.on('close', (code, reason) =>
      resolve({ code, reason: reason.toString() || (failure?.message ?? '') }),
    )
  })
  registerCleanup(() => socket.terminate())
  const opened = new Promise<void>((resolve, reject) => {
    socket.once('open', resolve)
    socket.once('close', () => reject(failure ?? new Error('closed before it opened')))
  })
  opened.catch(() => {})
  return {
    socket,
    opened,
    closed,
    received: () => Buffer.concat(chunks),
    async bytes(count) {
      for (;;) {
        if (total >= count) return Buffer.concat(chunks)
        await new Promise<void>((resolve, reject) => {
          arrived = resolve
          void closed.then(({ code }) => reject(new Error(`closed with ${code} after ${total} bytes`)))
        })
      }
    },
  }
}

const upgrade = {
  Connection: 'Upgrade',
  Upgrade: 'websocket',
  'Sec-WebSocket-Version': '13',
  'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
}

export interface RawUpgrade {
  readonly socket: Socket
  /** The head of the answer; '' where the connection ended without one. */
  readonly head: string
  readonly status: number
}

/** An upgrade by hand, with headers as they are given: an array gives several of a name, undefined leaves one out. */
export async function rawUpgrade(
  port: number,
  headers: Record<string, string | string[] | undefined> = {},
  path = '/',
): Promise<RawUpgrade> {
  const all = { Host: `127.0.0.1:${port}`, Origin: origin, ...upgrade, ...headers }
  const lines = Object.entries(all).flatMap(([name, value]) =>
    value === undefined ? [] : [value].flat().map((each) => `${name}: ${each}\r\n`),
  )
  const socket = connect(port, '127.0.0.1')
  registerCleanup(() => {
    socket.destroy()
  })
  socket.on('error', () => {})
  socket.write(`GET ${path} HTTP/1.1\r\n${lines.join('')}\r\n`)
  const head = await new Promise<string>((resolve) => {
    let text = ''
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
      if (text.includes('\r\n\r\n')) resolve(text)
    })
    socket.on('close', () => resolve(text))
  })
  return { socket, head, status: Number(/^HTTP\/1\.1 (\d+)/.exec(head)?.[1] ?? 0) }
}

/** One frame of a client (RFC 6455 s5.2), masked with zeros unless told otherwise. */
export function frame(
  opcode: number,
  payload: Uint8Array,
  options: { fin?: boolean; masked?: boolean } = {},
): Buffer {
  const { fin = true, masked = true } = options
  const size = payload.length
  const head =
    size < 126
      ? Buffer.from([size])
      : size < 65_536
        ? Buffer.from([126, size >> 8, size & 255])
        : Buffer.alloc(9)
  if (size >= 65_536) {
    head[0] = 127
    head.writeBigUInt64BE(BigInt(size), 1)
  }
  head[0]! |= masked ? 0x80 : 0
  return Buffer.concat([
    Buffer.from([(fin ? 0x80 : 0) | opcode]),
    head,
    masked ? Buffer.alloc(4) : Buffer.alloc(0),
    payload,
  ])
}

/** Waits for a condition, looking every few milliseconds. */
export async function until(condition: () => boolean, what: string, timeoutMs = 10_000): Promise<void> {
  const deadline = Date.now() + timeoutMs
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs} ms for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
