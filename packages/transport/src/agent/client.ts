// The client of an SSH agent (RFC 9987), over any ByteChannel: a UNIX socket, a named pipe, an agent channel, memory.
// One request at a time; answers carry no number, so bytes nobody asked for, a malformed answer or a deadline that passed end
// the connection: nothing later could be matched to its question. Signatures are verified before they are given out.

import type { ByteChannel } from '../byte-channel.ts'
import type { CryptoProvider } from '../crypto/provider.ts'
import {
  AbortedError,
  AgentError,
  ClosedError,
  KeyFormatError,
  quote,
  SshError,
  TimeoutError,
  UsageError,
} from '../errors.ts'
import { type Certificate, certifies, parseCertificate } from '../keys/certificate.ts'
import type { PrivateKey } from '../keys/private-key.ts'
import { writePrivateKeyFields } from '../keys/private-key-fields.ts'
import { isCertificateType, parsePublicKey, peekKeyType } from '../keys/public-key.ts'
import { verifySignature } from '../keys/signature.ts'
import { signatureAlgorithm, signatureAlgorithmsFor } from '../keys/signature-algorithms.ts'
import { agentSignFlags } from '../keys/signer.ts'
import type { Trace } from '../trace.ts'
import { utf8Bytes } from '../wire/bytes.ts'
import { encodeFields, type Fields, type Message, type ValueOf } from '../wire/codec.ts'
import { Reader } from '../wire/reader.ts'
import { WireError } from '../wire/wire-error.ts'
import { Writer } from '../wire/writer.ts'
import { type KeyConstraints, writeConstraints } from './constraints.ts'
import { AgentFrameReader, frameMessage } from './framing.ts'
import * as messages from './messages.ts'

export interface AgentIdentity {
  /** The key, or certificate, as it is offered to a server. */
  readonly keyBlob: Uint8Array
  /** Type of the blob; may be one that is not supported here. */
  readonly keyType: string
  /** Raw. */
  readonly comment: string
}

export interface AgentClientOptions {
  crypto: CryptoProvider
  /** How long the agent may take to answer, in milliseconds; 30 000. */
  timeoutMs?: number
  /** The same for signatures, for which an agent may ask its user or wait for a touch; 120 000. */
  signTimeoutMs?: number
  trace?: Trace
}

export interface SessionBinding {
  /** Host key blob of the server. */
  hostKey: Uint8Array
  /** Exchange hash of the first key exchange. */
  sessionId: Uint8Array
  /** The server's signature over it, as in the reply of that exchange. */
  signature: Uint8Array
  /** False to log in to that server; true where the agent is forwarded to it. */
  forwarding: boolean
}

interface Request {
  readonly what: string
  readonly frame: Uint8Array
  readonly timeoutMs: number
  resolve(reply: Uint8Array): void
  reject(error: Error): void
}

export class AgentClient {
  readonly #channel: ByteChannel
  readonly #crypto: CryptoProvider
  readonly #timeoutMs: number
  readonly #signTimeoutMs: number
  readonly #trace: Trace | undefined
  readonly #frames = new AgentFrameReader()
  readonly #waiting: Request[] = []
  #current: Request | undefined
  #timer: ReturnType<typeof setTimeout> | undefined
  /** Why nothing works any more. */
  #ended: Error | undefined

  /** Takes the channel over: starts it, and closes it. */
  constructor(channel: ByteChannel, options: AgentClientOptions) {
    this.#channel = channel
    this.#crypto = options.crypto
    this.#timeoutMs = options.timeoutMs ?? 30_000
    this.#signTimeoutMs = options.signTimeoutMs ?? 120_000
    this.#trace = options.trace
    channel.start({
      data: (view) => this.#receive(view),
      writable: () => {},
      end: () => this.#end(closedByAgent()),
      closed: (cause) => this.#end(closedByAgent(cause)),
    })
  }

  /**
   * Identities in the agent's order; a locked agent shows none.
   * @throws AgentError, TimeoutError, ClosedError, as all methods.
   */
  async list(): Promise<AgentIdentity[]> {
    const reply = await this.#ask('list', messages.requestIdentities.bytes({}))
    const { identities } = this.#decode(messages.identitiesAnswer, reply)
    return identities.map(({ keyBlob, comment }) => ({ keyBlob, keyType: typeOf(keyBlob), comment }))
  }

