import { ProtocolError } from '../errors.ts'
import { maxPrompts } from '../limits.ts'
import { Reader } from '../wire/reader.ts'
import { Writer } from '../wire/writer.ts'

/** One question of keyboard-interactive (RFC 4256 s3.2). */
export interface Prompt {
  prompt: string
  /** Whether the answer may be shown while typed. */
  echo: boolean
}

/** Reads `count` prompts; the count is checked against the limit before anything is read. */
export function readPrompts(count: number, bytes: Uint8Array): Prompt[] {
  if (count > maxPrompts)
    throw new ProtocolError(`${count} prompts, at most ${maxPrompts}`, { phase: 'authentication' })
  const reader = new Reader(bytes)
  const prompts: Prompt[] = []
  for (let i = 0; i < count; i++) prompts.push({ prompt: reader.text(), echo: reader.bool() })
  reader.expectEnd()
  return prompts
}

export function writePrompts(prompts: readonly Prompt[]): Uint8Array {
  const writer = new Writer()
  for (const { prompt, echo } of prompts) writer.text(prompt).bool(echo)
  return writer.copy()
}

/** Reads the answers of INFO_RESPONSE (RFC 4256 s3.4), which must be as many as the prompts. */
export function readResponses(count: number, expected: number, bytes: Uint8Array): string[] {
  if (count !== expected)
    throw new ProtocolError(`${count} answers to ${expected} prompts`, { phase: 'authentication' })
  const reader = new Reader(bytes)
  const responses: string[] = []
  for (let i = 0; i < count; i++) responses.push(reader.text())
  reader.expectEnd()
  return responses
}
