// The options in front of a key in authorized_keys (sshd(8), AUTHORIZED_KEYS FILE FORMAT), read as OpenSSH reads them:
// names without case, `restrict` takes everything away that later options give back, of two expiry times the earlier
// counts, and an option that is unknown or malformed makes the whole line worthless. Pure.

import type { Restrictions } from './permissions.ts'

export interface AuthorizedKeyOptions {
  /** The key is a CA's: it lets certificates in, not itself. */
  readonly certAuthority: boolean
  /** With certAuthority: names of which a certificate must have one, in place of the user's own. */
  readonly principals: readonly string[] | undefined
  readonly restrictions: Readonly<Restrictions>
}

/** An option that cannot be read; its line is not used. */
export class KeyOptionError extends Error {
  override readonly name = 'KeyOptionError'
}

const flags = new Map<string, 'pty' | 'portForwarding' | 'agentForwarding' | 'x11Forwarding' | 'userRc'>([
  ['port-forwarding', 'portForwarding'],
  ['agent-forwarding', 'agentForwarding'],
  ['x11-forwarding', 'x11Forwarding'],
  ['pty', 'pty'],
  ['user-rc', 'userRc'],
])

interface Draft {
  certAuthority: boolean
  principals: string[] | undefined
  restrictions: Restrictions & {
    permitOpen?: string[]
    permitListen?: string[]
    environment?: Map<string, string>
  }
}

/** Parses an option list such as 'restrict,pty,command="backup"'. Throws KeyOptionError. */
export function parseKeyOptions(text: string): AuthorizedKeyOptions {
  const draft: Draft = { certAuthority: false, principals: undefined, restrictions: {} }
  let at = 0
  while (at < text.length) {
    const name = /^[A-Za-z0-9-]+/.exec(text.slice(at))?.[0]
    if (name === undefined) throw new KeyOptionError('an option has no name')
    at += name.length
    let value: string | undefined
    if (text[at] === '=') {
      const quoted = readQuoted(text, at + 1, name)
      value = quoted.value
      at = quoted.end
    }
    apply(draft, name.toLowerCase(), value)
    if (at === text.length) break
    if (text[at] !== ',') throw new KeyOptionError(`something other than a comma follows option ${name}`)
    if (++at === text.length) throw new KeyOptionError('the options end in a comma')
  }
  return draft
}

/** A value stands in double quotes, in which only \" is an escape. */
function readQuoted(text: string, start: number, name: string): { value: string; end: number } {
  if (text[start] !== '"') throw new KeyOptionError(`the value of ${name} is not in double quotes`)
  let value = ''
  for (let at = start + 1; at < text.length; at++) {
    if (text[at] === '\\' && text[at + 1] === '"') {
      value += '"'
      at++
    } else if (text[at] === '"') {
      return { value, end: at + 1 }
    } else {
      value += text[at]
    }
  }
  throw new KeyOptionError(`the value of ${name} has no closing quote`)
}

function apply(draft: Draft, name: string, value: string | undefined): void {
  if (value === undefined) applyFlag(draft, name)
  else applyValue(draft, name, value)
}

function applyFlag(draft: Draft, name: string): void {
  const { restrictions } = draft
  if (name === 'restrict') {
    for (const flag of flags.values()) restrictions[flag] = false
    return
  }
  if (name === 'cert-authority') {
    draft.certAuthority = true
    return
  }
  const negated = name.startsWith('no-')
  const positive = negated ? name.slice(3) : name
  const flag = flags.get(positive)
  if (flag !== undefined) restrictions[flag] = !negated
  else if (positive === 'touch-required') restrictions.touchRequired = !negated
  else if (positive === 'verify-required') restrictions.verifyRequired = !negated
  else throw new KeyOptionError(`option ${name} is not known`)
}

function applyValue(draft: Draft, name: string, value: string): void {
  const { restrictions } = draft
  const once = (previous: unknown): void => {
    if (previous !== undefined) throw new KeyOptionError(`option ${name} is there twice`)
  }
  switch (name) {
    case 'command':
      once(restrictions.command)
      restrictions.command = value
      return
    case 'principals':
      once(draft.principals)
      // Compared one by one and whole: "a,b" in a certificate is one name (CVE-2026-35414 took it for two).
      draft.principals = value.split(',').filter((principal) => principal !== '')
      return
    case 'from':
      once(restrictions.from)
      restrictions.from = value
      return
    case 'expiry-time': {
      const expiresAt = parseExpiryTime(value)
      if (expiresAt === undefined) throw new KeyOptionError('expiry-time is not YYYYMMDD[HHMM[SS]][Z]')
      restrictions.expiresAt = Math.min(expiresAt, restrictions.expiresAt ?? Number.POSITIVE_INFINITY)
      return
    }
    case 'environment': {
      const [, variable, content] = /^([A-Za-z0-9_]+)=([\s\S]*)$/.exec(value) ?? []
      if (variable === undefined || content === undefined)
        throw new KeyOptionError('environment is not NAME=value')
      restrictions.environment ??= new Map()
      if (!restrictions.environment.has(variable)) restrictions.environment.set(variable, content)
      return
    }
    case 'permitopen':
      restrictions.permitOpen ??= []
      restrictions.permitOpen.push(checkedDestination(name, value, true))
      return
    case 'permitlisten':
      restrictions.permitListen ??= []
      restrictions.permitListen.push(checkedDestination(name, value, false))
      return
    case 'tunnel':
      // No tunnels here, so there is nothing to choose.
      if (!/^(any|[0-9]{1,10})$/.test(value)) throw new KeyOptionError('tunnel is not a number')
      return
    default:
      throw new KeyOptionError(`option ${name} is not known, or takes no value`)
  }
}

/** 'host:port', '[IPv6]:port' or (for listening) 'port'; '*' stands for any. Returned as '[host:]port'. */
function checkedDestination(name: string, value: string, hostNeeded: boolean): string {
  const match = /^(?:(\[[0-9a-fA-F:.%]+\]|[^:[\]\s]+):)?(\*|[0-9]{1,5})$/.exec(value)
  const [, host, port] = match ?? []
  if (
    port === undefined ||
    (host === undefined && hostNeeded) ||
    Number(port) > 65_535 ||
    Number(port) === 0
  ) {
    throw new KeyOptionError(`${name} is not ${hostNeeded ? 'host:port' : '[host:]port'}`)
  }
  return value
}

/**
 * Milliseconds since 1970 of 'YYYYMMDD', 'YYYYMMDDHHMM' or 'YYYYMMDDHHMMSS', in UTC where 'Z' follows and in the machine's
 * time zone where not; undefined for anything else, also for the 31st of April.
 */
export function parseExpiryTime(text: string): number | undefined {
  const match = /^([0-9]{4})([0-9]{2})([0-9]{2})(?:([0-9]{2})([0-9]{2})([0-9]{2})?)?(Z|UTC)?$/i.exec(text)
  if (match === null) return undefined
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map((part) => Number(part ?? 0)) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ]
  if (month < 1 || month > 12 || hour > 23 || minute > 59 || second > 59) return undefined
  if (day < 1 || day > new Date(Date.UTC(year, month, 0)).getUTCDate()) return undefined
  return match[7] === undefined
    ? new Date(year, month - 1, day, hour, minute, second).getTime()
    : Date.UTC(year, month - 1, day, hour, minute, second)
}
