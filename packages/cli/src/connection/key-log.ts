// SSHKEYLOGFILE: the secrets of connections in Wireshark's format, for whoever must see what is sent. Said aloud each time.

import { appendFileSync } from 'node:fs'
import { type KeyLog, safeText } from '@sshblock/transport'
import { reasonOf } from '../failure.ts'
import { type Invocation, tell } from '../invocation.ts'

/** Runs of the command that were told about their key log. */
const told = new WeakSet<Invocation>()

/** A key log that appends to the file that the environment names; undefined where it names none. */
export function keyLogOf(invocation: Invocation): KeyLog | undefined {
  const file = invocation.env['SSHKEYLOGFILE'] ?? ''
  if (file === '') return undefined
  const tellOnce = (text: string): void => {
    if (!told.has(invocation)) tell(invocation, `warning: ${text}`)
    told.add(invocation)
  }
  return (line) => {
    try {
      appendFileSync(file, `${line}\n`, { mode: 0o600 })
      tellOnce(`who reads '${safeText(file)}' can read this connection (SSHKEYLOGFILE)`)
    } catch (error) {
      tellOnce(`no key log in '${safeText(file)}': ${reasonOf(error)}`)
    }
  }
}
