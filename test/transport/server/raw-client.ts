// A client that says exactly what a test tells it to: the transport below is ours, everything above is a list of payloads.
// Talks to a real ServerConnection in memory.

import type { ServerOptions, Signer } from '@sshblock/transport'
import { memoryDuplexPair, nodeCrypto, systemRandom } from '@sshblock/transport'
import type { PublicKeyAttempt } from '../../../packages/transport/src/auth/signed-data.ts'
import {
  publicKeySignedData,
  writePublicKeyRequest,
} from '../../../packages/transport/src/auth/signed-data.ts'
import { readExtensions } from '../../../packages/transport/src/core/extension-info.ts'
import { TransportCore } from '../../../packages/transport/src/core/transport-core.ts'
import { resolveOffer } from '../../../packages/transport/src/kex/algorithms.ts'
import { generateKeyPair } from '../../../packages/transport/src/keys/generate.ts'
import { signerFromPrivateKey } from '../../../packages/transport/src/keys/signer.ts'
import {
  channelOpen,
  channelOpenConfirmation,
  channelRequest,
  globalRequest,
} from '../../../packages/transport/src/messages/connection.ts'
import * as number from '../../../packages/transport/src/messages/numbers.ts'
import { serviceRequest } from '../../../packages/transport/src/messages/transport.ts'
import {
  keyboardInteractiveFields,
  passwordFields,
  userauthFailure,
  userauthRequest,
} from '../../../packages/transport/src/messages/userauth.ts'
import type { ByteDuplex } from '../../../packages/transport/src/session/duplex.ts'
import { prepareServer } from '../../../packages/transport/src/session/prepared-server.ts'
import { ServerConnection } from '../../../packages/transport/src/session/server.ts'
import { encodeFields } from '../../../packages/transport/src/wire/codec.ts'
import { Writer } from '../../../packages/transport/src/wire/writer.ts'

export interface Received {
  number: number
  payload: Uint8Array
}

/** A fast handshake: what is tested here is above it. */
const algorithms = { kex: ['curve25519-sha256'], ciphers: ['aes128-gcm@openssh.com'] }

let hostKey: Signer | undefined

/** One host key for all tests that do not care which. */
export function testHostKey(): Signer {
  hostKey ??= freshSigner()
  return hostKey
}

export function freshSigner(type: 'ed25519' | 'ecdsa-sha2-nistp256' = 'ed25519'): Signer {
  return signerFromPrivateKey(nodeCrypto, generateKeyPair(nodeCrypto, type, systemRandom))
}

/** Starts a server connection with these options, and the client end of its duplex. */
export function serve(
  options: Partial<ServerOptions> & Pick<ServerOptions, 'auth'>,
  remoteAddress?: string,
): { duplex: ByteDuplex; connection: ServerConnection } {
  const [duplex, server] = memoryDuplexPair()
  const prepared = prepareServer({ crypto: nodeCrypto, hostKeys: [testHostKey()], ...options })
  return { duplex, connection: new ServerConnection(server, prepared, remoteAddress) }
}

export class RawClient {
  readonly core: TransportCore
  readonly #duplex: ByteDuplex
  /** Messages of the server not yet taken by `expect`. */
  readonly inbox: Received[] = []
  /** Every message of the server so far. */
  readonly all: Received[] = []
  extensions = new Map<string, Uint8Array>()
  #waiting: (() => void)[] = []
  #writing = false
  /** Stops taking what the server sends. */
  deaf = false
  /** Called instead of storing, for floods. */
  onMessage: ((message: Received) => void) | undefined
  readonly keys: Promise<void>
  #onKeys!: () => void
  readonly over: Promise<Error>
  #onOver!: (error: Error) => void

