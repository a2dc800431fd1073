// The server half of authentication (RFC 4252, RFC 4256) without I/O and without policy: decodes requests, checks
// signatures, counts tries, and asks what to do. One question is open at a time; the machine is parked until it is
// answered. Owns what a user has already passed (partial success), which a change of user or service resets (RFC 4252 s5).

import type { CryptoProvider, MaybePromise } from '../crypto/provider.ts'
import { ProtocolError, SshError } from '../errors.ts'
import { maxAuthTries, maxKeyboardInteractiveRounds, maxPasswordBytes, maxUserNameBytes } from '../limits.ts'
import * as number from '../messages/numbers.ts'
import { serviceAccept, serviceRequest } from '../messages/transport.ts'
import {
  infoRequest,
  infoResponse,
  keyboardInteractiveFields,
  passwordChangeFields,
  passwordChangeRequest,
  passwordFields,
  publicKeyOk,
  userauthBanner,
  userauthFailure,
  userauthRequest,
  userauthSuccess,
} from '../messages/userauth.ts'
import type { PacketSink } from '../packet/packet-sink.ts'
import { equalBytes, utf8Bytes } from '../wire/bytes.ts'
import { decodeFields } from '../wire/codec.ts'
import { Reader } from '../wire/reader.ts'
import { connectionService } from './client-auth.ts'
import type { Prompt } from './prompts.ts'
import { readResponses, writePrompts } from './prompts.ts'
import { hostBoundMethod, publicKeySignedData } from './signed-data.ts'

/** What the client wants to be let in by. */
export type AuthRequest =
  | { method: 'none'; user: string }
  | {
      method: 'publickey'
      user: string
      algorithm: string
      publicKey: Uint8Array
      /** False: the client only asks whether this key would do. */
      signed: boolean
      /** Whether the signature is right; false when there is none. Computed for every signed request, known user or not. */
      signatureValid: boolean
      /** The signature blob, for what security keys say in it; undefined when there is none. */
      signature: Uint8Array | undefined
    }
  | { method: 'password'; user: string; password: string; newPassword: string | undefined }
  | { method: 'keyboard-interactive'; user: string; submethods: string }
  /** Answers to the prompts asked last. */
  | { method: 'keyboard-interactive-answers'; user: string; answers: readonly string[] }

/** The answer to an AuthRequest. */
export type AuthAnswer =
  | { type: 'success' }
  /** `methods` can continue; `partial`: this method was passed, but more are wanted. */
  | { type: 'failure'; methods: readonly string[]; partial?: boolean }
  /** To an unsigned publickey request: a signature by this key would do. */
  | { type: 'public-key-ok' }
  | { type: 'password-change'; prompt: string }
  | { type: 'prompts'; name: string; instruction: string; prompts: readonly Prompt[] }

export type ServerAuthEvent =
  | { type: 'auth-request'; request: AuthRequest; passed: readonly string[]; tries: number }
  | { type: 'authenticated'; user: string; method: string; publicKey: Uint8Array | undefined }

/** Verifies a signature blob; keys/signature.ts bound to a provider. */
export type SignatureCheck = (
  algorithm: string,
  publicKey: Uint8Array,
  data: Uint8Array,
  signature: Uint8Array,
) => MaybePromise<boolean>

export interface ServerAuthOptions {
  crypto: CryptoProvider
  /** Our session id and host key, once the first exchange ended. */
  proof: () => { sessionId: Uint8Array; hostKey: Uint8Array }
  verify: SignatureCheck
  maxTries?: number
  /**
   * Methods that are advertised, which may depend on what was passed already; anything else but 'none' is refused without
   * a question.
   */
  methods: readonly string[] | ((passed: readonly string[]) => readonly string[])
  /** Signature algorithms accepted from users. */
  algorithms: readonly string[]
  /** Asynchronous work ended, or failed. */
  onReady: (error?: unknown) => void
}

export class ServerAuth {
  readonly #sink: PacketSink
  readonly #options: ServerAuthOptions
  #user: string | undefined
  #passed: string[] = []
  #tries = 0
  #open: AuthRequest | undefined
  #verifying = false
  #ready: ServerAuthEvent | undefined
  #prompts: number | undefined
  #rounds = 0

  constructor(sink: PacketSink, options: ServerAuthOptions) {
    this.#sink = sink
    this.#options = options
  }

  /** A question is open, or a signature is being checked: nothing more is read until it ends. */
  get parked(): boolean {
    return this.#open !== undefined || this.#verifying
  }

  /** An event that asynchronous work left. */
  next(): ServerAuthEvent | undefined {
    const event = this.#ready
    this.#ready = undefined
    return event
  }

