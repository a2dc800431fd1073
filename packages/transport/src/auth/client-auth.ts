// The client half of authentication (RFC 4252, RFC 4256) without I/O and without policy: sends one request at a time and
// says what came back. Which method comes next is decided above (session/authenticate.ts). Owns the request in flight,
// because message 60 means something else for each method.

import { ProtocolError, UsageError } from '../errors.ts'
import { maxBannerBytes, maxBanners, maxPasswordBytes, maxUserNameBytes } from '../limits.ts'
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
import { encodeFields } from '../wire/codec.ts'
import { Writer } from '../wire/writer.ts'
import type { Prompt } from './prompts.ts'
import { readPrompts } from './prompts.ts'
import type { PublicKeyAttempt } from './signed-data.ts'
import { writePublicKeyRequest } from './signed-data.ts'

export const connectionService = 'ssh-connection'
const authService = 'ssh-userauth'

/** What the server answered to the request in flight. */
export type AuthReply =
  | { type: 'success' }
  | { type: 'failure'; methods: readonly string[]; partialSuccess: boolean }
  /** The server would accept a signature by this key (RFC 4252 s7). */
  | { type: 'public-key-ok' }
  /** The password is right but must be changed (RFC 4252 s8). */
  | { type: 'password-change'; prompt: string }
  | { type: 'prompts'; name: string; instruction: string; prompts: readonly Prompt[] }

export type ClientAuthEvent =
  | { type: 'auth-reply'; reply: AuthReply }
  | { type: 'banner'; text: string }
  | { type: 'service-accepted' }

type InFlight =
  | { method: 'none' | 'publickey-signed' }
  | { method: 'publickey-query'; attempt: PublicKeyAttempt }
  | { method: 'password' }
  | { method: 'keyboard-interactive'; prompts: number | undefined }

export class ClientAuth {
  readonly #sink: PacketSink
  readonly user: string
  #serviceAsked = false
  #serviceAccepted = false
  #inFlight: InFlight | undefined
  #banners = 0
  #bannerBytes = 0

  constructor(sink: PacketSink, user: string) {
    if (utf8Bytes(user).length > maxUserNameBytes)
      throw new UsageError(`user name: at most ${maxUserNameBytes} bytes`)
    this.#sink = sink
    this.user = user
  }

  /** Whether the server owes us an answer. */
  get waiting(): boolean {
    const inFlight = this.#inFlight
    return (
      inFlight !== undefined &&
      !(inFlight.method === 'keyboard-interactive' && inFlight.prompts !== undefined)
    )
  }

