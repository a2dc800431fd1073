// Reaching an agent from Node: a UNIX socket, or a named pipe on Windows. The path comes from SSH_AUTH_SOCK by default.

import { createConnection, type Socket } from 'node:net'
import type { ByteChannel, ByteReceiver } from '../byte-channel.ts'
import { AgentError, quote, TimeoutError, UsageError } from '../errors.ts'
import { AgentClient, type AgentClientOptions } from './client.ts'

/** Where Windows' own ssh-agent listens. */
const windowsPipe = '\\\\.\\pipe\\openssh-ssh-agent'
/** sockaddr_un has 108 bytes with the final NUL (Linux), 104 on BSD and macOS; longer paths would be cut short. */
const maxSocketPathBytes = process.platform === 'darwin' || process.platform.endsWith('bsd') ? 103 : 107

export interface ConnectAgentOptions extends AgentClientOptions {
  /** Path of the socket or pipe; SSH_AUTH_SOCK where left out, and on Windows its own agent's pipe. */
  path?: string
  /** Environment to look in; process.env. */
  env?: Readonly<Record<string, string | undefined>>
  /** How long connecting may take, in milliseconds; 5000. */
  connectTimeoutMs?: number
}

/** The agent's path by the environment, or undefined where there is none. */
export function agentSocketPath(
  env: Readonly<Record<string, string | undefined>> = process.env,
): string | undefined {
  const path = env['SSH_AUTH_SOCK']
  if (path !== undefined && path !== '') return path
  return process.platform === 'win32' ? windowsPipe : undefined
}

/**
 * Connects to the agent.
 * @throws AgentError 'ERR_SSH_AGENT_NOT_FOUND' where no path is known, 'ERR_SSH_AGENT_CONNECT' where nobody answers there;
 *   UsageError for a path that is too long for a socket or holds a NUL; TimeoutError.
 */
export async function connectAgent(options: ConnectAgentOptions): Promise<AgentClient> {
  const path = options.path ?? agentSocketPath(options.env)
  if (path === undefined || path === '') {
    throw new AgentError('no agent: SSH_AUTH_SOCK is not set', { code: 'ERR_SSH_AGENT_NOT_FOUND' })
  }
  checkSocketPath(path)
  const socket = await connect(path, options.connectTimeoutMs ?? 5000)
  return new AgentClient(socketChannel(socket, `agent ${path}`), options)
}

/** Throws UsageError where the path cannot be that of a socket. */
export function checkSocketPath(path: string): void {
  if (path.includes('\0')) throw new UsageError('the path of the agent socket contains a NUL')
  const length = Buffer.byteLength(path)
  if (!path.startsWith('\\\\.\\pipe\\') && length > maxSocketPathBytes) {
    throw new UsageError(
      `the path of the agent socket has ${length} bytes; at most ${maxSocketPathBytes} are possible`,
    )
  }
}

/** A connected socket as a ByteChannel. The channel owns the socket. */
export function socketChannel(socket: Socket, description?: string): ByteChannel {
  return new SocketChannel(socket, description)
}

function connect(path: string, timeoutMs: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path)
    const timer = setTimeout(() => {
      socket.destroy()
      reject(new TimeoutError('connecting to the agent', timeoutMs))
    }, timeoutMs)
    const failed = (cause: Error) => {
      clearTimeout(timer)
      const code = (cause as NodeJS.ErrnoException).code ?? cause.message
      const message = `no agent answers at ${quote(path, 200)}: ${code}`
      reject(new AgentError(message, { code: 'ERR_SSH_AGENT_CONNECT', cause }))
    }
    socket.once('error', failed)
    socket.once('connect', () => {
      clearTimeout(timer)
      socket.off('error', failed)
      resolve(socket)
    })
  })
}

class SocketChannel implements ByteChannel {
  readonly description?: string
  readonly #socket: Socket
  #failure: Error | undefined

  constructor(socket: Socket, description: string | undefined) {
    this.#socket = socket
    if (description !== undefined) this.description = description
    socket.on('error', (error) => {
      this.#failure = error
    })
  }

  get writableBytes(): number {
    const { writableLength, writableHighWaterMark, writable } = this.#socket
    return writable ? Math.max(0, writableHighWaterMark - writableLength) : 0
  }

  start(receiver: ByteReceiver): void {
    const socket = this.#socket
    socket.on('data', (chunk: Buffer) => receiver.data(chunk))
    socket.on('drain', () => receiver.writable())
    socket.on('end', () => receiver.end())
    socket.on('close', () => receiver.closed(this.#failure))
  }

  write(bytes: Uint8Array): void {
    // The socket may keep what it is given; the caller may reuse its bytes at once.
    if (this.#socket.writable) this.#socket.write(Uint8Array.from(bytes))
  }

  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  end(): void {
    this.#socket.end()
  }

  close(): void {
    this.#socket.destroy()
  }
}