  /**
   * Asks for a signature and verifies it.
   * @param keyBlob an identity as listed.
   * @param flags 2 for rsa-sha2-256, 4 for rsa-sha2-512; 0 for keys other than RSA.
   * @param options.signal gives up waiting; the agent's answer, when it comes, is dropped.
   * @returns the SSH signature blob.
   * @throws AgentError 'ERR_SSH_AGENT_REFUSED' where the agent says no, 'ERR_SSH_AGENT_BAD_SIGNATURE' where what it gave
   *   does not verify or is of another algorithm; UsageError for flags that do not go with the key (SHA-1 is not asked for).
   */
  async sign(
    keyBlob: Uint8Array,
    data: Uint8Array,
    flags: number,
    options: { signal?: AbortSignal } = {},
  ): Promise<Uint8Array> {
    const keyType = peekKeyType(keyBlob)
    const algorithm = algorithmForFlags(keyType, flags)
    const key = isCertificateType(keyType) ? parseCertificate(keyBlob) : parsePublicKey(keyBlob)
    if (!this.#crypto.supportsKey(key.verifyKey.type)) {
      throw new AgentError(`signatures of ${quote(keyType, 80)} keys cannot be verified in this runtime`, {
        code: 'ERR_SSH_AGENT_UNVERIFIABLE',
      })
    }
    const request = messages.signRequest.bytes({ keyBlob, data, flags })
    const reply = await this.#ask('sign', request, { timeoutMs: this.#signTimeoutMs, ...options })
    const signature = this.#decode(messages.signResponse, reply).signature.slice()
    // Touch is the server's to demand: keys made with no-touch-required sign without it.
    const verify = { requireUserPresence: false }
    if (!(await verifySignature(this.#crypto, key, algorithm, data, signature, verify))) {
      throw new AgentError(`the agent's signature is not a valid ${algorithm} signature of that key`, {
        code: 'ERR_SSH_AGENT_BAD_SIGNATURE',
      })
    }
    return signature
  }

  /**
   * Binds this connection to an SSH session, so that the agent can hold keys to their destinations (OpenSSH 8.9 and later).
   * To be sent before the first signature of that session.
   * @returns false where the agent does not know the extension or refuses.
   */
  async bindSession(binding: SessionBinding): Promise<boolean> {
    const contents = encodeFields(messages.sessionBindFields, binding)
    const request = messages.extension.bytes({ name: messages.sessionBindName, contents })
    const reply = await this.request(request, { what: 'session-bind' })
    return this.#succeeded(reply)
  }

  /**
   * Adds a key. Through a certificate it is offered and used under that certificate.
   * @throws AgentError 'ERR_SSH_AGENT_REFUSED' where the agent refuses it or one of the constraints; UsageError where a
   *   constraint is out of range; KeyFormatError where the certificate is not one of this key.
   */
  async add(
    key: PrivateKey,
    options: KeyConstraints & { comment?: string; certificate?: Certificate } = {},
  ): Promise<void> {
    const { certificate } = options
    if (certificate !== undefined && !certifies(certificate, key.publicKey)) {
      throw new KeyFormatError('the certificate is not one of this private key')
    }
    const constraints = new Writer()
    writeConstraints(constraints, options)
    const { addIdentity, addIdentityConstrained } = messages
    const { number } = constraints.length > 0 ? addIdentityConstrained : addIdentity
    // Large enough for any key: a buffer that grew would leave the secret behind in the old one.
    const writer = new Writer(32_768).u8(number)
    try {
      writePrivateKeyFields(writer, key, certificate)
      writer.text(options.comment ?? key.comment).raw(constraints.bytes())
      this.#expectSuccess('add', await this.request(writer.bytes(), { what: 'add' }))
    } finally {
      writer.buffer.fill(0)
    }
  }

  /** Removes one identity. Throws AgentError 'ERR_SSH_AGENT_REFUSED' where the agent has it not. */
  async remove(keyBlob: Uint8Array): Promise<void> {
    this.#expectSuccess(
      'remove',
      await this.request(messages.removeIdentity.bytes({ keyBlob }), { what: 'remove' }),
    )
  }

  /** Removes all identities. */
  async removeAll(): Promise<void> {
    this.#expectSuccess(
      'remove all',
      await this.request(messages.removeAllIdentities.bytes({}), { what: 'remove all' }),
    )
  }

