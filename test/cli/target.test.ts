/** What arguments name, and lists of algorithms: tables. */
import { describe, expect, test } from 'vitest'
import { algorithmList } from '../../packages/cli/src/connection/algorithms.ts'
import { parseSize, sizeText } from '../../packages/cli/src/sizes.ts'
import { parseTarget } from '../../packages/cli/src/target.ts'

describe('an argument', () => {
  test.each([
    ['h:/a/b', { host: 'h', user: undefined, port: undefined, path: '/a/b' }],
    ['u@h:rel', { host: 'h', user: 'u', path: 'rel' }],
    ['h:', { host: 'h', path: '.' }],
    ['h:~/x', { host: 'h', path: 'x' }],
    ['h:~', { host: 'h', path: '.' }],
    ['h:a:b', { host: 'h', path: 'a:b' }],
    ['[fe80::1]:/x', { host: 'fe80::1', path: '/x' }],
    ['u@[::1]:x', { host: '::1', user: 'u', path: 'x' }],
    ['ssh://u@h:2222/x%20y', { host: 'h', user: 'u', port: 2222, path: '/x y' }],
    ['ssh://h/x', { host: 'h', port: undefined, path: '/x', hostKeyCheck: undefined }],
    ['ssh://h/x?host_key_check=no', { host: 'h', hostKeyCheck: { mode: 'none' } }],
    [
      'json:{"driver":"ssh","server":{"host":"h","port":"22"},"path":"x"}',
      { host: 'h', port: 22, path: 'x' },
    ],
  ])('%s is on a server', (text, expected) => {
    expect(parseTarget(text)).toMatchObject({ kind: 'remote', text, ...expected })
  })

  test.each(['file', './a:b', '/a:b', 'dir/a:b', ':x', '@h:x'])('%s is a local file', (text) => {
    expect(parseTarget(text)).toEqual({ kind: 'local', text, path: text })
  })

  test.each(['', '-oProxyCommand=x:y', 'u@-h:x'])('%j is neither', (text) => {
    expect(() => parseTarget(text)).toThrow()
  })
})

describe('a list of algorithms', () => {
  const defaults = ['a', 'b-1', 'b-2', 'c']
  test.each([
    ['c,a', ['c', 'a']],
    ['unknown,b-1', ['b-1']],
    ['unknown', []],
    ['b-*,x', ['b-1', 'b-2', 'x']],
    ['+x,a,unknown', ['a', 'b-1', 'b-2', 'c', 'x']],
    ['+unknown', ['a', 'b-1', 'b-2', 'c']],
    ['-b-*,unknown', ['a', 'c']],
    ['^c,unknown,x', ['c', 'x', 'a', 'b-1', 'b-2']],
  ])('%s, of which what we do not have is left out', (written, expected) => {
    expect(algorithmList(written, defaults, [...defaults, 'x'])).toEqual(expected)
  })
})

describe('sizes', () => {
  test.each([
    ['0', 0],
    ['512', 512],
    ['4K', 4096],
    ['1.5M', 1_572_864],
    ['2GiB', 2 ** 31],
    ['1tb', 2 ** 40],
  ])('%s', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes)
  })

  test.each(['', '-1', '1P', '0.3K', '1e3', '9007199254740993', 'K'])('%j is none', (text) => {
    expect(() => parseSize(text)).toThrow()
  })

  test.each([
    [17, '17 bytes'],
    [1024, '1 KiB'],
    [1_572_864, '1.5 MiB'],
  ])('%s is shown as %s', (bytes, text) => {
    expect(sizeText(bytes)).toBe(text)
  })
})
