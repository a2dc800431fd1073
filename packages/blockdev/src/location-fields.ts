// What a location consists of, and what each of its fields may be. The URI form and the key forms both end here, so that
// a rule about a port or a host stands once.

import { quote } from '@sshblock/transport/errors'
import { LocationError } from './errors.ts'
import type { HostKeyCheck } from './host-key-check.ts'

/** Where a disk image lies, and how its server is recognised. */
export interface Location {
  readonly server: {
    /** Name or address; an IPv6 address without brackets. */
    readonly host: string
    /** 1 to 65535. */
    readonly port: number
  }
  /** Path on the server. A relative one (key forms only) starts at the directory that the server logs the user into. */
  readonly path: string
  /** Undefined: the login name of whoever runs the program. */
  readonly user?: string
  readonly hostKeyCheck: HostKeyCheck
}

export const defaultPort = 22

const portExpected = 'expected a number from 1 to 65535'

/** Name in an error for the kind of a value that is no text. */
function kindOf(value: unknown): string {
  return value === null ? 'null' : Array.isArray(value) ? 'a list' : typeof value
}

/** @throws LocationError where the value is not a text. */
export function textField(field: string, value: unknown, expected: string): string {
  if (typeof value !== 'string') throw new LocationError(field, `expected ${expected}, got ${kindOf(value)}`)
  return value
}

/** Decimal digits (or, in key forms, a number) from 1 to 65535. QEMU silently takes 22 for what is out of range; we refuse. */
export function portField(field: string, value: unknown): number {
  if (typeof value === 'number') {
    if (Number.isInteger(value) && value >= 1 && value <= 65_535) return value
    throw new LocationError(field, `${portExpected}, got ${value}`)
  }
  if (typeof value !== 'string') throw new LocationError(field, `${portExpected}, got ${kindOf(value)}`)
  if (!/^[0-9]+$/.test(value)) throw new LocationError(field, `${portExpected}, got ${quote(value)}`)
  const port = Number(value)
  if (port < 1 || port > 65_535) throw new LocationError(field, `${portExpected}, got ${quote(value)}`)
  return port
}

/**
 * A host name or address, IPv6 without brackets. What could be taken for an option or for shell syntax is refused, as
 * OpenSSH does since CVE-2023-51385: the name may end up in somebody's ProxyCommand.
 */
export function hostField(field: string, value: unknown): string {
  const host = textField(field, value, 'a host name or address')
  if (host === '') throw new LocationError(field, 'is missing; expected a host name or address')
  if (host.startsWith('-')) throw new LocationError(field, `${quote(host)} must not begin with "-"`)
  if (host.startsWith('[')) {
    throw new LocationError(field, `expected an IPv6 address without brackets here, got ${quote(host)}`)
  }
  const bad = /[\p{Cc}\p{Cs}\s'"`$\\;&<>|(){}[\]/?#@]/u.exec(host)
  if (bad !== null)
    throw new LocationError(field, `${quote(host)} contains ${quote(bad[0])}, which no host name can have`)
  if (host.includes(':') && !isIpv6(host)) {
    throw new LocationError(field, `expected a host name or an IP address, got ${quote(host)}`)
  }
  return host
}

/** An IPv6 address, with or without a zone ('fe80::1%eth0'). */
export function isIpv6(host: string): boolean {
  const [address = '', ...zone] = host.split('%')
  if (zone.length > 1 || zone[0] === '') return false
  return address.includes(':') && /^[0-9a-fA-F:.]+$/.test(address) && URL.canParse(`http://[${address}]/`)
}

/** A user name as OpenSSH lets it be; an empty one counts as none. */
export function userField(field: string, value: unknown): string | undefined {
  const user = textField(field, value, 'a user name')
  if (user === '') return undefined
  if (user.startsWith('-')) throw new LocationError(field, `${quote(user)} must not begin with "-"`)
  if (user.endsWith('\\')) throw new LocationError(field, `${quote(user)} must not end with "\\"`)
  const bad = /[\p{Cc}\p{Cs}'"`;&<>|(){}]/u.exec(user)
  if (bad !== null)
    throw new LocationError(field, `${quote(user)} contains ${quote(bad[0])}, which no user name can have`)
  return user
}

/** A path on the server: not empty, no NUL. */
export function pathField(field: string, value: unknown): string {
  const path = textField(field, value, 'the path of the image on the server')
  if (path === '') throw new LocationError(field, 'is missing; expected the path of the image on the server')
  if (path.includes('\0')) throw new LocationError(field, `${quote(path)} contains a NUL character`)
  if (/\p{Cs}/u.test(path))
    throw new LocationError(field, `${quote(path)} contains half of a surrogate pair and has no UTF-8 form`)
  return path
}
