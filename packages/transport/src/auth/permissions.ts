// What a login may do, and what it is let in under. One form for every way in: options of authorized_keys, what a
// certificate says, and what an application's own check of a password answers, so that no method escapes a restriction
// (Go CVE-2026-39828 and its kind applied them to public keys alone). Pure values.

import { isAddressAdmitted, isInCidrList } from './source-address.ts'

/** Conditions and limits of one way in. What is left out is not restricted. */
export interface Restrictions {
  /** Addresses the client may come from: an OpenSSH pattern list, as of `from=` in authorized_keys. '' admits nobody. */
  from?: string
  /** Networks the client may come from: comma-separated CIDR, as of source-address in certificates. '' admits nobody. */
  sourceAddress?: string
  /** Last moment of a login, in milliseconds since 1970. */
  expiresAt?: number
  /** Is run instead of whatever the client asks for. */
  command?: string
  /** False refuses a terminal. */
  pty?: boolean
  /** False refuses direct-tcpip, direct-streamlocal and tcpip-forward. */
  portForwarding?: boolean
  /** False refuses auth-agent-req@openssh.com. */
  agentForwarding?: boolean
  /** False refuses x11-req. */
  x11Forwarding?: boolean
  /** False: ~/.ssh/rc is not run; for applications that have such a thing. */
  userRc?: boolean
  /** Destinations of direct-tcpip as 'host:port', '*' for any port; an empty list admits none. */
  permitOpen?: readonly string[]
  /** Addresses for tcpip-forward as '[host:]port'; an empty list admits none. */
  permitListen?: readonly string[]
  /** Security keys: false accepts a signature without the user's touch, unless another restriction demands it by true. */
  touchRequired?: boolean
  /** Security keys: demand that the user was verified by PIN or biometrics. */
  verifyRequired?: boolean
  /** Variables that authorized_keys sets. Applied only where the server says so. */
  environment?: ReadonlyMap<string, string>
}

/** What a login may do: every restriction of every method that was passed, together. */
export interface Permissions {
  readonly command: string | undefined
  readonly pty: boolean
  readonly portForwarding: boolean
  readonly agentForwarding: boolean
  readonly x11Forwarding: boolean
  readonly userRc: boolean
  /** Undefined for any destination. */
  readonly permitOpen: readonly string[] | undefined
  readonly permitListen: readonly string[] | undefined
  readonly environment: ReadonlyMap<string, string>
}

/** Why a restriction keeps somebody out: for the server's log, never for the client. */
export function refusalOf(
  restrictions: Restrictions,
  client: { address: string | undefined; now: number },
): string | undefined {
  const { from, sourceAddress, expiresAt } = restrictions
  if (from !== undefined && !isAddressAdmitted(client.address, from))
    return 'the client address is not admitted'
  if (sourceAddress !== undefined && !isInCidrList(client.address, sourceAddress))
    return 'the client address is not in source-address'
  if (expiresAt !== undefined && client.now > expiresAt) return 'the permission expired'
  return undefined
}

/**
 * All restrictions together; undefined where they contradict each other (two different forced commands), which is a refusal.
 */
export function permissionsUnder(all: readonly Restrictions[]): Permissions | undefined {
  const commands = new Set(all.flatMap(({ command }) => (command === undefined ? [] : [command])))
  if (commands.size > 1) return undefined
  const environment = new Map<string, string>()
  for (const restrictions of all) {
    for (const [name, value] of restrictions.environment ?? [])
      if (!environment.has(name)) environment.set(name, value)
  }
  return {
    command: [...commands][0],
    pty: all.every(({ pty }) => pty !== false),
    portForwarding: all.every(({ portForwarding }) => portForwarding !== false),
    agentForwarding: all.every(({ agentForwarding }) => agentForwarding !== false),
    x11Forwarding: all.every(({ x11Forwarding }) => x11Forwarding !== false),
    userRc: all.every(({ userRc }) => userRc !== false),
    permitOpen: commonDestinations(all.map(({ permitOpen }) => permitOpen)),
    permitListen: commonDestinations(all.map(({ permitListen }) => permitListen)),
    environment,
  }
}

/** Destinations that every list has; wildcards are compared as text, which can only make the result narrower. */
function commonDestinations(
  lists: readonly (readonly string[] | undefined)[],
): readonly string[] | undefined {
  const given = lists.filter((list) => list !== undefined)
  const [first, ...others] = given
  return first?.filter((entry) => others.every((list) => list.includes(entry)))
}

/** Whether the flags of a security key's signature are enough: a touch is demanded unless somebody waves and nobody demands it. */
export function isTouchEnough(
  all: readonly Restrictions[],
  flags: { userPresent: boolean; userVerified: boolean },
): boolean {
  const touchWaved =
    all.some(({ touchRequired }) => touchRequired === false) &&
    all.every(({ touchRequired }) => touchRequired !== true)
  const verifyWanted = all.some(({ verifyRequired }) => verifyRequired === true)
  return (flags.userPresent || touchWaved) && (flags.userVerified || !verifyWanted)
}

/** Whether a destination is among 'host:port' entries, as permitopen has them: '*' stands for any, names are not looked up. */
export function isDestinationPermitted(
  permitted: readonly string[] | undefined,
  host: string,
  port: number,
): boolean {
  if (permitted === undefined) return true
  return permitted.some((entry) => {
    const colon = entry.lastIndexOf(':')
    const entryHost = entry.slice(0, Math.max(0, colon)).replace(/^\[(.*)\]$/, '$1')
    const entryPort = entry.slice(colon + 1)
    const hostFits = entryHost === '*' || entryHost.toLowerCase() === host.toLowerCase()
    return hostFits && (entryPort === '*' || entryPort === String(port))
  })
}
