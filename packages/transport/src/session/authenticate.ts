// Policy of authentication on the client's side: which method comes next, when to stop, what to tell when nothing helped.
// The protocol half is auth/client-auth.ts; here promises begin, because agents, files and people answer when they can.

import type { AuthReply, ClientAuth } from '../auth/client-auth.ts'
import { connectionService } from '../auth/client-auth.ts'
import type { Prompt } from '../auth/prompts.ts'
import type { PublicKeyAttempt } from '../auth/signed-data.ts'
import { publicKeySignedData } from '../auth/signed-data.ts'
import type { ExchangeProof } from '../core/key-exchange.ts'
import type { AuthAttempt } from '../errors.ts'
import { AuthError, quote, safeText, UsageError } from '../errors.ts'
import type { AgentSigning, Signer } from '../keys/signer.ts'
import { signerFromAgent } from '../keys/signer.ts'
import { maxAuthTries } from '../limits.ts'

/** What authentication needs of an agent; AgentClient and the in-memory agent have it. */
export interface AuthAgent extends AgentSigning {
  list(): Promise<readonly { keyBlob: Uint8Array; comment: string }[]>
  /** session-bind@openssh.com; false where the agent does not know it. */
  bindSession?(binding: {
    hostKey: Uint8Array
    sessionId: Uint8Array
    signature: Uint8Array
    forwarding: boolean
  }): Promise<boolean>
  /** Called where the agent was opened for this login and no more is wanted of it. */
  close?(): void
}

export interface KeyboardInteractiveRequest {
  /** The server's texts, raw: show them through safeText. */
  name: string
  instruction: string
  prompts: readonly Prompt[]
}

/** One way to get in. Tried in the order given, as far as the server allows them. */
export type AuthMethod =
  | { type: 'none' }
  /** Every identity of an agent, in its order. */
  | { type: 'agent'; agent: AuthAgent | (() => Promise<AuthAgent>); description?: string }
  /** One key or certificate. */
  | { type: 'publickey'; signer: Signer | (() => Promise<Signer>); description?: string }
  /** A password; a function is asked up to three times and may give up with undefined. */
  | {
      type: 'password'
      password: string | ((attempt: number) => Promise<string | undefined>)
      /** Asked when the server demands a new password. */
      onChange?: (prompt: string) => Promise<string | undefined>
    }
  | {
      type: 'keyboard-interactive'
      respond: (request: KeyboardInteractiveRequest) => Promise<readonly string[]> | readonly string[]
    }

/** How we got in. */
export interface AuthOutcome {
  method: string
  /** Which key, agent or prompt, for people. */
  source: string
  /** Blob of the key that was used. */
  publicKey: Uint8Array | undefined
  /** Whether the server asked for any proof: false after 'none' and after keyboard-interactive without a prompt. */
  proved: boolean
}

export interface AuthContext {
  auth: ClientAuth
  proof: ExchangeProof
  /**
   * Lets a request out and waits for its answer; rejects when the connection ends. `mayBeLast`: it is likely to be answered by
   * success, so that what comes then may be sent behind it.
   */
  ask: (send: () => void, options?: { mayBeLast?: boolean }) => Promise<AuthReply>
  /** Whether the connection is over. */
  hasFailed: () => boolean
  /** Algorithms the server says it takes from users; undefined where it did not say. */
  signatureAlgorithms: readonly string[] | undefined
  /** Whether the server knows publickey-hostbound-v00@openssh.com. */
  hostBound: boolean
  methods: readonly AuthMethod[]
  /** Refused attempts after which to stop, before the server's own limit ends the connection. */
  maxTries?: number
}

const maxPasswordPrompts = 3

/** Gets us in, or throws AuthError that lists what was tried, what the server allows and why each failed. */
export async function authenticate(context: AuthContext): Promise<AuthOutcome> {
  return new Authentication(context).run()
}

class Authentication {
  readonly #context: AuthContext
  readonly #attempts: AuthAttempt[] = []
  #allowed: readonly string[] | undefined
  #refused = 0
  readonly #maxRefused: number
  /** Set by partial success: methods that were skipped or refused may be wanted now. */
  #startOver = false

  constructor(context: AuthContext) {
    this.#context = context
    this.#maxRefused = (context.maxTries ?? maxAuthTries) - 1
  }

