import { describe, expect, test } from 'vitest'
import { matchesPatternList, matchesWildcard } from '../../../packages/transport/src/keys/host-pattern.ts'

/** All strings over an alphabet up to a length. */
function words(alphabet: string, max: number): string[] {
  const all = ['']
  for (let from = 0, length = 1; length <= max; length++) {
    const end = all.length
    for (; from < end; from++) for (const letter of alphabet) all.push(all[from]! + letter)
  }
  return all
}

/** The definition itself, exponential and obvious. */
function reference(text: string, pattern: string): boolean {
  if (pattern === '') return text === ''
  if (pattern[0] === '*')
    return reference(text, pattern.slice(1)) || (text !== '' && reference(text.slice(1), pattern))
  return (
    text !== '' &&
    (pattern[0] === '?' || pattern[0] === text[0]) &&
    reference(text.slice(1), pattern.slice(1))
  )
}

describe('wildcards', () => {
  test('agree with the definition for every text of a, b up to 5 and every pattern of a, b, ?, * up to 5', () => {
    const texts = words('ab', 5)
    let compared = 0
    for (const pattern of words('ab?*', 5)) {
      for (const text of texts) {
        if (matchesWildcard(text, pattern) !== reference(text, pattern)) expect.fail(`${pattern} on ${text}`)
        compared++
      }
    }
    expect(compared).toBe(1365 * 63)
  })

  test('fifty "*a" against 10 KB that do not match take no time', () => {
    const text = `${'a'.repeat(10_000)}b`
    const start = performance.now()
    expect(matchesWildcard(text, '*a'.repeat(50))).toBe(false)
    expect(matchesWildcard(text, `${'*a'.repeat(50)}*c`)).toBe(false)
    expect(performance.now() - start).toBeLessThan(100)
  })
})

describe('lists', () => {
  test.each([
    ['a', 'a', true],
    ['a', 'b,a', true],
    ['a', 'b', false],
    ['a', '', false],
    ['a', '*,!a', false],
    ['a', '!a,*', false],
    ['b', '!a,*', true],
    ['a', '!b', false],
    ['a', '!*', false],
    ['a', ',a', true],
    ['a', 'a,', true],
    ['', ',', true],
    ['!a', '!!a', false],
    ['b', '!!a,*', true],
    ['a', `${'x'.repeat(1022)},a`, true],
    ['a', `${'x'.repeat(1023)},a`, false],
    ['a', `a,${'x'.repeat(1023)}`, false],
  ])('%s against %s: %s', (text, list, expected) => {
    expect(matchesPatternList(text, list)).toBe(expected)
  })
})
