// OpenSSH's patterns (ssh_config(5) PATTERNS): '*' for any run of characters, '?' for exactly one, lists with negation.
// The matcher remembers only the last '*': work is at most text times pattern, where a recursive one is exponential.
// Strings are compared unit by unit; callers that need bytes pass strings with one unit per byte.

/** Whether the whole text matches the pattern. */
export function matchesWildcard(text: string, pattern: string): boolean {
  let at = 0
  let patternAt = 0
  let star = -1
  let starText = 0
  while (at < text.length) {
    const expected = pattern[patternAt]
    if (expected === '*') {
      star = patternAt++
      starText = at
    } else if (expected !== undefined && (expected === '?' || expected === text[at])) {
      at++
      patternAt++
    } else if (star >= 0) {
      // The last '*' takes one character more. An earlier one never needs to: whatever it could take, this one can.
      patternAt = star + 1
      at = ++starText
    } else {
      return false
    }
  }
  while (pattern[patternAt] === '*') patternAt++
  return patternAt === pattern.length
}

/** As match_pattern_list of OpenSSH: a list with a sub-pattern this long or longer matches nothing. */
const maxSubpattern = 1023

/**
 * Matches a comma-separated list in which '!' negates: a negated match anywhere refuses, whatever else matches.
 * Both sides are compared as given; lower-case them first where case does not count.
 */
export function matchesPatternList(text: string, list: string): boolean {
  let positive = false
  for (let at = 0; at < list.length; ) {
    const negated = list[at] === '!'
    if (negated) at++
    const comma = list.indexOf(',', at)
    const end = comma < 0 ? list.length : comma
    if (end - at >= maxSubpattern) return false
    if (matchesWildcard(text, list.slice(at, end))) {
      if (negated) return false
      positive = true
    }
    at = end + 1
  }
  return positive
}
