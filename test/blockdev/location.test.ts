import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { LocationError } from '../../packages/blockdev/src/errors.ts'
import {
  formatHostKeyCheck,
  type HostKeyCheck,
  parseHostKeyCheck,
} from '../../packages/blockdev/src/host-key-check.ts'
import {
  formatLocation,
  formatLocationJson,
  formatLocationUri,
  type Location,
  type LocationInput,
  parseLocation,
} from '../../packages/blockdev/src/location.ts'

const knownHosts: HostKeyCheck = { mode: 'known_hosts' }
const fingerprint = `SHA256:${'aB+/'.repeat(10)}xyz`

function location(
  host: string,
  path: string,
  more: { port?: number; user?: string; hostKeyCheck?: HostKeyCheck } = {},
): Location {
  const { port = 22, user, hostKeyCheck = knownHosts } = more
  return { server: { host, port }, path, ...(user === undefined ? {} : { user }), hostKeyCheck }
}

describe('URI form', () => {
  const good: [name: string, uri: string, expected: Location][] = [
    ['host and path; port 22, no user, known_hosts', 'ssh://host/path', location('host', '/path')],
    [
      'user, port and path',
      'ssh://me@host:2222/var/images/disk.img',
      location('host', '/var/images/disk.img', { port: 2222, user: 'me' }),
    ],
    ['percent-decodes the path', 'ssh://h/a%20b/%c3%a4%2Fc%25', location('h', '/a b/ä/c%')],
    ['percent-decodes the user', 'ssh://invalid%20user@h/p', location('h', '/p', { user: 'invalid user' })],
    ['a user with "@" and ":" encoded', 'ssh://a%40b%3Ac@h/p', location('h', '/p', { user: 'a@b:c' })],
    ['an empty user counts as none', 'ssh://@h/p', location('h', '/p')],
    ['IPv6 in brackets', 'ssh://[::1]/p', location('::1', '/p')],
    [
      'IPv6 in brackets with port and user',
      'ssh://u@[2001:db8::7]:1022/p',
      location('2001:db8::7', '/p', { port: 1022, user: 'u' }),
    ],
    ['IPv6 with a zone', 'ssh://[fe80::1%25eth0]/p', location('fe80::1%eth0', '/p')],
    ['IPv4', 'ssh://127.0.0.1/p', location('127.0.0.1', '/p')],
    ['a scheme in capitals', 'SSH://h/p', location('h', '/p')],
    ['port 65535', 'ssh://h:65535/p', location('h', '/p', { port: 65535 })],
    ['port 1', 'ssh://h:1/p', location('h', '/p', { port: 1 })],
    ['a port with zeros in front', 'ssh://h:0022/p', location('h', '/p')],
    ['".." and double slashes stay as written', 'ssh://h//a/../b/', location('h', '//a/../b/')],
    ['"+" in a path stands for itself', 'ssh://h/a+b', location('h', '/a+b')],
    ['an empty query', 'ssh://h/p?', location('h', '/p')],
    ['host_key_check=yes', 'ssh://h/p?host_key_check=yes', location('h', '/p')],
    [
      'host_key_check=no',
      'ssh://h/p?host_key_check=no',
      location('h', '/p', { hostKeyCheck: { mode: 'none' } }),
    ],
    [
      'md5',
      'ssh://h/p?host_key_check=md5:00:11',
      location('h', '/p', { hostKeyCheck: { mode: 'hash', type: 'md5', hash: '00:11' } }),
    ],
    [
      'sha1, a hash that is none is left to the check',
      'ssh://h/p?host_key_check=sha1:wrong',
      location('h', '/p', { hostKeyCheck: { mode: 'hash', type: 'sha1', hash: 'wrong' } }),
    ],
    [
      'sha256, percent-encoded',
      'ssh://h/p?host_key_check=sha256%3AAB%3acd',
      location('h', '/p', { hostKeyCheck: { mode: 'hash', type: 'sha256', hash: 'AB:cd' } }),
    ],
    [
      "OpenSSH's SHA256 with + and /",
      `ssh://h/p?host_key_check=${fingerprint}`,
      location('h', '/p', { hostKeyCheck: { mode: 'hash', type: 'sha256', hash: fingerprint } }),
    ],
    [
      'the last of two host_key_check wins',
      'ssh://h/p?host_key_check=no&host_key_check=yes',
      location('h', '/p'),
    ],
    [
      'also where the first is an unknown setting',
      'ssh://h/p?host_key_check=bogus&host_key_check=no',
      location('h', '/p', { hostKeyCheck: { mode: 'none' } }),
    ],
    [
      'parameters separated by ";"',
      'ssh://h/p?host_key_check=yes;host_key_check=no',
      location('h', '/p', { hostKeyCheck: { mode: 'none' } }),
    ],
  ]
  test.each(good)('%s', (_, uri, expected) => {
    expect(parseLocation(uri)).toEqual(expected)
  })

  const bad: [name: string, uri: string, field: string, message: RegExp][] = [
    ['another scheme', 'sftp://h/p', 'scheme', /expected "ssh", got "sftp"/],
    ['no scheme', '/var/disk.img', 'scheme', /begins with "ssh:\/\/"/],
    ['an empty text', '', 'scheme', /begins with "ssh:\/\/"/],
    ['no authority', 'ssh:/p', 'host', /is missing/],
    ['missing host', 'ssh:///path', 'host', /is missing/],
    ['a user and no host', 'ssh://me@/path', 'host', /is missing/],
    ['a port and no host', 'ssh://:22/path', 'host', /is missing/],
    ['missing path', 'ssh://h', 'path', /is missing/],
    ['missing path before a query', 'ssh://h?host_key_check=no', 'path', /is missing/],
    ['port 0', 'ssh://h:0/p', 'port', /from 1 to 65535, got "0"/],
    ['port 65536', 'ssh://h:65536/p', 'port', /from 1 to 65535, got "65536"/],
    ['a negative port', 'ssh://h:-1/p', 'port', /from 1 to 65535/],
    ['a port with letters', 'ssh://h:22a/p', 'port', /from 1 to 65535/],
    ['a hexadecimal port', 'ssh://h:0x16/p', 'port', /from 1 to 65535/],
    ['an empty port', 'ssh://h:/p', 'port', /from 1 to 65535/],
    ['IPv6 without brackets', 'ssh://::1/p', 'host', /brackets/],
    ['an unclosed bracket', 'ssh://[::1/p', 'host', /brackets/],
    ['no IPv6 in brackets', 'ssh://[host]/p', 'host', /IPv6 address in brackets/],
    ['text behind the bracket', 'ssh://[::1]x/p', 'host', /IPv6 address in brackets/],
    ['a host that looks like an option', 'ssh://-oProxyCommand/p', 'host', /must not begin with "-"/],
    ['a host with shell syntax', 'ssh://h$(x)/p', 'host', /contains "\$"/],
    ['a host with a newline', 'ssh://h%0ax/p', 'host', /no host name can have/],
    ['a user with shell syntax', 'ssh://$(x)@h/p', 'user', /contains "\("/],
    ['a user that looks like an option', 'ssh://-l@h/p', 'user', /must not begin with "-"/],
    ['a user with NUL', 'ssh://a%00b@h/p', 'user', /no user name can have/],
    ['a user with a newline', 'ssh://a%0ab@h/p', 'user', /no user name can have/],
    ['a password', 'ssh://me:secret@h/p', 'user', /password/],
    ['a path with NUL', 'ssh://h/a%00b', 'path', /NUL/],
    ['a path that is no UTF-8', 'ssh://h/%ff', 'path', /UTF-8/],
    ['a percent sign without digits', 'ssh://h/100%', 'path', /"%25"/],
    ['a fragment', 'ssh://h/p#x', 'fragment', /"%23"/],
    ['host_key_check without "="', 'ssh://h/p?host_key_check', 'host_key_check', /has no value/],
    ['host_key_check with an empty value', 'ssh://h/p?host_key_check=', 'host_key_check', /has no value/],
    [
      'an unknown setting',
      'ssh://h/p?host_key_check=maybe',
      'host_key_check',
      /unknown setting "maybe"; expected "yes"/,
    ],
    ['an unknown hash type', 'ssh://h/p?host_key_check=sha512:00', 'host_key_check', /unknown setting/],
    ['a hash type and no hash', 'ssh://h/p?host_key_check=md5:', 'host_key_check', /has no hash/],
    [
      'an OpenSSH fingerprint cut short',
      'ssh://h/p?host_key_check=SHA256:abc',
      'host_key_check',
      /43 characters/,
    ],
  ]
  test.each(bad)('refuses %s', (_, uri, field, message) => {
    const error = failure(uri)
    expect(error).toMatchObject({ code: 'EINVAL', field })
    expect(error.message).toMatch(message)
    expect(error.message.startsWith(`${field}: `)).toBe(true)
  })

  test('warns of unknown query parameters, each by its name, and ignores them', () => {
    const warnings: string[] = []
    const parsed = parseLocation('ssh://h/p?colour=red&host_key_check=no&%0aX', {
      onWarning: (message) => warnings.push(message),
    })
    expect(parsed).toEqual(location('h', '/p', { hostKeyCheck: { mode: 'none' } }))
    expect(warnings).toHaveLength(2)
    expect(warnings[0]).toContain('"colour"')
    expect(warnings[1]).not.toContain('\n')
  })

  test('never puts the password of a refused URI into the message', () => {
    expect(failure('ssh://me:hunter2@h/p').message).not.toContain('hunter2')
  })
})

