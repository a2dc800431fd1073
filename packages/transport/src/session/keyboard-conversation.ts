// A keyboard-interactive exchange (RFC 4256) turned around: the application's function asks and waits, the protocol asks what
// comes next. One question at a time; a client that goes away or starts anew aborts the function's wait.

import type { Prompt } from '../auth/prompts.ts'
import { AbortedError, UsageError } from '../errors.ts'
import { maxPrompts } from '../limits.ts'
import type { KeyboardInteractiveCandidate, LoginVerdict } from './server-auth-policy.ts'

export type ConversationStep =
  | { type: 'prompts'; name: string; instruction: string; prompts: readonly Prompt[] }
  | { type: 'done'; verdict: LoginVerdict }

type Ask = KeyboardInteractiveCandidate['ask']

export class KeyboardConversation {
  readonly #run: (ask: Ask) => Promise<LoginVerdict>
  #answered: { resolve: (answers: readonly string[]) => void; reject: (error: Error) => void } | undefined
  #onStep: { resolve: (step: ConversationStep) => void; reject: (error: unknown) => void } | undefined
  #isOver = false

  constructor(run: (ask: Ask) => Promise<LoginVerdict>) {
    this.#run = run
  }

  /** Runs the application's function up to its first question or its verdict. */
  start(): Promise<ConversationStep> {
    return this.#step(() => {
      this.#run((question) => this.#ask(question)).then(
        (verdict) => this.#finish(() => this.#onStep?.resolve({ type: 'done', verdict })),
        (error) => this.#finish(() => this.#onStep?.reject(error)),
      )
    })
  }

  /** Gives the answers to the open question. */
  answer(answers: readonly string[]): Promise<ConversationStep> {
    return this.#step(() => {
      const answered = this.#answered
      this.#answered = undefined
      answered?.resolve(answers)
    })
  }

  /** The client does not go on. */
  abandon(): void {
    if (this.#isOver) return
    this.#isOver = true
    const aborted = new AbortedError('keyboard-interactive authentication')
    this.#answered?.reject(aborted)
    this.#answered = undefined
    this.#onStep?.reject(aborted)
  }

  #step(begin: () => void): Promise<ConversationStep> {
    return new Promise((resolve, reject) => {
      this.#onStep = { resolve, reject }
      begin()
    })
  }

  #finish(tell: () => void): void {
    if (this.#isOver) return
    this.#isOver = true
    tell()
  }

  #ask(question: Parameters<Ask>[0]): Promise<readonly string[]> {
    const { name = '', instruction = '', prompts } = question
    return new Promise((resolve, reject) => {
      if (this.#isOver) return reject(new AbortedError('keyboard-interactive authentication'))
      if (this.#answered !== undefined)
        return reject(new UsageError('keyboard-interactive: a question is open already'))
      if (prompts.length > maxPrompts)
        return reject(
          new UsageError(`keyboard-interactive: ${prompts.length} prompts, at most ${maxPrompts}`),
        )
      this.#answered = { resolve, reject }
      this.#onStep?.resolve({ type: 'prompts', name, instruction, prompts })
    })
  }
}
