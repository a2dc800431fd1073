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

/** Terminals on which something is drawn that lines have to take the place of. */
const drawnOn = new WeakSet<NodeJS.WriteStream>()

/** Says whether a bar, or the like, is in the line where the cursor is. */
export function setDrawn(stream: NodeJS.WriteStream, drawn: boolean): void {
  if (drawn) drawnOn.add(stream)
  else drawnOn.delete(stream)
}

/** What to write before a line so that it stands alone. */
export function lineStart(stream: NodeJS.WriteStream): string {
  return drawnOn.has(stream) ? '\r\u001b[K' : ''
}

/** A line for the person at the terminal. */
export function tell({ stderr }: Invocation, text: string): void {
  stderr.write(`${lineStart(stderr)}sshblock: ${text}\n`)
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