describe('key forms', () => {
  const good: [name: string, input: unknown, expected: Location][] = [
    [
      'structured',
      { server: { host: 'h', port: 23 }, path: '/p', user: 'u' },
      location('h', '/p', { port: 23, user: 'u' }),
    ],
    ['structured, defaults', { server: { host: 'h' }, path: '/p' }, location('h', '/p')],
    [
      'structured, members that are undefined',
      { server: { host: 'h', port: undefined }, path: '/p', user: undefined },
      location('h', '/p'),
    ],
    [
      'structured, check as text',
      { server: { host: 'h' }, path: '/p', hostKeyCheck: 'no' },
      location('h', '/p', { hostKeyCheck: { mode: 'none' } }),
    ],
    [
      'structured, check as object',
      { server: { host: 'h' }, path: '/p', hostKeyCheck: { mode: 'hash', type: 'sha1', hash: 'aa' } },
      location('h', '/p', { hostKeyCheck: { mode: 'hash', type: 'sha1', hash: 'aa' } }),
    ],
    [
      'server.host and server.port',
      { 'server.host': '::1', 'server.port': '2022', path: '/p' },
      location('::1', '/p', { port: 2022 }),
    ],
    [
      'legacy host and port',
      { host: 'h', port: '2022', path: '/p', user: 'u' },
      location('h', '/p', { port: 2022, user: 'u' }),
    ],
    ['legacy host without port', { host: 'h', path: '/p' }, location('h', '/p')],
    [
      'host_key_check',
      { host: 'h', path: '/p', host_key_check: 'no' },
      location('h', '/p', { hostKeyCheck: { mode: 'none' } }),
    ],
    [
      'host-key-check.mode, .type, .hash',
      {
        host: 'h',
        path: '/p',
        'host-key-check.mode': 'hash',
        'host-key-check.type': 'md5',
        'host-key-check.hash': 'wrong',
      },
      location('h', '/p', { hostKeyCheck: { mode: 'hash', type: 'md5', hash: 'wrong' } }),
    ],
    [
      'host-key-check.mode known_hosts',
      { host: 'h', path: '/p', 'host-key-check.mode': 'known_hosts' },
      location('h', '/p'),
    ],
    [
      "QEMU's nested JSON",
      { driver: 'ssh', server: { host: 'h', port: '22' }, path: '/p', 'host-key-check': { mode: 'none' } },
      location('h', '/p', { hostKeyCheck: { mode: 'none' } }),
    ],
    [
      'a path relative to where the server logs the user in',
      { host: 'h', path: 'disk.img' },
      location('h', 'disk.img'),
    ],
    ['a URI under "uri"', { uri: 'ssh://u@h/p' }, location('h', '/p', { user: 'u' })],
    [
      'a URI under "filename", with the driver',
      { driver: 'ssh', filename: 'ssh://h/p' },
      location('h', '/p'),
    ],
    ['an empty user counts as none', { host: 'h', path: '/p', user: '' }, location('h', '/p')],
  ]
  test.each(good)('%s', (_, input, expected) => {
    expect(parseLocation(input as LocationInput)).toEqual(expected)
  })

  test("QEMU's json: text", () => {
    expect(parseLocation('json:{"driver":"ssh","server.host":"h","path":"/p"}')).toEqual(location('h', '/p'))
    expect(failure('json:{').field).toBe('json')
    expect(failure('json:[1]').field).toBe('location')
    expect(failure('json:{"driver":"nbd","host":"h","path":"/p"}').message).toMatch(/^driver: expected "ssh"/)
  })

  test('__proto__ as a key is an unknown key', () => {
    expect(failure('json:{"__proto__":{"host":"h"},"path":"/p"}').field).toBe('__proto__')
  })

  const flat = { host: 'h', path: '/p' }
  const bad: [name: string, input: unknown, field: string, message: RegExp][] = [
    ['missing server', { path: '/p' }, 'server', /is missing/],
    ['missing path', { host: 'h' }, 'path', /is missing/],
    ['an empty path', { host: 'h', path: '' }, 'path', /is missing/],
    ['an empty host', { host: '', path: '/p' }, 'host', /is missing/],
    ['an unknown key', { ...flat, colour: 'red' }, 'colour', /unknown key; expected one of server.host/],
    [
      'an unknown member of server',
      { server: { host: 'h', type: 'inet' }, path: '/p' },
      'server.type',
      /unknown key/,
    ],
    ['server as text', { server: 'h', path: '/p' }, 'server', /expected an object/],
    ['a port without a host', { port: '22', path: '/p' }, 'port', /without "host"/],
    [
      'server.port without server.host',
      { 'server.port': '22', path: '/p' },
      'server.port',
      /without "server.host"/,
    ],
    ['legacy host beside server.host', { ...flat, 'server.host': 'x' }, 'host', /together/],
    ['legacy host beside server', { ...flat, server: { host: 'x' } }, 'host', /together/],
    ['legacy port beside server.host', { 'server.host': 'h', port: 22, path: '/p' }, 'port', /together/],
    ['a port that is no number', { ...flat, port: 'ssh' }, 'port', /from 1 to 65535, got "ssh"/],
    [
      'server.port that is no number',
      { 'server.host': 'h', 'server.port': '2 2', path: '/p' },
      'server.port',
      /from 1 to 65535/,
    ],
    ['port 0', { ...flat, port: 0 }, 'port', /from 1 to 65535, got 0/],
    ['a broken number', { ...flat, port: 22.5 }, 'port', /from 1 to 65535, got 22.5/],
    ['a port as list', { ...flat, port: [22] }, 'port', /got a list/],
    ['a host as number', { host: 7, path: '/p' }, 'host', /expected a host name or address, got number/],
    ['IPv6 with brackets', { host: '[::1]', path: '/p' }, 'host', /without brackets/],
    ['host and port in one', { host: 'h:22', path: '/p' }, 'host', /host name or an IP address/],
    ['a user as object', { ...flat, user: {} }, 'user', /expected a user name/],
    ['a path as null', { host: 'h', path: null }, 'path', /got null/],
    [
      'the same key nested and flat',
      { server: { host: 'h' }, 'server.host': 'h', path: '/p' },
      'server.host',
      /given twice/,
    ],
    [
      'an unknown host_key_check',
      { ...flat, host_key_check: 'si' },
      'host_key_check',
      /unknown setting "si"/,
    ],
    ['an empty host_key_check', { ...flat, host_key_check: '' }, 'host_key_check', /has no value/],
    ['host_key_check as boolean', { ...flat, host_key_check: true }, 'host_key_check', /got boolean/],
    [
      'an unknown mode',
      { ...flat, 'host-key-check.mode': 'yes' },
      'host-key-check.mode',
      /unknown mode "yes"/,
    ],
    ['mode missing', { ...flat, 'host-key-check.hash': 'aa' }, 'host-key-check.mode', /is missing/],
    [
      'type missing',
      { ...flat, 'host-key-check.mode': 'hash', 'host-key-check.hash': 'aa' },
      'host-key-check.type',
      /is missing/,
    ],
    [
      'hash missing',
      { ...flat, 'host-key-check.mode': 'hash', 'host-key-check.type': 'md5' },
      'host-key-check.hash',
      /is missing/,
    ],
    [
      'an unknown type',
      {
        ...flat,
        'host-key-check.mode': 'hash',
        'host-key-check.type': 'sha512',
        'host-key-check.hash': 'aa',
      },
      'host-key-check.type',
      /unknown hash type/,
    ],
    [
      'a hash with mode none',
      { ...flat, 'host-key-check.mode': 'none', 'host-key-check.hash': 'aa' },
      'host-key-check.hash',
      /mode "hash"/,
    ],
    [
      'both forms of the check',
      { ...flat, host_key_check: 'no', 'host-key-check.mode': 'none' },
      'host-key-check',
      /together/,
    ],
    [
      'text and member of the check',
      { ...flat, hostKeyCheck: 'no', 'hostKeyCheck.mode': 'none' },
      'hostKeyCheck.mode',
      /together/,
    ],
    ['another driver', { ...flat, driver: 'nbd' }, 'driver', /expected "ssh"/],
    ['a list', [], 'location', /expected a URI/],
    ['null', null, 'location', /expected a URI/],
    ['a number', 7, 'location', /expected a URI/],
    ['a URI that is no text', { uri: 7 }, 'uri', /expected a text/],
  ]
  test.each(bad)('refuses %s', (_, input, field, message) => {
    const error = failure(input)
    expect(error).toMatchObject({ code: 'EINVAL', field })
    expect(error.message).toMatch(message)
  })

  const keys = [
    'host',
    'port',
    'path',
    'user',
    'host_key_check',
    'server.host',
    'server.port',
    'host-key-check.mode',
    'host-key-check.hash',
    'hostKeyCheck',
    'server',
    'host-key-check',
  ]
  test.each(keys)('refuses %s beside a URI and names it', (key) => {
    for (const name of ['uri', 'filename']) {
      const error = failure({ [name]: 'ssh://h/p', [key]: 'x' })
      expect(error.field).toBe(key)
      expect(error.message).toMatch(/together with a URI/)
    }
  })

  test('refuses an unknown key beside a URI as unknown', () => {
    expect(failure({ uri: 'ssh://h/p', colour: 'red' }).message).toMatch(/^colour: unknown key/)
  })
})

