// Shell patterns for paths, matched in time linear in the name for each '*' (no backtracking that explodes): '*' and '?'
// within a component, '[a-z]' and '[!a-z]', '{a,b}' alternatives, '**' as a whole component for any number of them, '\'
// before a character that shall mean itself. As in a shell a leading '.' must be written out. Pure.

import { UsageError } from '@sshblock/transport/errors'

type Token =
  | { readonly kind: 'literal'; readonly char: string }
  | { readonly kind: 'any' }
  | { readonly kind: 'run' }
  | {
      readonly kind: 'class'
      readonly negated: boolean
      readonly ranges: readonly (readonly [number, number])[]
    }

/** A component of a pattern: tokens of a name, or any number of components. */
type Component = { readonly deep: true } | { readonly deep: false; readonly tokens: readonly Token[] }

/** Alternatives of one pattern, beyond which it is refused. */
const maxAlternatives = 1024

/** The alternatives that '{a,b}' stand for, nested ones included. */
export function expandBraces(pattern: string): string[] {
  const results: string[] = []
  const pending = [pattern]
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const group = firstGroup(next)
    if (group === undefined) results.push(next)
    else for (const option of group.options) pending.push(group.before + option + group.after)
    if (results.length + pending.length > maxAlternatives)
      throw new UsageError(`pattern stands for more than ${maxAlternatives} others`)
  }
  return results.reverse()
}

/** The first '{...}' with a comma at its own level. */
function firstGroup(pattern: string): { before: string; options: string[]; after: string } | undefined {
  for (let open = 0; open < pattern.length; open++) {
    if (pattern[open] === '\\') open++
    else if (pattern[open] === '{') {
      const options: string[] = []
      let depth = 1
      let start = open + 1
      for (let at = start; at < pattern.length; at++) {
        const char = pattern[at]
        if (char === '\\') at++
        else if (char === '{') depth++
        else if (char === ',' && depth === 1) {
          options.push(pattern.slice(start, at))
          start = at + 1
        } else if (char === '}' && --depth === 0) {
          options.push(pattern.slice(start, at))
          if (options.length > 1)
            return { before: pattern.slice(0, open), options, after: pattern.slice(at + 1) }
          break
        }
      }
    }
  }
  return undefined
}

function tokens(component: string): Token[] {
  const out: Token[] = []
  const chars = [...component]
  for (let i = 0; i < chars.length; i++) {
    const char = chars[i]!
    if (char === '*') {
      if (out.at(-1)?.kind !== 'run') out.push({ kind: 'run' })
    } else if (char === '?') out.push({ kind: 'any' })
    else if (char === '\\' && i + 1 < chars.length) out.push({ kind: 'literal', char: chars[++i]! })
    else if (char === '[') {
      const end = classEnd(chars, i)
      if (end === undefined) out.push({ kind: 'literal', char })
      else {
        out.push(classToken(chars.slice(i + 1, end)))
        i = end
      }
    } else out.push({ kind: 'literal', char })
  }
  return out
}

/** Position of the ']' that ends the class; one right at the start means itself. */
function classEnd(chars: readonly string[], open: number): number | undefined {
  let at = open + 1
  if (chars[at] === '!' || chars[at] === '^') at++
  if (chars[at] === ']') at++
  while (at < chars.length && chars[at] !== ']') at++
  return at < chars.length ? at : undefined
}

function classToken(body: readonly string[]): Token {
  const negated = body[0] === '!' || body[0] === '^'
  const members = negated ? body.slice(1) : body
  const ranges: [number, number][] = []
  for (let i = 0; i < members.length; i++) {
    const from = members[i]!.codePointAt(0)!
    if (members[i + 1] === '-' && i + 2 < members.length) {
      ranges.push([from, members[i + 2]!.codePointAt(0)!])
      i += 2
    } else ranges.push([from, from])
  }
  return { kind: 'class', negated, ranges }
}

function matchesChar(token: Token, char: string): boolean {
  if (token.kind === 'literal') return token.char === char
  if (token.kind !== 'class') return true
  const code = char.codePointAt(0)!
  return token.ranges.some(([from, to]) => code >= from && code <= to) !== token.negated
}

/** Whether a name matches. Remembers only the last '*', so time is at most name length x pattern length. */
function matchesName(pattern: readonly Token[], name: string): boolean {
  const chars = [...name]
  if (chars[0] === '.' && !(pattern[0]?.kind === 'literal' && pattern[0].char === '.')) return false
  let p = 0
  let c = 0
  let runAt = -1
  let runFrom = 0
  while (c < chars.length) {
    const token = pattern[p]
    if (token?.kind === 'run') {
      runAt = p++
      runFrom = c
    } else if (token !== undefined && matchesChar(token, chars[c]!)) {
      p++
      c++
    } else if (runAt >= 0) {
      p = runAt + 1
      c = ++runFrom
    } else return false
  }
  while (pattern[p]?.kind === 'run') p++
  return p === pattern.length
}

/** Positions in the pattern that can be reached after the given names: a set, so '**' never makes it explode. */
function reach(pattern: readonly Component[], names: readonly string[]): Set<number> {
  let at = new Set([0])
  for (const name of names) {
    const next = new Set<number>()
    for (const position of withSkips(pattern, at)) {
      const component = pattern[position]
      if (component === undefined) continue
      if (component.deep) {
        if (!name.startsWith('.')) next.add(position)
      } else if (matchesName(component.tokens, name)) next.add(position + 1)
    }
    at = next
  }
  return withSkips(pattern, at)
}

/** A '**' may stand for no component at all. */
function withSkips(pattern: readonly Component[], positions: ReadonlySet<number>): Set<number> {
  const all = new Set(positions)
  for (const position of all) if (pattern[position]?.deep === true) all.add(position + 1)
  return all
}

const special = /[*?[\\]/

export interface Glob {
  /** The directory from which to look: '/' or the leading components without special characters; '' for the current one. */
  readonly root: string
  matches(relative: readonly string[]): boolean
  /** Whether something below a directory can match. */
  descends(relative: readonly string[]): boolean
}

/** One alternative of a pattern, without braces. UsageError where it is empty or holds '.' or '..' behind a wildcard. */
export function parseGlob(pattern: string): Glob {
  if (pattern === '') throw new UsageError('an empty pattern')
  const absolute = pattern.startsWith('/')
  const parts = pattern.split('/').filter((part) => part !== '')
  let fixed = 0
  // The last component is always matched against the list, so that what does not exist does not match.
  while (fixed < parts.length - 1 && !special.test(parts[fixed]!)) fixed++
  const components = parts.slice(fixed).map((part): Component => {
    if (part === '.' || part === '..') throw new UsageError(`pattern with ${part} where names are matched`)
    return part === '**' ? { deep: true } : { deep: false, tokens: tokens(part) }
  })
  return {
    root: (absolute ? '/' : '') + parts.slice(0, fixed).join('/'),
    matches: (relative) => reach(components, relative).has(components.length),
    descends: (relative) => [...reach(components, relative)].some((position) => position < components.length),
  }
}