  /** Locks the agent: until unlocked with the same passphrase it shows no keys and signs nothing. */
  async lock(passphrase: string | Uint8Array): Promise<void> {
    await this.#lockOrUnlock(messages.lock, 'lock', passphrase)
  }

  async unlock(passphrase: string | Uint8Array): Promise<void> {
    await this.#lockOrUnlock(messages.unlock, 'unlock', passphrase)
  }

  /** Names of the extensions that the agent knows; undefined where it does not say (OpenSSH before 10.3). */
  async queryExtensions(): Promise<string[] | undefined> {
    const request = messages.extension.bytes({ name: messages.queryName, contents: new Uint8Array(0) })
    const reply = await this.request(request, { what: 'query' })
    if (reply[0] !== messages.agentMessageNumbers.extensionResponse) {
      this.#succeeded(reply)
      return undefined
    }
    const { name, contents } = this.#decode(messages.extensionResponse, reply)
    return this.#guard(() => {
      if (name !== messages.queryName) throw new WireError(`an answer about ${quote(name, 80)}`, 0)
      const reader = new Reader(contents)
      const names: string[] = []
      while (reader.remaining > 0) names.push(reader.text())
      return names
    })
  }

  /**
   * Sends one message as it is and returns the agent's answer, both without the length field: for extensions, and to relay
   * a forwarded agent's requests (see server.ts).
   */
  async request(
    payload: Uint8Array,
    options: { what?: string; timeoutMs?: number; signal?: AbortSignal } = {},
  ): Promise<Uint8Array> {
    const what = options.what ?? 'request'
    const { signal } = options
    if (signal?.aborted) throw new AbortedError(`agent ${what}`, signal.reason)
    if (this.#ended !== undefined) throw this.#ended
    const frame = frameMessage(payload)
    return await new Promise<Uint8Array>((resolve, reject) => {
      const request: Request = {
        what,
        frame,
        timeoutMs: options.timeoutMs ?? this.#timeoutMs,
        resolve,
        reject,
      }
      if (signal !== undefined) this.#abandonOn(signal, request)
      this.#waiting.push(request)
      this.#sendNext()
    })
  }

  /** Closes the connection; whatever waits is rejected with ClosedError. Idempotent. */
  close(): void {
    this.#end(new ClosedError('the agent connection'))
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.close()
    return Promise.resolve()
  }

  async #lockOrUnlock(
    declared: typeof messages.lock,
    what: string,
    passphrase: string | Uint8Array,
  ): Promise<void> {
    const bytes = typeof passphrase === 'string' ? utf8Bytes(passphrase) : passphrase
    const request = declared.bytes({ passphrase: bytes })
    try {
      this.#expectSuccess(what, await this.request(request, { what }))
    } finally {
      request.fill(0)
    }
  }

  /** A request whose failure is an error. */
  async #ask(
    what: string,
    payload: Uint8Array,
    options: { timeoutMs?: number; signal?: AbortSignal } = {},
  ): Promise<Uint8Array> {
    const reply = await this.request(payload, { what, ...options })
    if (isFailure(reply)) throw refused(what)
    return reply
  }

  #expectSuccess(what: string, reply: Uint8Array): void {
    if (!this.#succeeded(reply)) throw refused(what)
  }

  /** Success or failure; anything else breaks the protocol. */
  #succeeded(reply: Uint8Array): boolean {
    if (isFailure(reply)) return false
    this.#decode(messages.success, reply)
    return true
  }

  #decode<F extends Fields>(declared: Message<F>, reply: Uint8Array): ValueOf<F> {
    return this.#guard(() => declared.decode(reply))
  }

  /** An answer that cannot be read ends the connection: the agent does not speak the protocol. */
  #guard<T>(decode: () => T): T {
    try {
      return decode()
    } catch (error) {
      if (!(error instanceof WireError)) throw error
      const broken = new AgentError(`the agent's answer is malformed: ${error.message}`, {
        code: 'ERR_SSH_AGENT_PROTOCOL',
        cause: error,
      })
      this.#end(broken)
      throw broken
    }
  }

  #sendNext(): void {
    if (this.#current !== undefined || this.#ended !== undefined) return
    const next = this.#waiting.shift()
    if (next === undefined) return
    this.#current = next
    this.#trace?.({
      level: 3,
      layer: 'agent',
      event: 'request',
      detail: { what: next.what, bytes: next.frame.length },
    })
    this.#timer = setTimeout(
      () => this.#end(new TimeoutError(`agent ${next.what}`, next.timeoutMs)),
      next.timeoutMs,
    )
    this.#channel.write(next.frame)
    // Requests may hold private keys.
    next.frame.fill(0)
  }

  #receive(view: Uint8Array): void {
    if (this.#ended !== undefined) return
    try {
      this.#frames.push(view)
      const reply = this.#frames.next()
      if (reply !== undefined) this.#answer(reply)
      if (this.#current === undefined && this.#frames.pending > 0)
        throw protocolError('the agent sent what nobody asked for')
    } catch (error) {
      this.#end(error instanceof SshError ? error : protocolError('the agent could not be understood', error))
    }
  }

  #answer(reply: Uint8Array): void {
    const request = this.#current
    if (request === undefined) throw protocolError('the agent sent what nobody asked for')
    clearTimeout(this.#timer)
    this.#current = undefined
    this.#trace?.({
      level: 3,
      layer: 'agent',
      event: 'reply',
      detail: { what: request.what, type: reply[0]! },
    })
    // Before the next request leaves: what comes in this turn beyond one answer was not asked for.
    if (this.#frames.pending > 0) {
      const error = protocolError('the agent answered twice')
      request.reject(error)
      throw error
    }
    request.resolve(reply)
    this.#sendNext()
  }

  #abandonOn(signal: AbortSignal, request: Request): void {
    const give = () => {
      const at = this.#waiting.indexOf(request)
      if (at >= 0) this.#waiting.splice(at, 1)
      request.reject(new AbortedError(`agent ${request.what}`, signal.reason))
    }
    const { resolve, reject } = request
    const done = () => signal.removeEventListener('abort', give)
    request.resolve = (reply) => {
      done()
      resolve(reply)
    }
    request.reject = (error) => {
      done()
      reject(error)
    }
    signal.addEventListener('abort', give, { once: true })
  }

  #end(error: Error): void {
    if (this.#ended !== undefined) return
    this.#ended = error
    clearTimeout(this.#timer)
    const pending = this.#current === undefined ? this.#waiting : [this.#current, ...this.#waiting]
    this.#current = undefined
    for (const request of pending) request.reject(error)
    this.#waiting.length = 0
    this.#channel.close()
  }
}