describe('formatting', () => {
  const hostPart = fc.oneof(
    fc.constantFrom(
      'h',
      'host.example',
      '127.0.0.1',
      '::1',
      '2001:db8::7',
      'fe80::1%eth0',
      'räksmörgås.example',
    ),
    fc.stringMatching(/^[a-z0-9][a-z0-9.-]{0,20}$/),
  )
  const text = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 })
  const check: fc.Arbitrary<HostKeyCheck> = fc.oneof(
    fc.constant({ mode: 'known_hosts' as const }),
    fc.constant({ mode: 'none' as const }),
    fc.record({
      mode: fc.constant('hash' as const),
      type: fc.constantFrom('md5' as const, 'sha1' as const, 'sha256' as const),
      hash: text.filter((hash) => !/[\p{Cc}\p{Cs}]/u.test(hash) && !hash.startsWith('SHA256:')),
    }),
    fc.constant({ mode: 'hash' as const, type: 'sha256' as const, hash: fingerprint }),
  )
  const locations = fc
    .record({
      host: hostPart,
      port: fc.integer({ min: 1, max: 65535 }),
      path: text.filter((path) => !/\0|\p{Cs}/u.test(path)),
      user: fc.option(
        text.filter((user) => !/^-|\\$|[\p{Cc}\p{Cs}'"`;&<>|(){}]/u.test(user)),
        { nil: undefined },
      ),
      check,
    })
    .map(({ host, port, path, user, check }) =>
      location(host, path, { port, hostKeyCheck: check, ...(user === undefined ? {} : { user }) }),
    )

  test('parse(format(x)) is x, as URI', () => {
    fc.assert(
      fc.property(locations, (relative) => {
        const absolute = { ...relative, path: `/${relative.path}` }
        expect(parseLocation(formatLocationUri(absolute))).toEqual(absolute)
      }),
    )
  })

  test('parse(format(x)) is x, as JSON, also through text', () => {
    fc.assert(
      fc.property(locations, (value) => {
        expect(parseLocation(formatLocationJson(value))).toEqual(value)
        expect(parseLocation(`json:${JSON.stringify(formatLocationJson(value))}`)).toEqual(value)
        expect(parseLocation(formatLocation(value))).toEqual(value)
        expect(parseLocation(value)).toEqual(value)
      }),
    )
  })

  test('any text gives a location or a LocationError', () => {
    const part = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.constantFrom(
        'ssh://',
        'h',
        '[::1]',
        ':',
        '22',
        '/',
        '?',
        '&',
        '=',
        'host_key_check',
        '%2',
        '@',
        '#',
      ),
    )
    fc.assert(
      fc.property(fc.array(part, { maxLength: 12 }), (parts) => {
        for (const input of [parts.join(''), `ssh://${parts.join('')}`]) {
          try {
            expect(parseLocation(formatLocation(parseLocation(input)))).toEqual(parseLocation(input))
          } catch (error) {
            expect(error).toBeInstanceOf(LocationError)
          }
        }
      }),
      { numRuns: 500 },
    )
  })

  test('is what people write', () => {
    expect(formatLocationUri(location('h', '/var/images/disk.img'))).toBe('ssh://h/var/images/disk.img')
    expect(formatLocationUri(location('::1', '/a b', { port: 2222, user: 'invalid user' }))).toBe(
      'ssh://invalid%20user@[::1]:2222/a%20b',
    )
    expect(
      formatLocationUri(location('h', '/p', { hostKeyCheck: { mode: 'hash', type: 'md5', hash: 'aa:bb' } })),
    ).toBe('ssh://h/p?host_key_check=md5:aa:bb')
    expect(
      formatLocationUri(
        location('h', '/p', { hostKeyCheck: { mode: 'hash', type: 'sha256', hash: fingerprint } }),
      ),
    ).toBe(`ssh://h/p?host_key_check=${fingerprint}`)
    expect(
      formatLocationJson(location('::1', '/p', { hostKeyCheck: { mode: 'hash', type: 'sha1', hash: 'aa' } })),
    ).toEqual({
      driver: 'ssh',
      server: { host: '::1', port: '22' },
      path: '/p',
      'host-key-check': { mode: 'hash', type: 'sha1', hash: 'aa' },
    })
  })

  test('a relative path has no URI, and falls back to JSON', () => {
    expect(() => formatLocationUri(location('h', 'disk.img'))).toThrow(/relative/)
    expect(formatLocation(location('h', 'disk.img'))).toMatch(/^json:/)
  })
})

describe('host key check', () => {
  test.each([
    'yes',
    'no',
    'md5:00:11',
    'sha1:AABB',
    'sha256:::0a',
    'md5:wrong',
    fingerprint,
    `${fingerprint}=`,
  ])('%s keeps its text', (text) => {
    expect(formatHostKeyCheck(parseHostKeyCheck(text))).toBe(text)
  })

  test('an OpenSSH fingerprint of another type is refused', () => {
    expect(() => parseHostKeyCheck(`md5:${fingerprint}`)).toThrow(/is a sha256 hash/)
  })
})

function failure(input: unknown): LocationError {
  try {
    parseLocation(input as LocationInput)
  } catch (error) {
    expect(error).toBeInstanceOf(LocationError)
    return error as LocationError
  }
  throw new Error(`expected an error for ${JSON.stringify(input)}`)
}
