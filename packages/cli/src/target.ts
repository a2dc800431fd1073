// What the arguments of commands name: a path of this machine, or one on a server. As scp: 'host:path' or
// 'user@host:path', where a '/' before the first ':' makes it a local path; and 'ssh://' or 'json:' as QEMU writes them.

import { type HostKeyCheck, parseLocation } from '@sshblock/blockdev'
import { UsageProblem } from './usage-problem.ts'

export interface LocalTarget {
  readonly kind: 'local'
  readonly text: string
  readonly path: string
}

export interface RemoteTarget {
  readonly kind: 'remote'
  /** As the user typed it. */
  readonly text: string
  /** Name in ssh_config, host name or address. */
  readonly host: string
  readonly user: string | undefined
  readonly port: number | undefined
  /** Path on the server; relative ones begin where the server puts us. */
  readonly path: string
  /** How the host key is judged, where the text says so. */
  readonly hostKeyCheck: HostKeyCheck | undefined
}

export type Target = LocalTarget | RemoteTarget

/** @throws UsageProblem for a text that is neither; LocationError for a URI that is wrong. */
export function parseTarget(text: string): Target {
  if (/^(ssh:\/\/|json:)/i.test(text)) return fromLocation(text)
  const match = /^(?:([^@/:]+)@)?(\[[^\]/]+\]|[^:/[\]@]+):(.*)$/s.exec(text)
  if (match === null) {
    if (text === '') throw new UsageProblem('an empty text is no file and no location')
    return { kind: 'local', text, path: text }
  }
  const [, user, host = '', path = ''] = match
  const name = host.startsWith('[') ? host.slice(1, -1) : host
  if (name.startsWith('-')) throw new UsageProblem(`'${text}': a host name must not begin with '-'`)
  return {
    kind: 'remote',
    text,
    host: name,
    user,
    port: undefined,
    path: homePath(path),
    hostKeyCheck: undefined,
  }
}

/** @throws UsageProblem where the text names a local file. */
export function parseRemoteTarget(text: string): RemoteTarget {
  const target = parseTarget(text)
  if (target.kind === 'remote') return target
  throw new UsageProblem(`'${text}' names no server; expected host:path or ssh://user@host/path`)
}

function fromLocation(text: string): RemoteTarget {
  const { server, user, path, hostKeyCheck } = parseLocation(text)
  // The port of ssh_config holds where the text has none.
  const named = text.startsWith('json:') || /^ssh:\/\/[^/?]*:\d+(?=[/?]|$)/i.test(text)
  return {
    kind: 'remote',
    text,
    host: server.host,
    user,
    port: named ? server.port : undefined,
    path,
    hostKeyCheck: hostKeyCheck.mode === 'known_hosts' ? undefined : hostKeyCheck,
  }
}

// Sessions begin in the home folder, so '~' is the relative path.
function homePath(path: string): string {
  if (path === '' || path === '~') return '.'
  return path.startsWith('~/') ? path.slice(2) || '.' : path
}