  /** RFC 4253 s10. Throws where another service is asked for. */
  acceptService(payload: Uint8Array): void {
    const { service } = serviceRequest.decode(payload)
    if (service !== 'ssh-userauth')
      throw new ProtocolError(`service ${JSON.stringify(service.slice(0, 64))} is not available`, {
        phase: 'authentication',
      })
    serviceAccept.encode(this.#sink.begin(), { service })
    this.#sink.end()
  }

  banner(text: string): void {
    const writer = this.#sink.begin()
    userauthBanner.encode(writer, { text })
    writer.text('')
    this.#sink.end()
  }

  /** Handles USERAUTH_REQUEST and INFO_RESPONSE. Throws ProtocolError or WireError. */
  receive(type: number, payload: Uint8Array): ServerAuthEvent | undefined {
    if (type === number.USERAUTH_INFO_RESPONSE) return this.#onInfoResponse(payload)
    // RFC 4256 s3.1: a new request abandons the keyboard-interactive exchange in progress; that counts as a try.
    if (this.#prompts !== undefined) {
      this.#prompts = undefined
      if (++this.#tries > (this.#options.maxTries ?? maxAuthTries)) throw new AuthTriesError()
    }
    const { user, service, method, methodFields } = userauthRequest.decode(payload)
    if (utf8Bytes(user).length > maxUserNameBytes)
      throw new ProtocolError(`user name above ${maxUserNameBytes} bytes`, { phase: 'authentication' })
    if (service !== connectionService)
      throw new ProtocolError('only ssh-connection can follow authentication', { phase: 'authentication' })
    if (this.#user !== user) {
      this.#user = user
      this.#passed = []
    }
    const known = method === hostBoundMethod ? 'publickey' : method
    if (known !== 'none' && !this.#methods().includes(known)) {
      this.#fail(this.#methods(), false)
      return undefined
    }
    switch (known) {
      case 'none':
        return this.#ask({ method: 'none', user })
      case 'publickey':
        return this.#onPublicKey(user, method, methodFields)
      case 'password': {
        const { password, newPassword } = readPasswords(methodFields)
        if (tooLong(password) || (newPassword !== undefined && tooLong(newPassword))) {
          // Refused before any key derivation sees it (CVE-2016-6515).
          this.#fail(this.#methods(), false)
          return undefined
        }
        return this.#ask({ method: 'password', user, password, newPassword })
      }
      case 'keyboard-interactive': {
        const { submethods } = decodeFields('keyboard-interactive', keyboardInteractiveFields, methodFields)
        return this.#ask({ method: 'keyboard-interactive', user, submethods })
      }
      default:
        this.#fail(this.#methods(), false)
        return undefined
    }
  }

  #methods(): readonly string[] {
    const { methods } = this.#options
    return typeof methods === 'function' ? methods(this.#passed) : methods
  }

  #ask(request: AuthRequest): ServerAuthEvent {
    this.#open = request
    return { type: 'auth-request', request, passed: this.#passed, tries: this.#tries }
  }

  #onPublicKey(user: string, method: string, methodFields: Uint8Array): ServerAuthEvent | undefined {
    const reader = new Reader(methodFields)
    const signed = reader.bool()
    const algorithm = reader.text()
    const publicKey = reader.string().slice()
    const { sessionId, hostKey } = this.#options.proof()
    let bound: Uint8Array | undefined
    if (method === hostBoundMethod) {
      bound = reader.string().slice()
      if (!equalBytes(bound, hostKey))
        throw new ProtocolError('signature bound to another host key', { phase: 'authentication' })
    }
    const signature = signed ? reader.string().slice() : undefined
    reader.expectEnd()
    if (!this.#options.algorithms.includes(algorithm)) {
      this.#fail(this.#methods(), false)
      return undefined
    }
    const base = { method: 'publickey', user, algorithm, publicKey, signed, signature } as const
    if (signature === undefined) return this.#ask({ ...base, signatureValid: false })
    const data = publicKeySignedData(sessionId, {
      user,
      service: connectionService,
      algorithm,
      publicKey,
      hostKey: bound,
    })
    const valid = this.#verify(algorithm, publicKey, data, signature)
    if (typeof valid === 'boolean') return this.#ask({ ...base, signatureValid: valid })
    this.#verifying = true
    valid.then(
      (signatureValid) => {
        this.#verifying = false
        this.#ready = this.#ask({ ...base, signatureValid })
        this.#options.onReady()
      },
      (error) => {
        this.#verifying = false
        this.#options.onReady(error)
      },
    )
    return undefined
  }

  /** A key that cannot be parsed is a wrong key, not a broken connection; anything but a typed refusal fails closed. */
  #verify(
    algorithm: string,
    publicKey: Uint8Array,
    data: Uint8Array,
    signature: Uint8Array,
  ): MaybePromise<boolean> {
    try {
      return this.#options.verify(algorithm, publicKey, data, signature)
    } catch (error) {
      if (error instanceof SshError) return false
      throw error
    }
  }

