// Decides authentication requests of one connection by the policy: methods in their order, restrictions of every method,
// the same answer and time for names that exist and names that do not. Knows no messages; auth/server-auth.ts decodes,
// verifies signatures and counts. Owns what was passed so far, and the keyboard-interactive exchange in progress.

import type { MethodOrder } from '../auth/method-order.ts'
import type { Restrictions } from '../auth/permissions.ts'
import { isTouchEnough, permissionsUnder, refusalOf } from '../auth/permissions.ts'
import type { AuthAnswer, AuthRequest } from '../auth/server-auth.ts'
import type { Clock, CryptoProvider } from '../crypto/provider.ts'
import { AbortedError } from '../errors.ts'
import { matchesWildcard } from '../keys/host-pattern.ts'
import { parseSignature } from '../keys/signature.ts'
import type { ConversationStep } from './keyboard-conversation.ts'
import { KeyboardConversation } from './keyboard-conversation.ts'
import { admitPublicKey, readShownKey } from './public-key-admission.ts'
import type {
  Login,
  LoginCandidate,
  LoginVerdict,
  PassedMethod,
  ServerAuthPolicy,
} from './server-auth-policy.ts'
import { admittedUnder } from './server-auth-policy.ts'

const defaultRefusalFloorMs = 10

/** What became of one request, for logs. */
export interface LoginAttempt {
  user: string
  method: string
  outcome: 'refused' | 'partial' | 'success'
  /** Why it was refused, safe to show; the client is told nothing of it. */
  reason: string | undefined
}

export interface LoginEngineParts {
  policy: ServerAuthPolicy
  order: MethodOrder
  crypto: CryptoProvider
  /** Signature algorithms accepted from users. */
  algorithms: readonly string[]
  address: string | undefined
  now: Clock
  /** Milliseconds since 1970, for expiry times. */
  wallClock: () => number
  sleep: (ms: number) => Promise<void>
  onAttempt: (attempt: LoginAttempt) => void
  /** A callback of the application threw. */
  onFault: (error: unknown) => void
}

interface Grant {
  passed: PassedMethod
  restrictions: readonly Restrictions[]
}

type Outcome = Grant | { refusal: string } | { answer: AuthAnswer }

export class LoginEngine {
  readonly #parts: LoginEngineParts
  #user: string | undefined
  #grants: Grant[] = []
  #conversation: KeyboardConversation | undefined
  #login: Login | undefined

  constructor(parts: LoginEngineParts) {
    this.#parts = parts
  }

  /** Who got in; set before the answer 'success' is given. */
  get login(): Login | undefined {
    return this.#login
  }

  /** Methods that can continue. */
  advertised(passed: readonly string[]): readonly string[] {
    return this.#parts.order.next(passed)
  }

  /** The connection is over. */
  abandon(): void {
    this.#conversation?.abandon()
    this.#conversation = undefined
  }

  /** The answer to a request; `passed` are the methods passed by this user so far. Never rejects. */
  async decide(request: AuthRequest, passed: readonly string[]): Promise<AuthAnswer> {
    const startedAt = this.#parts.now()
    let answer: AuthAnswer
    try {
      answer = this.#answerTo(request, passed, await this.#try(request, passed))
    } catch (error) {
      if (!(error instanceof AbortedError)) this.#parts.onFault(error)
      answer = this.#refuse(request, passed, 'the policy failed')
    }
    if (this.#mustWait(request, answer)) await this.#waitUntilFloor(startedAt)
    return answer
  }

  /** Whatever depends on the name must not show in the time. A login and a right key are no secrets from their owners. */
  #mustWait(request: AuthRequest, answer: AuthAnswer): boolean {
    if (request.method === 'none' && this.#parts.policy.insecureAllowNone === undefined) return false
    return answer.type !== 'success' && answer.type !== 'public-key-ok'
  }

  async #waitUntilFloor(startedAt: number): Promise<void> {
    const floor = this.#parts.policy.refusalFloorMs ?? defaultRefusalFloorMs
    if (floor <= 0) return
    const elapsed = this.#parts.now() - startedAt
    let target = floor
    while (target < elapsed) target *= 2
    await this.#parts.sleep(target - elapsed)
  }

