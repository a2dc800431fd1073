// Where an image lies, in any of the forms people write it: URI, structured object, QEMU's flat keys, QEMU's `json:` text.
// One parsed form comes out; every error is a LocationError that names the field and what was expected.

import { quote } from '@sshblock/transport/errors'
import { LocationError } from './errors.ts'
import type { HostKeyCheck } from './host-key-check.ts'
import type { Location } from './location-fields.ts'
import {
  flattenKeys,
  formatLocationJson,
  type LocationJson,
  parseLocationKeys,
  refuseKeysBesideUri,
} from './location-keys.ts'
import { formatLocationUri, parseLocationUri } from './location-uri.ts'

export type { Location, LocationJson }
export { formatLocationJson, formatLocationUri }

/** The structured form. Members have the meaning of QEMU's ssh driver. */
export interface StructuredLocation {
  server: { host: string; port?: number | string | undefined }
  path: string
  user?: string | undefined
  /** Text ('yes', 'no', 'md5:HEX', 'sha1:HEX', 'sha256:HEX', 'SHA256:BASE64') or structured. Default 'yes'. */
  hostKeyCheck?: string | HostKeyCheck | undefined
}

/** QEMU's flat keys, current and legacy. `uri` (QEMU: `filename`) excludes all others. */
export interface FlatLocation {
  driver?: 'ssh' | undefined
  uri?: string | undefined
  filename?: string | undefined
  'server.host'?: string | undefined
  'server.port'?: string | number | undefined
  host?: string | undefined
  port?: string | number | undefined
  path?: string | undefined
  user?: string | undefined
  host_key_check?: string | undefined
  'host-key-check.mode'?: string | undefined
  'host-key-check.type'?: string | undefined
  'host-key-check.hash'?: string | undefined
}

export type LocationInput = string | URL | Location | StructuredLocation | FlatLocation | LocationJson

export interface ParseOptions {
  /** Is told of query parameters that are ignored. */
  onWarning?: (message: string) => void
}

/**
 * Parses a location: 'ssh://[user@]host[:port]/path[?host_key_check=V]', QEMU's 'json:{...}', a structured object, or flat
 * keys. Parsing a Location gives an equal one.
 * @throws LocationError (code 'EINVAL') names the field and what was expected.
 */
export function parseLocation(input: LocationInput, options: ParseOptions = {}): Location {
  if (typeof input === 'string') {
    return input.startsWith('json:')
      ? parseObject(parseJson(input.slice(5)), options)
      : parseLocationUri(input, options.onWarning)
  }
  if (input instanceof URL) return parseLocationUri(input.href, options.onWarning)
  return parseObject(input, options)
}

/** Writes a location as text: a URI where there is one, else QEMU's 'json:' form. parseLocation gives the same location back. */
export function formatLocation(location: Location): string {
  return location.path.startsWith('/')
    ? formatLocationUri(location)
    : `json:${JSON.stringify(formatLocationJson(location))}`
}

function parseObject(input: unknown, options: ParseOptions): Location {
  if (typeof input !== 'object' || input === null || Array.isArray(input)) {
    throw new LocationError('location', 'expected a URI, or an object with "server" and "path"')
  }
  const keys = flattenKeys(input)
  for (const name of ['uri', 'filename']) {
    if (!keys.has(name)) continue
    const uri = keys.get(name)
    if (typeof uri !== 'string') throw new LocationError(name, 'expected a text that begins with "ssh://"')
    keys.delete(name)
    refuseKeysBesideUri(keys)
    return parseLocationUri(uri, options.onWarning)
  }
  return parseLocationKeys(keys)
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new LocationError('json', `expected a JSON object behind "json:", got ${quote(text)}`, { cause })
  }
}
