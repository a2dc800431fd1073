import fc from 'fast-check'
import { expect, test } from 'vitest'
import { needsBytes, pathBytes, pathText } from '../../../packages/sftp/src/path-text.ts'

const utf8 = new TextEncoder()

test('a path that is UTF-8 is the text it says', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (path) => {
      expect(pathText(utf8.encode(path))).toBe(path)
      expect(pathBytes(path)).toEqual(utf8.encode(path))
    }),
  )
})

test('any bytes survive the way to text and back', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (raw) => {
      expect(pathBytes(pathText(raw))).toEqual(raw)
    }),
    { numRuns: 2000 },
  )
})

test.each([
  ['a stray continuation byte', [0x61, 0x80, 0x62], 'a\udc80b'],
  ['a sequence cut at the end', [0xe2, 0x82], '\udce2\udc82'],
  ['an overlong slash', [0xc0, 0xaf], '\udcc0\udcaf'],
  ['an encoded surrogate', [0xed, 0xb2, 0x80], '\udced\udcb2\udc80'],
  ['latin-1 beside UTF-8', [0xe4, 0xc3, 0xa4], '\udce4ä'],
])('%s becomes lone surrogates, never a slash or another name', (_what, raw, expected) => {
  expect(pathText(Uint8Array.from(raw))).toBe(expected)
  expect([...pathBytes(expected)]).toEqual(raw)
  expect(needsBytes(expected)).toBe(true)
})
