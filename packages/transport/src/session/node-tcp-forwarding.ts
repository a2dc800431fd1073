// The usual `directTcpip` hook of a server on Node: connects to the target by TCP and joins both streams, half-closes and
// back-pressure included. Jump hosts need it (RFC 4254 s7.2). What may be reached is the application's word, asked each time.

import type { Socket } from 'node:net'
import { connect } from 'node:net'
import type { MaybePromise } from '../crypto/provider.ts'
import { TimeoutError } from '../errors.ts'
import type { ServerChannel } from './server-channel.ts'
import type { DirectTcpipRequest, ForwardDecision, ServerContext } from './server-options.ts'

export interface TcpForwardingOptions {
  /**
   * Whether this login may reach that target. A name is looked up only after that, by the system: where it must not lead to
   * the inside of a network, admit addresses, not names.
   */
  allow: (
    target: { readonly host: string; readonly port: number },
    context: ServerContext,
  ) => MaybePromise<boolean>
  /** How long connecting may take, in milliseconds; 10 000 where left out. */
  connectTimeoutMs?: number
}

/** A `directTcpip` hook for ServerOptions that connects to what `allow` admits. */
export function tcpForwarding(options: TcpForwardingOptions): ForwardDecision<DirectTcpipRequest> {
  const { allow, connectTimeoutMs = 10_000 } = options
  return async ({ host, port }, context) => {
    if (!(await allow({ host, port }, context))) return undefined
    const socket = await open(host, port, connectTimeoutMs)
    return (channel) => join(channel, socket)
  }
}

function open(host: string, port: number, timeoutMs: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, noDelay: true, allowHalfOpen: true, autoSelectFamily: true })
    const fail = (error: Error): void => {
      clearTimeout(timer)
      socket.destroy()
      reject(error)
    }
    const timer = setTimeout(
      () => fail(new TimeoutError(`connecting to ${host}:${port}`, timeoutMs)),
      timeoutMs,
    )
    socket.once('error', fail)
    socket.once('connect', () => {
      clearTimeout(timer)
      socket.off('error', fail)
      resolve(socket)
    })
  })
}

/** What one side says reaches the other, as fast as the slower one takes it; the end of one direction is not that of the other. */
function join(channel: ServerChannel, socket: Socket): void {
  let hasEnded = false
  let clientHasEnded = false
  const closeWhenBothEnded = (): void => {
    if (hasEnded && clientHasEnded) channel.close()
  }
  // An error is followed by 'close', which ends the channel.
  socket.on('error', () => {})
  socket.on('data', (chunk: Uint8Array) => {
    channel.write(chunk)
    if (channel.writableBytes === 0) socket.pause()
  })
  socket.on('end', () => {
    hasEnded = true
    channel.end()
    closeWhenBothEnded()
  })
  socket.on('close', () => channel.close())
  socket.on('drain', () => channel.resume())
  channel.start({
    data: (view) => {
      // The view is the receive buffer's, and the socket keeps what it cannot send yet.
      if (!socket.write(view.slice())) channel.pause()
    },
    writable: () => {
      if (channel.writableBytes > 0) socket.resume()
    },
    end: () => {
      clientHasEnded = true
      socket.end()
      closeWhenBothEnded()
    },
    closed: () => socket.destroy(),
  })
}