  async run(): Promise<AuthOutcome> {
    let waiting = [...this.#context.methods]
    const accepted = new Set<AuthMethod>()
    for (;;) {
      this.#startOver = false
      const skipped: AuthMethod[] = []
      while (waiting.length > 0) {
        const method = waiting.shift()!
        if (!this.#isAllowed(method)) {
          skipped.push(method)
          continue
        }
        const outcome = await this.#try(method, waiting.length)
        if (outcome !== undefined) return outcome
        if (this.#startOver) {
          accepted.add(method)
          break
        }
        if (this.#refused >= this.#maxRefused && waiting.length > 0)
          throw this.#error(`stopped after ${this.#refused} refused attempts, before the server's limit`)
      }
      if (this.#startOver) {
        // What was refused before may be welcome now: servers can demand an order.
        waiting = this.#context.methods.filter((method) => !accepted.has(method))
        continue
      }
      // Nothing has told us yet what the server wants: ask, for the error or for what was skipped (RFC 4252 s5.2).
      if (this.#allowed === undefined) {
        const outcome = await this.#none()
        if (outcome !== undefined) return outcome
      }
      for (const method of skipped)
        this.#attempts.push({
          method: protocolMethod(method),
          source: sourceOf(method),
          reason: 'not offered by the server',
        })
      throw this.#error(
        this.#context.methods.length === 0
          ? 'no authentication method was given'
          : 'no authentication method succeeded',
      )
    }
  }

  /** Who was refused once may well be refused again. */
  get #isFirstAttempt(): boolean {
    return this.#allowed === undefined
  }

  #isAllowed(method: AuthMethod): boolean {
    return (
      this.#allowed === undefined || method.type === 'none' || this.#allowed.includes(protocolMethod(method))
    )
  }

  #try(method: AuthMethod, othersWaiting: number): Promise<AuthOutcome | undefined> {
    switch (method.type) {
      case 'none':
        return this.#none()
      case 'agent':
        return this.#agent(method, othersWaiting)
      case 'publickey':
        return this.#key(method)
      case 'password':
        return this.#password(method)
      case 'keyboard-interactive':
        return this.#keyboardInteractive(method)
    }
  }

  async #none(): Promise<AuthOutcome | undefined> {
    const reply = await this.#context.ask(() => this.#context.auth.none())
    return this.#outcome(reply, 'none', 'none', undefined, false)
  }

  /** Turns a final reply into an outcome, or notes the failure. */
  #outcome(
    reply: AuthReply,
    method: string,
    source: string,
    publicKey: Uint8Array | undefined,
    counts = true,
  ): AuthOutcome | undefined {
    switch (reply.type) {
      case 'success':
        return { method, source, publicKey, proved: method !== 'none' }
      case 'failure':
        this.#allowed = reply.methods
        if (reply.partialSuccess) {
          this.#startOver = true
          this.#attempts.push({
            method,
            source,
            reason: `accepted, but the server wants more: ${safeText(reply.methods.join(', '))}`,
          })
        } else {
          if (counts) this.#refused++
          this.#attempts.push({ method, source, reason: 'refused by the server' })
        }
        return undefined
      default:
        this.#attempts.push({ method, source, reason: 'the server answered something else' })
        return undefined
    }
  }

  async #agent(
    method: Extract<AuthMethod, { type: 'agent' }>,
    othersWaiting: number,
  ): Promise<AuthOutcome | undefined> {
    const source = sourceOf(method)
    let agent: AuthAgent | undefined
    try {
      agent = typeof method.agent === 'function' ? await method.agent() : method.agent
      const identities = await agent.list()
      return await this.#identities(agent, identities, source, othersWaiting)
    } catch (error) {
      this.#note('publickey', source, error)
      return undefined
    } finally {
      if (typeof method.agent === 'function') agent?.close?.()
    }
  }

  async #identities(
    agent: AuthAgent,
    identities: readonly { keyBlob: Uint8Array; comment: string }[],
    source: string,
    othersWaiting: number,
  ): Promise<AuthOutcome | undefined> {
    if (identities.length === 0)
      this.#attempts.push({ method: 'publickey', source, reason: 'the agent holds no identities' })
    let bound = false
    for (const identity of identities) {
      const name = `${source}, key ${quote(identity.comment, 64)}`
      // Leave the methods that follow a try each.
      if (this.#refused + othersWaiting >= this.#maxRefused) {
        this.#attempts.push({
          method: 'publickey',
          source: name,
          reason: 'not tried: the server would close the connection',
        })
        continue
      }
      let signer: Signer
      try {
        signer = signerFromAgent(agent, identity)
      } catch (error) {
        this.#note('publickey', name, error)
        continue
      }
      if (!bound) {
        bound = true
        // PROTOCOL.agent s1: before the first signature, so that destination constraints can be checked.
        await agent.bindSession?.({ ...this.#context.proof, forwarding: false }).catch(() => false)
      }
      const outcome = await this.#sign(signer, name, identities.length > 1)
      if (outcome !== undefined || this.#startOver) return outcome
    }
    return undefined
  }

  async #key(method: Extract<AuthMethod, { type: 'publickey' }>): Promise<AuthOutcome | undefined> {
    let signer: Signer
    try {
      signer = typeof method.signer === 'function' ? await method.signer() : method.signer
    } catch (error) {
      this.#note('publickey', sourceOf(method), error)
      return undefined
    }
    return this.#sign(signer, method.description ?? `key ${quote(signer.comment, 64)}`, false)
  }

  /** Signs at once, or asks first whether the key would do (where a signature may bother somebody). */
  async #sign(signer: Signer, source: string, askFirst: boolean): Promise<AuthOutcome | undefined> {
    const { auth, proof, ask, hostBound } = this.#context
    const algorithm = this.#algorithm(signer)
    if (algorithm === undefined) {
      this.#attempts.push({
        method: 'publickey',
        source,
        reason: `the server takes none of ${signer.algorithms.join(', ')}`,
      })
      return undefined
    }
    const attempt: PublicKeyAttempt = {
      user: auth.user,
      service: connectionService,
      algorithm,
      publicKey: signer.publicKeyBlob,
      hostKey: hostBound ? proof.hostKey : undefined,
    }
    if (askFirst) {
      const reply = await ask(() => auth.publicKeyQuery(attempt))
      if (reply.type !== 'public-key-ok')
        return this.#outcome(reply, 'publickey', source, signer.publicKeyBlob)
    }
    let signature: Uint8Array
    try {
      signature = await signer.sign(algorithm, publicKeySignedData(proof.sessionId, attempt))
    } catch (error) {
      this.#note('publickey', source, error)
      return undefined
    }
    return this.#outcome(
      await ask(() => auth.publicKeySigned(attempt, signature), {
        mayBeLast: askFirst || this.#isFirstAttempt,
      }),
      'publickey',
      source,
      signer.publicKeyBlob,
    )
  }

  /** RFC 8308 s3.1; servers that say nothing, or nothing that fits, still get our best (RFC 8332 s3.3). */
  #algorithm(signer: Signer): string | undefined {
    const theirs = this.#context.signatureAlgorithms
    return signer.algorithms.find((name) => theirs?.includes(name) === true) ?? signer.algorithms[0]
  }

  async #password(method: Extract<AuthMethod, { type: 'password' }>): Promise<AuthOutcome | undefined> {
    const { auth, ask } = this.#context
    const tries = typeof method.password === 'string' ? 1 : maxPasswordPrompts
    for (let i = 1; i <= tries; i++) {
      let password: string | undefined
      try {
        password = typeof method.password === 'string' ? method.password : await method.password(i)
      } catch (error) {
        this.#note('password', 'password', error)
        return undefined
      }
      if (password === undefined) {
        this.#attempts.push({ method: 'password', source: 'password', reason: 'none was given' })
        return undefined
      }
      const given = password
      let reply = await ask(() => auth.password(given), { mayBeLast: this.#isFirstAttempt })
      if (reply.type === 'password-change') {
        const newPassword = await method.onChange?.(reply.prompt)
        if (newPassword === undefined) {
          this.#attempts.push({
            method: 'password',
            source: 'password',
            reason: `the server demands a new password: ${quote(reply.prompt)}`,
          })
          return undefined
        }
        reply = await ask(() => auth.passwordChange(given, newPassword))
      }
      const outcome = this.#outcome(reply, 'password', 'password', undefined)
      if (outcome !== undefined || this.#startOver || this.#allowed?.includes('password') === false)
        return outcome
    }
    return undefined
  }

  async #keyboardInteractive(
    method: Extract<AuthMethod, { type: 'keyboard-interactive' }>,
  ): Promise<AuthOutcome | undefined> {
    const { auth, ask } = this.#context
    let reply = await ask(() => auth.keyboardInteractive())
    let asked = 0
    while (reply.type === 'prompts') {
      const { name, instruction, prompts } = reply
      // A request without prompts is a message; there is nothing to ask anybody (RFC 4256 s3.4).
      const answers = prompts.length === 0 ? [] : await method.respond({ name, instruction, prompts })
      if (answers.length !== prompts.length)
        throw new UsageError(
          `keyboard-interactive: ${prompts.length} prompts, but respond() gave ${answers.length} answers`,
        )
      asked += prompts.length
      reply = await ask(() => auth.respond(answers))
    }
    const outcome = this.#outcome(reply, 'keyboard-interactive', 'keyboard-interactive', undefined)
    return outcome === undefined ? undefined : { ...outcome, proved: asked > 0 }
  }

  #note(method: string, source: string, error: unknown): void {
    // What the connection itself died of is not a failed attempt.
    if (this.#context.hasFailed()) throw error
    this.#attempts.push({
      method,
      source,
      reason: safeText(error instanceof Error ? error.message : String(error)),
    })
  }

  #error(summary: string): AuthError {
    const allowed = this.#allowed ?? []
    const tried = this.#attempts.map(
      ({ method, source, reason }) => `${method}${source === method ? '' : ` (${source})`}: ${reason}`,
    )
    const offers = allowed.length === 0 ? 'nothing' : safeText(allowed.join(', '))
    return new AuthError(
      `authentication of user ${quote(this.#context.auth.user)} failed: ${summary}; the server allows ${offers}${tried.length === 0 ? '' : `; tried ${tried.join('; ')}`}`,
      this.#attempts,
      allowed,
    )
  }
}

/** The method's name in the protocol. */
function protocolMethod(method: AuthMethod): string {
  return method.type === 'agent' ? 'publickey' : method.type
}

function sourceOf(method: AuthMethod): string {
  if ((method.type === 'agent' || method.type === 'publickey') && method.description !== undefined)
    return method.description
  return method.type === 'publickey' ? 'key' : method.type
}