  constructor(duplex: ByteDuplex, options: { identification?: string } = {}) {
    this.#duplex = duplex
    this.keys = new Promise((resolve) => {
      this.#onKeys = resolve
    })
    this.over = new Promise((resolve) => {
      this.#onOver = resolve
    })
    this.core = new TransportCore({
      role: 'client',
      crypto: nodeCrypto,
      random: systemRandom,
      now: () => performance.now(),
      identification: options.identification ?? 'SSH-2.0-raw',
      offer: resolveOffer(nodeCrypto, 'client', algorithms),
      wake: () => this.pump(),
    })
    duplex.start({
      reserve: (min) => this.core.buffer.reserve(min),
      commit: (count) => {
        this.core.buffer.commit(count)
        this.pump()
      },
      end: (cause) => {
        this.core.ended(cause)
        this.pump()
      },
    })
    this.pump()
  }

  pump(): void {
    for (let event = this.core.next(); event !== undefined; event = this.core.next()) {
      if (event.type === 'host-key') this.core.trustHostKey()
      else if (event.type === 'keys') this.#onKeys()
      else if (event.type === 'failed') this.#onOver(event.error)
      else if (event.type === 'message')
        this.#receive({ number: event.number, payload: event.payload.slice() })
    }
    this.flush()
    const waiting = this.#waiting
    this.#waiting = []
    for (const look of waiting) look()
  }