  async #try(request: AuthRequest, passed: readonly string[]): Promise<Outcome> {
    this.#forgetOtherUser(request.user, passed)
    if (request.method !== 'keyboard-interactive-answers') this.abandon()
    const { policy, address } = this.#parts
    const candidate: LoginCandidate = { user: request.user, address }
    switch (request.method) {
      case 'none':
        return this.#judge(candidate, await policy.insecureAllowNone?.(candidate), { method: 'none' })
      case 'password': {
        const { password, newPassword } = request
        const verdict = await policy.password?.({ ...candidate, password, newPassword })
        if (typeof verdict === 'object' && verdict !== null && 'change' in verdict)
          return { answer: { type: 'password-change', prompt: verdict.change } }
        return this.#judge(candidate, verdict, { method: 'password' })
      }
      case 'publickey':
        return this.#tryPublicKey(request, candidate)
      case 'keyboard-interactive': {
        const { keyboardInteractive } = policy
        if (keyboardInteractive === undefined) return { refusal: 'the method is not offered' }
        const { submethods } = request
        this.#conversation = new KeyboardConversation((ask) =>
          keyboardInteractive({ ...candidate, submethods, ask }),
        )
        return this.#onStep(candidate, await this.#conversation.start())
      }
      case 'keyboard-interactive-answers':
        if (this.#conversation === undefined) return { refusal: 'no question was asked' }
        return this.#onStep(candidate, await this.#conversation.answer(request.answers))
    }
  }

  /** RFC 4252 s5: what one user passed counts for nobody else. */
  #forgetOtherUser(user: string, passed: readonly string[]): void {
    if (this.#user === user && this.#grants.length === passed.length) return
    this.#user = user
    this.#grants = []
    this.abandon()
  }

  #onStep(candidate: LoginCandidate, step: ConversationStep): Promise<Outcome> | Outcome {
    if (step.type === 'prompts') return { answer: step }
    this.#conversation = undefined
    return this.#judge(candidate, step.verdict, { method: 'keyboard-interactive' })
  }

  async #tryPublicKey(
    request: Extract<AuthRequest, { method: 'publickey' }>,
    candidate: LoginCandidate,
  ): Promise<Outcome> {
    const { policy, crypto, wallClock, algorithms } = this.#parts
    const shown = readShownKey(request.algorithm, request.publicKey, algorithms)
    if (shown === undefined) return { refusal: 'the key cannot be read, or does not fit its algorithm' }
    const admission = await admitPublicKey({ policy, crypto, candidate, now: wallClock() }, shown)
    if ('refusal' in admission) return admission
    const { passed } = admission
    const isUsed = this.#grants.some(
      (grant) =>
        grant.passed.method === 'publickey' &&
        passed.method === 'publickey' &&
        grant.passed.fingerprint === passed.fingerprint,
    )
    if (isUsed) return { refusal: 'the key was used already' }
    const outcome = await this.#underAccount(candidate, admission)
    if ('refusal' in outcome) return outcome
    if (!request.signed) return { answer: { type: 'public-key-ok' } }
    if (!request.signatureValid) return { refusal: 'the signature is wrong' }
    const tail = request.signature === undefined ? undefined : parseSignature(request.signature).tail
    if (tail !== undefined && !isTouchEnough(outcome.restrictions, tail))
      return { refusal: 'the security key was not touched, or did not verify its user' }
    return outcome
  }

  async #judge(
    candidate: LoginCandidate,
    verdict: LoginVerdict,
    passed: PassedMethod,
  ): Promise<Grant | { refusal: string }> {
    // The account is looked at in any case, so that a wrong password takes no other path than an unknown name.
    const restrictions = admittedUnder(verdict)
    const outcome = await this.#underAccount(candidate, { passed, restrictions: restrictions ?? [] })
    return restrictions === undefined ? { refusal: `${passed.method} was refused` } : outcome
  }

  /** Adds what holds for every way in, and applies all conditions, whatever the method. */
  async #underAccount(candidate: LoginCandidate, grant: Grant): Promise<Grant | { refusal: string }> {
    const { policy, wallClock } = this.#parts
    const account = admittedUnder(policy.account === undefined ? true : await policy.account(candidate))
    if (account === undefined) return { refusal: 'there is no such account' }
    const restrictions = [...grant.restrictions, ...account]
    for (const restriction of restrictions) {
      const refusal = refusalOf(restriction, { address: candidate.address, now: wallClock() })
      if (refusal !== undefined) return { refusal }
    }
    return { passed: grant.passed, restrictions }
  }

  #answerTo(request: AuthRequest, passed: readonly string[], outcome: Outcome): AuthAnswer {
    if ('answer' in outcome) return outcome.answer
    if ('refusal' in outcome) return this.#refuse(request, passed, outcome.refusal)
    const { order } = this.#parts
    const grants = [...this.#grants, outcome]
    const methods = [...passed, outcome.passed.method]
    if (outcome.passed.method !== 'none' && !order.isComplete(methods)) {
      const next = order.next(methods)
      if (next.length === 0) return this.#refuse(request, passed, 'the method is out of order')
      this.#grants = grants
      this.#tell(request, 'partial')
      return { type: 'failure', methods: next, partial: true }
    }
    const permissions = permissionsUnder(grants.flatMap(({ restrictions }) => restrictions))
    if (permissions === undefined)
      return this.#refuse(request, passed, 'two forced commands contradict each other')
    const wanted = this.#parts.policy.userEnvironment ?? []
    const environment = new Map(
      [...permissions.environment].filter(([name]) =>
        wanted.some((pattern) => matchesWildcard(name, pattern)),
      ),
    )
    this.#login = {
      user: request.user,
      address: this.#parts.address,
      methods: grants.map((grant) => grant.passed),
      permissions: { ...permissions, environment },
    }
    this.#tell(request, 'success')
    return { type: 'success' }
  }

  #refuse(request: AuthRequest, passed: readonly string[], reason: string): AuthAnswer {
    // Clients ask with 'none' what there is; that is no attempt worth a line in a log.
    if (request.method !== 'none' || this.#parts.policy.insecureAllowNone !== undefined)
      this.#tell(request, 'refused', reason)
    return { type: 'failure', methods: this.advertised(passed) }
  }

  #tell(request: AuthRequest, outcome: LoginAttempt['outcome'], reason?: string): void {
    const method = request.method === 'keyboard-interactive-answers' ? 'keyboard-interactive' : request.method
    this.#parts.onAttempt({ user: request.user, method, outcome, reason })
  }
}
