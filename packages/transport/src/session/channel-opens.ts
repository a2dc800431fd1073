// What a client may open (RFC 4254 s5.1, s7.2; OpenSSH PROTOCOL 2.4): session channels, whose requests go to
// session-requests.ts, and forwardings that an application's hook accepts. Everything else is refused.

import { isDestinationPermitted } from '../auth/permissions.ts'
import type { IncomingOpen } from '../connection/mux.ts'
import { maxSessionChannelsServer } from '../limits.ts'
import { directStreamlocalFields, directTcpipFields } from '../messages/connection.ts'
import { openFailure } from '../messages/numbers.ts'
import { decodeFields } from '../wire/codec.ts'
import type { PreparedServer } from './prepared-server.ts'
import { ServerChannel } from './server-channel.ts'
import type { ForwardHandler, ServerContext, ServerEvent } from './server-options.ts'
import type { ChannelOwner } from './session-channel.ts'
import { SessionRequests } from './session-requests.ts'

export interface ChannelOpensParts {
  prepared: PreparedServer
  context: ServerContext
  owner: ChannelOwner
  emit: (event: ServerEvent) => void
}

export class ChannelOpens {
  readonly #parts: ChannelOpensParts
  readonly #sessions = new Set<ServerChannel>()
  /** The client said that it will open no more sessions (OpenSSH PROTOCOL 2.2), and is held to it. */
  noMoreSessions = false
  /** The server is about to close. */
  isDraining = false

  constructor(parts: ChannelOpensParts) {
    this.#parts = parts
  }

  /** Answers a CHANNEL_OPEN of the client. Throws WireError where it is malformed. */
  handle(incoming: IncomingOpen): void {
    if (this.isDraining) return prohibit(incoming, 'the server is shutting down')
    const { context, prepared } = this.#parts
    const { directTcpip, directStreamlocal } = prepared.options
    const { portForwarding, permitOpen } = context.login.permissions
    switch (incoming.channelType) {
      case 'session':
        return this.#openSession(incoming)
      case 'direct-tcpip': {
        const request = decodeFields('direct-tcpip', directTcpipFields, incoming.payload)
        const isPermitted = portForwarding && isDestinationPermitted(permitOpen, request.host, request.port)
        if (directTcpip === undefined || !isPermitted) return prohibit(incoming)
        void this.#forward(incoming, async () => directTcpip(request, context))
        return
      }
      case 'direct-streamlocal@openssh.com': {
        const { socketPath } = decodeFields('direct-streamlocal', directStreamlocalFields, incoming.payload)
        // permitopen names hosts and ports; a path is none of them.
        const isPermitted = portForwarding && permitOpen === undefined
        if (directStreamlocal === undefined || !isPermitted) return prohibit(incoming)
        void this.#forward(incoming, async () => directStreamlocal({ socketPath }, context))
        return
      }
      case 'forwarded-tcpip':
      case 'forwarded-streamlocal@openssh.com':
      case 'auth-agent@openssh.com':
      case 'x11':
      case 'tun@openssh.com':
        return prohibit(incoming)
      default:
        return incoming.refuse(openFailure.unknownChannelType, 'unknown channel type')
    }
  }

  #openSession(incoming: IncomingOpen): void {
    const { prepared, context, owner, emit } = this.#parts
    const { options, subsystems } = prepared
    if (this.noMoreSessions) return prohibit(incoming, 'no more sessions')
    if (this.#sessions.size >= (options.maxSessions ?? maxSessionChannelsServer)) {
      return incoming.refuse(openFailure.resourceShortage, 'too many sessions')
    }
    const core = incoming.accept()
    if (core.state === 'closed') return
    const channel: ServerChannel = new ServerChannel(core, owner, `session channel ${core.localId}`, {
      onRequest: (request) => requests.handle(request),
      onOver: (cause) => {
        this.#sessions.delete(channel)
        requests.over(cause)
      },
    })
    const requests = new SessionRequests({ channel, options, subsystems, context, emit })
    this.#sessions.add(channel)
    context.session.attach(core, channel)
  }

  async #forward(incoming: IncomingOpen, decide: () => Promise<ForwardHandler | undefined>): Promise<void> {
    const { context, owner } = this.#parts
    try {
      const handler = await decide()
      if (handler === undefined) return prohibit(incoming)
      const core = incoming.accept()
      if (core.state === 'closed') return
      const channel = new ServerChannel(core, owner, `${incoming.channelType} channel ${core.localId}`, {
        onRequest: (request) => request.reply(false),
        onOver: () => {},
      })
      context.session.attach(core, channel)
      void this.#runForward(channel, handler)
    } catch {
      // Why it failed is the application's business; a client that probes the network learns only that it did.
      incoming.refuse(openFailure.connectFailed, 'connecting failed')
    } finally {
      owner.schedule()
    }
  }

  async #runForward(channel: ServerChannel, handler: ForwardHandler): Promise<void> {
    try {
      await handler(channel)
    } catch (error) {
      // A handler that stumbles over the end of its channel did nothing wrong.
      if (channel.isOpen) this.#parts.emit({ type: 'fault', error })
      channel.abort()
    }
  }
}

function prohibit(incoming: IncomingOpen, why = 'not allowed'): void {
  incoming.refuse(openFailure.administrativelyProhibited, why)
}
