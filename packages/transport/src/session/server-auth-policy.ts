// Whom a server lets in: what an application says about it, and what a login is in the end.
// Everything left out is refused. The engine that asks these questions is login-engine.ts.

import type { AuthorizedKeys } from '../auth/authorized-keys.ts'
import type { Permissions, Restrictions } from '../auth/permissions.ts'
import type { Prompt } from '../auth/prompts.ts'
import type { MaybePromise } from '../crypto/provider.ts'
import type { Certificate } from '../keys/certificate.ts'
import type { PublicKey } from '../keys/public-key.ts'

/** True lets in, restrictions let in under these, everything else keeps out. */
export type LoginVerdict = boolean | Restrictions | undefined

/** The restrictions in a verdict; undefined where it keeps out. Nothing but `true` and an object lets in. */
export function admittedUnder(verdict: LoginVerdict): readonly Restrictions[] | undefined {
  if (verdict === true) return []
  return typeof verdict === 'object' && verdict !== null ? [verdict] : undefined
}

/** Who knocks. */
export interface LoginCandidate {
  /** As the client wrote it, raw: check it before it becomes part of a path or a command. */
  readonly user: string
  /** The client's address without IPv6's way of writing IPv4; undefined where there is none (UNIX sockets, memory). */
  readonly address: string | undefined
}

export interface PublicKeyCandidate extends LoginCandidate {
  /** The plain key, also where a certificate was shown. */
  readonly publicKey: PublicKey
  /** 'SHA256:...' of the plain key. */
  readonly fingerprint: string
  /** What was shown, where it is a certificate. Nothing about it has been checked: neither its CA nor its times. */
  readonly certificate: Certificate | undefined
}

export interface PasswordCandidate extends LoginCandidate {
  /** At most 1024 bytes. */
  readonly password: string
  /** The password to be set, where the client answers a demand for a new one. */
  readonly newPassword: string | undefined
}

/** Questions to the person at the other end (RFC 4256). */
export interface KeyboardInteractiveCandidate extends LoginCandidate {
  /** What the client would like, as a comma-separated list; mostly empty. */
  readonly submethods: string
  /**
   * Asks and waits for as many answers as there are prompts (at most 32; none just shows the instruction).
   * @throws AbortedError where the client gives up.
   */
  ask(question: {
    name?: string
    instruction?: string
    prompts: readonly Prompt[]
  }): Promise<readonly string[]>
}

/**
 * What the server's application says about logins. Callbacks may be asynchronous; one that throws keeps out. They are
 * called for names that do not exist, too: answer these like any other name, and the client cannot tell them apart.
 */
export interface ServerAuthPolicy {
  /**
   * Whether there is such a user, and what holds for every way in. Asked in every attempt besides the method's own question.
   * Left out: whoever passes a method is a user.
   */
  account?: (candidate: LoginCandidate) => MaybePromise<LoginVerdict>
  /** Text of the user's authorized_keys, or the parsed keys; undefined for none. */
  authorizedKeys?: (user: string) => MaybePromise<string | AuthorizedKeys | undefined>
  /** CAs whose user certificates are accepted (TrustedUserCAKeys). */
  trustedUserCas?: readonly PublicKey[]
  /** Names of which a certificate of a trusted CA must hold one to let in as `user`; the user's own where left out. */
  authorizedPrincipals?: (user: string) => MaybePromise<readonly string[]>
  /** Asked about keys that nothing above lets in. */
  publicKey?: (candidate: PublicKeyCandidate) => MaybePromise<LoginVerdict>
  /** Checks a password; `{ change }` demands a new one with that prompt. */
  password?: (candidate: PasswordCandidate) => MaybePromise<LoginVerdict | { change: string }>
  keyboardInteractive?: (candidate: KeyboardInteractiveCandidate) => Promise<LoginVerdict>
  /** Lets in without any proof (RFC 4252 s5.2). */
  insecureAllowNone?: (candidate: LoginCandidate) => MaybePromise<LoginVerdict>
  /**
   * Ways in, each a list of methods to be passed in this order, as AuthenticationMethods of sshd_config:
   * ['publickey,password']. Any one method where left out.
   */
  order?: readonly string[]
  /** Variables of `environment=` in authorized_keys that are applied, as patterns ('LC_*'); none where left out. */
  userEnvironment?: readonly string[]
  /** Refused attempts per connection, whatever their kind; 6 where left out. One more ends the connection. */
  maxTries?: number
  /**
   * Refusals are answered after this many milliseconds, or twice, four times, ... as many where checking took longer, so
   * that the time does not tell whether a name exists. 10 where left out, 0 for at once.
   */
  refusalFloorMs?: number
}

/** One method that was passed. */
export type PassedMethod =
  | { readonly method: 'password' | 'keyboard-interactive' | 'none' }
  | {
      readonly method: 'publickey'
      /** The plain key whose signature was verified. */
      readonly publicKey: PublicKey
      readonly fingerprint: string
      /** The certificate that let it in. */
      readonly certificate: Certificate | undefined
      /** The line of authorized_keys that let it in, and its comment. */
      readonly authorizedKey: { readonly line: number; readonly comment: string } | undefined
    }

/** Who is in, how, and what they may do. */
export interface Login {
  readonly user: string
  readonly address: string | undefined
  /** In the order in which they were passed. */
  readonly methods: readonly PassedMethod[]
  readonly permissions: Permissions
}
