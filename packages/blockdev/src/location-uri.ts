// ssh://[user@]host[:port]/path[?host_key_check=V] (RFC 3986 syntax, QEMU's meaning).
// Parsed by hand: the URL class drops default ports, resolves "..", lower-cases, and treats ssh: hosts as opaque text.
// Deliberately not here: what a host or a port may be (location-fields.ts).

import { quote } from '@sshblock/transport/errors'
import { LocationError } from './errors.ts'
import { formatHostKeyCheck, type HostKeyCheck, parseHostKeyCheck } from './host-key-check.ts'
import {
  defaultPort,
  hostField,
  isIpv6,
  type Location,
  pathField,
  portField,
  userField,
} from './location-fields.ts'

/**
 * Parses a URI. Unknown query parameters are ignored with a warning; of duplicates the last wins.
 * @throws LocationError names the part and what was expected.
 */
export function parseLocationUri(uri: string, onWarning: (message: string) => void = () => {}): Location {
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(uri)
  if (scheme === null)
    throw new LocationError('scheme', `expected a URI that begins with "ssh://", got ${quote(uri)}`)
  if (scheme[1]!.toLowerCase() !== 'ssh')
    throw new LocationError('scheme', `expected "ssh", got ${quote(scheme[1]!)}`)
  const rest = uri.slice(scheme[0].length)
  if (!rest.startsWith('//')) throw new LocationError('host', 'is missing; expected "ssh://host/path"')
  if (rest.includes('#')) {
    throw new LocationError('fragment', 'an SSH location has none; a "#" in the path is written "%23"')
  }
  // RFC 3986 s3.2: the authority ends at the next "/" or "?" or at the end.
  const [, authority = '', path = '', query] = /^\/\/([^/?]*)([^?]*)(?:\?(.*))?$/su.exec(rest) ?? []
  const server = parseAuthority(authority)
  if (path === '')
    throw new LocationError(
      'path',
      'is missing; expected an absolute path after the host, as in "ssh://host/path"',
    )
  return {
    server: { host: server.host, port: server.port },
    path: pathField('path', percentDecode('path', path)),
    ...(server.user === undefined ? {} : { user: server.user }),
    hostKeyCheck: parseQuery(query ?? '', onWarning),
  }
}

/**
 * Writes a location as a URI from which parseLocationUri makes the same location.
 * @throws LocationError where the path is relative: a URI has no form for it (the JSON form has).
 */
export function formatLocationUri(location: Location): string {
  const { server, path, user, hostKeyCheck } = location
  if (!path.startsWith('/')) {
    throw new LocationError(
      'path',
      `${quote(path)} is relative and cannot be written as a URI; use the JSON form`,
    )
  }
  const host = server.host.includes(':')
    ? `[${server.host.replace('%', '%25')}]`
    : encodeURIComponent(server.host)
  return [
    'ssh://',
    user === undefined ? '' : `${encodeURIComponent(user)}@`,
    host,
    server.port === defaultPort ? '' : `:${server.port}`,
    path.split('/').map(encodeURIComponent).join('/'),
    hostKeyCheck.mode === 'known_hosts'
      ? ''
      : `?host_key_check=${encodeQueryValue(formatHostKeyCheck(hostKeyCheck))}`,
  ].join('')
}

function parseAuthority(authority: string): { host: string; port: number; user?: string } {
  const at = authority.lastIndexOf('@')
  const userInfo = at < 0 ? '' : authority.slice(0, at)
  const hostPort = authority.slice(at + 1)
  // A password in a URI ends up in shell histories and process lists; RFC 3986 s3.2.1 deprecates it.
  if (userInfo.includes(':')) {
    throw new LocationError(
      'user',
      'a password in a location is not supported; a ":" in a user name is written "%3A"',
    )
  }
  const user = userField('user', percentDecode('user', userInfo))
  const { host, portText } = splitHostPort(hostPort)
  return {
    host: hostField('host', host),
    port: portText === undefined ? defaultPort : portField('port', portText),
    ...(user === undefined ? {} : { user }),
  }
}

function splitHostPort(hostPort: string): { host: string; portText: string | undefined } {
  if (hostPort.startsWith('[')) {
    const literal = /^\[([^\]]*)\](?::(.*))?$/su.exec(hostPort)
    const host = literal === null ? '' : percentDecode('host', literal[1]!)
    if (literal === null || !isIpv6(host)) {
      throw new LocationError(
        'host',
        `expected an IPv6 address in brackets, as in "[::1]:22", got ${quote(hostPort)}`,
      )
    }
    return { host, portText: literal[2] }
  }
  const [name = '', ...ports] = hostPort.split(':')
  if (ports.length > 1) {
    throw new LocationError(
      'host',
      `expected "host:port", with an IPv6 address in brackets, got ${quote(hostPort)}`,
    )
  }
  const host = percentDecode('host', name)
  if (host.includes(':'))
    throw new LocationError('host', `expected an IPv6 address in brackets, got ${quote(hostPort)}`)
  return { host, portText: ports[0] }
}

// '&' separates parameters, and as QEMU has it ';' too. '+' stands for itself: base64 has it.
function parseQuery(query: string, onWarning: (message: string) => void): HostKeyCheck {
  let check: string | undefined
  for (const parameter of query.split(/[&;]/)) {
    if (parameter === '') continue
    const equals = parameter.indexOf('=')
    const name = percentDecode('query', equals < 0 ? parameter : parameter.slice(0, equals))
    const value = equals < 0 ? '' : parameter.slice(equals + 1)
    if (name !== 'host_key_check') {
      onWarning(`location: unknown query parameter ${quote(name)} is ignored`)
      continue
    }
    // QEMU 7.2 crashes here.
    if (value === '') parseHostKeyCheck('')
    check = percentDecode('host_key_check', value)
  }
  return check === undefined ? { mode: 'known_hosts' } : parseHostKeyCheck(check)
}

/** RFC 3986 s2.1, UTF-8. Bytes that are no UTF-8 are refused: as text they could not be written back. */
function percentDecode(field: string, text: string): string {
  const bad = /%(?![0-9A-Fa-f]{2})/.exec(text)
  if (bad !== null) {
    throw new LocationError(
      field,
      `${quote(text)} has a "%" that two hex digits do not follow; a "%" itself is written "%25"`,
    )
  }
  try {
    return decodeURIComponent(text)
  } catch (cause) {
    throw new LocationError(field, `${quote(text)} is not UTF-8 after percent-decoding`, { cause })
  }
}

/** ':' '/' '+' and '=' may stand in a query as they are (RFC 3986 s3.4; '=' after the first), and fingerprints stay readable. */
function encodeQueryValue(text: string): string {
  return encodeURIComponent(text).replace(/%3A|%2F|%2B|%3D/g, decodeURIComponent)
}