  #receive(message: Received): void {
    if (message.number === number.EXT_INFO) {
      this.extensions = readExtensions(message.payload)
      return
    }
    if (message.number === number.SERVICE_ACCEPT) this.core.phase.layer = 'auth'
    if (message.number === number.USERAUTH_SUCCESS) this.core.phase.layer = 'connection'
    if (this.onMessage !== undefined) return this.onMessage(message)
    this.all.push(message)
    this.inbox.push(message)
  }

  flush(): void {
    if (this.#writing) return
    const slab = this.core.take()
    if (slab === undefined) return
    this.#writing = true
    this.#duplex.write(slab, () => {
      this.#writing = false
      this.core.release(slab)
      this.flush()
    })
  }

  /** Whether everything sent was taken by the server. */
  get idle(): boolean {
    return !this.#writing
  }

  pause(): void {
    this.#duplex.pause()
  }

  resume(): void {
    this.#duplex.resume()
  }

  /** Sends one message, whatever it is. */
  send(payload: Uint8Array): void {
    this.queue(payload)
    this.flush()
  }

  /** Encodes without sending yet: for many in one write. */
  queue(payload: Uint8Array): void {
    this.core.begin().raw(payload)
    this.core.end()
  }

  /** The next message of the server that has not been taken; any of these numbers where given. */
  async expect(...numbers: number[]): Promise<Received> {
    for (;;) {
      const at =
        numbers.length === 0 ? 0 : this.inbox.findIndex((message) => numbers.includes(message.number))
      const found = at < 0 ? undefined : this.inbox[at]
      if (found !== undefined) {
        this.inbox.splice(0, at + 1)
        return found
      }
      if (this.core.failure !== undefined) throw this.core.failure
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve)
      })
    }
  }

  close(): void {
    this.#duplex.close()
  }

  /** Waits until the server ended the connection: its DISCONNECT, or the end of the stream. */
  ended(): Promise<Error> {
    return this.over
  }

  // --- authentication ---

  async service(): Promise<void> {
    await this.keys
    this.core.phase.layer = 'service'
    this.send(serviceRequest.bytes({ service: 'ssh-userauth' }))
    await this.expect(number.SERVICE_ACCEPT)
  }

  request(
    user: string,
    method: string,
    methodFields: Uint8Array = new Uint8Array(0),
    service = 'ssh-connection',
  ): void {
    this.send(userauthRequest.bytes({ user, service, method, methodFields }))
  }

  password(user: string, password: string): Promise<Received> {
    this.request(user, 'password', encodeFields(passwordFields, { change: false, password }))
    return this.answer()
  }

  keyboardInteractive(user: string): Promise<Received> {
    this.request(
      user,
      'keyboard-interactive',
      encodeFields(keyboardInteractiveFields, { language: '', submethods: '' }),
    )
    return this.answer()
  }

  none(user: string): Promise<Received> {
    this.request(user, 'none')
    return this.answer()
  }

  /** Asks whether a key would do. */
  query(user: string, signer: Pick<Signer, 'publicKeyBlob' | 'algorithms'>): Promise<Received> {
    const writer = new Writer()
    writePublicKeyRequest(writer, this.attempt(user, signer), false)
    this.send(writer.copy())
    return this.answer()
  }

  attempt(user: string, signer: Pick<Signer, 'publicKeyBlob' | 'algorithms'>): PublicKeyAttempt {
    const algorithm = signer.algorithms[0]!
    return { user, service: 'ssh-connection', algorithm, publicKey: signer.publicKeyBlob, hostKey: undefined }
  }

  /** A signed publickey request as it goes over the wire. */
  async signedRequest(
    user: string,
    signer: Signer,
    sessionId = this.core.proof!.sessionId,
  ): Promise<Uint8Array> {
    const attempt = this.attempt(user, signer)
    const signature = await signer.sign(attempt.algorithm, publicKeySignedData(sessionId, attempt))
    const writer = new Writer()
    writePublicKeyRequest(writer, attempt, true)
    return writer.string(signature).copy()
  }

  async sign(user: string, signer: Signer): Promise<Received> {
    this.send(await this.signedRequest(user, signer))
    return this.answer()
  }

  answer(): Promise<Received> {
    return this.expect(number.USERAUTH_SUCCESS, number.USERAUTH_FAILURE, number.USERAUTH_METHOD_60)
  }

  // --- connection ---

  /** Opens a channel and returns the server's number for it. */
  async open(
    channelType = 'session',
    options: { sender?: number; window?: number; maxPacket?: number; payload?: Uint8Array } = {},
  ): Promise<number> {
    const { sender = 0, window = 2 ** 21, maxPacket = 32_768, payload = new Uint8Array(0) } = options
    this.send(
      channelOpen.bytes({ channelType, senderChannel: sender, initialWindow: window, maxPacket, payload }),
    )
    const answer = await this.expect(number.CHANNEL_OPEN_CONFIRMATION, number.CHANNEL_OPEN_FAILURE)
    if (answer.number === number.CHANNEL_OPEN_FAILURE)
      throw new Error(`open failed: ${answer.payload.join(' ')}`)
    return channelOpenConfirmation.decode(answer.payload).senderChannel
  }

  channelRequest(
    recipientChannel: number,
    request: string,
    payload: Uint8Array = new Uint8Array(0),
    wantReply = true,
  ): void {
    this.send(channelRequest.bytes({ recipientChannel, request, wantReply, payload }))
  }

  async asked(recipientChannel: number, request: string, payload?: Uint8Array): Promise<boolean> {
    this.channelRequest(recipientChannel, request, payload)
    return (
      (await this.expect(number.CHANNEL_SUCCESS, number.CHANNEL_FAILURE)).number === number.CHANNEL_SUCCESS
    )
  }

  async global(request: string, payload: Uint8Array = new Uint8Array(0)): Promise<Received> {
    this.send(globalRequest.bytes({ request, wantReply: true, payload }))
    return this.expect(number.REQUEST_SUCCESS, number.REQUEST_FAILURE)
  }
}

/** What an authentication answer says, in words. */
export function said(message: Received): string {
  switch (message.number) {
    case number.USERAUTH_SUCCESS:
      return 'success'
    case number.USERAUTH_FAILURE: {
      const { methods, partialSuccess } = userauthFailure.decode(message.payload)
      return `${partialSuccess ? 'partial' : 'failure'} ${methods.join(',')}`.trim()
    }
    default:
      return 'message 60'
  }
}

/** A client that is in, by a policy that lets anybody in. */
export async function loggedIn(
  options: Partial<ServerOptions> = {},
): Promise<{ client: RawClient; connection: ServerConnection }> {
  const { duplex, connection } = serve({
    auth: { insecureAllowNone: () => true },
    announceHostKeys: false,
    ...options,
  })
  const client = new RawClient(duplex)
  await client.service()
  await client.none('user')
  return { client, connection }
}
