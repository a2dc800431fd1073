import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { AuthorizedKeys } from '@sshblock/transport'
import { beforeAll, describe, expect, test } from 'vitest'
import {
  parseExpiryTime,
  parseKeyOptions,
} from '../../../packages/transport/src/auth/authorized-key-options.ts'
import {
  isDestinationPermitted,
  permissionsUnder,
  refusalOf,
} from '../../../packages/transport/src/auth/permissions.ts'
import type { KeyPair } from '../../support/keys.ts'
import { clientKey } from '../../support/keys.ts'
import { needsOpensshClient } from '../../support/openssh-client.ts'
import { run } from '../../support/program.ts'
import { describeWith } from '../../support/requirements.ts'
import { tempDir } from '../../support/temp-dir.ts'

let ed25519: KeyPair
let rsa: KeyPair

beforeAll(async () => {
  ed25519 = await clientKey('ed25519')
  rsa = await clientKey('rsa-2048')
})

const restrictionsOf = (options: string) => parseKeyOptions(options).restrictions

describe('lines of authorized_keys', () => {
  test('a plain line gives the key, its comment and no restriction', () => {
    const { keys, problems } = AuthorizedKeys.parse(`${ed25519.publicLine}\n`)
    expect(problems).toEqual([])
    expect(keys).toHaveLength(1)
    expect(keys[0]).toMatchObject({
      line: 1,
      comment: 'client-ed25519',
      certAuthority: false,
      restrictions: {},
    })
    expect(keys[0]?.publicKey.blob).toEqual(ed25519.blob)
  })

  test('comments, blank lines, CR LF and leading blanks are passed over, and lines keep their numbers', () => {
    const { keys, problems } = AuthorizedKeys.parse(
      `# comment\r\n\r\n \t${ed25519.publicLine}\r\n${rsa.publicLine}`,
    )
    expect(problems).toEqual([])
    expect(keys.map((key) => [key.line, key.publicKey.type])).toEqual([
      [3, 'ssh-ed25519'],
      [4, 'ssh-rsa'],
    ])
  })

  test('a value in quotes may hold blanks, commas and escaped quotes', () => {
    const { keys } = AuthorizedKeys.parse(`command="echo \\"a, b\\" \\\\ #c",no-pty ${ed25519.publicLine}`)
    expect(keys[0]?.restrictions).toEqual({ command: 'echo "a, b" \\\\ #c', pty: false })
  })

  test.each([
    ['an unknown option', (line: string) => `no-such-option ${line}`],
    ['an option without its value', (line: string) => `command ${line}`],
    ['a value for a flag', (line: string) => `no-pty="yes" ${line}`],
    ['a value without quotes', (line: string) => `command=ls ${line}`],
    ['a quote that is not closed', (line: string) => `command="ls ${line}`],
    ['a comma at the end', (line: string) => `no-pty, ${line}`],
    ['two commands', (line: string) => `command="a",command="b" ${line}`],
    ['two from clauses', (line: string) => `from="10.0.0.1",from="10.0.0.2" ${line}`],
    ['a time that is none', (line: string) => `expiry-time="tomorrow" ${line}`],
    ['a variable without a value', (line: string) => `environment="PATH" ${line}`],
    ['a destination without a port', (line: string) => `permitopen="localhost" ${line}`],
    ['base64 that is none', (line: string) => line.replace('AAAA', '!!!!')],
    ['a type other than the key in it', (line: string) => line.replace('ssh-ed25519', 'ssh-rsa')],
  ])('a line with %s lets nobody in and is reported; its neighbours are used', (_, spoil) => {
    const { keys, problems } = AuthorizedKeys.parse(`${spoil(ed25519.publicLine)}\n${rsa.publicLine}\n`)
    expect(keys.map((key) => key.publicKey.type)).toEqual(['ssh-rsa'])
    expect(problems).toEqual([{ line: 1, message: expect.any(String) }])
  })

  test('a control character in a reported line is made visible', () => {
    const { problems } = AuthorizedKeys.parse(`\u001b[31mred ${ed25519.publicLine}`)
    expect(problems[0]?.message).not.toContain('\u001b')
  })

  test('the same key on two lines keeps both, in order', () => {
    const keys = AuthorizedKeys.parse(`from="10.0.0.1" ${ed25519.publicLine}\n${ed25519.publicLine}`)
    expect(keys.forKey(ed25519.blob).map((key) => key.line)).toEqual([1, 2])
  })

  test('a CA line speaks about certificates only', () => {
    const keys = AuthorizedKeys.parse(`cert-authority,principals="alice,bob" ${ed25519.publicLine}`)
    expect(keys.forKey(ed25519.blob)).toEqual([])
    expect(keys.forAuthority(ed25519.blob)[0]?.principals).toEqual(['alice', 'bob'])
  })
})

