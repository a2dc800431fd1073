// Which methods must be passed, and in which order (sshd_config(5) AuthenticationMethods). Pure: what is advertised follows
// from what was passed, and what is not advertised is not reachable.

import { quote, UsageError } from '../errors.ts'

/** Methods a server can offer. */
export type AuthMethodName = 'publickey' | 'password' | 'keyboard-interactive'

export class MethodOrder {
  readonly #chains: readonly (readonly AuthMethodName[])[]

  /** @param chains each a way in: the methods that must be passed, in order. */
  constructor(chains: readonly (readonly AuthMethodName[])[]) {
    this.#chains = chains
  }

  /**
   * Reads lists as sshd_config has them: ['publickey,password', 'publickey,keyboard-interactive'].
   * @param available methods that the server can check; each of them alone is a way in where `lists` is left out.
   * @throws UsageError for a list that is empty or names a method that cannot be checked.
   */
  static parse(lists: readonly string[] | undefined, available: readonly AuthMethodName[]): MethodOrder {
    if (lists === undefined) return new MethodOrder(available.map((method) => [method]))
    const chains = lists.map((list) =>
      list.split(',').map((name) => {
        const method = available.find((known) => known === name.trim())
        if (method === undefined)
          throw new UsageError(
            `auth.order: ${quote(name)} is not one of ${available.join(', ')}, which this server can check`,
          )
        return method
      }),
    )
    if (chains.length === 0) throw new UsageError('auth.order: expected at least one list of methods')
    return new MethodOrder(chains)
  }

  /** What may come next, in order of preference. */
  next(passed: readonly string[]): AuthMethodName[] {
    const names = this.#chains.flatMap((chain) =>
      startsWith(chain, passed) ? chain.slice(passed.length, passed.length + 1) : [],
    )
    return [...new Set(names)]
  }

  /** Whether that is enough to be let in. */
  isComplete(passed: readonly string[]): boolean {
    return this.#chains.some((chain) => chain.length === passed.length && startsWith(chain, passed))
  }
}

function startsWith(chain: readonly string[], passed: readonly string[]): boolean {
  return passed.length <= chain.length && passed.every((method, i) => chain[i] === method)
}
