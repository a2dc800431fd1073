// The key forms of a location: structured objects ({server: {host, port}, path, user, hostKeyCheck}) and QEMU's flat keys
// ('server.host', legacy 'host', 'host_key_check', 'host-key-check.mode', ...). Nested members are flattened first, so that
// both forms, and any mixture that QEMU's JSON allows, go through the same rules. Keys come from outside: Map only.

import { quote } from '@sshblock/transport/errors'
import { LocationError } from './errors.ts'
import { type HostKeyCheck, parseHostKeyCheck, parseStructuredHostKeyCheck } from './host-key-check.ts'
import {
  defaultPort,
  hostField,
  type Location,
  pathField,
  portField,
  textField,
  userField,
} from './location-fields.ts'

/** A key form as its text JSON.stringify gives: what QEMU takes behind `json:` and for -blockdev. */
export interface LocationJson {
  driver: 'ssh'
  server: { host: string; port: string }
  path: string
  user?: string
  'host-key-check'?: { mode: string; type?: string; hash?: string }
}

const locationKeys = new Set([
  'server.host',
  'server.port',
  'host',
  'port',
  'path',
  'user',
  'host_key_check',
  'host-key-check.mode',
  'host-key-check.type',
  'host-key-check.hash',
  'hostKeyCheck',
  'hostKeyCheck.mode',
  'hostKeyCheck.type',
  'hostKeyCheck.hash',
])

/** Members whose own members are keys of ours. */
const groups = new Set(['server', 'host-key-check', 'hostKeyCheck'])

/** Keys that say nothing about the place and may stand beside a URI. */
const neutralKeys = new Set(['driver'])

/** Flattens `{server: {host}}` to 'server.host'. Members that are undefined count as absent. */
export function flattenKeys(input: object): Map<string, unknown> {
  const keys = new Map<string, unknown>()
  const add = (key: string, value: unknown) => {
    if (value === undefined) return
    if (keys.has(key)) throw new LocationError(key, 'is given twice, once nested and once flat')
    keys.set(key, value)
  }
  for (const [key, value] of Object.entries(input)) {
    if (groups.has(key) && typeof value === 'object' && value !== null && !Array.isArray(value)) {
      for (const [member, inner] of Object.entries(value)) add(`${key}.${member}`, inner)
    } else {
      add(key, value)
    }
  }
  return keys
}

/** @throws LocationError naming the first key that may not stand beside a URI. */
export function refuseKeysBesideUri(keys: ReadonlyMap<string, unknown>): void {
  for (const key of keys.keys()) {
    if (neutralKeys.has(key)) continue
    if (locationKeys.has(key) || groups.has(key.split('.')[0]!)) {
      throw new LocationError(
        key,
        'cannot be given together with a URI; write it into the URI, or give keys only',
      )
    }
    throw unknownKey(key)
  }
}

/**
 * Parses flat keys.
 * @throws LocationError names the key and what was expected.
 */
export function parseLocationKeys(keys: ReadonlyMap<string, unknown>): Location {
  for (const [key, value] of keys) {
    if (key === 'driver') {
      if (value !== 'ssh') throw new LocationError('driver', `expected "ssh", got ${quote(String(value))}`)
    } else if (groups.has(key) && key !== 'hostKeyCheck') {
      throw new LocationError(key, `expected an object, got ${quote(String(value))}`)
    } else if (!locationKeys.has(key)) {
      throw unknownKey(key)
    }
  }
  const server = parseServer(keys)
  if (!keys.has('path'))
    throw new LocationError('path', 'is missing; expected the path of the image on the server')
  const user = keys.has('user') ? userField('user', keys.get('user')) : undefined
  return {
    server,
    path: pathField('path', keys.get('path')),
    ...(user === undefined ? {} : { user }),
    hostKeyCheck: parseCheck(keys),
  }
}

/** The structured form, without loss. The port is text, as QEMU's socket addresses have it. */
export function formatLocationJson(location: Location): LocationJson {
  const { server, path, user, hostKeyCheck } = location
  return {
    driver: 'ssh',
    server: { host: server.host, port: String(server.port) },
    path,
    ...(user === undefined ? {} : { user }),
    ...(hostKeyCheck.mode === 'known_hosts' ? {} : { 'host-key-check': { ...hostKeyCheck } }),
  }
}

function parseServer(keys: ReadonlyMap<string, unknown>): Location['server'] {
  const modern = keys.has('server.host') || keys.has('server.port')
  const legacy = keys.has('host') || keys.has('port')
  if (modern && legacy) {
    const key = keys.has('host') ? 'host' : 'port'
    throw new LocationError(
      key,
      'cannot be given together with "server.host" or "server.port"; they mean the same',
    )
  }
  const [hostKey, portKey] = legacy ? (['host', 'port'] as const) : (['server.host', 'server.port'] as const)
  if (!keys.has(hostKey)) {
    if (keys.has(portKey)) throw new LocationError(portKey, `cannot be given without "${hostKey}"`)
    throw new LocationError(
      'server',
      'is missing; expected "server.host" with the name or address of the SSH server',
    )
  }
  const host = hostField(hostKey, keys.get(hostKey))
  return { host, port: keys.has(portKey) ? portField(portKey, keys.get(portKey)) : defaultPort }
}

function parseCheck(keys: ReadonlyMap<string, unknown>): HostKeyCheck {
  const forms = [
    ['host_key_check', ['host_key_check']],
    ['host-key-check', ['host-key-check.mode', 'host-key-check.type', 'host-key-check.hash']],
    ['hostKeyCheck', ['hostKeyCheck', 'hostKeyCheck.mode', 'hostKeyCheck.type', 'hostKeyCheck.hash']],
  ] as const
  const given = forms.filter(([, names]) => names.some((name) => keys.has(name)))
  const form = given[0]?.[0]
  if (form === undefined) return { mode: 'known_hosts' }
  if (given.length > 1) {
    throw new LocationError(given[1]![0], `cannot be given together with "${form}"; they mean the same`)
  }
  if (form === 'host_key_check' || keys.has('hostKeyCheck')) {
    const members = ['mode', 'type', 'hash'].find((member) => keys.has(`${form}.${member}`))
    if (members !== undefined)
      throw new LocationError(`${form}.${members}`, `cannot be given together with "${form}" as a text`)
    return parseHostKeyCheck(textField(form, keys.get(form), 'a text such as "yes" or "sha256:HEX"'), form)
  }
  const member = (name: string) => keys.get(`${form}.${name}`)
  return parseStructuredHostKeyCheck(
    { mode: member('mode'), type: member('type'), hash: member('hash') },
    form,
  )
}

function unknownKey(key: string): LocationError {
  return new LocationError(
    key,
    `unknown key; expected one of ${[...locationKeys].filter((name) => !name.startsWith('hostKeyCheck.')).join(', ')}`,
  )
}
