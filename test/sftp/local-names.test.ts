import { describe, expect, test } from 'vitest'
import { localNameProblem } from '../../packages/sftp/src/local-names.ts'
import { pathText } from '../../packages/sftp/src/path-text.ts'

const everywhere = [
  '',
  '.',
  '..',
  'a/b',
  '/x',
  '/',
  'a\0b',
  'x'.repeat(256),
  'ü'.repeat(128),
  pathText(new Uint8Array([0x61, 0xff])),
]
const onWindows = [
  '..\\x',
  '...',
  'C:x',
  'a:b',
  'CON',
  'con.txt',
  'LPT1',
  'com9.log',
  'CONIN$',
  'x.',
  'x ',
  'a*',
  'a?',
  '<a>',
  '"a"',
  'a|b',
  'a\tb',
]
const fine = [
  'a',

  '..a',
  'a b',
  'grüße',
  'x'.repeat(255),
  'console',
  'com10',
  '\u202egpj.exe',
  '-rf',
  '~',
]

describe('a name from a server', () => {
  test.each(everywhere)('%j is no local name anywhere', (name) => {
    expect(localNameProblem(name, 'linux')).toBeTypeOf('string')
    expect(localNameProblem(name, 'win32')).toBeTypeOf('string')
  })

  test.each(onWindows)('%j is no local name on Windows, and an ordinary one elsewhere', (name) => {
    expect(localNameProblem(name, 'win32')).toBeTypeOf('string')
    expect(localNameProblem(name, 'linux')).toBeUndefined()
  })

  test.each(fine)('%j is an ordinary name', (name) => {
    expect(localNameProblem(name, 'linux')).toBeUndefined()
    expect(localNameProblem(name, 'win32')).toBeUndefined()
  })
})