function isFailure(reply: Uint8Array): boolean {
  const { failure, extensionFailure } = messages.agentMessageNumbers
  return reply[0] === failure || reply[0] === extensionFailure
}

function refused(what: string): AgentError {
  return new AgentError(`the agent refused: ${what}`, { code: 'ERR_SSH_AGENT_REFUSED' })
}

function protocolError(message: string, cause?: unknown): AgentError {
  return new AgentError(message, { code: 'ERR_SSH_AGENT_PROTOCOL', cause })
}

function closedByAgent(cause?: Error): AgentError {
  return new AgentError('the agent closed the connection', { code: 'ERR_SSH_AGENT_CLOSED', cause })
}

function typeOf(keyBlob: Uint8Array): string {
  try {
    return peekKeyType(keyBlob)
  } catch {
    return ''
  }
}

/** The algorithm that key type and flags ask for (RFC 9987, "Signature flags"). */
function algorithmForFlags(keyType: string, flags: number): string {
  const name = signatureAlgorithmsFor(keyType).find(
    (candidate) => (agentSignFlags.get(signatureAlgorithm(candidate)!.signatureName) ?? 0) === flags,
  )
  if (name === undefined) {
    throw new UsageError(`flags: ${flags} asks for no supported signature of a ${quote(keyType, 80)} key`)
  }
  return name
}
