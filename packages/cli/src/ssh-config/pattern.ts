// Patterns of ssh_config(5) ("PATTERNS"): '*' and '?', lists in which '!' excludes. With `brackets`, glob(7)'s for files.

const wildcards = /[*?]|[\s\S]/gu
const wildcardsAndSets = /\[(?<not>[!^])?(?<set>[^\]]+)\]|[*?]|[\s\S]/gu

/** Whether a whole text matches. */
export function matchesPattern(text: string, pattern: string, brackets = false): boolean {
  let source = ''
  for (const { 0: part, groups } of pattern.matchAll(brackets ? wildcardsAndSets : wildcards)) {
    if (groups?.['set'] !== undefined)
      source += `[${groups['not'] === undefined ? '' : '^'}${groups['set'].replace(/[\\[\]^]/g, '\\$&')}]`
    else if (part === '*') source += '.*'
    else if (part === '?') source += '.'
    else source += part.replace(/[.*+?^${}()|[\]\\/]/, '\\$&')
  }
  return new RegExp(`^(?:${source})$`, 'su').test(text)
}

/** Whether a text matches one pattern of a list, and none that begins with '!'. */
export function matchesList(text: string, patterns: readonly string[]): boolean {
  let matched = false
  for (const pattern of patterns) {
    const excludes = pattern.startsWith('!')
    if (!matchesPattern(text, excludes ? pattern.slice(1) : pattern)) continue
    if (excludes) return false
    matched = true
  }
  return matched
}