  #onInfoResponse(payload: Uint8Array): ServerAuthEvent | undefined {
    const expected = this.#prompts
    if (expected === undefined)
      throw new ProtocolError('INFO_RESPONSE without a question', { phase: 'authentication' })
    this.#prompts = undefined
    const { count, responses } = infoResponse.decode(payload)
    const answers = readResponses(count, expected, responses)
    return this.#ask({ method: 'keyboard-interactive-answers', user: this.#user!, answers })
  }

  /** Answers the open question. Returns what follows, or undefined. Throws ProtocolError when the tries are used up. */
  answer(answer: AuthAnswer): ServerAuthEvent | undefined {
    const request = this.#open
    if (request === undefined) return undefined
    this.#open = undefined
    const method = request.method === 'keyboard-interactive-answers' ? 'keyboard-interactive' : request.method
    switch (answer.type) {
      case 'success': {
        // The policy may only wave through what the client proved.
        if (request.method === 'publickey' && !request.signatureValid) {
          if (!request.signed) return this.#sendPublicKeyOk(request.algorithm, request.publicKey)
          this.#fail(this.#methods(), false)
          return undefined
        }
        userauthSuccess.encode(this.#sink.begin(), {})
        this.#sink.end()
        return {
          type: 'authenticated',
          user: request.user,
          method,
          publicKey: request.method === 'publickey' ? request.publicKey : undefined,
        }
      }
      case 'public-key-ok':
        if (request.method !== 'publickey' || request.signed)
          throw new SshError('ERR_SSH_INTERNAL', 'PK_OK answers only an unsigned publickey request')
        return this.#sendPublicKeyOk(request.algorithm, request.publicKey)
      case 'password-change':
        this.#sendPasswordChange(answer.prompt)
        return undefined
      case 'prompts': {
        if (++this.#rounds > maxKeyboardInteractiveRounds)
          throw new ProtocolError('too many keyboard-interactive rounds', { phase: 'authentication' })
        this.#prompts = answer.prompts.length
        infoRequest.encode(this.#sink.begin(), {
          name: answer.name,
          instruction: answer.instruction,
          language: '',
          count: answer.prompts.length,
          prompts: writePrompts(answer.prompts),
        })
        this.#sink.end()
        return undefined
      }
      case 'failure':
        if (answer.partial === true && !(request.method === 'publickey' && !request.signatureValid)) {
          this.#passed = [...this.#passed, method]
          this.#fail(answer.methods, true)
        } else {
          this.#fail(answer.methods, false)
        }
        return undefined
    }
  }

  #sendPasswordChange(prompt: string): void {
    const writer = this.#sink.begin()
    passwordChangeRequest.encode(writer, { prompt })
    // The language tag, which the declaration leaves out for peers that do.
    writer.text('')
    this.#sink.end()
  }

  #sendPublicKeyOk(algorithm: string, publicKey: Uint8Array): undefined {
    publicKeyOk.encode(this.#sink.begin(), { algorithm, publicKey })
    this.#sink.end()
    return undefined
  }

  #fail(methods: readonly string[], partialSuccess: boolean): void {
    if (!partialSuccess) this.#tries++
    userauthFailure.encode(this.#sink.begin(), { methods, partialSuccess })
    this.#sink.end()
    if (this.#tries > (this.#options.maxTries ?? maxAuthTries)) throw new AuthTriesError()
  }
}

/** RFC 4252 s8: the flag tells whether a new password follows. */
function readPasswords(fields: Uint8Array): { password: string; newPassword: string | undefined } {
  const change = fields.length > 0 && fields[0] !== 0
  if (!change)
    return { password: decodeFields('password', passwordFields, fields).password, newPassword: undefined }
  const { password, newPassword } = decodeFields('password', passwordChangeFields, fields)
  return { password, newPassword }
}

function tooLong(password: string): boolean {
  return utf8Bytes(password).length > maxPasswordBytes
}

/** The client used up its tries. */
export class AuthTriesError extends SshError {
  constructor() {
    super('ERR_SSH_AUTH_TRIES', 'too many authentication failures')
  }
}
