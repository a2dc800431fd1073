import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { expandBraces, parseGlob } from '../../packages/sftp/src/glob.ts'

/** Whether a pattern matches a path, both relative. */
function matches(pattern: string, path: string): boolean {
  const glob = parseGlob(pattern)
  const root = glob.root === '' ? [] : glob.root.split('/')
  const parts = path.split('/')
  if (root.some((part, i) => parts[i] !== part)) return false
  return glob.matches(parts.slice(root.length))
}

describe('a pattern', () => {
  test.each([
    ['a', 'a', true],
    ['a', 'b', false],
    ['*', 'anything', true],
    ['*', '.hidden', false],
    ['.*', '.hidden', true],
    ['*.txt', 'a.txt', true],
    ['*.txt', '.txt', false],
    ['a*b*c', 'aXbYbZc', true],
    ['a*b*c', 'acb', false],
    ['?', 'ü', true],
    ['?', '😀', true],
    ['?', 'ab', false],
    ['[a-c]x', 'bx', true],
    ['[!a-c]x', 'bx', false],
    ['[^a-c]x', 'dx', true],
    ['[]]x', ']x', true],
    ['[a-]x', '-x', true],
    ['[x', '[x', true],
    ['\\*', '*', true],
    ['\\*', 'a', false],
    ['a/*/c', 'a/b/c', true],
    ['a/*/c', 'a/b/d/c', false],
    ['**/c', 'c', true],
    ['**/c', 'a/b/c', true],
    ['**/c', 'a/.b/c', false],
    ['a/**', 'a/b/c', true],
    ['a/**/b/**/c', 'a/x/b/y/z/c', true],
    ['a/**/b/**/c', 'a/x/y/z/c', false],
    ['a//b', 'a/b', true],
    ['*', 'a/b', false],
  ])('%j on %j: %j', (pattern, path, expected) => {
    expect(matches(pattern, path)).toBe(expected)
  })

  test('is matched in linear time where backtracking would explode', () => {
    const start = performance.now()
    expect(matches(`${'*a'.repeat(50)}b`, 'a'.repeat(250))).toBe(false)
    expect(parseGlob(`${'**/'.repeat(50)}x`).matches(Array(200).fill('a'))).toBe(false)
    expect(performance.now() - start).toBeLessThan(500)
  })

  test('agrees with the exhaustive definition over a small alphabet', () => {
    const reference = (pattern: string, name: string): boolean => {
      if (pattern === '') return name === ''
      if (pattern[0] === '*')
        return reference(pattern.slice(1), name) || (name !== '' && reference(pattern, name.slice(1)))
      return (
        name !== '' &&
        (pattern[0] === '?' || pattern[0] === name[0]) &&
        reference(pattern.slice(1), name.slice(1))
      )
    }
    const letters = (chars: string) =>
      fc.string({ unit: fc.constantFrom(...chars), minLength: 1, maxLength: 6 })
    fc.assert(
      fc.property(letters('ab*?'), letters('ab'), (pattern, name) => {
        expect(matches(pattern, name)).toBe(reference(pattern, name))
      }),
      { numRuns: 2000 },
    )
  })

  test('looks only where something can match', () => {
    const glob = parseGlob('/srv/data/*/logs/*.log')
    expect(glob.root).toBe('/srv/data')
    expect(glob.descends(['x'])).toBe(true)
    expect(glob.descends(['x', 'logs'])).toBe(true)
    expect(glob.descends(['x', 'other'])).toBe(false)
    expect(glob.descends(['x', 'logs', 'a.log'])).toBe(false)
    expect(parseGlob('*.c').root).toBe('')
    expect(parseGlob('/x').root).toBe('/')
    expect(parseGlob('../a/*').root).toBe('../a')
  })

  test.each(['', '*/..', '**/./x', 'a/..'])(
    '%j is refused: what it would match is not one component',
    (pattern) => {
      expect(() => parseGlob(pattern)).toThrow(/pattern/)
    },
  )
})

describe('braces', () => {
  test.each([
    ['a', ['a']],
    ['{a,b}', ['a', 'b']],
    ['x{a,b{c,d}}y', ['xay', 'xbcy', 'xbdy']],
    ['{a}', ['{a}']],
    ['{a,', ['{a,']],
    ['\\{a,b}', ['\\{a,b}']],
    ['{,x}', ['', 'x']],
    ['{a,b}{c,d}', ['ac', 'ad', 'bc', 'bd']],
  ])('%j stand for %j', (pattern, expected) => {
    expect(expandBraces(pattern).sort()).toEqual([...expected].sort())
  })

  test('that stand for too many are refused', () => {
    expect(() => expandBraces('{a,b}'.repeat(30))).toThrow(/more than 1024/)
  })
})
