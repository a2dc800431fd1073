// What -v shows on stderr, in the manner of ssh: 'debug1: kex: ...'. Never payloads or keys; texts of peers made visible.

import { safeText, type Trace } from '@sshblock/transport'
import { type Invocation, lineStart } from '../invocation.ts'

/** A trace for -v given `verbosity` times; undefined for none. */
export function traceTo({ stderr }: Invocation, verbosity: number): Trace | undefined {
  if (verbosity === 0) return undefined
  return ({ level, layer, event, detail = {} }) => {
    if (level > verbosity) return
    const details = Object.entries(detail).map(([name, value]) => ` ${name}=${safeText(String(value))}`)
    stderr.write(`${lineStart(stderr)}debug${level}: ${layer}: ${safeText(event)}${details.join('')}\n`)
  }
}
