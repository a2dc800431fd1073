import { UsageError } from '@sshblock/transport/errors'
import { expect, test } from 'vitest'
import { parseStdioOptions } from '../../../packages/sftp/src/node-stdio-options.ts'

test('the arguments are those of sftp-server(8), bundled and attached as getopt takes them', () => {
  expect(parseStdioOptions([])).toEqual({
    readOnly: false,
    startDirectory: undefined,
    allowRequests: undefined,
    denyRequests: [],
    logToStderr: false,
    logLevel: 'ERROR',
    umask: undefined,
    root: '/',
    print: undefined,
  })
  const all = [
    '-eR',
    '-d/srv',
    '-f',
    'AUTH',
    '-l',
    'debug1',
    '-P',
    'fsync,limits',
    '-popen,read',
    '-u',
    '027',
    '--root=/x',
  ]
  expect(parseStdioOptions(all)).toEqual({
    readOnly: true,
    startDirectory: '/srv',
    allowRequests: ['open', 'read'],
    denyRequests: ['fsync', 'limits'],
    logToStderr: true,
    logLevel: 'DEBUG',
    umask: 0o027,
    root: '/x',
    print: undefined,
  })
  expect(parseStdioOptions(['--root', '/y']).root).toBe('/y')
  expect(parseStdioOptions(['-h']).print).toBe('usage')
  expect(parseStdioOptions(['-Q', 'requests']).print).toBe('requests')
})

test('as a login shell it ignores its arguments', () => {
  expect(parseStdioOptions(['-c', 'rm -rf /']).print).toBeUndefined()
})

test.each([
  [['-l', 'LOUD'], '-l: unknown log level "LOUD"'],
  [['-P', 'fsynch'], '-P: unknown request "fsynch"'],
  [['-p', 'open,rename,frobnicate'], '-p: unknown request "frobnicate"'],
  [['-u', '9'], '-u: expected an octal umask'],
  [['-u', '1777'], '-u: expected an octal umask'],
  [['-Q', 'ciphers'], '-Q: expected "requests"'],
  [['-d'], '-d: a value is missing'],
  [['--root'], '--root: a value is missing'],
  [['-z'], 'unknown option "-z"'],
  [['stray'], 'unexpected argument "stray"'],
  [['--rot', '/'], 'unexpected argument "--rot"'],
])('%j is refused with words about what was expected', (args, message) => {
  expect(() => parseStdioOptions(args)).toThrow(UsageError)
  expect(() => parseStdioOptions(args)).toThrow(message)
})
