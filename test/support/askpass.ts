/** Answers for OpenSSH's clients, which take passwords from a program where there is no terminal. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { tempDir } from './temp-dir.ts'

/**
 * Environment that makes `ssh`, `sftp` and `ssh-add` get their answers from here. Each question is repeated on stderr
 * behind "asked: ". Passwords are asked for only with -o BatchMode=no.
 *
 * @param answers one text for every question, or a list with one for each, after which questions are refused
 *   (ssh-add asks for a passphrase again and again)
 */
export function askpass(answers: string | readonly string[]): Record<string, string> {
  const dir = tempDir('askpass')
  const program = join(dir, 'askpass')
  const script = ['#!/bin/sh', 'echo "asked: $1" >&2', `cd '${dir}'`]
  if (typeof answers === 'string') {
    writeFileSync(join(dir, 'answer'), `${answers}\n`, { mode: 0o600 })
    script.push('exec cat answer')
  } else {
    answers.forEach((answer, i) => {
      writeFileSync(join(dir, `answer-${i}`), `${answer}\n`, { mode: 0o600 })
    })
    script.push('echo >>count', 'exec cat "answer-$(($(wc -l <count) - 1))"')
  }
  writeFileSync(program, `${script.join('\n')}\n`, { mode: 0o700 })
  return { SSH_ASKPASS: program, SSH_ASKPASS_REQUIRE: 'force' }
}
