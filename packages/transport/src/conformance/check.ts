// A named check, what it found, and a runner. Knows nothing of SSH: the same form serves the checks of SFTP.

import { safeText } from '../errors.ts'
import { NotApplicable, Unexpected } from './arrival.ts'

/**
 * How binding the clause is: 'must' for MUST and MUST NOT (and for OpenSSH's extensions once they are announced), 'should'
 * for SHOULD, 'guard' where the standard leaves it open, and everything else has been a hole in some implementation.
 */
export type Level = 'must' | 'should' | 'guard'

export interface Check<Trial> {
  /** Stable name for expectation files: group, dot, rule. */
  readonly id: string
  /** The rule as a claim about the peer: '... ends the connection when ...'. */
  readonly claim: string
  /** Where the rule is: 'RFC 4253 s4.2'. */
  readonly clause: string
  readonly level: Level
  /** Passes with what came, in words; throws Unexpected where the peer breaks the rule, NotApplicable where it has none. */
  readonly run: (trial: Trial) => Promise<string>
}

export type Outcome = 'pass' | 'fail' | 'not-applicable'

export interface CheckResult {
  readonly id: string
  readonly claim: string
  readonly clause: string
  readonly level: Level
  readonly outcome: Outcome
  /** What came, in words; for 'not-applicable' why. */
  readonly came: string
  readonly elapsedMs: number
}

/** Declares a check. */
export function check<Trial>(
  id: string,
  claim: string,
  clause: string,
  level: Level,
  run: (trial: Trial) => Promise<string>,
): Check<Trial> {
  return { id, claim, clause, level, run }
}

export interface RunOptions {
  /** Checks at once; 4 where left out. */
  readonly concurrency?: number
  /** Which checks to run, by id; all where left out. */
  readonly only?: (id: string) => boolean
  /** Called with each result as it is there. */
  readonly onResult?: (result: CheckResult) => void
  /** After how long a check counts as failed, in milliseconds. */
  readonly timeoutMs?: number
}

/** Checks at once, and connections at once in a table of one check, unless told otherwise. */
export const defaultConcurrency = 4
const defaultTimeoutMs = 60_000
const maxCameLength = 400

/**
 * Runs checks, several at once, each with a trial of its own that `begin` makes and `end` clears away.
 * @returns the results in the order of the checks, whatever order they ended in.
 */
export async function runChecks<Trial>(
  checks: readonly Check<Trial>[],
  begin: () => { trial: Trial; end: () => void | Promise<void> },
  options: RunOptions = {},
): Promise<CheckResult[]> {
  const wanted = checks.filter(({ id }) => options.only?.(id) ?? true)
  const results: CheckResult[] = new Array(wanted.length)
  let next = 0
  const worker = async (): Promise<void> => {
    for (let at = next++; at < wanted.length; at = next++) {
      const result = await runCheck(wanted[at]!, begin, options.timeoutMs ?? defaultTimeoutMs)
      results[at] = result
      options.onResult?.(result)
    }
  }
  await Promise.all(Array.from({ length: options.concurrency ?? defaultConcurrency }, worker))
  return results
}

async function runCheck<Trial>(
  one: Check<Trial>,
  begin: () => { trial: Trial; end: () => void | Promise<void> },
  timeoutMs: number,
): Promise<CheckResult> {
  const startedAt = performance.now()
  const { trial, end } = begin()
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Unexpected('an end of the check', `none in ${timeoutMs} ms`)),
      timeoutMs,
    )
  })
  let outcome: Outcome
  let came: string
  try {
    came = await Promise.race([one.run(trial), late])
    outcome = 'pass'
  } catch (error) {
    outcome = error instanceof NotApplicable ? 'not-applicable' : 'fail'
    came = error instanceof Error ? error.message : String(error)
  } finally {
    clearTimeout(timer)
    await end()
  }
  const { id, claim, clause, level } = one
  return {
    id,
    claim,
    clause,
    level,
    outcome,
    came: safeText(came, maxCameLength),
    elapsedMs: Math.round(performance.now() - startedAt),
  }
}