  /** RFC 4253 s10. The first request may follow at once, without waiting for the answer. */
  requestService(): void {
    if (this.#serviceAsked) return
    this.#serviceAsked = true
    serviceRequest.encode(this.#sink.begin(), { service: authService })
    this.#sink.end()
  }

  none(): void {
    this.#request('none', new Uint8Array(0), { method: 'none' })
  }

  /** Asks whether a key would do, without a signature. */
  publicKeyQuery(attempt: PublicKeyAttempt): void {
    this.#begin({ method: 'publickey-query', attempt })
    writePublicKeyRequest(this.#sink.begin(), attempt, false)
    this.#sink.end()
  }

  /** Sends a signature over `publicKeySignedData`. */
  publicKeySigned(attempt: PublicKeyAttempt, signature: Uint8Array): void {
    this.#begin({ method: 'publickey-signed' })
    const writer = this.#sink.begin()
    writePublicKeyRequest(writer, attempt, true)
    writer.string(signature)
    this.#sink.end()
  }

  password(password: string): void {
    checkPassword(password)
    this.#request('password', encodeFields(passwordFields, { change: false, password }), {
      method: 'password',
    })
  }

  passwordChange(password: string, newPassword: string): void {
    checkPassword(password)
    checkPassword(newPassword)
    this.#request('password', encodeFields(passwordChangeFields, { change: true, password, newPassword }), {
      method: 'password',
    })
  }

  keyboardInteractive(): void {
    const fields = encodeFields(keyboardInteractiveFields, { language: '', submethods: '' })
    this.#request('keyboard-interactive', fields, { method: 'keyboard-interactive', prompts: undefined })
  }

  /** Answers the prompts in flight; exactly one answer a prompt. */
  respond(answers: readonly string[]): void {
    const inFlight = this.#inFlight
    if (inFlight?.method !== 'keyboard-interactive' || inFlight.prompts !== answers.length) {
      throw new UsageError(
        `expected ${inFlight?.method === 'keyboard-interactive' ? inFlight.prompts : 'no'} answers, got ${answers.length}`,
      )
    }
    inFlight.prompts = undefined
    const responses = new Writer()
    for (const answer of answers) responses.text(answer)
    infoResponse.encode(this.#sink.begin(), { count: answers.length, responses: responses.bytes() })
    this.#sink.end()
    responses.buffer.fill(0)
  }

  #request(method: string, methodFields: Uint8Array, inFlight: InFlight): void {
    this.#begin(inFlight)
    userauthRequest.encode(this.#sink.begin(), {
      user: this.user,
      service: connectionService,
      method,
      methodFields,
    })
    this.#sink.end()
    methodFields.fill(0)
  }

  #begin(inFlight: InFlight): void {
    if (this.#inFlight !== undefined) throw new UsageError('an authentication request is in flight already')
    this.#inFlight = inFlight
    this.requestService()
  }

  /** Handles SERVICE_ACCEPT and messages 51, 52, 53, 60. Throws ProtocolError or WireError. */
  receive(type: number, payload: Uint8Array): ClientAuthEvent {
    switch (type) {
      case number.SERVICE_ACCEPT: {
        const { service } = serviceAccept.decode(payload)
        if (!this.#serviceAsked || this.#serviceAccepted || service !== authService)
          throw violation('SERVICE_ACCEPT for a service we did not ask for')
        this.#serviceAccepted = true
        return { type: 'service-accepted' }
      }
      case number.USERAUTH_BANNER: {
        const { text } = userauthBanner.decode(payload)
        this.#bannerBytes += payload.length
        if (++this.#banners > maxBanners || this.#bannerBytes > maxBannerBytes)
          throw violation('too many banners')
        return { type: 'banner', text }
      }
      case number.USERAUTH_FAILURE: {
        this.#settle('FAILURE')
        const { methods, partialSuccess } = userauthFailure.decode(payload)
        return { type: 'auth-reply', reply: { type: 'failure', methods, partialSuccess } }
      }
      case number.USERAUTH_SUCCESS:
        this.#settle('SUCCESS')
        userauthSuccess.decode(payload)
        return { type: 'auth-reply', reply: { type: 'success' } }
      default:
        return { type: 'auth-reply', reply: this.#onMethodMessage(payload) }
    }
  }

  #settle(what: string): void {
    if (this.#inFlight === undefined) throw violation(`USERAUTH_${what} with no request in flight`)
    this.#inFlight = undefined
  }

  #onMethodMessage(payload: Uint8Array): AuthReply {
    const inFlight = this.#inFlight
    switch (inFlight?.method) {
      case 'publickey-query': {
        const { algorithm, publicKey } = publicKeyOk.decode(payload)
        const { attempt } = inFlight
        // Answers for another key than the one asked about have led clients to sign with the wrong one.
        if (algorithm !== attempt.algorithm || !equalBytes(publicKey, attempt.publicKey))
          throw violation('PK_OK for another key than we asked about')
        this.#inFlight = undefined
        return { type: 'public-key-ok' }
      }
      case 'password': {
        const { prompt } = passwordChangeRequest.decode(payload)
        this.#inFlight = undefined
        return { type: 'password-change', prompt }
      }
      case 'keyboard-interactive': {
        if (inFlight.prompts !== undefined) throw violation('INFO_REQUEST while one is unanswered')
        const { name, instruction, count, prompts } = infoRequest.decode(payload)
        const list = readPrompts(count, prompts)
        inFlight.prompts = list.length
        return { type: 'prompts', name, instruction, prompts: list }
      }
      default:
        throw violation('message 60 does not belong to the method in flight')
    }
  }
}

function violation(what: string): ProtocolError {
  return new ProtocolError(what, { phase: 'authentication' })
}

function checkPassword(password: string): void {
  if (utf8Bytes(password).length > maxPasswordBytes)
    throw new UsageError(`password: at most ${maxPasswordBytes} bytes`)
}
