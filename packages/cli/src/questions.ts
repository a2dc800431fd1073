// Questions to the person who runs the command: on the terminal itself, so that stdin and stdout stay free for data, or
// through the program in SSH_ASKPASS, by ssh's rules (ssh(1), SSH_ASKPASS_REQUIRE). One at a time.

import { spawn } from 'node:child_process'
import { openSync } from 'node:fs'
import { ReadStream, WriteStream } from 'node:tty'
import { safeText } from '@sshblock/transport/errors'

export interface QuestionOptions {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly signal: AbortSignal
  /** Called for Ctrl-C where the terminal does not make a signal of it. */
  readonly interrupt: () => void
}

export interface Ask {
  /** Show what is typed. */
  echo: boolean
}

/** Whoever can be asked. */
export interface Asker {
  /** The answer without its line end; undefined where nobody can be asked, or nobody wants to answer. */
  ask(prompt: string, ask: Ask): Promise<string | undefined>
}

/** Answers as given before, for connecting again. */
export interface RememberedAnswers extends Asker {
  /** Questions that were answered. */
  readonly size: number
  /** Nobody is asked any more: what was not asked before has no answer. */
  answerAlone: boolean
}

/** An asker that keeps the last answer to each question in memory. */
export function remembered(asker: Asker): RememberedAnswers {
  const answers = new Map<string, string>()
  return {
    answerAlone: false,
    get size() {
      return answers.size
    },
    async ask(prompt, ask) {
      if (this.answerAlone) return answers.get(prompt)
      const answer = await asker.ask(prompt, ask)
      if (answer !== undefined) answers.set(prompt, answer)
      return answer
    },
  }
}

export class Questions implements Asker {
  readonly #options: QuestionOptions
  #last: Promise<unknown> = Promise.resolve()

  constructor(options: QuestionOptions) {
    this.#options = options
  }

  /** The answer without its line end; undefined where nobody can be asked, or nobody wants to answer. */
  ask(prompt: string, ask: Ask): Promise<string | undefined> {
    const answer = this.#last.then(() => this.#ask(prompt, ask))
    this.#last = answer.catch(() => {})
    return answer
  }

  async #ask(prompt: string, ask: Ask): Promise<string | undefined> {
    const { env, signal } = this.#options
    if (signal.aborted) return undefined
    const program = env['SSH_ASKPASS']
    const required = env['SSH_ASKPASS_REQUIRE']?.toLowerCase()
    const onDisplay = env['DISPLAY'] !== undefined || env['WAYLAND_DISPLAY'] !== undefined
    const canRun = program !== undefined && program !== '' && required !== 'never'
    if (canRun && (required === 'force' || (required === 'prefer' && onDisplay)))
      return this.#run(program, prompt)
    const terminal = openTerminal()
    if (terminal !== undefined) return this.#onTerminal(terminal, prompt, ask)
    return canRun && (onDisplay || required === 'prefer') ? this.#run(program, prompt) : undefined
  }

  /** Runs the program with the question as its argument; what it prints is the answer. */
  #run(program: string, prompt: string): Promise<string | undefined> {
    return new Promise((resolve) => {
      const child = spawn(program, [prompt], {
        stdio: ['ignore', 'pipe', 'inherit'],
        signal: this.#options.signal,
      })
      let answer = ''
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        answer += text
      })
      child.on('error', () => resolve(undefined))
      child.on('close', (code) => resolve(code === 0 ? answer.replace(/\r?\n$/, '') : undefined))
    })
  }

  #onTerminal(descriptor: number, prompt: string, { echo }: Ask): Promise<string | undefined> {
    const input = new ReadStream(descriptor)
    const output = new WriteStream(openSync('/dev/tty', 'w'))
    const { signal, interrupt } = this.#options
    return new Promise((resolve) => {
      let line = ''
      const end = (answer: string | undefined): void => {
        signal.removeEventListener('abort', onAbort)
        input.setRawMode(false)
        if (!echo || answer === undefined) output.write('\n')
        input.destroy()
        output.end()
        resolve(answer)
      }
      const onAbort = (): void => end(undefined)
      signal.addEventListener('abort', onAbort, { once: true })
      input.on('error', () => end(undefined))
      input.on('end', () => end(undefined))
      // Raw: the terminal shows nothing by itself, and editing is ours. With echo the terminal's own line editing will do.
      if (!echo) input.setRawMode(true)
      output.write(prompt)
      input.setEncoding('utf8').on('data', (text: string) => {
        for (const char of text) {
          if (char === '\r' || char === '\n') return end(line)
          if (char === '\u0003') {
            interrupt()
            return end(undefined)
          }
          if (char === '\u0004' && line === '') return end(undefined)
          if (char === '\u0015') line = ''
          else if (char === '\u007f' || char === '\b') line = [...line].slice(0, -1).join('')
          else line += char
        }
      })
    })
  }
}

/** A question with what came from a server made visible. */
export function promptText(raw: string): string {
  // Spaces and line ends of a prompt are its layout.
  return raw
    .split('\n')
    .map((line) => safeText(line.replace(/\r$/, '')))
    .join('\n')
}

/** The terminal of this process, whatever stdin is; undefined where it has none. */
function openTerminal(): number | undefined {
  try {
    return openSync('/dev/tty', 'r')
  } catch {
    return undefined
  }
}
