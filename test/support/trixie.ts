/** The folder with Debian 13's releases of the peers: OpenSSH 10, dropbear 2025, asyncssh 2.20. See trixie.sh. */
import { fileURLToPath } from 'node:url'
import { hasNamespaces, inNamespace } from './namespace.ts'
import { type Finished, findProgram, type RunOptions, run } from './program.ts'
import { isCi, type Requirement } from './requirements.ts'
import { tempDir } from './temp-dir.ts'

const SCRIPT = fileURLToPath(new URL('./trixie.sh', import.meta.url))
const BUILD_TIMEOUT_MS = 10 * 60_000

let asked: Promise<{ root: string } | { missing: string }> | undefined

async function ask(): Promise<{ root: string } | { missing: string }> {
  if (!hasNamespaces()) return { missing: 'the right to make mount and PID namespaces (run as root)' }
  if (findProgram('mmdebstrap') === undefined) return { missing: 'mmdebstrap (apt-get install mmdebstrap)' }
  const made = await run('bash', [SCRIPT], { timeoutMs: BUILD_TIMEOUT_MS })
  if (made.code === 0) return { root: made.stdout.trim() }
  return {
    missing: `Debian 13's packages (test/support/trixie.sh failed: ${made.stderr.trim().slice(-400)})`,
  }
}

/**
 * Requirement of tests with the newer releases. The first test file that asks makes the folder where it is not there
 * yet, which takes half a minute once: `await` this at the top of the file, where no time limit runs.
 */
export async function needsTrixie(): Promise<Requirement> {
  asked ??= ask()
  const answer = await asked
  return { name: 'Debian 13 peers', missing: 'missing' in answer ? answer.missing : undefined }
}

/** The root folder. Throws where {@link needsTrixie} would say that it is missing. */
export async function trixieRoot(): Promise<string> {
  asked ??= ask()
  const answer = await asked
  if ('missing' in answer) throw new Error(`needs ${answer.missing}${isCi() ? ' (CI=true)' : ''}`)
  return answer.root
}

/** Runs one of its programs to the end; the system's temporary folder has the same path inside. */
export async function runInTrixie(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Finished> {
  const place = {
    dir: tempDir('trixie'),
    root: await trixieRoot(),
    accounts: [],
    files: new Map<string, string>(),
  }
  const confined = inNamespace({ command, args }, place)
  return run(confined.command, confined.args, options)
}
