/**
 * What a test needs from the machine. A missing peer skips its tests loudly, with the way to install it; where CI=true
 * it fails them, because there `.ci/run` has installed everything.
 */
import { describe, TestRunner, test } from 'vitest'
import { findProgram, findPython } from './program.ts'

export interface Requirement {
  readonly name: string
  /** Undefined where the requirement is met; else what is missing and how to get it. */
  readonly missing: string | undefined
}

export class MissingPeerError extends Error {
  override readonly name = 'MissingPeerError'
}

/** Programs by name, from one Debian package. */
export function needsPrograms(name: string, programs: readonly string[], debianPackage: string): Requirement {
  const absent = programs.filter((program) => findProgram(program) === undefined)
  return {
    name,
    missing: absent.length === 0 ? undefined : `${absent.join(', ')} (apt-get install ${debianPackage})`,
  }
}

/** A Python module as Debian packages it. */
export function needsPythonModule(module: string): Requirement {
  const found = findPython(module) !== undefined
  return {
    name: module,
    missing: found ? undefined : `the Python module ${module} (apt-get install python3-${module})`,
  }
}

export const needsRoot: Requirement = {
  name: 'root',
  missing:
    process.getuid?.() === 0 ? undefined : 'the rights to make namespaces and mounts (run the tests as root)',
}

/** True where a missing peer is a failure. */
export function isCi(): boolean {
  return process.env['CI'] === 'true'
}

function whatIsMissing(requirements: readonly Requirement[]): string | undefined {
  const absent = requirements.filter((requirement) => requirement.missing !== undefined)
  return absent.length === 0 ? undefined : absent.map(({ name, missing }) => `${name}: ${missing}`).join('; ')
}

/**
 * `describe` for tests that need peers.
 *
 * @param requirements all of them have to be met
 * @param ci whether a missing one is a failure; for this file's own test
 */
export function describeWith(
  requirements: readonly Requirement[],
  title: string,
  body: () => void,
  ci = isCi(),
): void {
  const missing = whatIsMissing(requirements)
  if (missing === undefined) {
    describe(title, body)
  } else if (ci) {
    describe(title, () => {
      test('has every peer it needs', () => {
        throw new MissingPeerError(missing)
      })
    })
  } else {
    console.warn(`SKIPPED ${title}: missing ${missing}`)
    describe.skip(`${title} [missing ${missing}]`, body)
  }
}

/**
 * For starters: returns when the requirements are met. Where they are not, it skips the running test, and throws
 * {@link MissingPeerError} where CI=true or no test is running (in `beforeAll`: use {@link describeWith}).
 */
export function requirePeers(requirements: readonly Requirement[]): void {
  const missing = whatIsMissing(requirements)
  if (missing === undefined) return
  const test = isCi() ? undefined : TestRunner.getCurrentTest()
  if (test === undefined) throw new MissingPeerError(missing)
  console.warn(`SKIPPED ${test.name}: missing ${missing}`)
  test.context.skip(`missing ${missing}`)
}
