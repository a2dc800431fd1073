// The other side of the agent protocol: answering requests that come over a channel, and the filter that stands between a
// forwarded agent and the host it is forwarded to. What answers is a handler: memory-agent.ts, or a relay to a real agent.
// Requests of one connection are handled one after the other; reading pauses meanwhile, so nothing piles up.

import type { ByteChannel } from '../byte-channel.ts'
import type { MaybePromise } from '../crypto/provider.ts'
import { SshError, safeText } from '../errors.ts'
import type { Trace } from '../trace.ts'
import { WireError } from '../wire/wire-error.ts'
import type { AgentClient } from './client.ts'
import { AgentFrameReader, frameMessage } from './framing.ts'
import { agentMessageNumbers, extension, failure, sessionBindName } from './messages.ts'

/**
 * Answers one message of one connection; both without the length field. A WireError or SshError is answered with FAILURE.
 * The request is wiped once it is answered: it may have held a private key.
 */
export type AgentHandler = (request: Uint8Array) => MaybePromise<Uint8Array>

const failureReply = failure.bytes({})

/**
 * Serves a channel until either side closes it. A malformed frame closes it; errors of the handler are answered with FAILURE.
 * @returns resolves when the channel is closed; never rejects.
 */
export function serveAgent(
  channel: ByteChannel,
  handler: AgentHandler,
  options: { trace?: Trace } = {},
): Promise<void> {
  const { trace } = options
  const frames = new AgentFrameReader()
  let busy = false
  let closed = false
  let ended = false
  return new Promise((resolve) => {
    const finish = () => {
      closed = true
      resolve()
    }
    const pump = async () => {
      if (busy) return
      busy = true
      channel.pause()
      try {
        for (;;) {
          // A peer that does not read its answers gets no more of them.
          if (closed || channel.writableBytes === 0) break
          const request = frames.next()
          if (request === undefined) break
          const reply = await answer(handler, request, trace)
          request.fill(0)
          if (!closed) channel.write(frameMessage(reply))
        }
      } catch (error) {
        trace?.({
          level: 1,
          layer: 'agent',
          event: 'connection refused',
          detail: { reason: safeText(String(error)) },
        })
        closed = true
        channel.close()
      }
      busy = false
      if (closed) return
      if (ended) channel.close()
      else if (channel.writableBytes > 0) channel.resume()
    }
    channel.start({
      data: (view) => {
        frames.push(view)
        void pump()
      },
      writable: () => void pump(),
      end: () => {
        ended = true
        void pump()
      },
      closed: finish,
    })
  })
}

/**
 * Lets through what a forwarded agent may be asked: identities, signatures and session-bind. Everything else, above all
 * adding keys and loading providers, is answered with FAILURE and never reaches the agent.
 */
export function forwardingFilter(handler: AgentHandler): AgentHandler {
  return (request) => (isForwardable(request) ? handler(request) : failureReply)
}

/** Hands requests to a real agent. Use under forwardingFilter, on a client bound with `forwarding: true`. */
export function relayTo(agent: AgentClient): AgentHandler {
  return (request) => agent.request(request, { what: 'relayed request' })
}

function isForwardable(request: Uint8Array): boolean {
  switch (request[0]) {
    case agentMessageNumbers.requestIdentities:
    case agentMessageNumbers.signRequest:
      return true
    case agentMessageNumbers.extension:
      try {
        return extension.decode(request).name === sessionBindName
      } catch (error) {
        if (error instanceof WireError) return false
        throw error
      }
    default:
      return false
  }
}

async function answer(
  handler: AgentHandler,
  request: Uint8Array,
  trace: Trace | undefined,
): Promise<Uint8Array> {
  try {
    return await handler(request)
  } catch (error) {
    if (!(error instanceof WireError || error instanceof SshError)) throw error
    trace?.({
      level: 2,
      layer: 'agent',
      event: 'request failed',
      detail: { type: request[0]!, reason: safeText(error.message) },
    })
    return failureReply
  }
}
