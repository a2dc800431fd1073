// One run of the command: where it reads and writes, whom it may ask, and whether it was told to stop.

import type { Asker } from './questions.ts'

export interface Invocation {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly stdin: NodeJS.ReadStream
  readonly stdout: NodeJS.WriteStream
  readonly stderr: NodeJS.WriteStream
  /** Fires with the first Ctrl-C (or SIGTERM, SIGHUP): finish cleanly. */
  readonly signal: AbortSignal
  readonly questions: Asker
}

/** A line of results. */
export function printLine(invocation: Invocation, text: string): void {
  invocation.stdout.write(`${text}\n`)
}

/** A line for the person at the terminal. */
export function tell(invocation: Invocation, text: string): void {
  invocation.stderr.write(`sshblock: ${text}\n`)
}

/** Results as JSON. */
export function printJson(invocation: Invocation, value: unknown): void {
  printLine(invocation, JSON.stringify(value, null, 2))
}

/** Writes bytes to stdout and waits until there is room for more. */
export async function writeOut({ stdout }: Invocation, bytes: Uint8Array): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    stdout.write(bytes, (error) => (error == null ? resolve() : reject(error)))
  })
}
