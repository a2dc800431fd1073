// Which target a path means, and whether it is allowed by name and port. Pure functions; addresses come later.

import { quote, UsageError } from '@sshblock/transport/errors'
import { looksNumeric, parseAddress } from './address.ts'
import { closeCode, Refusal } from './close-codes.ts'
import { maxPathLength } from './limits.ts'

/** Where clients may be taken. All are 'host:port', IPv6 addresses in brackets: '[2001:db8::1]:22'. */
export type BridgeTargets =
  /** One target, under the path '/'. */
  | { readonly fixed: string }
  /** Targets by name: the path is '/NAME'. */
  | { readonly named: Readonly<Record<string, string>> | ReadonlyMap<string, string> }
  /**
   * The path is '/HOST:PORT', which must match one of these. '*.example.org:22' stands for every name below example.org,
   * '*:22' for every host with a public address, 'host:*' for every port.
   */
  | { readonly allow: readonly string[] }

export interface Target {
  /** A name in lower case, or an address without brackets. */
  readonly host: string
  readonly port: number
}

export interface FoundTarget extends Target {
  /** The operator wrote this very host, no wildcard: then an address, or 'localhost', means what it says. */
  readonly isWritten: boolean
}

/** Finds the target that a path means. @throws Refusal where it means none, or one that is not allowed */
export type FindTarget = (path: string) => FoundTarget

const hostName =
  /^(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.?$/

/** Reads 'host:port'; undefined where it is not a name or canonical address with a port. */
export function parseTarget(text: string): Target | undefined {
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*)):([1-9]\d{0,4})$/.exec(text)
  if (match === null || Number(match[3]) > 65_535) return undefined
  const host = parseHost(match[1], match[2])
  return host === undefined ? undefined : { host, port: Number(match[3]) }
}

function parseHost(bracketed: string | undefined, plain = ''): string | undefined {
  if (bracketed !== undefined)
    return parseAddress(bracketed)?.length === 16 ? bracketed.toLowerCase() : undefined
  if (parseAddress(plain)?.length === 4) return plain
  const name = plain.toLowerCase().replace(/\.$/, '')
  return hostName.test(name) && !looksNumeric(name) ? name : undefined
}

/** As it is written: 'host:22', '[::1]:22'. */
export function formatTarget({ host, port }: Target): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

interface Rule {
  /** Compared as bytes where it is an address, so that all its spellings are one. */
  readonly host: string
  readonly address: string | undefined
  readonly port: number | undefined
}

/** @throws UsageError for targets that are not 'host:port' */
export function targetFinder(targets: BridgeTargets): FindTarget {
  if ('fixed' in targets) {
    const target = configured(targets.fixed)
    return (path) => {
      if (path === '/' || path === '') return target
      throw new Refusal(closeCode.noTarget, 'the path names no target: this bridge has one, under /')
    }
  }
  if ('named' in targets) {
    const given = targets.named instanceof Map ? targets.named : Object.entries(targets.named)
    const table = new Map([...given].map(([name, text]) => [name, configured(text)]))
    return (path) => {
      const target = table.get(decoded(path))
      if (target === undefined) throw new Refusal(closeCode.noTarget, 'the path names no target')
      return target
    }
  }
  const rules = targets.allow.map(parseRule)
  return (path) => {
    const target = parseTarget(decoded(path))
    if (target === undefined) throw new Refusal(closeCode.noTarget, 'the path is not /HOST:PORT')
    const matching = rules.filter((rule) => matches(rule, target))
    if (matching.length === 0) throw new Refusal(closeCode.forbidden, 'this target is not allowed')
    return { ...target, isWritten: matching.some(({ host }) => !host.startsWith('*')) }
  }
}

function configured(text: string): FoundTarget {
  const target = parseTarget(text)
  if (target === undefined) throw new UsageError(`target: expected 'host:port', got ${quote(text)}`)
  return { ...target, isWritten: true }
}

function decoded(path: string): string {
  if (path.length > maxPathLength) throw new Refusal(closeCode.noTarget, 'the path is too long')
  try {
    return decodeURIComponent(path.replace(/^\//, ''))
  } catch {
    throw new Refusal(closeCode.noTarget, 'the path has a wrong % escape')
  }
}

function parseRule(text: string): Rule {
  const colon = text.lastIndexOf(':')
  const [host, port] = [text.slice(0, colon), text.slice(colon + 1)]
  const anyPort = port === '*'
  if (host === '*' || host.startsWith('*.')) {
    const below = parseTarget(`${host === '*' ? 'x' : host.slice(2)}:${anyPort ? 1 : port}`)
    // '*.0.0.1' would be no name.
    if (below !== undefined && parseAddress(below.host) === undefined) {
      return {
        host: host === '*' ? '*' : `*.${below.host}`,
        address: undefined,
        port: anyPort ? undefined : below.port,
      }
    }
  } else {
    const target = parseTarget(anyPort ? `${host}:1` : text)
    if (target !== undefined) {
      return {
        host: target.host,
        address: parseAddress(target.host)?.join(),
        port: anyPort ? undefined : target.port,
      }
    }
  }
  throw new UsageError(
    `allowed target: expected 'host:port', '*.domain:port' or '*:port', got ${quote(text)}`,
  )
}

function matches(rule: Rule, target: Target): boolean {
  if (rule.port !== undefined && rule.port !== target.port) return false
  if (rule.host === '*') return true
  if (rule.host.startsWith('*.'))
    return target.host.endsWith(rule.host.slice(1)) && target.host.length > rule.host.length - 1
  return rule.address === undefined
    ? rule.host === target.host
    : rule.address === parseAddress(target.host)?.join()
}