describe('options of authorized_keys', () => {
  test('restrict takes every permission away, and later options give it back', () => {
    const none = {
      pty: false,
      portForwarding: false,
      agentForwarding: false,
      x11Forwarding: false,
      userRc: false,
    }
    expect(restrictionsOf('restrict')).toEqual(none)
    expect(restrictionsOf('restrict,pty,port-forwarding')).toEqual({
      ...none,
      pty: true,
      portForwarding: true,
    })
    expect(restrictionsOf('pty,restrict')).toEqual(none)
  })

  test('names are compared without case', () => {
    expect(restrictionsOf('No-PTY,COMMAND="a"')).toEqual({ pty: false, command: 'a' })
  })

  test('of several expiry times the earliest counts', () => {
    const { expiresAt } = restrictionsOf(
      'expiry-time="20300101Z",expiry-time="20290101Z",expiry-time="20310101Z"',
    )
    expect(expiresAt).toBe(Date.UTC(2029, 0, 1))
  })

  test('the first value of a variable counts', () => {
    expect([
      ...(restrictionsOf('environment="A=1",environment="A=2",environment="B_2=x=y"').environment ?? []),
    ]).toEqual([
      ['A', '1'],
      ['B_2', 'x=y'],
    ])
  })

  test.each([
    ['20300131', Date.UTC(2030, 0, 31)],
    ['203001311530', Date.UTC(2030, 0, 31, 15, 30)],
    ['20300131153059', Date.UTC(2030, 0, 31, 15, 30, 59)],
    ['20240229', Date.UTC(2024, 1, 29)],
  ])('reads the time %s in UTC where Z follows', (text, expected) => {
    expect(parseExpiryTime(`${text}Z`)).toBe(expected)
    expect(parseExpiryTime(`${text}UTC`)).toBe(expected)
  })

  test('reads a time in the machine time zone where nothing follows', () => {
    expect(parseExpiryTime('203006011200')).toBe(new Date(2030, 5, 1, 12).getTime())
  })

  test.each([
    '',
    '2030',
    '20301301',
    '20300431',
    '20230229',
    '203001012460',
    '2030010124',
    '20300101T00',
    '-20300101',
  ])('refuses the time "%s"', (text) => {
    expect(parseExpiryTime(text)).toBeUndefined()
  })

  test('names without a value are not inherited from objects', () => {
    expect(() => parseKeyOptions('__proto__')).toThrow(/option/)
    expect(() => parseKeyOptions('constructor')).toThrow(/option/)
  })
})

describe('restrictions together', () => {
  test('a permission is there only where nobody takes it away', () => {
    expect(permissionsUnder([])).toMatchObject({ pty: true, portForwarding: true, command: undefined })
    expect(permissionsUnder([{ pty: true }, { pty: false }])).toMatchObject({
      pty: false,
      portForwarding: true,
    })
  })

  test('two different forced commands are a contradiction, equal ones are not', () => {
    expect(permissionsUnder([{ command: 'a' }, { command: 'b' }])).toBeUndefined()
    expect(permissionsUnder([{ command: 'a' }, {}, { command: 'a' }])?.command).toBe('a')
  })

  test('destinations are those that every list has; an empty list admits none', () => {
    expect(
      permissionsUnder([{ permitOpen: ['a:1', 'b:2'] }, {}, { permitOpen: ['b:2', 'c:3'] }])?.permitOpen,
    ).toEqual(['b:2'])
    expect(isDestinationPermitted([], 'a', 1)).toBe(false)
    expect(isDestinationPermitted(undefined, 'a', 1)).toBe(true)
  })

  test.each([
    ['db.example:5432', 'DB.example', 5432, true],
    ['db.example:5432', 'db.example', 5433, false],
    ['db.example:*', 'db.example', 1, true],
    ['*:22', 'anything', 22, true],
    ['*:22', 'anything', 23, false],
    ['[::1]:80', '::1', 80, true],
    ['db.example:5432', 'evil.db.example', 5432, false],
  ])('permitopen="%s" on %s:%i is %s', (entry, host, port, expected) => {
    expect(isDestinationPermitted([entry], host, port)).toBe(expected)
  })

  test('an expiry time admits up to its last millisecond', () => {
    const at = (now: number) => refusalOf({ expiresAt: 1000 }, { address: undefined, now })
    expect(at(1000)).toBeUndefined()
    expect(at(1001)).toMatch(/expired/)
  })

  test('an empty from or source-address admits nobody', () => {
    const client = { address: '10.0.0.1', now: 0 }
    expect(refusalOf({ from: '' }, client)).toBeDefined()
    expect(refusalOf({ sourceAddress: '' }, client)).toBeDefined()
    expect(refusalOf({ from: '10.0.0.1' }, client)).toBeUndefined()
    expect(refusalOf({ sourceAddress: '10.0.0.0/24' }, client)).toBeUndefined()
  })

  test('a client without an address is admitted by no list', () => {
    const client = { address: undefined, now: 0 }
    expect(refusalOf({ from: '*' }, client)).toBeDefined()
    expect(refusalOf({ sourceAddress: '0.0.0.0/0' }, client)).toBeDefined()
  })
})

describeWith([needsOpensshClient()], 'ssh-keygen reads the same lines', () => {
  test('each line that OpenSSH finds a key in is one that is found here', async () => {
    const lines = [
      ed25519.publicLine,
      `command="echo \\"x y\\"",no-pty ${ed25519.publicLine}`,
      `  restrict,permitopen="a:1",expiry-time="20300101" ${rsa.publicLine}`,
      `cert-authority,principals="a b,c" ${rsa.publicLine}`,
      `environment="A=b c",from="!10.*,*" ${ed25519.publicLine}`,
      '# nothing',
      'garbage',
      `command="open ${ed25519.publicLine}`,
    ]
    const file = join(tempDir('authorized-keys'), 'keys')
    for (const line of lines) {
      writeFileSync(file, `${line}\n`)
      const found = (await run('ssh-keygen', ['-l', '-f', file])).code === 0
      expect([line, AuthorizedKeys.parse(line).keys.length === 1]).toEqual([line, found])
    }
  })
})
